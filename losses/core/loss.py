"""Loss: the call. One way in, one averaging convention, and the configuration read back from it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import isabstract
from typing import TYPE_CHECKING, Any, ClassVar, Never, TypeVar

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from losses.core.checks import (
    require_between,
    require_dense,
    require_no_nan,
    require_nothing_more,
    require_real,
    require_same_device,
    require_tensor,
    shown,
    values_are_due,
)
from losses.core.errors import ConfigError, InputError, Problem, quoted
from losses.core.inputs.kind import Kind
from losses.core.outputs import tensors_in
from losses.core.own_code import OwnCode
from losses.core.parameters import as_configuration, declared_parameters
from losses.core.precision import COMPUTED_IN, matched, widened
from losses.core.reduction import Total, accepted_normalizer, total_of, weighted
from losses.core.torch_private import any_autocast, stepped_over

if TYPE_CHECKING:
    from losses.core.registry import Spec

HEAVIEST = 1e30  # weight that still adds up in float32
WAYS = (
    *("inputs", "items", "denominators", "item_weights"),
    *("fast_total", "fast_mean", "fast_weighted_mean", "hides_by_itself"),
)
"""What decides on the value of a batch."""
STEPS = ("_reduced", "_on_accepted", "_accepted", "_value", "_total")
"""What every batch goes through that does not go a short way."""
Result = TypeVar("Result")


class Loss(nn.Module, ABC):
    """A training objective, called as ``loss(output, target, *, weight=None, normalizer=None)``.

    Checks, float32 accumulation, weights and averaging are done here, once, for all. A loss says what is its own:

    ====================================================  =============================================================
    what you have                                         what you write
    ====================================================  =============================================================
    a value for every item of a batch                     :meth:`items`, the definition: all that a loss needs
    items that count as something else than 1 in a mean   :meth:`denominators`
    weights per sample, but items that are made of many   :meth:`item_weights`
    a faster way to the sum of all items                  :meth:`fast_total`
    a still faster way to the plain mean                  :meth:`fast_mean`
    likewise to a mean with weights                       :meth:`fast_weighted_mean`
    a shorter way still, before a batch is looked at      :meth:`direct_mean`
    the same for torch.compile, where questions cost      :meth:`traced_mean`
    a total that hides what has weight 0 without a copy   :meth:`hides_by_itself`
    something that a batch tells beside its loss          :meth:`batch_readings`
    a parameter that decides which kind of input it is    :attr:`inputs`
    a clause of the contract that cannot be kept          :attr:`exemptions`, with the reason
    calls in training mode that change later ones         :attr:`remembers`
    one item per element, a fused function of torch       a subclass of :class:`losses.extend.ElementwiseLoss`
    labelled embeddings, pairs, triplets, blocks          a subclass of :class:`losses.extend.EmbeddingLoss`
    ====================================================  =============================================================

    Each is called with a batch that was accepted by its kind of input: checked, widened to float32, and masked where
    its weight is 0. Whatever is faster has to equal the definition; the contract compares them.
    """

    spec: ClassVar[Spec]
    exemptions: ClassVar[Mapping[str, str]] = {}
    """Clauses of :func:`losses.check_loss` that the loss cannot keep, each with the reason."""
    remembers: bool = False
    """Whether a call in training mode changes what later ones make, on purpose: then the contract is checked in
    evaluation mode."""
    reduction: str
    _goes_direct: bool = False

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(type(self), "spec"):
            raise ConfigError(f"{type(self).__name__} does not say what it takes; decorate it with @losses.register")
        self._inspected = False
        self._goes_direct = says_it_all(type(self))
        self._own_code = OwnCode(type(self)._reduced)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own_code"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._own_code = OwnCode(type(self)._reduced)

    @property
    def inputs(self) -> tuple[Kind, ...]:
        """The kinds of input that the loss takes: those it is registered with, or which of them a parameter chooses."""
        return self.spec.inputs

    @abstractmethod
    def items(self, output: Any, target: Any) -> Tensor:
        """Return the value of every item: the definition of the loss."""

    def denominators(self, items: Tensor, output: Any, target: Any) -> Tensor | None:
        """Return what every item adds to the denominator of the mean; ``None`` is 1 for each."""
        return None

    def item_weights(self, weight: Tensor, output: Any, target: Any) -> Tensor:
        """Return the caller's weights as weights of items, where that is more than repeating them over trailing
        dimensions."""
        return weight

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total | None:
        """Return the total of a batch by a faster way than over all items; ``None`` where there is none."""
        return None

    def fast_mean(self, output: Any, target: Any) -> Tensor | None:
        """Return the mean of a batch without weights by a faster way than its total; ``None`` where there is none."""
        return None

    def fast_weighted_mean(self, output: Any, target: Any, weight: Tensor) -> Tensor | None:
        """Return the mean of a batch with weights by a faster way than its total; ``None`` where there is none."""
        return None

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        """Return the mean of two plain tensors, or with the caller's weights, if one look tells that they can be taken
        as they are, else ``None``: of a batch that was not accepted, nor masked where its weight is 0.

        A class that is derived from one with such a method, and changes what the loss is, does without it.
        """
        return None

    def traced_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Return the mean likewise of a batch of known size while torch.compile traces: whatever is asked on the way it
        asks again before every call."""
        return None

    def hides_by_itself(self, output: Any, target: Any, weight: Tensor) -> bool:
        """Return whether the loss of this batch is computed so that what has weight 0 changes nothing, even where it is
        NaN; else that is masked beforehand, in copies of the batch."""
        return False

    def batch_readings(self, output: Any, target: Any) -> dict[str, Tensor]:
        """Return what a batch tells beside its loss, by name: scalars without gradient."""
        return {}

    @stepped_over
    def forward(
        self,
        output: Any,
        target: Any = None,
        *surplus: Never,
        weight: Tensor | None = None,
        normalizer: Tensor | float | None = None,
    ) -> Tensor:
        """Return the loss of what the model made against what it should have made.

        Args:
            output: what the model made.
            target: what it should have made.
            weight: one weight per item or per leading index of the items; what has weight 0 changes nothing.
            normalizer: replaces the denominator of the mean, for example by that of a whole batch of which this is a
                part: then the parts add up to the loss of the whole, in value and gradient. That is so where each item
                is made of one sample, or of a pair or triplet that is given; where samples of a batch are compared with
                one another (:class:`losses.extend.EmbeddingLoss` says where), what lies across two parts is in neither.

        Raises:
            InputError: the batch is not what the loss takes.
        """
        if surplus:
            require_nothing_more(surplus)
        if is_compiling():  # somebody's function, and this as a part of it
            return self._reduced(output, target, weight, normalizer)
        value: Tensor = self._own_code.call(self, output, target, weight, normalizer)
        return value

    def total(self, output: Any, target: Any = None, *surplus: Never, weight: Tensor | None = None) -> Total:
        """Return ``Total(sum, denominator)``: add totals over batches or ranks, and their ``.mean()`` is exactly that
        over the items of all of them. Where samples are compared with one another that is not the loss of one
        large batch, see ``normalizer`` of :meth:`forward`."""
        require_nothing_more(surplus)
        return self._on_accepted(self._total, output, target, weight)

    @torch.no_grad()
    def readings(self, output: Any, target: Any = None) -> dict[str, Tensor]:
        """Return what a batch tells beside its loss, by name: scalars without gradient, none of which is read here.

        Losses of embeddings have them, see :meth:`losses.extend.EmbeddingLoss.readings`; for most others the mapping is
        empty.

        Raises:
            InputError: the batch is not what the loss takes.
        """
        return self._on_accepted(self._readings, output, target)

    def config(self) -> dict[str, Any]:
        """Return the configuration that :func:`losses.create` turns into this loss again.

        Raises:
            ConfigError: the values of a parameter cannot be read, as on the meta device, or are not kept, or the class
                is derived from a registered one and has no name of its own.
        """
        if self.spec.cls is not type(self):
            raise ConfigError(
                f"{type(self).__name__} has no name: what {self.spec.name!r} builds is {self.spec.cls.__name__}; "
                f"decorate {type(self).__name__} with @losses.register to give it its own"
            )
        return {"name": self.spec.name} | self._arguments()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={self._shown(name)}" for name in self._names_of_parameters())

    def _names_of_parameters(self) -> list[str]:
        return [parameter.name for parameter in declared_parameters(type(self).__init__)]

    def _arguments(self) -> dict[str, Any]:
        """Return what the constructor makes this loss of again, as configuration data."""
        arguments: dict[str, Any] = {}
        problems: list[Problem] = []
        for name in self._names_of_parameters():
            try:
                arguments[name] = self._argument(name)
            except ConfigError as error:
                problems += error.under(name).problems
        if problems:
            raise ConfigError(*problems)
        return arguments

    def _argument(self, name: str) -> Any:
        if not hasattr(self, name):
            raise ConfigError(f"{type(self).__name__} does not keep this parameter; write self.{name} = {name}")
        return as_configuration(getattr(self, name))

    def _shown(self, name: str) -> str:
        """Return a parameter in words, whatever it is: a loss can be printed wherever it is and however it is made."""
        if not hasattr(self, name):
            return "<not kept>"
        value = getattr(self, name)
        with contextlib.suppress(ConfigError):  # of values that cannot be read: a tensor tells its shape
            value = as_configuration(value)
        try:
            return repr(value)
        except Exception:
            return quoted(value)

    def definition_total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        """Return the total of an accepted batch by the definition, over all items."""
        items = self.items(output, target)
        if weight is not None:
            weight = self.item_weights(weight, output, target)
        return total_of(items, weight, self.denominators(items, output, target))

    def _reduced(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        normalizer: Tensor | float | None,
        context: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Return the loss of a batch: what :meth:`forward` calls, and torch.compile compiles."""
        two_tensors = output.__class__ is Tensor and target.__class__ is Tensor
        if self._goes_direct and two_tensors and normalizer is None and self.reduction == "mean" and not any_autocast():
            mean = None
            if not is_compiling():
                mean = None if context or values_are_due(self._inspected) else self.direct_mean(output, target, weight)
            elif weight is None and output.numel().__class__ is int:  # and not any size that is asked later
                mean = self.traced_mean(output, target)
            if mean is not None:
                return mean
        if normalizer is not None:
            normalizer = self._accepted_normalizer(normalizer)
            return self._on_accepted(self._total, output, target, weight, context).mean(normalizer)
        return self._on_accepted(self._value, output, target, weight, context)

    def _accepted_normalizer(self, normalizer: Tensor | float) -> Tensor | float:
        if self.reduction != "mean":
            raise InputError(
                f"normalizer replaces the denominator of a mean, "
                f"this loss has reduction={self.reduction!r}; leave it out"
            )
        return accepted_normalizer(normalizer, inspect=self._inspection_is_due())

    def _value(self, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        """Return the loss of an accepted batch, reduced as the loss says."""
        if self.reduction == "mean":
            mean = self.fast_mean(output, target) if weight is None else self.fast_weighted_mean(output, target, weight)
            return self._total(output, target, weight).mean() if mean is None else mean
        if self.reduction == "sum":
            return self._total(output, target, weight).sum.sum()
        items = self.items(output, target)
        return items if weight is None else weighted(items, self.item_weights(weight, output, target))

    def _total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        """Return the total of an accepted batch, the fast way if there is one."""
        total = self.fast_total(output, target, weight)
        return self.definition_total(output, target, weight) if total is None else total

    def _readings(self, output: Any, target: Any, weight: Tensor | None) -> dict[str, Tensor]:
        return self.batch_readings(output, target)

    def _on_accepted(
        self,
        compute: Callable[[Any, Any, Tensor | None], Result],
        output: Any,
        target: Any,
        weight: Tensor | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Result:
        """Return what is computed on the accepted batch, outside of autocast: every way into a loss leads through
        here."""
        if any_autocast() and torch.is_autocast_enabled(device := device_of(output)):
            with torch.autocast(device, enabled=False):
                return self._on_accepted(compute, output, target, weight, context)
        return compute(*self._accepted(output, target, weight, context))

    def _accepted(
        self, output: Any, target: Any, weight: Tensor | None, context: Mapping[str, Any] | None
    ) -> tuple[Any, Any, Tensor | None]:
        due = self._inspection_is_due()
        if due:
            require_dense(output=output, target=target)
        kind = kind_of(self, output)
        if due and not kind.context:  # labels of a whole batch follow its embeddings
            require_same_device(output=output, target=target)
        if context:
            for name in context:
                if name not in kind.context:
                    raise InputError(f"{self.spec.name} on {kind.output_text} takes no {name!r}; leave it out")
            output, target = kind.accept(self, output, target, **context)
        else:
            output, target = kind.accept(self, output, target)
        if due and isinstance(output, tuple) and hasattr(output, "_asdict"):
            require_same_device(**output._asdict())
        if weight is not None:
            if not isinstance(weight, Tensor):
                require_tensor(weight=weight)
            if weight.dtype.is_complex:
                require_real(weight=weight)
            if due:
                require_same_device(output=first_of(output), weight=weight)
            weight = beside_items(weight, output)
            if due or not self.hides_by_itself(output, target, weight):
                output, target = kind.mask(self, output, target, weight)
        if due and not is_meta(output):
            kind.inspect(self, output, target)
            if weight is not None:
                require_no_nan(weight=weight)
                require_between(0, HEAVIEST, "a weight says how much an item counts", weight=weight)
            self._inspected = not is_empty(output)
        return output, target, weight

    def _inspection_is_due(self) -> bool:
        # asked first: what a compiled call looks at, it compiles again for when it changes
        return not is_compiling() and values_are_due(self._inspected)


def says_it_all(cls: type[Loss]) -> bool:
    """Return whether the short ways of a loss were written for the loss that it is, and not for one it is derived
    from; those of an abstract class ask the loss itself."""
    owner = next(base for base in cls.__mro__ if "direct_mean" in vars(base))
    if owner is Loss or any(getattr(cls, step) is not getattr(Loss, step) for step in STEPS):
        return False
    return isabstract(owner) or all(getattr(cls, way) is getattr(owner, way) for way in WAYS)


def beside_items(weight: Tensor, output: Any) -> Tensor:
    """Return a weight in the dtype of an accepted output: no result is wider for its weights. Beside distributions,
    which do not tell theirs, it is the weight's own, or float32."""
    if isinstance(output, Tensor) and output.dtype is weight.dtype and weight.dtype in COMPUTED_IN:
        return weight
    first = first_of(output)
    if first is None:
        return widened(weight) if weight.dtype.is_floating_point else weight.float()
    return matched(weight, widened(first))


def kind_of(loss: Loss, output: object) -> Kind:
    """Return the kind of input, among those the loss takes, that ``output`` is meant for."""
    for kind in loss.inputs:
        if kind.claims(output):
            return kind
    wanted = " or ".join(f"{kind.output_text} with target {kind.target_text}" for kind in loss.inputs)
    named = isinstance(output, tuple)
    fix = f"choose a loss that takes {type(output).__name__}, or pass one of its tensors" if named else "pass a tensor"
    raise InputError(f"{loss.spec.name} takes {wanted}; got {shown(output)}; {fix}")


def device_of(output: Any) -> str:
    """Return the device type of an output, whatever its kind."""
    first = first_of(output)
    return "cpu" if first is None else first.device.type


def is_empty(output: Any) -> bool:
    """Return whether an output holds no sample."""
    first = first_of(output)
    return first is not None and first.numel() == 0


def is_meta(output: Any) -> bool:
    """Return whether an output has shapes but no values."""
    first = first_of(output)
    return first is not None and first.is_meta


def first_of(output: Any) -> Tensor | None:
    """Return the first tensor of an output, if it holds any."""
    return output if isinstance(output, Tensor) else next(iter(tensors_in(output)), None)
