"""Values of rows of linear logits ``features @ weight.T + bias``, a chunk of rows at a time: all of them never exist.

A head of 32,768 classes makes 128 KiB of logits of a sample that is 1 KiB of features, and a plain composition keeps
three such matrices. A chunk is multiplied, looked at by a :class:`RowFormula`, which leaves its derivative in the same
memory, and multiplied again, into the gradients of features, weight and bias. A sum is asked for its gradient with a
known slope for every row, so that is had on the way forward, in the three products that a plain composition makes;
unreduced values learn of their slopes in the backward pass, and their logits are made once more.

``torch.nn.functional.linear_cross_entropy`` in chunks is as fast and takes a third more memory, but it knows neither
z-loss, weights of samples nor second derivatives, and overwrites what a second backward pass would need.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.device import on_cpu
from losses.core.outputs import LinearLogits
from losses.core.precision import accumulated
from losses.core.reduction import expanded, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import chained, is_asked_again, plain_gradients
from losses.ops.eager import is_eager
from losses.ops.elementwise.rows import Buffers, RowBlock, RowFormula, derived_by_definition, values_by_definition
from losses.ops.tiles.sizes import sizes
from losses.ops.tiles.whole_batch import normalised

Wanted = tuple[bool, bool, bool]
"""Whether the gradients of features, weight and bias are."""
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class Chunk(NamedTuple):
    """Some rows of a batch and their products with the weight ``(B, C)``: logits but for the bias."""

    rows: slice
    products: Tensor


def has_chunks(linear: LinearLogits, *others: Tensor | None) -> bool:
    """Return whether linear logits are made in chunks: there are many, nobody traces, and a gradient is wanted by
    features, weight and bias alone."""
    features, weight, _ = linear
    least = sizes().linear_in_chunks if on_cpu(features) else sizes().linear_in_chunks_on_accelerator
    if is_compiling() or features.numel() * weight.shape[0] < least * weight.shape[1]:
        return False
    return is_eager(*linear, *others) and not any(other is not None and other.requires_grad for other in others)


def in_rows(
    linear: LinearLogits, target: Tensor, weight: Tensor | None = None
) -> tuple[LinearLogits, Tensor, Tensor | None]:
    """Return features ``(P, D)`` of all positions, a target ``(P,)`` or ``(P, C)`` and a weight ``(P,)``."""
    by_row = None if weight is None else expanded(weight, linear.positions).reshape(-1)
    if linear.features.ndim == 2:
        return linear, target, by_row
    last = int(target.dtype.is_floating_point)
    rows = linear._replace(features=linear.features.flatten(0, -2))
    return rows, target.reshape(-1, *target.shape[target.ndim - last :]), by_row


def counted_rows(
    counts: Tensor, linear: LinearLogits, target: Tensor, weight: Tensor | None
) -> tuple[LinearLogits, Tensor, Tensor | None]:
    """Return the rows that count, of features, target and weight."""
    if bool(counts.all()):
        return linear, target, weight
    some = linear._replace(features=linear.features[counts])
    return some, target[counts], None if weight is None else weight[counts]


def sum_over_linear_rows(
    formula: RowFormula, linear: LinearLogits, weight: Tensor | None = None, *, divisor: float | None = None
) -> Tensor:
    """Return the sum of a formula over rows of linear logits, differentiable by features, weight and bias.

    Args:
        formula: of a row of logits ``(N, C, 1)``.
        linear: with features ``(N, D)``.
        weight: of every row ``(N,)``.
        divisor: the sum is divided by it already where the gradient is written; 0 makes 0 of it.
    """
    slopes, factor = linear.features.new_ones(len(linear.features)), None
    if weight is not None:
        relative, factor = normalised(weight)
        assert relative is not None  # as the weights
        slopes = relative
    elif divisor is not None:
        slopes = slopes / divisor if divisor >= torch.finfo(slopes.dtype).tiny else slopes * 0
    total: Tensor = LinearSum.apply(formula, wanted_of(linear), slopes, *linear)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return total if factor is None else total * factor


def values_of_linear_rows(formula: RowFormula, linear: LinearLogits) -> Tensor:
    """Return the values of a formula ``(N,)`` of rows of linear logits, differentiable likewise."""
    values: Tensor = LinearValues.apply(formula, *linear)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return values


class LinearSum(torch.autograd.Function):
    """A weighted sum over rows of linear logits; its gradient is had on the way."""

    @staticmethod
    def forward(ctx: Any, formula: RowFormula, wanted: Wanted, slopes: Tensor, *linear: Any) -> Tensor:
        values, gradients = over_chunks(formula, LinearLogits(*linear), slopes, wanted)
        ctx.formula = formula
        ctx.save_for_backward(slopes, *linear, *gradients)
        return accumulated(weighted(values, slopes)).sum().to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        slopes, *linear = ctx.saved_tensors[:4]
        if torch.is_grad_enabled():  # several at once can be had of what was saved
            return (
                None,
                None,
                None,
                *plain_gradients(partial(sum_by_definition, ctx.formula, slopes), gradient, *linear),
            )
        parts = (None if part is None else chained(gradient, part) for part in ctx.saved_tensors[4:])
        return None, None, None, *parts


class LinearValues(torch.autograd.Function):
    """Values of rows of linear logits, which are made again for the gradient."""

    @staticmethod
    def forward(ctx: Any, formula: RowFormula, *linear: Any) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(*linear)
        slopes = linear[0].new_ones(len(linear[0]))
        return over_chunks(formula, LinearLogits(*linear), slopes, (False, False, False))[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        linear = LinearLogits(*ctx.saved_tensors)
        if is_asked_again(gradient):
            return None, *plain_gradients(partial(values_by_composition, ctx.formula), gradient, *linear)
        return None, *over_chunks(ctx.formula, linear, gradient, tuple(ctx.needs_input_grad[1:]))[1]


def over_chunks(formula: RowFormula, linear: LinearLogits, slopes: Tensor, wanted: Wanted) -> tuple[Tensor, Gradients]:
    """Return the values of all rows ``(N,)``, and the gradients of their sum times ``slopes (N,)`` that are wanted."""
    features, weight, bias = linear
    values = features.new_empty(len(features))
    of_features, of_weight, of_bias = (
        torch.zeros_like(part) if wants and part is not None else None
        for part, wants in zip(linear, wanted, strict=True)
    )
    for chunk in chunks_of(features, weight):
        rows = chunk.rows
        values[rows], gradient = of_chunk(formula, chunk, bias, slopes, with_gradient=any(wanted))
        if of_features is not None:
            torch.mm(gradient, weight, out=of_features[rows])
        if of_weight is not None:
            of_weight.addmm_(gradient.mT, features[rows], beta=int(rows.start > 0))
        if of_bias is not None:
            of_bias += gradient.sum(0)
    return values, (of_features, of_weight, of_bias)


def chunks_of(features: Tensor, weight: Tensor) -> Iterator[Chunk]:
    """Yield the products of chunk after chunk, each in the memory of the one before."""
    size = sizes()
    least, elements = size.linear_rows, size.linear_chunk
    if not on_cpu(features):
        least, elements = size.linear_rows_on_accelerator, size.linear_chunk_on_accelerator
    step = max(least, elements // len(weight))
    memory = features.new_empty(min(step, len(features)), len(weight))
    for start in range(0, len(features), step):
        rows = slice(start, min(start + step, len(features)))
        yield Chunk(rows, torch.mm(features[rows], weight.mT, out=memory[: rows.stop - start]))


def of_chunk(
    formula: RowFormula, chunk: Chunk, bias: Tensor | None, slopes: Tensor, *, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return the values of a chunk's rows ``(B,)`` and, if it is wanted, their gradient ``(B, C)``; the products are
    overwritten."""
    rows, products = chunk
    if on_cpu(products):
        return values_in_blocks(formula, chunk, bias, slopes, with_gradient=with_gradient), products
    logits = (products if bias is None else products.add_(bias)).unsqueeze(-1)
    block = RowBlock((rows, slice(0, 1)), logits, None, Buffers(products, products.numel()))
    values, found = derived_by_definition(formula, block, slopes_of(block, slopes), wanted=with_gradient)
    return values.flatten(), found[0].squeeze(-1) if with_gradient else products


def values_in_blocks(
    formula: RowFormula, chunk: Chunk, bias: Tensor | None, slopes: Tensor, *, with_gradient: bool
) -> Tensor:
    """Return the values of a chunk's rows ``(B,)``; if it is wanted the gradient takes the place of the products."""
    rows, products = chunk
    step = len(products)
    if may_read(products):
        step = max(1, sizes().row_elements // (products.shape[1] * (1 + formula.buffers)))
    buffers = Buffers(products, min(step, len(products)) * products.shape[1])
    values = products.new_empty(len(products))
    for start in range(0, len(products), step):
        part = products[start : start + step]
        logits = buffers.get(-1, part.shape) if with_gradient else part
        if bias is not None:
            torch.add(part, bias, out=logits)
        elif with_gradient:
            logits.copy_(part)
        place = slice(rows.start + start, rows.start + start + len(part)), slice(0, 1)
        gradient = part.unsqueeze(-1) if with_gradient else None
        block = RowBlock(place, logits.unsqueeze(-1), gradient, buffers)
        values[start : start + step] = values_of_block(formula, block, slopes).flatten()
    return values


def values_of_block(formula: RowFormula, block: RowBlock, slopes: Tensor) -> Tensor:
    """Return the values of a block's rows, and leave their gradient in it; by the definition where they are not finite,
    or cannot be read."""
    here = slopes_of(block, slopes)
    if may_read(block.scores):
        values = formula.values(block, here)
        if bool(values.sum().isfinite()):
            return values
    return values_by_definition(formula, block, here)


def slopes_of(block: RowBlock, slopes: Tensor) -> Tensor:
    """Return those of the slopes ``(N,)`` that belong to a block, beside it."""
    return block.of(slopes.reshape(-1, 1, 1))


def values_by_composition(formula: RowFormula, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the same values as a plain composition."""
    return formula.definition(F.linear(features, weight, bias).unsqueeze(-1), formula.target).squeeze(-1)


def sum_by_definition(
    formula: RowFormula, slopes: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    return weighted(values_by_composition(formula, features, weight, bias), slopes).sum()


def wanted_of(linear: LinearLogits) -> Wanted:
    """Return which gradients are wanted; inside of a Function they never are."""
    features, weight, bias = (torch.is_grad_enabled() and part is not None and part.requires_grad for part in linear)
    return features, weight, bias
