"""Texts of configuration files: YAML and JSON, well formed or not."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from losses.core.registry import ALIASES
from tests.fuzzing.values import NAMES, TEXTS, WORDS, nested

PIECES = [
    "name: mse\n",
    "name: huber\n",
    "name: elbo\n",
    "name: ce\n",
    "delta: 2\n",
    "delta: 1e-3\n",
    "delta: .inf\n",
    "delta: .nan\n",
    "delta: 0x_\n",
    "delta: 0b_\n",
    "delta: 1:30\n",
    "delta: -_\n",
    "delta: 2001-99-99\n",
    "delta: 2001-01-01 99:99:99\n",
    "delta: 0x" + "1" * 5000 + "\n",
    "delta: " + "1" * 5000 + "\n",
    "class_weight: [1, 2]\n",
    "class_weight: [1, [2]]\n",
    "reconstruction: {name: mse}\n",
    "reconstruction: *a\n",
    "reconstruction: &a {name: mse}\n",
    "reconstruction: &a [*a]\n",
    "<<: *a\n",
    "<<: {delta: 2}\n",
    "<<: 1\n",
    "<<: [{name: mse}, 1]\n",
    "? [a]\n: 1\n",
    "? {a: 1}\n: 2\n",
    "{[1]: 2}\n",
    "=: 1\n",
    "\t",
    "- ",
    "---\n",
    "...\n",
    "%YAML 1.1\n---\n",
    "%TAG ! tag:x,2000:\n---\n",
    "# é\n",
    "'",
    '"',
    "\u2028",
    "\x85",
    "\ufeff",
    "\0",
    "é: ü\n",
    "x: " + "[" * 3000 + "]" * 3000 + "\n",
    "x: " + "{a: " * 400 + "1" + "}" * 400 + "\n",
    'name: "\\ud800"\n',
    'name: "\\U0011ffff"\n',
    'name: "\\UFFFFFFFF"\n',
    "key: >\n  text\n",
    "null: 1\n",
    "1: 2\n",
    "~: 2\n",
    ": 1\n",
]
TAGS = [
    "!!int",
    "!!float",
    "!!bool",
    "!!null",
    "!!str",
    "!!timestamp",
    "!!binary",
    "!!set",
    "!!omap",
    "!!pairs",
    "!!seq",
    "!!map",
    "!!merge",
    "!!value",
    "!",
    "!foo",
    "!<x>",
    "!!python/name:os.system",
    "!!python/object/apply:os.system",
]
tagged = st.builds(
    "{}: {} {}\n".format,
    st.sampled_from(["name", "delta", "reduction", "<<"]),
    st.sampled_from(TAGS),
    st.sampled_from(["", "''", "x", "1", "-", "mse", "[a]", "{a: 1}", "[a: 1]", "[{a: 1}, 2]", "'%%%'", "é"]),
)
yaml_texts = st.one_of(
    st.lists(st.one_of(st.sampled_from(PIECES), tagged), max_size=4).map("".join),
    st.text(st.sampled_from("name: huber\n\t-[]{}&*!%@?|>'\"#,:~01.eE_+x<=\\"), max_size=40),
    st.text(max_size=30),
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(WORDS),
        st.sampled_from(TEXTS),
        st.text(max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "delta", "", "\ud800"]), inner, max_size=3),
    ),
    max_leaves=8,
)
json_configurations = st.builds(
    lambda name, items: {"name": name, **dict(items)},
    st.sampled_from([*NAMES, *ALIASES]),
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(["reduction", "reconstruction", "delta", "class_weight", "warmup_steps", "\ud800"]),
                st.text(max_size=3),
            ),
            json_values,
        ),
        max_size=3,
    ),
)
json_texts = st.one_of(
    st.one_of(json_configurations, json_values).map(json.dumps),
    st.text(st.sampled_from('{}[]":,name0123456789.eE+-\\ud8 \n'), max_size=30),
    st.sampled_from(
        [
            '{"a":' * 100000,
            "[" * 100000,
            json.dumps(nested(150)),
            json.dumps(nested(300)),
            "1" * 5000,
            '{"name":"huber","delta":' + "1" * 5000 + "}",
            '\ufeff{"name":"mse"}',
            '{"name":"mse","name":"mse"}',
            "NaN",
            "",
            "\0",
        ]
    ),
)
