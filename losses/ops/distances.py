"""Distances between embeddings: exact where it matters, with gradient 0 at distance 0.

Distances between all pairs come from one matrix product. The identity |a - b|^2 = |a|^2 + |b|^2 - 2ab loses everything
for points that nearly coincide, so the data is first moved to a centre amid most of it and the product accumulates in
float64; what is left below the rounding of that product, about 1e-8 sqrt(D + 4) of how far two points lie from there,
is a distance of exactly 0. A square beyond the range of float64 is an infinite distance, never a small one. These are
the readable definitions; :mod:`losses.ops.tiles` measures the same in blocks, and there takes differences where a
product cannot tell.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_exporting

from losses.core.precision import accumulated, accumulation_dtype

ASKED = 27  # points amid which the centre of all is; a power of three


def measured(first: Tensor, second: Tensor, measure: str) -> Tensor:
    """Return the similarity or distance of every row of ``first`` to every row of ``second``, ``(N, M)``."""
    return cosine_similarity(first, second) if measure == "similarity" else pairwise_distance(first, second, measure)


def measured_rowwise(first: Tensor, second: Tensor, measure: str) -> Tensor:
    """Return the similarity or distance of each row of ``first`` to the same row of ``second``, ``(N,)``."""
    return rowwise_cosine(first, second) if measure == "similarity" else rowwise_distance(first, second, measure)


def pairwise_distance(first: Tensor, second: Tensor, distance: str = "euclidean") -> Tensor:
    """Return the distance of every row of ``first`` ``(N, D)`` to every row of ``second`` ``(M, D)``, as ``(N, M)``."""
    if distance == "cosine":
        units = unit(first), unit(second)
        # half the squared distance of vectors of length 1 is 1 - cosine, and exactly 0 for equal ones
        return (squared_distances(*units) / 2 + (absent(units[0]).unsqueeze(1) + absent(units[1])) / 2).to(first.dtype)
    squared = squared_distances(first, second)
    return (squared if distance == "squared_euclidean" else root(squared)).to(first.dtype)


def rowwise_distance(first: Tensor, second: Tensor, distance: str = "euclidean") -> Tensor:
    """Return the distance of each row of ``first`` ``(N, D)`` to the same row of ``second``, as ``(N,)``."""
    if distance == "cosine":
        units = unit(first), unit(second)
        return (rowwise_squared(*units) / 2 + (absent(units[0]) + absent(units[1])) / 2).to(first.dtype)
    squared = rowwise_squared(first, second)
    return (squared if distance == "squared_euclidean" else root(squared)).to(first.dtype)


def absent(units: Tensor) -> Tensor:
    """Return the square of length that a row of zeros lacks to one of length 1: its cosine to all is 0."""
    return (units == 0).all(-1).to(units.dtype)


def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between every row of ``first`` and every row of ``second``; 0 for a vector of zeros."""
    return (unit(first) @ unit(second).mT).to(first.dtype)


def rowwise_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between each row of ``first`` and the same row of ``second``; 0 for a vector of zeros."""
    return (unit(first) * unit(second)).sum(-1).to(first.dtype)


def rowwise_squared(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each row to the same row, in the precision of the accumulation."""
    # a difference is rounded once; its square can leave the range
    return accumulated(first - second).square().sum(-1)


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return all squared Euclidean distances ``(N, M)`` in the precision of the accumulation."""
    dtype, may_overflow = accumulation_dtype(first), squares_may_overflow(first)
    first, second = first.to(dtype), second.to(dtype)
    # a translation changes no distance, so it needs no gradient
    middle = centre(second) if second.shape[0] else 0
    first, second = first - middle, second - middle
    first_norm, second_norm = first.square().sum(-1, keepdim=True), second.square().sum(-1, keepdim=True)
    if may_overflow:
        first, second = bounded(first, first_norm), bounded(second, second_norm)
    lengths = first_norm + second_norm.mT
    squared = lengths - 2 * first @ second.mT
    rounding = (first.shape[-1] + 4) * torch.finfo(dtype).eps * lengths
    return squared.masked_fill(squared < rounding, 0)


def squares_may_overflow(points: Tensor) -> bool:
    """Return whether squares of these numbers can leave the range of the precision they are added up in."""
    return points.dtype is accumulation_dtype(points)


def bounded(points: Tensor, squares: Tensor) -> Tensor:
    """Return points ``(N, D)`` with 0 in the place of those whose squared length ``(N, 1)`` overflows: that alone then
    makes all their distances infinite, where infinity less infinity were NaN."""
    return points.masked_fill(squares == torch.inf, 0)


def centre(points: Tensor) -> Tensor:
    """Return a constant ``(1, D)`` amid most of M > 0 points ``(M, D)``: in every coordinate the median of medians of
    three, of a few.

    A product tells distances apart to within 1e-8 of how far the points lie from the centre, so those that lie far off
    must not draw it to them, as they do a mean: seven of those asked may.
    """
    chosen = torch.arange(ASKED, device=points.device) * points.shape[0] // ASKED
    points = points.detach()
    if is_exporting():  # for the empty batch that a program may be given
        points = F.pad(points, (0, 0, 0, 1))
    # not median(), which is not deterministic on every device, and a sort is a call out of a compiled program
    points = points.index_select(0, chosen)
    while len(points) > 1:
        points = middle_of(*points.chunk(3))
    return points


def middle_of(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Return the median of three numbers, for each of many."""
    smaller, larger = torch.minimum(first, second), torch.maximum(first, second)
    return torch.maximum(smaller, torch.minimum(larger, third))


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
    return (accumulated(first) - centre(accumulated(second))).square().sum(1, keepdim=True)


def root(squared: Tensor) -> Tensor:
    """Return the square root with gradient 0, not infinity, at 0."""
    zero = squared <= 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def unit(vectors: Tensor) -> Tensor:
    """Return the rows at length 1, in the precision of the accumulation; a row of zeros stays as it is, with a gradient
    of size 1 and not 1 / eps."""
    if squares_may_overflow(vectors):
        vectors = vectors / largest(vectors.detach())  # a constant, as any factor is to a direction
    vectors = accumulated(vectors)
    length = root(vectors.square().sum(-1, keepdim=True))
    return vectors / length.masked_fill(length == 0, 1)


def length(vectors: Tensor) -> Tensor:
    """Return the lengths ``(N, 1)`` of the rows ``(N, D)`` in the precision of the accumulation, in whatever range."""
    scale = None
    if squares_may_overflow(vectors):
        range_ = torch.finfo(vectors.dtype)
        scale = largest(vectors)  # which a usual length needs not, and a division would round
        scale = scale.masked_fill((scale > range_.tiny**0.25) & (scale < range_.max**0.25), 1)
    scaled = vectors if scale is None else vectors / scale
    lengths: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True, dtype=accumulation_dtype(vectors))
    return lengths if scale is None else lengths * scale


def largest(vectors: Tensor) -> Tensor:
    """Return the largest magnitude in every row ``(N, 1)``; 1 for a row of zeros."""
    if not vectors.shape[-1]:
        return vectors.new_ones(*vectors.shape[:-1], 1)
    magnitude = vectors.abs().amax(-1, keepdim=True)
    return magnitude.masked_fill(magnitude == 0, 1)
