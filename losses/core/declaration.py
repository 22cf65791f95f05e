"""What a declaration of a loss has to be: what is wrong with one is refused in a sentence, before anything is kept."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from losses.core import inputs as kinds_of_input
from losses.core.errors import ConfigError, quoted
from losses.core.fits import Fits
from losses.core.inputs import Kind
from losses.core.laws import Law
from losses.core.loss import Loss
from losses.core.parameters import declared_parameters

RESERVED = ("loss",)
"""Names that mean something else where names of losses stand: in the schema, ``loss`` is any of them."""
WORDS_OF_A_KIND = ("name", "returns", "output_text", "target_text")
KINDS = sorted(name for name, kind in vars(kinds_of_input).items() if isinstance(kind, Kind))


def require_declaration(
    name: Any, inputs: Any, suits: Any, fits: Any, source: Any, aliases: Any, laws: Any, family: Any
) -> None:
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
    if fits is not None and not isinstance(fits, Fits):
        refuse(f"fits must be what the loss fits as data, got {quoted(fits)}; write fits=Fits(task=('regression',))")
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
    if known := getattr(cls.__dict__.get("spec"), "name", None):
        refuse(f"{cls.__name__} is {known!r} already, and config() says one name; make {name!r} an alias of it")
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
