"""Correct losses as another author would write them, one for each kind of input, with nothing that a kind may ask."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from losses.core.registry import SPECS
from losses.extend import (
    BINARY,
    CATEGORICAL,
    CLASS_INDICES,
    CLASS_MASKS,
    COUNTS,
    DISTRIBUTION_OBJECTS,
    DISTRIBUTIONS,
    EMBEDDINGS,
    GAUSSIAN,
    LINEAR_LOGITS,
    LOGITS,
    MASKS,
    MATCHES,
    NON_NEGATIVE,
    ORDERED_CLASSES,
    PAIRS,
    POINTWISE,
    QUANTILES,
    SCORES,
    TRANSPORT,
    TRIPLETS,
    VAE_OUTPUT,
    Gaussian,
    Kind,
    LabelledBatch,
    LinearLogits,
    Loss,
    NestedLoss,
    Pairs,
    Reduction,
    Samples,
    Triplets,
    VAEOutput,
    checked,
    register,
    widened,
)

THIRD_PARTY: list[type[Loss]] = []


def of_another_author(kind: Kind) -> Callable[[type[Loss]], type[Loss]]:
    """Register a loss and forget it again, so that no other test meets it; ``known`` brings them back for one test."""

    def decorate(cls: type[Loss]) -> type[Loss]:
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__).lstrip("_")
        register(name, inputs=kind, laws=[NON_NEGATIVE], suits="tests", source="2026", family="elsewhere")(cls)
        del SPECS[name]
        THIRD_PARTY.append(cls)
        return cls

    return decorate


class Plain(Loss):
    """A loss whose only parameter is its reduction."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction


@of_another_author(POINTWISE)
class Charbonnier(Plain):
    """Square root of one and the squared residual."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (1 + (prediction - target).square()).sqrt() - 1


@of_another_author(QUANTILES)
class SmoothPinball(Plain):
    """Softly more for what lies too low than for what lies too high."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        return F.softplus(residual) + 2 * F.softplus(-residual)


@of_another_author(GAUSSIAN)
class SquaredHellinger(Plain):
    """One minus the overlap of the predicted Gaussian with one of variance 1 around the target."""

    def items(self, output: Gaussian, target: Tensor) -> Tensor:
        variance = widened(output.log_variance).clamp(-5, 5).exp()
        residual = (widened(output.mean) - target).square()
        overlap = (2 * variance.sqrt() / (1 + variance)).sqrt()
        return 1 - overlap * (-residual / (4 * (1 + variance))).exp()


@of_another_author(COUNTS)
class SquaredRoots(Plain):
    """Squared difference of the roots of rate and count, whose variance does not depend on the rate."""

    def items(self, log_rates: Tensor, target: Tensor) -> Tensor:
        return ((widened(log_rates).clamp(max=8) / 2).exp() - target.sqrt()).square()


@of_another_author(SCORES)
class Logistic(Plain):
    """Logistic loss of a score."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return F.softplus(torch.where(target > 0, -scores, scores))


@of_another_author(BINARY)
class Brier(Plain):
    """Squared difference of probabilities."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.sigmoid() - target).square()


@of_another_author(LOGITS)
class BrierOfClasses(Plain):
    """Squared difference of probabilities, summed over classes; ignores no target."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if not target.dtype.is_floating_point:
            classes = torch.arange(logits.shape[1]).reshape(-1, *[1] * (logits.ndim - 2))
            target = (target.unsqueeze(1) == classes).to(logits.dtype)  # F.one_hot reads values
        return (logits.softmax(1) - target).square().sum(1)


@of_another_author(MASKS)
class Coverage(Plain):
    """Squared difference between what share of a sample is predicted and what is there."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.sigmoid() - target).unsqueeze(-1).flatten(1).mean(1).square()


@of_another_author(CLASS_MASKS)
class CoverageOfClasses(Plain):
    """The same of every class."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        classes = torch.arange(logits.shape[1]).reshape(-1, *[1] * (logits.ndim - 2))
        there = (target.unsqueeze(1) == classes).to(logits.dtype)
        return (logits.softmax(1) - there).unsqueeze(-1).flatten(2).mean(2).square()


@of_another_author(LINEAR_LOGITS)
class LeastSquares(Plain):
    """Squared difference of angles and one-hot classes."""

    def items(self, linear: LinearLogits, target: Tensor) -> Tensor:
        if not target.dtype.is_floating_point:
            target = (target.unsqueeze(-1) == torch.arange(linear.classes)).to(linear.features.dtype)
        return (F.linear(*linear).atan() - target).square().sum(-1)


@of_another_author(CLASS_INDICES)
class Miss(Plain):
    """Probability of every other class than the right one."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return 1 - logits.softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)


@of_another_author(ORDERED_CLASSES)
class RankDistance(Plain):
    """Squared difference of the class and the expected number of thresholds below it."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.sigmoid().sum(1) - target).square()


@of_another_author(EMBEDDINGS)
class Spread(Plain):
    """Mean squared distance of an embedding to the others of its class."""

    def items(self, batch: LabelledBatch, labels: Tensor) -> Tensor:
        squared = (batch.anchors.unsqueeze(1) - batch.others.unsqueeze(0)).square().sum(-1)
        return (squared * batch.positive).sum(1) / batch.positive.sum(1).clamp(min=1)


@of_another_author(PAIRS)
class Attraction(Plain):
    """Squared distance of what is the same, and closeness of what is not."""

    def items(self, pairs: Pairs, same: Tensor) -> Tensor:
        squared = (pairs.first - pairs.second).square().sum(-1)
        return torch.where(same > 0, squared, (-squared).exp())


@of_another_author(MATCHES)
class Alignment(Plain):
    """Squared distance of two views of one thing."""

    def items(self, pairs: Pairs, target: None) -> Tensor:
        return (pairs.first - pairs.second).square().sum(-1)


@of_another_author(TRIPLETS)
class Ranking(Plain):
    """Smoothly how much farther the positive is than the negative."""

    def items(self, triplets: Triplets, target: None) -> Tensor:
        near, far = ((triplets.anchor - other).square().sum(-1) for other in triplets[1:])
        return F.softplus(near - far)


@of_another_author(DISTRIBUTIONS)
class SoftCrossEntropy(Plain):
    """Cross-entropy of logits with probabilities, at most 100 for each outcome."""

    def items(self, logits: Tensor, probs: Tensor) -> Tensor:
        return -(logits.log_softmax(-1).clamp(min=-100) * probs).sum(-1)


@of_another_author(DISTRIBUTIONS)
class QuadraticScore(Plain):
    """Squared difference of probabilities, which both are, as the class says."""

    output_form = "probs"

    def items(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().sum(-1)


@of_another_author(CATEGORICAL)
class Gini(Plain):
    """Probability that two draws from a distribution differ."""

    def items(self, output: Tensor, target: None) -> Tensor:
        return 1 - output.softmax(-1).square().sum(-1)


@of_another_author(TRANSPORT)
class MeanShift(Plain):
    """Squared difference of two means."""

    def items(self, output: Samples, target: Samples) -> Tensor:
        return (mean_of(output) - mean_of(target)).square()


@of_another_author(TRANSPORT)
class Cramer(Plain):
    """Squared difference of two cumulative histograms, as the class says."""

    form = "probs"

    def items(self, output: Samples, target: Samples) -> Tensor:
        return (output.points - target.points).cumsum(-1).square().sum(-1)


@of_another_author(VAE_OUTPUT)
class Heteroscedastic(Plain):
    """Gaussian likelihood whose variance the network says; has no loss of a reconstruction."""

    exemptions: ClassVar[dict[str, str]] = {
        "extreme_values": "a residual of 1e4 has a gradient of 1e8 by the log-variance, more than float16 can hold"
    }

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        log_variance = widened(output.log_variance).clamp(-1, 1).mean(-1, keepdim=True)
        residual = (output.reconstruction - target).square() * (-log_variance).exp()
        return (residual + log_variance + 1).sum(-1) + output.mean.square().sum(-1)


@of_another_author(VAE_OUTPUT)
class NamedLikelihood(Loss):
    """A likelihood whose parameter ``reconstruction`` is a word."""

    @checked
    def __init__(
        self, *, reconstruction: Literal["gaussian", "cauchy"] = "gaussian", reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.reduction = reduction

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        squared = (output.reconstruction - target).square()
        spread = widened(output.log_variance).clamp(-3, 3).square().sum(-1) + output.mean.square().sum(-1)
        return (squared if self.reconstruction == "gaussian" else squared.log1p()).sum(-1) + spread


@of_another_author(VAE_OUTPUT)
class NestedLikelihood(Loss):
    """A likelihood that asks another loss."""

    @checked
    def __init__(self, *, reconstruction: NestedLoss = "mse", reduction: Reduction = "mean") -> None:
        super().__init__()
        assert isinstance(reconstruction, Loss)
        self.reconstruction = reconstruction
        self.reduction = reduction

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        spread = widened(output.log_variance).clamp(-3, 3).square().sum(-1) + output.mean.square().sum(-1)
        return self.reconstruction.items(output.reconstruction, target).sum(-1) + spread


@of_another_author(VAE_OUTPUT)
class ModuleLikelihood(Plain):
    """A likelihood that asks a module which is no loss of this package, though it has a ``spec`` too."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.reconstruction = nn.MSELoss(reduction="none")
        self.reconstruction.spec = {"of": "something else"}

    __init__.is_checked = True  # type: ignore[attr-defined]  # by Plain's
    __init__.__wrapped__ = Plain.__init__  # type: ignore[attr-defined]

    def items(self, output: VAEOutput, target: Tensor) -> Tensor:
        spread = widened(output.log_variance).clamp(-3, 3).square().sum(-1) + output.mean.square().sum(-1)
        return self.reconstruction(output.reconstruction, target).sum(-1) + spread


@of_another_author(DISTRIBUTION_OBJECTS)
class MeanOfObjects(Plain):
    """Squared difference of the means of two distributions."""

    def items(self, output: Distribution, target: Distribution) -> Tensor:
        return (output.mean - target.mean).square()


def mean_of(samples: Samples) -> Tensor:
    """Return the mean of samples, weighted if they are."""
    if samples.weights is None:
        return samples.points.mean(-1)
    return (samples.points * samples.weights).sum(-1) / samples.weights.sum(-1)
