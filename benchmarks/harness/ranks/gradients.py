"""One of several processes: how far the gradient, averaged over them, is from that of one process with the whole batch.

DistributedDataParallel divides the sum of the gradients of all ranks by their number. So what a rank has for its own
rows, divided by that number, has to be the gradient of one process by these rows, and is then its gradient by every
network; what a loss learns is averaged as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

import losses
from benchmarks.harness.ranks.subjects import OF_OTHERS, ROWS, Subject
from benchmarks.harness.ranks.work import largest
from benchmarks.peers import lightly
from benchmarks.peers.pml_parameters import PARAMETERS
from losses.core.collectives import ranks_apart_are_meant
from losses.core.inputs import EMBEDDINGS, MATCHES
from losses.core.outputs import holds_samples, map_tensors, tensors_in
from losses.distributed import GlobalBatch

NOT_A_NUMBER = 1e300
"""A difference that is NaN, of which JSON knows nothing; it is the largest."""

PATIENCE = datetime.timedelta(seconds=60)  # of a rank that waits for another
SPLITS: Mapping[int, Mapping[str, list[int]]] = {  # by the number of ranks: at which rows the batch is cut
    1: {"even": [0, ROWS]},
    2: {"even": [0, 12, ROWS], "uneven": [0, 5, ROWS], "empty": [0, 0, ROWS]},
    3: {"even": [0, 8, 16, ROWS], "uneven": [0, 9, 13, ROWS], "empty": [0, 9, 9, ROWS]},
    4: {"even": [0, 6, 12, 18, ROWS], "uneven": [0, 1, 13, 17, ROWS], "empty": [0, 6, 12, ROWS, ROWS]},
}
WAYS = ("mean", "weighted", "sum")
Given = dict[str, Any]


class Gradient(NamedTuple):
    """Gradients by rows, and by what all rows share: what the loss learns, and a last layer given to it."""

    rows: list[Tensor]
    shared: list[Tensor]


class Side(NamedTuple):
    """What is called with the rows of a rank, and what it learns."""

    value: Callable[..., Tensor]
    learns: list[Tensor]


class RefusedError(Exception):
    """A loss is not called this way."""


def work(rank: int, ranks: int, meeting: str, asked: Sequence[Subject], answers: Any) -> None:
    """Compare all that is asked; rank 0 answers."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of losses that are called on ranks apart, and by pytorch-metric-learning
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks, timeout=PATIENCE)
    for subject in asked:
        found = differences(rank, ranks, subject)
        if rank == 0:
            answers.put(((str(subject), subject.kind), found))
    dist.barrier()
    dist.destroy_process_group()


def differences(rank: int, ranks: int, subject: Subject) -> dict[str, dict[str, float | None]]:
    """Return the differences of every side by the split of the batch; ``None`` where a loss is not called this way."""
    found: dict[str, dict[str, float | None]] = {"GlobalBatch": {}, "alone": {}}
    for way in WAYS:
        try:
            expected = one_process(subject, way)
        except losses.InputError:
            continue  # it takes no weights
        for split, cuts in SPLITS[ranks].items():
            here = compared(of_ours(subject, way, GlobalBatch), subject, way, expected, cuts, rank, ranks)
            found["GlobalBatch"][split] = max(found["GlobalBatch"].get(split) or 0.0, here or 0.0)
            if way == "mean":
                apart = guarded(of_ours(subject, way))
                found["alone"][split] = compared(apart, subject, way, expected, cuts, rank, ranks)
    expected, cuts = one_process(subject, "mean"), SPLITS[ranks]["even"]
    for name, side in (("PML", pml_wrapper), ("gathered", gathered), ("own anchors", own_anchors)):
        if subject.compares and (built := side(subject)) is not None:
            found[name] = {"even": compared(guarded(built), subject, "mean", expected, cuts, rank, ranks)}
    return found


def one_process(subject: Subject, way: str) -> Gradient:
    """Return the gradient of the whole batch."""
    with ranks_apart_are_meant():
        gradient = gradient_of(of_ours(subject, way), subject, way, slice(0, ROWS))
    if not any(bool(part.any()) for part in gradient.rows):
        raise ValueError(f"the gradient of {subject} is 0, and everything is equal to it")
    return gradient


def gradient_of(side: Side, subject: Subject, way: str, rows: slice) -> Gradient:
    """Return the gradient of some rows of the batch.

    Raises:
        RefusedError: one of the ranks cannot make the value; none goes on to a backward pass that waits for another.
    """
    output, target = subject.part(rows)
    weight = torch.linspace(0, 2, ROWS, dtype=torch.float64)[rows]
    torch.manual_seed(5)
    value = side.value(output, target, **({"weight": weight} if way == "weighted" else {}))
    value.backward()
    leaves = list(zip(tensors_in(output), holds_samples(output), strict=True))
    shared = [part for part, of_rows in leaves if not of_rows] + side.learns
    return Gradient([gradient(part) for part, of_rows in leaves if of_rows], [gradient(part) for part in shared])


def gradient(part: Tensor) -> Tensor:
    return torch.zeros_like(part) if part.grad is None else part.grad


def compared(
    side: Side, subject: Subject, way: str, expected: Gradient, cuts: list[int], rank: int, ranks: int
) -> float | None:
    """Return the largest difference on any rank, relative to the largest entry of the gradient by the same."""
    rows = list(map(slice, cuts, cuts[1:]))[rank]
    try:
        own = gradient_of(side, subject, way, rows)
    except RefusedError:
        return None
    pairs = [(part / ranks, right[rows], right) for part, right in zip(own.rows, expected.rows, strict=True)]
    for part, right in zip(own.shared, expected.shared, strict=True):
        dist.all_reduce(part)
        pairs.append((part / ranks, right, right))
    apart = max(relative(part - right, whole) for part, right, whole in pairs)
    return largest(NOT_A_NUMBER if math.isnan(apart) else apart)


def relative(difference: Tensor, whole: Tensor) -> float:
    return float(difference.abs().max() / whole.abs().max()) if difference.numel() else 0.0


def of_ours(subject: Subject, way: str, around: Callable[[nn.Module], nn.Module] = lambda loss: loss) -> Side:
    """A loss of this package, or what is built around it."""
    loss = subject.loss("sum" if way == "sum" else "mean")
    whole = around(loss)
    return Side(lambda output, target, **given: subject.called(whole, output, target, **given), list(loss.parameters()))


def pml_wrapper(subject: Subject) -> Side | None:
    """``DistributedLossWrapper`` around a loss of pytorch-metric-learning, or around ours as one of theirs."""
    from losses.adapters.pml import as_pml
    from losses.adapters.pytorch_metric_learning import DistributedLossWrapper
    from losses.adapters.pytorch_metric_learning import losses as pml

    name = subject.name.removeprefix(OF_OTHERS)
    if name == "ManifoldLoss" or (name == subject.name and subject.kind == MATCHES.name):
        return None  # it has indices for labels, which the wrapper does not gather; they have no loss of two views
    torch.manual_seed(7)
    theirs = as_pml(subject.loss()) if name == subject.name else getattr(pml, name)(**PARAMETERS.get(name, {})).double()
    wrapper = DistributedLossWrapper(theirs)

    def value(output: Any, target: Any) -> Tensor:
        if subject.kind == MATCHES.name:
            result: Tensor = wrapper(output.first, ref_emb=output.second)
            return result
        return subject.called(wrapper, output, target)

    return Side(value, list(theirs.parameters()))


def gathered(subject: Subject) -> Side:
    """The whole loss on every rank, of what lightly's ``gather`` returns."""
    loss = subject.loss()

    def value(output: Any, target: Any) -> Tensor:
        everyone, labels = map_tensors(output, lightly.gather), map_tensors(target, lightly.gather)
        return subject.called(loss, everyone, labels)

    return Side(value, list(loss.parameters()))


def own_anchors(subject: Subject) -> Side | None:
    """The mean over the anchors of a rank, compared with all rows that lightly's ``gather`` returns but themselves."""
    if subject.kind != EMBEDDINGS.name or subject.name == "memory_bank":
        return None
    loss = subject.loss()

    def value(output: Any, target: Any) -> Tensor:
        everyone, labels = lightly.gather(output), lightly.gather(target)
        return subject.called(
            loss, output, target, indices=all_pairs(target, labels, dist.get_rank()), reference=(everyone, labels)
        )

    return Side(value, list(loss.parameters()))


def all_pairs(own: Tensor, everyone: Tensor, rank: int) -> tuple[Tensor, ...]:
    """Return all pairs of the own rows of a rank with those of all, as miners list them."""
    same = own.unsqueeze(1) == everyone
    different = ~same
    same.diagonal(rank * len(own)).fill_(False)  # itself
    return (*same.nonzero().unbind(1), *different.nonzero().unbind(1))


def guarded(side: Side) -> Side:
    """Return a side that all ranks leave where one of them is refused, so that none waits in the backward pass."""

    def value(output: Any, target: Any) -> Tensor:
        result = None
        with contextlib.suppress(losses.InputError, ValueError, RuntimeError, IndexError):
            result = side.value(output, target)
        if largest(float(result is None)):
            raise RefusedError
        assert result is not None
        return result

    return Side(value, side.learns)
