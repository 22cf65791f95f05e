"""Gradients of several values at once (``is_grads_batched``) are those one by one, whichever way a loss takes."""

from contextlib import nullcontext

import pytest
import torch

import losses
from losses.checking.case import Case, cases_of, leaves_of, several_blocks
from losses.core.inputs import EMBEDDINGS
from losses.core.registry import find

FACTORS = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)


def require_one_by_one(case: Case, **options: object) -> None:
    batch = case.batch()
    leaves, rebuild = leaves_of(batch.output)
    value = case.loss(rebuild(leaves), batch.target, **options)
    several = torch.autograd.grad(value, leaves, FACTORS, is_grads_batched=True, retain_graph=True)
    single = torch.autograd.grad(value, leaves)
    for found, one in zip(several, single, strict=True):
        torch.testing.assert_close(found, torch.stack([factor * one for factor in FACTORS]))


@pytest.mark.parametrize("small_blocks", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", losses.available())
def test_of_a_batch(name: str, weighted: bool, small_blocks: bool) -> None:
    for case in cases_of(find(name).instance()):
        options = {"weight": torch.linspace(0.5, 2, 10, dtype=torch.float64)} if weighted else {}
        if weighted and case.with_reduction("none")(*case.batch()).shape == (1,):
            continue  # the whole batch is one item
        with several_blocks() if small_blocks else nullcontext():
            require_one_by_one(case, **options)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", losses.available("metric"))
def test_of_what_indices_say(name: str, reduction: str, many: bool) -> None:
    loss = find(name).instance(reduction=reduction)
    case = next(case for case in cases_of(loss) if case.kind is EMBEDDINGS)
    embeddings, labels = case.batch()
    same = labels.unsqueeze(1) == labels
    positive = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero(as_tuple=True)
    negative = (~same).nonzero(as_tuple=True)
    indices = [part if many else part[:2] for part in (*positive, *negative)]
    leaf = embeddings.detach().requires_grad_()
    value = loss(leaf, labels, tuple(indices))
    factors = FACTORS.reshape(3, *[1] * value.ndim) * torch.ones_like(value)
    (several,) = torch.autograd.grad(value, leaf, factors, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(several, FACTORS.reshape(3, 1, 1) * one)
