"""Triplet network: three inputs, one encoder, which of two is the anchor's own kind?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from losses.core.inputs import TRIPLETS
from losses.core.loss import Loss
from losses.core.outputs import Triplets
from losses.networks.shared_encoder import SharedEncoder


class TripletNetwork(SharedEncoder):
    """Three inputs through one encoder, trained on anchors with a positive and a negative each.

    Args:
        encoder: module from a batch of inputs to embeddings ``(N, D)``.
        loss: name, configuration or instance of a loss on ``Triplets``.

    Raises:
        ConfigError: the loss does not exist or does not take triplets.

    Source:
        E. Hoffer, N. Ailon, Deep Metric Learning Using Triplet Network, 2015, arXiv:1412.6622.

    >>> network = TripletNetwork(torch.nn.Identity(), loss={"name": "triplet", "margin": 1.0})
    >>> network.loss(network(tensor([[0.0]]), tensor([[2.0]]), tensor([[2.5]])))  # 2 - 2.5 + 1
    tensor(0.5000)
    """

    kind = TRIPLETS

    def __init__(self, encoder: nn.Module, loss: str | Mapping[str, Any] | Loss = "triplet") -> None:
        super().__init__(encoder, loss)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Triplets:
        """Return the embeddings of all three batches."""
        return Triplets(self.embed(anchor), self.embed(positive), self.embed(negative))
