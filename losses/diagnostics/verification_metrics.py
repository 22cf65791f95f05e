"""Verification: do distances tell same from different?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.checks import (
    require_dense,
    require_no_nan,
    require_rank,
    require_real,
    require_same_length,
    require_same_or_different,
    require_tensor,
)
from losses.core.errors import ConfigError, InputError, quoted
from losses.core.parameters import Distance
from losses.diagnostics.metrics import accepted_embeddings, accepted_labels, printed, require_distance
from losses.diagnostics.neighbours import BLOCK
from losses.ops.distances import pairwise_distance


class Verification(NamedTuple):
    """Fractions from 0 to 1 and a distance, as plain numbers; ``_asdict()`` for a log."""

    auc: float
    """Area under the ROC curve: how often a same pair is closer than a different one, ties half. Higher is better."""
    eer: float
    """Equal error rate: the fraction of errors where false accepts and false rejects are equally frequent. Lower is
    better."""
    tar: dict[float, float]
    """By false accept rate: the largest true accept rate without exceeding it. Higher is better."""
    threshold: float
    """The distance up to which a pair is best accepted, halfway to the next one seen; -inf if best nothing is."""
    balanced_accuracy: float
    """Mean of true accept and true reject rate at that threshold. Higher is better, chance is 0.5."""

    def __repr__(self) -> str:
        return printed(self)


@torch.no_grad()
def verification(
    distances: Tensor, same: Tensor, *, false_accept_rates: Sequence[float] = (1e-3, 1e-2, 1e-1)
) -> Verification:
    r"""Return how well distances tell same pairs from different ones: same where they are small.

    Accepting all pairs up to a distance t, the fractions of accepted pairs among the same and the different ones are

    .. math::
        \text{TAR}(t) = P(d \le t \mid \text{same}) \qquad \text{FAR}(t) = P(d \le t \mid \text{different})

    AUC is the area under TAR over FAR. EER is FAR where it equals 1 - TAR, on the straight line between the two
    neighbouring points of the curve. The threshold has the greatest balanced accuracy (TAR + 1 - FAR) / 2, so also the
    greatest Youden's J = TAR - FAR; the smallest such distance is taken. Pairs at equal distances are accepted
    together, as in scikit-learn's ``roc_curve``. Everything is counted in integers, so nothing is rounded before the
    last division.

    Args:
        distances: of pairs, smaller where they are more alike; pass the negative of a similarity.
        same: above 0 (1 or True) where a pair is the same, 0, False or -1 where it is different.
        false_accept_rates: those at which TAR is wanted. Below one over the number of different pairs, none may be
            accepted.

    Shapes:
        distances, same: ``(N,)``.

    Units:
        ``threshold`` is in the unit of the distances; the others are fractions, and any increasing change of the
        distances leaves them as they are.

    Raises:
        ConfigError: ``false_accept_rates`` holds anything but numbers from 0 to 1.
        InputError: the tensors do not fit together, a distance is NaN, or all pairs are the same or all are different.

    Source:
        T. Fawcett, An Introduction to ROC Analysis, 2006, doi:10.1016/j.patrec.2005.10.010; W. J. Youden, Index for
        Rating Diagnostic Tests, 1950.

    >>> distances, same = tensor([1.0, 2.0, 3.0, 4.0, 5.0]), tensor([1, 1, 0, 1, 0])
    >>> # 5 of 6 in order; two of three accepted before anything wrong is
    >>> verification(distances, same, false_accept_rates=(0.1, 0.5))
    Verification(auc=0.8333, eer=0.3333, tar={0.1: 0.6667, 0.5: 1}, threshold=2.5, balanced_accuracy=0.8333)
    """
    rates = false_accept_rates
    if isinstance(rates, str | bytes) or not isinstance(rates, Sequence) or not all(map(is_rate, rates)):
        raise ConfigError(f"false_accept_rates: got {quoted(rates)}, expected numbers from 0 to 1, as in (0.001, 0.01)")
    alike = accepted_pairs(distances, same)
    values, order = distances.detach().sort()
    alike = alike[order]
    last = torch.cat([values[1:] != values[:-1], alike.new_ones(1)])  # of pairs at equal distances
    none = order.new_zeros(1)
    rightly, wrongly = (torch.cat([none, kind.cumsum(0)[last]]) for kind in (alike, ~alike))
    values = values[last]
    same_pairs, different_pairs = int(rightly[-1]), int(wrongly[-1])
    both = same_pairs * different_pairs

    area = int((wrongly.diff() * (rightly[1:] + rightly[:-1])).sum())
    gain = rightly * different_pairs - wrongly * same_pairs
    best = int(gain.argmax())
    return Verification(
        auc=area / (2 * both),
        eer=equal_error_rate(rightly, wrongly),
        tar={rate: int(rightly[wrongly <= allowed(rate, different_pairs)][-1]) / same_pairs for rate in rates},
        threshold=halfway(values, best - 1) if best else -torch.inf,
        balanced_accuracy=(both + int(gain[best])) / (2 * both),
    )


def all_pairs(embeddings: Tensor, labels: Tensor, *, distance: Distance = "euclidean") -> tuple[Tensor, Tensor]:
    """Return the distances of all pairs of different rows, and whether they are of one class: what :func:`verification`
    takes.

    Args:
        embeddings: finite numbers.
        labels: their classes, any integers or booleans.
        distance: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"``.

    Shapes:
        embeddings: ``(N, D)``, labels: ``(N,)``. Returns ``(N (N - 1) / 2,)`` twice, row by row, float64 and boolean;
        beside them memory is O(N).

    Raises:
        ConfigError: ``distance`` is unknown.
        InputError: the tensors do not fit together, or hold NaN or infinity.

    >>> all_pairs(tensor([[0.0], [1.0], [3.0]]), tensor([0, 1, 1]))
    (tensor([1., 3., 2.], dtype=torch.float64), tensor([False, False,  True]))
    """
    require_distance(distance)
    (embeddings,) = accepted_embeddings(embeddings=embeddings)
    labels = accepted_labels(embeddings, labels)
    row = torch.arange(len(labels), device=labels.device)
    distances, same = [embeddings.new_zeros(0)], [labels.new_zeros(0, dtype=torch.bool)]
    for rows in torch.split(row, max(1, BLOCK // max(1, len(row)))):
        later = row > rows.unsqueeze(1)
        distances.append(pairwise_distance(embeddings[rows], embeddings, distance)[later])
        same.append((labels[rows].unsqueeze(1) == labels)[later])
    return torch.cat(distances), torch.cat(same)


def accepted_pairs(distances: Tensor, same: Tensor) -> Tensor:
    """Return which pairs are the same, on the device of the distances, or raise an InputError."""
    require_tensor(distances=distances, same=same)
    require_dense(distances=distances, same=same)
    require_rank(1, "(N,), one distance per pair", distances=distances)
    require_rank(1, "(N,), one answer per pair", same=same)
    require_same_length(distances=distances, same=same)
    require_real(distances=distances, same=same)
    require_no_nan(distances=distances, same=same)
    require_same_or_different(same)
    alike = (same > 0).to(distances.device)
    require_both_kinds("verification", alike)
    return alike


def require_both_kinds(purpose: str, alike: Tensor) -> None:
    """Raise unless some pairs are the same and some are different."""
    count = int(alike.sum())
    if count in (0, len(alike)):
        raise InputError(
            f"{purpose} needs same and different pairs, got {count} same of {len(alike)}; "
            "pass pairs of both kinds, all_pairs(embeddings, labels) returns all there are"
        )


def equal_error_rate(rightly: Tensor, wrongly: Tensor) -> float:
    """Return the fraction of errors where the line between accepted pairs of both kinds crosses equal fractions of
    errors."""
    same_pairs, different_pairs = int(rightly[-1]), int(wrongly[-1])
    excess = (same_pairs - rightly) * different_pairs - wrongly * same_pairs  # of false rejects: falls at every point
    after = int((excess > 0).sum())
    high, low, start, end = (int(numbers[place]) for numbers in (excess, wrongly) for place in (after - 1, after))
    return (start + (end - start) * high / (high - low)) / different_pairs


def allowed(rate: float, different_pairs: int) -> int:
    """Return how many different pairs may be accepted at a false accept rate.

    >>> allowed(0.29, 100)  # although 0.29 * 100 is 28.999999999999996
    29
    """
    about = int(rate * different_pairs)
    return max(count for count in (about - 1, about, about + 1) if count / different_pairs <= rate)


def halfway(values: Tensor, index: int) -> float:
    """Return a threshold between a distance and the next, such that the next, in its own precision, is above it."""
    here, beyond = values[index], values[min(index + 1, len(values) - 1)]
    between = here / 2 + beyond / 2
    # two neighbouring floating point numbers have none between them
    return float(between) if bool(between < beyond) else float(here)


def is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
