"""One of several processes: a step of every side in turns and its time; or, in processes of their own whose allocator
keeps nothing, its memory and traffic."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

import losses
from benchmarks.cases.metric import labelled
from benchmarks.harness import memory
from benchmarks.harness.ranks.sides import OURS, side

DEVICES = Path("/proc/net/dev")
LEAST_ROUNDS, MOST_ROUNDS = 3, 31


class Asked(NamedTuple):
    """What is measured.

    Args:
        loss: its name.
        rows: of all ranks together.
        per_class: samples of a class.
        sides: what is compared.
        seconds: for all rounds, about.
    """

    loss: str
    rows: int
    per_class: int
    sides: tuple[str, ...]
    seconds: float


class Speed(NamedTuple):
    """Seconds of a step in every round, until the slowest rank has finished; and the largest difference of the gradient
    in float64 from that of one process, relative to its largest entry."""

    seconds: list[float]
    difference: float


class Needs(NamedTuple):
    """Bytes at the peak of the rank that needs most, and bytes that a rank sends on average."""

    memory: int
    sent: float


def speeds(rank: int, ranks: int, meeting: str, asked: list[Asked], answers: Any) -> None:
    """Measure how long everything takes that is asked; rank 0 answers."""
    work(measured_speed, rank, ranks, meeting, asked, answers)


def needs(rank: int, ranks: int, meeting: str, asked: list[Asked], answers: Any) -> None:
    """Measure what everything needs that is asked; rank 0 answers."""
    work(measured_needs, rank, ranks, meeting, asked, answers)


def work(measured: Callable[..., Any], rank: int, ranks: int, meeting: str, asked: list[Asked], answers: Any) -> None:
    """Measure everything that is asked, together with the other ranks; rank 0 answers."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    gc.freeze()
    for one in asked:
        found = measured(rank, ranks, one)
        if rank == 0:
            answers.put((one, found))
    dist.barrier()
    dist.destroy_process_group()


def measured_speed(rank: int, ranks: int, asked: Asked) -> dict[str, Speed]:
    """Return how long every side takes, and whether it is right."""
    whole, own, values = batch(rank, ranks, asked)
    # in float64, where rounding decides of no pair whether it lies within a margin
    embeddings, labels = whole.leaves[0].detach(), whole.constants[0]
    exact = embeddings[own].double().requires_grad_()
    expected = one_process(asked, embeddings.double(), labels)[own]
    apart = {}
    for name, value in values.items():
        step(value, exact, labels[own])()
        assert exact.grad is not None
        apart[name] = largest(float((exact.grad / ranks - expected).abs().max() / expected.abs().max()))
    rows = embeddings[own].clone().requires_grad_()
    seconds = in_turns({name: step(value, rows, labels[own]) for name, value in values.items()}, asked.seconds)
    return {name: Speed(seconds[name], apart[name]) for name in values}


def measured_needs(rank: int, ranks: int, asked: Asked) -> dict[str, Needs]:
    """Return what a step of every side needs that is warmed up."""
    whole, own, values = batch(rank, ranks, asked)
    rows = whole.leaves[0].detach()[own].clone().requires_grad_()
    found = {}
    for name, value in values.items():
        function = step(value, rows, whole.constants[0][own])
        function()
        dist.barrier()
        before = traffic()
        peak = memory.here(function).extra
        dist.barrier()
        sent = (traffic() - before) / ranks
        found[name] = Needs(int(largest(peak)), largest(sent))
    return found


def batch(rank: int, ranks: int, asked: Asked) -> tuple[Any, slice, dict[str, Callable[[Tensor, Tensor], Tensor]]]:
    """Return the batch of all ranks, which rows of it are this rank's, and what every side computes."""
    own = slice(rank * asked.rows // ranks, (rank + 1) * asked.rows // ranks)
    return labelled(asked.rows, asked.per_class), own, {name: side(name, asked.loss) for name in asked.sides}


def step(value: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor) -> Callable[[], None]:
    def forward_backward() -> None:
        embeddings.grad = None
        value(embeddings, labels).backward()

    return forward_backward


def one_process(asked: Asked, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the loss of the whole batch."""
    leaf = embeddings.detach().clone().requires_grad_()
    loss = losses.create(asked.loss, **OURS[asked.loss]).eval()
    (gradient,) = torch.autograd.grad(loss(leaf, labels), leaf)
    return gradient


def in_turns(steps: dict[str, Callable[[], None]], budget: float) -> dict[str, list[float]]:
    """Return the seconds of every round: from when all ranks start to when the last of them has finished."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    start, rounds = time.perf_counter(), 0
    while rounds < MOST_ROUNDS and (rounds < LEAST_ROUNDS or largest(time.perf_counter() - start) < budget):
        for name, function in steps.items():
            dist.barrier()
            begin = time.perf_counter()
            function()
            times[name].append(largest(time.perf_counter() - begin))
        rounds += 1
    return times


def largest(number: float) -> float:
    """Return the largest of the ranks' numbers."""
    everyone = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(everyone, op=dist.ReduceOp.MAX)
    return float(everyone)


def traffic() -> int:
    """Return how many bytes have gone over the loopback of this machine, those of others among them; 0 where it does
    not say."""
    if not DEVICES.exists():
        return 0
    for line in DEVICES.read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0
