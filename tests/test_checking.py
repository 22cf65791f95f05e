"""Tests of the tests: broken losses, each rejected by the clause named for its fault, which the correct loss keeps."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Categorical

import losses
from losses import ConfigError, InputError, Loss, Pairs, VAEOutput
from losses.checking import CLAUSES, Report, check_loss
from losses.core.inputs import LOGITS, POINTWISE, Batch, Pointwise
from losses.core.labelled import LabelledBatch
from losses.core.parameters import Positive, Reduction, checked
from losses.core.reduction import Total

# Correct losses by their definitions alone: a fault in items is then a fault of the loss.


class Squares(losses.MSELoss):
    kernel = Loss.kernel


class Absolutes(losses.MAELoss):
    kernel = Loss.kernel


class Entropies(losses.CrossEntropyLoss):
    mean, summed = Loss.mean, Loss.summed


class PairCosts(losses.ContrastiveLoss):
    summed = Loss.summed


class AsItComes(Pointwise):
    """Hands on half precision as it comes."""

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        super().accept(loss, output, target)
        return output, target


# What a loss means


class SmoothL1(losses.HuberLoss):
    """Is smooth L1, which is Huber's loss divided by beta."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(prediction, target, beta=self.delta, reduction="none")

    kernel = Loss.kernel


class Negated(Squares):
    """Has the wrong sign."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -super().items(prediction, target)


class OneSided(Squares):
    """Does not mind predictions that are too low."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).relu().square()


class NeverZero(Absolutes):
    """Has a smoothing constant that is still there at the target."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).square() + 1e-6).sqrt()


class DroopingTail(losses.HuberLoss):
    """Has a tail of delta (|r| - delta), which keeps every law of Huber's."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        size = (prediction - target).abs()
        return torch.where(size <= self.delta, size.square() / 2, self.delta * (size - self.delta))

    kernel = Loss.kernel


class Halved(Squares):
    """Takes the half of another convention."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / 2


class MarginTwice(losses.HingeLoss):
    """Adds the margin twice."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (2 * self.margin - scores.where(target > 0, -scores)).relu()


class WrongSide(losses.HingeLoss):
    """Takes no for yes."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return super().items(scores, -target)


class SwappedDirection(losses.KLDivergenceLoss):
    """Is KL(output, target) where KL(target, output) was asked for."""

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return type(self).__base__(direction="reverse").items(output, target)


class MeanOverOutcomes(losses.KLDivergenceLoss):
    """Divides by outcomes too, as torch's reduction="mean" does where its "batchmean" is the divergence."""

    def mass(self, items: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return torch.full_like(items, output.shape[-1])


class IgnoredCount(Entropies):
    """Counts ignored positions in the denominator."""

    def mass(self, items: Tensor, logits: Tensor, target: Tensor) -> None:
        return None


class ForgottenHalf(losses.HuberLoss):
    """Forgets a half in the definition, which the kernel has."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 2 * super().items(prediction, target)


class BatchMean(losses.MSELoss):
    """Divides by the number of rows where items are elements."""

    def summed(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return super().summed(output, target, weight)._replace(weight=len(output))

    kernel = Loss.kernel


# Averaging


class MeanOverColumns(losses.MSELoss):
    """Takes the mean over one axis and the sum over the other."""

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target).mean(0).sum()


class WeightsUncounted(losses.MSELoss):
    """Divides by the number of items where their weights should be summed."""

    def summed(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return super().summed(output, target, weight)._replace(weight=output.numel())


class WeightsDropped(losses.MSELoss):
    """Takes weights and never looks at them."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options)


class WeightsForgottenInSums(losses.MSELoss):
    """Weighs items, and forgets to where they are summed."""

    def summed(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return super().summed(output, target, None)


class WeightsNormalised(losses.MSELoss):
    """Makes weights sum to 1, so that no sum knows them again."""

    def spread(self, weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return weight / weight.sum()


class NotHiding(losses.MSELoss):
    """Multiplies what has weight 0 by 0, which NaN survives."""

    class Bare(Pointwise):
        def hide(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
            return Batch(output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Bare(),))


class UnguardedDenominator(losses.MSELoss):
    """Divides by the sum of the weights whatever it is."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        if weight is None:
            return super().forward(output, target, **options)
        total = self.total(output, target, weight=weight)
        return total.sum / total.weight


class NormalizerIgnored(losses.MSELoss):
    """Takes a normalizer and divides by its own count."""

    def forward(self, output: Any, target: Any = None, *, normalizer: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options)


class BatchStatistics(Squares):
    """Measures errors by the spread of the batch that they come in."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / target.std(0)


# Derivatives


class DetachedOutput(Squares):
    """Lets half of the gradient through."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * (prediction - target).detach()


class ThroughData(Squares):
    """Uses .data in the middle of a formula."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * (prediction.data - target)


class DetachedSide(PairCosts):
    """Moves one side of a pair only."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(
            Pairs(output.first, output.second.detach()) if isinstance(output, Pairs) else output, target
        )


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


class WrongBackward(Squares):
    """Forgets the 2 in a backward of its own."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: upstream * saved)


class OnceDifferentiable(Squares):
    """Has a backward that cannot be differentiated."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(
            prediction - target, once_differentiable(lambda upstream, saved, kept: 2 * upstream * saved)
        )


class SilentlyOnceDifferentiable(Squares):
    """Has a backward whose own gradient lacks a term, without an error."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * kept)


class BackwardOnly(Squares):
    """Has a backward of its own and no forward mode."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class SquareWithTangent(Square):
    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.kept * tangent


class WrongTangent(Squares):
    """Forgets the 2 in a forward mode of its own."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return SquareWithTangent.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class UpstreamIgnored(Squares):
    """Has a backward that takes the gradient of what follows for 1."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * saved)


class BackwardInPlace(Squares):
    """Has a backward that overwrites what it needs the next time."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: kept.mul_(2) * upstream)


# Edges and precision


class UnguardedRoot(Absolutes):
    """Takes the root of 0, whose slope is infinite."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sqrt()


class VanishingEpsilon(Absolutes):
    """Guards a root by 1e-12, which is 0 in float16."""

    spec = replace(losses.MAELoss.spec, inputs=(AsItComes(),))

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).square() + 1e-12).sqrt()


class CancellingDistance(PairCosts):
    """Takes |a|^2 + |b|^2 - 2ab for a distance, which rounds to less than 0."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if not isinstance(output, Pairs):
            return super().items(output, target)
        first, second = output
        squared = first.square().sum(1) + second.square().sum(1) - 2 * (first * second).sum(1)
        return self._of_pairs(squared.sqrt(), target > 0)


class UnguardedLength(PairCosts):
    """Divides by the length of a vector whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if isinstance(output, Pairs):
            output = Pairs(*(side / side.square().sum(1, keepdim=True).sqrt() for side in output))
        return super().items(output, target)


class LogOfSoftmax(Entropies):
    """Takes the logarithm of a probability that was rounded to 0."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.dtype.is_floating_point:
            return super().items(logits, target)
        return -logits.softmax(1).log().gather(1, target.unsqueeze(1)).squeeze(1)


class LogOfOnePlusExp(losses.BinaryCrossEntropyLoss):
    """Writes softplus as log1p(exp(.)), which overflows."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.log1p(logits.exp()) - target * logits

    kernel = Loss.kernel


class ZeroTimesInfinity(Entropies):
    """Multiplies a probability of 0 by the logarithm of 0."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        one_hot = F.one_hot(target, logits.shape[1]) if not target.dtype.is_floating_point else target
        return -(one_hot * logits.log_softmax(1)).sum(1)


class ZeroLogZero(losses.KLDivergenceLoss):
    """Does not know that 0 log 0 is 0."""

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return (target * (target.log() - output.log_softmax(-1))).sum(-1)


class UnboundedVariance(losses.ELBOLoss):
    """Takes exp of any log-variance."""

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        divergence = (output.log_variance.exp() + output.mean.square() - 1 - output.log_variance) / 2
        return self._parts(output, target)[0] + divergence.sum(1)


class BalancedByDifferent(PairCosts):
    """Divides by the number of pairs of two classes whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(output, target) / (~self._pairs(output, target)[1]).sum()


class BalancedBySame(PairCosts):
    """Divides by the number of pairs of one class whatever it is."""

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return super().items(output, target) / self._pairs(output, target)[1].sum()


class NothingByNothing(losses.MSELoss):
    """Takes the mean of nothing, which is NaN."""

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target).mean()


class ZeroWithoutAGraph(losses.MSELoss):
    """Returns a constant for an empty batch, on which backward() raises."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options) if len(output) else torch.zeros((), dtype=output.dtype)


class SpreadOfOne(Squares):
    """Divides by the spread of the batch, which is 0 for one sample."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / target.std(0, correction=0)


class NothingLeft(losses.CrossEntropyLoss):
    """Divides by the number of positions that are not ignored whatever it is."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=self.ignore_index)


class TrustingHistograms(losses.WassersteinLoss):
    """Never looks whether a histogram holds anything."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        with losses.checks("never"):
            return super().forward(output, target, **options)


class NarrowArithmetic(losses.MSELoss):
    """Computes in bfloat16 what came in float32."""

    def kernel(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        narrow = torch.bfloat16 if prediction.dtype is torch.float32 else prediction.dtype
        return F.mse_loss(prediction.to(narrow), target.to(narrow), reduction=reduction).to(prediction.dtype)


class ResultInHalf(losses.MSELoss):
    """Rounds its result to the half precision of the output."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output, target, **options).to(output.dtype)


class SumInHalf(Squares):
    """Sums in half precision and divides afterwards."""

    spec = replace(losses.MSELoss.spec, inputs=(AsItComes(),))


# What must not matter, and what must not happen


class RampOverTheBatch(Squares):
    """Weighs samples by their position."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * torch.arange(len(target)).unsqueeze(1)


class GradientInMemoryOrder(Squares):
    """Has a backward that reads memory in the order of contiguous tensors."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        contiguous = torch.empty(target.shape).stride()
        return Square.apply(
            prediction - target, lambda upstream, saved, kept: 2 * upstream * saved.as_strided(saved.shape, contiguous)
        )


class ViewOfStrides(Squares):
    """Takes a view where only a reshape is always possible."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction.view(-1), target.view(-1))


class TargetOverwritten(Squares):
    """Spares an allocation at the caller's cost."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return target.sub_(prediction.detach()).square() + 0 * prediction


class OutputClamped(Squares):
    """Clamps the output in place, where autograd does not see it."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        prediction.detach().clamp_(-1, 1)
        return super().items(prediction, target)


class AlwaysSingle(Squares):
    """Turns float64 into float32 without a word."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction.float(), target.float())


class Counting(Squares):
    """Grows with every call."""

    calls = 0

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return super().items(prediction, target) * self.calls


class RunningScale(Squares):
    """Divides by a running mean of its own values."""

    scale: Tensor | float = 1.0

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        items = super().items(prediction, target)
        self.scale = 0.9 * self.scale + 0.1 * items.detach().mean()
        return items / self.scale


class ScaledByTheFirst(Squares):
    """Measures errors by the spread of the first batch it ever saw, and a checkpoint does not hold it."""

    scale: Tensor | None = None

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = target.std()
        return super().items(prediction, target) / self.scale


class Reseeding(Squares):
    """Seeds the generator that dropout and shuffling draw from."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().items(prediction, target)


class ReadingAValue(Squares):
    """Asks for a number with .item()."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) * max(1.0, target.max().item())


class BranchingOnAValue(Squares):
    """Decides by a tensor, which is a hidden .item()."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) if target.any() else (prediction * 0)


class IndexingByAMask(Squares):
    """Picks items by a mask, so that their number must be known."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target)[target > 0]


class LookingForNonzero(Squares):
    """Looks for the places of items, so that their number must be known."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target)[torch.nonzero(target > 0, as_tuple=True)]


class ListingValues(Squares):
    """Brings the whole target to the host as a list."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, torch.tensor(target.tolist(), dtype=target.dtype).reshape(target.shape))


# What is written down


class ForgetfulConfig(losses.HuberLoss):
    """Does not write down its delta."""

    def config(self) -> dict[str, Any]:
        return {"name": "huber", "reduction": self.reduction}

    def _get_name(self) -> str:
        return "HuberLoss"  # or the name of the class would give it away


class DefaultConfig(losses.HuberLoss):
    """Writes down the default in place of its delta."""

    def config(self) -> dict[str, Any]:
        return super().config() | {"delta": 1.0}

    def _get_name(self) -> str:
        return "HuberLoss"


class HoldingALambda(losses.MSELoss):
    """Keeps a lambda, which cannot be pickled."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.transform = lambda value: value


class HoldingItsGraph(Squares):
    """Keeps its last result, which cannot be copied."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.last = super().items(prediction, target)
        return self.last


class ForeignState(losses.MSELoss):
    """Puts into its checkpoint what only unsafe loading reads back."""

    def get_extra_state(self) -> Fraction:
        return Fraction(1, 2)

    def set_extra_state(self, state: Fraction) -> None:
        pass


# What is refused


class UncheckedParameter(losses.HuberLoss):
    """Takes anything for its delta."""

    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.delta = delta


class NamelessRefusal(losses.HuberLoss):
    """Does not say which of its parameters was wrong."""

    def __init__(self, *, delta: Positive = 1.0, reduction: Reduction = "mean") -> None:
        try:
            super().__init__(delta=delta, reduction=reduction)
        except ConfigError:
            raise ConfigError("bad value") from None


class TrustingNumbers(losses.MSELoss):
    """Never looks for NaN."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        with losses.checks("never"):
            return super().forward(output, target, **options)


class TrustingTargets(losses.MSELoss):
    """Looks for NaN in the output only."""

    class HalfInspected(Pointwise):
        def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
            super().inspect(loss, output, output)

    spec = replace(losses.MSELoss.spec, inputs=(HalfInspected(),))


class WeightsOfColumns(losses.MSELoss):
    """Broadcasts weights that are one per column."""

    def forward(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **options: Any) -> Tensor:
        if weight is not None and weight.shape == output.shape[1:]:
            weight = weight.expand_as(output)
        return super().forward(output, target, weight=weight, **options)


class CastingIntegers(losses.MSELoss):
    """Casts integers, which have no gradient, without a word."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        return super().forward(output.double() if output.dtype is torch.int64 else output, target, **options)


class Broadcasting(losses.MSELoss):
    """Compares all with all where (N, 1) meets (N,)."""

    class Stretched(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            if isinstance(output, Tensor) and output.ndim != target.ndim:
                output, target = torch.broadcast_tensors(output, target)
            return super().accept(loss, output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Stretched(),))


class BroadcastingColumns(losses.MSELoss):
    """Compares every column with the only one there is."""

    class Stretched(Pointwise):
        def accept(self, loss: Any, output: Any, target: Any) -> tuple[Tensor, Tensor]:
            if isinstance(output, Tensor) and output.ndim == target.ndim == 2 and len(output) == len(target):
                output, target = torch.broadcast_tensors(output, target)
            return super().accept(loss, output, target)

    spec = replace(losses.MSELoss.spec, inputs=(Stretched(),))


class Curt(losses.MSELoss):
    """Says no and nothing else."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        try:
            return super().forward(output, target, **options)
        except InputError:
            raise InputError("bad batch") from None


class WithoutAFix(losses.MSELoss):
    """Says what is wrong, and not how to mend it."""

    def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
        try:
            return super().forward(output, target, **options)
        except InputError as error:
            what = str(error).replace(" (nothing is broadcast)", "").replace("; they must", ", they must")
            raise InputError(what.rpartition("; ")[0] or what) from None


# What torch does to a function


class GraphBreaking(Squares):
    """Leaves the compiled graph."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().items(prediction, target)


class RowByRow(Squares):
    """Loops over the batch, so that every size is another program."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.stack([row.square() for row in prediction - target])


class OldFunction(Squares):
    """Has a derivative by hand in the style that torch.func does not take."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class AssigningData(Squares):
    """Clips outliers where autograd does not see it, and torch.func does not allow it."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        residual.data = residual.data.clamp(-1e3, 1e3)
        return residual.square()


class FillingABuffer(Squares):
    """Adds in place to what is not batched."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return target.neg().add_(prediction).square()


class Mutant(NamedTuple):
    """A broken loss, the clause that must reject it, and what the clause must have seen."""

    clause: str
    loss: Loss
    seen: str
    oracle: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def correct(self) -> Loss:
        """The loss without its fault."""
        settings = Loss.config(self.loss)
        del settings["name"]
        return type(self.loss).__base__(**settings)

    def check(self, loss: Loss) -> Report:
        return check_loss(loss, clauses=[self.clause], oracle=self.oracle)

    def __repr__(self) -> str:
        return f"{self.clause}-{type(self.loss).__name__}"


def forward_divergence(output: Tensor, target: Tensor) -> Tensor:
    return torch.distributions.kl_divergence(Categorical(probs=target), Categorical(logits=output)).mean()


def batchmean_divergence(output: Tensor, target: Tensor) -> Tensor:
    return F.kl_div(output.log_softmax(-1), target, reduction="batchmean")


def ranked_above_zero(scores: Tensor, target: Tensor) -> Tensor:
    return F.margin_ranking_loss(scores, torch.zeros_like(scores), target, margin=1.0)


def without_class_0(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits[target != 0], target[target != 0])


MUTANTS = [
    Mutant("keeps_its_laws", SmoothL1(), "LawError: everything times 2"),
    Mutant("keeps_its_laws", Negated(), "LawError: an item is -"),
    Mutant("keeps_its_laws", OneSided(), r"LawError: loss\(target, output\)"),
    Mutant("keeps_its_laws", NeverZero(), r"LawError: loss\(target, target\)"),
    Mutant("equals_its_oracle", DroopingTail(), "value: ", F.huber_loss),
    Mutant("equals_its_oracle", Halved(), "value: ", F.mse_loss),
    Mutant("equals_its_oracle", DetachedOutput(), "gradient: ", F.mse_loss),
    Mutant("equals_its_oracle", MarginTwice(), "value: ", ranked_above_zero),
    Mutant("equals_its_oracle", WrongSide(), "value: ", ranked_above_zero),
    Mutant("equals_its_oracle", SwappedDirection(), "value: ", forward_divergence),
    Mutant("equals_its_oracle", MeanOverOutcomes(), "value: ", batchmean_divergence),
    Mutant("equals_its_oracle", IgnoredCount(ignore_index=0), "value: ", without_class_0),
    Mutant("definition_equals_fast_path", ForgottenHalf(), "sum: "),
    Mutant("definition_equals_fast_path", BatchMean(), "mean: "),
    Mutant("reductions_agree", MeanOverColumns(), "'mean' against total"),
    Mutant("reductions_agree", NormalizerIgnored(), "normalizer=2"),
    Mutant("weight_of_one_changes_nothing", WeightsUncounted(), "weight=2, mean"),
    Mutant("weight_of_one_changes_nothing", WeightsDropped(), "weight=2, sum"),
    Mutant("weight_of_one_changes_nothing", WeightsNormalised(), "weight=2, sum"),
    Mutant("weights_agree", WeightsForgottenInSums(), "'none' against 'sum'"),
    Mutant("zero_weight_hides", WeightsDropped(), "NaN at weight 0: nan"),
    Mutant("zero_weight_hides", NotHiding(), "gradient with NaN at weight 0"),
    Mutant("zero_weight_hides", WeightsUncounted(), "value without it"),
    Mutant("all_weights_zero", UnguardedDenominator(), "nan, expected 0"),
    Mutant("halves_make_the_whole", NormalizerIgnored(), "sum over halves"),
    Mutant("halves_make_the_whole", BatchStatistics(), "sum over halves"),
    Mutant("many_items", SumInHalf(), "value inf|in float64"),
    Mutant("first_derivative", DetachedOutput(), "Jacobian mismatch"),
    Mutant("first_derivative", ThroughData(), "Jacobian mismatch"),
    Mutant("first_derivative", DetachedSide(), "Jacobian mismatch"),
    Mutant("first_derivative", WrongBackward(), "Jacobian mismatch"),
    Mutant("second_derivative", OnceDifferentiable(), "Jacobian mismatch"),
    Mutant("second_derivative", SilentlyOnceDifferentiable(), "Jacobian mismatch"),
    Mutant("forward_mode", BackwardOnly(), "forward AD|forward mode"),
    Mutant("forward_mode", WrongTangent(), "forward mode"),
    Mutant("backward_twice", UpstreamIgnored(), "grad_output of -3"),
    Mutant("backward_twice", BackwardInPlace(), "the second backward"),
    Mutant("equal_points", UnguardedRoot(), "gradient .*nan"),
    Mutant("equal_points", VanishingEpsilon(), "gradient .*nan"),
    Mutant("near_duplicates", CancellingDistance(), "nan"),
    Mutant("zero_vectors", UnguardedLength(), "nan"),
    Mutant("extreme_values", LogOfSoftmax(), "value inf|gradient .*nan"),
    Mutant("extreme_values", LogOfOnePlusExp(), "value (inf|nan)"),
    Mutant("infinite_logits", ZeroTimesInfinity(), "value nan"),
    Mutant("one_hot_and_disjoint", ZeroLogZero(), "value nan"),
    Mutant("extreme_log_variance", UnboundedVariance(), "value inf"),
    Mutant("one_class", BalancedByDifferent(), "value (inf|nan)"),
    Mutant("every_label_different", BalancedBySame(), "value (inf|nan)"),
    Mutant("empty_batch", NothingByNothing(), "nan, expected 0"),
    Mutant("empty_batch", ZeroWithoutAGraph(), "no graph"),
    Mutant("one_item", SpreadOfOne(), "value inf"),
    Mutant("everything_ignored", NothingLeft(), "nan, expected 0"),
    Mutant("ignored_targets_do_not_count", IgnoredCount(), "expected"),
    Mutant("zero_histogram_is_refused", TrustingHistograms(input="probs"), "was accepted"),
    Mutant("rounding", NarrowArithmetic(), "off by"),
    Mutant("half_precision_accumulates_in_float32", ResultInHalf(), "the value is torch.b?float16"),
    Mutant("order_of_the_batch", RampOverTheBatch(), "permuted"),
    Mutant("memory_layout", GradientInMemoryOrder(), "gradient"),
    Mutant("memory_layout", ViewOfStrides(), "view size is not compatible"),
    Mutant("inputs_stay_untouched", TargetOverwritten(), "an input changed"),
    Mutant("inputs_stay_untouched", OutputClamped(), "an input changed"),
    Mutant("dtype_and_device_stay", AlwaysSingle(), "torch.float32"),
    Mutant("no_state_between_calls", Counting(), "called again"),
    Mutant("no_state_between_calls", RunningScale(), "called again"),
    Mutant("no_state_between_calls", ScaledByTheFirst(), "called"),
    Mutant("no_state_between_calls", Reseeding(), "generator"),
    Mutant("no_synchronisation", ReadingAValue(), "_local_scalar_dense"),
    Mutant("no_synchronisation", BranchingOnAValue(), "_local_scalar_dense|is_nonzero"),
    Mutant("no_synchronisation", IndexingByAMask(), "index"),
    Mutant("no_synchronisation", LookingForNonzero(), "nonzero"),
    Mutant("no_synchronisation", ListingValues(), "reads values"),
    Mutant("config_round_trip", ForgetfulConfig(delta=3.0), "became .*delta=1.0"),
    Mutant("config_round_trip", DefaultConfig(delta=3.0), "value: "),
    Mutant("copies", HoldingALambda(), "pickle"),
    Mutant("copies", HoldingItsGraph(), "deepcopy"),
    Mutant("state_dict", ForeignState(), "Weights only load failed"),
    Mutant("state_dict", ScaledByTheFirst(), "restored"),
    Mutant("bad_parameters_are_refused", UncheckedParameter(), "delta=nan is accepted"),
    Mutant("bad_parameters_are_refused", NamelessRefusal(), "does not name it"),
    Mutant("bad_batches_are_refused", TrustingNumbers(), "NaN.* is accepted"),
    Mutant("bad_batches_are_refused", CastingIntegers(), "integers is accepted"),
    Mutant("bad_batches_are_refused", Broadcasting(), "is accepted"),
    Mutant("bad_batches_are_refused", TrustingTargets(), "is accepted"),
    Mutant("bad_weights_are_refused", WeightsOfColumns(), "is accepted"),
    Mutant("bad_batches_are_refused", BroadcastingColumns(), "is accepted"),
    Mutant("refusals_help", Curt(), "does not say what came"),
    Mutant("refusals_help", WithoutAFix(), "does not say how to mend it"),
    Mutant("compiles", GraphBreaking(), "graph_break"),
    Mutant("compiles_once_for_all_sizes", RowByRow(), "compiled 3 times"),
    Mutant("exports", BranchingOnAValue(), "data-dependent|Data-dependent|guard"),
    Mutant("func_grad", OldFunction(), "setup_context"),
    Mutant("func_grad", AssigningData(), r"\.data"),
    Mutant("func_vmap", FillingABuffer(), "broadcast shape"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=repr)
def test_a_broken_loss_is_rejected_by_the_clause_named_for_its_fault(mutant: Mutant) -> None:
    failures = mutant.check(mutant.loss).failures
    assert {failure.clause for failure in failures} == {mutant.clause}
    for failure in failures:
        assert re.search(mutant.seen, failure.seen.partition(": not so for ")[2]), failure.seen


@pytest.mark.parametrize(
    "mutant", {f"{mutant.clause}-{mutant.correct}": mutant for mutant in MUTANTS}.values(), ids=repr
)
def test_the_loss_without_the_fault_keeps_that_clause(mutant: Mutant) -> None:
    assert {verdict.outcome for verdict in mutant.check(mutant.correct).verdicts} == {"kept"}


def test_every_clause_has_a_broken_loss_to_reject() -> None:
    assert {mutant.clause for mutant in MUTANTS} == set(CLAUSES)


def test_a_fault_of_one_precision_is_reported_for_that_precision_alone() -> None:
    (failure,) = check_loss(VanishingEpsilon(), clauses=["equal_points"]).failures
    assert failure.precision == "float16"


def test_a_fault_of_one_option_is_found_when_the_class_is_checked() -> None:
    class WrongSquare(losses.HingeLoss):
        def items(self, scores: Tensor, target: Tensor) -> Tensor:
            return super().items(scores, target) * (1 if self.power == 1 else -1)

    assert not check_loss(WrongSquare(), clauses=["keeps_its_laws"]).failures
    (failure,) = check_loss(WrongSquare, clauses=["keeps_its_laws"]).failures
    assert "power=2" in failure.seen


def test_whatever_a_loss_raises_is_a_verdict_and_not_the_end_of_the_report() -> None:
    class Raising(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            raise ZeroDivisionError("of all things")

    failures = check_loss(Raising(), clauses=["first_derivative", "copies"]).failures
    assert [failure.clause for failure in failures] == ["first_derivative", "copies"]
    assert all("ZeroDivisionError: of all things" in failure.seen for failure in failures)


def test_a_declared_exception_is_shown_with_its_reason_and_is_no_failure() -> None:
    class Excused(DetachedOutput):
        exceptions: ClassVar = {"first_derivative": "half of it is a constant, on purpose"}

    report = check_loss(Excused(), clauses=["first_derivative", "one_item"])
    assert [verdict.outcome for verdict in report.verdicts] == ["declared", *["kept"] * 5]
    assert "not so, half of it is a constant, on purpose" in str(report)
    report.raise_for_failures()


@pytest.mark.parametrize("name", losses.available())
def test_exceptions_are_declared_for_clauses_that_exist_and_are_not_kept(name: str) -> None:
    cls = type(losses.create(name))
    for clause in cls.exceptions:
        without = type(cls.__name__, (cls,), {"exceptions": {}})
        assert check_loss(without, clauses=[clause]).failures


def test_an_unknown_clause_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no clause 'empty_bach'.*Did you mean 'empty_batch'"):
        check_loss("mse", clauses=["empty_bach"])


def test_a_plain_module_is_checked_on_the_kind_of_input_it_is_given() -> None:
    report = check_loss(torch.nn.L1Loss(), inputs=POINTWISE, clauses=["equal_points", "func_grad"])
    assert report.loss == "L1Loss"
    assert {verdict.outcome for verdict in report.verdicts} == {"kept"}


def test_a_plain_module_is_not_offered_what_only_a_loss_has() -> None:
    of_the_call = [name for name, clause in CLAUSES.items() if clause.of_the_call]
    report = check_loss(torch.nn.L1Loss(), inputs=POINTWISE, clauses=["order_of_the_batch", *of_the_call])
    assert (
        list(dict.fromkeys(verdict.clause for verdict in report.verdicts if verdict.outcome == "not offered"))
        == of_the_call
    )
    assert not report.failures


def test_faults_of_a_plain_module_are_found() -> None:
    report = check_loss(torch.nn.CrossEntropyLoss(), inputs=LOGITS, clauses=["everything_ignored", "one_class"])
    assert {failure.clause for failure in report.failures} == {"everything_ignored"}


def test_a_module_that_does_not_say_what_it_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="L1Loss does not say what it takes: pass inputs="):
        check_loss(torch.nn.L1Loss())


def test_a_report_is_a_table_of_clause_verdict_and_what_was_seen() -> None:
    clauses = ["keeps_its_laws", "equal_points", "zero_vectors", "equals_its_oracle", "inputs_stay_untouched"]
    title, *rows = str(check_loss(VanishingEpsilon(), clauses=clauses)).splitlines()
    assert title == "mae"
    assert [re.split(r"  +", row)[:2] for row in rows] == [
        ["keeps_its_laws", "broken"],
        ["equal_points", "kept"],
        ["equal_points", "broken"],
        ["zero_vectors", "not applicable"],
        ["equals_its_oracle", "not applicable"],
        ["inputs_stay_untouched", "kept"],
    ]
    assert len({row.index(re.split(r"  +", row)[1]) for row in rows}) == 1, "columns are aligned"
    assert rows[2].endswith("(float16)")
    assert "POINTWISE has no such edge" in rows[3]
    assert "no oracle was given" in rows[4]
    assert rows[5].endswith("inputs are never modified")


def test_raise_for_failures_names_every_broken_clause_and_no_other() -> None:
    report = check_loss(Counting(), clauses=["no_state_between_calls", "reductions_agree", "one_item"])
    with pytest.raises(AssertionError, match="mse breaks 2 clauses") as raised:
        report.raise_for_failures()
    assert "no_state_between_calls" in str(raised.value)
    assert "reductions_agree" in str(raised.value)
    assert "one_item" not in str(raised.value)


def test_nothing_is_raised_where_nothing_is_broken() -> None:
    check_loss("mse", clauses=["one_item", "zero_vectors", "equals_its_oracle"]).raise_for_failures()
