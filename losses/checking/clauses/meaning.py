"""Clauses about what a loss means."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch

from losses.checking.case import (
    LARGE,
    OF_EMBEDDINGS,
    SIZE,
    TOGETHER,
    Broken,
    Case,
    NotApplicable,
    gradients_of,
    leaves_of,
    require_near,
    several_blocks,
)
from losses.checking.contract import clause
from losses.core.inputs import CLASS_INDICES, LINEAR_LOGITS, LOGITS, Batch
from losses.core.inputs.kind import TIES
from losses.core.outputs import LinearLogits, map_floating

WIDTH = 300  # dimensions or classes


@clause()
def gives_a_loss(case: Case) -> None:
    """called on a valid batch it returns a number, or items with reduction="none", that can be differentiated"""
    value = case.loss(*case.batch())
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        what = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise Broken(f"it returned {what}, expected a tensor of floating point")
    if value.ndim and getattr(case.loss, "reduction", "none") != "none":
        raise Broken(f"it returned a tensor of shape {tuple(value.shape)}, expected one number")
    if not value.requires_grad:
        raise Broken("what it returned has no graph, so nothing can be learned from it; compute it from the output")
    case.run(case.batch())


@clause()
def equals_its_oracle(case: Case) -> None:
    """value and gradient equal an independent oracle's, for batches and numbers of any size, as far as it has an answer
    and is finite"""
    if case.oracle is None:
        raise NotApplicable("no oracle was given")
    answered, why = False, Exception()
    usual = {f"{size} samples": case.batch(size, seed=size) for size in (SIZE, 1, 2, 33)}
    for name, batch in {**usual, **case.regimes()}.items():
        leaves, rebuild = leaves_of(batch.output)
        try:
            expected = case.oracle(rebuild(leaves), batch.target)
            others = gradients_of(expected, leaves)
        except Exception as error:  # a batch of one has no pairs, which an oracle may not know how to add up
            why = error
            continue
        answered = True
        if not all(bool(part.isfinite().all()) for part in (expected, *others)):
            continue  # an oracle is right, and need not be stable
        value, gradients = case.run(batch)
        tolerance = 1e-9 if name in usual else 1e-6
        require_near(f"value of {name}", value, expected, tolerance)
        for gradient, right in zip(gradients, others, strict=True):
            if name not in TIES:
                require_near(f"gradient of {name}", gradient, right, tolerance)
    if not answered:
        raise NotApplicable(f"the oracle has no answer to any batch that is drawn: {type(why).__name__}: {why}")


@clause()
def width_does_not_matter(case: Case) -> None:
    """of embeddings with hundreds of dimensions every one counts, and of hundreds of classes the index of each"""
    if case.kind in OF_EMBEDDINGS:
        output, target = case.batch()
        wide = map_floating(output, lambda tensor: tensor.detach() @ spread_over(WIDTH, tensor.shape[1]))
        for gradient in case.run(Batch(wide, target))[1]:
            reached = (gradient != 0).any(0)
            if bool(reached.any()) and not bool(reached.all()):
                first = int((~reached).nonzero()[0])
                raise Broken(f"with {WIDTH} dimensions dimension {first} has no gradient")
        return
    if case.kind not in (LOGITS, CLASS_INDICES, LINEAR_LOGITS):
        raise NotApplicable("it has neither embeddings nor class indices")
    logits: Any = torch.linspace(-1, 1, WIDTH, dtype=torch.float64).repeat(2, 1)
    if case.kind is LINEAR_LOGITS:
        logits = LinearLogits(torch.ones_like(logits[:, :1]), logits[0].unsqueeze(1), None)
    results = {}
    for index in (WIDTH - 1, WIDTH - 1 - 256, WIDTH - 1 - 128, WIDTH - 1 - 200):
        try:
            results[index] = case.run(Batch(logits, torch.tensor([index, 7])))[1][-1]
        except Exception as error:
            raise NotApplicable(f"it takes no {WIDTH} classes: {type(error).__name__}") from None
    for index, gradient in list(results.items())[1:]:
        if torch.allclose(gradient, results[WIDTH - 1], rtol=1e-9, atol=1e-15):
            raise Broken(f"of {WIDTH} classes, {WIDTH - 1} and {index} have the same gradient")


def spread_over(width: int, dimensions: int) -> torch.Tensor:
    """Return a random matrix that takes embeddings to more dimensions."""
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(dimensions, width, generator=generator, dtype=torch.float64)
    return matrix / math.sqrt(width)


@clause()
def keeps_its_laws(case: Case) -> None:
    """the loss has the properties that it declares"""
    laws = case.loss.spec.laws if case.keeps_the_call else ()
    if not laws:
        raise NotApplicable("it declares none")
    for law in laws:
        for seed in range(3):
            law.check(case.loss, case.batch(seed=seed))


@clause(of_the_call=True)
def definition_equals_fast_path(case: Case) -> None:
    """the total that is computed is the sum over items, the definition, and so is its gradient: for numbers of any
    size, at ties, in one block and in several"""
    sizes = {f"{size} samples": case.batch(size) for size in (1, 2, *([LARGE] * case.is_default))}
    for name, batch in {**case.regimes(), **sizes}.items():
        by_definition, expected = case.definition(batch)
        if not bool(by_definition.sum.isfinite().all()):
            continue  # which values are finite is a matter of the edges
        # six hundred samples take several blocks of usual size
        both = case.kind in TOGETHER and not name.endswith("samples")
        for where in ("", ", in several blocks")[: 1 + both]:
            with several_blocks() if where else nullcontext():
                total, gradients = case.total(batch)
                mean = case.with_reduction("mean")(*batch)
            what = f"with {name}{where}"
            require_near(f"sum {what}", total.sum.sum(), by_definition.sum)
            # a sum of several means has several denominators
            if not isinstance(total.denominator, torch.Tensor) or not total.denominator.ndim:
                require_near(f"mean {what}", total.mean(), by_definition.mean())
                require_near(f"mean that is returned {what}", mean, by_definition.mean())
            if name not in TIES:
                for gradient, other in zip(gradients, expected, strict=True):
                    require_near(f"gradient {what}", gradient, other, 1e-7)
