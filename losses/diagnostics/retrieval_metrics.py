"""Retrieval: does an embedding find others of its class first?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.errors import ConfigError, InputError, quoted
from losses.core.labelled import require_reference
from losses.core.parameters import Distance
from losses.diagnostics.metrics import accepted_labels, printed
from losses.diagnostics.neighbours import compared, in_blocks, require_count


class Retrieval(NamedTuple):
    """Fractions from 0 to 1, higher is better, as plain numbers; ``_asdict()`` for a log."""

    recall: dict[int, float]
    """By k: the fraction of queries with any of their class among the nearest k; ``recall[1]`` is also the precision at
    1."""
    r_precision: float
    """The mean fraction of its class among the nearest R of a query, of whose class there are R."""
    map_at_r: float
    """The mean over queries of their average precision, cut at R."""
    queries: int
    """How many queries the means are over: those with anyone of their class to find."""

    def __repr__(self) -> str:
        return printed(self)


@torch.no_grad()
def retrieval(
    embeddings: Tensor,
    labels: Tensor,
    *,
    reference: tuple[Tensor, Tensor] | None = None,
    distance: Distance = "euclidean",
    recall_at: Sequence[int] = (1, 2, 4, 8),
) -> Retrieval:
    r"""Return how well the nearest neighbours of embeddings are of their own class.

    With the R others of the class of a query, and :math:`h_i = 1` if its neighbour number i is one of them,

    .. math::
        \text{recall@}k = \max_{i \le k} h_i \qquad
        \text{R-precision} = \frac{1}{R} \sum_{i=1}^{R} h_i \qquad
        \text{MAP@R} = \frac{1}{R} \sum_{i=1}^{R} h_i \, \frac{1}{i} \sum_{j \le i} h_j

    each averaged over all queries. A query with R = 0 can find nothing and is left out, as in AccuracyCalculator of
    pytorch-metric-learning 2.9; ``queries`` says how many are left. Equal distances go by index, so metrics do not
    depend on chance: of embeddings that are all equal, the first rows are everyone's nearest neighbours. Shuffle rows
    that are sorted by class if many of them are equal. (By cosine, rows are brought to length 1 first; only there is
    rounding, so equal rows stay equal.)

    Args:
        embeddings: the queries.
        labels: their classes, any integers or booleans.
        reference: ``(embeddings, labels)`` to search; ``None`` is to search the queries, each of them without itself.
        distance: ``"euclidean"``, ``"squared_euclidean"`` (the same metrics) or ``"cosine"``.
        recall_at: the k of recall@k; a k beyond the number of neighbours means all of them.

    Shapes:
        embeddings: ``(N, D)``, labels: ``(N,)``, reference: ``(M, D)`` and ``(M,)``. Memory is O(M), never N x M,
        however large a class is.

    Units:
        None: all metrics are fractions. Scaling all embeddings changes none.

    Raises:
        ConfigError: ``distance`` is unknown, or ``recall_at`` holds anything but integers of at least 1.
        InputError: the tensors do not fit together, hold NaN or infinity, or no query has anyone of its class to find.

    Source:
        H. Jegou, M. Douze, C. Schmid, Product Quantization for Nearest Neighbor Search, 2011, doi:10.1109/TPAMI.2010.57
        (recall@k); K. Musgrave, S. Belongie, S.-N. Lim, A Metric Learning Reality Check, 2020, arXiv:2003.08505
        (MAP@R).

    >>> embeddings, labels = tensor([[0.0], [1.0], [1.5], [4.0], [9.0]]), tensor([0, 0, 1, 0, 2])
    >>> metrics = retrieval(embeddings, labels, recall_at=(1, 2))
    >>> metrics  # nearest of 0, 1, 4 are (1, 1.5), (1.5, 0), (1.5, 1); 1.5 and 9 have no second of their class
    Retrieval(recall={1: 0.3333, 2: 1}, r_precision=0.5, map_at_r=0.3333, queries=3)
    >>> metrics.map_at_r == (1 / 2 + 1 / 4 + 1 / 4) / 3
    True
    """
    if isinstance(recall_at, str | bytes) or not isinstance(recall_at, Sequence):
        raise ConfigError(f"recall_at: got {quoted(recall_at)}, expected integers of at least 1, as in (1, 2, 4, 8)")
    for k in recall_at:
        require_count(recall_at=k)
    if reference is not None:
        require_reference(reference)
    queries, others = compared(embeddings, None if reference is None else reference[0], distance)
    labels = accepted_labels(queries, labels)
    other_labels = labels if reference is None else accepted_labels(others, reference[1])

    itself = int(reference is None)
    relevant = members(labels, other_labels) - itself
    counted = relevant.nonzero().squeeze(1)
    if len(counted) == 0:
        raise InputError(
            f"no query has anyone of its class to find, got {len(queries)} embeddings of {len(torch.unique(labels))} "
            "classes "
            f"{'among themselves' if reference is None else f'and a reference of {len(others)}'}; pass two of some "
            "class, "
            "or a reference that holds the classes of the queries"
        )
    depth = relevant.clamp(min=max(recall_at, default=1)).clamp(max=len(others) - itself)
    counted = counted[depth[counted].argsort()]  # large classes look far, so they get blocks of their own
    parts = []
    for rows, found in in_blocks(queries, others, counted, depth, reference is None):
        parts.append(scores(other_labels[found] == labels[rows].unsqueeze(1), relevant[rows], recall_at, queries.dtype))
    *recalls, r_precision, map_at_r = torch.cat(parts).mean(0).tolist()
    return Retrieval(dict(zip(recall_at, recalls, strict=True)), r_precision, map_at_r, len(counted))


def members(labels: Tensor, others: Tensor) -> Tensor:
    """Return for every label ``(N,)`` how many of the others ``(M,)`` have it."""
    in_order = others.sort().values
    return torch.searchsorted(in_order, labels, right=True) - torch.searchsorted(in_order, labels)


def scores(hits: Tensor, relevant: Tensor, recall_at: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return recall at every k, R-precision and average precision at R of every query, side by side.

    Args:
        hits: ``(B, K)``, whether the neighbours, nearest first, are of the query's class.
        relevant: ``(B,)``, R.
        recall_at: every k.
        dtype: of the result.
    """
    places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = hits.cumsum(1).to(dtype) / places
    counting = hits & (places <= relevant.unsqueeze(1))
    return torch.stack(
        [
            *(hits[:, :k].any(1).to(dtype) for k in recall_at),
            counting.sum(1).to(dtype) / relevant,
            (precision * counting).sum(1) / relevant,
        ],
        1,
    )
