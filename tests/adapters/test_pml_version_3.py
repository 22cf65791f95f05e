"""Losses as version 3 says that they are: terms from ``loss_terms``, without a kind of reduction, or none at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses.adapters.pml.catalogue import made_of
from losses.adapters.pytorch_metric_learning import reducers
from tests.adapters.pml_cases import batch


class GapLoss(nn.Module):
    """Every embedding's distance from 0, less a margin."""

    def __init__(self, *, margin: float = 1.0, reducer: Any = None) -> None:
        super().__init__()
        self.margin = margin
        self.reducer = reducers.MeanReducer() if reducer is None else reducer

    def loss_terms(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> dict[str, dict[str, Any]]:
        assert ref_emb is None, "which means the batch itself"
        if labels is not None and len(labels.unique()) == 1:
            return {}
        rows = torch.arange(len(embeddings))
        return {
            "loss": {"losses": embeddings.norm(dim=1) - self.margin, "indices": rows},
            "penalty": {"losses": embeddings.square().mean()},
        }

    def forward(self, *_: Any) -> Tensor:
        raise AssertionError("its terms are asked for")


def test_terms_are_asked_for_and_averaged() -> None:
    embeddings, labels = batch()
    loss: Any = made_of(GapLoss).cls(margin=0.5)  # type: ignore[call-arg]  # declared when it is made
    penalty = embeddings.square().mean()
    gaps = embeddings.norm(dim=1) - 0.5
    torch.testing.assert_close(loss(embeddings, labels), gaps.mean() + penalty)
    assert isinstance(loss.module.reducer, reducers.MeanReducer), "left as it is"
    with pytest.raises(ValueError, match="takes no weight"):
        loss(embeddings, labels, weight=torch.ones(len(labels)))


def test_no_terms_cost_nothing() -> None:
    embeddings, labels = batch()
    value = made_of(GapLoss).cls()(embeddings, torch.zeros_like(labels))
    assert value == 0
    assert torch.autograd.grad(value, embeddings)[0].eq(0).all()
