"""Clauses about derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from losses.checking.case import (
    LARGE,
    OF_EMBEDDINGS,
    TOGETHER,
    Case,
    NotApplicable,
    gradients_of,
    leaves_of,
    require_same,
    several_blocks,
)
from losses.checking.contract import clause
from losses.checking.slopes import require_between_slopes
from losses.core.checks import checks
from losses.core.inputs import DISTRIBUTIONS, TRANSPORT, Batch
from losses.core.inputs.kind import TIES
from losses.core.loss import Loss
from losses.core.outputs import tensors_in

ON_SIMPLEX = (DISTRIBUTIONS, TRANSPORT)
"""Kinds whose numbers may be probabilities, which have to stay above 0."""
STEP = 1e-5
"""Length of a finite difference of the second order."""


@clause()
def first_derivative(case: Case) -> None:
    """gradients equal finite differences"""
    differentiate(case, torch.autograd.gradcheck, 2)


@clause()
def gradient_everywhere(case: Case) -> None:
    """for numbers of any size, at ties and in batches of hundreds, the gradient lies between the slopes on both
    sides"""
    large = {f"{LARGE} samples": case.batch(LARGE)} if case.is_default else {}
    for name, batch in {**case.regimes(), **large}.items():
        if name in TIES and case.kind in (*OF_EMBEDDINGS, TRANSPORT):
            continue  # who is compared with whom is free there
        slopes_agree(case, name, batch)
    if case.kind in TOGETHER:
        with several_blocks():
            slopes_agree(case, "usual numbers, in several blocks", case.batch())


@clause()
def second_derivative(case: Case) -> None:
    """second derivatives equal finite differences, at ties too: create_graph=True is never silently wrong"""
    differentiate(case, torch.autograd.gradgradcheck, 1)
    if case.kind in OF_EMBEDDINGS or case.kind in ON_SIMPLEX:
        return  # where kinks of many items meet, or numbers are too small for a step
    for name, batch in case.regimes().items():
        leaves, rebuild = leaves_of(batch.output)
        generator = torch.Generator().manual_seed(1)
        ways = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]

        def along(
            tensors: Sequence[torch.Tensor], target: Any = batch.target, rebuild: Any = rebuild, ways: Any = ways
        ) -> torch.Tensor:
            tensors = [tensor if tensor.requires_grad else tensor.requires_grad_() for tensor in tensors]
            value = case.loss(rebuild(tensors), target).sum()
            gradients = torch.autograd.grad(value, tensors, create_graph=True, materialize_grads=True)
            products = [(gradient * way).sum() for gradient, way in zip(gradients, ways, strict=True)]
            return torch.stack(products).sum() + sum(0 * tensor.sum() for tensor in tensors)

        require_between_slopes(f"{name}, in the gradient", along, leaves, single=name in TIES, jumps=True)


@clause()
def forward_mode(case: Case) -> None:
    """forward-mode differentiation gives the directional derivative that backward gives"""
    batch = case.batch()
    leaves, rebuild = leaves_of(batch.output)
    gradients = torch.autograd.grad(case.loss(rebuild(leaves), batch.target).sum(), leaves, materialize_grads=True)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]
    with warnings.catch_warnings():
        # torch scripts rules of its own on first use
        warnings.filterwarnings("ignore", ".*torch.jit.script")
        with forward_ad.dual_level():
            # torch leaves both functions untyped
            duals = [forward_ad.make_dual(leaf.detach(), way) for leaf, way in zip(leaves, directions, strict=True)]  # type: ignore[no-untyped-call]  # torch leaves it untyped
            tangent = forward_ad.unpack_dual(case.loss(rebuild(duals), batch.target).sum()).tangent  # type: ignore[no-untyped-call]  # torch leaves it untyped
    products = [(gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True)]
    expected = torch.stack(products).sum()
    require_same("forward mode", torch.zeros_like(expected) if tangent is None else tangent, expected)


@clause()
def backward_twice(case: Case) -> None:
    """with retain_graph a second backward gives the same gradient, and a gradient of -3 at the output gives -3 times
    it"""
    leaves, rebuild = leaves_of(case.batch().output)
    value = case.loss(rebuild(leaves), case.batch().target)
    first = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
    scaled = torch.autograd.grad(value, leaves, grad_outputs=torch.full_like(value, -3), materialize_grads=True)
    for one, other, times in zip(first, second, scaled, strict=True):
        require_same("the second backward", other, one)
        require_same("grad_output of -3", times, -3 * one)


@clause()
def target_derivative(case: Case) -> None:
    """the gradient with respect to a target of real numbers equals finite differences: it is not detached without a
    word"""
    for seed in range(2):
        batch, other = case.batch(5, seed=seed), case.batch(5, seed=seed + 2)
        targets = tensors_in(batch.target)
        if not targets or not all(tensor.dtype.is_floating_point for tensor in targets):
            raise NotApplicable("its target is no real numbers")
        if all(bool((tensor == tensor.round()).all()) for tensor in targets):
            raise NotApplicable("its target is whole numbers, which mean a class")
        leaves, rebuild = leaves_of(batch.target)
        # towards another target: between two distributions lies one
        ways = [there.detach() - here.detach() for here, there in zip(targets, tensors_in(other.target), strict=True)]

        def value_at(
            step: float,
            batch: Batch = batch,
            rebuild: Callable[..., Any] = rebuild,
            start: Sequence[Tensor] = targets,
            ways: Sequence[Tensor] = ways,
        ) -> Tensor:
            moved = [tensor.detach() + step * way for tensor, way in zip(start, ways, strict=True)]
            value: Tensor = case.loss(batch.output, rebuild(moved)).sum()
            return value.detach()

        expected, of_output = case.run(batch)
        value, others = case.run(Batch(batch.output, rebuild(leaves)))
        require_same("value where the target requires grad", value, expected)
        for gradient, right in zip(others, of_output, strict=True):
            require_same("gradient by the output where the target requires grad", gradient, right)
        with checks("never"):  # between two targets of log-probabilities lies none
            gradients = gradients_of(case.loss(batch.output, rebuild(leaves)), leaves)
            slope = (4 * value_at(STEP) - 3 * value_at(0) - value_at(2 * STEP)) / (2 * STEP)
        along = torch.stack([(part * way).sum() for part, way in zip(gradients, ways, strict=True)]).sum()
        require_same("gradient by the target", along, slope, 1e-5)
        if case.keeps_the_call:
            weighted_target_derivative(case, Batch(batch.output, rebuild(leaves)), leaves)


def weighted_target_derivative(case: Case, batch: Batch, leaves: Sequence[Tensor]) -> None:
    """Raise :class:`Broken` unless with weights too the gradient by the target is that of the definition."""
    try:
        weight = case.weights(torch.linspace(0.5, 2, len(leaves[0]), dtype=torch.float64))
    except NotApplicable:
        return
    total = case.loss.total(*batch, weight=weight).sum.sum()
    by_definition = Loss.definition_total(case.loss, *case.kind.accept(case.loss, *batch), weight).sum.sum()
    for gradient, right in zip(gradients_of(total, leaves), gradients_of(by_definition, leaves), strict=True):
        require_same("gradient by the target, with weights", gradient, right)


def slopes_agree(case: Case, name: str, batch: Batch) -> None:
    """Raise :class:`Broken` unless the gradient of a batch lies between the slopes."""
    leaves, rebuild = leaves_of(batch.output)
    with checks("never"):  # steps leave the simplex that probabilities are checked to lie in
        require_between_slopes(
            name,
            lambda tensors: case.loss(rebuild(tensors), batch.target).sum(),
            leaves,
            single=name in TIES,
            in_place=case.kind in ON_SIMPLEX,
        )


def differentiate(case: Case, check: Callable[..., bool], batches: int) -> None:
    """Compare derivatives with finite differences on some batches."""
    for seed in range(batches):
        batch = case.batch(5, seed=seed)
        leaves, rebuild = leaves_of(batch.output)

        def value(
            *tensors: torch.Tensor, batch: object = batch.target, rebuild: Callable[..., object] = rebuild
        ) -> torch.Tensor:
            result: torch.Tensor = case.loss(rebuild(tensors), batch)
            return result

        with checks("never"):  # finite differences leave the simplex that probabilities are checked to lie in
            check(value, tuple(leaves), atol=1e-5)
