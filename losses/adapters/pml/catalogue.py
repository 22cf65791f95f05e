"""Names of pytorch-metric-learning's losses, ``pml.ArcFaceLoss`` and all others: a class is made of one of theirs when
its name is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from losses.adapters.pml.parameters import declare, signature_of
from losses.adapters.pml.theirs import TheirLoss
from losses.adapters.pytorch_metric_learning import losses as pml
from losses.core.errors import ConfigError, Problem, quoted
from losses.core.foreign_names import bare
from losses.core.inputs import EMBEDDINGS, MATCHES
from losses.core.parameters import checked
from losses.core.registry import Spec

PAGE = "https://kevinmusgrave.github.io/pytorch-metric-learning/losses/"
PAPER = "K. Musgrave, S. Belongie, S.-N. Lim, PyTorch Metric Learning, 2020, arXiv:2008.09164"
MORE_THAN_ONE_LOSS = {
    "CrossBatchMemory": "it keeps a memory around a loss; build pytorch-metric-learning's own, around one of its "
    "losses or around losses.adapters.pml.as_pml(loss) of one of ours",
    "MultipleLosses": "build several losses and add what they return, or pytorch-metric-learning's own around "
    "losses.adapters.pml.as_pml(loss)",
    "SelfSupervisedLoss": "it labels two views of each sample; do that yourself, loss(torch.cat([first, second]), "
    "torch.arange(len(first)).repeat(2)), or build 'info_nce', which takes losses.Pairs(first, second)",
}
"""What is built around losses, and takes another call: what to do in its place."""


def fixed(name: str) -> property:
    """Return the attribute of a parameter, which is what the loss was built with."""

    def value(self: TheirLoss) -> Any:
        return self._parameters_given[name]

    def refuse(self: TheirLoss, value: Any) -> None:
        raise AttributeError(f"{name} of {self.spec.name} is what it was built with; build another one")

    return property(value, refuse)


def constructor_of(theirs: type) -> Callable[..., None]:
    """Return a constructor that checks the parameters of one of their classes."""

    def init(self: TheirLoss, **parameters: Any) -> None:
        TheirLoss.__init__(self, parameters)

    declare(init, theirs, reduced=True)
    return checked(init)


def documentation_of(theirs: type) -> str:
    """Return what is said of a loss: where to read of it, and what is different here."""
    return (
        f"``{theirs.__name__}`` of pytorch-metric-learning, called and averaged as any loss here.\n\n"
        f"What its parameters mean is said on {PAGE}#{theirs.__name__.lower()}\n\n"
        "Args:\n"
        '    reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is what its reducer averages over: a sample, a\n'
        "        pair or a triplet.\n"
    )


_specs: dict[str, Spec] = {}


def names() -> list[str]:
    """Return the names of all their losses, in alphabetical order."""
    found = [name for name, item in vars(pml).items() if inspect.isclass(item) and refusal(name, item) is None]
    return [f"pml.{name}" for name in sorted(found)]


def refusal(name: str, item: Any) -> str | None:
    """Return why a class of theirs is not built by its name; ``None`` where it is."""
    if name in MORE_THAN_ONE_LOSS:
        return MORE_THAN_ONE_LOSS[name]
    base: type = pml.BaseMetricLossFunction
    is_abstract = inspect.isclass(item) and getattr(item, "compute_loss", None) is getattr(base, "compute_loss", None)
    if not (inspect.isclass(item) and issubclass(item, base)) or is_abstract or name == "GenericPairLoss":
        return "it is no loss, but what losses are derived from or built around"
    return None


def spec_of(name: str) -> Spec:
    """Return the record of one of their losses.

    Raises:
        ConfigError: there is no such loss, or it is built otherwise.

    >>> spec_of("ArcFaceLoss").name
    'pml.ArcFaceLoss'
    """
    if name not in _specs:
        theirs = getattr(pml, name, None)
        if not inspect.isclass(theirs):
            raise ConfigError(Problem(("name",), unknown_name(name)))
        if problem := refusal(name, theirs):
            raise ConfigError(Problem(("name",), f"{quoted(f'pml.{name}')} is not built by its name: {problem}"))
        _specs[name] = made_of(theirs)
    return _specs[name]


def unknown_name(name: str) -> str:
    """Return what to say to a name that none of their losses has."""
    by_words = {bare(known): known for known in names()}  # however it is written: 'pml.arcface_loss'
    close = by_words.get(bare(name)) or by_words.get(next(iter(get_close_matches(bare(name), by_words, 1)), ""))
    hint = f" Did you mean {close!r}?" if close else ""
    return f"unknown loss {quoted(f'pml.{name}')}, there are {', '.join(names())}.{hint}"


def made_of(theirs: type) -> Spec:
    """Return the record of a class that is made of one of theirs."""
    name = theirs.__name__
    body = {
        "__module__": "losses.adapters.pml",  # which finds it by its name: what pickles call it
        "__qualname__": name,
        "__doc__": documentation_of(theirs),
        "__init__": constructor_of(theirs),
        "theirs": theirs,
        **{parameter: fixed(parameter) for parameter in signature_of(theirs)},
    }
    cls: type[TheirLoss] = type(name, (TheirLoss,), body)
    cls.spec = Spec(
        f"pml.{name}",
        cls,
        family="pml",
        inputs=(MATCHES if name == "VICRegLoss" else EMBEDDINGS,),
        aliases=(),
        laws=(),
        suits="what its page says",
        source=PAPER,
    )
    return cls.spec
