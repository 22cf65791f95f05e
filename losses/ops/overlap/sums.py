"""The sum of overlap losses over samples, with the gradient by hand: beside the mask one pass over the logits makes it,
and it is written in their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from losses.core.reduction import Total, weighted
from losses.core.torch_private import may_read
from losses.ops.derivatives import chained, plain_gradients
from losses.ops.eager import is_eager, is_launched
from losses.ops.elementwise.buffers import buffers, gradient_like
from losses.ops.overlap.definitions import Errors
from losses.ops.tiles.sizes import sizes

Definition = Callable[[Tensor, Tensor], Tensor]
EXACT_FROM = 1 / 16
"""Weight of a false negative, beside that of a false positive and 1, from which its sums may be differences."""


def total_of_overlaps(
    errors: Errors, definition: Definition, logits: Tensor, target: Tensor, weight: Tensor | None, *, mean: bool = False
) -> Total | None:
    """Return the total of the losses of samples, from logits of yes ``(N, ...)`` and masks of 0 and 1, if it can be
    made so; for the ``mean`` its sum is divided already.

    Args:
        errors: what the loss is made of.
        definition: from logits and masks to all items ``(N,)``, as a plain composition.
        logits: ``(N, ...)``.
        target: of the same shape.
        weight: of each sample.
        mean: divide by the denominator.
    """
    if not may_read(logits) or not logits.numel() or not is_eager(logits, target, weight):
        return None
    if target.requires_grad or (weight is not None and (weight.requires_grad or weight.ndim != 1)):
        return None
    if not sums_may_be_differences(errors):
        return None
    denominator = len(logits) if weight is None else weight.sum()
    divisor = float(denominator) if mean else 1.0
    if not divisor >= torch.finfo(logits.dtype).tiny:
        return None
    factors: Tensor | float = 1 / divisor if weight is None else weight / divisor
    wanted = torch.is_grad_enabled() and logits.requires_grad  # inside of a Function it never is
    total: Tensor = OverlapSum.apply(errors, definition, wanted, logits, target, factors)  # type: ignore[no-untyped-call, unused-ignore]  # torch 2.13 leaves it untyped
    return Total(total, denominator)


def mean_of_overlaps(errors: Errors, definition: Definition, logits: Tensor, target: Tensor) -> Tensor | None:
    """Return the mean likewise, if it can be made so."""
    mean = mean_of_few(errors, logits, target)
    if mean is None:
        total = total_of_overlaps(errors, definition, logits, target, None, mean=True)
        mean = None if total is None else total.sum
    return mean


def mean_of_few(errors: Errors, logits: Tensor, target: Tensor) -> Tensor | None:
    """Return the mean over samples too small for a derivative by hand, or where every operation is a launch, in few
    operations; ``None`` where it cannot be had so."""
    alpha, beta, smooth = errors
    reads = may_read(logits)
    few = logits.numel() < sizes().in_blocks if reads else is_launched(logits, target)
    if not few or not logits.numel() or not sums_may_be_differences(errors):
        return None
    if logits.ndim != 2:
        logits, target = (part.flatten(1) if part.ndim > 1 else part.unsqueeze(-1) for part in (logits, target))
    wrong = (logits * torch.rsub(target, 1, alpha=2)).sigmoid()  # on the side that is wrong
    missed = (wrong * target).sum(1)
    unit = alpha or beta  # in which errors are counted
    rest = wrong.sum(1) if alpha == beta else wrong.sum(1).add(missed, alpha=beta / alpha - 1) if alpha else missed
    there = target.sum(1) + smooth if smooth else target.sum(1)
    if not reads:  # the least that makes nothing of nothing 0, where it has no derivative
        there = there.clamp(min=torch.finfo(there.dtype).tiny)
    whole = torch.add(rest, there - missed, alpha=1 / unit)
    if reads and not there.detach().amin().item() > 0:  # then a mask is empty
        whole = whole.clamp(min=torch.finfo(whole.dtype).tiny)
    return (rest / whole).mean()


def sums_may_be_differences(errors: Errors) -> bool:
    """Return whether what is found of the target may be what is there less what is missed, without loss of digits."""
    return errors.false_negative >= EXACT_FROM * max(1.0, errors.false_positive)


class OverlapSum(torch.autograd.Function):
    r"""The sum of factors times losses.

    With :math:`w` the probability of the wrong answer, :math:`F = \sum (1 - t) w` and :math:`M = \sum t w` are the
    false positives and negatives, :math:`H = \sum t - M + s` the true positives and what is added to them,
    :math:`E = \alpha F + \beta M` the errors and the loss :math:`E / (H + E)`. Its derivative by :math:`w` is
    :math:`(\alpha H (1 - t) + (\beta H + E)\, t) / (H + E)^2`, that of :math:`w` by the logit
    :math:`(1 - 2 t)\, w (1 - w)`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        errors: Errors,
        definition: Definition,
        wanted: bool,
        logits: Tensor,
        target: Tensor,
        factors: Tensor | float,
    ) -> Tensor:
        gradient = gradient_like(logits) if wanted else None
        masks = target.reshape(len(target), -1)
        step = max(1, 2 * sizes().block // masks.shape[1])
        parts = (torch.split(part, step) for part in (logits.reshape(masks.shape), masks))
        places = None if gradient is None else torch.split(gradient.view(masks.shape), step)
        total = 0.0
        for number, (scores, mask) in enumerate(zip(*parts, strict=True)):
            factor = factors[number * step : (number + 1) * step] if isinstance(factors, Tensor) else factors
            total += written(errors, scores, mask, factor, None if places is None else places[number])
        ctx.definition, ctx.factors = definition, factors
        ctx.save_for_backward(logits, target, gradient)
        return logits.new_tensor(total)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        logits, target, of_logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # of several at once each is a multiple of what was saved
            definition = partial(plain_sum, ctx.definition, target, ctx.factors)
            (of_logits,) = plain_gradients(definition, gradient, logits)
        else:
            of_logits = chained(gradient, of_logits)
        return None, None, None, of_logits, None, None


def written(errors: Errors, logits: Tensor, mask: Tensor, factor: Tensor | float, gradient: Tensor | None) -> float:
    """Return the sum of some samples ``(B, P)``, and write its gradient where that is wanted: first the probabilities
    of what is wrong, in pieces that stay in a cache, then the gradient in their place."""
    alpha, beta, smooth = errors
    width = logits.shape[1] if len(logits) > 1 else min(logits.shape[1], sizes().block)
    missed, wrongs, there = logits.new_zeros(3, len(logits)).unbind()
    with buffers(logits.dtype, len(logits) * width, 2) as vectors:
        masks = torch.split(mask, width, 1)
        places = repeat(None) if gradient is None else torch.split(gradient, width, 1)
        for scores, part, place in zip(torch.split(logits, width, 1), masks, places, strict=False):
            spare, wrong = (vector[: part.numel()].view(part.shape) for vector in vectors)
            wrong = wrong if place is None else place
            torch.addcmul(scores, scores, part, value=-2, out=wrong).sigmoid_()
            missed += torch.mul(wrong, part, out=spare).sum(1)
            wrongs += wrong.sum(1)
            there += part.sum(1)
        rest = wrongs.sub_(missed).mul_(alpha).add_(missed, alpha=beta)
        hits = there.sub_(missed).add_(smooth)
        whole = (hits + rest).clamp_(min=torch.finfo(hits.dtype).tiny)
        losses = rest / whole
        total = float((losses * factor).sum())
        if gradient is None:
            return total
        relative = factor / whole
        coefficient = hits.div_(whole).mul_(relative)
        less = relative.mul_(losses).add_(coefficient, alpha=alpha + beta).neg_().unsqueeze(1)
        base = coefficient.mul_(alpha).unsqueeze(1)
        for part, wrong in zip(masks, torch.split(gradient, width, 1), strict=True):
            spare = vectors[0][: part.numel()].view(part.shape)
            # not addcmul, for which torch has no vectors where two of three are one number a row
            slopes = torch.mul(part, less, out=spare).add_(base).mul_(wrong)
            torch.addcmul(slopes, slopes, wrong, value=-1, out=wrong)
        return total


def plain_sum(definition: Definition, target: Tensor, factors: Tensor | float, logits: Tensor) -> Tensor:
    """Return the same sum as a plain composition."""
    items = definition(logits, target)
    return items.sum() * factors if isinstance(factors, float) else weighted(items, factors).sum()
