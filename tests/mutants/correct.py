"""Correct losses by their definitions alone, so that a fault in items is one of the loss; and what a broken loss is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import losses
from losses import Loss
from losses.checking import Report, check_loss
from losses.core.inputs import Pointwise
from losses.extend import ElementwiseLoss


class Squares(losses.MSELoss):
    fused, block_formula = ElementwiseLoss.fused, ElementwiseLoss.block_formula


class Absolutes(losses.MAELoss):
    fused, block_formula = ElementwiseLoss.fused, ElementwiseLoss.block_formula


class Entropies(losses.CrossEntropyLoss):
    fast_mean, fast_weighted_mean, fast_total = Loss.fast_mean, Loss.fast_weighted_mean, Loss.fast_total


class PairCosts(losses.ContrastiveLoss):
    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total


class AsItComes(Pointwise):
    """Hands on half precision as it comes."""

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        super().accept(loss, output, target)
        return output, target


class Square(torch.autograd.Function):
    """A square with any slope; ``saved`` is known to autograd and ``kept`` is not."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, slope: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(residual)
        ctx.kept, ctx.slope = residual.clone(), slope
        return residual.square()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.slope(upstream, ctx.saved_tensors[0], ctx.kept), None


class Mutant(NamedTuple):
    """A broken loss, the clause that must reject it, and what the clause must have seen."""

    clause: str
    loss: Loss
    seen: str
    oracle: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def correct(self) -> Loss:
        """The loss without its fault."""
        return type(self.loss).__base__(**self.loss._arguments())

    def check(self, loss: Loss) -> Report:
        return check_loss(loss, clauses=[self.clause], oracle=self.oracle)

    def __repr__(self) -> str:
        return f"{self.clause}-{type(self.loss).__name__}"
