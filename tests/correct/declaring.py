"""How a correct loss is declared, and forgotten again, so that no other test meets it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from losses.core.registry import SPECS
from losses.extend import Kind, Law, Loss, Reduction, checked, register

Oracle = Callable[[Any, Any], Tensor]


class Correct(NamedTuple):
    """A correct loss, or module, and an independent function for its mean, if there is one."""

    loss: type[Loss] | nn.Module
    inputs: Kind | None = None
    oracle: Oracle | None = None
    exemptions: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return (self.loss if isinstance(self.loss, type) else type(self.loss)).__name__


CORRECT: list[Correct] = []


def correct(
    kind: Kind | Sequence[Kind], *laws: Law, oracle: Oracle | None = None
) -> Callable[[type[Loss]], type[Loss]]:
    """Register a loss under the name of its class, and keep it for the test."""

    def decorate(cls: type[Loss]) -> type[Loss]:
        name = "another" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__)
        register(name, inputs=kind, laws=laws, suits="tests", source="2026", family="elsewhere")(cls)
        del SPECS[name]
        CORRECT.append(Correct(cls, oracle=oracle))
        return cls

    return decorate


class Plain(Loss):
    """A loss whose only parameter is its reduction."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction
