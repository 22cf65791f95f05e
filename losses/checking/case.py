"""What a clause is run on: one loss with batches drawn by one of its kinds of input, and the precisions to run it
in."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin

import torch
from torch import Tensor, nn

from losses.core.errors import ConfigError, InputError, quoted
from losses.core.inputs import DISTRIBUTION_OBJECTS, EMBEDDINGS, MATCHES, PAIRS, TRIPLETS, Batch, Kind
from losses.core.loss import Loss
from losses.core.outputs import holds_samples, map_floating, map_samples, map_tensors, tensors_in
from losses.core.parameters import DeclaredParameter, declared_parameters
from losses.core.reduction import Total
from losses.core.registry import find
from losses.ops.tiles.sizes import block_sizes

SIZE = 10
LARGE = 530  # samples, so many that losses of whole batches take several blocks of usual size
TOGETHER = (EMBEDDINGS, MATCHES)
"""Kinds whose samples are compared with one another."""
OF_EMBEDDINGS = (EMBEDDINGS, MATCHES, PAIRS, TRIPLETS)


class Broken(AssertionError):  # noqa: N818  (a verdict, not a fault of the program)
    """A clause does not hold; the message is what was seen."""


class NotApplicable(Exception):  # noqa: N818  (likewise)
    """A clause has nothing to say about a loss; the message is why."""


class Precision(NamedTuple):
    """A dtype to run in, under autocast or not."""

    name: str
    dtype: torch.dtype
    autocast: bool = False


EXACT = Precision("float64", torch.float64)
SINGLE = Precision("float32", torch.float32)
HALVES = (Precision("bfloat16", torch.bfloat16), Precision("float16", torch.float16))
PRECISIONS = (EXACT, SINGLE, *HALVES, Precision("autocast", torch.float32, autocast=True))


@dataclass(frozen=True)
class Case:
    """One loss, with one set of parameters, fed by one kind of input."""

    loss: Any
    """A :class:`losses.Loss`, or any module that is called as ``module(output, target)``."""
    kind: Kind
    oracle: Callable[[Any, Any], Tensor] | None = None
    """An independent way to the loss's reduced value."""
    is_default: bool = True
    """Whether the parameters are those of a loss that is given, or a class's defaults, and not another option."""

    def __post_init__(self) -> None:
        if getattr(type(self.loss), "remembers", False):
            self.loss.eval()  # where every call is like the first

    @property
    def keeps_the_call(self) -> bool:
        """Whether the loss has the whole call, with weights, totals and configuration, and not only ``loss(output,
        target)``."""
        return isinstance(self.loss, Loss)

    def batch(self, size: int = SIZE, precision: Precision = EXACT, seed: int = 0) -> Batch:
        """Return a valid batch whose output requires grad; the values are the same in every dtype, up to rounding."""
        return in_precision(self.kind.draw(self.loss, size, torch.Generator().manual_seed(seed)), precision)

    def edge(self, name: str, precision: Precision = EXACT) -> list[Batch]:
        """Return the batches at one edge of the domain.

        Raises:
            NotApplicable: the kind of input has no such edge.
        """
        edges = self.kind.edges(self.loss, self.batch())
        if name not in edges:
            raise NotApplicable(f"{self.kind} has no such edge")
        return [in_precision(batch, precision) for batch in edges[name]]

    def run(self, batch: Batch, precision: Precision = EXACT, **options: Any) -> tuple[Tensor, list[Tensor]]:
        """Return the value of the loss and the gradients of the output's tensors."""
        leaves, rebuild = leaves_of(batch.output)
        with torch.autocast("cpu", dtype=torch.bfloat16) if precision.autocast else contextlib.nullcontext():
            value = self.loss(rebuild(leaves), batch.target, **options)
        return value, gradients_of(value, leaves)

    def total(self, batch: Batch, weight: Tensor | None = None, **context: Any) -> tuple[Total, list[Tensor]]:
        """Return the total and the gradients of its sum by the output's tensors."""
        leaves, rebuild = leaves_of(batch.output)
        total = self.loss.total(rebuild(leaves), batch.target, weight=weight, **context)
        return total, gradients_of(total.sum, leaves)

    def definition(self, batch: Batch, weight: Tensor | None = None, **context: Any) -> tuple[Total, list[Tensor]]:
        """Return what :meth:`total` must be: the sum over all items, and its gradients."""
        leaves, rebuild = leaves_of(batch.output)
        accepted = self.kind.accept(self.loss, rebuild(leaves), batch.target, **context)
        total = Loss.definition_total(self.loss, *accepted, weight)
        return total, gradients_of(total.sum, leaves)

    def with_reduction(self, reduction: str) -> Any:
        loss = copy.deepcopy(self.loss)
        loss.reduction = reduction
        return loss

    def regimes(self) -> dict[str, Batch]:
        """Return a batch in usual numbers and the same in others, as far as they are in the domain of the kind, ready
        to be differentiated, by name."""
        batch = self.batch()
        regimes = {name: each for name, each in self.kind.regimes(self.loss, batch).items() if self.is_valid(each)}
        return {name: in_precision(regime, EXACT) for name, regime in {"usual numbers": batch, **regimes}.items()}

    def is_valid(self, batch: Batch) -> bool:
        """Return whether the kind of input takes a batch, values and all."""
        try:
            self.kind.inspect(self.loss, *self.kind.accept(self.loss, *batch))
        except InputError:
            return False
        return True

    def weights(self, weight: Tensor) -> Tensor:
        """Return one weight per sample.

        Raises:
            NotApplicable: the loss makes a single item of the whole batch.
        """
        if self.with_reduction("none")(*self.batch(len(weight))).shape == (1,):
            raise NotApplicable("the whole batch is one item")
        return weight

    def __str__(self) -> str:
        try:
            text = " ".join(str(self.loss).split())
        except Exception:  # a loss without the attributes that its parameters promise, or a stranger's faulty __repr__
            text = f"a {type(self.loss).__name__} that cannot be shown"
        return f"{text} on {self.kind}"


def cases_of(
    loss: nn.Module | type[Loss] | str, inputs: Kind | None = None, oracle: Callable[[Any, Any], Tensor] | None = None
) -> Iterator[Case]:
    """Return the cases a loss is checked on: every kind of input, and of a class or name every option of every
    parameter."""
    require_checkable(loss, inputs)
    if isinstance(loss, nn.Module):
        # one that moves is checked where every call is like the first
        variants: list[Any] = [copy.deepcopy(loss).eval() if getattr(loss, "remembers", False) else loss]
    else:
        cls = find(loss).cls if isinstance(loss, str) else loss
        variants = [cls(**cls.spec.example, **options) for options in options_of(declared_parameters(cls.__init__))]
    for place, variant in enumerate(variants):
        for kind in variant.inputs if inputs is None else (inputs,):
            # objects of torch.distributions are no tensors to cast, permute or compile
            if kind is not DISTRIBUTION_OBJECTS:
                # an oracle knows no parameters
                yield Case(variant, kind, oracle if place == 0 else None, place == 0)


def require_checkable(loss: object, inputs: Kind | None) -> None:
    """Raise a ConfigError for what is no loss, or does not say what it takes."""
    if isinstance(loss, str) or (isinstance(loss, type) and issubclass(loss, Loss)):
        return
    if not isinstance(loss, nn.Module):
        fix = f"give an instance: {loss.__name__}()" if isinstance(loss, type) else "give a module, a class or a name"
        raise ConfigError(f"a loss to check is a Loss, its class or its name, or a module; got {quoted(loss)}; {fix}")
    if inputs is None and not isinstance(loss, Loss):
        raise ConfigError(
            f"{type(loss).__name__} does not say what it takes: pass inputs=, one of losses.core.inputs such as "
            "POINTWISE"
        )


def options_of(parameters: Sequence[DeclaredParameter]) -> Iterator[dict[str, Any]]:
    """Return the default parameters, and one set for each option of each parameter that has named options."""
    yield {}
    for parameter in parameters:
        literal = get_origin(parameter.annotation) is Literal
        options = get_args(parameter.annotation) if literal else (True, False) if parameter.annotation is bool else ()
        for option in options:
            if option != parameter.default and parameter.name != "reduction":
                yield {parameter.name: option}


def in_precision(batch: Batch, precision: Precision) -> Batch:
    """Return a batch in another dtype, its output ready to be differentiated."""
    return Batch(
        map_floating(batch.output, lambda t: t.detach().to(precision.dtype).requires_grad_()),
        map_floating(batch.target, lambda t: t.detach().to(precision.dtype)),
    )


def rows_of(batch: Batch, rows: slice | Tensor) -> Batch:
    """Return some samples of a batch."""
    return Batch(*(map_samples(part, lambda tensor: tensor[rows]) for part in batch))


def on_samples(batch: Batch, gradients: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return the gradients by an output's tensors, changed where those hold a row for each sample."""
    own = holds_samples(batch.output)
    return [change(gradient) if is_own else gradient for gradient, is_own in zip(gradients, own, strict=True)]


def from_parts(batch: Batch, parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the gradients by an output's tensors from those by parts of the batch: one after the other, or added up
    where all samples share a tensor."""
    columns = zip(holds_samples(batch.output), zip(*parts, strict=True), strict=True)
    return [torch.cat(column) if own else torch.stack(column).sum(0) for own, column in columns]


def gradients_of_samples(batch: Batch, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients by those of an output's tensors that hold a row for each sample."""
    return [gradient for gradient, own in zip(gradients, holds_samples(batch.output), strict=True) if own]


def leaves_of(output: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any]]:
    """Return an output's tensors as fresh leaves, and how to put tensors in their place."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors_in(output)]

    def rebuild(tensors: Sequence[Tensor]) -> Any:
        remaining = iter(tensors)
        return map_tensors(output, lambda _: next(remaining))

    return leaves, rebuild


def without_item(batch: Batch, items: Tensor, number: int, leaves: Sequence[Tensor]) -> Batch:
    """Return a batch with NaN wherever one item alone depends on its output, and in a target of the same shape."""
    rest = torch.linspace(1, 2, items.numel(), dtype=items.dtype)  # so that no slopes cancel
    both = (torch.eye(items.numel(), dtype=items.dtype)[number], rest.index_fill(0, torch.tensor(number), 0))
    totals = [(items.flatten() * factors).sum() for factors in both]
    slopes = [torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True) for total in totals]
    needed = [(of_it != 0) & (of_rest == 0) for of_it, of_rest in zip(*slopes, strict=True)]
    places = iter(needed)
    output = map_samples(batch.output, lambda tensor: tensor.detach().masked_fill(next(places), math.nan))
    target = map_floating(
        batch.target,
        lambda tensor: tensor.masked_fill(needed[0], math.nan) if tensor.shape == needed[0].shape else tensor,
    )
    return Batch(output, target)


def gradients_of(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a value's sum."""
    if not value.requires_grad:
        raise Broken("the result has no graph")
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, gradients, strict=True)]


def require_same(what: str, got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Raise :class:`Broken` unless two results agree."""
    got, expected = got.detach().double(), expected.detach().double()
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        raise Broken(f"{what}: {shortened(got)}, expected {shortened(expected)}")


def require_near(what: str, got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Raise :class:`Broken` unless two results agree as numbers of their size do."""
    got, expected = got.detach().double(), expected.detach().double()
    size = float(expected.abs().amax()) if expected.numel() else 0.0
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=0, atol=tolerance * size + 1e-13):
        raise Broken(f"{what}: {shortened(got)}, expected {shortened(expected)}")


@contextlib.contextmanager
def several_blocks() -> Iterator[None]:
    """Make blocks so small that a batch of ten takes three of them, in the precision that a large one would have."""
    from_the_start = {
        "dense": 0,
        "dense_on_accelerator": 0,
        "in_blocks": 0,
        "in_blocks_long": 0,
        "in_blocks_fused": 0,
        "in_blocks_fused_long": 0,
        "in_blocks_fused_weighted": 0,
        "exact": 0,
        "one_block": 0,
    }
    rows_from_the_start = {"rows_in_blocks": 0, "rows_in_blocks_of_classes": 0, "rows_in_blocks_fused": 0}
    small = {"elements": 1, "rows": 4, "strip": 8, "block": 8, "group": 2, "temporary": 64}
    small |= {f"{name}_on_accelerator": small[name] for name in ("elements", "rows", "temporary")}
    small |= {"elements_in_cache": 1, "strip_of_block": 1}
    linear = {"linear_in_chunks": 0, "linear_chunk": 1, "linear_rows": 4}
    linear |= {f"{name}_on_accelerator": value for name, value in linear.items()}
    with block_sizes(**from_the_start, **rows_from_the_start, **linear, **small, row_elements=1):
        yield


def require_finite(value: Tensor, gradients: Sequence[Tensor]) -> None:
    for what, tensor in (("value", value), *(("gradient", gradient) for gradient in gradients)):
        if not bool(tensor.isfinite().all()):
            raise Broken(f"{what} {shortened(tensor)}")


def shortened(tensor: Tensor) -> str:
    """Return a tensor in at most a line."""
    text = str(tensor.tolist())
    return text if len(text) < 120 else f"{text[:120]}... {tuple(tensor.shape)}"
