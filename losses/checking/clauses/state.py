"""Clauses about what a call leaves behind: graphs, state, random numbers."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import pickle
import random
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from losses.checking.case import SIZE, Broken, Case, NotApplicable, gradients_of, leaves_of, require_same
from losses.checking.contract import clause
from losses.core.inputs import EMBEDDINGS, Batch
from losses.core.outputs import map_tensors, tensors_in
from losses.core.torch_private import storage_reference, transforms_are_active

CALLS_WITHIN = 16
"""How many calls at most are made in the middle of another."""
Results = tuple[Tensor, list[Tensor]]


def require_same_results(what: str, got: Results, expected: Results, tolerance: float = 1e-9) -> None:
    """Raise :class:`Broken` unless value and gradients agree."""
    require_same(f"value, {what}", got[0], expected[0], tolerance)
    for gradient, right in zip(got[1], expected[1], strict=True):
        require_same(f"gradient, {what}", gradient, right, tolerance)


@clause()
def modes_agree(case: Case) -> None:
    """train() and eval() give the same value and gradient; no_grad, inference_mode and inputs without gradient give the
    same value, and leave the next call alone"""
    batch = case.batch()
    without_gradient = Batch(*(map_tensors(part, Tensor.detach) for part in batch))
    uncalled = copy.deepcopy(case.loss)
    expected = case.run(batch)
    batches = [batch]
    with contextlib.suppress(NotApplicable):
        batches += case.edge("extreme_values")
    moves = getattr(case.loss, "remembers", False) and not getattr(type(case.loss), "remembers", False)
    for training in (False,) if moves else (False, True):  # what moves is another loss in training mode
        other = Case(copy.deepcopy(uncalled), case.kind)
        other.loss.train(training)
        for each in batches:
            right = expected if each is batch else case.run(each)
            if all(bool(tensor.isfinite().all()) for tensor in (right[0], *right[1])):
                require_same_results("train()" if training else "eval()", other.run(each), right)
    for name, mode in {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.items():
        fresh = Case(copy.deepcopy(uncalled), case.kind)
        for inputs in (batch, without_gradient):
            with mode():
                value = fresh.loss(*inputs)
                require_same(f"value, {name}", value, expected[0])
            if value.requires_grad:
                raise Broken(f"the result has a graph under {name}")
        require_same_results(f"after {name}", fresh.run(batch), expected)
    require_same("value where nothing requires grad", case.loss(*without_gradient), expected[0])
    for context in contexts_of(case):
        right = case.loss(*batch, **context).detach()
        for name, mode in {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.items():
            with mode():
                require_same(f"value, {name}, with {', '.join(context)}", case.loss(*batch, **context), right)
        other = copy.deepcopy(uncalled).eval()
        require_same(f"value, eval(), with {', '.join(context)}", other(*batch, **context), right)


def contexts_of(case: Case) -> list[dict[str, Any]]:
    """Return what else a batch can be called with: weights, a reference."""
    contexts: list[dict[str, Any]] = []
    if case.keeps_the_call:
        with contextlib.suppress(NotApplicable):
            contexts.append({"weight": case.weights(torch.linspace(0.5, 2, SIZE, dtype=torch.float64))})
        if case.kind is EMBEDDINGS and "reference" in inspect.signature(case.loss.forward).parameters:
            other = case.batch(seed=3)
            contexts.append({"reference": (other.output.detach(), other.target)})
    return contexts


@clause(of_the_call=True)
def readings_only_tell(case: Case) -> None:
    """readings are finite scalars without a graph, of any batch, and the loss is the same after them"""
    batch = case.batch()
    expected = case.run(batch)
    batches = {"usual": batch, "empty": case.batch(0), "of one": case.batch(1)}
    for edge in ("one_class", "every_label_different", "equal_points"):
        with contextlib.suppress(NotApplicable):
            batches[edge] = case.edge(edge)[0]
    for which, each in batches.items():
        for name, reading in case.loss.readings(*each).items():
            if not isinstance(reading, Tensor) or reading.ndim or reading.requires_grad:
                raise Broken(f"{name} is no scalar without a graph")
            if not bool(reading.isfinite()):
                raise Broken(f"{name} is {reading.item()} on a batch that is {which}")
    require_same_results("after readings", case.run(batch), expected)


@clause()
def calls_do_not_mix(case: Case) -> None:
    """calls may overlap: results stay right until they are differentiated, in any order, where one batch comes twice,
    where its memory is written anew, and where a call begins in the middle of another, as in threads"""
    batches = [case.batch(), case.batch(seed=1), case.batch(5, seed=2)]
    expected = [alone(case, batch) for batch in batches]
    for order in ((0, 1), (1, 0), (2, 0, 1)):  # first two batches of one size, which fit into the same memory
        begun = {index: begin(case, batches[index]) for index in sorted(order)}
        gradients = {index: gradients_of(*begun[index]) for index in order}
        for index in order:
            results = begun[index][0], gradients[index]
            require_same_results("differentiated after other calls", results, expected[index])
    leaves, rebuild = leaves_of(batches[0].output)
    twice = sum(case.loss(rebuild(leaves), batches[0].target).sum() for _ in range(2))
    for gradient, right in zip(gradients_of(twice, leaves), expected[0][1], strict=True):
        require_same("gradient of a batch that comes twice", gradient, 2 * right)
    for result, _ in begun.values():
        result.detach().zero_() if not result.ndim else None
    require_same_results("after results were changed in place", case.run(batches[0]), expected[0])
    rewritten = Batch(*(map_tensors(part, lambda tensor: tensor.detach().clone()) for part in batches[0]))
    for batch, (value, _) in zip(batches[:2], expected[:2], strict=True):
        for memory, tensor in zip(all_tensors(rewritten), all_tensors(batch), strict=True):
            memory.copy_(tensor.detach())
        require_same("value of a batch in the memory of another", case.loss(*rewritten), value)
    operations = Interruptions({})
    with operations:
        case.run(batches[0])
    step = -(-operations.seen // CALLS_WITHIN)
    within = {
        place: lambda place=place: case.loss(*batches[1 + place % 2]) for place in range(0, operations.seen, step)
    }
    with Interruptions(within):
        interrupted = case.run(batches[0])
    require_same_results("with other calls in the middle", interrupted, expected[0])


def all_tensors(batch: Batch) -> list[Tensor]:
    return [tensor for part in batch for tensor in tensors_in(part)]


def alone(case: Case, batch: Batch) -> Results:
    """Return the results of a copy of the loss, in memory that no other call knows."""
    value, gradients = Case(copy.deepcopy(case.loss), case.kind).run(batch)
    return value.detach().clone(), [gradient.clone() for gradient in gradients]


def begin(case: Case, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return the value of a batch with the leaves to differentiate it by."""
    leaves, rebuild = leaves_of(batch.output)
    return case.loss(rebuild(leaves), batch.target), leaves


class Interruptions(TorchFunctionMode):
    """Call something before some of the operations of torch, by their number, and count them."""

    def __init__(self, calls: Mapping[int, Callable[[], object]]) -> None:
        super().__init__()
        self.calls, self.seen = calls, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # a shape that is read is no operation, and what is called within a transformation would be transformed
        if getattr(func, "__name__", "") != "__get__" and not transforms_are_active():
            if self.seen in self.calls:
                self.calls[self.seen]()
            self.seen += 1
        return func(*args, **(kwargs or {}))


@clause()
def random_numbers_stay(case: Case) -> None:
    """forward and backward neither draw from the generators of torch, Python and NumPy nor seed them, and do not depend
    on them"""
    batch, results = case.batch(), []
    case.run(batch)  # which may be what loads NumPy
    for seed in (11, 12):
        with seeded(seed):
            before = generator_states()
            results.append(case.run(batch))
            for name, state in generator_states().items():
                if not unchanged(before[name], state):
                    raise Broken(f"the generator of {name} was drawn from or seeded")
    require_same_results("with generators in another state", results[1], results[0], 0)


def generator_states() -> dict[str, Any]:
    """Return the states of the generators that a process shares; NumPy's where it is loaded."""
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "Python": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        name, words, *rest = numpy.random.get_state()
        states["NumPy"] = name, words.tobytes(), rest
    return states


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Put the shared generators into another state, and back at the end."""
    numpy = sys.modules.get("numpy")
    former = torch.get_rng_state(), random.getstate(), numpy.random.get_state() if numpy else None
    torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
    random.setstate(random.Random(seed).getstate())
    if numpy:
        numpy.random.set_state(numpy.random.RandomState(seed).get_state())
    try:
        yield
    finally:
        torch.set_rng_state(former[0])
        random.setstate(former[1])
        if numpy:
            numpy.random.set_state(former[2])


@clause()
def nothing_is_kept(case: Case) -> None:
    """after a call nothing of it is left: batch and graph are freed with the result, no attribute has changed, no
    gradient was accumulated"""
    for seed, backward in enumerate((False, True)):
        for what, alive in call_and_forget(case, seed, backward).items():
            if alive() and (gc.collect(), alive())[1]:
                raise Broken(f"the {what} is still alive")
    before = attributes_of(case.loss)
    for seed in (2, 3):
        case.run(case.batch(seed=seed))
    after = attributes_of(case.loss)
    changed = [name for name in before | after if not unchanged(before.get(name), after.get(name))]
    if changed:
        raise Broken(f"{', '.join(changed[:3])} changed")


def call_and_forget(case: Case, seed: int, backward: bool) -> dict[str, Callable[[], bool]]:
    """Call the loss, drop all that came of it, and return how to see what is still alive."""
    batch, mark = case.batch(seed=seed), Mark()
    leaves, rebuild = leaves_of(batch.output)
    marked = [Marked.apply(leaf, mark) for leaf in leaves]  # type: ignore[no-untyped-call, unused-ignore]  # as torch leaves it
    value = case.loss(rebuild(marked), batch.target)
    if any(leaf.grad is not None for leaf in leaves):
        raise Broken("the loss has accumulated gradients itself")
    if backward:
        gradients_of(value, leaves)
    reference = weakref.ref(mark)
    alive: dict[str, Callable[[], bool]] = {"graph": lambda: reference() is not None}
    for name, tensors in (("output", leaves), ("target", tensors_in(batch.target))):
        for index, tensor in enumerate(tensors):
            alive[f"{name}{f' ({index})' if index else ''}"] = storage_reference(tensor)
    return alive


class Mark:
    """What lives as long as a graph does."""


class Marked(torch.autograd.Function):
    """Pass a tensor on, and put a mark on the graph."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, mark: Mark) -> Tensor:
        ctx.mark = mark
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def attributes_of(loss: Any) -> dict[str, Any]:
    """Return everything that a loss holds, by its path: attributes, parameters, buffers, what its class holds, and what
    its methods find in their own module."""
    found: dict[str, Any] = {}
    modules = loss.named_modules() if isinstance(loss, nn.Module) else [("", loss)]
    for path, module in modules:
        for cls in type(module).__mro__:
            if cls not in (nn.Module, object):
                flatten(
                    {name: value for name, value in vars(cls).items() if isinstance(value, HELD)}, cls.__name__, found
                )
                for method in (value for value in vars(cls).values() if isinstance(value, FunctionType)):
                    flatten(variables_of(method), cls.__module__, found)
        flatten(vars(module), path or type(module).__name__, found)
    return found


HELD = (Tensor, list, dict, set, bytearray, deque, int, float)


def variables_of(function: FunctionType) -> dict[str, Any]:
    """Return the containers and numbers that a function reads beside its arguments."""
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing is in it yet
            names[name] = cell.cell_contents
    return {name: value for name, value in names.items() if isinstance(value, HELD)}


def flatten(value: Any, path: str, found: dict[str, Any], above: frozenset[int] = frozenset()) -> None:
    """Put copies of all values within a value under their paths."""
    if id(value) in above or isinstance(value, nn.Module):  # modules come on their own
        return
    inner = above | {id(value)}
    if isinstance(value, Tensor):
        found[path] = value.detach().clone()
        flatten(value.grad, f"{path}.grad", found, inner)
    elif isinstance(value, torch.Generator):
        found[path] = value.get_state()
    elif isinstance(value, Mapping):
        for key, part in value.items():
            flatten(part, f"{path}.{key}", found, inner)
    elif isinstance(value, list | tuple | set | frozenset | deque):
        found[path] = len(value)
        for index, part in enumerate(value):
            flatten(part, f"{path}[{index}]", found, inner)
    elif isinstance(value, random.Random):
        found[path] = value.getstate()
    elif isinstance(value, FunctionType):
        flatten(variables_of(value), path, found, inner)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        flatten(vars(value), path, found, inner)
    else:
        found[path] = written(value)


def written(value: Any) -> Any:
    """Return something that tells whether a value has changed: an iterator or generator is the same object still."""
    if isinstance(value, str | bytes | int | float | type | None):
        return value
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # what cannot be pickled is shown
        warnings.simplefilter("ignore")
        return pickle.dumps(value)
    return repr(value)


def unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.dtype is after.dtype and before.shape == after.shape
        return same and bool(torch.allclose(before.double(), after.double(), rtol=0, atol=0, equal_nan=True))
    if before is after:
        return True
    return bool(before == after)
