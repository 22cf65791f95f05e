"""A gradient against finite differences on either side, so that it can be tried at kinks too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from losses.checking.case import Broken, gradients_of, shortened

STEP = 1e-8  # as a fraction of the numbers of a batch
SINGLES = 30  # numbers that are moved one at a time


def require_between_slopes(
    name: str,
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    leaves: Sequence[torch.Tensor],
    *,
    single: bool = False,
    in_place: bool = False,
    jumps: bool = False,
) -> None:
    """Raise :class:`Broken` unless a gradient lies between one-sided finite differences, along some directions.

    Args:
        name: of the batch.
        function: from leaves to a scalar.
        leaves: where to differentiate.
        single: along one number at a time.
        in_place: every number moves by a part of itself, and not of the largest.
        jumps: whether the function may do so, where it has no slope.
    """
    value = function(leaves)
    if not bool(value.isfinite().all()):
        return  # which values are finite is a matter of the edges
    gradients = gradients_of(value, leaves)
    failures = []
    tried = list(directions(leaves, single=single, in_place=in_place))
    for ways in tried:
        ahead, behind = (
            function([leaf.detach() + sign * STEP * way for leaf, way in zip(leaves, ways, strict=True)])
            for sign in (1, -1)
        )
        slopes = torch.stack([ahead - value, value - behind]).detach() / STEP
        if jumps and float(slopes.abs().amax()) > STEP**-0.5 * max(1.0, abs(value.item())):
            continue
        along = torch.stack([(part * way).sum() for part, way in zip(gradients, ways, strict=True)]).sum()
        # of the values, and of numbers about 1 that a gradient of nearly nothing is the difference of
        rounding = torch.finfo(torch.float64).eps * (64 * abs(value.item()) / STEP + 1)
        allowed = 1e-4 * float(slopes.abs().amax()) + rounding
        if not slopes.amin() - allowed <= along <= slopes.amax() + allowed:
            failures.append(f"with {name}: the gradient gives {along.item():.6g}, slopes are {shortened(slopes)}")
    if len(failures) > (0 if single else 1):  # one step may have gone over a jump, where others are chosen
        raise Broken(failures[0])


def directions(leaves: Sequence[torch.Tensor], *, single: bool, in_place: bool) -> Iterator[list[torch.Tensor]]:
    """Yield random directions of the size of the leaves: along everything, along their first index only, or, where
    there are kinks, along one number at a time, as sums of kinks have slopes of their own."""
    generator = torch.Generator().manual_seed(0)
    sizes = [leaf.detach().abs() if in_place else leaf.detach().abs().amax() for leaf in leaves]
    for number in range(SINGLES if single else 3):
        ways = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves]
        for way in ways:
            if single:
                way.masked_fill_((torch.arange(way.numel()) != number % way.numel()).reshape(way.shape), 0)
            elif number == 2:
                way[1:] = 0
        if single:  # of one leaf
            ways = [way if place == number % len(ways) else 0 * way for place, way in enumerate(ways)]
        yield [way * size for way, size in zip(ways, sizes, strict=True)]
