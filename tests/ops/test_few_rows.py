"""Means of a few rows that are taken as they are, in NumPy or in few operations, equal the definition."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

import losses
from losses import Loss
from losses.core.reduction import Total
from losses.ops.tiles.sizes import block_sizes

Made = tuple[Tensor, Tensor]


def rows(count: int, classes: int, random: torch.Generator) -> Tensor:
    return torch.randn(count, classes, generator=random, dtype=torch.float64).requires_grad_()


def indices(count: int, classes: int, random: torch.Generator) -> Made:
    return rows(count, classes, random), torch.randint(classes, (count,), generator=random)


def ordered(count: int, classes: int, random: torch.Generator) -> Made:
    return rows(count, classes, random), torch.randint(classes + 1, (count,), generator=random)


def probabilities(count: int, classes: int, random: torch.Generator) -> Made:
    return rows(count, classes, random), rows(count, classes, random).detach().softmax(1)


def samples(count: int, classes: int, random: torch.Generator) -> Made:
    return rows(count, classes, random), rows(count, classes, random).detach()


def counts(count: int, classes: int, random: torch.Generator) -> Made:
    return rows(count, classes, random), rows(count, classes, random).detach().abs().round()


CASES: dict[str, tuple[Callable[[int], Loss], Callable[[int, int, torch.Generator], Made]]] = {
    "ce": (lambda classes: losses.CrossEntropyLoss(), indices),
    "ce, class weights": (lambda classes: losses.CrossEntropyLoss(class_weight=weights_of(classes)), indices),
    "ce, smoothed": (lambda classes: losses.CrossEntropyLoss(label_smoothing=0.1, z_loss=0.01), indices),
    "focal": (lambda classes: losses.FocalLoss(form="multiclass"), indices),
    "focal, alpha": (
        lambda classes: losses.FocalLoss(form="multiclass", gamma=0.5, alpha=weights_of(classes)),
        indices,
    ),
    "gce": (lambda classes: losses.GeneralizedCrossEntropyLoss(), indices),
    "gce, q = 0": (lambda classes: losses.GeneralizedCrossEntropyLoss(q=0), indices),
    "ordinal": (lambda classes: losses.OrdinalLoss(), ordered),
    "kl": (lambda classes: losses.KLDivergenceLoss(), probabilities),
    "wasserstein": (lambda classes: losses.WassersteinLoss(), samples),
    "mse": (lambda classes: losses.MSELoss(), samples),
    "poisson_nll": (lambda classes: losses.PoissonNLLLoss(), counts),
}


def weights_of(classes: int) -> list[float]:
    return [0.5 + label % 3 for label in range(classes)]


def means(loss: Loss, output: Tensor, target: Tensor, weight: Tensor | None) -> list[Tensor]:
    """Return the mean of the first call, which is looked at, of a later one, and of one in the smallest blocks."""
    found = [loss(output, target, weight=weight) for _ in range(2)]
    with block_sizes(in_arrays=0):
        return [*found, loss(output, target, weight=weight)]


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=15)
@given(
    count=st.integers(1, 40),
    classes=st.integers(2, 40),
    weighted=st.sampled_from(["no", "some", "with 0"]),
    seed=st.integers(0, 999),
)
def test_every_way_equals_the_definition(name: str, count: int, classes: int, weighted: str, seed: int) -> None:
    make, draw = CASES[name]
    random, loss = torch.Generator().manual_seed(seed), make(classes)
    output, target = draw(count, classes, random)
    weight = None if weighted == "no" else torch.rand(count, generator=random, dtype=torch.float64) + 0.1
    if weight is not None and weighted == "with 0" and count > 1:
        weight[0] = 0
    batch: Any = loss.inputs[-1 if isinstance(loss, losses.FocalLoss) else 0].accept(loss, output, target)
    total: Total = loss.definition_total(*batch, weight)
    expected = total.mean()
    (right,) = torch.autograd.grad(-2.5 * expected, output)
    for value in means(loss, output, target, weight):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(-2.5 * value, output)[0], right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["focal", "focal, alpha", "gce", "wasserstein"])
def test_up_to_8192_numbers_are_computed_in_numpy(name: str, weighted: bool) -> None:
    make, draw = CASES[name]
    for count, few in ((1024, True), (1025, False)):
        output, target = draw(count, 8, torch.Generator().manual_seed(0))
        value = make(8)(output, target, weight=torch.ones(count).double() if weighted else None)
        assert value.grad_fn is not None and ("Written" in value.grad_fn.name()) == few


@pytest.mark.parametrize("name", CASES)
def test_they_can_be_differentiated_again(name: str) -> None:
    make, draw = CASES[name]
    random, loss = torch.Generator().manual_seed(3), make(4)
    output, target = draw(3, 4, random)
    loss(output, target)
    for weight in (None, torch.tensor([1.0, 0.5, 2.0]).double()):
        assert torch.autograd.gradcheck(lambda output: loss(output, target, weight=weight), output)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda output: loss(output, target, weight=weight), output)  # noqa: B023


@pytest.mark.parametrize("name", CASES)
def test_forward_mode_differentiates_by_output_and_weight(name: str) -> None:
    make, draw = CASES[name]
    random, loss = torch.Generator().manual_seed(3), make(4)
    output, target = draw(5, 4, random)
    weight = torch.tensor([1.0, 0.5, 0.25, 2.0, 1.0]).double()
    loss(output, target)
    moves = torch.randn(5, 4, generator=random).double(), torch.randn(5, generator=random).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch, about what it does itself
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip((output.detach(), weight), moves, strict=True)]
            tangent = forward_ad.unpack_dual(loss(duals[0], target, weight=duals[1])).tangent
    (_, slope) = torch.func.jvp(lambda *both: loss(both[0], target, weight=both[1]), (output.detach(), weight), moves)
    leaves = output, weight.clone().requires_grad_()
    gradients = torch.autograd.grad(loss(leaves[0], target, weight=leaves[1]), leaves)
    right = sum((gradient * move).sum() for gradient, move in zip(gradients, moves, strict=True))
    torch.testing.assert_close(slope, right)
    torch.testing.assert_close(tangent, right)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", CASES)
def test_what_has_weight_0_is_hidden_from_the_second_call_on(name: str, bad: float) -> None:
    make, draw = CASES[name]
    random, loss = torch.Generator().manual_seed(3), make(4)
    output, target = draw(5, 4, random)
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0]).double()
    expected = loss(output, target, weight=weight)
    (right,) = torch.autograd.grad(expected, output)
    spoiled = output.detach().index_fill(0, torch.tensor(2), bad).requires_grad_()
    target = target.index_fill(0, torch.tensor(2), -5 if draw in (indices, ordered) else 3)
    value = loss(spoiled, target, weight=weight)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, spoiled)[0], right)


@pytest.mark.parametrize("name", ["ce", "ce, class weights", "ce, smoothed", "focal", "gce"])
@pytest.mark.parametrize("ignored", [[0], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_ignored_does_not_count(name: str, ignored: list[int], weighted: bool) -> None:
    loss = CASES[name][0](4)
    output, target = indices(5, 4, torch.Generator().manual_seed(1))
    weight = torch.arange(1.0, 6).double() if weighted else None
    loss(output, target, weight=weight)
    target[ignored] = -100
    total = loss.definition_total(output, target, weight)
    value = loss(output, target, weight=weight)
    torch.testing.assert_close(value, total.mean())
    (slopes,) = torch.autograd.grad(value, output)
    assert not slopes[ignored].any()
    if len(ignored) == 5:
        assert value == 0


@pytest.mark.parametrize("smallest", [0.0, 1e-45, 1e-39])
def test_classes_that_weigh_nothing_or_next_to_nothing_may_be_all_there_is(smallest: float) -> None:
    loss = losses.CrossEntropyLoss(class_weight=[smallest, 1.0])
    logits = torch.randn(4, 2, requires_grad=True)
    for target in (torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 0, 0])):
        value = loss(logits, target)
        expected = loss.definition_total(logits, target, None).mean()
        torch.testing.assert_close(value, expected)
        assert torch.autograd.grad(value, logits)[0].isfinite().all()
