"""The registry: one frozen record per loss, and the only way from a name to a loss."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

from losses.core import inputs as kinds_of_input
from losses.core.errors import ConfigError, Problem, quoted, suggestion
from losses.core.inputs import Kind
from losses.core.laws import Law
from losses.core.loss import Loss
from losses.core.parameters import Wording, declared_parameters

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

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

    @property
    def summary(self) -> str:
        """The first paragraph of the class's documentation; nothing where Python runs without documentation."""
        return " ".join((self.cls.__doc__ or "").strip().partition("\n\n")[0].split())


SPECS: dict[str, Spec] = {}
ALIASES: dict[str, str] = {}
RESERVED = ("loss",)
"""Names that mean something else where names of losses stand: in the schema, ``loss`` is any of them."""
EXPLAINED = {"smooth_l1": "smooth L1 with beta is huber(delta=beta) / beta: use 'huber' and scale it"}
"""Names that people look for here and that are another loss under a factor."""


def register(
    name: str,
    *,
    inputs: Kind | Sequence[Kind],
    suits: str = "",
    source: str = "",
    aliases: Sequence[str] = (),
    laws: Sequence[Law] = (),
    family: str | None = None,
) -> Callable[[type[L]], type[L]]:
    """Return a decorator that makes a :class:`Loss` known by name.

    Args:
        name: canonical name, snake_case.
        inputs: the kind or kinds of input that the loss takes.
        suits: what the loss is good for, in one phrase.
        source: the paper or book that defines it.
        aliases: other names for the same class.
        laws: properties that the loss has, from :mod:`losses.core.laws`; tests run them.
        family: group it is listed under; by default the folder that its module is in.

    Raises:
        ConfigError: an argument is not what it should be, a name is taken, or the class lacks what everything else is
            derived from: documentation, a constructor decorated with ``@checked``, a parameter ``reduction``.
    """

    def decorate(cls: type[L]) -> type[L]:
        kinds = (inputs,) if isinstance(inputs, Kind) else inputs
        require_declaration(name, kinds, suits, source, aliases, laws, family)
        require_class(name, cls)
        group = family or cls.__module__.rpartition(".")[0].rpartition(".")[2] or "custom"
        cls.spec = Spec(name, cls, group, tuple(kinds), tuple(aliases), tuple(laws), suits, source)
        SPECS[name] = cls.spec
        ALIASES.update(dict.fromkeys(aliases, name))
        return cls

    return decorate


def require_declaration(name: Any, inputs: Any, suits: Any, source: Any, aliases: Any, laws: Any, family: Any) -> None:
    """Raise unless the arguments of :func:`register` are what they should be."""

    def refuse(problem: str) -> NoReturn:
        raise ConfigError(f"cannot register {quoted(name)}: {problem}")

    if not isinstance(aliases, Sequence) or isinstance(aliases, str):
        refuse(f"aliases must be a tuple of names, got {quoted(aliases)}; write ({quoted(aliases)},)")
    for word in (name, *aliases):
        if not isinstance(word, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", word):
            raise ConfigError(f"cannot register {quoted(word)}: a name is snake_case, like 'binary_cross_entropy'")
        if word in RESERVED:
            raise ConfigError(f"cannot register {word!r}: in a schema it means any loss; choose another name")
        taken = SPECS.get(ALIASES.get(word, word))
        if taken is not None:
            already = f"{taken.cls.__module__}.{taken.cls.__name__}"
            raise ConfigError(f"cannot register {word!r}: it already means {already}; choose another name")
    if len({name, *aliases}) <= len(aliases):
        refuse(f"a name stands there twice, got aliases {quoted(aliases)}; leave one out")
    if not isinstance(inputs, Sequence) or not inputs or not all(isinstance(kind, Kind) for kind in inputs):
        hint = f" Did you mean {inputs.upper()}?" if isinstance(inputs, str) and inputs.upper() in KINDS else ""
        refuse(f"inputs must be a kind of input, or several, of {', '.join(KINDS)}, got {quoted(inputs)}.{hint}")
    for kind in inputs:
        if wordless := [word for word in WORDS_OF_A_KIND if not isinstance(getattr(kind, word, None), str)]:
            refuse(f"the kind of input {type(kind).__name__} does not say what it is; give it {', '.join(wordless)}")
    for argument, text, meaning in (
        ("suits", suits, "what the loss is good for, in one phrase"),
        ("source", source, "the paper or book that defines it"),
    ):
        if not isinstance(text, str) or not text.strip():
            refuse(f"{argument} must be {meaning}, got {quoted(text)}; add {argument}='...'")
    if family is not None and (not isinstance(family, str) or not family.strip()):
        refuse(f"family must be the name of a group, got {quoted(family)}; leave it out to go by the module's folder")
    if not isinstance(laws, Sequence) or isinstance(laws, str) or not all(isinstance(law, Law) for law in laws):
        refuse(f"laws must be a tuple of laws such as (NON_NEGATIVE,), got {quoted(laws)}; they are in losses.extend")


def require_class(name: str, cls: Any) -> None:
    """Raise unless a class is a loss that everything else can be derived from."""

    def refuse(problem: str) -> NoReturn:
        raise ConfigError(f"cannot register {name!r}: {problem}")

    if not isinstance(cls, type) or not issubclass(cls, Loss):
        refuse(f"it must be a class of losses.Loss, got {quoted(cls)}; derive it from Loss or ElementwiseLoss")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        refuse(f"{cls.__name__} is abstract; define {', '.join(missing)}")
    if isinstance(known := cls.__dict__.get("spec"), Spec):
        refuse(f"{cls.__name__} is {known.name!r} already, and config() says one name; make {name!r} an alias of it")
    if not getattr(cls.__init__, "is_checked", False):
        refuse(f"decorate {cls.__name__}.__init__ with @checked, so that its parameters are validated")
    documentation = "left out by python -OO" if sys.flags.optimize > 1 else cls.__doc__
    if not isinstance(documentation, str) or not documentation.strip():
        refuse(f"{cls.__name__} has no documentation; write some, python -m losses shows its first line")
    if problem := fault_of_constructor(cls.__init__):
        refuse(f"{cls.__name__}.__init__ {problem}")


def fault_of_constructor(init: Callable[..., None]) -> str | None:
    """Return why a constructor is no declaration of parameters, in words, or ``None`` if it is one."""
    signature = list(inspect.signature(inspect.unwrap(init)).parameters.values())[1:]
    for parameter in signature:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"takes {parameter}, which says nothing of what it may be; name each parameter"
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return f"takes {name!r} by position only, and parameters come by keyword; remove the / after it"
        if parameter.annotation is parameter.empty:
            return f"does not say what {name!r} may be; annotate it, as in {name}: Positive = 1.0"
        if name in ("name", "spec", "training") or name.startswith("_") or hasattr(Loss, name):
            return f"has a parameter {name!r}, a name that is taken or private; choose another"
    try:
        declared_parameters(init)
    except Exception as error:
        text = f"has annotations that cannot be read, {type(error).__name__}: {error}"
        return f"{text}; they have to be names of its module, imported when it runs"
    if "reduction" not in [parameter.name for parameter in signature]:
        return "has no parameter reduction; add reduction: Reduction = 'mean'"
    return None


WORDS_OF_A_KIND = ("name", "returns", "output_text", "target_text")
KINDS = sorted(name for name, kind in vars(kinds_of_input).items() if isinstance(kind, Kind))


def scan(package: str, path: Iterable[str]) -> None:
    """Import every module of every folder of losses, which registers what they hold."""
    for folder in pkgutil.iter_modules(path, f"{package}."):
        if folder.ispkg and folder.name.rpartition(".")[2] in FAMILIES:
            module = importlib.import_module(folder.name)
            for file in pkgutil.iter_modules(module.__path__, f"{folder.name}."):
                importlib.import_module(file.name)


FAMILIES = ("classification", "regression", "metric", "divergence", "generative")


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
    """Return the record of a loss by its name or alias.

    Raises:
        ConfigError: there is none; a close name is suggested.
    """
    if isinstance(name, str):
        spec = SPECS.get(ALIASES.get(name, name))
        if spec is None:
            load_plugins()
            spec = SPECS.get(ALIASES.get(name, name))
        if spec is not None:
            return spec
        if name in EXPLAINED:
            raise ConfigError(Problem(("name",), EXPLAINED[name]))
    known = [*SPECS, *ALIASES]
    raise ConfigError(
        Problem(
            ("name",),
            f"unknown loss {quoted(name)}, available are {', '.join(sorted(SPECS))}.{suggestion(name, known)}",
        )
    )


def build(config: object) -> Loss:
    """Return the loss that a name or a mapping with a ``name`` describes; a loss is returned as it is.

    Raises:
        ConfigError: with every problem found, each under its path.
    """
    if isinstance(config, Loss):
        return config
    if isinstance(config, str):
        return find(config).cls()
    if not isinstance(config, Mapping):
        raise ConfigError(f"got {quoted(config)}, expected the name of a loss or a mapping with a name")
    try:
        settings = {key if isinstance(key, str) else quoted(key): as_data(value) for key, value in config.items()}
        if "name" not in settings:
            raise ConfigError(Problem(("name",), f"is missing, expected one of {', '.join(sorted(SPECS))}"))
        return find(settings.pop("name")).cls(**settings)
    except RecursionError:
        raise ConfigError("is nested too deeply, or in itself") from None


def as_data(value: Any) -> Any:
    """Return configuration objects of any library (such as Hydra's) as plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: as_data(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [as_data(item) for item in value]
    return value


ANY_LOSS = {"$comment": "any loss"}
"""Where a JSON Schema says this, a reference to all losses belongs."""


class LossRule:
    """Let a parameter be a loss: an instance, a name or a nested mapping."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(build)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(ANY_LOSS)  # pydantic follows every reference, so losses.schema() puts it in afterwards


NestedLoss = Annotated[
    Loss | str | Mapping[str, Any], LossRule(), Wording("the name of a loss or a mapping with a name")
]
