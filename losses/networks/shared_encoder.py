"""What Siamese and Triplet networks have in common: one encoder, one loss, one threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from losses.core.building import build
from losses.core.checks import require_same_length
from losses.core.errors import ConfigError, InputError, Problem
from losses.core.inputs import Kind
from losses.core.loss import Loss
from losses.core.precision import BUFFER_DTYPE, widened
from losses.core.registry import SPECS
from losses.diagnostics.verification_metrics import require_both_kinds, verification
from losses.ops.distances import rowwise_distance


class SharedEncoder(nn.Module):
    """An encoder applied to every input alike, and the loss it is trained with.

    Args:
        encoder: module from a batch of inputs to embeddings ``(N, D)``.
        loss: name, configuration or instance of a loss that takes what this network returns.

    Raises:
        ConfigError: the loss does not exist or does not take what this network returns.
    """

    kind: ClassVar[Kind]
    threshold: Tensor

    def __init__(self, encoder: nn.Module, loss: str | Mapping[str, Any] | Loss) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = build(loss)
        if self.kind not in self.loss.inputs:
            fitting = sorted(spec.name for spec in SPECS.values() if self.kind in spec.inputs)
            raise ConfigError(
                Problem(
                    ("loss",),
                    f"{type(self).__name__} returns {self.kind.output_text}, which {self.loss.spec.name!r} does not "
                    f"take; fitting losses are {', '.join(fitting)}",
                )
            )
        self.register_buffer("threshold", torch.tensor(torch.nan, dtype=BUFFER_DTYPE))

    def embed(self, batch: Tensor) -> Tensor:
        """Return the embeddings ``(N, D)`` of a batch of inputs."""
        embeddings: Tensor = self.encoder(batch)
        return embeddings

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance ``(N,)`` between the embeddings of two batches of inputs, in the metric of the loss.

        A loss on cosine similarities without a choice of distance (circle) means the cosine distance.
        """
        measure = getattr(self.loss, "distance_measure", "cosine")
        return rowwise_distance(widened(self.embed(first)), widened(self.embed(second)), measure)

    @torch.no_grad()
    def calibrate(self, pairs: tuple[Tensor, Tensor], same: Tensor) -> float:
        """Choose the distance up to which two inputs count as the same, keep it with the network and return it.

        The threshold is the one with the greatest difference between the fraction of same pairs it accepts and the
        fraction of different pairs it accepts (Youden's J), halfway to the next distance seen; minus infinity, which
        accepts nothing, where no threshold tells them apart better than chance.

        Args:
            pairs: two batches of inputs; row i of one is compared with row i of the other.
            same: ``(N,)``, above 0 where a pair is the same.

        Raises:
            InputError: there is no same or no different pair to tell apart, or a distance is NaN.
        """
        first, second = pairs
        require_same_length(first=first, second=second, same=same)
        alike = same.to(first.device) > 0
        require_both_kinds("calibration", alike)
        self.threshold.fill_(verification(self._evaluated(first, second), alike, false_accept_rates=()).threshold)
        return float(self.threshold)

    @torch.no_grad()
    def verify(self, first: Tensor, second: Tensor) -> Tensor:
        """Return ``(N,)`` whether two inputs are the same, by the threshold of :meth:`calibrate`.

        Raises:
            InputError: the network has not been calibrated.
        """
        if bool(self.threshold.isnan()):
            raise InputError(
                "the network has no threshold yet: call calibrate(pairs, same) on pairs it was not trained on"
            )
        return self._evaluated(first, second) <= self.threshold

    def _evaluated(self, first: Tensor, second: Tensor) -> Tensor:
        """Return distances in evaluation mode, and leave the network in the mode it was in."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            return self.distance(first, second)
        finally:
            for module, training in modes.items():
                module.training = training
