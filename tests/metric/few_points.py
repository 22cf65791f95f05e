"""Four points or fewer that coincide, are alone or are all of one class: what a metric loss has to survive."""

from typing import Any

import torch
from torch import Tensor

import losses
from tests.gradients import backward

POINTS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
TWICE = torch.cat([POINTS[:2], POINTS[:2]])
FEW_POINTS = {
    "none": (POINTS[:0], []),
    "one": (POINTS[:1], [0]),
    "one class": (POINTS, [0, 0, 0, 0]),
    "all different": (POINTS, [0, 1, 2, 3]),
    "zeros": (torch.zeros(4, 3), [0, 0, 1, 1]),
    "ones": (torch.ones(4, 3), [0, 0, 1, 1]),
    "equal across classes": (TWICE, [0, 0, 1, 1]),
    "equal within classes": (TWICE, [0, 1, 0, 1]),
}


def assert_few_points_are_finite(
    name: str,
    parameters: dict[str, Any],
    dtype: torch.dtype,
    *,
    nothing: set[str],
    more: dict[str, tuple[Tensor, list[int]]],
) -> None:
    """Check that value and gradient are finite in every reduction, and zero where there is nothing to compare."""
    for reduction in ("mean", "sum", "none"):
        for points, (embeddings, labels) in (FEW_POINTS | more).items():
            loss, target = losses.create(name, **parameters, reduction=reduction), torch.tensor(labels).long()
            value, gradient = backward(loss, embeddings.to(dtype), target)
            if points in nothing:
                assert not value.any()
                assert not gradient.any()
