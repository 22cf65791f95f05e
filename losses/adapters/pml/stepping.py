"""Parameters of a loss that nobody trains: a warning, once, where many gradients for them lead to no step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from losses.core.precision import accumulated
from losses.core.torch_private import transforms_are_active

PATIENCE = 500
"""After how many backward passes without a step a loss says so: more than anybody accumulates gradients over."""


class StepWatch:
    """Counts backward passes through a loss, and looks every :data:`PATIENCE` of them whether its parameters have
    changed since. What it looks at are two sums of their values: how an optimizer changes them does not matter, and
    between two looks nothing is read."""

    def __init__(self) -> None:
        self._passes = 0
        self._sums: Tensor | None = None
        self._warned = False

    def follow(self, value: Tensor, module: nn.Module, name: str) -> None:
        """Count the backward passes that begin at a value of the loss."""
        if self._warned or not value.requires_grad or is_compiling() or transforms_are_active():
            return
        trained = {key: parameter for key, parameter in module.named_parameters() if parameter.requires_grad}
        if trained:
            value.register_hook(partial(self._count, trained, name))  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped

    def _count(self, trained: Mapping[str, nn.Parameter], name: str, gradient: Tensor) -> None:
        if self._passes % PATIENCE == 0:
            sums = sums_of(trained)
            if self._sums is not None and torch.equal(sums, self._sums.to(sums.device)) and not self._warned:
                self._warned = True
                warnings.warn(
                    f"{', '.join(trained)} of {name} had {PATIENCE} backward passes and no step: an optimizer has to "
                    "get the parameters of the loss too, as in torch.optim.SGD([*model.parameters(), "
                    "*loss.parameters()], ...); to leave them as they are, loss.requires_grad_(False)",
                    stacklevel=2,
                )
            self._sums = sums
        self._passes += 1


def sums_of(parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """Return two numbers for every parameter that a step changes."""
    values = [accumulated(parameter.detach()) for parameter in parameters.values()]
    return torch.stack([number for value in values for number in (value.sum(), value.square().sum())])
