"""Further values of a parameter, from its annotation, and a loss with other parameters."""

from __future__ import annotations

import collections.abc
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from losses.checking.case import Broken, Case, NotApplicable
from losses.core.building import LossRule, build
from losses.core.errors import ConfigError
from losses.core.loss import Loss
from losses.core.outputs import tensors_in
from losses.core.parameters import DeclaredParameter, VectorRule, as_configuration, declared_parameters
from losses.core.registry import SPECS

LADDER = (0.3125, 0.4375, 1.625, 1.875)
"""Values above a lower bound. Two and two round to the same integer, up, down or to the nearest, and float32 holds
them."""
INSIDE = (0.15625, 0.3125, 0.625, 0.8125)
"""Fractions of a range with two ends, likewise."""
ENTRIES = (1.25, 0.5, 2.0, 0.75, 1.5, 0.875, 1.75, 0.625)
LOSSES = ("mse", {"name": "huber", "delta": 0.3125}, {"name": "huber", "delta": 0.4375})
WIDE = 1e9
"""A bound beyond this is none."""


class Range(NamedTuple):
    """The bounds of a number, and whether they are included."""

    low: float = -float("inf")
    high: float = float("inf")
    with_low: bool = False
    with_high: bool = False


class Values(NamedTuple):
    """What else a parameter may be, by type."""

    options: tuple[Any, ...] = ()
    """Named ones, true and false, and ``None``."""
    numbers: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    """Numbers at a bound that is included."""
    lists: bool = False
    losses: bool = False


def values_of(annotation: Any) -> Values:
    """Return values that an annotation accepts.

    >>> from losses.core.parameters import Probability
    >>> values_of(Probability | Literal["auto"] | None)[:2]
    (('auto', None), (0.15625, 0.3125, 0.625, 0.8125))
    """
    found = Values()
    for part in alternatives(annotation):
        base, rules = get_args(part)[0] if get_origin(part) is Annotated else part, list(rules_of(part))
        if get_origin(base) is Literal:
            found = found._replace(options=(*found.options, *get_args(base)))
        elif base is bool:
            found = found._replace(options=(*found.options, True, False))
        elif base is type(None):
            found = found._replace(options=(*found.options, None))
        elif any(isinstance(rule, LossRule) for rule in rules):
            found = found._replace(losses=True)
        elif any(isinstance(rule, VectorRule) for rule in rules) or is_list_of_numbers(base):
            found = found._replace(lists=True)
        elif base in (float, int):
            bounds = range_of(rules)
            kind = {"numbers": numbers_in(bounds)} if base is float else {"integers": integers_in(bounds)}
            found = found._replace(**kind, bounds=bounds_in(bounds, base))
    return found


def alternatives(annotation: Any) -> Iterator[Any]:
    """Yield what a union is made of."""
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from alternatives(part)
    else:
        yield annotation


def rules_of(annotation: Any) -> Iterator[Any]:
    """Yield the rules beside a type, those inside of pydantic's ``Field`` too."""
    for rule in getattr(annotation, "__metadata__", ()):
        yield rule
        yield from getattr(rule, "metadata", ())


def is_list_of_numbers(annotation: Any) -> bool:
    sequences = (list, tuple, collections.abc.Sequence)
    return get_origin(annotation) in sequences and get_args(annotation)[:1] == (float,)


def range_of(rules: list[Any]) -> Range:
    """Return the bounds that rules set."""
    found = Range()
    for rule in rules:
        for type_, end, included in ((Ge, "low", True), (Gt, "low", False), (Le, "high", True), (Lt, "high", False)):
            if type(rule) is type_:
                limit = float(getattr(rule, type_.__name__.lower()))
                bound: dict[str, Any] = {end: limit, f"with_{end}": included}
                found = found._replace(**bound)
    return found


def numbers_in(bounds: Range) -> tuple[float, ...]:
    """Return four numbers of a range, or five if it has no lower end."""
    if bounds.high <= WIDE and bounds.low >= -WIDE:
        return tuple(bounds.low + step * (bounds.high - bounds.low) for step in INSIDE)
    if bounds.high <= WIDE:
        return tuple(bounds.high - step for step in LADDER)
    return tuple(bounds.low + step for step in LADDER) if bounds.low >= -WIDE else (-LADDER[0], *LADDER)


def integers_in(bounds: Range) -> tuple[int, ...]:
    low = int(bounds.low) if bounds.low >= -WIDE else 0
    return tuple(number for number in range(low, low + 4) if number <= bounds.high)


def bounds_in(bounds: Range, kind: type) -> tuple[float, ...]:
    ends = (bounds.low, bounds.with_low), (bounds.high, bounds.with_high)
    return tuple(kind(end) for end, included in ends if included and abs(end) <= WIDE)


@dataclass(frozen=True)
class Rebuilder:
    """A class of losses and the parameters of one of them: the same loss again, with some of them changed."""

    cls: type[Loss]
    settings: Mapping[str, Any]

    def build(self, **changes: Any) -> Loss | None:
        """Return the loss with some parameters changed, or ``None`` if a rule between parameters excludes it."""
        try:
            return self.cls(**{**self.settings, **changes})
        except ConfigError:
            return None

    def loss(self, **changes: Any) -> Loss:
        """Return the loss with parameters that it was built with before."""
        built = self.build(**changes)
        assert built is not None
        return built

    def with_(self, changes: Mapping[str, Any]) -> Rebuilder:
        return Rebuilder(self.cls, {**self.settings, **changes})


def rebuilder(case: Case) -> Rebuilder:
    """Return how to build a loss again.

    Raises:
        NotApplicable: its constructor declares no parameters that it can be built from.
    """
    cls = type(case.loss)
    try:
        names = [parameter.name for parameter in declared_parameters(cls.__init__)]
    except Exception as error:
        raise NotApplicable(f"its constructor does not declare its parameters: {error}") from None
    again = Rebuilder(cls, {name: setting_of(case.loss, name) for name in names})
    if again.build() is None:
        raise NotApplicable("it cannot be built again from the parameters that it says it has")
    return again


def configuration_of(loss: Loss) -> dict[str, Any]:
    """Return what config() says, of a class without a name of its own as if it had one."""
    if loss.spec.cls is type(loss):
        return loss.config()
    loss.spec = replace(loss.spec, cls=type(loss))  # type: ignore[misc]  # of this loss alone, and for a moment
    try:
        return loss.config()
    finally:
        del loss.spec


def rebuilt(loss: Loss, config: dict[str, Any]) -> Loss:
    """Return the loss that a configuration makes, of the same class where the registry has no such class."""
    known = SPECS.get(config["name"])
    if known is not None and known.cls is type(loss):
        again: Loss = build(config)
        return again
    return type(loss)(**{name: value for name, value in config.items() if name != "name"})


def setting_of(loss: Loss, name: str) -> Any:
    """Return a parameter's value as configuration: of the attribute, or of config() where there is none."""
    if not hasattr(loss, name):
        settings = configuration_of(loss)
        if name not in settings:
            raise Broken(f"the parameter {name!r} is neither an attribute nor in config()")
        return settings[name]
    value = getattr(loss, name)
    if isinstance(value, Tensor) and value.ndim == 0:  # one that is learnt
        return value.item()
    setting = as_configuration(value)
    return list(setting) if isinstance(setting, tuple) else setting


def parameters_of(again: Rebuilder) -> list[tuple[DeclaredParameter, Values]]:
    """Return the parameters of which further values are known.

    Raises:
        NotApplicable: there is none.
    """
    known = [(each, values_of(each.annotation)) for each in declared_parameters(again.cls.__init__)]
    known = [(parameter, values) for parameter, values in known if any(values)]
    if not known:
        raise NotApplicable("it has no parameter of which further values are known")
    return known


def settings_to_try(again: Rebuilder, name: str) -> Iterator[Rebuilder]:
    """Yield the loss itself, then with each further value of each other parameter, as far as they can be built: what
    has a meaning only together with one of them is found there."""
    yield again
    for parameter, values in parameters_of(again):
        if parameter.name in (name, "reduction"):
            continue
        for value in (*values.options, *values.numbers[2:3], *values.integers[2:3]):
            other = again.with_({parameter.name: value})
            if value != again.settings[parameter.name] and other.build() is not None:
                yield other


def list_for(again: Rebuilder, case: Case, name: str) -> list[float] | None:
    """Return a list of numbers for a parameter, as long as some dimension of the batch that the loss wants one for."""
    sizes = [size for tensor in tensors_in(case.batch().output) for size in reversed(tensor.shape)]
    current = again.settings[name]
    for size in dict.fromkeys([len(current)] if isinstance(current, list) else sizes):
        cycled = [ENTRIES[index % len(ENTRIES)] for index in range(size)]
        rising = [(index + 1) / 2 ** size.bit_length() for index in range(size)]  # inside of 0 and 1
        for entries in (cycled, rising):
            loss = again.build(**{name: entries})
            if loss is not None and takes(Case(loss, case.kind)):
                return entries
    return None


def takes(case: Case) -> bool:
    """Return whether a loss takes a batch of its own kind."""
    try:
        case.loss(*case.batch())
    except Exception:  # an InputError in this package, anything elsewhere
        return False
    return True


def is_learnt(loss: Loss, name: str) -> bool:
    """Return whether a parameter is one of the module's too, in whose precision it is kept."""
    return name in dict(loss.named_parameters())
