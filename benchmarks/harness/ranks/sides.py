"""What is compared over several processes: ours over the global batch, that of pytorch-metric-learning, and the lines
that gather by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as gathering

import losses
from benchmarks.peers import pytorch_metric_learning as pml
from losses.distributed import GlobalBatch

Value = Callable[[Tensor, Tensor], Tensor]
CONTRASTIVE_MARGIN = 1.4
OURS = {
    "triplet": {"margin": 0.2},
    "circle": {"margin": 0.4, "scale": 80},
    "supervised_contrastive": {"temperature": 0.1},
    "contrastive": {"margin": CONTRASTIVE_MARGIN, "power": 1, "average": "balanced"},
}
THEIRS: dict[str, Callable[[], Value]] = {
    "triplet": pml.triplet,
    "circle": pml.circle,
    "supervised_contrastive": pml.supervised_contrastive,
    "contrastive": lambda: pml.contrastive(CONTRASTIVE_MARGIN),
}
SIDES = ("ours", "PML", "lines")


def side(name: str, loss: str) -> Value:
    """Return what one side computes on the rows of this rank."""
    if name == "ours":
        return GlobalBatch(losses.create(loss, **OURS[loss]))
    if name == "PML":
        return pml_over_ranks(THEIRS[loss]())
    return by_hand(THEIRS[loss]())


def pml_over_ranks(loss: Value) -> Value:
    """``DistributedLossWrapper``: every rank gathers all embeddings and computes the whole loss. It takes the gradient
    of its own rows, which DistributedDataParallel's average divides by the number of ranks; its own multiplies it by
    that number beforehand."""
    from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

    assert isinstance(loss, nn.Module)
    if dist.get_world_size() == 1:
        return loss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it wraps has no parameters
        return DistributedLossWrapper(loss)


def by_hand(loss: Value) -> Value:
    """The lines that are written by hand: ``all_gather`` with gradient, and the whole loss on every rank."""

    def value(embeddings: Tensor, labels: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # under this name it is what such code calls
            everyone = torch.cat(gathering.all_gather(embeddings))
        others = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
        dist.all_gather(others, labels)
        return loss(everyone, torch.cat(others))

    return value
