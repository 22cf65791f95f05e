"""YAML means what YAML 1.2 says: its core schema, its keys, its aliases, and no tag that does anything."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses import ConfigError
from losses.checking import options_of
from losses.configuration import from_yaml
from losses.core.data import yaml_text
from losses.core.data.yaml_scalars import resolved
from losses.core.parameters import declared_parameters
from losses.core.registry import find
from tests.refusals import refused

LOADERS = [loader for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", None)) if loader]


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with PyYAML's parser in Python and, where it was built with it, with the one in C."""
    monkeypatch.setattr(yaml_text, "LOADER", request.param)


MEANINGS = {
    # examples 10.8 and 10.9 of the specification
    "null": None,
    "true": True,
    "True": True,
    "false": False,
    "FALSE": False,
    "0": 0,
    "-0": 0,
    "3": 3,
    "0o7": 7,
    "0x3A": 58,
    "-19": -19,
    "0.": 0.0,
    "-0.0": -0.0,
    ".5": 0.5,
    "12e03": 12000.0,
    "+12e03": 12000.0,
    "-2E+05": -200000.0,
    ".inf": math.inf,
    "-.Inf": -math.inf,
    "+.INF": math.inf,
    ".NAN": math.nan,
    # the other rows of its table
    "Null": None,
    "NULL": None,
    "~": None,
    "": None,
    "TRUE": True,
    "False": False,
    "+7": 7,
    "010": 10,
    "-010": -10,
    "0o010": 8,
    "0xabCD": 0xABCD,
    ".nan": math.nan,
    ".NaN": math.nan,
    "1e-3": 1e-3,
    "1e3": 1000.0,
    "+.5E2": 50.0,
    "1e400": math.inf,
    # what YAML 1.1, or Python, would read as something else
    **{
        text: text
        for text in (
            "1:30", "190:20:30", "1:30.5", "1_000", "0b101", "-0x1", "+0o7", "0O7", "0X1", "0o8", "0xg", "0o", "0x",
            "yes", "Yes", "no", "NO", "on", "Off", "y", "n", "tRUE", "nULL", "None", "nil", "inf", "nan", "-inf", "NaN",
            "Infinity", "+.nan", ".inF", "..inf", "2026-01-01", "2001-12-14t21:59:43.10-05:00", "2001-99-99", "=",
            "1e", "e1", ".", ".e1", "1.2.3", "1e1.5", "--1", "+-1", "+", "1 2", "1,5", "1f", "0.0.0.0",
            "\uff11", "\u0663",
        )
    },
}  # fmt: skip


def same(value: Any, expected: Any) -> bool:
    """Return whether two scalars are of one type and value; NaN is itself, and -0.0 is not 0.0."""
    return type(value) is type(expected) and repr(value) == repr(expected)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("text", MEANINGS)
def test_a_word_means_what_the_table_of_yaml_1_2_says(text: str) -> None:
    assert same(resolved(text), MEANINGS[text])
    assert same(from_yaml(f"key: {text}")["key"], MEANINGS[text])
    assert from_yaml(f"'key': '{text}'") == from_yaml(f"key: ! {text}") == {"key": text}
    assert from_yaml(f'key: !!str "{text}"') == {"key": text}


def meaning(text: str) -> Any:
    """Return what a word means, told without regular expressions; digits are those of ASCII."""
    digits, octal, hexadecimal = "0123456789", "01234567", "0123456789abcdefABCDEF"

    def of(characters: str, part: str) -> bool:
        return part != "" and all(character in characters for character in part)

    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text in ("true", "True", "TRUE")
    if text.startswith("0o") and of(octal, text[2:]):
        return int(text[2:], 8)
    if text.startswith("0x") and of(hexadecimal, text[2:]):
        return int(text[2:], 16)
    if text in (".nan", ".NaN", ".NAN"):
        return math.nan
    bare = text[1:] if text[:1] in ("+", "-") else text
    if bare in (".inf", ".Inf", ".INF"):
        return -math.inf if text.startswith("-") else math.inf
    if of(digits, bare):
        return int(text)
    mantissa, mark, exponent = bare.replace("E", "e").partition("e")
    whole, _, fraction = mantissa.partition(".")
    if mark and not of(digits, exponent[1:] if exponent[:1] in ("+", "-") else exponent):
        return text
    if (of(digits, whole) and (fraction == "" or of(digits, fraction))) or (whole == "" and of(digits, fraction)):
        return float(text)
    return text


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text("0123456789+-.eE", max_size=8),
        st.text("01789abfoxOX_:+-.", max_size=6),
        st.sampled_from(["null", "true", "false", "inf", ".inf", ".nan", "0x", "0o", "~"]).flatmap(
            lambda word: st.lists(st.sampled_from([word, word.title(), word.upper(), "+", "-", "1"]), max_size=2).map(
                "".join
            )
        ),
        st.text(max_size=4),
    )
)
def test_any_word_means_what_the_table_says(text: str) -> None:
    assert same(resolved(text), meaning(text))
    if text.isascii() and text.isalnum():
        assert same(from_yaml(f"- {text}")[0], meaning(text))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 10**30), st.integers(0, 5), st.sampled_from(["", "+", "-"]))
def test_integers_are_read_in_their_base_with_any_zeros_before_them(number: int, zeros: int, sign: str) -> None:
    before = "0" * zeros
    assert from_yaml(f"[{sign}{before}{number}]") == [-number if sign == "-" else number]
    assert from_yaml(f"[0o{before}{number:o}, 0x{before}{number:x}, 0x{before}{number:X}]") == [number] * 3


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.floats())
def test_floats_are_read_back_as_python_json_and_pyyaml_write_them(number: float) -> None:
    texts = [yaml.safe_dump([number]), f"[{number:+.17e}]"] if math.isfinite(number) else [yaml.safe_dump([number])]
    if math.isfinite(number):
        texts += [f"[{number!r}]", json.dumps([number])]
    for text in texts:
        assert same(from_yaml(text)[0], number)


letters = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=8)
plain_data = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False), letters).filter(
        lambda value: value not in (math.inf, -math.inf)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(letters, inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(plain_data, st.sampled_from([None, 2]))
def test_json_is_yaml(data: Any, indent: int | None) -> None:
    assert from_yaml(json.dumps(data, indent=indent)) == data


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("name", losses.available())
def test_a_configuration_that_pyyaml_writes_is_read_back(name: str, tmp_path: Path) -> None:
    cls = find(name).cls
    for options in options_of(declared_parameters(cls.__init__)):
        config = find(name).instance(**options).config()
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({"loss": config}), encoding="utf-8")
        assert losses.load(tmp_path / "run.yaml", "loss").config() == config


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a", "a", "the key 'a' stands there twice, in line 2"),
        ("a", '"a"', "the key 'a' stands there twice"),
        ("'a'", '"\\x61"', "the key 'a' stands there twice"),
        ("a", "!!str a", "the key 'a' stands there twice"),
        ("1", "0x1", "the key '0x1' stands there twice, which is written '1' before"),
        ("8", "0o10", "the key '0o10' stands there twice, which is written '8' before"),
        ("10", "010", "which is written '10' before"),
        ("1", "1.0", "which is written '1' before"),
        ("1", "+1", "which is written '1' before"),
        ("true", "True", "which is written 'true' before"),
        ("true", "1", "which is written 'true' before"),
        ("0", "-0", "which is written '0' before"),
        ("null", "~", "which is written 'null' before"),
        (".nan", ".NaN", "which is written '.nan' before"),
        ("1", "!!int '1'", "the key '1' stands there twice"),
        ("&b 1", "*b ", "the key '*b' stands there twice, which is written '1' before"),
        ("<<", "<<", "the key '<<' stands there twice"),
        ("? a\n", "a", "the key 'a' stands there twice"),
    ],
)
def test_a_key_that_stands_there_twice_is_an_error(first: str, second: str, words: str) -> None:
    with refused([words], ConfigError):
        from_yaml(f"{first}: {{}}\n{second}: {{}}\n" if "?" not in first else f"{first}{second}: 1\n")
    with refused(["twice"], ConfigError):
        from_yaml(f"outer:\n- {{k: 1, k: 2, {second}: 1}}\n")


@pytest.mark.usefixtures("loader")
def test_keys_that_only_look_alike_are_several() -> None:
    text = "1: a\n'1': b\ntrue: c\n".replace("true", "'true'") + "'true ': d\nA: e\na: f\n0x10: g\n010: h\n'<<': i\n"
    expected = {1: "a", "1": "b", "true": "c", "true ": "d", "A": "e", "a": "f", 16: "g", 10: "h", "<<": "i"}
    assert from_yaml(text) == expected


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("? [a]\n: 1", "a key is a list or a mapping"),
        ("{a: 1}: 2", "a key is a list or a mapping"),
        ("x: &a [1]\n*a : 2", "a key is an alias of a list or a mapping"),
        ("a: *b", "nothing before it has the anchor 'b', in line 1, column 4"),
        ("a: *b\nc: &b 1", "nothing before it has the anchor 'b'"),
        ("a: &a [1, {b: *a}]", "what has the anchor 'a' stands in itself"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("<<: 1", "<< is given 1, expected a mapping or a list of mappings"),
        ("<<: [{a: 1}, 2]", "<< is given [{'a': 1}, 2]"),
        ("<<:", "<< is given None"),
        ("a: !!int 3.5", "'3.5' is not what the tag !!int says"),
        ("a: !!int ''", "'' is not what the tag !!int says"),
        ("a: !!bool yes", "'yes' is not what the tag !!bool says"),
        ("a: !!float x", "'x' is not what the tag !!float says"),
        ("a: !!null x", "'x' is not what the tag !!null says"),
        ("a: !!seq x", "the tag '!!seq' is not accepted"),
        ("a: !!str [x]", "the tag '!!str' is not accepted"),
        ("a: !!map [x]", "the tag '!!map' is not accepted"),
        ("a: !!timestamp 2001-01-01", "the tag '!!timestamp' is not accepted"),
        ("a: !!binary aGk=", "the tag '!!binary' is not accepted"),
        ("a: !!set {x}", "the tag '!!set' is not accepted"),
        ("a: !own 1", "the tag '!own' is not accepted"),
        ("a: !!python/name:os.system", "the tag '!!python/name:os.system' is not accepted"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system", "'!!python/name:os.system' is not accepted"),
        ("a: !<tag:yaml.org,2002:python/object/apply:os.system> [x]", "is not accepted"),
        ("a: [", "is not plain YAML"),
        ("a: \0", "is not plain YAML"),
        ("a: \ud800", "is not plain YAML"),
        ("%YAML 2.0\n---\na: 1", "is not plain YAML"),
    ],
)
def test_what_yaml_1_2_has_not_is_refused_in_words(text: str, words: str) -> None:
    with refused(["is not plain YAML: ", words], ConfigError):
        from_yaml(text)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("# nothing", None),
        ("---\n...\n", None),
        ("\ufeffa: 1", {"a": 1}),
        ("%YAML 1.1\n---\na: yes", {"a": "yes"}),
        ("%YAML 1.2\n---\na: 010", {"a": 10}),
        ("a: !!int '3'\nb: !!float 3\nc: !!bool 'true'\nd: !!null ''\n", {"a": 3, "b": 3.0, "c": True, "d": None}),
        ("a: ! [1]\nb: !!seq [1]\nc: !!map {d: 1}", {"a": [1], "b": [1], "c": {"d": 1}}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
        ("a: &x [&x 1, *x]\nb: *x", {"a": [1, 1], "b": [1, 1]}),
        ("a: |\n  010\n", {"a": "010\n"}),
        ("a: >-\n  no\n", {"a": "no"}),
        ("{a, b}", {"a": None, "b": None}),
        ("base: &b {p: 1, q: 1}\nx: {q: 2, <<: *b, r: 3}", {"base": {"p": 1, "q": 1}, "x": {"p": 1, "q": 2, "r": 3}}),
        ("x: {<<: [{p: 1}, {p: 2, q: 2}]}", {"x": {"p": 1, "q": 2}}),
        ("x: {<<: {<<: {p: 1}, q: 2}, q: 3}", {"x": {"p": 1, "q": 3}}),
        ("x: {<<: {}}", {"x": {}}),
        ("name: huber\n'<<': {delta: 2}\n", {"name": "huber", "<<": {"delta": 2}}),
    ],
)
def test_documents_that_are_read(text: str, data: Any) -> None:
    assert from_yaml(text) == data


@pytest.mark.usefixtures("loader")
def test_an_alias_is_a_copy_of_its_own() -> None:
    data = from_yaml("a: &a {b: [1]}\nc: *a\nd: {<<: *a}\n")
    data["a"]["b"].append(2)
    assert data["c"] == data["d"] == {"b": [1]}
