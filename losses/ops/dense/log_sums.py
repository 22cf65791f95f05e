"""Losses of small batches made from logarithms of sums of exponentials over the rows of a matrix of similarities.

Each equals the definition beside its class in :mod:`losses.metric`. What is not meant has the lowest number for a
logit: its exponential is 0, and a row of nothing else has a sum so low that it costs nothing and pulls at nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.ops.dense.differentiable import DenseSums
from losses.ops.dense.matrix import LOWEST, DenseMatrix
from losses.ops.numerics.log_space import softplus


def dense_supervised_contrastive(
    matrix: DenseMatrix, positive: Tensor, negative: Tensor, weight: Tensor | None, *, temperature: float
) -> DenseSums:
    """Return the sum over anchors of log(sum(exp(s_ia))) - mean(s_ip), over all others a and positives p, and the
    number of anchors with a positive and something to tell it from."""
    logits = matrix.at_itself(matrix.values / temperature, LOWEST)
    positives = positive.sum(1, keepdim=True)
    share = positive / positives.clamp(min=1).double()
    others = positive.shape[1] - matrix.itself
    counted = weighing(positives > (0 if others > 1 else others), weight)
    log_probs = logits.log_softmax(1)
    sums = -(share * log_probs * counted).sum(), counted.sum()
    if not matrix.differentiable:
        return DenseSums(*sums)
    return DenseSums(*sums, log_probs.exp_().sub_(share).mul_(counted / temperature))


def dense_info_nce(
    matrix: DenseMatrix, positive: Tensor, negative: Tensor, weight: Tensor | None, *, temperature: float
) -> DenseSums:
    """Return the sum of log(1 + sum over negatives of exp(s_an - s_ap)) over all anchors and positives, and the number
    of these pairs."""
    counted = weighing(positive, weight)
    logits = matrix.values / temperature
    against = torch.where(negative, logits, LOWEST)
    negatives = against.logsumexp(1, keepdim=True)
    difference = torch.where(positive, negatives - logits, LOWEST)
    sums = (softplus(difference) * counted).sum(), counted.sum()
    if not matrix.differentiable:
        return DenseSums(*sums)
    slopes = difference.sigmoid_().mul_(counted).div_(temperature)
    return DenseSums(*sums, against.sub_(negatives).exp_().mul_(slopes.sum(1, keepdim=True)).sub_(slopes))


def dense_circle(
    matrix: DenseMatrix, positive: Tensor, negative: Tensor, weight: Tensor | None, *, margin: float, scale: float
) -> DenseSums:
    """Return the sum of the circle loss over the anchors that have positives and negatives, and their number."""
    similarities = matrix.values
    pace = torch.where(positive, 1 + margin - similarities, similarities + margin).clamp_(min=0)
    pace.mul_(torch.where(positive, -scale, scale))
    logits = matrix.at_itself((similarities - torch.where(positive, 1 - margin, margin)).mul_(pace), LOWEST)
    of_positives, of_negatives = log_sums(logits, positive)
    exponent = of_positives + of_negatives
    counted = weighing(positive.any(1, keepdim=True) & negative.any(1, keepdim=True), weight)
    sums = (softplus(exponent) * counted).sum(), counted.sum()
    if not matrix.differentiable:
        return DenseSums(*sums)
    softmax = logits.sub_(torch.where(positive, of_positives, of_negatives)).exp_()
    return DenseSums(*sums, softmax.mul_(pace).mul_(exponent.sigmoid_().mul_(counted)))


def dense_multi_similarity(
    matrix: DenseMatrix,
    positive: Tensor,
    negative: Tensor,
    weight: Tensor | None,
    *,
    alpha: float,
    beta: float,
    base: float,
    mining_epsilon: float | None,
) -> DenseSums:
    """Return the sum of the multi-similarity loss over all anchors, and their number."""
    similarities = matrix.values
    logits = (similarities - base).mul_(torch.where(positive, -alpha, beta))
    matrix.at_itself(logits, LOWEST)
    if mining_epsilon is not None:
        least = similarities.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        most = similarities.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        easy = torch.where(positive, similarities - mining_epsilon >= most, similarities + mining_epsilon <= least)
        logits.masked_fill_(easy, LOWEST)
    of_positives, of_negatives = (softplus(logarithm) for logarithm in log_sums(logits, positive))
    costs = of_positives / alpha + of_negatives / beta
    sums = (costs.sum(), len(costs)) if weight is None else ((costs * weight).sum(), weight.sum())
    if not matrix.differentiable:
        return DenseSums(*sums)
    softmax = logits.sub_(torch.where(positive, of_positives, of_negatives)).exp_()
    return DenseSums(*sums, softmax.mul_(torch.where(positive, -1.0, 1.0) if weight is None else torch.where(positive, -weight, weight)))


def dense_matches(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ii over rows i, and also over columns if ``both``, and their number.

    Args:
        matrix: of similarities of two sets whose rows match.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second set are anchors too.
    """
    logits = matrix.values / temperature
    log_probs = [logits.log_softmax(dim) for dim in (1, 0)[: 1 + both]]
    surprise = -sum(part.diagonal() for part in log_probs)
    if weight is None:
        sums = surprise.sum(), len(surprise) * len(log_probs)
    else:
        sums = (surprise * weight.squeeze(1)).sum(), weight.sum() * len(log_probs)
    if not matrix.differentiable:
        return DenseSums(*sums)
    softmax = [part.exp_() if weight is None else part.exp_().mul_(weight if dim else weight.mT) for dim, part in zip((1, 0), log_probs)]
    slopes = softmax[0].add_(softmax[1]) if both else softmax[0]
    slopes.diagonal().sub_(len(log_probs) if weight is None else len(log_probs) * weight.squeeze(1))
    return DenseSums(*sums, slopes.div_(temperature))


def dense_views(matrix: DenseMatrix, weight: Tensor | None, *, temperature: float, both: bool) -> DenseSums:
    """Return the sum of log(sum(exp(s_ij))) - s_ip over the rows of two views on top of each other, p the other view of
    i, or over those of the first alone unless ``both``, and their number.

    Args:
        matrix: of similarities of a set of 2 N with itself.
        weight: of every match ``(N, 1)``.
        temperature: what similarities are divided by.
        both: whether the rows of the second view are anchors too.
    """
    size = len(matrix.values) // 2
    log_probs = matrix.at_itself(matrix.values / temperature, LOWEST).log_softmax(1)
    each = matrix.values.new_ones(size) if weight is None else weight.squeeze(1)
    of_rows = torch.cat([each, each if both else torch.zeros_like(each)])
    matching = torch.cat([log_probs.diagonal(size), log_probs.diagonal(-size)])
    sums = -(matching * of_rows).sum(), of_rows.sum()
    if not matrix.differentiable:
        return DenseSums(*sums)
    slopes = log_probs.exp_().mul_(of_rows.unsqueeze(1))
    slopes.diagonal(size).sub_(of_rows[:size])
    slopes.diagonal(-size).sub_(of_rows[size:])
    return DenseSums(*sums, slopes.div_(temperature))


def log_sums(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(sum(exp(.))) of every row ``(N, 1)`` over its positives and over all others."""
    return (
        torch.where(positive, logits, LOWEST).logsumexp(1, keepdim=True),
        torch.where(positive, LOWEST, logits).logsumexp(1, keepdim=True),
    )


def weighing(counted: Tensor, weight: Tensor | None) -> Tensor:
    """Return by how much what is counted, and what is not, enters a sum."""
    return counted.double() if weight is None else counted * weight
