"""What is peculiar to cross-entropy: what does not count, what is out of range, and logits that are no logits."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import losses
from losses import InputError, Pairs
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    "parameters", [{}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3]}, {"z_loss": 0.5}], ids=str
)
@pytest.mark.parametrize("shape", [(4,), (4, 2, 2), (0,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_counted_is_zero_with_zero_gradient(
    parameters: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    logits = torch.randn(shape[0], 3, *shape[1:]).to(dtype)
    value, gradient = backward(losses.create("cross_entropy", **parameters), logits, torch.full(shape, -100))
    assert value == 0
    assert not gradient.any()


def test_all_class_weights_zero_is_zero_with_zero_gradient() -> None:
    value, gradient = backward(
        losses.create("cross_entropy", class_weight=[0, 0, 1]), torch.randn(3, 3), torch.tensor([0, 1, 1])
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("parameters", [{}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3]}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(parameters: dict[str, Any], dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4]], dtype=dtype)
    for target in (
        torch.tensor([0, 1, 2]),
        torch.tensor([1, 0, 0]),
        torch.eye(3, dtype=dtype),
        torch.eye(3, dtype=dtype).flip(1),
    ):
        backward(losses.create("cross_entropy", **parameters), logits, target)
        backward(losses.create("cross_entropy", **parameters, reduction="none"), logits, target)


def test_a_wrong_answer_of_ten_thousand_costs_the_difference_of_the_logits() -> None:
    value, gradient = backward(losses.create("cross_entropy"), torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert value == 2e4
    assert gradient.tolist() == [[1, -1]]


def test_minus_infinity_forbids_a_class_without_nan() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    for target in (torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])):
        value, gradient = backward(losses.create("cross_entropy"), logits, target)
        assert value == pytest.approx(math.log(2))
        assert gradient.tolist() == [[-0.5, 0, 0.5]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_class_costs_nothing(dtype: torch.dtype) -> None:
    value, gradient = backward(
        losses.create("cross_entropy"), torch.randn(3, 1).to(dtype), torch.zeros(3, dtype=torch.long)
    )
    assert value == 0
    assert not gradient.any()


def test_ignored_positions_change_neither_value_nor_gradient() -> None:
    logits, target = torch.randn(8, 5, dtype=torch.float64), torch.tensor([0, -100, 2, -100, 4, 1, -100, 3])
    kept = target != -100
    value, gradient = backward(losses.create("cross_entropy", label_smoothing=0.1), logits, target)
    alone, of_kept = backward(losses.create("cross_entropy", label_smoothing=0.1), logits[kept], target[kept])
    torch.testing.assert_close(value, alone)
    torch.testing.assert_close(gradient[kept], of_kept)
    assert not gradient[~kept].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("probabilities", [False, True])
def test_weight_zero_hides_nan_and_classes_that_do_not_exist(reduction: str, probabilities: bool) -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    clean = logits.clone()
    logits[1] = torch.nan
    target = torch.tensor([1, 77, 3])
    if probabilities:
        target = F.one_hot(target.clamp(max=3), 4).double()
        target[1] = torch.nan
    value, gradient = backward(
        losses.create("ce", reduction=reduction), logits, target, weight=torch.tensor([1.0, 0.0, 3.0])
    )
    picked = -clean.log_softmax(1)[[0, 2], [1, 3]]
    items = torch.stack([picked[0], picked[0] * 0, 3 * picked[1]])
    torch.testing.assert_close(value, {"mean": items.sum() / 4, "sum": items.sum(), "none": items}[reduction])
    assert not gradient[1].any()
    assert gradient[[0, 2]].any(1).all()


@pytest.mark.parametrize("parameters", [{}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3, 4]}], ids=str)
def test_a_target_that_is_zero_receives_its_gradient(parameters: dict[str, Any]) -> None:
    """As a straight-through one-hot target needs it: the loss is linear in the target, at 0 too."""
    logits, target = torch.randn(3, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[:3].requires_grad_()
    weights = torch.tensor(parameters.get("class_weight", [1, 1, 1, 1]), dtype=torch.float64)
    expected = F.cross_entropy(logits, target, weights, label_smoothing=parameters.get("label_smoothing", 0.0))
    (wanted,) = torch.autograd.grad(expected, target)
    (found,) = torch.autograd.grad(losses.create("ce", **parameters)(logits, target), target)
    torch.testing.assert_close(found, wanted)


def test_weights_multiply_with_class_weights_in_numerator_and_denominator() -> None:
    logits, target = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    weight, per_class = (
        torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),
    )
    each = -logits.log_softmax(1)[range(4), target]
    both = weight * per_class[target]
    value = losses.create("ce", class_weight=per_class)(logits, target, weight=weight)
    torch.testing.assert_close(value, (both * each).sum() / both.sum())


def test_one_weight_per_sample_covers_all_its_positions() -> None:
    logits, target = torch.randn(2, 3, 5, dtype=torch.float64), torch.randint(3, (2, 5))
    each = F.cross_entropy(logits, target, reduction="none")
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    value = losses.create("ce")(logits, target, weight=weight)
    torch.testing.assert_close(value, (each * weight[:, None]).sum() / (5 * weight.sum()))


def test_half_batches_over_the_number_of_tokens_give_the_whole_gradient() -> None:
    logits, target = torch.randn(6, 4, 3, dtype=torch.float64), torch.randint(4, (6, 3))
    target[0] = -100
    counted = (target != -100).sum()
    _, whole = backward(losses.create("ce"), logits, target)
    halves = [
        backward(losses.create("ce"), logits[part], target[part], normalizer=counted)[1]
        for part in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize(
    "number", [[0.1, 0.3, 0.7], torch.tensor([0.1, 0.3, 0.7], dtype=torch.float64)], ids=["list", "tensor"]
)
def test_class_weights_are_as_exact_as_double_precision_logits(number: Any) -> None:
    logits, target = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    value = losses.create("cross_entropy", class_weight=number, reduction="sum")(logits, target)
    expected = F.cross_entropy(logits, target, torch.tensor([0.1, 0.3, 0.7], dtype=torch.float64), reduction="sum")
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("logits", "target", "words"),
    [
        (torch.randn(3, 4), torch.tensor([0, 4, 1]), ["class 4", "4 classes", "0 to 3"]),
        (torch.randn(3, 4), torch.tensor([0, -1, 1]), ["class -1", "ignore_index=-100"]),
        (torch.randn(3, 4), torch.tensor([[0], [1], [2]]), ["(3, 4)", "(3, 1)", "squeeze"]),
        (torch.randn(3, 4), torch.tensor([0, 1]), ["(3, 4)", "(3,)", "(2,)"]),
        (torch.randn(3, 4), torch.tensor([0.0, 1.0, 2.0]), ["(3, 4)", "(3,)", "target.long()"]),
        (torch.randn(3, 4), torch.eye(4)[:3].long(), ["one-hot", "argmax"]),
        (torch.randn(3, 4), torch.full((3, 4), 0.5), ["sum to 1", "2"]),
        (torch.randn(3, 4), torch.tensor([[2.0, -1, 0, 0]]).expand(3, 4), ["[0, 1]", "2"]),
        (torch.randn(3, 4).softmax(1), torch.tensor([0, 1, 2]), ["softmax"]),
        (torch.tensor([[0.0, torch.nan]]), torch.tensor([0]), ["logits", "NaN", "1 of 2"]),
        (torch.randn(4), torch.tensor(0), ["(N, C, ...)", "unsqueeze(0)"]),
        (torch.ones(3, 4, dtype=torch.long), torch.tensor([0, 1, 2]), ["logits", "floating point", "int64"]),
        (torch.randn(3, 4), None, ["target", "None"]),
        (Pairs(torch.randn(3, 4), torch.randn(3, 4)), torch.tensor([0, 1, 2]), ["cross_entropy", "Pairs"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(logits: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("cross_entropy")(logits, target)


def test_class_weight_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"class_weight holds 2 numbers.*3 classes"):
        losses.create("cross_entropy", class_weight=[1, 2])(torch.randn(2, 3), torch.tensor([0, 1]))


def test_weight_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3,\).*\(2,\)"):
        losses.create("cross_entropy")(torch.randn(2, 3), torch.tensor([0, 1]), weight=torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16, torch.bool], ids=str)
def test_indices_of_any_integer_type_are_classes(dtype: torch.dtype) -> None:
    logits, target = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(losses.create("ce")(logits, target.to(dtype)), F.cross_entropy(logits, target))


@pytest.mark.parametrize(
    "target", [torch.tensor([1]), torch.tensor([0]), torch.tensor([[0.2, 0.3, 0.5]])], ids=["other", "itself", "probs"]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_impossible_class_of_weight_zero_changes_nothing(
    target: torch.Tensor, smoothing: float, reduction: str
) -> None:
    logits = torch.tensor([[-math.inf, 0.0, 1.0]], requires_grad=True)
    loss = losses.create("cross_entropy", class_weight=[0, 1, 1], label_smoothing=smoothing, reduction=reduction)
    value = loss(logits, target)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("size", [0, 1, 12])
def test_compiled_the_plain_mean_is_the_same_whatever_is_ignored(size: int, ignored: str) -> None:
    target = torch.arange(size) % 3
    if ignored != "none":
        target[: size if ignored == "all" else size // 2] = -100
    loss, results = losses.CrossEntropyLoss(), []
    for called in (loss, torch.compile(loss, backend="eager")):
        logits = torch.randn(size, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = called(logits, target)
        results.append((value.detach(), torch.autograd.grad(value, logits)[0]))
    torch.testing.assert_close(*results)
    assert results[1][0].isfinite()
