"""Means made from logarithms of sums of exponentials over the rows of a matrix of similarities.

Each is the mean of the sums that a function of :mod:`losses.ops.dense.log_sums` returns, with its derivative by the
similarities; ``None`` where there is nothing to average, or digits would be lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from losses.ops.dense.arrays.angles import Angles, diagonal
from losses.ops.dense.log_sums import LOWEST
from losses.ops.elementwise.arrays import IGNORING_OVERFLOW, Array, log1p, whole
from losses.ops.pairs.log_sums import MODEST

Found = tuple[float, Array]
"""A mean, and its derivative by what was compared."""


def supervised_contrastive(angles: Angles, positive: Array, *, temperature: float) -> Found | None:
    logits = angles.logits(1 / temperature)
    members = positive.astype(logits.dtype)
    positives = np.add.reduce(members, 1)
    counted = positives > 0
    number = np.count_nonzero(counted)
    if not number or logits.shape[1] - angles.itself < 2:
        return None
    share = counted / (np.maximum(positives, 1) * number)
    cost = -float(np.dot(np.einsum("nm,nm->n", members, logits), share))
    terms = angles.exponentials(logits)
    sums = np.add.reduce(terms, 1)
    cost += float(np.dot(np.log(sums), counted)) / number
    terms *= column(counted / (sums * (number * temperature)), terms)
    members *= column(share / temperature, terms)
    terms -= members
    return cost, terms


@IGNORING_OVERFLOW
def info_nce(angles: Angles, positive: Array, *, temperature: float) -> Found | None:
    logits = angles.logits(1 / temperature)
    place = np.flatnonzero(positive)
    number, row = len(place), place // logits.shape[1]
    if not number:
        return None
    near = logits.reshape(-1)[place]
    terms = angles.exponentials(logits)
    terms.reshape(-1)[place] = 0
    sums = np.add.reduce(terms, 1)
    items, slopes = softplus(np.log(sums)[row] - near)
    slopes /= number * temperature
    terms *= column(np.bincount(row, slopes, len(sums)) / np.maximum(sums, np.finfo(sums.dtype).tiny), terms)
    terms.reshape(-1)[place] = -slopes
    return whole(items) / number, terms


@IGNORING_OVERFLOW
def circle(angles: Angles, positive: Array, *, margin: float, scale: float) -> Found | None:
    astray = np.where(positive, 1 - angles.values, angles.values)  # how far from the best similarity, 1 or 0
    pace = np.maximum(astray + margin, 0)
    astray -= margin
    astray *= pace
    astray *= scale
    sides = log_sums(angles, astray, positive)
    exponent = sides.of_positives + sides.of_negatives
    number = np.count_nonzero(exponent > -np.inf)
    if not number:
        return None
    slopes = sigmoid(exponent) * (scale / number)
    terms = sides.times(slopes, slopes)
    terms *= pace
    return whole(np.logaddexp(exponent, 0)) / number, terms


def multi_similarity(angles: Angles, positive: Array, *, alpha: float, beta: float, base: float) -> Found:
    """Of exponentials that stay in the range of float32."""
    logits = angles.values
    logits -= base
    members, size = positive.astype(logits.dtype), len(logits)
    others = 1 - members
    logits *= others * beta - members * alpha
    terms = angles.exponentials(logits)
    near, far = np.einsum("nm,nm->n", terms, members), np.einsum("nm,nm->n", terms, others)
    cost = whole(np.log1p(near)) / alpha + whole(np.log1p(far)) / beta
    near, far = (1 / (size + size * total) for total in (near, far))
    members *= -near[:, np.newaxis]
    others *= far[:, np.newaxis]
    terms *= np.add(members, others, out=members)
    return cost / size, terms


class TwoLogSums(NamedTuple):
    """Logarithms of sums of exponentials over the positives of every row, and over all others, -inf where there are
    none, each ``(N,)``."""

    of_positives: Array
    of_negatives: Array
    terms: Array
    """What is added up ``(N, M)``, in the place of the logits."""
    sums: tuple[Array, Array]
    """Of the terms."""
    positive: Array

    def times(self, of_positives: Array, of_negatives: Array) -> Array:
        """Return the derivative by the logits of negatives and minus that by those of positives, from one by the
        logarithms; the terms are overwritten."""
        tiny = np.finfo(self.terms.dtype).tiny
        near, far = (np.maximum(total, tiny) for total in self.sums)
        factors = np.where(self.positive, column(-of_positives / near, near), column(of_negatives / far, far))
        terms = self.terms
        terms *= factors
        return terms


def log_sums(angles: Angles, logits: Array, positive: Array) -> TwoLogSums:
    angles.without_itself(logits, LOWEST)
    tops = [np.maximum.reduce(np.where(positive, *pair), 1) for pair in ((logits, LOWEST), (LOWEST, logits))]
    logits -= np.where(positive, *(top[:, np.newaxis] for top in tops))
    terms = angles.without_itself(np.exp(logits, out=logits), 0)
    members = positive.astype(terms.dtype)
    near, far = np.einsum("nm,nm->n", terms, members), np.einsum("nm,nm->n", terms, 1 - members)
    return TwoLogSums(np.log(near) + tops[0], np.log(far) + tops[1], terms, (near, far), positive)


def matches(angles: Angles, *, temperature: float) -> Found | None:
    """Return the mean over the rows of two sets that match, and over the columns."""
    if MODEST * temperature < 2:  # rows and columns then take exponentials of their own
        return None
    logits, size = angles.logits(1 / temperature), len(angles.values)
    cost = -2 * whole(diagonal(logits))
    terms = np.exp(logits, out=logits)
    rows, columns = np.add.reduce(terms, 1, keepdims=True), np.add.reduce(terms, 0, keepdims=True)
    cost += whole(np.log(rows)) + whole(np.log(columns))
    terms *= 1 / rows + 1 / columns
    diagonal(terms)[:] -= 2
    terms *= 1 / (2 * size * temperature)
    return cost / (2 * size), terms


def views(angles: Angles, *, temperature: float) -> Found:
    """Return the mean over all rows of two views on top of each other."""
    logits, size = angles.logits(1 / temperature), len(angles.values) // 2
    # of the upper right and the lower left quarter
    quarters = [diagonal(logits, size)[:size], diagonal(logits, 2 * size * size)]
    cost = -sum(map(whole, quarters))
    terms = angles.exponentials(logits)
    sums = np.add.reduce(terms, 1, keepdims=True)
    terms /= sums
    for quarter in quarters:  # which looks at the terms by now
        quarter -= 1
    terms *= 1 / (2 * size * temperature)
    return (cost + whole(np.log(sums))) / (2 * size), terms


def column(values: Array, like: Array) -> Array:
    """Return values ``(N,)`` as a column ``(N, 1)`` in the dtype of others."""
    return values.astype(like.dtype, copy=False)[:, np.newaxis]


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def softplus(values: Array) -> tuple[Array, Array]:
    """Return log(1 + exp(x)), and its derivative."""
    small = np.exp(-np.abs(values))
    slopes = np.where(values >= 0, 1, small) / (1 + small)
    return np.maximum(values, 0) + log1p(small), slopes
