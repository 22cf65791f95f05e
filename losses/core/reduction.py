"""The one averaging convention of the package; it exists nowhere else.

A loss is a set of items with values l_i and weights w_i. The mean is sum(w_i l_i) / sum(w_i): an item of weight 0
changes nothing, and where no item has any weight the mean is 0 with a graph and zero gradient, never NaN. Items may
count as something else than 1 in the denominator: with c_i the mean is sum(w_i l_i) / sum(w_i c_i).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.core.collectives import in_a_group, sum_over_ranks
from losses.core.device import on_cpu
from losses.core.errors import InputError, quoted
from losses.core.precision import matched
from losses.core.torch_private import may_read, tangents_may_exist, transforms_are_active

if TYPE_CHECKING:
    from losses.core.collectives import Group


class Total(NamedTuple):
    """The weighted sum of a loss's items and what their mean divides it by: added over batches, it stays exact.

    Both are scalars, or vectors with one entry per mean for a loss whose value is a sum of several means. What is added
    are items: pairs of samples across two batches are items of neither, nor of their sum.

    >>> first, second = Total(tensor(6.0), 2), Total(tensor(1.0), 5)
    >>> first + second  # not the concatenation of two tuples
    Total(sum=tensor(7.), denominator=7)
    >>> sum([first, second]).mean()  # 7 / 7, not the mean of 3 and 0.2
    tensor(1.)
    """

    sum: Tensor
    denominator: Tensor | int

    def __add__(self, other: object) -> Total:  # of a tuple it would concatenate
        if not isinstance(other, Total):
            return NotImplemented
        if self.sum.shape != other.sum.shape:
            raise InputError(
                f"totals of shapes {tuple(self.sum.shape)} and {tuple(other.sum.shape)} cannot be added; "
                "add totals of one loss"
            )
        return Total(self.sum + other.sum, self.denominator + other.denominator)

    def __radd__(self, other: object) -> Total:
        if isinstance(other, int) and other == 0:  # where sum() starts
            return self
        raise TypeError(f"a Total is added to a Total, not to {quoted(other)}")  # a tuple would take it for its like

    def __mul__(self, other: object) -> NoReturn:  # of a tuple it would repeat
        raise TypeError("a Total cannot be multiplied; multiply its .mean(), or its .sum")

    def __rmul__(self, other: object) -> NoReturn:
        self.__mul__(other)

    def all_reduce(self, group: Group = None) -> Total:
        """Return the total over all ranks of a ``torch.distributed`` job; without one, this.

        What flows back is that of this rank's own part, times the number of ranks: DistributedDataParallel's average of
        that over ranks is the gradient of the total.

        Args:
            group: of processes; by default all of them.
        """
        if not in_a_group(group):
            return self
        denominator = torch.as_tensor(self.denominator, dtype=torch.float64, device=self.sum.device).detach()
        both = torch.cat([self.sum.double().reshape(-1), denominator.reshape(-1)])  # on their way together
        sums, denominators = torch.split(sum_over_ranks(both, group), [self.sum.numel(), denominator.numel()])
        return Total(sums.reshape(self.sum.shape).to(self.sum.dtype), denominators.reshape(denominator.shape).detach())

    def mean(self, normalizer: Tensor | float | None = None) -> Tensor:
        """Return sum / denominator, or sum / normalizer; several means are added; nothing to divide by gives 0 with a
        graph.

        Raises:
            InputError: the normalizer is no number of at least 0 or tensor, or does not fit.
        """
        denominator: Tensor | float = self.denominator
        if normalizer is not None:
            denominator = accepted_normalizer(normalizer, inspect=False)
        if isinstance(denominator, torch.SymInt):  # of an exported program, that takes the empty batch too
            denominator = torch.full((), denominator, device=self.sum.device)
        smallest = torch.finfo(self.sum.dtype).tiny  # of a number that can be divided by
        if isinstance(denominator, Tensor):
            if not denominator.ndim and may_read(denominator) and read(denominator) >= smallest:
                mean = self.sum / matched(denominator, self.sum)
                return mean.sum() if mean.ndim else mean
            if denominator.ndim and denominator.shape != self.sum.shape:
                raise InputError(
                    f"normalizer has shape {tuple(denominator.shape)}, "
                    f"the sum has shape {tuple(self.sum.shape)}; give a number"
                )
            denominator = denominator.to(self.sum.dtype)
            if suits_launches(self.sum) and not denominator.requires_grad:
                mean = applied(Quotient, self.sum, denominator, smallest)
                return mean.sum() if mean.ndim else mean
            nothing = denominator < smallest
            mean = (self.sum / denominator.masked_fill(nothing, 1)).masked_fill(nothing, 0)
        elif denominator >= smallest:
            mean = self.sum / denominator
        else:  # 0 times an infinite sum were NaN
            mean = self.sum.masked_fill(torch.ones_like(self.sum, dtype=torch.bool), 0)
        return mean.sum() if mean.ndim else mean


def total_of(items: Tensor, weight: Tensor | None = None, denominators: Tensor | None = None) -> Total:
    """Return the total of items.

    Args:
        items: values, already scaled by whatever weight the loss itself gives an item.
        weight: what the caller weighs items by; ``None`` is 1 for each.
        denominators: what an item of weight 1 adds to the denominator; ``None`` is 1 for each.
    """
    if weight is None:
        return Total(items.sum(), items.numel() if denominators is None else denominators.sum())
    counted = expanded(weight, items.shape) if denominators is None else weighted(denominators, weight)
    return Total(weighted(items, weight).sum(), counted.sum())


def weighted(items: Tensor, weight: Tensor | None) -> Tensor:
    """Return the items times their weights; a weight covers the items or their leading dimensions."""
    if weight is None:
        return items
    all_count = hides_nothing(weight)
    weight = expanded(weight, items.shape)
    if suits_launches(items) and not weight.requires_grad:
        return applied(Hidden, items, weight)
    return (items if all_count else items.masked_fill(weight == 0, 0)) * weight  # an infinite item of weight 0 is 0 too


def suits_launches(tensor: Tensor) -> bool:
    """Return whether every operation on a tensor is a launch, and a derivative by hand may save some."""
    if on_cpu(tensor) or is_compiling() or transforms_are_active() or tangents_may_exist():
        return False
    return torch.is_grad_enabled() and tensor.requires_grad


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    value: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return value


class Hidden(torch.autograd.Function):
    """:func:`weighted` in few operations; the derivative is itself made of operations that can be differentiated."""

    @staticmethod
    def forward(ctx: Any, items: Tensor, weight: Tensor) -> Tensor:
        absent = weight == 0
        ctx.save_for_backward(weight, absent)
        return (items * weight).masked_fill_(absent, 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, absent = ctx.saved_tensors
        return (gradient * weight).masked_fill_(absent, 0), None


class Quotient(torch.autograd.Function):
    """A sum over a denominator, 0 where that is less than the smallest number to divide by, likewise."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, denominator: Tensor, smallest: float) -> Tensor:
        nothing = denominator < smallest
        ctx.save_for_backward(denominator, nothing)
        return (total / denominator).masked_fill_(nothing, 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        denominator, nothing = ctx.saved_tensors
        return (gradient / denominator).masked_fill_(nothing, 0), None, None


def hides_nothing(weight: Tensor) -> bool:
    """Return whether it costs nothing to find out that no weight is 0, and none is."""
    if not may_read(weight) or not weight.numel():
        return False
    return read((weight.detach() if weight.requires_grad else weight).amin()) > 0


def read(number: Tensor) -> float:
    """Return the value of a tensor that holds one number."""
    return float(number.detach() if number.requires_grad else number)


def expanded(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return ``weight`` in the shape of the items: the same shape already, or one weight for each leading index."""
    if weight.shape == shape:
        return weight
    require_weight_fits(weight, shape)
    return weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)).expand(shape)


def require_weight_fits(weight: Tensor, shape: Sequence[int]) -> None:
    """Raise unless there is one weight per item or per leading index of items of this shape."""
    if weight.shape != shape[: weight.ndim]:
        raise InputError(
            f"weight has shape {tuple(weight.shape)}, the items have shape {tuple(shape)}; "
            "give one weight per item or per leading index (nothing else is broadcast)"
        )


def accepted_normalizer(normalizer: object, *, inspect: bool) -> Tensor | float:
    """Return a normalizer that is a number of at least 0 or a real tensor, its values read if ``inspect``."""
    if isinstance(normalizer, Tensor):
        if normalizer.dtype.is_complex:
            raise InputError(f"normalizer must be real, got {normalizer.dtype}; pass the number of items")
        if inspect and not normalizer.is_meta and not bool((normalizer.float() >= 0).all()):
            raise InputError(f"normalizer must be at least 0, got {normalizer.tolist()}; pass the number of items")
        return normalizer
    if isinstance(normalizer, int | float | torch.SymInt) and not isinstance(normalizer, bool):
        try:
            number = float(normalizer)
        except OverflowError:
            number = math.inf
        if 0 <= number < math.inf:
            return number
    raise InputError(
        f"normalizer must be a finite number of at least 0 or a tensor, "
        f"got {quoted(normalizer)}; pass the number of items"
    )
