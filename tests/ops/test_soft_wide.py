"""The soft margin over all triplets where distances range widely: as exact as their definition, in a time that does not
grow with the classes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import losses
from losses.core import torch_private
from losses.ops.triplets import soft, soft_wide
from tests.largest_tensor import Largest
from tests.ops.tile_cases import assert_near, plainly

SCALES = [0.01, 1.0, 5.0, 20.0, 100.0, 1e3, 1e5]
each_way = pytest.mark.parametrize("way", ["quickest", "cells", "neighbours"])


def force(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one of the ways, in parts that hold a few rows or pairs."""
    if way != "quickest":
        monkeypatch.setattr(soft, "quickest", lambda *_: way)
        for name, size in (("POINTS", 250), ("PAIRS", 700)):
            monkeypatch.setattr(soft_wide, name, size)


def drawn(size: int, scale: float, classes: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(size + classes)
    # what float32 holds, so that both precisions compare the same points
    points = torch.randn(size, 8, generator=random, dtype=torch.float64).mul(scale).float().double()
    return points, torch.arange(size) % classes


def answers(points: Tensor, labels: Tensor, **options: Any) -> list[Tensor]:
    """Return sum and gradient."""
    leaf, distance = points.detach().requires_grad_(), options.pop("distance", "euclidean")
    total = losses.create("triplet", margin="soft", distance=distance).total(leaf, labels, **options)
    return [total.sum.detach(), torch.autograd.grad(total.sum, leaf)[0]]


def assert_as_defined(points: Tensor, labels: Tensor, *, rows: bool = True, **options: Any) -> None:
    """Compare value and gradient with the plain composition in float64, in both precisions."""
    with plainly():
        expected = answers(points, labels, **options)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        given = {name: value.to(dtype) if name == "weight" else value for name, value in options.items()}
        if "reference" in given:
            given["reference"] = (given["reference"][0].to(dtype), given["reference"][1])
        assert_near(answers(points.to(dtype), labels, **given), expected, tolerance, rows=rows)


@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize(
    ("distance", "scale", "way"),
    [
        (distance, scale, way)
        for distance, power in (("euclidean", 1), ("squared_euclidean", 2))
        for scale in SCALES
        for way in ("quickest", "cells", "neighbours")
        if way != "cells" or scale**power < 1e4  # beyond, nobody takes cells: there are as many as the range is wide
    ],
)
def test_at_any_scale_value_and_gradient_are_those_of_the_definition(
    distance: str, classes: int, scale: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(way, monkeypatch)
    assert_as_defined(*drawn(72, scale, classes), distance=distance)


@pytest.mark.parametrize(("scale", "way"), [(20.0, "cells"), (1e3, "neighbours")])
@pytest.mark.parametrize("outlier", [None, 0, 2], ids=["none", "of_a_class", "of_its_own"])
def test_a_large_batch_of_two_classes_is_exact_whatever_one_outlier_does(
    outlier: int | None, scale: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outlier is a positive or a negative of all others, but widens nobody's range by more than matters."""
    ways: list[str] = []
    choose = soft.quickest

    def remember(*given: Any) -> str:
        ways.append(choose(*given))
        return ways[-1]

    monkeypatch.setattr(soft, "quickest", remember)
    points, labels = drawn(300, scale, 2)
    if outlier is not None:
        points[7], labels[7] = 1e5, outlier
    with plainly():
        expected = answers(points, labels)
    assert_near(answers(points, labels), expected, 1e-10, rows=True)
    assert set(ways) == {way}


@each_way
def test_ties_duplicates_and_integers_are_exact(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(way, monkeypatch)
    points = torch.randint(0, 30, (60, 2), generator=torch.Generator().manual_seed(0)).double()
    points[10:15] = points[0]
    assert_as_defined(points, torch.arange(60) % 3, rows=False)


@each_way
@pytest.mark.parametrize("others", [0, 1, 40])
def test_weights_and_references_are_exact(others: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(way, monkeypatch)
    points, labels = drawn(40, 20.0, 3)
    reference, names = drawn(others, 30.0, 4)
    weight = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_as_defined(points, labels, weight=weight)
    assert_as_defined(points, labels, reference=(reference, names))


@each_way
def test_classes_of_one_and_of_all_are_nothing_to_compare(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(way, monkeypatch)
    points, _ = drawn(30, 50.0, 1)
    for labels in (torch.zeros(30, dtype=torch.long), torch.arange(30), torch.arange(30).clamp(max=1)):
        assert_as_defined(points, labels, rows=False)


class Work(TorchDispatchMode):
    """Count the elements that all operations make, in place or anew."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.elements += sum(tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, Tensor))
        return result


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(scale, (torch.float32, torch.float64)[place % 2]) for place, scale in enumerate((5.0, 20.0, 100.0, 200.0, 400.0))]
    + [(1e4, torch.float32), (1e4, torch.float64)],
    ids=str,
)
def test_two_large_classes_take_little_more_work_than_many_small_ones(
    scale: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass for every positive would take 19 times the work, a polynomial at a scale of 100 some 80 times."""
    monkeypatch.setattr(torch_private, "is_dispatched_to_python", lambda: False)
    points = torch.randn(1200, 64, generator=torch.Generator().manual_seed(0)).mul(scale).to(dtype)
    large, small = Work(), Work()
    with large:
        answers(points, torch.arange(1200) // 600)
    monkeypatch.setattr(soft, "quickest", lambda *_: "positive")
    with small:
        answers(points, torch.arange(1200) // 32)
    assert large.elements < 5 * small.elements  # none of which costs more than a softplus and a sigmoid


def test_memory_grows_with_the_points_and_not_with_pairs_or_with_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_private, "is_dispatched_to_python", lambda: False)
    for scale in (20.0, 200.0, 1e4):
        largest = []
        for size in (512, 1024):
            with Largest() as mode:
                answers(*drawn(size, scale, 2))
            largest.append(mode.elements)
        assert largest[1] <= 1024**2 * 5 / 4  # of which five blocks are one
        assert largest[1] <= 2.1 * largest[0]
