"""Calls of a loss that are valid or nearly so, as data."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from losses.core.inputs.kind import Kind
from tests.fuzzing.steps import DTYPES, JUNK, LAYOUTS, Step, fill, in_batches, joint_steps, leaf_steps, mild


class Leaf(NamedTuple):
    """How one tensor of a drawn batch is changed; ``instead`` replaces it altogether."""

    steps: tuple[Step, ...] = ()
    layout: str = "plain"
    grad: bool | None = None
    instead: tuple[Any, ...] = ()


class FuzzCase(NamedTuple):
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
def cases(draw: st.DrawFn, kinds: tuple[Kind, ...]) -> FuzzCase:
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
    return FuzzCase(
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
