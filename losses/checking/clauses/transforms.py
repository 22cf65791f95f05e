"""Clauses about what torch does to a function: compile, export, func.grad, vmap."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from losses.checking.case import SINGLE, Broken, Case, NotApplicable, leaves_of, require_same
from losses.checking.contract import clause
from losses.core.inputs import Batch
from losses.core.outputs import map_samples, tensors_in
from losses.core.own_code import OwnCode

SIZES = (6, 9, 14)


@clause()
def compiles(case: Case) -> None:
    """torch.compile(fullgraph=True) gives the value and gradient of eager mode"""
    if not case.is_default:  # the next clause compiles them
        return
    require_same_compiled(case, [case.batch(precision=SINGLE)], 1e-5, backend="aot_eager", dynamic=False)


@clause()
def compiles_once_for_all_sizes(case: Case) -> None:
    """compiled with dynamic shapes, batches of other sizes are not compiled again and give the same value and
    gradient"""
    compilations = 0

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    require_same_compiled(case, [case.batch(size) for size in SIZES], 1e-9, backend=backend, dynamic=True)
    if compilations > 1:
        raise Broken(f"compiled {compilations} times for {len(SIZES)} sizes")


def require_same_compiled(case: Case, batches: Sequence[Batch], tolerance: float, **options: Any) -> None:
    """Raise unless a compiled loss gives the values and gradients of eager mode; in code of its own, so that nothing
    that was compiled before counts, or is lost."""
    loss = case.loss
    own = OwnCode(lambda output, target: loss(output, target))
    compiled = replace(case, loss=torch.compile(own.call, fullgraph=True, **options))
    for batch in batches:
        require_same_run("compiled", compiled, case, batch, tolerance)


def require_same_run(what: str, got: Case, expected: Case, batch: Batch, tolerance: float) -> None:
    """Raise unless two losses have the same value and gradient on a batch."""
    size = tensors_in(batch.output)[0].shape[0]
    value, gradients = got.run(batch)
    right, others = expected.run(batch)
    require_same(f"{what}, at {size}", value, right, tolerance)
    for gradient, other in zip(gradients, others, strict=True):
        require_same(f"{what}, gradient at {size}", gradient, other, tolerance)


@clause()
def exports(case: Case) -> None:
    """torch.export of the loss, a class with its default parameters, gives a program with the same value"""
    if not case.is_default:
        return
    batch = case.batch(precision=SINGLE)
    program = torch.export.export(case.loss, tuple(batch))
    require_same("exported", program.module()(*batch), case.loss(*batch), 1e-5)


@clause()
def exports_any_batch_size(case: Case) -> None:
    """torch.export with a dynamic batch, of a class with its default parameters, gives a program with the value and
    gradient of batches of other sizes"""
    if not case.is_default:
        return
    batch = case.batch(precision=SINGLE)
    dynamic = tuple(map_samples(part, any_size, lambda _: {}) for part in batch)
    program = torch.export.export(case.loss, tuple(batch), dynamic_shapes=dynamic)
    exported = replace(case, loss=program.module())
    for size in SIZES:
        try:
            require_same_run("exported", exported, case, case.batch(size, SINGLE, seed=size), 1e-5)
        except AssertionError as error:
            if "Guard failed" not in str(error):
                raise
            raise NotApplicable("its program says that it is for one batch size, as len() does") from None


def any_size(tensor: Tensor) -> Any:
    """Return what torch.export takes for a tensor of any batch size."""
    return {0: torch.export.Dim.AUTO}


@clause()
def func_grad(case: Case) -> None:
    """torch.func.grad gives the gradient of autograd"""
    batch = case.batch()
    _, gradients = case.run(batch)
    leaves, rebuild = leaves_of(batch.output)
    results = torch.func.grad(lambda tensors: case.loss(rebuild(tensors), batch.target))(leaves)
    for gradient, expected in zip(results, gradients, strict=True):
        require_same("torch.func.grad", gradient, expected)


@clause()
def func_vmap(case: Case) -> None:
    """torch.func.vmap over a batch of problems gives each problem's value"""
    problems = [case.batch(seed=seed) for seed in range(3)]
    split = [leaves_of(problem.output) for problem in problems]
    rebuild = split[0][1]
    stacked = [torch.stack(column) for column in zip(*(leaves for leaves, _ in split), strict=True)]
    with warnings.catch_warnings():
        # searching has no rule of its own in torch
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        values = torch.func.vmap(lambda *tensors: case.loss(rebuild(tensors), problems[0].target))(*stacked)
    expected = torch.stack([case.loss(problem.output, problems[0].target) for problem in problems])
    require_same("torch.func.vmap", values, expected)
