"""One of several processes: a step of every side in turns, its time, memory and traffic."""

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


class Found(NamedTuple):
    """Seconds of a step in every round, until the slowest rank has finished; bytes at the peak of the rank that needs
    most; bytes that a rank sends on average; and the largest difference of the gradient in float64 from that of one
    process, relative to its largest entry."""

    seconds: list[float]
    memory: int
    sent: float
    difference: float


def work(rank: int, ranks: int, meeting: str, asked: list[Asked], answers: Any) -> None:
    """Measure everything that is asked; rank 0 answers."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    gc.freeze()
    for one in asked:
        answers.put((one, measured(rank, ranks, one))) if rank == 0 else measured(rank, ranks, one)
    dist.barrier()
    dist.destroy_process_group()


def measured(rank: int, ranks: int, asked: Asked) -> dict[str, Found]:
    """Return what every side needs."""
    whole = labelled(asked.rows, asked.per_class)
    own = slice(rank * asked.rows // ranks, (rank + 1) * asked.rows // ranks)
    embeddings, labels = whole.leaves[0].detach()[own].clone().requires_grad_(), whole.constants[0][own]
    values = {name: side(name, asked.loss) for name in asked.sides}
    steps = {name: step(value, embeddings, labels) for name, value in values.items()}
    # in float64, where rounding decides of no pair whether it lies within a margin
    exact = embeddings.detach().double().requires_grad_()
    expected = one_process(asked, whole.leaves[0].double(), whole.constants[0])[own]
    apart = {}
    for name, value in values.items():
        step(value, exact, labels)()
        assert exact.grad is not None
        apart[name] = largest(float((exact.grad / ranks - expected).abs().max() / expected.abs().max()))
    seconds = in_turns(steps, asked.seconds)
    found = {}
    for name, function in steps.items():
        dist.barrier()
        before = traffic()
        peak = memory.here(function).extra
        dist.barrier()
        sent = (traffic() - before) / ranks
        found[name] = Found(seconds[name], int(largest(peak)), largest(sent), apart[name])
    return found


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
