"""Clauses about what is written down: configuration, copies, checkpoints."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from losses.checking.case import Broken, Case, require_same
from losses.checking.contract import clause
from losses.checking.values import configuration_of, rebuilt


@clause(of_the_call=True)
def config_round_trip(case: Case) -> None:
    """create(loss.config()) is the same loss"""
    config = configuration_of(case.loss)
    again = rebuilt(case.loss, config).train(case.loss.training)
    if configuration_of(again) != config or repr(again) != repr(case.loss):
        raise Broken(f"{case.loss} became {again}")
    batch = case.batch()
    require_same("value", again(*batch), case.loss(*batch), 0)


@clause()
def copies(case: Case) -> None:
    """deepcopy and pickle keep the loss"""
    batch = case.batch()
    value = case.loss(*batch)
    for again in (copy.deepcopy(case.loss), pickle.loads(pickle.dumps(case.loss))):
        require_same("value of a copy", again(*batch), value, 0)


@clause()
def state_dict(case: Case) -> None:
    """a checkpoint of the loss, read with weights_only=True, restores it"""
    restored = copy.deepcopy(case.loss)
    case.loss(*case.batch(5, seed=1))
    file = io.BytesIO()
    torch.save(case.loss.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    batch = case.batch()
    require_same("value of the restored loss", restored(*batch), case.loss(*batch), 0)
    with torch.no_grad():
        for tensor in (*restored.buffers(), *restored.parameters()):
            tensor.mul_(2).add_(1)
    restored.load_state_dict(copy.deepcopy(case.loss.state_dict()))
    require_same("value where every buffer was another", restored(*batch), case.loss(*batch), 0)
