"""NumPy on the memory of tensors: of a thousand numbers an operation takes a third of the time of one of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from losses.core.precision import COMPUTED_IN
from losses.core.torch_private import applied_outside_transforms
from losses.ops.derivatives import Written
from losses.ops.eager import may_read, on_cpu, tangents_may_exist
from losses.ops.tiles.sizes import sizes

Array = npt.NDArray[Any]
TINY, HUGE = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
IGNORING_OVERFLOW = np.errstate(all="ignore")
"""Keeps NumPy from warning in a function that it decorates: results that are not finite are looked at there."""
WITHOUT_LOGIC = (Tensor, nn.Parameter)
"""Tensors that are nothing but their memory; NumPy would not ask another what its operations mean."""


def suits_arrays(output: Tensor, target: Tensor | None = None, weight: Tensor | None = None) -> bool:
    """Return whether NumPy may compute on the memory of tensors, and is faster: they hold few numbers of one dtype on a
    CPU, nobody traces, transforms or differentiates forward, and a derivative is wanted by the output alone."""
    if not may_read(output):  # asked first: where a program is made for any size, a size that is asked is a limit
        return False
    if not (output.requires_grad and torch.is_grad_enabled()) or tangents_may_exist():
        return False
    dtype = output.dtype
    if not 0 < output.numel() <= sizes().in_arrays or not output.ndim or dtype not in COMPUTED_IN:
        return False
    return type(output) in WITHOUT_LOGIC and is_array(target, dtype) and is_array(weight, dtype)


def is_array(constant: Tensor | None, dtype: torch.dtype) -> bool:
    """Return whether NumPy may look at numbers of a dtype by which nobody wants a derivative, if there are any."""
    if constant is None:
        return True
    if constant.dtype is not dtype or constant.requires_grad:
        return False
    return on_cpu(constant) and type(constant) in WITHOUT_LOGIC


def array(tensor: Tensor) -> Array:
    """Return the same memory for NumPy."""
    return tensor.numpy(force=True)  # "force" for one that is differentiated, or negated when it is read


def whole(values: Array) -> float:
    """Return the sum of all values."""
    return float(np.add.reduce(values, axis=None))


def sum_of(values: Array, factors: Array | float) -> float:
    """Return the sum of values times their factors, one number for all or as many as can be broadcast."""
    return whole(values) * factors if isinstance(factors, float) else whole(values * factors)


def log1p(values: Array) -> Array:
    """Write log(1 + x) in place of values; torch computes it on whole vectors, NumPy does not."""
    torch.from_numpy(values).log1p_()
    return values


def relative_weights(weight: Tensor, number: int, trailing: int) -> Array | None:
    """Return weights over the sum of those of all items; ``None`` where that cannot be divided by in float32.

    Args:
        weight: one per item or per leading index of them.
        number: of the items.
        trailing: dimensions that follow those of the weight beside what it is multiplied by.
    """
    weights = array(weight)
    total = whole(weights)
    if weights.size != number:
        total *= number // weights.size
    if not TINY <= total <= HUGE:
        return None
    weights = weights / total  # at once: tiny weights have a tiny sum
    return weights.reshape(weights.shape + (1,) * trailing) if trailing else weights


apply_written = applied_outside_transforms(Written)


def differentiable(
    value: float, slopes: Array, definition: Callable[[Tensor], Tensor], output: Tensor
) -> Tensor | None:
    """Return a value as a function of the output; ``None`` where it is not finite, perhaps by what has weight 0.

    Args:
        value: of the definition.
        slopes: its derivatives.
        definition: from the output to the same value, as a plain composition; it answers for second derivatives.
        output: what all were computed of.
    """
    if not math.isfinite(value):
        return None
    made: Tensor = apply_written(value, definition, (torch.from_numpy(slopes),), output)
    return made
