"""A kind of input, and what every kind needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import ConfigError, quoted
from losses.core.outputs import map_floating
from losses.core.reduction import hides_nothing, require_weight_fits

REGIMES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "times 100": lambda t: t * 1e2,
    "times 10,000": lambda t: t * 1e4,
    "times 0.001": lambda t: t * 1e-3,
    "at integers": torch.round,
}
"""Ways to make the numbers of a batch larger, smaller and equal to one another."""


TIES = ("at integers", "with duplicates")
"""Regimes in which items may be equal to one another, so that a loss may be free to choose among them."""


class Batch(NamedTuple):
    """What a loss is called with."""

    output: Any
    target: Any


class Form(NamedTuple):
    """A batch in one of the forms in which it can be said, and the parameters with which a loss reads it in that
    form."""

    batch: Batch
    parameters: Mapping[str, Any] = {}


class Asked(NamedTuple):
    """What a kind asks of a loss: what the attribute means, what holds where a loss does not have it, and the values or
    the types it may have."""

    meaning: str
    default: Any = None
    options: tuple[str, ...] = ()
    types: tuple[type, ...] = (object,)


class Kind(ABC):
    """One way to feed a loss; the only instances are the constants of :mod:`losses.core.inputs`.

    A kind knows nothing of a loss but the attributes that it declares in ``asks``. A loss may have them or not: for
    each there is a value that holds without it.

    What a kind takes (:meth:`accept`, :meth:`inspect`, :meth:`mask`) is checked in every call. What it says of its
    batches is what :func:`losses.check_loss` holds a loss to: valid ones (:meth:`draw`), the edges of the domain
    (:meth:`edges`), numbers of other sizes (:meth:`regimes`), other ways to say the same (:meth:`shapes`,
    :meth:`encodings`) and what may not be taken for the same (:meth:`close_targets`).
    """

    name: ClassVar[str]
    returns: ClassVar[str]
    """What a network returns for losses of this kind: the example loop picks a head by it."""
    output_text: ClassVar[str]
    target_text: ClassVar[str]
    takes_target: ClassVar[bool] = True
    """Whether there is a target at all; where there is none it is ``None``."""
    container: ClassVar[type[tuple[Any, ...]] | None] = None
    context: ClassVar[tuple[str, ...]] = ()
    """Names of further arguments that the loss may be called with."""
    asks: ClassVar[Mapping[str, Asked]] = {}
    """Attributes of a loss that the kind reads, by name."""

    def ask(self, loss: Any, name: str) -> Any:
        """Return what a loss says of itself, or what holds where it says nothing.

        Raises:
            ConfigError: the attribute has a value that the kind does not know.
        """
        asked = self.asks[name]
        value = getattr(loss, name, asked.default)
        if isinstance(value, asked.types) and (not asked.options or value in asked.options):
            return value
        accepted = asked.options or [kind.__name__.removesuffix("Type") for kind in asked.types]
        raise ConfigError(
            f"{type(loss).__name__}.{name} is {quoted(value)}; {self} reads it ({asked.meaning}) and expects one of "
            f"{', '.join(accepted)}: give the attribute another name, or one of these values"
        )

    def claims(self, output: object) -> bool:
        """Return whether ``output`` is meant for this kind."""
        if self.container is None:
            return isinstance(output, Tensor)
        fields: tuple[str, ...] = getattr(self.container, "_fields", ())
        return isinstance(output, self.container) or (type(output) is tuple and len(output) == len(fields))

    @abstractmethod
    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Any, Any]:
        """Check shapes and dtypes and return the batch as losses take it, half precision widened to float32."""

    def inspect(self, loss: Any, output: Any, target: Any) -> None:
        """Read the values of an accepted batch and raise an InputError for those outside the domain."""
        check.require_finite(output=output, target=target)

    def mask(self, loss: Any, output: Any, target: Any, weight: Tensor) -> Batch:
        """Replace what has weight 0 by harmless values, so that even a NaN there changes nothing, in value or
        gradient."""
        require_weight_fits(weight, output.shape)
        if hides_nothing(weight):
            return Batch(output, target)
        return Batch(masked(output, weight), masked(target, weight))

    @abstractmethod
    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        """Return a random valid batch of ``size`` samples in float64; the output requires grad."""

    def edges(self, loss: Any, batch: Any) -> dict[str, list[Batch]]:
        """Return batches at the edges of the domain by name, made from a valid batch; the names are clauses of the
        contract."""
        return {}

    def regimes(self, loss: Any, batch: Any) -> dict[str, Batch]:
        """Return a valid batch again with numbers of other sizes, by name: far out, close in, at integers and ties.

        A loss has to be right there too, and not only finite as at the edges.
        """
        return {name: Batch(map_floating(batch.output, way), batch.target) for name, way in REGIMES.items()}

    def shapes(self, loss: Any, batch: Any) -> dict[str, list[Form]]:
        """Return batches of the same items in other shapes, by name: those of one list cost the same, item by item.

        They are made from a valid batch of an even size so that gradients go back to its output, as those of
        :meth:`encodings` are.
        """
        return {}

    def encodings(self, loss: Any, batch: Any) -> dict[str, list[Form]]:
        """Return batches that say the same in other dtypes, numbers or containers, by name: those of one list cost the
        same, item by item."""
        return {}

    def close_targets(self, loss: Any, batch: Any) -> list[Batch]:
        """Return two batches whose targets differ by so little that rounding, or choosing the largest, would make them
        one; none where targets are labels."""
        return []

    def __repr__(self) -> str:
        return self.name


def masked(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the tensor with 0 where the weight of its leading index is 0."""
    return tensor.masked_fill((weight == 0).reshape(weight.shape + (1,) * (tensor.ndim - weight.ndim)), 0)


def filled(tensor: Tensor, value: float) -> Tensor:
    """Return a tensor of one value everywhere, but of two signs where that makes a difference: even rows as given, odd
    ones negated."""
    signs = 1 - 2 * (torch.arange(len(tensor)) % 2).to(tensor.dtype)
    return (torch.full_like(tensor, value).detach().movedim(0, -1) * signs).movedim(-1, 0)


def halved(tensor: Tensor) -> Tensor:
    """Return a tensor ``(N, ...)`` as ``(2, N / 2, ...)``."""
    return tensor.reshape(2, len(tensor) // 2, *tensor.shape[1:])


def retyped(batch: Batch, *dtypes: torch.dtype) -> list[Form]:
    """Return a batch, and again with its target in each of the dtypes that can say the target's numbers."""
    target = batch.target
    others = [target.to(dtype) for dtype in dtypes]
    return [Form(batch), *(Form(Batch(batch.output, other)) for other in others if bool((other == target).all()))]


def yes_and_no(batch: Batch) -> list[Form]:
    """Return which targets are above 0, as 0 and 1 in every dtype."""
    return retyped(Batch(batch.output, (batch.target > 0).to(torch.float64)), *YES_OR_NO)


def signs(batch: Batch) -> list[Form]:
    """Return which targets are above 0, as -1 and 1 in every dtype."""
    return retyped(Batch(batch.output, (batch.target > 0).to(torch.float64) * 2 - 1), *SIGNS)


def in_plain_tuple(batch: Batch) -> dict[str, list[Form]]:
    """Return a batch whose output is a NamedTuple, and again with a tuple without names."""
    return {"a plain tuple": [Form(batch), Form(Batch(tuple(batch.output), batch.target))]}


INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SIGNS = (torch.int64, torch.int8, torch.float32, torch.float16)
YES_OR_NO = (torch.bool, torch.int64, torch.uint8, torch.float32, torch.float16)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def kind_for(loss: Any, output: object) -> Kind | None:
    """Return the kind of input, among those the loss takes, that ``output`` is meant for."""
    kinds: tuple[Kind, ...] = loss.inputs
    return next((kind for kind in kinds if kind.claims(output)), None)
