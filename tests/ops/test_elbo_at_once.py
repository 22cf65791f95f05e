"""The evidence lower bound made together with its gradients equals its definition, and leaves to it what it cannot
answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses import VAEOutput
from losses.ops.tiles.sizes import BlockSizes, block_sizes

EXACT = {"rtol": 1e-12, "atol": 1e-12}
RECONSTRUCTIONS = ("binary_cross_entropy", "mse", "huber", "log_cosh")


@pytest.fixture(autouse=True)
def from_the_start() -> Iterator[None]:
    with block_sizes(in_blocks_fused_long=1):
        yield


def drawn(size: int, columns: int, seed: int, scale: float = 1.0) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return reconstruction, mean and log-variance, the data and weights."""
    random = torch.Generator().manual_seed(seed)
    double = {"generator": random, "dtype": torch.float64}
    leaves = [scale * torch.randn(size, columns, **double), *torch.randn(2, size, 3, **double)]
    data, weight = torch.rand(size, columns, **double), torch.rand(size, **double)
    return [leaf.requires_grad_() for leaf in leaves], data, weight


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 6),
    columns=st.integers(1, 12),
    scale=st.sampled_from([1e-2, 1.0, 30.0]),
    block=st.sampled_from([8, 1 << 16]),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_value_and_gradients_equal_the_definition(
    name: str, size: int, columns: int, scale: float, block: int, weighted: bool, seed: int
) -> None:
    """Asked for twice, for several losses at once, and differentiated again."""
    leaves, data, weight = drawn(size, columns, seed, scale)
    by = weight if weighted else None
    loss = losses.ELBOLoss(reconstruction=name, beta=0.7)
    with block_sizes(in_blocks_fused_long=1, block=block, in_blocks=1 if block == 8 else 1 << 17):
        value = loss(VAEOutput(*leaves), data, weight=by)
    assert "Written" in str(value.grad_fn)
    expected = loss.definition_total(VAEOutput(*leaves), data, by).mean()
    torch.testing.assert_close(value, expected, **EXACT)
    right = torch.autograd.grad(expected, leaves, create_graph=True)
    factors = torch.tensor([1.0, -2.0], dtype=torch.float64)
    several = torch.autograd.grad(value, leaves, factors, retain_graph=True, is_grads_batched=True)
    again = torch.autograd.grad(value, leaves, create_graph=True)
    for _ in range(2):
        got = torch.autograd.grad(-2 * value, leaves, retain_graph=True)
        for one, two, both, each in zip(got, right, several, again, strict=True):
            torch.testing.assert_close(one, -2 * two, **EXACT)
            torch.testing.assert_close(both, torch.stack([two, -2 * two]), **EXACT)
            torch.testing.assert_close(each, two, **EXACT)
    seconds = [torch.autograd.grad(sum(p.square().sum() for p in parts), leaves) for parts in (again, right)]
    for one, two in zip(*seconds, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("in_blocks", [1, 1 << 17])
def test_certain_logits_keep_their_digits(in_blocks: int) -> None:
    logits = torch.tensor([[18.0, -18.0, 25.0, -16.0]]).repeat(4, 1).requires_grad_()
    loss = losses.ELBOLoss(beta=0.0)
    with block_sizes(in_blocks_fused_long=1, in_blocks=in_blocks):
        value = loss(VAEOutput(logits, torch.zeros(4, 1), torch.zeros(4, 1)), (logits.detach() > 0).float())
    exact = torch.log1p(torch.exp(-logits.detach().double().abs())).sum(1).mean()
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


def test_what_has_weight_0_is_absent_even_if_it_is_nan() -> None:
    leaves, data, weight = drawn(4, 5, seed=0)
    loss, rest = losses.ELBOLoss(), torch.tensor([0, 2, 3])
    weight[1] = 0
    expected = loss(VAEOutput(*(leaf[rest] for leaf in leaves)), data[rest], weight=weight[rest])
    missing = [torch.where(torch.arange(4).unsqueeze(1) == 1, torch.nan, leaf.detach()) for leaf in leaves]
    value = loss(VAEOutput(*(leaf.requires_grad_() for leaf in missing)), data, weight=weight)
    torch.testing.assert_close(value, expected, **EXACT)
    got, right = torch.autograd.grad(value, missing), torch.autograd.grad(expected, leaves)
    for one, two in zip(got, right, strict=True):
        torch.testing.assert_close(one, two, **EXACT)


@pytest.mark.parametrize("learned", range(3))
def test_only_what_asks_for_a_gradient_has_one(learned: int) -> None:
    leaves, data, _ = drawn(4, 5, seed=0)
    loss = losses.ELBOLoss()
    right = torch.autograd.grad(loss(VAEOutput(*leaves), data), leaves[learned])
    own = [leaf.detach().requires_grad_(place == learned) for place, leaf in enumerate(leaves)]
    value = loss(VAEOutput(*own), data)
    assert "Written" in str(value.grad_fn)
    torch.testing.assert_close(torch.autograd.grad(value, own[learned]), right, **EXACT)


@pytest.mark.parametrize("parameters", [{"free_bits": 0.1}, {"capacity": 1.0}, {"warmup_steps": 9}], ids=str)
def test_other_evidence_is_left_to_the_definition_or_equal_to_it(parameters: dict[str, object]) -> None:
    leaves, data, _ = drawn(4, 5, seed=0)
    loss = losses.ELBOLoss(**parameters).eval()
    value, expected = loss(VAEOutput(*leaves), data), loss.definition_total(VAEOutput(*leaves), data, None).mean()
    torch.testing.assert_close(value, expected, **EXACT)
    for one, two in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, two, **EXACT)


@pytest.mark.parametrize(("columns", "kind"), [((1 << 14) - 1, "GaussianSum"), (1 << 14, "Written")])
def test_the_evidence_of_2_to_the_14_numbers_has_its_gradient_by_hand(columns: int, kind: str) -> None:
    leaves = [torch.zeros(1, size).requires_grad_() for size in (columns, 3, 3)]
    with block_sizes(in_blocks_fused_long=BlockSizes().in_blocks_fused_long):
        value = losses.ELBOLoss()(VAEOutput(*leaves), torch.ones(1, columns))
    assert kind in str(value.grad_fn)
