"""One word, one meaning: names that the code once gave to several things, and what is left of each."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("losses", "tools", "benchmarks") for path in (ROOT / room).rglob("*.py"))
FORBIDDEN = (
    "mass", "spread", "share", "shares", "pull", "pulls", "near_slope", "kernel", "Says", "hold", "plain", "weighed",
    "hide", "hidden", "exceptions", "mean_of", "figures", "summed", "declared_once",
)  # fmt: skip
"""Identifiers that have been given plain names; where a word is still said in a text it has the meaning below."""
LEFT = {
    "mass": ("what transport moves", {"ops/transport/quantiles.py", "divergence/wasserstein.py"}),
    "kernel": ("nothing yet; of a maximum mean discrepancy", set()),
    "spread": ("nothing", set()),
    "pull": ("nothing", set()),
    "weighed": ("nothing", set()),
    "hide": ("nothing", set()),
}


@functools.cache
def identifiers(path: Path) -> frozenset[str]:
    """Return every name in a file, which is read once."""
    return frozenset(names(path))


def names(path: Path) -> Iterator[str]:
    """Yield every name that a file gives to anything or takes from anything of ours."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg() | ast.keyword():
                yield node.arg or ""
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.alias():
                yield node.name


@pytest.mark.parametrize("word", FORBIDDEN)
def test_a_word_that_meant_several_things_names_nothing(word: str) -> None:
    found = [str(path.relative_to(ROOT)) for path in SOURCES if word in identifiers(path)]
    assert not found, f"{word!r} is a name in {found}"


@pytest.mark.parametrize("word", LEFT)
def test_a_word_is_said_in_one_meaning_alone(word: str) -> None:
    meaning, files = LEFT[word]
    said = {
        str(path.relative_to(ROOT / "losses"))
        for path in SOURCES
        if path.is_relative_to(ROOT / "losses") and re.search(rf"\b{word}\b", path.read_text(encoding="utf-8"))
    }
    assert said <= files, f"{word!r} means {meaning}; it is said in {sorted(said - files)}"


def test_a_parameter_of_a_signature_is_a_declared_one() -> None:
    """``Parameter`` alone is torch's."""
    for path in SOURCES:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [node for node in tree if "Parameter" in (getattr(node, "id", ""), getattr(node, "name", ""))], path


def test_output_is_what_a_model_made_and_no_form_or_text() -> None:
    """A form is ``..._form`` in every loss, and the words of a kind of input are its ``output_text``."""
    import losses
    from losses.core.inputs import Kind
    from losses.core.parameters import declared_parameters
    from losses.core.registry import find

    assert not {"output", "target"} & set(vars(Kind).get("__annotations__", {}))
    for name in losses.available():
        parameters = {parameter.name for parameter in declared_parameters(find(name).cls.__init__)}
        assert not parameters & {"output", "target", "input"}
