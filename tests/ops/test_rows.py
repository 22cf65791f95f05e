"""Sums over rows of scores, in blocks and in few operations, equal their definition, in value and gradient."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.ops.elementwise import rows
from losses.ops.elementwise.rows import RowSum
from losses.ops.numerics.softmax import log_softmax
from losses.ops.tiles.sizes import block_sizes
from tests.operations import operations

LEAST = ("rows_in_blocks", "rows_in_blocks_of_classes", "rows_in_blocks_fused")
Way = Callable[[], AbstractContextManager[None]]
CLASS_WEIGHT = [1.0, 2.0, 0.0, 0.5, 3.0]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1},
    {"class_weight": CLASS_WEIGHT},
    {"z_loss": 0.3},
    {"class_weight": CLASS_WEIGHT, "label_smoothing": 0.2, "z_loss": 0.3},
]
DIVERGENCES: list[dict[str, Any]] = [
    {"name": "kl_divergence"},
    {"name": "kl_divergence", "temperature": 2.5},
    {"name": "kl_divergence", "direction": "reverse"},
    {"name": "kl_divergence", "direction": "reverse", "temperature": 0.7},
    {"name": "js_divergence"},
    {"name": "js_divergence", "mixture": 0.2},
]


@contextmanager
def in_blocks(elements: int = 1 << 19) -> Iterator[None]:
    with block_sizes(row_elements=elements, **dict.fromkeys(LEAST, 0)):
        yield


@contextmanager
def in_few_operations(*, columns: bool) -> Iterator[None]:
    """Let no batch go through blocks, and turn narrow rows to columns or not."""
    with block_sizes(**dict.fromkeys(LEAST, 1 << 60), narrow_rows=0 if columns else 1 << 60):
        yield


WAYS = {
    "blocks": partial(in_blocks, 31),
    "columns": partial(in_few_operations, columns=True),
    "rows": partial(in_few_operations, columns=False),
}
in_every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def by_definition(loss: losses.Loss, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the loss by the definition, over all items."""
    total = loss._on_accepted(loss.definition_total, output, target, weight)
    return total.mean() if loss.reduction == "mean" else total.sum


def both(loss: Any, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return value and gradient, which is multiplied by something from above."""
    output = output.detach().requires_grad_()
    value = loss(output, target, weight=weight)
    (gradient,) = torch.autograd.grad(3 * value, output)
    return value.detach(), gradient


def require_equal_to_definition(
    loss: Any, output: Tensor, target: Tensor, weight: Tensor | None = None, elements: int = 31
) -> None:
    expected = both(partial(by_definition, loss), output, target, weight)
    for way in (partial(in_blocks, elements), WAYS["columns"], WAYS["rows"]):
        with way():
            found = both(loss, output, target, weight)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def drawn(shape: tuple[int, ...], seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def indices(shape: tuple[int, ...], classes: int) -> Tensor:
    target = torch.arange(torch.Size(shape).numel()).reshape(shape) * 7 % classes
    return target.masked_fill(target == 1, -100)


@pytest.mark.parametrize("parameters", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(7, 5), (3, 5, 4), (2, 5, 3, 3), (1, 5), (0, 5), (2, 5, 0), (6, 40), (3, 40, 2)])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("elements", [1, 31, 1 << 19])
def test_cross_entropy_equals_its_definition(
    parameters: dict[str, Any], shape: tuple[int, ...], soft: bool, reduction: str, elements: int
) -> None:
    if "class_weight" in parameters:
        parameters = parameters | {"class_weight": CLASS_WEIGHT * (shape[1] // 5)}
    loss = losses.create("cross_entropy", reduction=reduction, **parameters)
    positions = shape[:1] + shape[2:]
    logits = drawn(shape)
    target = drawn(shape, 1).softmax(1) if soft else indices(positions, shape[1])
    for weight in (None, drawn(positions, 2).abs(), drawn(positions[:1], 3).clamp(min=0)):
        require_equal_to_definition(loss, logits, target, weight, elements)


@pytest.mark.parametrize("parameters", DIVERGENCES, ids=str)
@pytest.mark.parametrize("form", ["probs", "log_probs", "logits"])
@pytest.mark.parametrize("shape", [(7, 5), (5,), (2, 3, 5), (0, 5)], ids=str)
@pytest.mark.parametrize("elements", [1, 37, 1 << 19])
def test_divergence_equals_its_definition(
    parameters: dict[str, Any], form: str, shape: tuple[int, ...], elements: int
) -> None:
    probs = drawn(shape, 1).softmax(-1)
    for absent in (torch.zeros(5, dtype=torch.bool), torch.arange(5) == 2):
        some = probs.masked_fill(absent, 0)
        some = some / some.sum(-1, keepdim=True)
        target = some if form == "probs" else some.log()
        for reduction, weight in (("mean", None), ("sum", None), ("mean", drawn(shape[:-1], 2).abs())):
            loss = losses.create(**parameters, target_form=form, reduction=reduction)
            require_equal_to_definition(loss, drawn(shape), target, weight, elements)


@given(
    rows=st.integers(1, 9),
    classes=st.integers(1, 40),
    elements=st.integers(1, 200),
    scale=st.sampled_from([1e-2, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 9),
)
def test_sizes_that_do_not_divide_the_block(rows: int, classes: int, elements: int, scale: float, seed: int) -> None:
    logits = drawn((rows, classes), seed, scale)
    target = drawn((rows, classes), seed + 1).softmax(1)
    require_equal_to_definition(losses.create("ce"), logits, target.argmax(1), None, elements)
    require_equal_to_definition(losses.create("ce", z_loss=1e-3), logits, target.argmax(1), None, elements)
    for name in ("ce", "kl", "js"):
        require_equal_to_definition(losses.create(name), logits, target, None, elements)


@pytest.mark.parametrize("parameters", OPTIONS, ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
def test_impossible_classes_are_as_in_the_definition(parameters: dict[str, Any], soft: bool) -> None:
    logits = drawn((6, 5))
    logits[::2, 2] = -torch.inf
    logits[5, 3] = -torch.inf
    target = torch.eye(5, dtype=torch.float64)[[0, 1, 3, 4, 1, 0]]
    loss = losses.create("cross_entropy", **parameters)
    require_equal_to_definition(loss, logits, target if soft else target.argmax(1))


@pytest.mark.parametrize("parameters", DIVERGENCES, ids=str)
@pytest.mark.parametrize("form", ["probs", "logits"])
def test_impossible_outcomes_are_as_in_the_definition(parameters: dict[str, Any], form: str) -> None:
    logits, target = drawn((6, 5)), drawn((6, 5), 1)
    logits[::2, 2] = -torch.inf
    target[::3, 2:4] = -torch.inf
    loss = losses.create(**parameters, target_form=form)
    require_equal_to_definition(loss, logits, target.softmax(1) if form == "probs" else target)


@pytest.mark.parametrize("shape", [(6, 5, 4), (2, 5, 3, 4)], ids=str)
def test_classes_that_were_last_in_memory_keep_their_place(shape: tuple[int, ...]) -> None:
    logits = drawn(shape).movedim(1, -1).contiguous().movedim(-1, 1)
    positions = shape[:1] + shape[2:]
    for target in (indices(positions, 5), drawn(shape, 1).softmax(1)):
        for weight in (None, drawn(positions, 2).abs(), drawn(shape[:1], 2).abs()):
            require_equal_to_definition(losses.create("ce"), logits, target, weight)
    with in_blocks():
        _, gradient = both(losses.create("ce"), logits, indices(positions, 5))
    assert gradient.stride() == logits.stride()


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
def test_any_strides(name: str) -> None:
    target = drawn((5, 7), 1).mT.softmax(1)
    require_equal_to_definition(losses.create(name), drawn((5, 7)).mT, target)
    require_equal_to_definition(losses.create(name), drawn((1, 5)).expand(7, 5), target)


@pytest.mark.parametrize("parameters", [*({"name": "ce"} | each for each in OPTIONS), *DIVERGENCES], ids=str)
@in_every_way
def test_second_derivatives(way: Way, parameters: dict[str, Any]) -> None:
    loss, logits = losses.create(**parameters), drawn((6, 5)).requires_grad_()
    target, weight = drawn((6, 5), 1).softmax(1), drawn((6,), 2).abs()
    with way():
        torch.autograd.gradgradcheck(lambda logits: loss(logits, target), logits)
        torch.autograd.gradgradcheck(lambda logits: loss(logits, target, weight=weight), logits)


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
@in_every_way
def test_a_graph_that_is_kept_gives_the_same_gradient_again(way: Way, name: str) -> None:
    logits, target = drawn((6, 5)).requires_grad_(), drawn((6, 5), 1).softmax(1)
    with way():
        value = losses.create(name)(logits, target, weight=drawn((6,), 2).abs())
    (first,) = torch.autograd.grad(value, logits, torch.tensor(2.0, dtype=torch.float64), retain_graph=True)
    copy = first.clone()
    (again,) = torch.autograd.grad(value, logits, retain_graph=True)
    torch.testing.assert_close(2 * again, copy)
    torch.testing.assert_close(first, copy)
    (last,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(last, again)


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
@pytest.mark.parametrize("of", ["target", "weight"])
@in_every_way
def test_targets_and_weights_receive_their_gradient(way: Way, name: str, of: str) -> None:
    logits, probs, weight = drawn((6, 5)), drawn((6, 5), 1).softmax(1), drawn((6,), 2).abs()
    wanted = (probs if of == "target" else weight).requires_grad_()
    loss = losses.create(name)
    (expected,) = torch.autograd.grad(by_definition(loss, logits, probs, weight), wanted)
    with way():
        (found,) = torch.autograd.grad(loss(logits, probs, weight=weight), wanted)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
@in_every_way
def test_no_gradient_is_made_where_none_is_wanted(way: Way, name: str) -> None:
    target = drawn((6, 5), 1).softmax(1)
    with way(), torch.no_grad():
        assert not losses.create(name)(drawn((6, 5)).requires_grad_(), target).requires_grad
    with way():
        value = losses.create(name)(drawn((6, 5)), target)
        assert not value.requires_grad
        with_graph = losses.create(name)(drawn((6, 5)).requires_grad_(), target)
    torch.testing.assert_close(value, with_graph.detach())


@in_every_way
@pytest.mark.parametrize("name", ["ce", "kl", "js"])
def test_batched_gradients_are_each_their_own(way: Way, name: str) -> None:
    logits = drawn((6, 5)).requires_grad_()
    with way():
        value = losses.create(name)(logits, drawn((6, 5), 1).softmax(1), weight=drawn((6,), 2).abs())
    factors = torch.tensor([1.0, 2.0], dtype=torch.float64)
    (found,) = torch.autograd.grad(value, logits, factors, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(found, torch.stack([one, 2 * one]))


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
@in_every_way
def test_tiny_weights_keep_their_digits(way: Way, name: str) -> None:
    logits, target, weight = drawn((6, 5)).float(), drawn((6, 5), 1).softmax(1).float(), torch.full((6,), 1e-30)
    with way():
        _, heavy = both(losses.create(name), logits, target, weight * 1e30)
        _, light = both(losses.create(name), logits, target, weight)
    torch.testing.assert_close(light, heavy)


@pytest.mark.parametrize("name", ["ce", "kl", "js"])
def test_large_batches_go_through_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    forward = RowSum.forward

    def counted(*arguments: Any) -> Tensor:
        calls.append(name)
        return forward(*arguments)

    monkeypatch.setattr(RowSum, "forward", staticmethod(counted))
    loss, target = losses.create(name), torch.full((700, 1000), 1e-3)
    loss(torch.randn(700, 1000), target)
    loss(torch.randn(4, 10), target[:4, :10] * 100)
    assert calls == [name]


@pytest.mark.parametrize("name", ["cross_entropy", "kl_divergence", "js_divergence"])
@in_every_way
def test_a_gradient_that_was_handed_out_is_nobody_elses(way: Way, name: str) -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(6, 5, dtype=torch.float64).softmax(1)
    with way():
        value = losses.create(name)(logits, target)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    expected = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(value, logits, retain_graph=True)
    torch.testing.assert_close(second, expected)
    torch.autograd.grad(value, logits, torch.tensor(-3.0, dtype=torch.float64))
    torch.testing.assert_close(second, expected)


FEW = {
    "probabilities": ("ce", {}, None, True, 16),
    "class weights": ("ce", {"class_weight": [1.0, 2.0] * 5}, None, False, 14),
    "smoothing": ("ce", {"label_smoothing": 0.1}, None, False, 22),
    "z-loss": ("ce", {"z_loss": 0.1}, None, False, 30),
    "weights": ("ce", {}, 1.0, False, 24),
    "KL": ("kl", {}, None, True, 11),
    "KL with weights": ("kl", {}, 1.0, True, 20),
    "JS": ("js", {}, None, True, 19),
    "JS with weights": ("js", {}, 1.0, True, 27),
}


@pytest.mark.parametrize(("name", "parameters", "weight", "soft", "most"), FEW.values(), ids=FEW)
def test_small_batches_take_few_operations(
    name: str, parameters: dict[str, Any], weight: float | None, soft: bool, most: int
) -> None:
    """Those that turn rows to columns and back are among them."""
    logits = drawn((128 if name == "ce" else 64, 10)).float().requires_grad_()
    target = drawn((*logits.shape,), 1).softmax(1).float()
    loss, weights = losses.create(name, **parameters), None if weight is None else torch.full((len(logits),), weight)
    batch = logits, target if soft else target.argmax(1)
    loss(*batch, weight=weights)  # the first batch is inspected
    assert operations(lambda: loss(*batch, weight=weights)) <= most


@pytest.mark.parametrize("shape", [(200, 10), (200, 15), (1, 3), (0, 3), (3, 40), (5, 3, 4)], ids=str)
@pytest.mark.parametrize("dim", [-1, 1, 0])
def test_log_softmax_is_that_of_torch(shape: tuple[int, ...], dim: int) -> None:
    scores = drawn(shape)
    if dim == 0 and shape[0] == 0:
        return
    scores[..., :1] = -torch.inf
    with WAYS["columns"]():
        found = log_softmax(scores, dim)
    torch.testing.assert_close(found, scores.log_softmax(dim), rtol=1e-14, atol=1e-14, equal_nan=True)


@in_every_way
@pytest.mark.parametrize("name", ["ce", "kl", "js"])
def test_what_weighs_nothing_is_not_looked_at(way: Way, name: str) -> None:
    logits, target, weight = drawn((6, 5)), drawn((6, 5), 1).softmax(1), torch.ones(6, dtype=torch.float64)
    weight[2] = 0
    with way():
        expected = both(losses.create(name), logits, target, weight)
        logits[2], target[2] = torch.nan, torch.nan
        loss = losses.create(name)
        loss(drawn((6, 5)), drawn((6, 5), 1).softmax(1))
        found = both(loss, logits, target, weight)
    torch.testing.assert_close(found, expected)


@in_every_way
@pytest.mark.parametrize("parameters", OPTIONS, ids=str)
def test_class_weights_that_add_up_to_nothing_give_a_mean_of_nothing(way: Way, parameters: dict[str, Any]) -> None:
    loss = losses.create("ce", **parameters | {"class_weight": [1e-39] * 5})
    with way():
        value, gradient = both(loss, drawn((6, 5)).float(), torch.arange(6) % 5)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("parameters", "classes", "blocks"),
    [
        ({"name": "ce"}, 16, 2),
        ({"name": "ce"}, 15, 5),
        ({"name": "ce", "label_smoothing": 0.1}, 16, 2),
        ({"name": "ce", "label_smoothing": 0.1}, 15, 5),
        ({"name": "focal", "form": "multiclass"}, 16, 2),
        ({"name": "generalized_cross_entropy"}, 16, 2),
    ],
    ids=str,
)
def test_blocks_are_four_times_as_large_where_torchs_softmax_writes_to_the_gradient(
    parameters: dict[str, Any], classes: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five blocks of two rows, or two of eight."""
    assert blocks_of(losses.create(**parameters), torch.zeros(10, classes), monkeypatch) == blocks


@pytest.mark.parametrize(("smoothing", "logit", "blocks"), [(0.1, 64.0, 2), (0.1, 65.0, 5), (0.0, 65.0, 2)])
def test_smoothed_logits_too_far_for_the_softmax_keep_their_small_blocks(
    smoothing: float, logit: float, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = losses.create("ce", label_smoothing=smoothing)
    assert blocks_of(loss, torch.full((10, 16), logit), monkeypatch) == blocks


def blocks_of(loss: losses.Loss, logits: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many blocks ten rows are taken in, of which two are a block."""
    seen: list[Any] = []
    sum_of_block = rows.sum_of_block
    monkeypatch.setattr(rows, "sum_of_block", lambda *block: seen.append(block) or sum_of_block(*block))
    with block_sizes(row_elements=2 * logits.shape[1], **dict.fromkeys(LEAST, 0), in_arrays=0):
        loss(logits.requires_grad_(), torch.arange(10))
    return len(seen)


@pytest.mark.parametrize("options", [{}, {"class_weight": [0.5, 2.0] * 16}, {"z_loss": 1e-3}], ids=str)
@pytest.mark.parametrize("offset", [0.0, 60.0, 70.0, -1e3, 1e6])
def test_smoothed_logits_of_wide_rows_keep_their_digits_wherever_they_lie(
    offset: float, options: dict[str, Any]
) -> None:
    """What all of them share is no part of the loss, however large it is beside what differs."""
    loss = losses.create("cross_entropy", label_smoothing=0.1, **options)
    logits, target = torch.randn(12, 32) + offset, torch.arange(12)
    with in_blocks(64):
        value, gradient = both(loss, logits, target)
    with in_few_operations(columns=False):
        right, slopes = both(loss, logits.double(), target)
    torch.testing.assert_close(value.double(), right, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), slopes, rtol=1e-4, atol=1e-7)
