"""Means made from logarithms of sums of exponentials over the rows of a matrix of similarities.

Each is the mean of the sums that a function of :mod:`losses.ops.dense.log_sums` returns, with its derivative by the
similarities; ``None`` where there is nothing to average, or digits would be lost.
"""

from __future__ import annotations

import numpy as np

from losses.ops.dense.arrays.angles import Angles
from losses.ops.dense.arrays.positives import Positives, diagonal
from losses.ops.dense.log_sums import LOWEST
from losses.ops.elementwise.arrays import IGNORING_OVERFLOW, Array, log1p, whole

EXPONENT = 80.0
"""Of which exponentials, and sums of many, stay in the range of float32."""

Found = tuple[float, Array]
"""A mean, and its derivative by what was compared."""


def supervised_contrastive(angles: Angles, positives: Positives, *, temperature: float) -> Found | None:
    counted = positives.counts > 0
    number = int(np.count_nonzero(counted))
    logits = angles.logits(temperature)
    if logits is None or not number or positives.size < 3:
        return None
    weights = 1 / (positives.counts[positives.row] * number)
    cost = -float(np.dot(positives.of(logits), weights))
    terms = angles.exponentials(logits)
    sums = np.add.reduce(terms, 1)
    cost += float(np.dot(np.log(sums), counted)) / number
    terms *= column(counted / (sums * (number * temperature)), terms)
    positives.put(terms, positives.of(terms) - weights / temperature)
    return cost, terms


@IGNORING_OVERFLOW
def info_nce(angles: Angles, positives: Positives, *, temperature: float) -> Found | None:
    number, logits = len(positives), angles.logits(temperature)
    if logits is None or not number:
        return None
    near = positives.of(logits)
    terms = angles.exponentials(logits)
    positives.put(terms, 0)
    sums = np.add.reduce(terms, 1)
    items, slopes = softplus(np.log(sums)[positives.row] - near)
    slopes /= number * temperature
    terms *= column(positives.sums(slopes) / np.maximum(sums, np.finfo(sums.dtype).tiny), terms)
    positives.put(terms, -slopes)
    return whole(items) / number, terms


@IGNORING_OVERFLOW
def circle(angles: Angles, positives: Positives, *, margin: float, scale: float) -> Found | None:
    astray = 1 - positives.of(angles.values)  # how far from the best similarity, 1 or 0
    pace_of_near = np.maximum(astray + margin, 0)
    near = (astray - margin) * pace_of_near * scale
    astray = angles.values
    pace = np.maximum(astray + margin, 0)
    logits = np.subtract(astray, margin, out=astray)
    logits *= pace
    logits *= scale
    positives.put(logits, LOWEST)
    angles.without_itself(logits, LOWEST)
    tops, top_of_near = np.maximum.reduce(logits, 1), positives.greatest(near)
    logits -= tops[:, np.newaxis]
    terms, terms_of_near = np.exp(logits, out=logits), np.exp(near - top_of_near[positives.row])
    sums, sums_of_near = np.add.reduce(terms, 1), positives.sums(terms_of_near)
    exponent = np.log(sums_of_near) + top_of_near + np.log(sums) + tops
    exponent[tops < LOWEST / 2] = -np.inf  # without negatives
    number = int(np.count_nonzero(exponent > -np.inf))
    if not number:
        return None
    slopes = scale / number / (1 + np.exp(-exponent))
    terms *= column(slopes / sums, terms)
    terms *= pace
    positives.put(terms, -(slopes / sums_of_near)[positives.row] * terms_of_near * pace_of_near)
    return whole(np.logaddexp(exponent, 0)) / number, terms


def multi_similarity(angles: Angles, positives: Positives, *, alpha: float, beta: float, base: float) -> Found | None:
    if max(alpha, beta) * (1 + abs(base)) > EXPONENT:
        return None
    logits, size = angles.values, positives.size
    logits -= base
    terms_of_near = np.exp(-alpha * positives.of(logits))
    logits *= beta
    terms = angles.exponentials(logits)
    positives.put(terms, 0)
    near, far = positives.sums(terms_of_near), np.add.reduce(terms, 1)
    cost = whole(np.log1p(near)) / alpha + whole(np.log1p(far)) / beta
    terms *= column(1 / (size + size * far), terms)
    positives.put(terms, -terms_of_near / (size + size * near)[positives.row])
    return cost / size, terms


def matches(angles: Angles, *, temperature: float) -> Found | None:
    """Return the mean over the rows of two sets that match, and over the columns."""
    logits, size = angles.logits(temperature), len(angles.values)
    if logits is None:
        return None
    terms = np.exp(logits, out=logits)
    matching, rows, columns = diagonal(terms), np.add.reduce(terms, 1), np.add.reduce(terms, 0)
    cost = whole(np.log(rows / matching)) + whole(np.log(columns / matching))
    of_columns = terms / columns
    terms /= rows[:, np.newaxis]
    terms += of_columns
    matching -= 2  # which looks at the terms
    terms *= 1 / (2 * size * temperature)
    return cost / (2 * size), terms


def views(angles: Angles, *, temperature: float) -> Found | None:
    """Return the mean over all rows of two views on top of each other."""
    logits, size = angles.logits(temperature), len(angles.values) // 2
    if logits is None:
        return None
    terms = angles.exponentials(logits)
    terms /= np.add.reduce(terms, 1, keepdims=True)
    # of the upper right and the lower left quarter
    quarters = diagonal(terms, size)[:size], diagonal(terms, 2 * size * size)
    cost = -sum(whole(np.log(quarter)) for quarter in quarters)
    for quarter in quarters:  # which looks at the terms
        quarter -= 1
    terms *= 1 / (2 * size * temperature)
    return cost / (2 * size), terms


def column(values: Array, like: Array) -> Array:
    """Return values ``(N,)`` as a column ``(N, 1)`` in the dtype of others."""
    return values.astype(like.dtype, copy=False)[:, np.newaxis]


def softplus(values: Array) -> tuple[Array, Array]:
    """Return log(1 + exp(x)), and its derivative."""
    small = np.exp(-np.abs(values))
    slopes = np.where(values >= 0, 1, small) / (1 + small)
    return np.maximum(values, 0) + log1p(small), slopes
