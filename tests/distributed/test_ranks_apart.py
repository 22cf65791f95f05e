"""A loss that compares samples says once that it sees only those of its own rank."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.distributed as dist

import losses
from losses.core import collectives
from losses.distributed import GlobalBatch
from tests.distributed.ranks import Ranks
from tests.distributed.test_refusals import EMBEDDINGS, LABELS

PAIRS = losses.Pairs(EMBEDDINGS, EMBEDDINGS.flip(0))


def said(rank: int, group: dist.ProcessGroup, quiet: bool) -> list[tuple[str, str]]:
    """What is said in a training, and from which file."""
    collectives._warned = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embeddings = EMBEDDINGS.clone().requires_grad_()
        losses.create("mse")(embeddings, EMBEDDINGS)
        losses.create("contrastive")(PAIRS, LABELS > 0)  # its items are of samples
        losses.create("circle").eval()(embeddings, LABELS)
        with torch.no_grad():
            losses.create("circle")(embeddings, LABELS)
        GlobalBatch(losses.create("circle"), group)(embeddings, LABELS)
        GlobalBatch(losses.create("circle"), group)(PAIRS, LABELS > 0)
        if not quiet:
            for name in ("triplet", "circle", "triplet"):
                losses.create(name)(embeddings, LABELS)
    return [(str(warning.message), warning.filename) for warning in caught]


def test_a_whole_batch_loss_without_global_batch_warns_once(ranks: Ranks) -> None:
    for rank, found in enumerate(ranks.run(4, said, False)):
        (message, file), *others = found
        assert not others
        assert message.startswith(
            f"triplet compares the samples of rank {rank} with one another, and not with those of"
        )
        assert "losses.distributed.GlobalBatch(losses.create('triplet', ...))" in message
        assert file == __file__


def test_nothing_is_said_otherwise(ranks: Ranks) -> None:
    assert ranks.run(2, said, True) == [[], []]


@pytest.mark.parametrize("output", [PAIRS, EMBEDDINGS])
def test_a_single_process_is_told_nothing(output: torch.Tensor | losses.Pairs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.create("circle")(output, LABELS if isinstance(output, torch.Tensor) else LABELS > 0)
