"""Strategies of the fuzzer: configurations and batches that are valid, nearly valid or nothing of the kind.

A batch is what the loss's own kind of input draws, changed by a few named steps. The steps are data, so that Hypothesis
shrinks a failure to the fewest steps that still fail and prints them.
"""

from __future__ import annotations

import collections
import datetime
import enum
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, distributions

import losses
from losses import ConfigError
from losses.core.inputs.kind import Kind
from losses.core.parameters import declared_once
from losses.core.registry import ALIASES, SPECS, find

NAMES = losses.available()
PARAMETERS = {name: [parameter.name for parameter in declared_once(find(name).cls.__init__)] for name in NAMES}
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
        for rest in ({}, {"input": "probs"}):  # a support goes with a histogram only
            try:
                losses.create(name, **{**rest, parameter: value})
            except ConfigError:
                continue
            taken.append(value)
            break
    return taken


VALUES = {name: {key: accepted_values(name, key, ORDINARY) for key in keys} for name, keys in PARAMETERS.items()}


@st.composite
def valid_losses(draw: st.DrawFn, name: str) -> losses.Loss:
    """Draw a loss with ordinary parameters: any option, numbers from 1e-4 to 100."""
    chosen = draw(st.lists(st.sampled_from(PARAMETERS[name]), unique=True, max_size=4))
    options = {key: draw(st.sampled_from(VALUES[name][key])) for key in chosen}
    try:
        return losses.create(name, **options)
    except ConfigError:  # options that exclude each other
        return losses.create(name, **{key: value for key, value in options.items() if key == "reduction"})


# Configurations


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    SUM = "sum"


def itself() -> list[Any]:
    loop: list[Any] = []
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
    itself,
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


# Batches

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.int8,
    torch.uint16,
    torch.float8_e4m3fn,
]
NUMBERS_IN_BATCHES = [
    0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    1e-4,
    -1e-4,
    1e4,
    -1e4,
    3e4,
    -6e4,
    88.0,
    -104.0,
    1e-7,
    1e-30,
    -1e-38,
    1e-45,
    1e-310,
    1e20,
    -3e38,
    1e300,
    float("inf"),
    -float("inf"),
    float("nan"),
    3.0,
    -100.0,
    100.0,
]
JUNK: list[Any] = [
    None,
    1,
    1.0,
    True,
    "x",
    [1.0, 2.0],
    (),
    {},
    np.ones(2),
    (torch.ones(2),),
    (torch.ones(2), None),
    (None, None, None),
    torch.nn.Linear(1, 1),
    losses.Pairs(torch.ones(2, 2), None),
    {"output": torch.ones(2)},
    2**70,
]


class Step(NamedTuple):
    """One change of a tensor: the name of a function below and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()


def fill(tensor: Tensor, *numbers: float) -> Tensor:
    return torch.tensor([numbers[i % len(numbers)] for i in range(tensor.numel())], dtype=torch.float64).reshape(
        tensor.shape
    )


def put(tensor: Tensor, position: int, number: float) -> Tensor:
    if not tensor.numel():
        return tensor
    flat = (tensor.real if tensor.is_complex() else tensor).double().flatten().clone()
    flat[position % len(flat)] = number
    return flat.reshape(tensor.shape).to(tensor.dtype)


def one_hot(tensor: Tensor, dim: int) -> Tensor:
    result = torch.zeros_like(tensor)
    if tensor.ndim > dim and tensor.shape[dim]:
        result.select(dim, 0).fill_(1)
    return result


CHANGES: dict[str, Callable[..., Tensor]] = {
    "fill": fill,
    "put": put,
    "times": lambda tensor, factor: tensor.double() * factor,
    "one_hot": one_hot,
    "to": lambda tensor, dtype: tensor.to(dtype),
    "head": lambda tensor, size: tensor[:size] if tensor.ndim else tensor,
    "last": lambda tensor, size: tensor[..., :size] if tensor.ndim else tensor,
    "first_row": lambda tensor: tensor[0] if tensor.ndim and len(tensor) else tensor,
    "unsqueeze": lambda tensor, dim: tensor.unsqueeze(dim) if tensor.ndim >= dim else tensor,
    "double": lambda tensor: torch.cat([tensor, tensor], -1) if tensor.ndim else tensor,
    "flatten": lambda tensor: tensor.flatten(),
    "transpose": lambda tensor: tensor.mT if tensor.ndim > 1 else tensor,
    "log": lambda tensor: tensor.abs().log() if tensor.is_floating_point() else tensor,
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda tensor: tensor,
    "spaced": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "expanded": lambda tensor: tensor[:1].expand_as(tensor) if tensor.ndim and len(tensor) else tensor,
    "reversed": lambda tensor: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor,
}
in_batches = st.sampled_from(NUMBERS_IN_BATCHES)
small = [number for number in NUMBERS_IN_BATCHES if abs(number) <= 1e4]
mild = st.sampled_from(small)
value_steps = st.one_of(
    st.lists(mild, min_size=1, max_size=4).map(lambda numbers: Step("fill", tuple(numbers))),
    st.builds(lambda position, number: Step("put", (position, number)), st.integers(0, 11), mild),
    st.builds(lambda position, number: Step("put", (position, number)), st.integers(0, 11), in_batches),
    st.builds(lambda factor: Step("times", (factor,)), st.sampled_from([0, 1e4, 1e-4, 1e-30, -1, 1e-45])),
    st.builds(lambda dim: Step("one_hot", (dim,)), st.integers(0, 2)),
)
shape_steps = st.one_of(
    st.builds(lambda size: Step("head", (size,)), st.integers(0, 2)),
    st.builds(lambda size: Step("last", (size,)), st.integers(0, 2)),
    st.builds(lambda dim: Step("unsqueeze", (dim,)), st.integers(0, 2)),
    st.sampled_from([Step("first_row"), Step("double"), Step("flatten"), Step("transpose")]),
)
dtype_steps = st.builds(lambda dtype: Step("to", (dtype,)), st.sampled_from(DTYPES))
leaf_steps = st.one_of(*[value_steps] * 6, shape_steps, dtype_steps)
joint_steps = st.one_of(
    value_steps, shape_steps, st.builds(lambda dtype: Step("to", (dtype,)), st.sampled_from(DTYPES[:4]))
)


class Leaf(NamedTuple):
    """How one tensor of a drawn batch is changed; ``instead`` replaces it altogether."""

    steps: tuple[Step, ...] = ()
    layout: str = "plain"
    grad: bool | None = None
    instead: tuple[Any, ...] = ()


class Case(NamedTuple):
    """A call of a loss, as data."""

    kind: Kind
    size: int = 4
    joint: tuple[Step, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    dtype: torch.dtype = torch.float32
    container: str = "own"
    weight: Any = None
    normalizer: Any = None
    context: tuple[tuple[str, Any], ...] = ()
    mode: str = "first"
    autocast: bool = False


leaves = st.builds(
    Leaf,
    steps=st.lists(leaf_steps, max_size=2).map(tuple),
    layout=st.sampled_from(["plain", "plain", *LAYOUTS]),
    grad=st.sampled_from([None, None, True, False]),
    instead=st.integers(0, 24).flatmap(
        lambda n: st.sampled_from(JUNK).map(lambda junk: (junk,)) if n == 24 else st.just(())
    ),
)
CONTAINERS = [*["own"] * 12, *["tuple"] * 6, "list", "short", "long", "dict", "swapped"]


class Made(NamedTuple):
    """A tensor of its own: shape, the values that fill it, dtype and layout."""

    shape: tuple[int, ...]
    numbers: tuple[float, ...] = (1.0,)
    dtype: torch.dtype = torch.float32
    layout: str = "plain"
    grad: bool = False

    def build(self, exact: bool) -> Tensor:
        tensor = fill(torch.zeros(self.shape), *self.numbers).to(self.dtype)
        grad = self.grad and tensor.is_floating_point() and tensor.dtype.itemsize > 1
        if exact and tensor.is_floating_point():
            tensor = tensor.double()
        if grad:
            tensor.requires_grad_()
        return LAYOUTS[self.layout](tensor)


def made(
    shapes: st.SearchStrategy[tuple[int, ...]], numbers: st.SearchStrategy[float], dtypes: list[torch.dtype]
) -> st.SearchStrategy[Made]:
    return st.builds(
        Made,
        shapes,
        st.lists(numbers, min_size=1, max_size=4).map(tuple),
        st.sampled_from(dtypes),
        st.sampled_from([*LAYOUTS]),
        st.booleans(),
    )


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[Kind, ...]) -> Case:
    """Draw a call that is valid or nearly so."""
    kind = draw(st.sampled_from(kinds))
    size = draw(st.sampled_from([4, 3, 2, 1, 0, 6]))
    weights = st.one_of(
        st.none(),
        st.none(),
        made(
            st.sampled_from(
                [
                    (size,),
                    (size,),
                    (size,),
                    (size, 3),
                    (),
                    (1,),
                    (size + 1,),
                    (size, 1),
                    (0,),
                    (1, size),
                    (size * (size - 1) // 2,),
                ]
            ),
            st.sampled_from([1.0, 0.0, 0.5, 2.0]),
            [torch.float32, torch.float64, torch.float16, torch.bfloat16],
        ),
        made(st.just((size,)), st.sampled_from([1.0, 0.0, -1.0, float("nan"), float("inf"), 1e-45, 1e30, 1e4]), DTYPES),
        st.sampled_from(JUNK),
    )
    normalizers = st.one_of(
        st.none(),
        st.none(),
        st.sampled_from([0, 1, 2.5, -1, 0.0, -0.0, 1e-4, 1e4, True]),
        made(st.sampled_from([(), (), (1,), (2,), (size,), (0,)]), st.sampled_from([1.0, 0.0, -2.0, 3.0]), DTYPES),
        st.sampled_from(
            [
                float("nan"),
                float("inf"),
                -float("inf"),
                1e-320,
                10**400,
                1j,
                Made((), (float("nan"),)),
                Made((), (float("inf"),)),
                *JUNK,
            ]
        ),
    )
    context: list[tuple[str, Any]] = []
    if "indices" in kind.context and draw(st.integers(0, 2)) == 2:
        context.append(("indices", draw(index_tuples(size))))
    if "reference" in kind.context and draw(st.integers(0, 2)) == 2:
        context.append(("reference", draw(references())))
    if draw(st.integers(0, 39)) == 39:
        context.append(
            (draw(st.sampled_from(["indices", "reference", "weights", "reduction"])), draw(st.sampled_from(JUNK)))
        )
    return Case(
        kind,
        size,
        tuple(draw(st.lists(joint_steps, max_size=2))),
        tuple(draw(st.lists(leaves, max_size=3))),
        draw(st.sampled_from([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16])),
        draw(st.sampled_from(CONTAINERS)),
        draw(weights),
        draw(normalizers),
        tuple(dict(context).items()),
        draw(st.sampled_from(["first", "first", "always"])),
        draw(st.integers(0, 9)) == 9,
    )


@st.composite
def index_tuples(draw: st.DrawFn, size: int) -> Any:
    length = draw(st.sampled_from([3, 3, 4, 4, 2, 5, 0]))
    count = draw(st.integers(0, 3))
    inside = st.integers(0, max(0, size - 1)).map(float)
    usual = made(st.just((count,)), inside, [torch.int64, torch.int64, torch.int32, torch.uint8])
    odd = st.one_of(
        made(
            st.sampled_from([(count + 1,), (), (count, 1), (count,)]),
            st.one_of(inside, st.sampled_from([-1.0, 100.0, float(size)])),
            DTYPES,
        ),
        st.sampled_from(JUNK),
    )
    parts = [draw(st.one_of(usual, usual, usual, usual, usual, odd)) for _ in range(length)]
    return draw(st.sampled_from([tuple(parts), tuple(parts), list(parts), parts[0] if parts else None]))


@st.composite
def references(draw: st.DrawFn) -> Any:
    count, width = draw(st.integers(0, 4)), draw(st.sampled_from([4, 4, 4, 4, 2, 1, 0]))
    embeddings = made(
        st.sampled_from([(count, width), (count, width), (count, width), (count,)]),
        st.one_of(mild, mild, in_batches),
        DTYPES[:4],
    )
    labels = made(
        st.sampled_from([(count,), (count,), (count,), (count + 1,), ()]),
        st.sampled_from([0.0, 1.0, 2.0, 7.0]),
        [torch.int64, *DTYPES],
    )
    parts = [
        draw(
            st.one_of(
                embeddings, embeddings, embeddings, made(st.just((count, width)), mild, DTYPES), st.sampled_from(JUNK)
            )
        )
    ]
    parts += [draw(st.one_of(labels, labels, labels, st.sampled_from(JUNK)))]
    return draw(st.sampled_from([tuple(parts), tuple(parts), tuple(parts), parts, parts[0], (*parts, None)]))


class Call(NamedTuple):
    """What a case becomes: the arguments, and every tensor among them that a value or a gradient depends on."""

    arguments: tuple[Any, Any]
    options: dict[str, Any]
    sources: list[Tensor]


def call_of(case: Case, loss: losses.Loss, *, exact: bool = False) -> Call:
    """Return the arguments that a case describes, or the same numbers in float64."""
    sources: list[Tensor] = []
    changes = iter(case.leaves)
    drawn = case.kind.draw(loss, max(1, case.size), torch.Generator().manual_seed(0))

    def change(part: Any) -> Any:
        if isinstance(part, distributions.Distribution):
            leaf = next(changes, Leaf())
            return leaf.instead[0] if leaf.instead else distribution_of(part, case, leaf)
        if isinstance(part, tuple):
            parts = [change(item) for item in part]
            return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)
        if not isinstance(part, Tensor):
            return part
        leaf = next(changes, Leaf())
        if leaf.instead:
            return leaf.instead[0]
        grad = part.requires_grad if leaf.grad is None else leaf.grad
        tensor = part.detach()[: case.size]
        if tensor.is_floating_point():
            tensor = tensor.to(case.dtype)
            for step in case.joint:
                tensor = CHANGES[step.name](tensor, *step.arguments).to(
                    tensor.dtype if step.name != "to" else step.arguments[0]
                )
        else:
            for step in (step for step in case.joint if step.name in ("head", "first_row")):
                tensor = CHANGES[step.name](tensor, *step.arguments)
        for step in leaf.steps:
            dtype = tensor.dtype if step.name != "to" else step.arguments[0]
            tensor = CHANGES[step.name](tensor, *step.arguments).to(dtype)
        grad = grad and tensor.is_floating_point() and tensor.dtype.itemsize > 1  # torch cannot add gradients of 8 bits
        tensor = tensor.double() if exact and tensor.is_floating_point() else tensor.clone()
        if grad:
            tensor.requires_grad_()
        sources.append(tensor)
        return LAYOUTS[leaf.layout](tensor)

    with warnings.catch_warnings():
        # torch says it once in a process, of numbers made here
        warnings.filterwarnings("ignore", "Casting complex values to real")
        output, target = change(drawn.output), change(drawn.target)
    options: dict[str, Any] = {}
    for name, value in (("weight", case.weight), ("normalizer", case.normalizer), *case.context):
        if value is not None:
            options[name] = built(value, sources, exact)
    return Call((contained(output, case.container), target), options, sources)


def contained(output: Any, container: str) -> Any:
    if container == "own" or not isinstance(output, tuple):
        return output if container != "list" else [output]
    forms: dict[str, Callable[[], Any]] = {
        "tuple": lambda: tuple(output),
        "list": lambda: list(output),
        "short": lambda: tuple(output)[:-1],
        "long": lambda: (*output, *output[:1]),
        "dict": lambda: dict(enumerate(output)),
        "swapped": lambda: tuple(reversed(output)),
    }
    return forms[container]()


def built(value: Any, sources: list[Tensor], exact: bool) -> Any:
    if isinstance(value, Made):
        tensor = value.build(exact)
        sources.append(tensor)
        return tensor
    if type(value) in (tuple, list):
        return type(value)(built(item, sources, exact) for item in value)
    return value


def distribution_of(part: distributions.Distribution, case: Case, leaf: Leaf) -> distributions.Distribution:
    """Return one of several distributions, chosen by how many steps and which layout the leaf has."""
    loc = part.mean.detach().to(case.dtype)[: max(1, case.size)]
    one = torch.ones_like(loc)
    choices: list[Callable[[], distributions.Distribution]] = [
        lambda: distributions.Normal(loc, one),
        lambda: distributions.Laplace(loc, one),
        lambda: distributions.Categorical(logits=loc),
        lambda: distributions.Independent(distributions.Normal(loc, one), 1),
        lambda: distributions.Bernoulli(logits=loc),
        lambda: distributions.Uniform(loc, loc + 1),
        lambda: distributions.Normal(loc * float("nan"), one, validate_args=False),
        lambda: distributions.Normal(loc[:, :1], one[:, :1]),
        lambda: distributions.Gamma(one, one),
        lambda: distributions.Dirichlet(one),
        lambda: distributions.Poisson(one),
        lambda: distributions.HalfNormal(one),
    ]
    code = len(case.joint) + 4 * len(leaf.steps) + (leaf.layout == "spaced") + 2 * (leaf.grad is True)
    return choices[code % len(choices)]()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor of a nested argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
