"""Small changes of a tensor, as data: values, shapes, dtypes and layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import losses

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
