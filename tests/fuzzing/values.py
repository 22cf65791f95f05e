"""Values of any kind: ordinary parameters, numbers and texts at the edge, tensors, and what is nothing of the kind."""

from __future__ import annotations

import collections
import datetime
import enum
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import losses
from losses import ConfigError
from losses.core.parameters import declared_parameters
from losses.core.registry import find

NAMES = losses.available()
PARAMETERS = {name: [parameter.name for parameter in declared_parameters(find(name).cls.__init__)] for name in NAMES}
WORDS = sorted(
    {
        "soft",
        "hard",
        "semi_hard",
        "active",
        "all",
        "balanced",
        "cosine",
        "euclidean",
        "squared_euclidean",
        "forward",
        "reverse",
        "second",
        "both",
        "probs",
        "log_probs",
        "logits",
        "binary",
        "multiclass",
        "crammer_singer",
        "weston_watkins",
        "samples",
        "distance",
        "cost",
        "mean",
        "sum",
        "none",
        "mse",
        "bce",
        "huber",
        "l1",
    }
)
ORDINARY = [
    0,
    1,
    2,
    0.0,
    0.3,
    0.5,
    1.0,
    2.0,
    3.5,
    30.0,
    1e-4,
    100.0,
    -100,
    None,
    True,
    False,
    [1.0],
    [0.5, 2.0, 1.0],
    [0.0, 1.0, 0, 0, 2.0],
    *WORDS,
]


def accepted_values(name: str, parameter: str, pool: list[Any]) -> list[Any]:
    """Return what of a pool a loss takes for one parameter."""
    taken = []
    for value in pool:
        for rest in ({}, {"form": "probs"}):  # a support goes with a histogram only
            try:
                find(name).instance(**{**rest, parameter: value})
            except ConfigError:
                continue
            taken.append(value)
            break
    return taken


VALUES = {name: {key: accepted_values(name, key, ORDINARY) for key in keys} for name, keys in PARAMETERS.items()}


@st.composite
def valid_losses(draw: st.DrawFn, name: str) -> losses.Loss:
    """Draw a loss with ordinary parameters: any option, numbers from 1e-4 to 100."""
    known = [key for key in PARAMETERS[name] if VALUES[name].get(key)]
    chosen = draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    options = {key: draw(st.sampled_from(VALUES[name][key])) for key in chosen}
    try:
        return find(name).instance(**options)
    except ConfigError:  # options that exclude each other
        return find(name).instance(**{key: value for key, value in options.items() if key == "reduction"})


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    SUM = "sum"


def in_itself(kind: type) -> Any:
    loop: Any = kind()
    if kind is dict:
        loop.update(name="elbo", reconstruction=loop)
    else:
        loop.append(loop)
    return loop


def nested(depth: int) -> dict[str, Any]:
    config: Any = "mse"
    for _ in range(depth):
        config = {"name": "elbo", "reconstruction": config}
    return config if isinstance(config, dict) else {"name": config}


NUMBERS = [
    0,
    -0.0,
    1,
    -1,
    2,
    3,
    0.5,
    1.0,
    2.0,
    1e-300,
    5e-324,
    1e300,
    1e308,
    -1e308,
    2**31,
    2**63,
    -(2**63),
    2**64,
    10**30,
    10**400,
    float("nan"),
    float("inf"),
    -float("inf"),
    1 - 2**-53,
    1 + 2**-52,
    True,
    False,
]
TEXTS = [
    "",
    " ",
    "1",
    "1e-3",
    "nan",
    "None",
    "é",
    "\0",
    "\ud800",
    "\U0010ffff",
    "x" * 5000,
    "1" * 5000,
    "{}",
    "%s",
    "{0}",
    "__class__",
]
TENSORS = [
    torch.tensor(1.0),
    torch.ones(1),
    torch.ones(3),
    torch.ones(2, 2),
    torch.zeros(0),
    torch.tensor([float("nan")]),
    torch.tensor([1, 2]),
    torch.tensor([True]),
    torch.tensor([1j]),
    torch.tensor([0.1], dtype=torch.float16),
    torch.tensor([0.1], dtype=torch.bfloat16),
    torch.tensor([-1.0]),
    torch.tensor([0.1], dtype=torch.float32),
    torch.ones(2, requires_grad=True),
    torch.ones(2).to_sparse(),
    torch.ones(2, device="meta"),
    torch.ones(6)[::2],
    torch.ones(1).expand(3),
    torch.tensor([1.0]).to(torch.float8_e4m3fn),
]
OBJECTS: list[Callable[[], Any]] = [
    lambda: None,
    object,
    lambda: in_itself(list),
    lambda: b"1",
    lambda: bytearray(b"1"),
    lambda: {1, 2},
    lambda: frozenset(),
    lambda: (1, 2),
    lambda: (),
    lambda: range(3),
    lambda: range(10**6),
    dict,
    lambda: {"name": "mse"},
    lambda: {"name": 1},
    lambda: nested(2),
    lambda: nested(50),
    lambda: nested(250),
    lambda: 1 + 0j,
    lambda: Decimal("1.5"),
    lambda: Decimal("nan"),
    lambda: Fraction(1, 3),
    lambda: Number.ONE,
    lambda: Word.SUM,
    lambda: np.float32(0.1),
    lambda: np.float64(2),
    lambda: np.int64(1),
    lambda: np.array([1.0, 2.0]),
    lambda: np.array("sum"),
    lambda: np.str_("sum"),
    lambda: np.bool_(True),
    lambda: collections.deque([1.0]),
    lambda: collections.Counter({"name": 1}),
    lambda: MappingProxyType({"name": "mse"}),
    lambda: datetime.date(2001, 1, 1),
    lambda: len,
    lambda: int,
    lambda: losses.MSELoss,
    losses.MSELoss,
    lambda: losses.MSELoss(reduction="sum"),
    lambda: losses.TripletLoss(),
    lambda: iter([1]),
    lambda: (item for item in [1.0]),
    lambda: sys.maxsize,
    lambda: ...,
    lambda: NotImplemented,
    lambda: torch.float32,
    lambda: torch.nn.Linear(1, 1),
    lambda: torch.nn.Parameter(torch.ones(2)),
]

scalars = st.one_of(
    st.sampled_from(ORDINARY),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from(WORDS),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
)
values = st.recursive(
    st.one_of(scalars, st.sampled_from(TENSORS), st.sampled_from(OBJECTS).map(lambda make: make())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["name", "delta", "reduction", "reconstruction", "x", ""]), inner, max_size=3),
    ),
    max_leaves=6,
)
