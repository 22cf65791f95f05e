"""Distances in blocks, and as a plain composition, between points of very different size: as right as differences."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from losses.ops.distances import centre, pairwise_distance
from losses.ops.tiles.blocks import Tiles

PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "ordinary": lambda points: points,
    "one far outlier": lambda points: far(points * 1e-3, [7], 1e8),
    "far outliers": lambda points: far(points * 1e-3, [1, 3, 7], 1e8),
    "an outlier of a group far from the origin": lambda points: far(points * 1e-3 + 1e4, [7], 1e8),
    "far from the origin": lambda points: points * 1e-3 + 1e4,
    "a row of zeros beside a group far from the origin": lambda points: far(points * 1e-2 + 1e4, [7], 0),
    "duplicates": lambda points: torch.cat([points[: len(points) // 2]] * 2),
    "of all sizes": lambda points: points * torch.logspace(-6, 8, len(points)).double().unsqueeze(1),
    "half of them huge": lambda points: far(points * 1e-3, range(0, len(points), 2), 1e8),
    "tight groups far apart": lambda points: points * 1e-3 + 1e7 * (torch.arange(len(points)) % 3).unsqueeze(1),
    "one coordinate outweighs the others": lambda points: points * torch.tensor([1e7] + [1e-3] * (points.shape[1] - 1)),
}
# where one product cannot tell, whatever its centre, and nobody may look
IN_BLOCKS_ALONE = ("of all sizes", "half of them huge", "tight groups far apart", "one coordinate outweighs the others")
# a product in float32 is taken where it loses no more than 1e-4 in the worst case, one in float64 where it loses 1e-6
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-6}


def far(points: Tensor, rows: list[int] | range, scale: float) -> Tensor:
    points = points.clone()
    points[list(rows)] *= scale / points[list(rows)].norm(dim=1, keepdim=True)
    return points


def drawn(place: str, size: int, dimension: int, dtype: torch.dtype) -> Tensor:
    points = torch.randn(size, dimension, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return PLACES[place](points).to(dtype)


def exactly(first: Tensor, second: Tensor, measure: str, slope: Tensor) -> list[Tensor]:
    """Return distances from differences in float64, and the gradients of both sides, with the size of their terms."""
    difference = first.double().unsqueeze(1) - second.double()
    distances = difference.norm(dim=2)
    direction = difference / distances.masked_fill(distances == 0, 1).unsqueeze(2)
    size = slope.double() * (1 if measure == "euclidean" else 2 * distances)
    terms = size.unsqueeze(2) * direction
    values = distances if measure == "euclidean" else distances.square()
    return [values, terms.sum(1), size.abs().sum(1), -terms.sum(0), size.abs().sum(0)]


def in_blocks(
    first: Tensor, second: Tensor | None, measure: str, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    tiles = Tiles(first, second, measure, differentiable=(True, second is not None))
    values = torch.empty_like(slope)
    for tile in tiles:
        values[tile.rows] = tile.values
        tile.accumulate_gradient(slope[tile.rows].clone())
    of_first, of_second = tiles.gradients()
    assert of_first is not None
    return values, of_first[0], None if of_second is None else of_second[0]


def compare(actual: Tensor, exact: Tensor, size: Tensor, tolerance: float) -> None:
    error = (actual.double() - exact).abs()
    assert bool((error <= tolerance * size).all()), f"{(error / size.clamp(min=1e-300)).max():.2g}"


@pytest.mark.parametrize("measure", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("size", "others"), [(12, None), (90, None), (600, None), (40, 300), (300, 40)])
@pytest.mark.parametrize("place", PLACES)
def test_distances_in_blocks_are_as_right_as_differences(
    place: str, size: int, others: int | None, dtype: torch.dtype, measure: str
) -> None:
    points = drawn(place, size + (others or 0), 4, dtype)
    first, second = (points, None) if others is None else (points[:size], points[size:])
    slope = torch.randn(size, others or size, generator=torch.Generator().manual_seed(1)).to(dtype)
    if second is None:
        slope.fill_diagonal_(0)
    values, of_first, of_second = in_blocks(first, second, measure, slope)
    exact, *gradients = exactly(first, first if second is None else second, measure, slope)
    if second is None:
        assert (values.diagonal() == torch.inf).all()
        values.fill_diagonal_(0)
        gradients = [gradients[0] + gradients[2], gradients[1] + gradients[3]]
    compare(values, exact, exact, TOLERANCE[dtype])
    compare(of_first, gradients[0], gradients[1].unsqueeze(1), TOLERANCE[dtype])
    if of_second is not None:
        compare(of_second, gradients[2], gradients[3].unsqueeze(1), TOLERANCE[dtype])


@pytest.mark.parametrize("measure", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("place", [place for place in PLACES if place not in IN_BLOCKS_ALONE])
def test_distances_as_a_plain_composition_are_as_right_as_differences(
    place: str, dtype: torch.dtype, measure: str
) -> None:
    points = drawn(place, 60, 4, dtype).requires_grad_()
    slope = torch.randn(60, 60, generator=torch.Generator().manual_seed(1)).to(dtype)
    values = pairwise_distance(points, points, measure)
    (gradient,) = torch.autograd.grad((values * slope).sum(), points)
    exact, *gradients = exactly(points.detach(), points.detach(), measure, slope)
    compare(values.detach(), exact, exact, TOLERANCE[dtype])
    compare(gradient, gradients[0] + gradients[2], (gradients[1] + gradients[3]).unsqueeze(1), TOLERANCE[dtype])


@pytest.mark.parametrize("size", [1, 2, 14, 15, 16, 400])
def test_the_centre_lies_amid_most_points(size: int) -> None:
    points = drawn("ordinary", size, 3, torch.float64)
    outliers = max(0, size // 15 - 1)
    points[:outliers] = 1e100
    assert centre(points).shape == (1, 3)
    assert (centre(points).abs() <= 5).all()
    assert torch.equal(centre(torch.full((size, 3), 0.1)), torch.full((1, 3), 0.1))


@pytest.mark.parametrize("scale", [1e150, 1e160, 1e300])
def test_squares_beyond_float64_leave_euclidean_distances_in_blocks_right(scale: float) -> None:
    points, slope = drawn("ordinary", 20, 3, torch.float64), torch.ones(20, 20, dtype=torch.float64).fill_diagonal_(0)
    values, gradient, _ = in_blocks(points * scale, None, "euclidean", slope)
    exact, *gradients = exactly(points, points, "euclidean", slope)
    torch.testing.assert_close(values.fill_diagonal_(0), exact * scale)
    torch.testing.assert_close(gradient, gradients[0] + gradients[2])


@pytest.mark.parametrize("measure", ["euclidean", "squared_euclidean"])
def test_squares_beyond_float64_are_infinite_where_nobody_may_look(
    measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("losses.ops.tiles.blocks.may_read", lambda _: False)
    points = far(drawn("ordinary", 20, 3, torch.float64), [7, 8], 1e160)
    ordinary = ~torch.isin(torch.arange(20), torch.tensor([7, 8]))
    for values in (
        pairwise_distance(points, points, measure),
        in_blocks(points, None, measure, torch.zeros(20, 20, dtype=torch.float64))[0],
    ):
        values.fill_diagonal_(0)
        assert (values[7, ordinary] == torch.inf).all()
        assert values[7, 8] == torch.inf
        exact = exactly(points[ordinary], points[ordinary], measure, torch.zeros(18, 18))[0]
        torch.testing.assert_close(values[ordinary][:, ordinary], exact)
