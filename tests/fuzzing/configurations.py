"""Configurations that are valid, nearly valid or nothing of the kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from losses.core.registry import ALIASES, SPECS
from tests.fuzzing.values import NAMES, NUMBERS, ORDINARY, PARAMETERS, TEXTS, VALUES, Number, Word, values

keys = st.one_of(
    st.sampled_from(sorted({key for keys in PARAMETERS.values() for key in keys})),
    st.sampled_from(
        [
            "self",
            "cls",
            "init",
            "given",
            "model_config",
            "model_fields",
            "__init__",
            "margn",
            "Reduction",
            "reduction ",
            "name",
            *TEXTS,
        ]
    ),
    st.text(max_size=6),
    st.sampled_from([None, 1, 1.5, True, b"x", (1, 2), float("nan"), frozenset(), object(), Number.ONE, Word.SUM]),
)
names = st.one_of(
    st.sampled_from([*NAMES, *ALIASES]),
    st.sampled_from([*NAMES, *ALIASES]),
    st.sampled_from([*NAMES, *ALIASES]),
    st.sampled_from(["smooth_l1", "MSE"]),
    values,
)


@st.composite
def configurations(draw: st.DrawFn, depth: int = 2) -> Any:
    """Draw a mapping that is a configuration, nearly one, or only looks like one."""
    name = draw(names)
    config: dict[Any, Any] = {"name": name}
    known = (
        PARAMETERS[ALIASES.get(name, name)]
        if isinstance(name, str) and ALIASES.get(name, name) in SPECS
        else ["reduction"]
    )
    for key in draw(st.lists(st.sampled_from(known), unique=True, max_size=4)):
        usual = (
            st.sampled_from(VALUES.get(ALIASES.get(name, name), {}).get(key) or ORDINARY)
            if isinstance(name, str)
            else values
        )
        if key == "reconstruction" and depth:
            config[key] = draw(st.one_of(configurations(depth=depth - 1), names))
        else:
            config[key] = draw(st.one_of(usual, usual, usual, st.sampled_from(NUMBERS), values))
    if draw(st.integers(0, 5)) == 5:
        config[draw(keys)] = draw(values)
    if draw(st.integers(0, 19)) == 19:
        del config["name"]
    return config
