"""Siamese network: two inputs, one encoder, are they the same?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from losses.core.inputs import PAIRS
from losses.core.loss import Loss
from losses.core.outputs import Pairs
from losses.networks.shared_encoder import SharedEncoder


class SiameseNetwork(SharedEncoder):
    """Two inputs through one encoder, trained on pairs that are the same or different.

    Args:
        encoder: module from a batch of inputs to embeddings ``(N, D)``.
        loss: name, configuration or instance of a loss on ``Pairs``.

    Raises:
        ConfigError: the loss does not exist or does not take pairs.

    Source:
        J. Bromley et al., Signature Verification using a "Siamese" Time Delay Neural Network, NIPS 1993.

    >>> network = SiameseNetwork(torch.nn.Identity(), loss={"name": "contrastive", "margin": 2.0})
    >>> first, second, same = tensor([[0.0], [0.0]]), tensor([[1.0], [5.0]]), tensor([1, 0])
    >>> network.loss(network(first, second), same)  # (1**2 / 2 + 0) / 2
    tensor(0.2500)
    >>> network.calibrate((first, second), same)  # halfway between 1 and 5
    3.0
    >>> network.verify(first, second)
    tensor([ True, False])
    """

    kind = PAIRS

    def __init__(self, encoder: nn.Module, loss: str | Mapping[str, Any] | Loss = "contrastive") -> None:
        super().__init__(encoder, loss)

    def forward(self, first: Tensor, second: Tensor) -> Pairs:
        """Return the embeddings of both batches."""
        return Pairs(self.embed(first), self.embed(second))
