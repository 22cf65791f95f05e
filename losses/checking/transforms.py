"""Clauses about what torch does to a function: compile, export, func.grad, vmap."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from losses.checking.case import SINGLE, Broken, Case, leaves_of, require_same
from losses.checking.clauses import clause


@clause()
def compiles(case: Case) -> None:
    """torch.compile(fullgraph=True) gives the value and gradient of eager mode"""
    torch.compiler.reset()
    batch = case.batch(precision=SINGLE)
    value, gradients = case.run(batch)
    compiled = torch.compile(case.loss, fullgraph=True, backend="aot_eager", dynamic=False)
    other, others = Case(compiled, case.kind).run(batch)
    require_same("compiled", other, value, 1e-5)
    for gradient, expected in zip(others, gradients, strict=True):
        require_same("compiled gradient", gradient, expected, 1e-5)


@clause()
def compiles_once_for_all_sizes(case: Case) -> None:
    """compiled with dynamic shapes, batches of other sizes are not compiled again and give the same value"""
    torch.compiler.reset()
    compilations = 0

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    compiled: Any = torch.compile(case.loss, fullgraph=True, backend=backend, dynamic=True)
    for size in (6, 9, 14):
        batch = case.batch(size)
        require_same(f"compiled, at {size}", compiled(*batch), case.loss(*batch))
    if compilations > 1:
        raise Broken(f"compiled {compilations} times for 3 sizes")


@clause()
def exports(case: Case) -> None:
    """torch.export gives a program with the same value"""
    batch = case.batch(precision=SINGLE)
    program = torch.export.export(case.loss, tuple(batch))
    require_same("exported", program.module()(*batch), case.loss(*batch), 1e-5)


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
