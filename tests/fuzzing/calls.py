"""What a drawn call becomes: the arguments, in their own precision or in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributions

import losses
from tests.fuzzing.batches import FuzzCase, Leaf, Made
from tests.fuzzing.steps import CHANGES, LAYOUTS


class Call(NamedTuple):
    """What a case becomes: the arguments, and every tensor among them that a value or a gradient depends on."""

    arguments: tuple[Any, Any]
    options: dict[str, Any]
    sources: list[Tensor]


def call_of(case: FuzzCase, loss: losses.Loss, *, exact: bool = False) -> Call:
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


def distribution_of(part: distributions.Distribution, case: FuzzCase, leaf: Leaf) -> distributions.Distribution:
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
