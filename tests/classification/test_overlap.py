"""What is peculiar to the Dice and Tversky losses: empty masks, full ones, what is almost certain, and bad masks."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses import ConfigError
from losses.ops.tiles.sizes import block_sizes
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
NAMES = ["dice", "tversky"]
CLASSES = {"form": "multiclass"}


@pytest.mark.parametrize("form", ["binary", "multiclass"])
def test_tversky_of_one_half_each_is_dice(form: str) -> None:
    logits = torch.randn(5, 3, 4, dtype=torch.float64)
    target = torch.randint(3, (5, 4)) if form == "multiclass" else torch.randint(2, (5, 3, 4))
    value, gradient = backward(losses.create("tversky", form=form), logits, target)
    expected, slope = backward(losses.create("dice", form=form), logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, slope)


def test_tversky_of_one_each_is_intersection_over_union() -> None:
    logits, target = torch.randn(5, 12, dtype=torch.float64), torch.randint(2, (5, 12))
    probs = logits.sigmoid()
    both = (probs * target).sum(1)
    expected = 1 - both / (probs.sum(1) + target.sum(1) - both)
    torch.testing.assert_close(losses.create("tversky", alpha=1, beta=1, reduction="none")(logits, target), expected)


def test_alpha_weighs_what_is_added_and_beta_what_is_missed() -> None:
    sure = torch.tensor([[100.0, 100.0, -100.0, -100.0]], dtype=torch.float64)
    for target, alpha, beta in ((torch.tensor([[1, 0, 0, 0]]), 3.0, 0.0), (torch.tensor([[1, 1, 1, 0]]), 0.0, 3.0)):
        value = losses.create("tversky", alpha=alpha, beta=beta)(sure, target)
        assert value.item() == pytest.approx(3 / (target.sum().clamp(max=2).item() + 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_mask_is_finite_whatever_is_predicted(name: str, dtype: torch.dtype) -> None:
    """1 as long as anything is predicted, and 0 if nothing is; in between, where float32 holds hardly a number."""
    empty = torch.zeros(2, 3)
    for logit, expected in ((0.0, 1), (1e4, 1), (-80.0, 1), (-1e4, 0)):
        value, gradient = backward(losses.create(name), torch.full((2, 3), logit, dtype=dtype), empty)
        assert value == expected
        assert gradient.abs().max() < 1e-6
    for logit in torch.linspace(-110, -80, 100):
        backward(losses.create(name), torch.full((2, 3), logit.item(), dtype=torch.float32), empty)


def test_smooth_makes_an_empty_mask_pull_and_an_empty_prediction_right() -> None:
    value, gradient = backward(losses.create("dice", smooth=1), torch.zeros(1, 4), torch.zeros(1, 4))
    assert value.item() == pytest.approx(1 - 1 / 3)
    assert (gradient > 0).all()
    value, _ = backward(losses.create("dice", smooth=1), torch.full((1, 4), -1e4), torch.zeros(1, 4))
    assert value == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_nowhere_costs_one_and_pulls_at_nothing(name: str) -> None:
    loss = losses.create(name, **CLASSES, reduction="none")
    logits = torch.randn(1, 3, 5, requires_grad=True)
    items = loss(logits, torch.tensor([[0, 1, 1, 0, 1]]))
    assert items[0, 2] == 1
    (gradient,) = torch.autograd.grad(items[0, 2], logits)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_ten_thousand_are_finite(name: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype=dtype)
    for target in (torch.zeros(2, 3), torch.ones(2, 3), torch.eye(2, 3)):
        for reduction in ("mean", "none"):
            backward(losses.create(name, reduction=reduction), logits, target)
    for labels in (torch.tensor([0, 2]), torch.tensor([1, 1])):
        backward(losses.create(name, **CLASSES), logits, labels)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_right_costs_nothing_and_what_is_wrong_everything(name: str) -> None:
    mask = torch.tensor([[1, 0, 1]])
    assert losses.create(name)((mask * 2 - 1) * 1e4, mask) == 0
    assert losses.create(name)((1 - mask * 2) * 1e4, mask) == 1


@pytest.mark.parametrize("form", ["binary", "multiclass"])
def test_what_is_almost_certain_keeps_its_digits(form: str) -> None:
    """Of two places one is missed by e^-30, the other added by as much: one less a coefficient would have no digits."""
    logits, target = torch.tensor([[30.0, -30.0]], dtype=torch.float64), torch.tensor([[1, 0]])
    if form == "multiclass":
        logits = torch.stack([torch.zeros_like(logits), logits], 1)
    for name in NAMES:
        items = losses.create(name, form=form, reduction="none")(logits, target)
        torch.testing.assert_close(items, torch.full_like(items, math.exp(-30)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 2, 2), (3, 0)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_is_zero_with_a_graph(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    value, gradient = backward(losses.create(name), torch.zeros(shape, dtype=dtype), torch.zeros(shape))
    assert value == 0
    assert gradient.shape == shape
    logits = torch.zeros(shape[0], 2, *shape[1:], dtype=dtype)
    value, gradient = backward(losses.create(name, **CLASSES), logits, torch.zeros(shape).long())
    assert value == 0
    assert gradient.shape == logits.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_a_sample_whatever_it_holds(name: str, reduction: str) -> None:
    logits, target = torch.zeros(3, 4), torch.tensor([[1.0, 0, 0, 0], [7.0, math.nan, 0, 1], [1.0, 1, 0, 0]])
    logits[1] = math.nan
    value, gradient = backward(losses.create(name, reduction=reduction), logits, target, weight=torch.tensor([2, 0, 1]))
    first, last = 1 - 1 / 3, 1 - 2 / 4
    expected = {"mean": (2 * first + last) / 3, "sum": 2 * first + last, "none": [2 * first, 0, last]}[reduction]
    torch.testing.assert_close(value, torch.tensor(expected))
    assert not gradient[1].any()


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_of_samples_or_of_their_classes(name: str) -> None:
    logits, target = torch.randn(3, 4, 6, dtype=torch.float64), torch.randint(4, (3, 6))
    items = losses.create(name, **CLASSES, reduction="none")(logits, target)
    loss = losses.create(name, **CLASSES)
    for weight in (torch.tensor([1.0, 0.0, 2.0]), torch.rand(3, 4), torch.tensor([0, 1, 1, 1]).expand(3, 4)):
        each = weight.double().reshape(3, -1).expand(3, 4)
        torch.testing.assert_close(loss(logits, target, weight=weight), (each * items).sum() / each.sum())
    with refused(["weight has shape (3, 6)", "the items have shape (3, 4)"]):
        loss(logits, target, weight=torch.ones(3, 6))
    with refused(["weight has shape (3, 2)", "the items have shape (3,)"]):
        losses.create(name)(torch.randn(3, 2), torch.ones(3, 2), weight=torch.ones(3, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("parameters", "logits", "target", "words"),
    [
        ({}, torch.randn(2, 3), torch.tensor([[0, 255, 0], [0, 0, 255]]), ["0 and 1", "255", "(2, 3)", "target > 0"]),
        ({}, torch.randn(2, 2), torch.tensor([[0, 0.25], [1, 0]]), ["0 and 1", "got 0.25", "target > 0.5"]),
        ({}, torch.randn(2, 2), torch.tensor([[0, -1], [1, 0]]), ["0 and 1", "got -1"]),
        ({}, torch.randn(2, 1, 3), torch.ones(2, 3), ["(2, 1, 3)", "(2, 3)"]),
        ({}, torch.tensor(0.5), torch.tensor(1.0), ["(N, ...)", "logits.unsqueeze(0)"]),
        ({}, torch.tensor([[math.nan]]), torch.ones(1, 1), ["NaN"]),
        (CLASSES, torch.randn(2, 3, 4), torch.rand(2, 3, 4), ["class indices", "(2, 4)", "target.argmax(1)"]),
        (CLASSES, torch.randn(2, 3, 4), torch.full((2, 4), 3), ["class 3", "3 classes", "0 to 2"]),
        (CLASSES, torch.randn(2, 3, 4).softmax(1), torch.ones(2, 4).long(), ["look like probabilities", "softmax"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    name: str, parameters: dict[str, Any], logits: Any, target: Any, words: list[str]
) -> None:
    with refused(words):
        losses.create(name, **parameters)(logits, target)


def test_logits_that_went_through_a_sigmoid_raise_a_warning() -> None:
    with pytest.warns(UserWarning, match="sigmoid"):
        losses.create("dice")(torch.randn(8, 8).sigmoid(), torch.ones(8, 8))


def test_tversky_without_any_weight_is_refused() -> None:
    with refused(["alpha: got 0 beside beta=0"], ConfigError):
        losses.create("tversky", alpha=0, beta=0)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 6),
    places=st.integers(1, 9),
    errors=st.sampled_from([(0.5, 0.5), (0.3, 0.7), (0.9, 0.1), (0.0, 1.0), (3.0, 1.0), (1.0, 0.0), (2.0, 0.01)]),
    spread=st.sampled_from([0.1, 1.0, 10.0, 300.0]),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
    fewest=st.sampled_from([0, 1 << 17]),
)
def test_every_way_to_a_mean_is_the_definition(
    size: int, places: int, errors: tuple[float, float], spread: float, seed: int, weighted: bool, fewest: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, places, generator=generator, dtype=torch.float64)
    target = torch.rand(size, places, generator=generator) > 0.6
    alpha, beta = errors
    loss = losses.create("tversky", alpha=alpha, beta=beta)
    weight = torch.arange(size) % 3 + 0.5
    items, gradients = backward(losses.create("tversky", alpha=alpha, beta=beta, reduction="none"), logits, target)
    options = {"weight": weight} if weighted else {}
    factors = (weight if weighted else torch.ones(size)).double()
    factors /= factors.sum()
    with block_sizes(in_blocks=fewest, strip=8):
        value, gradient = backward(loss, logits, target, **options)
    torch.testing.assert_close(value, (factors * items).sum(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, factors.unsqueeze(1) * gradients, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"weight": torch.tensor([1.0, 0.0, 2.0])}], ids=["plain", "weighted"])
def test_a_gradient_of_many_places_can_be_had_again_and_differentiated(options: dict[str, Any]) -> None:
    logits, target = torch.randn(3, 7, dtype=torch.float64, requires_grad=True), torch.rand(3, 7) > 0.5
    loss = losses.create("dice", smooth=0.5)
    with block_sizes(in_blocks=0, strip=8):
        assert torch.autograd.gradcheck(lambda z: loss(z, target, **options), logits)
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target, **options), logits)
        value = loss(logits, target, **options)
        first = torch.autograd.grad(value, logits, retain_graph=True)[0].clone()
        torch.testing.assert_close(torch.autograd.grad(3 * value, logits)[0], 3 * first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 3])
def test_samples_larger_than_a_block_are_summed_in_pieces(name: str, size: int) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(size, 5, 7, generator=random, dtype=torch.float64)
    target = (torch.rand(size, 5, 7, generator=random) > 0.6).double()
    loss = losses.create(name)
    with block_sizes(block=8, in_blocks=1):
        value, gradient = backward(loss, logits, target)
    leaf = logits.clone().requires_grad_()
    expected = loss.items(leaf, target).mean()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, leaf)[0], rtol=1e-12, atol=1e-12)
