"""Memory bank: a loss of embeddings that compares a batch with past ones too (cross-batch memory)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Never

import torch
from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    ConfigError,
    Count,
    EmbeddingLoss,
    Fits,
    InputError,
    LabelledBatch,
    NestedLoss,
    Problem,
    Reduction,
    Total,
    checked,
    register,
)
from losses.ops.eager import left_alone

Rows = tuple[Tensor, Tensor]


@register(
    "memory_bank",
    inputs=EMBEDDINGS,
    aliases=("xbm",),
    laws=(NON_NEGATIVE,),
    suits="batches too small for their classes: past embeddings are further positives and negatives, and cost little",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns what its loss does, from more samples than a batch has",
    ),
    source="X. Wang, H. Zhang, W. Huang, M. R. Scott, Cross-Batch Memory for Embedding Learning, 2020, "
    "arXiv:1912.06798",
)
class MemoryBankLoss(EmbeddingLoss):
    r"""Another loss of labelled embeddings, whose anchors are compared with their batch and with past embeddings.

    .. math::
        \ell(B) = r(B,\ B \cup M) \qquad M \leftarrow \text{the last } K \text{ of } M \cup B

    :math:`r` is the other loss, with the batch :math:`B` as anchors and the memory :math:`M` as further references. In
    training mode each call ends with putting its batch into the memory, of which the last :math:`K` embeddings are
    kept. In evaluation mode the memory stands still: it is compared with, and nothing is put in. With an empty memory
    the loss is :math:`r`.

    No anchor is compared with itself, and gradients go to the batch on both sides of a comparison, none to the memory.
    Where :math:`r` is of pairs, each pair within the batch counts once, as ever. ``CrossBatchMemory`` of
    pytorch-metric-learning 2.9 has the same value for losses of anchors and triplets if its memory is larger by a
    batch, because it counts the batch as a part of the memory; it sends no gradient to the batch as what anchors are
    compared with. With ``reference=``, which is its ``enqueue_mask``, value and gradient are the same.

    Args:
        loss: :math:`r`, any loss of labelled embeddings.
        capacity: :math:`K`, how many embeddings are kept.
        dimension: of the embeddings; ``None`` is that of the first batch, or of the checkpoint that is loaded.
        warmup_steps: calls in training mode that neither fill nor see the memory, since the embeddings of a network
            that has just begun to learn are soon out of date.
        enqueue: under :class:`losses.distributed.GlobalBatch`, whether the memory of every rank gets the batch of all
            ranks, ``"gathered"``, so that it is the same everywhere and that of one process, or its ``"own"`` alone.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; items are those of the other loss: of pairs, those within the
            batch come first.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``; labels mean the same in all batches. ``weight`` is as the
        other loss says. ``reference=(embeddings, labels)`` is compared with in place of the batch, and is what the
        memory gets: the way of momentum encoders. ``indices=`` say what is compared, in place of everything, and
        point into the batch, or the reference, followed by :meth:`past`.

        The state is in buffers, ``queue``, ``queue_labels``, ``pointer``, ``fill`` and ``progress``, so a training
        that goes on from a checkpoint goes on exactly. A call counts even where its step is left out. Keep it out of
        the module that ``DistributedDataParallel`` wraps, which sends the buffers of rank 0 to all. In training mode
        ``torch.compile`` leaves it as it is, and ``fullgraph=True`` or a transform of ``torch.func`` is an error.

    Units:
        Those of the other loss.

    Raises:
        ConfigError: a parameter is outside its range, ``loss`` is none of labelled embeddings, or a checkpoint holds
            another capacity or dimension.
        InputError: the tensors do not fit together, or the memory holds embeddings of another dimension.

    >>> loss = MemoryBankLoss(loss={"name": "contrastive", "margin": 2.0}, capacity=8)
    >>> loss(tensor([[0.0], [1.0]]), tensor([0, 1]))  # one pair: (2 - 1)**2 / 2
    tensor(0.5000)
    >>> loss(tensor([[0.0], [0.0]]), tensor([0, 0]))  # 5 pairs, of which those with the 1 cost as much
    tensor(0.2000)
    """

    exemptions: ClassVar[Mapping[str, str]] = {
        "parameters_count": "because capacity and warmup_steps make a difference in training mode, enqueue between "
        "several processes",
        **dict.fromkeys(
            ("parameters_set_later", "parameters_on_every_path"),
            "because with a dimension it takes embeddings of that dimension alone",
        ),
    }
    remembers = True
    queue: Tensor
    queue_labels: Tensor
    pointer: Tensor
    fill: Tensor
    progress: Tensor

    @checked
    def __init__(
        self,
        *,
        loss: NestedLoss = "contrastive",
        capacity: Count = 1024,
        dimension: Count | None = None,
        warmup_steps: Count = 0,
        enqueue: Literal["gathered", "own"] = "gathered",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.loss = accepted_loss(loss)
        if dimension == 0:
            raise ConfigError(Problem(("dimension",), "got 0, expected an integer of at least 1, or null"))
        self._capacity = capacity
        self._dimension = dimension
        self.warmup_steps = warmup_steps
        self.enqueue: Literal["gathered", "own"] = enqueue
        self.reduction = reduction
        self.register_buffer("queue", torch.zeros(0, dimension or 0))  # room for all is made when there is a first one
        self.register_buffer("queue_labels", torch.zeros(0, dtype=torch.long))
        for name in ("pointer", "fill", "progress"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        # what these buffers say, known without reading them: a GPU would wait
        self._at, self._filled, self._steps = 0, 0, 0

    @property
    def capacity(self) -> int:
        """How many embeddings are kept; a property of the bank that does not change."""
        return self._capacity

    @property
    def dimension(self) -> int | None:
        """Of the embeddings, if it was given; a property of the bank that does not change."""
        return self._dimension

    def past(self) -> Rows:
        """Return the embeddings that are remembered ``(M, D)`` and their labels ``(M,)``, in no particular order."""
        return self.queue[: self._filled].clone(), self.queue_labels[: self._filled].clone()

    @torch.no_grad()
    def forget(self) -> None:
        """Empty the memory, as before labels begin to mean something else; warm-up is not repeated."""
        self._place_at(0, 0)

    @property
    def measure(self) -> str:
        return self.loss.measure

    @property
    def gap(self) -> float:
        return self.loss.gap

    @property
    def mines(self) -> bool:
        return self.loss.mines

    def items(self, output: LabelledBatch, target: Tensor) -> Tensor:
        return joined([self.loss.items(part, target) for part in self._parts(output)])

    def denominators(self, items: Tensor, output: LabelledBatch, target: Tensor) -> Tensor | None:
        parts = self._parts(output)
        beyond = len(output.labels) * self._filled if len(parts) > 1 else 0
        each = [
            self.loss.denominators(own, part, target)
            for own, part in zip(torch.split(items, [len(items) - beyond, beyond][: len(parts)]), parts, strict=True)
        ]
        return joined([one for one in each if one is not None]) if any(one is not None for one in each) else None

    def item_weights(self, weight: Tensor, output: LabelledBatch, target: Tensor) -> Tensor:
        return joined([self.loss.item_weights(weight, part, target) for part in self._parts(output)])

    def fast_total(self, output: LabelledBatch, target: Tensor, weight: Tensor | None) -> Total:
        first, *others = (self.loss._total(part, target, weight) for part in self._parts_in_any_order(output))
        if self.loss.each_pair_once and output.place is not None and output.indices is None:
            # anchors of one rank among those of all: there every pair comes from both its ends
            first = Total(first.sum / 2, torch.as_tensor(first.denominator) / 2)
        return sum(others, first)

    def fast_mean(self, output: LabelledBatch, target: Tensor) -> Tensor | None:
        parts = self._parts_in_any_order(output)
        return self.loss._value(parts[0], target, None) if len(parts) == 1 and output.place is None else None

    def batch_readings(self, output: Any, target: Tensor) -> dict[str, Tensor]:
        return self.loss.batch_readings(self._beside_the_past(output), target)

    def total(self, output: Any, target: Any = None, indices: Any = None, *surplus: Never, **given: Any) -> Total:
        total = super().total(output, target, indices, *surplus, **given)
        self._remember_one(given.get("reference") or (output, target))
        return total

    @left_alone
    def remember(self, own: Rows, everyone: Rows) -> None:
        if not self.training:
            return
        if self._steps < self.warmup_steps:
            self._steps += 1
            self.progress.fill_(self._steps)
        elif self._capacity:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._put(*(everyone if self.enqueue == "gathered" else own))

    def _put(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put embeddings into the memory, in place of the oldest."""
        embeddings, labels = embeddings[-self._capacity :], labels[-self._capacity :]
        dtype = torch.promote_types(self.queue.dtype, embeddings.dtype)
        if not len(self.queue):
            self.queue = embeddings.new_zeros(self._capacity, embeddings.shape[1])
            self.queue_labels = embeddings.new_zeros(self._capacity, dtype=torch.long)
        self.queue = self.queue.to(embeddings.device, dtype)  # where and what it is, unless the network was moved
        self.queue_labels = self.queue_labels.to(embeddings.device)
        count = len(embeddings)
        rows = (torch.arange(count, device=embeddings.device) + self._at) % self._capacity
        self.queue.index_copy_(0, rows, embeddings.to(dtype))
        self.queue_labels.index_copy_(0, rows, labels.to(self.queue_labels))
        self._place_at((self._at + count) % self._capacity, min(self._filled + count, self._capacity))

    def _place_at(self, pointer: int, fill: int) -> None:
        self._at, self._filled = pointer, fill
        self.pointer.fill_(pointer)
        self.fill.fill_(fill)

    def _remember_one(self, rows: Rows) -> None:
        self.remember(rows, rows)

    def _reduced(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        normalizer: Tensor | float | None,
        context: Mapping[str, Any] | None = None,
    ) -> Tensor:
        if self.training:
            value: Tensor = self._reduced_and_remembered(output, target, weight, normalizer, context)
            return value
        return super()._reduced(output, target, weight, normalizer, context)

    @left_alone
    def _reduced_and_remembered(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        normalizer: Tensor | float | None,
        context: Mapping[str, Any] | None,
    ) -> Tensor:
        value = super()._reduced(output, target, weight, normalizer, context)
        self._remember_one((context or {}).get("reference") or (output, target))
        return value

    def _accepted(
        self, output: Any, target: Any, weight: Tensor | None, context: Mapping[str, Any] | None
    ) -> tuple[Any, Any, Tensor | None]:
        context = dict(context or {})
        indices = context.pop("indices", None)
        batch, target, weight = super()._accepted(output, target, weight, context)
        width, held = batch.anchors.shape[1], self.queue.shape[1]
        if held not in (0, width):
            raise InputError(
                f"embeddings have {width} dimensions, the memory bank holds {held}; a bank belongs to one network, so "
                "create another one"
            )
        if indices is not None:
            if self._filled:
                beside = self._beside_the_past(batch)
                context["reference"] = beside.others, beside.other_labels
            batch, target, weight = super()._accepted(output, target, weight, {**context, "indices": indices})
        return batch, target, weight

    def _parts(self, batch: LabelledBatch) -> list[LabelledBatch]:
        """Return the batches whose totals add up to that of a batch beside the past: one of both, but where items are
        pairs, each of which comes once within the batch, the batch itself and the batch against the past."""
        if not self._filled or batch.indices is not None:
            return [batch]
        if not self.loss.each_pair_once:
            return [self._beside_the_past(batch)]
        past, labels = self.past()
        against = batch._replace(others=past.to(batch.anchors), other_labels=labels.to(batch.labels))
        return [batch, against._replace(has_reference=True, place=None)]

    def _parts_in_any_order(self, batch: LabelledBatch) -> list[LabelledBatch]:
        """Return the parts where only sums are asked for and no order of items: with a reference all pairs are of an
        anchor with another set, so that the past is a part of the reference."""
        if batch.has_reference and batch.place is None:
            return [self._beside_the_past(batch)]
        return self._parts(batch)

    def _beside_the_past(self, batch: LabelledBatch) -> LabelledBatch:
        """Return a batch whose anchors are compared with what is remembered, too."""
        if not self._filled or batch.indices is not None:
            return batch
        past, labels = self.queue[: self._filled], self.queue_labels[: self._filled]
        return batch._replace(
            others=torch.cat([batch.others, past.to(batch.others)]),
            other_labels=torch.cat([batch.other_labels, labels.to(batch.other_labels)]),
            has_reference=True,
            place=batch.place if batch.has_reference else 0,
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}queue")
        if saved is not None:
            self._require_fits(saved)
            self.queue = torch.empty_like(saved, device=self.queue.device)
            self.queue_labels = self.queue_labels.new_empty(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._at, self._filled, self._steps = (int(part) for part in (self.pointer, self.fill, self.progress))

    def _require_fits(self, saved: Tensor) -> None:
        """Raise unless this bank can go on with what another one has remembered."""
        for name, theirs, ours in (
            ("capacity", saved.shape[0], self._capacity),
            ("dimension", saved.shape[1], self._dimension),
        ):
            if theirs and ours not in (None, theirs):
                raise ConfigError(
                    Problem((name,), f"got {ours}, the memory bank in the checkpoint has {theirs}; create it with that")
                )


def joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def accepted_loss(loss: Any) -> EmbeddingLoss:
    """Return a loss that can be given a memory.

    Raises:
        ConfigError: it is not of labelled embeddings, is a memory bank itself, or does not leave the reduction to it.
    """
    name = loss.spec.name
    if not isinstance(loss, EmbeddingLoss) or EMBEDDINGS not in loss.inputs or isinstance(loss, MemoryBankLoss):
        message = f"got {name!r}, expected a loss of labelled embeddings such as 'contrastive' or 'triplet'"
        raise ConfigError(Problem(("loss",), message))
    if loss.reduction != "mean":
        message = f"got {loss.reduction!r}; set reduction on the memory bank"
        raise ConfigError(Problem(("loss", "reduction"), message))
    return loss
