"""Distances between embeddings: exact where it matters, with gradient 0 at distance 0.

Distances between all pairs come from one matrix product. The identity |a - b|^2 = |a|^2 + |b|^2 - 2ab loses everything
for points that nearly coincide, so the data is centred first and the product accumulates in float64; what is left below
the rounding of that product, about 1e-8 sqrt(D + 4) of the extent of the data, is a distance of exactly 0. These are
the readable definitions; :mod:`losses.ops.tiles` measures the same in blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.precision import accumulated, accumulation_dtype


def pairwise_distance(first: Tensor, second: Tensor, distance: str = "euclidean") -> Tensor:
    """Return the distance of every row of ``first`` ``(N, D)`` to every row of ``second`` ``(M, D)``, as ``(N, M)``."""
    if distance == "cosine":
        units = unit(accumulated(first)), unit(accumulated(second))
        # half the squared distance of vectors of length 1 is 1 - cosine, and exactly 0 for equal ones
        return (squared_distances(*units) / 2 + (absent(units[0]).unsqueeze(1) + absent(units[1])) / 2).to(first.dtype)
    squared = squared_distances(first, second)
    return (squared if distance == "squared_euclidean" else root(squared)).to(first.dtype)


def rowwise_distance(first: Tensor, second: Tensor, distance: str = "euclidean") -> Tensor:
    """Return the distance of each row of ``first`` ``(N, D)`` to the same row of ``second``, as ``(N,)``."""
    if distance == "cosine":
        units = unit(accumulated(first)), unit(accumulated(second))
        return (rowwise_squared(*units) / 2 + (absent(units[0]) + absent(units[1])) / 2).to(first.dtype)
    squared = rowwise_squared(first, second)
    return (squared if distance == "squared_euclidean" else root(squared)).to(first.dtype)


def absent(units: Tensor) -> Tensor:
    """Return the square of length that a row of zeros lacks to one of length 1: its cosine to all is 0."""
    return (units == 0).all(-1).to(units.dtype)


def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between every row of ``first`` and every row of ``second``; 0 for a vector of zeros."""
    first_unit, second_unit = (unit(accumulated(side)) for side in (first, second))
    return (first_unit @ second_unit.mT).to(first.dtype)


def rowwise_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between each row of ``first`` and the same row of ``second``; 0 for a vector of zeros."""
    return (unit(accumulated(first)) * unit(accumulated(second))).sum(-1).to(first.dtype)


def rowwise_squared(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each row to the same row, in the precision of the accumulation."""
    # a difference is rounded once; its square can leave the range
    return accumulated(first - second).square().sum(-1)


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return all squared Euclidean distances ``(N, M)`` in the precision of the accumulation."""
    dtype = accumulation_dtype(first)
    first, second = first.to(dtype), second.to(dtype)
    # a translation changes no distance, so it needs no gradient
    centre = second.detach().mean(0) if second.shape[0] else 0
    first, second = first - centre, second - centre
    first_norm, second_norm = first.square().sum(-1, keepdim=True), second.square().sum(-1, keepdim=True).mT
    squared = first_norm + second_norm - 2 * first @ second.mT
    rounding = (first.shape[-1] + 4) * torch.finfo(dtype).eps * (first_norm + second_norm)
    return squared.masked_fill(squared <= rounding, 0)


def just_beyond(distances: Tensor, squares: Tensor, dimension: int, distance: str = "euclidean") -> Tensor:
    """Return the distances that another one has to exceed to be farther, and not only rounded to something larger.

    A squared distance from a matrix product is off by up to (D + 4) eps of the squared lengths of both points. Equal
    distances may therefore differ by that much, and which of them comes out larger would depend on the order in which
    a product happens to be added up.

    Args:
        distances: ``(N, M)`` or ``(N, P)``, in the precision of the accumulation.
        squares: squared length of the first point of each, from the centre of the points ``(N, 1)``.
        dimension: of the points, D.
        distance: which one.
    """
    squared = {"euclidean": distances.square(), "squared_euclidean": distances, "cosine": 2 * distances}[distance]
    # the second point of each, and of a rival as far away, are no longer than the first and the distance together
    limit = squared + 2 * (dimension + 4) * torch.finfo(distances.dtype).eps * (squares + squared)
    return limit.sqrt() if distance == "euclidean" else limit / 2 if distance == "cosine" else limit


def squares_of_anchors(first: Tensor, second: Tensor, distance: str = "euclidean") -> Tensor:
    """Return the squared length of every row of ``first`` from the centre of ``second`` ``(N, 1)``; 1 of angles."""
    if distance == "cosine" or not second.shape[0]:
        return accumulated(torch.ones_like(first[:, :1]))
    return (accumulated(first) - accumulated(second).mean(0)).square().sum(1, keepdim=True)


def root(squared: Tensor) -> Tensor:
    """Return the square root with gradient 0, not infinity, at 0."""
    zero = squared <= 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def unit(vectors: Tensor) -> Tensor:
    """Return the rows at length 1; a row of zeros stays as it is, with a gradient of size 1 and not 1 / eps."""
    length = root(vectors.square().sum(-1, keepdim=True))
    return vectors / length.masked_fill(length == 0, 1)
