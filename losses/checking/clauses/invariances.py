"""Clauses about what must not matter, and what must not happen."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from losses.checking.case import (
    EXACT,
    LARGE,
    SINGLE,
    SIZE,
    Broken,
    Case,
    NotApplicable,
    Precision,
    require_near,
    require_same,
    rows_of,
)
from losses.checking.contract import clause
from losses.core.inputs import EMBEDDINGS, Batch
from losses.core.outputs import map_samples, map_tensors, tensors_in
from losses.core.torch_private import dispatch_mode

DISPATCH_MODE = dispatch_mode()


@clause()
def order_of_the_batch(case: Case) -> None:
    """the order of the samples does not matter, be they ten or hundreds"""
    for size in (SIZE, LARGE):
        batch = case.batch(size)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
        require_near(f"{size} samples permuted", case.loss(*rows_of(batch, order)), case.loss(*batch))


@clause()
def labels_are_names(case: Case) -> None:
    """labels say who belongs together and nothing else: renaming them changes nothing, be they negative or large"""
    if case.kind is not EMBEDDINGS:
        raise NotApplicable("it takes no labels of a whole batch")
    batch = case.batch()
    expected, others = case.run(batch)
    places = batch.target.unique(return_inverse=True)[1]
    for name, renamed in {
        "in another order": places.max() - places,
        "from 1": places + 1,
        "from -5": places - 5,
        "beyond float64": 2**62 + places,
        "far apart": places * 1000 * 2**32 - 2**45,  # so that no hash of them, nor its last digits, tells them apart
        "as many as int8 holds": 127 - places * 60,
    }.items():
        value, gradients = case.run(Batch(batch.output, renamed))
        require_near(f"labels {name}", value, expected)
        for gradient, other in zip(gradients, others, strict=True):
            require_near(f"gradient, labels {name}", gradient, other, 1e-7)


@clause()
def memory_layout(case: Case) -> None:
    """tensors that are not contiguous, or expanded, give the same loss and gradient"""
    batch = case.batch()

    def strided(tensor: Tensor) -> Tensor:
        apart = torch.stack([tensor, tensor], -1)[..., 0]
        return apart.mT.contiguous().mT if tensor.ndim > 1 else apart

    output, target = (map_tensors(part, strided) for part in batch)
    expected, others = case.run(batch)
    for which, apart in {
        "not contiguous": Batch(output, target),
        "output not contiguous": Batch(output, batch.target),
        "target not contiguous": Batch(batch.output, target),
    }.items():
        value, gradients = case.run(apart)
        require_same(which, value, expected)
        for gradient, other in zip(gradients, others, strict=True):
            require_same(f"gradient, {which}", gradient, other)
    first = rows_of(batch, slice(0, 1))
    expanded = Batch(*(map_samples(part, lambda t: t.detach().expand(3, *t.shape[1:])) for part in first))
    copied = Batch(*(map_tensors(part, lambda t: t.detach().clone()) for part in expanded))
    require_same("expanded", case.loss(*expanded), case.loss(*copied))


@clause()
def inputs_stay_untouched(case: Case) -> None:
    """inputs are never modified, nor are weights and normalizer"""
    batch, options = case.batch(), options_of_the_call(case)
    given = [*options.values(), *(tensor for part in batch for tensor in tensors_in(part))]
    before = [(tensor.detach().clone(), tensor.requires_grad) for tensor in given]
    loss = case.with_reduction("mean") if options else case.loss
    for keywords in ({}, options) if options else ({},):
        loss(*batch, **keywords).sum().backward()
    for tensor, (copied, requires_grad) in zip(given, before, strict=True):
        if not torch.equal(tensor, copied):
            raise Broken("an input changed")
        if tensor.requires_grad != requires_grad:
            raise Broken("an input requires grad")


@clause(precisions=(EXACT, SINGLE))
def dtype_and_device_stay(case: Case, precision: Precision) -> None:
    """the result has the dtype and device of the output, and so have its gradients"""
    batch = case.batch(precision=precision)
    value, gradients = case.run(batch)
    for result in (value, *gradients):
        if result.dtype is not precision.dtype or result.device != tensors_in(batch.output)[0].device:
            raise Broken(f"a result is {result.dtype} on {result.device}")


@clause()
def no_state_between_calls(case: Case) -> None:
    """what was called before does not matter"""
    batch = case.batch()
    fresh, generator = copy.deepcopy(case.loss), torch.get_rng_state()
    first = case.loss(*batch)
    for loss in (case.loss, fresh):
        loss(*case.batch(5, seed=1))
        require_same("called again, or after another batch", loss(*batch), first, 0)
    if not torch.equal(torch.get_rng_state(), generator):
        raise Broken("torch's generator was drawn from or seeded")


@clause()
def no_synchronisation(case: Case) -> None:
    """after the first batch no value of a tensor is read, which would make a GPU wait, nor with weights and a
    normalizer"""
    if DISPATCH_MODE is None:
        raise NotApplicable("this torch does not show which operations it dispatches")
    batch, options = case.batch(), options_of_the_call(case)
    loss = case.with_reduction("mean") if options else case.loss
    loss(*batch)
    for keywords in ({}, options) if options else ({},):
        with Synchronisations() as seen, HostReads() as read:
            loss(*batch, **keywords).sum().backward()
        if seen.calls or read.calls:
            raise Broken(f"reads values with {', '.join(sorted({*seen.calls, *read.calls}))}")


def options_of_the_call(case: Case) -> dict[str, Tensor]:
    """Return the tensors that a loss can be called with beside the batch, which other modules do not take."""
    if not case.keeps_the_call:
        return {}
    options = {"normalizer": torch.tensor(3.0, dtype=torch.float64)}
    with contextlib.suppress(NotApplicable):
        options["weight"] = case.weights(torch.linspace(0, 3, SIZE, dtype=torch.float64))
    return options


class HostReads(TorchFunctionMode):
    """Record the methods that bring a tensor to the host, for which nothing is dispatched on a CPU."""

    READING = ("tolist", "numpy", "cpu", "__array__")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in self.READING:
            self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Synchronisations(DISPATCH_MODE or object):  # type: ignore[misc]  # a class that torch may lack
    """Record the operations that need a tensor's values on the host."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING or (name.startswith("index") and any(is_mask(arg) for arg in args)):
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


def is_mask(arg: object) -> bool:
    return isinstance(arg, list | tuple) and any(
        isinstance(index, Tensor) and index.dtype is torch.bool for index in arg
    )
