"""The terms of a weighted sum as a configuration lists them: what is read, what is refused, what all of them take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from losses.core.building import ANY_LOSS
from losses.core.errors import ConfigError, Problem, quoted
from losses.core.inputs import Kind
from losses.core.loss import Loss
from losses.core.parameters import Wording, model_of
from losses.objective.term import Term

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class TermsRule:
    """Let a parameter be a list of terms: losses, their names, or mappings with a ``loss``."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(terms_of)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        name = {"allOf": [{"type": "string"}, dict(ANY_LOSS)]}
        return {"type": "array", "minItems": 1, "items": {"anyOf": [name, model_of(Term.__init__).model_json_schema()]}}


Terms = Annotated[Sequence[Any], TermsRule(), Wording("a list of terms, each with a loss")]


def terms_of(value: object) -> list[Term]:
    """Return the terms that a list describes.

    Raises:
        ConfigError: it is no list, is empty, holds what is no term, or two terms of one name; all problems at once.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(
            f"got {quoted(value)}, expected a list of terms such as ['mse', {{'loss': 'mae', 'weight': 2}}]"
        )
    if not value:
        raise ConfigError(
            "got an empty list, and nothing would be minimised; expected a list of terms, each with a loss"
        )
    terms: list[Term] = []
    problems: list[Problem] = []
    for place, each in enumerate(value):
        try:
            terms.append(term_of(each))
        except ConfigError as error:
            problems += error.under(place).problems
    names = [term.name for term in terms]
    for place, name in enumerate(names):
        if not problems and name in names[:place]:
            message = f"{quoted(name)} is the name of term {names.index(name)} too; give one of them a name of its own"
            problems.append(Problem((place, "name"), message))
    if problems:
        raise ConfigError(*problems)
    return terms


def term_of(value: object) -> Term:
    """Return the term that a name, a loss or a mapping describes."""
    if isinstance(value, Term):
        return value
    if not isinstance(value, Mapping):
        return Term(loss=value)  # type: ignore[arg-type]  # which refuses what is none
    if "loss" not in value and "name" in value:
        name = quoted(value["name"])
        raise ConfigError(
            f"a term has a loss, got the name {name} without one; write {{'loss': {{'name': {name}, ...}}}}"
        )
    return Term(**value)


def common_kinds(terms: Sequence[Term]) -> tuple[Kind, ...]:
    """Return the kinds of input that all losses take, where all are given the whole of output and target."""
    losses = [term.loss for term in terms if isinstance(term.loss, Loss)]
    if not losses or any(term.output is not None or term.target is not None for term in terms):
        return ()
    first, *others = (loss.inputs for loss in losses)
    return tuple(kind for kind in first if all(kind in kinds for kinds in others))
