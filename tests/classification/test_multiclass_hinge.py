"""What is peculiar to the hinge loss of several classes: its two forms, ties, and a single class."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses.classification.multiclass_hinge import multiclass_hinge
from losses.ops.tiles.sizes import block_sizes
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMS = ["crammer_singer", "weston_watkins"]


def test_crammer_singer_is_scikit_learns_hinge_loss_weights_included() -> None:
    scores, target, weight = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 4, torch.rand(30)
    expected = sklearn.metrics.hinge_loss(target.numpy(), scores.numpy(), sample_weight=weight.numpy())
    value = losses.create("multiclass_hinge")(scores, target, weight=weight)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-7)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_weston_watkins_is_torchs_multi_margin_loss_times_the_classes(power: int, margin: float) -> None:
    scores, target = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 4
    loss = losses.create("multiclass_hinge", form="weston_watkins", power=power, margin=margin)
    value, gradient = backward(loss, scores, target)
    leaf = scores.clone().requires_grad_()
    expected = 4 * F.multi_margin_loss(leaf, target, p=power, margin=margin)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, leaf)[0])


@pytest.mark.parametrize("power", [1, 2])
def test_of_two_classes_both_are_the_hinge_of_the_difference(power: int) -> None:
    scores, target = torch.randn(20, 2, dtype=torch.float64), torch.arange(20) % 2
    expected = losses.create("hinge", power=power)(scores[:, 1] - scores[:, 0], target)
    for form in FORMS:
        torch.testing.assert_close(losses.create("multiclass_hinge", form=form, power=power)(scores, target), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2])
def test_a_lead_of_more_than_the_margin_costs_nothing(form: str, power: int) -> None:
    loss = losses.create("multiclass_hinge", form=form, power=power)
    value, gradient = backward(loss, torch.tensor([[3.0, 1.5, -2.0]]), torch.tensor([0]))
    assert value == 0
    assert not gradient.any()


def test_rivals_that_are_equally_good_share_the_gradient() -> None:
    value, gradient = backward(losses.create("multiclass_hinge"), torch.zeros(1, 3), torch.tensor([0]))
    assert value == 1
    assert gradient.tolist() == [[-1, 0.5, 0.5]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_class_costs_nothing(form: str, power: int, dtype: torch.dtype) -> None:
    loss = losses.create("multiclass_hinge", form=form, power=power)
    value, gradient = backward(loss, torch.randn(3, 1).to(dtype), torch.zeros(3, dtype=torch.long))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_of_ten_thousand_are_finite(form: str, power: int, dtype: torch.dtype) -> None:
    scores = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4]], dtype=dtype)
    for target in (torch.tensor([0, 1, 2]), torch.tensor([1, 0, 0])):
        backward(losses.create("multiclass_hinge", form=form, power=power), scores, target)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_is_zero_with_a_graph(form: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    scores = torch.zeros(shape[0], 3, *shape[1:], dtype=dtype)
    value, gradient = backward(losses.create("multiclass_hinge", form=form), scores, torch.zeros(shape).long())
    assert value == 0
    assert gradient.shape == scores.shape


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_and_classes_that_do_not_exist(form: str, reduction: str) -> None:
    scores, target = torch.tensor([[0.5, 0.0], [torch.nan, 1.0], [0.0, 0.25]]), torch.tensor([0, 9, 1])
    loss = losses.create("multiclass_hinge", form=form, reduction=reduction)
    value, gradient = backward(loss, scores, target, weight=torch.tensor([2.0, 0.0, 2.0]))
    assert value.tolist() == {"mean": 0.625, "sum": 2.5, "none": [1.0, 0.0, 1.5]}[reduction]
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("scores", "target", "words"),
    [
        (torch.randn(4, 3), torch.eye(4, 3), ["class indices", "target.argmax(1)"]),
        (torch.randn(4, 3), torch.tensor([0, 1, 2, -100]), ["class -100", "3 classes", "0 to 2"]),
        (torch.randn(4, 3), torch.tensor([0, 1]), ["(4, 3)", "(4,)", "(2,)", "one index per position"]),
        (torch.ones(4, 3).long(), torch.tensor([0, 1, 2, 0]), ["floating point", ".float()"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(scores: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("multiclass_hinge")(scores, target)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 30),
    classes=st.integers(1, 6),
    places=st.integers(0, 3),
    power=st.sampled_from([1, 2]),
    weighted=st.booleans(),
    blocks=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_weston_watkins_by_rows_and_by_torchs_function_equals_the_definition(
    size: int, classes: int, places: int, power: Any, weighted: bool, blocks: bool, seed: int
) -> None:
    """Value, gradient for several losses at once and second derivative; what has weight 0 is NaN."""
    random = torch.Generator().manual_seed(seed)
    shape = (places,) if places else ()
    scores = torch.randn(size, classes, *shape, generator=random, dtype=torch.float64)
    target = torch.randint(classes, (size, *shape), generator=random)
    loss = losses.create("multiclass_hinge", form="weston_watkins", power=power, margin=0.7)
    weight = (torch.arange(size) % 3).double() if weighted else None
    mine, other = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    hidden = mine if weight is None else mine.masked_fill((weight == 0).reshape(-1, *[1] * (mine.ndim - 1)), torch.nan)
    with block_sizes(rows_in_blocks=1 if blocks else 1 << 14, row_elements=16):
        value = loss(hidden, target, weight=weight)
    items = multiclass_hinge(other, target, margin=0.7, power=power, form="weston_watkins").flatten(1 if places else 0)
    by_sample = items.sum(1) if places else items
    of_samples = torch.ones(size).double() if weight is None else weight
    expected = (by_sample * of_samples).sum() / (of_samples.sum() * max(1, places)).clamp(min=1)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    found = []
    for part, leaf in ((value, mine), (expected, other)):
        (gradient,) = torch.autograd.grad(part, leaf, create_graph=True)
        above = torch.tensor([1.0, -2.0], dtype=torch.float64)
        (several,) = torch.autograd.grad(part, leaf, above, retain_graph=True, is_grads_batched=True)
        (once,) = torch.autograd.grad(part, leaf, retain_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), leaf, allow_unused=True, materialize_grads=True)
        found.append([gradient.detach(), several, once, second])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_nan_is_not_hidden_by_torchs_function() -> None:
    scores = torch.tensor([[0.0, 1.0], [torch.nan, 1.0]], requires_grad=True)
    loss = losses.create("multiclass_hinge", form="weston_watkins")
    loss(torch.zeros(2, 2), torch.tensor([0, 1]))  # of which the first is looked at
    assert loss(scores, torch.tensor([0, 1])).isnan()
