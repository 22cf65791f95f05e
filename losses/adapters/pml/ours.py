"""as_pml: a loss of this package as one of pytorch-metric-learning, for its memory, its wrappers and its trainers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from losses.adapters.pytorch_metric_learning import losses as pml
from losses.core.errors import ConfigError, InputError
from losses.core.inputs import EMBEDDINGS
from losses.core.loss import Loss
from losses.distributed import GlobalBatch

NAMES = {
    "contrastive": "ContrastiveLoss",
    "triplet": "TripletMarginLoss",
    "circle": "CircleLoss",
    "multi_similarity": "MultiSimilarityLoss",
    "supervised_contrastive": "SupConLoss",
    "info_nce": "NTXentLoss",
}
"""What a loss is called there: version 2 knows by the name of its class whether a memory or a wrapper takes a loss."""
ANY_OTHER = "ContrastiveLoss"
"""Of a loss that has no name there: one that takes pairs from anywhere."""


class OurLoss(pml.BaseMetricLossFunction):  # type: ignore[misc]  # which has no types
    """A loss of this package, called as ``loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)``.

    Its value is that of the loss: its averages are its own, and reducers, distances and regularizers of
    pytorch-metric-learning are not asked.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the value of the loss, a number."""
        if labels is None:
            if indices_tuple is None:
                raise InputError("labels and indices_tuple are both None; pass one of them, to say what is compared")
            labels = torch.zeros(len(embeddings), dtype=torch.long, device=embeddings.device)  # which nothing reads
        given: dict[str, Any] = {}
        if indices_tuple is not None:
            given["indices"] = indices_tuple
        if ref_emb is not None and ref_emb is not embeddings:
            if ref_labels is None:
                if indices_tuple is None:
                    raise InputError("ref_emb without ref_labels needs indices_tuple, to say what is compared")
                ref_labels = torch.zeros(len(ref_emb), dtype=torch.long, device=ref_emb.device)
            given["reference"] = ref_emb, ref_labels
        value: Tensor = self.loss(embeddings, labels, **given)
        return value

    def compute_loss(
        self, embeddings: Tensor, labels: Any, indices_tuple: Any, ref_emb: Any, ref_labels: Any
    ) -> dict[str, dict[str, Any]]:
        """Return the value of the loss as what pytorch-metric-learning reduces."""
        value = self.forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return {"loss": {"losses": value, "indices": None, "reduction_type": "already_reduced"}}

    def __repr__(self) -> str:
        return f"as_pml({self.loss!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_pml, (self.loss,), {"training": self.training}


def as_pml(loss: Loss | GlobalBatch) -> Any:
    """Return a loss of this package as one of pytorch-metric-learning: a ``BaseMetricLossFunction`` for its
    ``CrossBatchMemory``, ``MultipleLosses``, ``SelfSupervisedLoss``, ``DistributedLossWrapper`` and trainers.

    Its class has the name of the loss that it is there, since version 2 accepts losses by that name.

    Args:
        loss: of embeddings and labels, or a :class:`losses.distributed.GlobalBatch` of one.

    Raises:
        ConfigError: it takes no labelled embeddings, or returns its items.

    >>> import losses
    >>> from losses.adapters.pytorch_metric_learning import losses as pml
    >>> memory = pml.CrossBatchMemory(as_pml(losses.create("triplet", margin=0.2)), embedding_size=1, memory_size=8)
    >>> memory(tensor([[0.0], [1.0], [1.5], [3.0]]), tensor([0, 0, 1, 1]))  # (0.7 + 0.2 + 1.2) / 3
    tensor(0.7000)
    """
    inner = loss.loss if isinstance(loss, GlobalBatch) else loss
    if not isinstance(inner, Loss):
        raise ConfigError(
            f"as_pml takes a loss of this package, got {type(inner).__name__}; build it with losses.create(...)"
        )
    if EMBEDDINGS not in inner.inputs:
        takes = " or ".join(kind.output_text for kind in inner.inputs)
        raise ConfigError(f"as_pml takes losses of labelled embeddings, {inner.spec.name} takes {takes}")
    if inner.reduction == "none":
        raise ConfigError("reduction is 'none': pytorch-metric-learning expects one number; use 'mean' or 'sum'")
    name = inner.spec.name.removeprefix("pml.")
    named = type(NAMES.get(name, name if hasattr(pml, name) else ANY_OTHER), (OurLoss,), {})
    return named(loss)
