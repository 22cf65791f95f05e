"""Cross-entropy of a linear layer equals that of its logits, which are never made all at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses import LinearLogits
from losses.ops.tiles.sizes import block_sizes
from tests.largest_tensor import Largest
from tests.refusals import refused

OPTIONS: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1},
    {"class_weight": True},
    {"z_loss": 0.3},
    {"ignore_index": 0},
    {"class_weight": True, "label_smoothing": 0.2, "z_loss": 0.3},
]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@contextmanager
def in_chunks(rows: int = 3, elements: int = 1) -> Iterator[None]:
    """Make logits in chunks of so many rows, looked at in blocks of so many numbers."""
    with block_sizes(linear_in_chunks=0, linear_chunk=1, linear_rows=rows, row_elements=elements):
        yield


def loss_of(classes: int, reduction: str = "mean", **options: Any) -> Any:
    if options.get("class_weight"):
        options["class_weight"] = [0.5 * (label % 4) for label in range(1, classes + 1)]
    return losses.create("cross_entropy", reduction=reduction, **options)


def drawn(*shape: int, classes: int = 7, bias: bool = True, seed: int = 0) -> LinearLogits:
    """Return features of that shape and the layer they enter, in float64, all of which require grad."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (shape, (classes, shape[-1]), (classes,))
    parts = [torch.randn(each, dtype=torch.float64, generator=generator).requires_grad_() for each in shapes]
    return LinearLogits(*parts[: 2 + bias])


def target_of(linear: LinearLogits, *, soft: bool = False, ignored: int = -100) -> Tensor:
    if soft:
        return torch.randn((*linear.positions, linear.classes), generator=torch.Generator().manual_seed(1)).softmax(-1)
    indices = torch.arange(linear.positions.numel()).reshape(linear.positions) * 5 % linear.classes
    return indices.masked_fill(torch.arange(indices.numel()).reshape(indices.shape) % 4 == 1, ignored)


def leaves_of(linear: LinearLogits) -> list[Tensor]:
    return [part for part in linear if part is not None]


def composed(loss: losses.Loss, linear: LinearLogits, target: Tensor, **options: Any) -> Tensor:
    """Return the definition: the same loss of all logits, with classes where it expects them."""
    soft = target.dtype.is_floating_point
    return loss(F.linear(*linear).movedim(-1, 1), target.movedim(-1, 1) if soft else target, **options)


def require_equal_to_composition(loss: losses.Loss, linear: LinearLogits, target: Tensor, **options: Any) -> None:
    expected, value = composed(loss, linear, target, **options), loss(linear, target, **options)
    torch.testing.assert_close(value, expected, **EXACT)
    above = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(2))
    right, found = (
        torch.autograd.grad(each, leaves_of(linear), above, materialize_grads=True) for each in (expected, value)
    )
    torch.testing.assert_close(found, right, **EXACT)


@settings(deadline=None)
@given(
    size=st.integers(0, 9),
    width=st.integers(1, 3),
    classes=st.integers(1, 40),
    rows=st.integers(1, 10),
    elements=st.sampled_from([1, 90, 1 << 19]),
    parameters=st.sampled_from(OPTIONS),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    bias=st.booleans(),
    soft=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 9),
)
def test_value_and_gradients_are_those_of_the_composition(
    size: int,
    width: int,
    classes: int,
    rows: int,
    elements: int,
    parameters: dict[str, Any],
    reduction: str,
    bias: bool,
    soft: bool,
    weighted: bool,
    seed: int,
) -> None:
    linear = drawn(size, width, classes=classes, bias=bias, seed=seed)
    options = {"weight": torch.arange(size) % 3} if weighted else {}
    with in_chunks(rows, elements):
        loss = loss_of(classes, reduction, **parameters)
        target = target_of(linear, soft=soft, ignored=loss.ignore_index)
        require_equal_to_composition(loss, linear, target, **options)


@pytest.mark.parametrize("parameters", OPTIONS, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 2, 4), (0, 2, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("chunks", [False, True])
def test_sequences_have_a_target_for_every_position(
    parameters: dict[str, Any], reduction: str, soft: bool, shape: tuple[int, ...], chunks: bool
) -> None:
    linear = drawn(*shape)
    loss = loss_of(7, reduction, **parameters)
    target = target_of(linear, soft=soft, ignored=loss.ignore_index)
    for weight in (None, torch.arange(shape[0]), torch.arange(linear.positions.numel()).reshape(linear.positions) % 3):
        with in_chunks() if chunks else block_sizes():
            require_equal_to_composition(loss, linear, target, weight=weight)


@pytest.mark.parametrize("chunks", [False, True])
def test_normalizer_and_totals_are_those_of_the_composition(chunks: bool) -> None:
    linear = drawn(10, 3)
    loss, target, weight = loss_of(7, class_weight=True), target_of(linear), torch.linspace(0, 2, 10)
    with in_chunks() if chunks else block_sizes():
        require_equal_to_composition(loss, linear, target, weight=weight, normalizer=3.5)
        found = loss.total(linear, target, weight=weight)
        right = loss.total(F.linear(*linear), target, weight=weight)
        halves = [loss.total(linear._replace(features=linear.features[i::2]), target[i::2]) for i in range(2)]
        torch.testing.assert_close(sum(halves).mean(), loss(linear, target), **EXACT)
    torch.testing.assert_close(found, right, **EXACT)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_that_is_kept_gives_its_gradients_again_and_several_at_once(reduction: str) -> None:
    linear, loss = drawn(10, 3), loss_of(7, reduction)
    leaves, target = leaves_of(linear), target_of(linear)
    right = torch.autograd.grad(composed(loss, linear, target).sum(), leaves)
    with in_chunks():
        value = loss(linear, target).sum()
        for factor in (1.0, -2.0, 1.0):
            found = torch.autograd.grad(factor * value, leaves, retain_graph=True)
            torch.testing.assert_close(found, tuple(factor * part for part in right), **EXACT)
        factors = torch.tensor([1.0, -2.0], dtype=torch.float64)
        several = torch.autograd.grad(value, leaves, factors, is_grads_batched=True)
    torch.testing.assert_close(several, tuple(torch.stack([part, -2 * part]) for part in right), **EXACT)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("parameters", OPTIONS, ids=str)
def test_second_derivatives_are_those_of_the_composition(parameters: dict[str, Any], reduction: str) -> None:
    linear, loss = drawn(6, 2), loss_of(7, reduction, **parameters)
    leaves, target = leaves_of(linear), target_of(linear, ignored=loss.ignore_index)

    def second(value: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(value.sin().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), leaves)

    with in_chunks():
        found = second(loss(linear, target))
    torch.testing.assert_close(found, second(composed(loss, linear, target)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (2,), (0, 1), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_part_without_grad_has_none(frozen: tuple[int, ...], reduction: str) -> None:
    linear = drawn(8, 3)
    for place in frozen:
        leaves_of(linear)[place].requires_grad_(False)
    learnt = [part for part in leaves_of(linear) if part.requires_grad]
    loss, target = loss_of(7, reduction), target_of(linear)
    with in_chunks():
        value = loss(linear, target).sum()
    expected = composed(loss, linear, target).sum()
    torch.testing.assert_close(value, expected, **EXACT)
    assert value.requires_grad == bool(learnt)
    if learnt:
        torch.testing.assert_close(torch.autograd.grad(value, learnt), torch.autograd.grad(expected, learnt), **EXACT)


@pytest.mark.parametrize("chunks", [False, True])
def test_a_table_of_embeddings_that_is_the_head_too_gets_both_gradients(chunks: bool) -> None:
    table, words = drawn(5, 3).weight, torch.tensor([[0, 3, 1], [6, 2, 2]])
    loss, following = loss_of(7), torch.tensor([[3, 1, 4], [2, 2, 0]])
    with in_chunks() if chunks else block_sizes():
        (found,) = torch.autograd.grad(loss(LinearLogits(F.embedding(words, table), table), following), table)
    logits = F.linear(F.embedding(words, table), table).movedim(-1, 1)
    torch.testing.assert_close(found, torch.autograd.grad(loss(logits, following), table)[0], **EXACT)


def test_tensors_that_are_not_contiguous_are_taken_as_they_are() -> None:
    linear = drawn(8, 3)
    strided = LinearLogits(linear.features.mT.contiguous().mT, linear.weight.mT.contiguous().mT, linear.bias)
    with in_chunks():
        require_equal_to_composition(loss_of(7), strided, target_of(linear).repeat_interleave(2)[::2])


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_what_has_weight_0_changes_nothing_even_where_it_is_nan(chunks: bool, soft: bool, reduction: str) -> None:
    linear, weight = drawn(8, 3), torch.ones(8).index_fill(0, torch.tensor([2, 5]), 0)
    loss, target = loss_of(7, reduction), target_of(linear, soft=soft)
    missing = linear._replace(features=linear.features.index_fill(0, torch.tensor([2, 5]), torch.nan))
    with in_chunks() if chunks else block_sizes():
        found, right = (loss(each, target, weight=weight).sum() for each in (missing, linear))
        gradients = [torch.autograd.grad(value, leaves_of(linear)) for value in (found, right)]
    torch.testing.assert_close(found, right, **EXACT)
    torch.testing.assert_close(*gradients, **EXACT)
    assert not gradients[0][0][[2, 5]].any()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("hidden_by", ["ignore_index", "weight"])
def test_where_nothing_counts_the_loss_is_0_with_zero_gradients(reduction: str, hidden_by: str) -> None:
    linear, target = drawn(8, 3), torch.full((8,), -100 if hidden_by == "ignore_index" else 1)
    weight = torch.zeros(8) if hidden_by == "weight" else None
    with in_chunks():
        value = loss_of(7, reduction)(linear, target, weight=weight)
    assert not value.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(value.sum(), leaves_of(linear)))


def test_what_has_diverged_is_what_the_composition_makes_of_it() -> None:
    linear, target = drawn(8, 3), torch.arange(7).repeat(2)[:8]
    loss = loss_of(7)
    for value in (1e4, 1e200, torch.inf, torch.nan):
        far = linear._replace(features=linear.features.index_fill(0, torch.tensor([4]), value))
        with losses.checks("never"), in_chunks():
            found, right = loss(far, target), composed(loss, far, target)
            gradients = [torch.autograd.grad(each, leaves_of(linear), retain_graph=True) for each in (found, right)]
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, chunks: bool) -> None:
    linear = LinearLogits(*(part.detach().to(dtype).requires_grad_() for part in leaves_of(drawn(40, 16, classes=30))))
    loss, target = loss_of(30), target_of(linear)
    exact = LinearLogits(*(part.detach().double().requires_grad_() for part in leaves_of(linear)))
    with in_chunks() if chunks else block_sizes():
        value = loss(linear, target)
        mixed = loss(LinearLogits(linear.features, *(part.float() for part in leaves_of(linear)[1:])), target)
    right = composed(loss, exact, target)
    assert value.dtype is mixed.dtype is torch.float32
    torch.testing.assert_close(value.double(), right, rtol=1e-6, atol=0)
    torch.testing.assert_close(mixed.double(), right, rtol=1e-6, atol=0)
    for found, gradient in zip(
        torch.autograd.grad(value, leaves_of(linear)), torch.autograd.grad(right, leaves_of(exact)), strict=True
    ):
        torch.testing.assert_close(found, gradient.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("chunks", [False, True])
def test_under_autocast_it_is_computed_in_float32(chunks: bool) -> None:
    network, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16), in_chunks() if chunks else block_sizes():
        features = network(torch.randn(8, 3))
        value = loss_of(7)(LinearLogits(features, head.weight, head.bias), torch.arange(7).repeat(2)[:8])
    right = F.cross_entropy(F.linear(features.float(), head.weight, head.bias), torch.arange(7).repeat(2)[:8])
    torch.testing.assert_close(value, right)
    value.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype is torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, in forward mode
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_transforms_and_forward_derivatives_go_the_composition(reduction: str) -> None:
    linear, loss = drawn(8, 3), loss_of(7, reduction)
    target = target_of(linear)
    parts = tuple(part.detach() for part in leaves_of(linear))
    sums = [lambda *parts: loss(LinearLogits(*parts), target).sum(), lambda *parts: composed(loss, parts, target).sum()]
    with in_chunks():
        for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
            one, other = (transform(function)(*parts) for function in sums)
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", [tuple, lambda linear: (*linear[:2],)], ids=["three", "two"])
def test_a_plain_tuple_is_taken_for_one(form: Callable[[Any], Any]) -> None:
    linear = drawn(8, 3, bias=False)
    assert loss_of(7)(form(linear), target_of(linear)) == loss_of(7)(linear, target_of(linear))


def largest_allocation(step: Callable[[], object]) -> int:
    """Return the most bytes that an operation of a step allocates; the step takes the way that it takes unseen."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    return max(event.self_cpu_memory_usage for event in profile.events())


@pytest.mark.parametrize("parameters", [{}, {"label_smoothing": 0.1, "z_loss": 0.1}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_logits_are_never_made_all_at_once(parameters: dict[str, Any], reduction: str) -> None:
    size, classes = 512, 600
    linear = LinearLogits(torch.randn(size, 4), torch.randn(classes, 4), torch.randn(classes))
    for part in leaves_of(linear):
        part.requires_grad_()
    loss, target = loss_of(classes, reduction, **parameters), torch.arange(size)
    steps: list[Callable[[], object]] = [
        lambda: torch.autograd.grad(loss(linear, target).sum(), leaves_of(linear)),
        lambda: torch.autograd.grad(composed(loss, linear, target).sum(), leaves_of(linear)),
    ]
    with block_sizes(linear_in_chunks=0, linear_chunk=32 * classes, linear_rows=1, row_elements=16 * classes):
        in_chunks, whole = (largest_allocation(step) for step in steps)
        with Largest() as seen:
            steps[0]()
    assert whole >= 4 * size * classes
    assert in_chunks <= 4 * 32 * classes
    assert seen.elements <= 32 * classes


def test_no_gradient_of_a_frozen_head_is_made() -> None:
    linear = LinearLogits(torch.randn(64, 300, requires_grad=True), torch.randn(100, 300))
    loss, target = loss_of(100), torch.arange(64)
    loss(linear, target)  # whose values are looked at
    with in_chunks(rows=8, elements=1 << 12):
        assert largest_allocation(lambda: loss(linear, target).backward()) < 4 * linear.weight.numel()


F2, W3, I2 = torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (LinearLogits(F2, torch.zeros(5, 4)), I2, ["weight of 3 columns", "(5, 4) float32"]),
        (LinearLogits(F2, torch.zeros(3, 5)), I2, ["weight of 3 columns", "write weight.T"]),
        (LinearLogits(F2, W3[0]), I2, ["weight must have 2 dimensions (C, D)"]),
        (LinearLogits(F2, W3[:0]), I2, ["weight must have at least one row"]),
        (LinearLogits(F2[0], W3), I2, ["features must have shape (N, ..., D)", "unsqueeze(0)"]),
        (LinearLogits(F2, W3, torch.zeros(3)), I2, ["bias must have shape (5,)", "got (3,) float32"]),
        (LinearLogits(F2, W3, torch.zeros(5, 1)), I2, ["bias must have shape (5,)"]),
        (LinearLogits(F2, W3.double()), I2, ["one precision", "weight.to(features.dtype)"]),
        (LinearLogits(F2, W3, torch.zeros(5).double()), I2, ["one precision", "bias.to(features.dtype)"]),
        (LinearLogits(F2, W3.long()), I2, ["weight must be floating point"]),
        (LinearLogits(F2, W3.to("meta")), I2, ["features lies on cpu and weight on meta"]),
        (LinearLogits(F2, W3, "bias"), I2, ["bias must be a tensor"]),
        (LinearLogits(F2, W3), None, ["target must be a tensor"]),
        (LinearLogits(F2, W3), torch.tensor([0, 5]), ["class 5", "5 classes", "from 0 to 4"]),
        (LinearLogits(F2, W3), torch.tensor([0, -1]), ["class -1"]),
        (LinearLogits(F2, W3), torch.zeros(2), ["target.long()"]),
        (LinearLogits(F2, W3), torch.zeros(2, 5).long(), ["one-hot", "target.argmax(-1)"]),
        (LinearLogits(F2, W3), torch.zeros(2, 1).long(), ["target.squeeze(-1)"]),
        (LinearLogits(F2, W3), torch.zeros(3).long(), ["class indices of shape (2,)", "got (3,) int64"]),
        (LinearLogits(F2[None], W3), torch.zeros(1, 5, 2), ["(1, 2, 5)", "the classes come last"]),
        (LinearLogits(F2, W3), torch.zeros(2, 5), ["sum to 1"]),
        (LinearLogits(F2 * torch.nan, W3), I2, ["features must be numbers", "NaN"]),
        (LinearLogits(F2, W3 + torch.inf), I2, ["weight must be finite"]),
        (LinearLogits(F2, W3, torch.full((5,), -torch.inf)), I2, ["bias must be below inf and above -inf"]),
        ((F2, W3, torch.zeros(5), I2), I2, ["cross_entropy takes", "LinearLogits(features"]),
        (losses.Pairs(F2, F2), I2, ["cross_entropy takes", "got Pairs"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_words(output: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        loss_of(5)(output, target)


def test_class_weights_of_another_number_of_classes_are_refused() -> None:
    with refused(["class_weight holds 2 numbers, the logits (2, 5) have 5 classes"]):
        losses.create("cross_entropy", class_weight=[1, 2])(LinearLogits(F2, W3), I2)
