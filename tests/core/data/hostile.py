"""Files that are made to exhaust a reader: for each its text, and words of the reason why it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from losses.core.data.file import MOST_BYTES

TOO_MANY, TOO_DEEP, TOO_LONG = "holds more than 50,000 values", "is nested more than 100 deep", "at most 1,048,576"
NO_LOSS, DIGITS, ITSELF = "name: is missing", "at most 400 are read", "stands in itself"


class Hostile(NamedTuple):
    """One file: how it is made, and why it is refused."""

    make: Callable[[], str]
    reason: str


def full(unit: str, head: str = "", tail: str = "") -> Callable[[], str]:
    """Return what makes a text that is just short enough to be read, of one piece repeated."""
    return lambda: head + unit * ((MOST_BYTES - len(head) - len(tail)) // len(unit)) + tail


def bomb(levels: int, width: int, inner: str = "[{}]") -> str:
    """Return aliases of aliases: each line repeats the one before it."""
    lines = ["a0: &a0 [x]\n"]
    for level in range(1, levels):
        items = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} {inner.format(items)}\n")
    return "".join(lines)


BASE = "base: &base {" + ", ".join(f"k{number}: 1" for number in range(9000)) + "}\n"
KEYS = [f"key{number}" for number in range(100_000)]

HOSTILE = {
    # what grows where it is read
    "bomb.yaml": Hostile(lambda: bomb(30, 9), TOO_MANY),
    "wide.yaml": Hostile(lambda: bomb(2, 49_000) + "b: [*a1, *a1]\n", TOO_MANY),
    "maps.yaml": Hostile(lambda: bomb(30, 2, "{{x: [{}]}}"), TOO_MANY),
    "chain.yaml": Hostile(lambda: bomb(99, 1).replace("[x]", "[[x]]") + "b: [[*a98]]\n", TOO_DEEP),
    "merges.yaml": Hostile(lambda: BASE + "".join(f"m{n}: {{<<: *base}}\n" for n in range(3000)), TOO_MANY),
    "merge_list.yaml": Hostile(lambda: BASE + "m: {<<: [" + ", ".join(["*base"] * 9000) + "]}\n", TOO_MANY),
    "merge_chain.yaml": Hostile(
        lambda: "m0: &m0 {k: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 60)),
        TOO_MANY,
    ),
    "itself.yaml": Hostile(lambda: "a: &a [*a]\n", ITSELF),
    "itself_key.yaml": Hostile(lambda: "a: &a {b: {*a : 1}}\n", ITSELF),
    "itself_merge.yaml": Hostile(lambda: "a: &a {<<: *a}\n", ITSELF),
    "whole_itself.yaml": Hostile(lambda: "&a\nname: *a\n", ITSELF),
    # too many
    "keys.yaml": Hostile(lambda: "".join(f"{n}: 1\n" for n in range(100_000)), TOO_MANY),
    "keys.json": Hostile(lambda: json.dumps(dict.fromkeys(map(str, range(70_000)), 1)), TOO_MANY),
    "long_keys.yaml": Hostile(lambda: "".join(f"{key}: 1\n" for key in KEYS), TOO_LONG),
    "long_keys.json": Hostile(lambda: json.dumps(dict.fromkeys(KEYS, 1)), TOO_LONG),
    "numbers.yaml": Hostile(full("1,", "x: [", "]"), TOO_MANY),
    "numbers.json": Hostile(full("1,", "[", "1]"), TOO_MANY),
    "lists.yaml": Hostile(full("[],", "x: [", "]"), TOO_MANY),
    "lists.json": Hostile(full("[],", "[", "1]"), TOO_MANY),
    "singles.yaml": Hostile(full("a: 1,", "x: [", "]"), TOO_MANY),
    "objects.json": Hostile(full('{"":0},', "[", "1]"), TOO_MANY),
    "unknown.yaml": Hostile(lambda: "name: huber\n" + "".join(f"k{n}: 1\n" for n in range(24_000)), "unknown key"),
    "unknown.json": Hostile(lambda: json.dumps({"name": "ce", **dict.fromkeys(KEYS[:24_000], 1)}), "unknown key"),
    "texts.json": Hostile(lambda: json.dumps({"name": "ce", "class_weight": ["x"] * 49_000}), "class_weight[0]"),
    "anchors.yaml": Hostile(lambda: "".join(f"- &a{n} 1\n" for n in range(49_000)), "holds list"),
    "directives.yaml": Hostile(lambda: "".join(f"%TAG !{n}! x\n" for n in range(60_000)) + "---\na: 1\n", "%TAG"),
    "documents.yaml": Hostile(full("---\n"), "single document"),
    # too deep
    "deep.yaml": Hostile(lambda: "[" * 500_000 + "]" * 500_000, TOO_DEEP),
    "deep.json": Hostile(lambda: "[" * 500_000 + "]" * 500_000, TOO_DEEP),
    "deep_maps.yaml": Hostile(lambda: "{a: " * 200_000 + "}" * 200_000, TOO_DEEP),
    "deep_maps.json": Hostile(lambda: '{"a":' * 150_000 + "1" + "}" * 150_000, TOO_DEEP),
    "unclosed.yaml": Hostile(full("["), TOO_DEEP),
    "unclosed.json": Hostile(full("["), TOO_DEEP),
    "dashes.yaml": Hostile(full("- "), TOO_DEEP),
    "losses.json": Hostile(
        lambda: '{"name":"elbo","reconstruction":' * 90 + f'{{"name":"ce","class_weight":{[1.5] * 45_000}}}' + "}" * 90,
        "expected a pointwise loss",
    ),
    # too long
    "size.yaml": Hostile(lambda: "name: huber\n" + "#" * 50_000_000, "has 50,000,012 bytes, at most 1,048,576"),
    "size.json": Hostile(lambda: '{"name": "huber"}' + " " * 50_000_000, "has 50,000,017 bytes, at most 1,048,576"),
    "integer.yaml": Hostile(lambda: "delta: " + "9" * 1_000_000, DIGITS),
    "integer.json": Hostile(lambda: '{"delta": ' + "9" * 1_000_000 + "}", DIGITS),
    "hexadecimal.yaml": Hostile(lambda: "delta: 0x" + "f" * 1_000_000, DIGITS),
    "float.yaml": Hostile(lambda: "delta: 0." + "9" * 1_000_000, NO_LOSS),
    "float.json": Hostile(lambda: '{"delta": 0.' + "9" * 1_000_000 + "}", NO_LOSS),
    "exponent.yaml": Hostile(lambda: "name: huber\ndelta: 1e" + "9" * 1_000_000, "delta: got inf"),
    "exponent.json": Hostile(lambda: '{"name": "huber", "delta": 1e' + "9" * 1_000_000 + "}", "delta: got inf"),
    "nearly.yaml": Hostile(lambda: "delta: " + "9" * 1_000_000 + "x", NO_LOSS),
    "sexagesimal.yaml": Hostile(lambda: "name: huber\ndelta: 1" + ":59" * 300_000, "delta: got '1:59"),
    "name.yaml": Hostile(lambda: "name: " + "x" * 1_000_000, "unknown loss 'xxx"),
    "name_parts.yaml": Hostile(lambda: "name: " + "x_" * 500_000, "unknown loss 'x_x"),
    "name_like_ours.yaml": Hostile(lambda: "name: mse" + "_" * 1_000_000, "Did you mean 'mse'"),
    "name_like_another.yaml": Hostile(lambda: "name: kld" + "_" * 1_000_000, "'kld___"),
    "long_path.json": Hostile(
        lambda: json.dumps({"x" * 500_000: {f"k{n}": {"name": "mse"} for n in range(10_000)}}), NO_LOSS
    ),
    "key.json": Hostile(lambda: json.dumps({"name": "ce", "class_weigh" * 90_000: 1}), "unknown key"),
    "tag.yaml": Hostile(lambda: "a: !" + "x" * 1_000_000 + " 1", "the tag '!xxx"),
    "alias.yaml": Hostile(lambda: "a: *" + "x" * 1_000_000, "nothing before it has the anchor 'xxx"),
    "escapes.yaml": Hostile(full("\\n", 'a: "', '"'), NO_LOSS),
    "escapes.json": Hostile(full("\\u0041", '{"a":"', '"}'), NO_LOSS),
    "folded.yaml": Hostile(full(" x\n", "a: >\n"), NO_LOSS),
    "comments.yaml": Hostile(full("#\n"), "is empty"),
    "blank.json": Hostile(full(" "), "is empty"),
    "zeros.yaml": Hostile(full("\0"), "the byte 0"),
    # twice
    "twice.yaml": Hostile(full("a: 1\n"), "the key 'a' stands there twice"),
    "twice.json": Hostile(full('"a":1,', "{", '"a":1}'), "the key 'a' stands there twice"),
    "last_twice.yaml": Hostile(lambda: "".join(f"{n}: 1\n" for n in [*range(24_000), "0x1"]), "written '1' before"),
    "alias_keys.yaml": Hostile(lambda: "a: &a x\n" + "*a : 1\n" * 20_000, "the key '*a' stands there twice"),
}
