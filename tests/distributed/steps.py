"""What ranks do in tests: one step of training of a small network, each rank on its part of a batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import losses
from losses.core import collectives
from losses.distributed import GlobalBatch
from losses.ops.tiles.sizes import block_sizes

ROWS, WIDTH, DIMENSION = 24, 5, 6


class Step(NamedTuple):
    """One step: which loss of what kind of output.

    Args:
        name: of the loss, and its ``parameters``.
        kind: of its output: ``"embeddings"``, ``"matches"``, ``"pairs"``, ``"triplets"``, ``"numbers"``, ``"logits"``,
            ``"alone"`` or ``"parts"``.
        weighted: whether there are weights, one of them 0.
        reference: whether the anchors are compared with another set.
        mined: how many tensors a miner's tuple has, if there is one.
    """

    name: str
    parameters: dict[str, Any]
    kind: str = "embeddings"
    weighted: bool = False
    reference: bool = False
    mined: int = 0

    def __str__(self) -> str:
        said = [self.name, *(f"{name}={value}" for name, value in self.parameters.items()), self.kind]
        said += [name for name in ("weighted", "reference") if getattr(self, name)]
        return "-".join([*said, *([f"mined{self.mined}"] if self.mined else [])])


class Outcome(NamedTuple):
    """The value of a step and the gradient by the network's parameters."""

    value: Tensor
    gradient: Tensor


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    linear = nn.Linear(WIDTH, DIMENSION, dtype=torch.float64)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return linear


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(count: int, seed: int) -> Tensor:
    """Labels of a few classes, one of them of a single sample."""
    labels = torch.randint(0, 5, (count,), generator=torch.Generator().manual_seed(seed))
    labels[count // 2] = 9
    return labels


def call(loss: nn.Module, step: Step, encoder: nn.Module, rows: slice, reference_rows: slice) -> Tensor:
    """Call a loss on some rows of the batch, and of the reference."""
    sources = [drawn(ROWS, WIDTH, seed=seed)[rows].requires_grad_(step.kind == "parts") for seed in (1, 2, 4)]
    views = [F.normalize(encoder(source), dim=1) for source in sources]
    labels = classes(ROWS, seed=5)[rows]
    given: dict[str, Any] = {}
    if step.weighted:
        weight = torch.linspace(0, 2, ROWS, dtype=torch.float64)[rows]
        given["weight"] = weight
    if step.reference:
        others = F.normalize(encoder(drawn(ROWS + 3, WIDTH, seed=6)[reference_rows]), dim=1)
        given["reference"] = others, classes(ROWS + 3, seed=7)[reference_rows]
    if step.mined:
        given["indices"] = mined(step, rows)
    if step.kind == "matches":
        return loss(losses.Pairs(*views[:2]), None, **given)
    if step.kind == "pairs":
        return loss(losses.Pairs(*views[:2]), labels % 2 == 0, **given)
    if step.kind == "triplets":
        return loss(losses.Triplets(*views), None, **given)
    if step.kind == "numbers":
        return loss(views[0], views[1].detach(), **given)
    if step.kind == "parts":
        targets = {"label": labels, "class": labels % DIMENSION, "view": views[1].detach()}
        inputs = {"embedding": sources[0], "logits": sources[2]}
        return loss({"embedding": views[0], "logits": views[2]}, targets, model=encoder, inputs=inputs, **given)
    if step.kind == "alone":
        return loss(views[0], **given)
    if step.kind == "logits":
        return loss(views[0], labels % DIMENSION, **given)
    return loss(views[0], labels, **given)


def mined(step: Step, rows: slice) -> tuple[Tensor, ...]:
    """What a miner says of some anchors, in rows of the whole batch."""
    labels = classes(ROWS, seed=5)
    other_labels = classes(ROWS + 3, seed=7) if step.reference else labels
    same = labels.unsqueeze(1) == other_labels
    positive = same if step.reference else same & ~torch.eye(ROWS, dtype=torch.bool)
    anchors = torch.arange(ROWS)[rows]
    if step.mined == 4:
        some = (torch.arange(same.shape[0]).unsqueeze(1) + torch.arange(same.shape[1])) % 2 == 0
        near, far = positive[anchors].nonzero(), (~same & some)[anchors].nonzero()
        first = anchors[0] if len(anchors) else 0
        return near[:, 0] + first, near[:, 1], far[:, 0] + first, far[:, 1]
    triplets = [
        (int(a), int(p), int(n))
        for a in anchors
        for p in positive[a].nonzero().flatten()
        for n in (~same[a]).nonzero().flatten()[:3]
    ]
    return tuple(torch.tensor(triplets, dtype=torch.long).reshape(-1, 3).unbind(1))


def parts(count: int, cuts: list[int]) -> list[slice]:
    """Rows of every rank, of so many rows, by the cuts of the batch."""
    edges = [cut * count // ROWS for cut in cuts]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def one_process(step: Step) -> Outcome:
    """The step on the whole batch."""
    encoder = network()
    value = call(losses.create(step.name, **step.parameters), step, encoder, slice(0, ROWS), slice(0, ROWS + 3))
    return outcome(value, encoder)


def many_processes(
    rank: int, group: dist.ProcessGroup, step: Step, cuts: list[int], on_every_rank: int = 0, together: int = 0
) -> Outcome:
    """The step on the part of one rank; by default as in a batch of many rows, whose tensors travel apart."""
    encoder = network()
    loss = GlobalBatch(losses.create(step.name, **step.parameters), group)
    rows, others = (parts(count, cuts)[rank] for count in (ROWS, ROWS + 3))
    with block_sizes(on_every_rank=on_every_rank), patch.object(collectives, "TOGETHER", together):
        return outcome(call(loss, step, encoder, rows, others), encoder)


def outcome(value: Tensor, encoder: nn.Module) -> Outcome:
    value.backward()
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    return Outcome(value.detach(), torch.cat([gradient.flatten() for gradient in gradients]))


def averaged(outcomes: list[Outcome]) -> Outcome:
    """What DistributedDataParallel makes of the gradients of ranks; all of them have one value."""
    for other in outcomes[1:]:
        torch.testing.assert_close(other.value, outcomes[0].value, rtol=0, atol=0)
    return Outcome(outcomes[0].value, torch.stack([one.gradient for one in outcomes]).mean(0))
