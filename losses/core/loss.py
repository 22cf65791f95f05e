"""Loss: the only abstract class. One call, one averaging convention, and the configuration read back from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch._C import _is_any_autocast_enabled
from torch.compiler import is_compiling

from losses.core.checks import (
    require_between,
    require_dense,
    require_no_nan,
    require_real,
    require_same_device,
    require_tensor,
    shown,
    values_are_due,
)
from losses.core.errors import InputError
from losses.core.inputs.kind import Kind, widened
from losses.core.parameters import declared_once, plain
from losses.core.reduction import Total, accepted_normalizer, mean_of, total_of, weighted

if TYPE_CHECKING:
    from losses.core.registry import Spec


HEAVIEST = 1e30  # weight that still adds up in float32


class Loss(nn.Module, ABC):
    """A training objective, called as ``loss(output, target, *, weight=None, normalizer=None)``.

    A loss defines :meth:`items`, one value per item. Where a faster route to the same number exists it also overrides
    one of :meth:`summed`, :meth:`kernel` and, if an item does not count as 1 in the mean, :meth:`mass`. Checks, float32
    accumulation, weights and averaging are done here, once, for all.
    """

    spec: ClassVar[Spec]
    exceptions: ClassVar[Mapping[str, str]] = {}
    """Clauses of :func:`losses.check_loss` that the loss cannot honour, each with the reason."""
    reduction: str

    def __init__(self) -> None:
        super().__init__()
        self._inspected = False

    @abstractmethod
    def items(self, output: Any, target: Any) -> Tensor:
        """Return the value of every item: the definition of the loss, on a batch that was already accepted."""

    def mass(self, items: Tensor, output: Any, target: Any) -> Tensor | None:
        """Return what every item adds to the denominator of the mean; ``None`` is 1 for each."""
        return None

    def spread(self, weight: Tensor, output: Any, target: Any) -> Tensor:
        """Return the caller's weights as weights of items, where that is more than repeating them over trailing
        dimensions."""
        return weight

    def kernel(self, output: Any, target: Any, reduction: str) -> Tensor | None:
        """Return the plain ``"mean"`` or ``"sum"`` of a batch that is not empty from a kernel of torch, if it has
        one."""
        return None

    def summed(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        """Return the total of an accepted batch; override it where there is a faster route than all items."""
        if weight is None:
            total = self.kernel(output, target, "sum")
            if total is not None:
                return Total(total, output.numel())
        items = self.items(output, target)
        if weight is not None:
            weight = self.spread(weight, output, target)
        return total_of(items, weight, self.mass(items, output, target))

    def mean(self, output: Any, target: Any) -> Tensor:
        """Return the mean of an accepted batch without weights."""
        mean = self.kernel(output, target, "mean") if isinstance(output, Tensor) and output.numel() else None
        return mean_of(self.summed(output, target, None)) if mean is None else mean

    def forward(
        self,
        output: Any,
        target: Any = None,
        *,
        weight: Tensor | None = None,
        normalizer: Tensor | float | None = None,
        **context: Any,
    ) -> Tensor:
        """Return the loss of what the model made against what it should have made.

        Args:
            output: what the model made.
            target: what it should have made.
            weight: one weight per item or per leading index of the items; what has weight 0 changes nothing.
            normalizer: replaces the denominator of the mean, for example the number of items of a whole accumulated
                batch.
            context: what only some losses take, such as ``indices=`` and ``reference=`` of the metric losses.

        Raises:
            InputError: the batch is not what the loss takes.
        """
        if _is_any_autocast_enabled() and torch.is_autocast_enabled(device_of(output)):
            with torch.autocast(device_of(output), enabled=False):
                return Loss.forward(self, output, target, weight=weight, normalizer=normalizer, **context)
        if normalizer is not None:
            if self.reduction != "mean":
                raise InputError(
                    f"normalizer replaces the denominator of a mean, this loss has reduction={self.reduction!r}; "
                    "leave it out"
                )
            normalizer = accepted_normalizer(normalizer, inspect=self._inspection_is_due())
        output, target, weight = self._accepted(output, target, weight, context)
        if self.reduction == "mean":
            if weight is None and normalizer is None:
                return self.mean(output, target)
            return mean_of(self.summed(output, target, weight), normalizer)
        if self.reduction == "sum":
            return self.summed(output, target, weight).sum.sum()
        items = self.items(output, target)
        return items if weight is None else weighted(items, self.spread(weight, output, target))

    def total(self, output: Any, target: Any = None, *, weight: Tensor | None = None, **context: Any) -> Total:
        """Return ``Total(sum, weight)``: add totals over batches or ranks, then divide, and the mean is exact."""
        if _is_any_autocast_enabled() and torch.is_autocast_enabled(device_of(output)):
            with torch.autocast(device_of(output), enabled=False):
                return Loss.total(self, output, target, weight=weight, **context)
        output, target, weight = self._accepted(output, target, weight, context)
        return self.summed(output, target, weight)

    @torch.no_grad()
    def readings(self, output: Any, target: Any = None, **context: Any) -> dict[str, Tensor]:
        """Return what a batch tells beside its loss, by name: scalars without gradient, none of which is read here.

        Losses of embeddings have them; for other losses the mapping is empty.

        - ``active_fraction``: share of the items that still cost something, or count in the mean where a cost never
          ends.
        - ``positive_distance``, ``negative_distance``: mean distance within a class and between classes.
        - ``margin_violations``: share of the anchors whose nearest negative is not farther than the farthest positive
          by the margin; of triplets and pairs that are given, the share of those that cost something.
        - ``collapse``: the loss, averaged over all items, over that of the same batch with all embeddings at one point.
          A training that stays at 1 is stuck.
        - ``effective_rank``: how many directions the embeddings use (Roy & Vetterli 2007).

        Raises:
            InputError: the batch is not what the loss takes.
        """
        with torch.autocast(device_of(output), enabled=False):
            output, target, _ = self._accepted(output, target, None, context)
            return self.observed(output, target)

    def observed(self, output: Any, target: Any) -> dict[str, Tensor]:
        """Return the readings of an accepted batch."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the configuration that :func:`losses.create` turns into this loss again."""
        names = [parameter.name for parameter in declared_once(type(self).__init__)]
        return {"name": self.spec.name} | {name: plain(getattr(self, name)) for name in names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in list(self.config().items())[1:])

    def _accepted(
        self, output: Any, target: Any, weight: Tensor | None, context: Mapping[str, Any]
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
                    raise InputError(f"{self.spec.name} on {kind.output} takes no {name!r}; leave it out")
            output, target = kind.accept(self, output, target, **context)
        else:
            output, target = kind.accept(self, output, target)
        if due and isinstance(output, tuple) and hasattr(output, "_asdict"):
            require_same_device(**output._asdict())
        if weight is not None:
            require_tensor(weight=weight)
            require_real(weight=weight)
            if due:
                require_same_device(output=first_of(output), weight=weight)
            weight = widened(weight) if weight.dtype.is_floating_point else weight.float()
            output, target = kind.hide(self, output, target, weight)
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


def kind_of(loss: Loss, output: object) -> Kind:
    """Return the kind of input, among those the loss takes, that ``output`` is meant for."""
    for kind in loss.spec.inputs:
        if kind.claims(output):
            return kind
    wanted = " or ".join(f"{kind.output} with target {kind.target}" for kind in loss.spec.inputs)
    fix = (
        f"choose a loss that takes {type(output).__name__}, or pass one of its tensors"
        if isinstance(output, tuple)
        else "pass a tensor"
    )
    raise InputError(f"{loss.spec.name} takes {wanted}; got {shown(output)}; {fix}")


def device_of(output: Any) -> str:
    """Return the device type of an output, whatever its kind."""
    first = first_of(output)
    return first.device.type if isinstance(first, Tensor) else "cpu"


def is_empty(output: Any) -> bool:
    """Return whether an output holds no sample."""
    first = first_of(output)
    return isinstance(first, Tensor) and first.numel() == 0


def is_meta(output: Any) -> bool:
    """Return whether an output has shapes but no values."""
    first = first_of(output)
    return isinstance(first, Tensor) and first.is_meta


def first_of(output: Any) -> Any:
    while isinstance(output, tuple) and output:
        output = output[0]
    return output
