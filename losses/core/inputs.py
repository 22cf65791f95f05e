"""Kinds of input: what ``output`` and ``target`` are for a family of losses.

A kind names its tensors, accepts a batch (shapes, dtypes, float32 for half precision), inspects its values, hides what
has weight 0 and can draw a valid batch. Losses declare their kinds; checks, tests, networks and examples read them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.labelled import LabelledBatch, labelled_batch
from losses.core.outputs import Pairs, Samples, Triplets, VAEOutput
from losses.core.reduction import spread


class Batch(NamedTuple):
    """What a loss is called with."""

    output: Any
    target: Any


class Kind(ABC):
    """One way to feed a loss; the only instances are the constants below."""

    name: ClassVar[str]
    returns: ClassVar[str]
    """What a network returns for losses of this kind: the example loop picks a head by it."""
    output: ClassVar[str]
    target: ClassVar[str]
    container: ClassVar[type[tuple[Any, ...]] | None] = None
    context: ClassVar[tuple[str, ...]] = ()
    """Names of further arguments that the loss may be called with."""

    def claims(self, output: object) -> bool:
        """Return whether ``output`` is meant for this kind."""
        if self.container is None:
            return isinstance(output, Tensor)
        return isinstance(output, self.container) or (type(output) is tuple and len(output) == len(self.container._fields))  # type: ignore[attr-defined]

    @abstractmethod
    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        """Check shapes and dtypes and return the batch as losses take it, half precision widened to float32."""

    def inspect(self, loss: Any, output: Any, target: Any) -> None:
        """Read the values of an accepted batch and raise an InputError for those outside the domain."""
        check.require_no_nan(output=output, target=target)

    def hide(self, loss: Any, output: Any, target: Any, weight: Tensor) -> Batch:
        """Replace what has weight 0 by harmless values, so that even a NaN there changes nothing, in value or gradient."""
        return Batch(hidden(output, weight), hidden(target, weight))

    @abstractmethod
    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        """Return a random valid batch of ``size`` samples in float64; the output requires grad."""

    def __repr__(self) -> str:
        return self.name


class Pointwise(Kind):
    """One number predicted for each number wanted."""

    name, returns = "POINTWISE", "prediction"
    output, target = "prediction (*)", "the same shape"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(prediction=output, target=target)
        if output.shape != target.shape:
            check.require_same_shape(prediction=output, target=target)
        if not (output.dtype.is_floating_point and target.dtype.is_floating_point):
            check.require_floating(prediction=output, target=target)
        return Batch(output := widened(output), matched(target, output))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), normal(generator, size, 3).detach())


class Scores(Kind):
    """One score for each yes-or-no question; its sign is the decision."""

    name, returns = "SCORES", "logit"
    output, target = "scores (*)", "the same shape; positive where the target is above 0, so {0, 1}, {-1, 1} and bool all work"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        word = self.output.split()[0]
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(**{word: output, "target": target})
        if output.shape != target.shape:
            check.require_same_shape(**{word: output, "target": target})
        if not output.dtype.is_floating_point:
            check.require_floating(**{word: output})
        return Batch(output := widened(output), matched(target, output))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), (uniform(generator, size, 3) > 0.5).double() * 2 - 1)


class Binary(Scores):
    """One logit for each yes-or-no question, against a probability."""

    name, returns = "BINARY", "logit"
    output, target = "logits (*)", "probabilities in [0, 1] of the same shape; bool and integers count"

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        super().inspect(loss, output, target)
        check.require_between(0, 1, "for labels in {-1, 1} pass (target > 0)", target=target)
        check.warn_of_sigmoid(output)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 3), uniform(generator, size, 3))


class Logits(Kind):
    """One logit for each class, at every position."""

    name, returns = "LOGITS", "logits"
    output, target = "logits (N, C, ...)", "class indices (N, ...) or probabilities (N, C, ...)"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
            check.require_tensor(logits=output, target=target)
        if output.ndim < 2:
            raise InputError(f"logits must have shape (N, C, ...), got {check.shown(output)}; a single sample is logits.unsqueeze(0)")
        if not output.dtype.is_floating_point:
            check.require_floating(logits=output)
        output = widened(output)
        indices = positions(output)
        if target.dtype is torch.int64 and target.shape == indices:
            return Batch(output, target)
        if target.dtype.is_floating_point:
            if target.shape != output.shape:
                fix = "; class indices must be integers: target.long()" if target.shape == indices else ""
                raise InputError(
                    f"a floating point target holds probabilities and must have the logits' shape {tuple(output.shape)}, "
                    f"got {check.shown(target)}{fix}"
                )
            return Batch(output, matched(target, output))
        if target.shape != indices:
            fix = "target.squeeze(-1)" if target.shape == (*indices, 1) else "one index per position"
            if target.shape == output.shape:
                fix = "if it is one-hot, pass target.float() as probabilities or target.argmax(1) as indices"
            raise InputError(f"logits {tuple(output.shape)} need class indices of shape {tuple(indices)}, got {check.shown(target)}; {fix}")
        return Batch(output, target.long())

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        check.require_no_nan(logits=output, target=target)
        if check.looks_like_probabilities(output, 1):
            raise InputError("logits look like probabilities (in [0, 1], summing to 1 over classes); remove the softmax before the loss")
        if target.dtype.is_floating_point:
            check.require_distributions(1, target=target)
            return
        wrong = (target < 0) | (target >= output.shape[1])
        ignored = getattr(loss, "ignore_index", None)
        if ignored is not None:
            wrong &= target != ignored
        if bool(wrong.any()):
            spared = "" if ignored is None else f" (or ignore_index={ignored})"
            raise InputError(
                f"target holds class {int(target[wrong][0])}, logits have {output.shape[1]} classes; "
                f"indices run from 0 to {output.shape[1] - 1}{spared}"
            )

    def hide(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        positional = spread(weight, output[:, 0])
        absent = positional == 0
        if target.dtype.is_floating_point:
            target = target.masked_fill(absent.unsqueeze(1), 1 / output.shape[1])
        else:
            target = target.masked_fill(absent, 0)
        return Batch(output.masked_fill(absent.unsqueeze(1), 0), target)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 5), torch.randint(5, (size,), generator=generator))


class Embeddings(Kind):
    """A labelled batch; the loss makes its pairs or triplets from the labels, from ``indices`` or with a ``reference`` set."""

    name, returns = "EMBEDDINGS", "embeddings"
    output, target = "embeddings (N, D)", "integer labels (N,)"
    context = ("indices", "reference")

    def accept(self, loss: Any, output: Any, target: Any, indices: Any = None, reference: Any = None) -> Batch:
        embeddings, labels = output, target
        check.require_tensor(embeddings=embeddings, labels=labels)
        check.require_rank(2, "(N, D)", embeddings=embeddings)
        check.require_rank(1, "(N,)", labels=labels)
        check.require_floating(embeddings=embeddings)
        check.require_integer(labels=labels)
        check.require_same_length(embeddings=embeddings, labels=labels)
        labels = labels.to(embeddings.device)
        return Batch(labelled_batch(widened(embeddings), labels, indices, reference), labels)

    def inspect(self, loss: Any, output: LabelledBatch, target: Tensor) -> None:
        check.require_no_nan(embeddings=output.anchors)
        if output.has_reference:
            check.require_no_nan(reference_embeddings=output.others)

    def hide(self, loss: Any, output: LabelledBatch, target: Tensor, weight: Tensor) -> Batch:
        spread(weight, target)  # one weight per anchor; an anchor of weight 0 is still another anchor's neighbour
        return Batch(output, target)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(normal(generator, size, 4), torch.arange(size) % max(2, size // 4))


class PairInput(Kind):
    """Pairs of embeddings that belong together or do not."""

    name, returns, container = "PAIRS", "pairs", Pairs
    output, target = "Pairs(first, second), each (N, D)", "same or different (N,): positive where above 0"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        pairs = Pairs(*output)
        check.require_tensor(first=pairs.first, second=pairs.second, target=target)
        check.require_rank(2, "(N, D)", first=pairs.first)
        check.require_same_shape(first=pairs.first, second=pairs.second)
        check.require_floating(first=pairs.first, second=pairs.second)
        check.require_rank(1, "(N,)", target=target)
        check.require_same_length(first=pairs.first, target=target)
        first = widened(pairs.first)
        return Batch(Pairs(first, matched(pairs.second, first)), target)

    def inspect(self, loss: Any, output: Pairs, target: Tensor) -> None:
        check.require_no_nan(first=output.first, second=output.second, target=target)
        if target.dtype is not torch.bool:
            wrong = (target != 0) & (target != 1) & (target != -1)
            if bool(wrong.any()):
                raise InputError(
                    f"a pair is the same (1 or True) or different (0, -1 or False), got {target[wrong][0].item():g}; "
                    "compare the labels first: first_labels == second_labels"
                )

    def hide(self, loss: Any, output: Pairs, target: Tensor, weight: Tensor) -> Batch:
        spread(weight, target)
        return Batch(Pairs(*(hidden(part, weight) for part in output)), hidden(target, weight))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(Pairs(normal(generator, size, 4), normal(generator, size, 4)), torch.arange(size) % 2 == 0)


class TripletInput(Kind):
    """Anchors, each with one embedding of its own class and one of another."""

    name, returns, container = "TRIPLETS", "triplets", Triplets
    output, target = "Triplets(anchor, positive, negative), each (N, D)", "None"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        triplets = Triplets(*output)
        check.require_tensor(**triplets._asdict())
        check.require_rank(2, "(N, D)", anchor=triplets.anchor)
        check.require_same_shape(**triplets._asdict())
        check.require_floating(**triplets._asdict())
        if target is not None:
            raise InputError(f"triplets say themselves what belongs together: pass None as target, got {check.shown(target)}")
        anchor = widened(triplets.anchor)
        return Batch(Triplets(anchor, matched(triplets.positive, anchor), matched(triplets.negative, anchor)), None)

    def inspect(self, loss: Any, output: Triplets, target: None) -> None:
        check.require_no_nan(**output._asdict())

    def hide(self, loss: Any, output: Triplets, target: None, weight: Tensor) -> Batch:
        spread(weight, output.anchor[:, 0])
        return Batch(Triplets(*(hidden(part, weight) for part in output)), None)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(Triplets(*(normal(generator, size, 4) for _ in range(3))), None)


class Distributions(Kind):
    """Two distributions over the same K outcomes, in the form that the loss's parameters declare."""

    name, returns = "DISTRIBUTIONS", "logits"
    output, target = "logits, log-probabilities or probabilities (..., K)", "likewise, the same shape"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        check.require_tensor(output=output, target=target)
        if output.ndim == 0 or output.shape[-1] == 0:
            raise InputError(f"output must be distributions along a last dimension (..., K) with K > 0, got {check.shown(output)}")
        check.require_same_shape(output=output, target=target)
        check.require_floating(output=output, target=target)
        output = widened(output)
        return Batch(output, matched(target, output))

    def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
        for name, form, tensor in (("output", loss.output, output), ("target", loss.target, target)):
            check.require_no_nan(**{name: tensor})
            if form == "probs":
                check.require_distributions(-1, **{name: tensor})
            elif form == "log_probs":
                check.require_distributions(-1, **{f"{name}.exp()": tensor.exp()})
            elif check.looks_like_probabilities(tensor, -1):
                raise InputError(f"{name} is declared as logits but holds probabilities; declare {name}='probs' or remove the softmax")

    def hide(self, loss: Any, output: Tensor, target: Tensor, weight: Tensor) -> Batch:
        weight = spread(weight, output[..., 0])
        return Batch(uniform_where_hidden(output, weight, loss.output), uniform_where_hidden(target, weight, loss.target))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        output, target = (in_form(normal(generator, size, 5), form) for form in (loss.output, loss.target))
        return Batch(output.detach().requires_grad_(), target.detach())


class DistributionObjects(Kind):
    """Two distributions of ``torch.distributions``."""

    name, returns = "DISTRIBUTION_OBJECTS", "distribution"
    output, target = "a torch.distributions.Distribution", "likewise"

    def claims(self, output: object) -> bool:
        return isinstance(output, Distribution)

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if not isinstance(target, Distribution):
            raise InputError(f"output is a {type(output).__name__}, so target must be a torch Distribution too, got {check.shown(target)}")
        if output.batch_shape != target.batch_shape or output.event_shape != target.event_shape:
            raise InputError(
                f"output has batch and event shape {tuple(output.batch_shape)}, {tuple(output.event_shape)} and target "
                f"{tuple(target.batch_shape)}, {tuple(target.event_shape)}; they must be the same (use .expand)"
            )
        return Batch(output, target)

    def inspect(self, loss: Any, output: Distribution, target: Distribution) -> None:
        """Distributions validate their own parameters."""

    def hide(self, loss: Any, output: Distribution, target: Distribution, weight: Tensor) -> Batch:
        return Batch(output, target)

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        one = torch.ones((), dtype=torch.float64)
        return Batch(*(Normal(normal(generator, size, 3), one) for _ in range(2)))


class Transport(Kind):
    """Two distributions on a line: samples, or histograms over the same support, as the loss's ``input`` declares."""

    name, returns = "TRANSPORT", "samples"
    output, target = "samples (..., N), Samples(points, weights) or histograms (..., K)", "samples (..., M) or likewise"

    def claims(self, output: object) -> bool:
        return isinstance(output, (Tensor, Samples)) or (type(output) is tuple and len(output) == 2)

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        if loss.input != "samples":
            check.require_tensor(output=output, target=target)
            check.require_same_shape(output=output, target=target)
        output, target = self._samples("output", output), self._samples("target", target)
        if output.points.ndim == 0 or output.points.shape[:-1] != target.points.shape[:-1]:
            raise InputError(
                f"output and target must hold one distribution per leading index along their last dimension, "
                f"got {check.shown(output.points)} and {check.shown(target.points)}"
            )
        if 0 in (output.points.shape[-1], target.points.shape[-1]):
            raise InputError("a distribution needs at least one sample, got a last dimension of 0")
        return Batch(output, target)

    def inspect(self, loss: Any, output: Samples, target: Samples) -> None:
        for name, samples in (("output", output), ("target", target)):
            check.require_no_nan(**{name: samples.points})
            if loss.input == "probs":
                check.require_distributions(-1, **{name: samples.points})
            elif loss.input == "logits" and check.looks_like_probabilities(samples.points, -1):
                raise InputError(f"{name} is declared as logits but holds probabilities; declare input='probs' or remove the softmax")
            elif samples.weights is not None:
                check.require_no_nan(**{f"{name}.weights": samples.weights})
                if bool((samples.weights < 0).any()) or bool((samples.weights.sum(-1) <= 0).any()):
                    raise InputError(f"{name}.weights must be at least 0 with a positive sum in every distribution")

    def hide(self, loss: Any, output: Samples, target: Samples, weight: Tensor) -> Batch:
        weight = spread(weight, output.points[..., 0])
        form = "logits" if loss.input == "samples" else loss.input
        hide = partial(uniform_where_hidden, weight=weight)
        return Batch(
            *(
                Samples(hide(points, form=form), weights if weights is None else hide(weights, form="probs"))
                for points, weights in (output, target)
            )
        )

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        if loss.input == "samples":
            return Batch(normal(generator, size, 5), normal(generator, size, 7).detach())
        output, target = (in_form(normal(generator, size, 5), loss.input).detach() for _ in range(2))
        return Batch(output.requires_grad_(), target)

    def _samples(self, name: str, value: Any) -> Samples:
        points, weights = (value, None) if isinstance(value, Tensor) else value
        check.require_tensor(**{name: points})
        check.require_floating(**{name: points})
        if weights is not None:
            check.require_tensor(**{f"{name}.weights": weights})
            check.require_floating(**{f"{name}.weights": weights})
            check.require_same_shape(**{f"{name}.points": points, f"{name}.weights": weights})
        return Samples(widened(points), None if weights is None else widened(weights))  # type: ignore[arg-type]


class VAE(Kind):
    """A reconstruction with the mean and log-variance that it was sampled from, against the data."""

    name, returns, container = "VAE", "vae", VAEOutput
    output, target = "VAEOutput(reconstruction (N, ...), mean (N, D), log_variance (N, D))", "the data (N, ...)"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        vae = VAEOutput(*output)
        check.require_tensor(**vae._asdict(), target=target)
        check.require_floating(**vae._asdict())
        check.require_same_shape(reconstruction=vae.reconstruction, target=target)
        check.require_same_shape(mean=vae.mean, log_variance=vae.log_variance)
        for name, part in vae._asdict().items():
            if part.ndim == 0:
                raise InputError(f"{name} must have a batch dimension (N, ...), got a scalar; write {name}.unsqueeze(0)")
        check.require_same_length(reconstruction=vae.reconstruction, mean=vae.mean)
        return Batch(VAEOutput(*map(widened, vae)), matched(target, widened(vae.reconstruction)))

    def inspect(self, loss: Any, output: VAEOutput, target: Tensor) -> None:
        check.require_no_nan(**output._asdict(), target=target)
        loss.reconstruction.spec.inputs[0].inspect(loss.reconstruction, output.reconstruction, target)

    def hide(self, loss: Any, output: VAEOutput, target: Tensor, weight: Tensor) -> Batch:
        spread(weight, target.flatten(1)[:, 0] if target.ndim > 1 else target)
        return Batch(VAEOutput(*(hidden(part, weight) for part in output)), hidden(target, weight))

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        mean, log_variance = normal(generator, size, 2), normal(generator, size, 2)
        return Batch(VAEOutput(normal(generator, size, 3), mean, log_variance), uniform(generator, size, 3))


POINTWISE = Pointwise()
BINARY = Binary()
SCORES = Scores()
LOGITS = Logits()
EMBEDDINGS = Embeddings()
PAIRS = PairInput()
TRIPLETS = TripletInput()
DISTRIBUTIONS = Distributions()
DISTRIBUTION_OBJECTS = DistributionObjects()
TRANSPORT = Transport()
VAE_OUTPUT = VAE()


def widened(tensor: Tensor) -> Tensor:
    """Return half precision (and narrower) as float32; the cast is differentiable, so gradients keep the caller's dtype."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def matched(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.dtype is like.dtype else tensor.to(like.dtype)


def positions(logits: Tensor) -> torch.Size:
    shape = logits.shape
    return torch.Size(shape[:1]) if len(shape) == 2 else torch.Size(shape[:1] + shape[2:])


def hidden(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the tensor with 0 where the weight of its leading index is 0."""
    return tensor.masked_fill((weight == 0).reshape(weight.shape + (1,) * (tensor.ndim - weight.ndim)), 0)


def uniform_where_hidden(tensor: Tensor, weight: Tensor, form: str) -> Tensor:
    """Return the tensor with the uniform distribution, in its form, where the weight is 0."""
    size = tensor.shape[-1]
    constant = {"logits": 0.0, "probs": 1 / size, "log_probs": -math.log(size)}[form]
    return tensor.masked_fill((weight == 0).unsqueeze(-1), constant)


def in_form(logits: Tensor, form: str) -> Tensor:
    """Return logits in the form that a parameter declares."""
    if form == "logits":
        return logits
    return logits.softmax(-1) if form == "probs" else logits.log_softmax(-1)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)
