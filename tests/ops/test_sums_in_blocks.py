"""Sums over elements in blocks equal the definition: at sizes that do and do not divide the block, in any memory."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.core.loss import Loss
from losses.ops.elementwise import blocks
from losses.ops.elementwise.buffers import buffers
from losses.ops.tiles.sizes import BlockSizes, block_sizes, sizes
from tests.operations import operations

LOSSES: dict[str, dict[str, Any]] = {
    "mse": {},
    "mae": {},
    "huber": {"delta": 0.7},
    "hinge": {"margin": 0.5},
    "squared hinge": {"margin": 0.5, "power": 2},
    "binary_cross_entropy": {},
    "smooth binary_cross_entropy": {"label_smoothing": 0.2},
}
USUAL = {"block": 1 << 16, "in_blocks": 1 << 17, "in_blocks_fused": 1 << 20, "in_blocks_fused_weighted": 1 << 18}
every_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with block_sizes(block=8, in_blocks=0, in_blocks_fused=0, in_blocks_fused_weighted=0):
        yield


def made(name: str, **parameters: Any) -> Loss:
    return losses.create(name.split()[-1], **LOSSES[name], **parameters)


def drawn(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    output = 3 * torch.randn(shape, generator=random, dtype=torch.float64)
    return output.requires_grad_(), torch.rand(shape, generator=random, dtype=torch.float64)


def both(loss: Loss, output: Tensor, target: Tensor, weight: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return the mean and its gradient, in blocks and by the definition."""
    with block_sizes(in_blocks=1 << 40, in_blocks_fused=1 << 40, in_blocks_fused_weighted=1 << 40):
        shown = output if weight is None else output.where(weight.reshape(-1, *[1] * (output.ndim - 1)) != 0, 0)
        definition = loss.definition_total(shown, target, weight).mean()
    values = loss(output, target, weight=weight), definition
    return [(value, torch.autograd.grad(value, output)[0]) for value in values]


@every_loss
@settings(deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 20), seed=st.integers(0, 1000), weighted=st.booleans())
def test_values_and_gradients_equal_the_definition(
    name: str, rows: int, columns: int, seed: int, weighted: bool
) -> None:
    output, target = drawn(rows, columns, seed=seed)
    weight = None
    if weighted:
        weight = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
        weight = weight * (torch.arange(rows) % 3 != 1)
    (value, gradient), (right, expected) = both(made(name), output, target, weight)
    torch.testing.assert_close(value, right, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@every_loss
@pytest.mark.parametrize("form", ["per element", "per row", "three dimensions", "transposed", "every second"])
def test_in_any_memory(name: str, form: str) -> None:
    output, target = drawn(6, 4, 5)
    weight = None
    if form == "per element":
        weight = torch.linspace(0, 2, 120, dtype=torch.float64).reshape(6, 4, 5)
    elif form == "per row":
        weight = torch.linspace(0, 2, 24, dtype=torch.float64).reshape(6, 4)
    others = {"transposed": (output.mT, target.mT), "every second": (output[::2], target[::2])}
    batch = others.get(form, (output, target))
    loss = made(name)
    value = loss(*batch, weight=weight)
    right = loss.definition_total(*batch, weight).mean()
    torch.testing.assert_close(value, right, rtol=1e-12, atol=1e-12)
    for got, expected in zip(torch.autograd.grad(value, output), torch.autograd.grad(right, output), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@every_loss
def test_what_has_weight_0_may_be_nan(name: str) -> None:
    output, target = drawn(30)
    weight = (torch.arange(30) % 4 > 0).double()
    loss = made(name)
    loss(output, target)  # the first batch is inspected
    (right,) = torch.autograd.grad(loss(output, target, weight=weight), output)
    with torch.no_grad():
        output[weight == 0] = torch.nan
        target = target.masked_fill(weight == 0, torch.inf)
    value = loss(output, target, weight=weight)
    assert value.isfinite()
    torch.testing.assert_close(torch.autograd.grad(value, output)[0], right)


@every_loss
def test_a_graph_can_be_kept_and_scaled_and_differentiated_again(name: str) -> None:
    output, target = drawn(50)
    weight = torch.linspace(0, 1, 50, dtype=torch.float64)
    value = made(name)(output, target, weight=weight)
    (first,) = torch.autograd.grad(value, output, retain_graph=True)
    (second,) = torch.autograd.grad(value, output, torch.tensor(-3.0, dtype=torch.float64), retain_graph=True)
    torch.testing.assert_close(second, -3 * first)
    (again,) = torch.autograd.grad(value, output, create_graph=True)
    torch.testing.assert_close(again, first)
    if again.requires_grad:
        (curvature,) = torch.autograd.grad(again.square().sum(), output)
        plain = made(name).definition_total(output, target, weight).mean()
        (slope,) = torch.autograd.grad(plain, output, create_graph=True)
        torch.testing.assert_close(curvature, torch.autograd.grad(slope.square().sum(), output)[0])


@every_loss
def test_who_wants_another_derivative_gets_it_from_the_definition(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks.BlockSum, "apply", lambda *_: pytest.fail("in blocks"))
    output, target = drawn(20)
    weight = torch.ones(20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.grad(made(name)(output, target, weight=weight), weight)[0].isfinite().all()
    assert torch.func.grad(made(name))(output, target).isfinite().all()
    if name in ("mse", "mae", "huber"):
        assert torch.autograd.grad(made(name)(output, target.requires_grad_()), target)[0].isfinite().all()


def test_nothing_is_computed_for_what_needs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks.Block, "write", lambda *_: pytest.fail("a derivative"))
    output, target = drawn(20)
    assert not losses.create("mse")(output.detach(), target).requires_grad
    with torch.inference_mode():
        losses.create("mse")(output, target)
    monkeypatch.undo()
    assert losses.create("mse")(output, target).requires_grad  # the buffers of inference are no others'


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
def test_no_block_is_larger_than_its_size(columns: int, hides: bool) -> None:
    output, target = drawn(100, columns)
    all_blocks = list(blocks.blocks(output.detach(), target, torch.ones(100, dtype=torch.float64), hides))
    assert len(all_blocks) == -(-100 // (sizes().block // columns))
    assert all(part.numel() <= sizes().block for block in all_blocks for part in block if part is not None)


@pytest.mark.parametrize(
    ("name", "most"), [("mse", 14), ("mae", 14), ("huber", 14), ("binary_cross_entropy", 14), ("hinge", 20)]
)
def test_a_weighted_mean_of_few_elements_is_few_operations(name: str, most: int) -> None:
    output, target = (part.float() for part in drawn(1000))
    leaf, weight, loss = output.detach().requires_grad_(), torch.ones(1000), losses.create(name)
    loss(leaf, target)  # the first batch is looked at
    with block_sizes(in_blocks=1 << 16, in_blocks_fused=1 << 20, in_blocks_fused_weighted=1 << 18):
        assert operations(lambda: loss(leaf, target, weight=weight)) <= most
        if name == "mse":
            line = operations(lambda: ((leaf - target) ** 2 * weight).sum() / weight.sum())
            assert operations(lambda: loss(leaf, target, weight=weight)) <= line


def test_threads_and_calls_in_calls_have_buffers_of_their_own() -> None:
    with buffers(torch.float64, 5, 2) as (first, second), buffers(torch.float64, 5, 2) as (third, fourth):
        assert len({each.data_ptr() for each in (first, second, third, fourth)}) == 4
        found: list[int] = []

        def ask() -> None:
            with buffers(torch.float64, 5, 1) as (only,):
                found.append(only.data_ptr())

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(timeout=30)
    assert found and found[0] not in {each.data_ptr() for each in (first, second, third, fourth)}


@pytest.mark.parametrize("name", ["mse", "huber", "binary_cross_entropy"])
def test_single_precision_of_a_million_is_as_near_as_torch_is(name: str) -> None:
    output, target = (part.float().detach() for part in drawn(1_000_003))
    with block_sizes(block=1 << 15):
        value = losses.create(name)(output, target)
        exact = losses.create(name)(output.double(), target.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(30,), (30, 4), (5, 6, 2)])
@every_loss
def test_weighted_means_without_blocks_equal_the_definition_and_hide_what_has_weight_0(
    name: str, shape: tuple[int, ...]
) -> None:
    output, target = drawn(*shape)
    loss = made(name)
    with block_sizes(in_blocks=1 << 40, in_blocks_fused=1 << 40, in_blocks_fused_weighted=1 << 40):
        loss(output, target)  # the first batch is inspected
        for weight in (
            torch.linspace(0, 2, len(output), dtype=torch.float64),
            torch.rand_like(target) * (target > 0.3),
        ):
            absent = (weight == 0).reshape(weight.shape + (1,) * (output.ndim - weight.ndim))
            right = loss.definition_total(output.masked_fill(absent, 0), target, weight).mean()
            (expected,) = torch.autograd.grad(right, output)
            for value in (0.0, torch.nan, torch.inf):
                hidden = output.detach().masked_fill(absent, value).requires_grad_()
                mean = loss(hidden, target.masked_fill(absent, value), weight=weight)
                torch.testing.assert_close(mean, right, rtol=1e-12, atol=1e-12)
                (gradient,) = torch.autograd.grad(mean, hidden)
                torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("large", [False, True])
@every_loss
def test_weights_may_be_tiny_all_0_or_want_a_gradient(name: str, large: bool) -> None:
    output, target = (part.float() for part in drawn(30))
    output = output.detach().requires_grad_()
    loss = made(name)
    least = 0 if large else 1 << 40
    with block_sizes(in_blocks=least, in_blocks_fused=least, in_blocks_fused_weighted=least):
        right = loss(output, target)
        tiny = loss(output, target, weight=torch.full((30,), 1e-37))
        torch.testing.assert_close(tiny, right)
        slopes = [torch.autograd.grad(mean, output)[0] for mean in (tiny, right)]
        torch.testing.assert_close(*slopes)
        nothing = loss(output, target, weight=torch.zeros(30))
        assert nothing.item() == 0
        assert not torch.autograd.grad(nothing, output)[0].any()
        weight = torch.arange(30).float().requires_grad_()
        means = loss(output, target, weight=weight), loss.definition_total(output, target, weight).mean()
        torch.testing.assert_close(*(torch.autograd.grad(mean, weight)[0] for mean in means))


@pytest.mark.parametrize("shape", [(30,), (6, 5), (3, 5, 2)])
@every_loss
def test_a_mean_in_one_piece_equals_the_definition(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_hand: list[Tensor] = []
    apply_one_piece = blocks.apply_one_piece
    monkeypatch.setattr(
        blocks, "apply_one_piece", lambda *parts: made_by_hand.append(parts[-1]) or apply_one_piece(*parts)
    )
    output, target = drawn(*shape)
    loss = made(name)
    with block_sizes(in_blocks=1 << 40, in_blocks_fused=1 << 40, in_blocks_fused_weighted=1 << 40, in_one_piece=0):
        loss(output, target)  # the first batch is inspected
        weight = torch.rand_like(target) * (target > 0.3)
        transposed = [part.transpose(0, -1) for part in (output, target, weight)]
        for batch in ((output, target, weight), (output, target, None), transposed):
            mean, right = loss(*batch[:2], weight=batch[2]), loss.definition_total(*batch).mean()
            torch.testing.assert_close(mean, right, rtol=1e-12, atol=1e-12)
            (expected,) = torch.autograd.grad(right, output)
            (gradient,) = torch.autograd.grad(mean, output, create_graph=True)
            torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
            again = torch.autograd.grad(loss(*batch[:2], weight=batch[2]), output)[0]
            torch.testing.assert_close(again, expected, rtol=1e-12, atol=1e-12)
        hidden = output.detach().masked_fill(weight == 0, torch.nan).requires_grad_()
        mean = loss(hidden, target, weight=weight)
        torch.testing.assert_close(mean, loss(output, target, weight=weight), rtol=1e-12, atol=1e-12)
        assert torch.autograd.grad(mean, hidden)[0].isfinite().all()
    by_hand = name == "mae" or name.endswith("binary_cross_entropy")  # others have few temporaries, or many operations
    assert bool(made_by_hand) is by_hand


@pytest.mark.parametrize(
    ("size", "weighted"),
    [(1 << 14, True), (1 << 14, False), (1 << 18, True), (1 << 18, False), (1_000_003, True), (1_000_003, False)],
)
def test_nearly_certain_logits_keep_their_digits(size: int, weighted: bool) -> None:
    """Values of 1e-7 to 1e-3 beside a few wrong ones, whose weight is next to nothing."""
    random = torch.Generator().manual_seed(0)
    target = (torch.rand(size, generator=random) < 0.5).float()
    logits = (target * 2 - 1) * (7 + 8 * torch.rand(size, generator=random))
    weight = None
    if weighted:
        logits[::100] *= -1
        weight = torch.ones(size)
        weight[::100] = 1e-9
    logits.requires_grad_()
    loss = losses.create("binary_cross_entropy")
    with block_sizes(**USUAL):
        value = loss(logits, target, weight=weight)
        (gradient,) = torch.autograd.grad(value, logits)
        exact = logits.detach().double().requires_grad_()
        right = loss.definition_total(exact, target.double(), weight if weight is None else weight.double()).mean()
        (expected,) = torch.autograd.grad(right, exact)
    assert value.item() == pytest.approx(right.item(), rel=2e-6)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=2e-7 / size)  # as torch has it


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1 << 14, 1 << 18])
def test_large_logits_keep_the_digits_of_targets_near_1(size: int, weighted: bool) -> None:
    target = torch.full((size,), 1 - 2**-23)
    logits, weight = torch.full((size,), 2e6).requires_grad_(), torch.ones(size) if weighted else None
    with block_sizes(**USUAL):
        value = losses.create("binary_cross_entropy")(logits, target, weight=weight)
    assert value.item() == pytest.approx(2e6 * 2**-23, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["mae", "binary_cross_entropy", "log_cosh", "poisson_nll"])
@pytest.mark.parametrize(
    ("size", "in_one_piece"), [((1 << 14) - 1, False), (1 << 14, True), ((1 << 17) - 1, True), (1 << 17, False)]
)
def test_from_2_to_the_14_to_below_2_to_the_17_a_mean_is_made_in_one_piece(
    size: int, in_one_piece: bool, name: str, weighted: bool
) -> None:
    output, target = torch.zeros(size).requires_grad_(), torch.ones(size)
    usual = BlockSizes()
    with block_sizes(**{field: getattr(usual, field) for field in ("in_blocks_long", "in_blocks_fused_long", *USUAL)}):
        mean = losses.create(name)(output, target, weight=torch.ones(size) if weighted else None)
    assert ("OnePiece" in str(mean.grad_fn)) is in_one_piece
