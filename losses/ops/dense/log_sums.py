"""Losses of small batches made from logarithms of sums of exponentials over the rows of a matrix of similarities.

Each equals the definition beside its class in :mod:`losses.metric`. What is not meant has a logit so low that its
exponential is 0; a row of nothing else has as low a sum, which costs nothing and has no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.numerics.log_space import exponentials_below, softplus

LOWEST = -1e30  # in place of -inf, which less itself is NaN


def dense_supervised_contrastive(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, temperature: float
) -> DenseSums:
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the
    number of anchors with a positive and something to tell it from."""
    log_probs = matrix.at_itself(matrix.values * matrix.number(1 / temperature), LOWEST).log_softmax(1)
    positives = positive.sum(1, keepdim=True)
    others = positive.shape[1] - matrix.itself
    counted = positives.clamp(max=1 if others > 1 else 0)
    each = counted if weight is None else counted * weight
    weights = positive * (each / positives.clamp_(min=1).neg_())
    sums = DenseSums((weights * log_probs).sum(), matrix.total(each))
    if not matrix.differentiable:
        return sums
    return sums._replace(slopes=log_probs.exp_().mul_(each).add_(weights), scale=1 / temperature)


def dense_info_nce(matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, temperature: float) -> DenseSums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number
    of these pairs."""
    logits = matrix.values * matrix.number(1 / temperature)
    against = matrix.at_itself(torch.add(logits, positive, alpha=LOWEST), LOWEST)
    negatives = against.logsumexp(1, keepdim=True)
    difference = negatives - logits
    counted = positive if weight is None else positive * weight
    items, slopes = softplus(difference).mul_(counted), difference.sigmoid_().mul_(counted)
    sums = DenseSums(items.sum(), matrix.total(counted))
    if not matrix.differentiable:
        return sums
    softmax = against.sub_(negatives).exp_()
    return sums._replace(slopes=softmax.mul_(slopes.sum(1, keepdim=True)).sub_(slopes), scale=1 / temperature)


def dense_circle(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float, scale: float
) -> DenseSums:
    """Return the sum of the circle loss over the anchors that have positives and negatives, and their number."""
    others = matrix.number(1) - positive
    # how far from the best similarity, 1 or 0
    astray = torch.addcmul(positive, others - positive, matrix.values)
    margin_, scale_ = matrix.number(margin), matrix.number(scale)
    pace = (astray + margin_).relu_()
    logits = matrix.at_itself(astray.sub_(margin_).mul_(pace).mul_(scale_), LOWEST)
    sides = log_sums(logits, positive, others)
    exponent = sides.logarithms.sum(0)
    idle = exponent < LOWEST / 2  # asked so that a NaN counts
    items, slopes = softplus(exponent), exponent.sigmoid_()
    number: Tensor | float = len(idle) - matrix.total(idle)
    if weight is not None:
        number = matrix.total(weight.masked_fill(idle, 0))
        items, slopes = items * weight, slopes * weight
    sums = DenseSums(items.sum(), number)
    if not matrix.differentiable:
        return sums
    return sums._replace(slopes=sides.slopes(slopes).mul_(pace), scale=scale)


def dense_multi_similarity(
    matrix: DenseMatrix,
    positive: Tensor,
    weight: Tensor | None,
    *,
    alpha: float,
    beta: float,
    base: float,
    mining_epsilon: float | None,
) -> DenseSums:
    """Return the sum of the multi-similarity loss over all anchors, and their number."""
    above = matrix.at_itself(matrix.values, LOWEST) - matrix.number(base)
    others = matrix.number(1) - positive
    logits = torch.sub(matrix.number(beta), positive, alpha=alpha + beta).mul_(above)  # -alpha or beta times
    if mining_epsilon is not None:
        logits.masked_fill_(is_easy(matrix, positive > 0, mining_epsilon), LOWEST)
    sides = log_sums(logits, positive, others)
    of_positives, of_negatives = softplus(sides.logarithms).unbind()
    items = torch.add(of_positives / alpha, of_negatives, alpha=1 / beta)
    if weight is None:
        sums = DenseSums(items.sum(), len(items))
    else:
        sums = DenseSums((items * weight).sum(), matrix.total(weight))
    if not matrix.differentiable:
        return sums
    slopes = sides.logarithms.sigmoid_()
    return sums._replace(slopes=sides.slopes(slopes if weight is None else slopes * weight))


def is_easy(matrix: DenseMatrix, positive: Tensor, epsilon: float) -> Tensor:
    """Return which pairs ``(N, M)`` are not mined, see :func:`losses.metric.multi_similarity.mined`."""
    similarities = matrix.values
    least = torch.where(positive, similarities, torch.inf).amin(1, keepdim=True)
    most = similarities.masked_fill(positive, -torch.inf).amax(1, keepdim=True)
    return torch.where(positive, similarities - epsilon >= most, similarities + epsilon <= least)


class TwoLogSums(NamedTuple):
    """Logarithms of sums of exponentials over the positives of every row, and over all others."""

    logarithms: Tensor
    """``(2, N, 1)``."""
    terms: Tensor
    """What is added up ``(2, N, M)``, over a factor of the row."""
    to_softmax: Tensor
    """That makes them shares of 1 ``(2, N, 1)``."""

    def slopes(self, of_logarithms: Tensor) -> Tensor:
        """Return the derivative by the logits of negatives and minus that by those of positives ``(N, M)``, from one by
        the logarithms ``(2, N, 1)`` or ``(N, 1)``; the terms are overwritten."""
        of_positives, of_negatives = self.terms.mul_(of_logarithms * self.to_softmax).unbind()
        return of_negatives.sub_(of_positives)


def log_sums(logits: Tensor, positives: Tensor, others: Tensor) -> TwoLogSums:
    """Return log(sum(exp(.))) of every row over its positives and over all others, who are which in numbers."""
    terms = torch.add(logits, torch.stack([others, positives]), alpha=LOWEST)  # of the one and of the other
    top = terms.amax(2, keepdim=True)
    terms = exponentials_below(terms.sub_(top))
    logarithms = terms.sum(2, keepdim=True).log_().add_(top)
    # by the logarithms as they are rounded, so that shares are those of the definition to the last digits
    return TwoLogSums(logarithms, terms, top.sub_(logarithms).exp_())


def dense_matches(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their number.

    Args:
        matrix: of similarities of two sets whose rows match.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second set are anchors too.
    """
    logits, ways = matrix.values * matrix.number(1 / temperature), 1 + both
    of_rows = logits.log_softmax(1)
    of_columns = log_softmax_of_columns(logits, reads=matrix.reads) if both else None
    if weight is None:
        matching = of_rows.trace() if of_columns is None else of_rows.trace() + of_columns.trace()
        sums = DenseSums(matching, ways * len(logits), scale_of_sums=-1.0)
    else:
        matching = of_rows.diagonal() if of_columns is None else of_rows.diagonal() + of_columns.diagonal()
        number = ways * matrix.total(weight)
        sums = DenseSums((matching * weight.squeeze(1)).sum(), number, scale_of_sums=-1.0)
    if not matrix.differentiable:
        return sums
    slopes = of_rows.exp_() if weight is None else of_rows.exp_().mul_(weight)
    if of_columns is not None:
        slopes += of_columns.exp_() if weight is None else of_columns.exp_().mul_(weight.mT)
    slopes.diagonal().sub_(matrix.number(ways) if weight is None else ways * weight.squeeze(1))
    return sums._replace(slopes=slopes, scale=1 / temperature)


def log_softmax_of_columns(logits: Tensor, *, reads: bool) -> Tensor:
    """Return the log-softmax of every column; where no CPU computes as one of rows, which there takes a
    twentieth of the time."""
    return logits.log_softmax(0) if reads else logits.mT.log_softmax(1).mT


def dense_views(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ip over the rows of two views on top of each other, p the other view of
    i, or over those of the first alone unless ``both``, and their number.

    Args:
        matrix: of similarities of a set of 2 N with itself.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second view are anchors too.
    """
    log_probs = matrix.at_itself(matrix.values * matrix.number(1 / temperature), LOWEST).log_softmax(1)
    size = len(log_probs) // 2
    # the diagonals of the upper right and the lower left quarter, on top of each other
    matching = log_probs.as_strided((2, size), (2 * size**2 - size, 2 * size + 1), size)
    of_rows: Tensor | None = None
    if weight is not None or not both:
        each = log_probs.new_ones(size) if weight is None else weight.squeeze(1)
        of_rows = torch.stack([each, each if both else torch.zeros_like(each)])
    if of_rows is None:
        sums = DenseSums(matching.sum(), 2 * size, scale_of_sums=-1.0)
    else:
        sums = DenseSums((matching * of_rows).sum(), matrix.total(of_rows), scale_of_sums=-1.0)
    if not matrix.differentiable:
        return sums
    slopes = log_probs.exp_() if of_rows is None else log_probs.exp_().mul_(of_rows.view(-1, 1))
    matching.sub_(matrix.number(1) if of_rows is None else of_rows)  # which looks at the slopes by now
    return sums._replace(slopes=slopes, scale=1 / temperature)
