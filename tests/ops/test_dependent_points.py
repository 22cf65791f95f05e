"""A gradient that can be differentiated once more is the gradient, where one set of points was made from the other."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.ops.tiles.sizes import block_sizes

POINTS = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.arange(8) // 2
INDICES = torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4]), torch.tensor([4, 5, 1])
MANY = (torch.arange(8).repeat(3), torch.arange(24) % 7, torch.arange(24).flip(0) % 8)
every_metric_loss = pytest.mark.parametrize("name", losses.available("metric"))


def made_from(points: Tensor) -> Tensor:
    return 1.5 * points.flip(0)


def require_one_gradient(value_of: Any) -> None:
    points = POINTS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value_of(points), points)
    (again,) = torch.autograd.grad(value_of(points), points, create_graph=True)
    torch.testing.assert_close(again, gradient)


@every_metric_loss
@pytest.mark.parametrize("dense", [0, 1 << 14])
def test_a_reference_made_from_the_anchors(name: str, dense: int) -> None:
    loss = losses.create(name).eval()  # in which a memory stands still
    with block_sizes(dense=dense):
        require_one_gradient(lambda points: loss(points, LABELS, reference=(made_from(points), LABELS.flip(0))))


@pytest.mark.parametrize("indices", [INDICES, MANY], ids=["few", "many"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@every_metric_loss
def test_a_reference_that_indices_point_into(name: str, reduction: str, indices: tuple[Tensor, ...]) -> None:
    loss = losses.create(name, reduction=reduction).eval()
    reference = LABELS.flip(0)
    require_one_gradient(lambda points: loss(points, LABELS, indices, reference=(made_from(points), reference)).sum())


@pytest.mark.parametrize("name", ["contrastive", "circle", "info_nce"])
def test_a_second_side_made_from_the_first(name: str) -> None:
    loss, target = losses.create(name), None if name == "info_nce" else torch.arange(8) % 2
    require_one_gradient(lambda points: loss(losses.Pairs(points, made_from(points)), target))


def test_triplets_made_from_their_anchors() -> None:
    loss = losses.create("triplet", margin=2.0, swap=True)
    require_one_gradient(lambda points: loss(losses.Triplets(points, made_from(points), points.roll(1, 0))))
