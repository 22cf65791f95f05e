"""Losses of small batches made from logarithms of sums of exponentials over the rows of a matrix of similarities.

Each equals the definition beside its class in :mod:`losses.metric`. What is not meant has a logit so low that its
exponential is 0; a row of nothing else has as low a sum, which costs nothing and has no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import DenseMatrix
from losses.ops.numerics.log_space import softplus

LOWEST = -1e30  # in place of -inf, which less itself is NaN


def dense_supervised_contrastive(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, temperature: float
) -> DenseSums:
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the
    number of anchors with a positive and something to tell it from."""
    log_probs = matrix.at_itself(matrix.values / temperature, LOWEST).log_softmax(1)
    positives = positive.sum(1, keepdim=True, dtype=matrix.dtype)
    others = positive.shape[1] - matrix.itself
    counted = positives > (0 if others > 1 else others)
    each = counted.to(matrix.dtype) if weight is None else counted * weight
    weights = positive * (each / positives.clamp_(min=1).neg_())
    sums = DenseSums((weights * log_probs).sum(), each.sum())
    if not matrix.differentiable:
        return sums
    return sums._replace(slopes=log_probs.exp_().mul_(each).add_(weights), scale=1 / temperature)


def dense_info_nce(matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, temperature: float) -> DenseSums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number
    of these pairs."""
    logits = matrix.values / temperature
    against = matrix.at_itself(logits.masked_fill(positive, LOWEST), LOWEST)
    negatives = against.logsumexp(1, keepdim=True)
    difference = torch.where(positive, negatives - logits, LOWEST)
    items, counted, slopes = softplus(difference), positive, difference.sigmoid_()
    if weight is not None:
        items, counted, slopes = items * weight, positive * weight, slopes * weight
    sums = DenseSums(items.sum(), counted.sum(dtype=matrix.dtype))
    if not matrix.differentiable:
        return sums
    softmax = against.sub_(negatives).exp_()
    return sums._replace(slopes=softmax.mul_(slopes.sum(1, keepdim=True)).sub_(slopes), scale=1 / temperature)


def dense_circle(
    matrix: DenseMatrix, positive: Tensor, weight: Tensor | None, *, margin: float, scale: float
) -> DenseSums:
    """Return the sum of the circle loss over the anchors that have positives and negatives, and their number."""
    astray = torch.where(positive, 1 - matrix.values, matrix.values)  # how far from the best similarity, 1 or 0
    pace = (astray + margin).clamp_(min=0)
    logits = matrix.at_itself((astray - margin).mul_(pace).mul_(scale), LOWEST)
    of_positives, of_negatives = log_sums(logits, positive)
    exponent = of_positives + of_negatives
    counted = torch.logical_not(exponent < LOWEST / 2)  # asked so that a NaN counts
    items, slopes = softplus(exponent), exponent.sigmoid_()
    if weight is not None:
        items, counted, slopes = items * weight, counted * weight, slopes * weight
    sums = DenseSums(items.sum(), counted.sum(dtype=matrix.dtype))
    if not matrix.differentiable:
        return sums
    softmax = logits.sub_(torch.where(positive, of_positives, of_negatives)).exp_()
    return sums._replace(slopes=softmax.mul_(pace).mul_(torch.where(positive, -slopes, slopes)), scale=scale)


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
    above = matrix.values - base
    logits = torch.where(positive, -alpha * above, beta * above)
    if mining_epsilon is not None:
        logits.masked_fill_(is_easy(matrix, positive, mining_epsilon), LOWEST)
    matrix.at_itself(logits, LOWEST)
    of_positives, of_negatives = (softplus(log_sum) for log_sum in log_sums(logits, positive))
    items = of_positives / alpha + of_negatives / beta
    sums = DenseSums(
        items.sum() if weight is None else (items * weight).sum(), len(items) if weight is None else weight.sum()
    )
    if not matrix.differentiable:
        return sums
    softmax = logits.sub_(torch.where(positive, of_positives, of_negatives)).exp_()
    slopes = torch.where(positive, -softmax, softmax)
    return sums._replace(slopes=slopes if weight is None else slopes.mul_(weight))


def is_easy(matrix: DenseMatrix, positive: Tensor, epsilon: float) -> Tensor:
    """Return which pairs ``(N, M)`` are not mined, see :func:`losses.metric.multi_similarity.mined`."""
    similarities = matrix.values
    least = similarities.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    most = matrix.at_itself(similarities.masked_fill(positive, -torch.inf), -torch.inf).amax(1, keepdim=True)
    return torch.where(positive, similarities - epsilon >= most, similarities + epsilon <= least)


def log_sums(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(sum(exp(.))) of every row ``(N, 1)`` over its positives and over all others."""
    return (
        torch.where(positive, logits, LOWEST).logsumexp(1, keepdim=True),
        logits.masked_fill(positive, LOWEST).logsumexp(1, keepdim=True),
    )


def dense_matches(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their number.

    Args:
        matrix: of similarities of two sets whose rows match.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second set are anchors too.
    """
    logits, ways = matrix.values / temperature, 1 + both
    of_rows = logits.log_softmax(1)
    of_columns = logits.log_softmax(0) if both else None
    matching = of_rows.diagonal() if of_columns is None else of_rows.diagonal() + of_columns.diagonal()
    if weight is None:
        sums = DenseSums(-matching.sum(), ways * len(matching))
    else:
        sums = DenseSums(-(matching * weight.squeeze(1)).sum(), ways * weight.sum())
    if not matrix.differentiable:
        return sums
    slopes = of_rows.exp() if weight is None else of_rows.exp() * weight
    if of_columns is not None:
        slopes += of_columns.exp() if weight is None else of_columns.exp() * weight.mT
    slopes.diagonal().sub_(ways if weight is None else ways * weight.squeeze(1))
    return sums._replace(slopes=slopes, scale=1 / temperature)


def dense_views(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ip over the rows of two views on top of each other, p the other view of
    i, or over those of the first alone unless ``both``, and their number.

    Args:
        matrix: of similarities of a set of 2 N with itself.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second view are anchors too.
    """
    log_probs = matrix.at_itself(matrix.values / temperature, LOWEST).log_softmax(1)
    size = len(log_probs) // 2
    diagonals = log_probs.diagonal(size), log_probs.diagonal(-size)
    matching = torch.cat(diagonals)
    of_rows = None
    if weight is not None or not both:
        each = log_probs.new_ones(size) if weight is None else weight.squeeze(1)
        of_rows = torch.cat([each, each if both else torch.zeros_like(each)])
    sums = (
        DenseSums(-matching.sum(), len(matching))
        if of_rows is None
        else DenseSums(-(matching * of_rows).sum(), of_rows.sum())
    )
    if not matrix.differentiable:
        return sums
    slopes = log_probs.exp_() if of_rows is None else log_probs.exp_().mul_(of_rows.unsqueeze(1))
    parts: tuple[Tensor | int, ...] = (1, 1) if of_rows is None else of_rows.chunk(2)
    for diagonal, part in zip(diagonals, parts, strict=True):
        diagonal.sub_(part)  # which looks at the slopes by now
    return sums._replace(slopes=slopes, scale=1 / temperature)
