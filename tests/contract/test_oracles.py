"""Every loss against independent answers: value, gradient, reductions and second derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

import losses
from losses.core.registry import ALIASES, SPECS, find
from tests.gradients import gradients_of, tensors_in
from tests.oracles import ORACLES, OracleBatch, OracleCase, drawn

EXACT = {"rtol": 1e-9, "atol": 1e-9}
PACED = {"rtol": 1e-8, "atol": 1e-8}  # torch's softplus is the identity above 20, which is off by exp(-20) = 2e-9
DIFFERENCED = {"rtol": 1e-5, "atol": 1e-6}  # central differences with a step of 1e-5
SINGLE = {"rtol": 1e-4, "atol": 1e-5}  # 80 times the rounding of a similarity, for circle; the others are far below

CASES = [pytest.param(name, case, id=f"{name}-{case.id}") for name in ORACLES for case in ORACLES[name]]
EXPLICIT = [param for param in CASES if param.values[1].items is not None]
OF_TENSORS = [param for param in CASES if not param.values[1].draw(drawn(0)).leaves]
SMOOTH = [param for param in OF_TENSORS if not param.values[1].paced]
"""Not those of Distribution objects, whose tensors cannot be replaced."""
WEIGHTED = [
    param
    for param in EXPLICIT
    if param.values[1].value is None and SPECS[param.values[0]].family not in ("metric", "objective")
]
"""Not the metric losses, whose weights are per anchor and are tested in tests/metric, nor objectives, whose totals are
vectors, nor means that are no mean of items."""


def leaves(batch: OracleBatch) -> list[Tensor]:
    return list(batch.leaves) or [tensor for tensor in tensors_in(tuple(batch)) if tensor.requires_grad]


def rebuilt(part: Any, replace: dict[int, Tensor]) -> Any:
    """Return a part of a batch with some tensors replaced."""
    if isinstance(part, Tensor):
        return replace.get(id(part), part)
    if isinstance(part, dict):
        return {key: rebuilt(value, replace) for key, value in part.items()}
    if isinstance(part, tuple):
        make: Any = type(part) if hasattr(part, "_fields") else lambda *parts: parts
        return make(*(rebuilt(inner, replace) for inner in part))
    return part


def differences(case: OracleCase, batch: OracleBatch, inputs: list[Tensor], step: float = 1e-5) -> list[Tensor]:
    """Return the central differences of an answer that autograd cannot see through."""
    slopes = []
    for tensor in inputs:
        slope = torch.zeros_like(tensor)
        with torch.no_grad():
            for index in range(tensor.numel()):
                kept = tensor.view(-1)[index].item()
                values = []
                for shift in (step, -step):
                    tensor.view(-1)[index] = kept + shift
                    values.append(case.mean(batch))
                tensor.view(-1)[index] = kept
                slope.view(-1)[index] = (values[0] - values[1]) / (2 * step)
        slopes.append(slope)
    return slopes


def tolerance(case: OracleCase) -> dict[str, float]:
    return PACED if case.paced else EXACT


def along_simplex(gradient: Tensor) -> Tensor:
    return gradient - gradient.mean(-1, keepdim=True)


def test_every_loss_has_an_oracle() -> None:
    assert sorted(ORACLES) == losses.available()
    for name, cases in ORACLES.items():
        assert len({case.id for case in cases}) == len(cases) > 0, name


@pytest.mark.parametrize("name", losses.available())
def test_every_parameter_and_every_choice_of_it_has_an_oracle(name: str) -> None:
    for parameter in losses.describe(name).parameters:
        if parameter.name == "reduction":
            continue
        seen = [case.parameters.get(parameter.name, parameter.default) for case in ORACLES[name]]
        assert any(value != parameter.default for value in seen), f"no oracle changes {parameter.name}"
        for choice in choices(parameter.annotation):
            assert choice in seen, f"no oracle has {parameter.name}={choice!r}"


def choices(annotation: Any) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) is not None and not hasattr(annotation, "__metadata__"):
        for option in get_args(annotation):
            yield from choices(option)


@pytest.mark.parametrize("name", losses.available())
def test_every_kind_of_input_and_every_context_has_an_oracle(name: str) -> None:
    batches = [case.draw(drawn(0)) for case in ORACLES[name]]
    for kind in SPECS[name].inputs:
        claimed = [batch for batch in batches if kind.claims(batch.output)]
        assert claimed, kind
        for option in set(kind.context) - {"place"}:  # of parts, which a clause adds up and no caller passes
            assert any(option in batch.options for batch in claimed), option


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_the_same_loss(alias: str, name: str) -> None:
    batch = ORACLES[name][0].draw(drawn(0))
    expected = ORACLES[name][0].mean(batch)
    torch.testing.assert_close(
        losses.create(alias, **ORACLES[name][0].parameters)(*batch[:2], **batch.options), expected, **EXACT
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "case"), CASES)
def test_mean_and_its_gradient_equal_the_oracle(name: str, case: OracleCase, seed: int) -> None:
    batch = case.draw(drawn(seed))
    inputs = leaves(batch)
    value = find(name).instance(**case.parameters)(batch.output, batch.target, **batch.options)
    expected = case.mean(batch)
    torch.testing.assert_close(value, expected, **EXACT)
    found = gradients_of(value, inputs)
    wanted = gradients_of(expected, inputs) if case.differentiable else differences(case, batch, inputs)
    for ours, theirs in zip(found, wanted, strict=True):
        if case.tangent:
            ours, theirs = along_simplex(ours), along_simplex(theirs)
        torch.testing.assert_close(ours, theirs, **(tolerance(case) if case.differentiable else DIFFERENCED))


@pytest.mark.parametrize(("name", "case"), EXPLICIT)
def test_items_and_their_sum_equal_the_oracle(name: str, case: OracleCase) -> None:
    batch = case.draw(drawn(7))
    expected = case.unreduced(batch)
    items = find(name).instance(**case.parameters, reduction="none")(batch.output, batch.target, **batch.options)
    torch.testing.assert_close(items, expected, **EXACT)
    summed = find(name).instance(**case.parameters, reduction="sum")(batch.output, batch.target, **batch.options)
    torch.testing.assert_close(summed, expected.sum(), **EXACT)
    if case.differentiable and not case.tangent:
        slopes = torch.linspace(0.5, 1.5, expected.numel(), dtype=torch.float64).reshape(expected.shape)
        inputs = leaves(batch)
        for ours, theirs in zip(
            gradients_of((items * slopes).sum(), inputs), gradients_of((expected * slopes).sum(), inputs), strict=True
        ):
            torch.testing.assert_close(ours, theirs, **tolerance(case))


@pytest.mark.parametrize(("name", "case"), WEIGHTED)
def test_weighted_total_equals_the_weighted_oracle(name: str, case: OracleCase) -> None:
    batch = case.draw(drawn(8))
    items = case.unreduced(batch)
    weight = torch.rand(items.shape, generator=drawn(9), dtype=torch.float64)
    if weight.ndim:
        weight[0] = 0
    loss = find(name).instance(**case.parameters)
    total = loss.total(batch.output, batch.target, weight=weight, **batch.options)
    torch.testing.assert_close(total.sum, (weight * items).sum(), **EXACT)
    torch.testing.assert_close(torch.as_tensor(total.denominator, dtype=torch.float64), weight.sum(), **EXACT)
    fresh = find(name).instance(**case.parameters)
    value = fresh(batch.output, batch.target, weight=weight, **batch.options)
    torch.testing.assert_close(value, (weight * items).sum() / weight.sum(), **EXACT)


@pytest.mark.parametrize(("name", "case"), OF_TENSORS)
def test_single_precision_stays_close_to_the_oracle(name: str, case: OracleCase) -> None:
    batch = case.draw(drawn(1))
    single = {id(t): t.detach().float() for t in tensors_in(tuple(batch)) if t.is_floating_point()}
    exact = rebuilt(tuple(batch), {key: t.double() for key, t in single.items()})
    rounded = rebuilt(tuple(batch), single)
    value = find(name).instance(**case.parameters)(rounded[0], rounded[1], **rounded[2])
    assert value.dtype is torch.float32
    torch.testing.assert_close(value.double(), case.mean(OracleBatch(*exact)), **SINGLE)


@pytest.mark.parametrize(("name", "case"), SMOOTH)
def test_first_and_second_derivatives_equal_differences(name: str, case: OracleCase) -> None:
    batch = case.draw(drawn(2))
    inputs = leaves(batch)

    def value(*replacements: Tensor) -> Tensor:
        replace = {id(old): new for old, new in zip(inputs, replacements, strict=True)}
        output, target, options, _ = rebuilt(tuple(batch), replace)
        return find(name).instance(**case.parameters)(output, target, **options)

    fast = sum(tensor.numel() for tensor in inputs) > 30
    assert torch.autograd.gradcheck(value, inputs, fast_mode=fast)
    if value(*inputs).requires_grad:
        assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ORACLES)
def test_oracle_batches_are_finite_and_give_a_gradient(name: str) -> None:
    """A test of the tests: an oracle that is NaN, constant or without gradient proves nothing."""
    for case in ORACLES[name]:
        values = []
        for seed in range(3):
            batch = case.draw(drawn(seed))
            assert all(tensor.isfinite().all() for tensor in tensors_in(tuple(batch)))
            value = case.mean(batch)
            values.append(value.item())
            assert math.isfinite(values[-1])
            if case.differentiable and case.id != "margin_zero":
                assert any(gradient.abs().sum() > 0 for gradient in gradients_of(value, leaves(batch))), case.id
        assert len(set(values)) == 3, case.id
