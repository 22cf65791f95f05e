"""The registry: one frozen record per loss, and the only way from a name to a loss."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from losses.core.declaration import require_class, require_declaration
from losses.core.docstrings import documentation
from losses.core.errors import ConfigError, Problem, quoted, suggestion
from losses.core.fits import Fits
from losses.core.foreign_names import bare, foreign_losses
from losses.core.inputs import Kind
from losses.core.laws import Law
from losses.core.loss import Loss

if TYPE_CHECKING:
    pass

L = TypeVar("L", bound=Loss)


@dataclass(frozen=True)
class Spec:
    """What the package knows of a loss: everything else is derived from this record and the constructor's signature."""

    name: str
    cls: type[Loss]
    family: str
    inputs: tuple[Kind, ...]
    aliases: tuple[str, ...]
    laws: tuple[Law, ...]
    suits: str
    source: str
    example: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of an instance, of a loss that cannot be built without any."""
    fits: Fits | None = None
    """For which tasks it is made and under which conditions, where that is declared."""

    @property
    def summary(self) -> str:
        """The first paragraph of the class's documentation; nothing where Python runs without documentation."""
        return documentation(self.cls).summary

    def instance(self, **parameters: Any) -> Loss:
        """Return the loss with these parameters, and those of its example: whatever loss it is, there is one."""
        return self.cls(**{**self.example, **parameters})


SPECS: dict[str, Spec] = {}
ALIASES: dict[str, str] = {}
PENALTIES: dict[str, type[nn.Module]] = {}
"""What an objective adds to losses, by name: it looks at the parameters of a network, or at the gradient by its inputs,
and at no target."""
LIBRARIES: dict[str, Callable[[str], Spec]] = {}
"""Where the losses of another library are found, by what stands before the dot in their names: each makes the record of
a loss when it is asked for, and imports nothing before."""


def register(
    name: str,
    *,
    inputs: Kind | Sequence[Kind],
    suits: str = "",
    fits: Fits | None = None,
    source: str = "",
    aliases: Sequence[str] = (),
    laws: Sequence[Law] = (),
    family: str | None = None,
    example: Mapping[str, Any] | None = None,
) -> Callable[[type[L]], type[L]]:
    """Return a decorator that makes a :class:`Loss` known by name.

    Args:
        name: canonical name, snake_case.
        inputs: the kind or kinds of input that the loss takes.
        suits: what the loss is good for, in one phrase.
        fits: the same as data, for :func:`losses.choose`; left out, the loss is never proposed.
        source: the paper or book that defines it.
        aliases: other names for the same class.
        laws: properties that the loss has, from :mod:`losses.core.laws`; tests run them.
        family: group it is listed under; by default the folder that its module is in.
        example: parameters of an instance for checks and pages, of a loss that cannot be built without any.

    Raises:
        ConfigError: an argument is not what it should be, a name is taken, or the class lacks what everything else is
            derived from: documentation, a constructor decorated with ``@checked``, a parameter ``reduction``.

    A class that is defined again, as by a cell of a notebook that runs twice or by ``importlib.reload``, takes the
    place of its former self.
    """

    def decorate(cls: type[L]) -> type[L]:
        kinds = (inputs,) if isinstance(inputs, Kind) else inputs
        require_declaration(name, kinds, suits, fits, source, aliases, laws, family)
        former = former_self(name, cls)
        require_free(name, *aliases, besides=former)
        require_class(name, cls)
        if former is not None:
            forget(former)
        group = family or cls.__module__.rpartition(".")[0].rpartition(".")[2] or "custom"
        cls.spec = Spec(name, cls, group, tuple(kinds), tuple(aliases), tuple(laws), suits, source, example or {}, fits)
        SPECS[name] = cls.spec
        ALIASES.update(dict.fromkeys(aliases, name))
        return cls

    return decorate


def former_self(name: str, cls: type[Loss]) -> Spec | None:
    """Return the record under a name if its class is the one that ``cls`` is about to replace: of the same name in the
    same module, which still calls the former by it. Two classes that exist side by side are not that."""
    spec = SPECS.get(name)
    if spec is None or not isinstance(cls, type):
        return None
    if (spec.cls.__module__, spec.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        return None
    bound = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    return spec if bound is spec.cls or cls.__module__ == "__main__" else None


def forget(spec: Spec) -> None:
    """Take a loss and its aliases out of the registry."""
    del SPECS[spec.name]
    for alias in spec.aliases:
        del ALIASES[alias]


def require_free(*words: str, besides: Spec | None = None) -> None:
    """Raise if a name means another loss already, other than the one that is replaced."""
    for word in words:
        taken = SPECS.get(ALIASES.get(word, word))
        if taken is not None and taken is not besides:
            already = f"{taken.cls.__module__}.{taken.cls.__name__}"
            raise ConfigError(f"cannot register {word!r}: it already means {already}; choose another name")


def scan(package: str, path: Iterable[str]) -> None:
    """Import every module of every folder of losses, which registers what they hold."""
    for folder in pkgutil.iter_modules(path, f"{package}."):
        if folder.ispkg and folder.name.rpartition(".")[2] in SCANNED:
            module = importlib.import_module(folder.name)
            for file in pkgutil.iter_modules(module.__path__, f"{folder.name}."):
                importlib.import_module(file.name)


FAMILIES = ("classification", "regression", "metric", "divergence", "generative")
SCANNED = (*FAMILIES, "objective")


def load_plugins() -> None:
    """Import what other installed packages offer under the entry-point group ``losses``; once."""
    faults = []
    while _pending:
        for point in _pending.pop()():
            try:
                point.load()
            except (Exception, SystemExit) as error:  # a broken package must not take every other loss with it
                faults.append(f"the losses of {point.name!r}, {point.value!r}, could not be loaded: {failure(error)}")
    for fault in faults:  # when all are loaded, for a warning may be made an error
        warnings.warn(fault, stacklevel=3)


def failure(error: BaseException) -> str:
    """Return what kind of error it is and what it says, if it can say it."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


_pending = [lambda: entry_points(group="losses")]


def find(name: object) -> Spec:
    """Return the record of a loss by its name or alias, or by that of another library's: ``pml.ArcFaceLoss``.

    Raises:
        ConfigError: there is none; a close name is suggested, or what another library's loss is here.
    """
    if isinstance(name, str):
        spec = SPECS.get(ALIASES.get(name, name))
        if spec is None:
            load_plugins()
            spec = SPECS.get(ALIASES.get(name, name))
        if spec is not None:
            return spec
        library, dot, theirs = name.partition(".")
        if dot and library in LIBRARIES:
            return LIBRARIES[library](theirs)
    raise ConfigError(Problem(("name",), unknown_name(name)))


def unknown_name(name: object) -> str:
    """Return what to say to a name that nothing is registered under: what it is here, or else what there is."""
    listed = f"unknown loss {quoted(name)}, available are {', '.join(sorted(SPECS))}."
    if not isinstance(name, str):
        return listed
    known = [*SPECS, *ALIASES, *PENALTIES]
    bare_name = bare(name)
    same = [word for word in known if bare(word) == bare_name]  # 'MSELoss' is 'mse'
    rows = foreign_losses(name)
    if same or any(row.here for row in rows):
        listed = f"unknown loss {quoted(name)}."
    hint = suggestion(same[0] if same else name, known) if same or not rows else ""
    return listed + hint + "".join(f" {row.explained(name)}" for row in rows)
