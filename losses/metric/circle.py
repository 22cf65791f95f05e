"""Circle loss: every similarity is pushed as hard as it is far from its optimum."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from losses.core.errors import InputError
from losses.core.inputs import EMBEDDINGS, PAIRS
from losses.core.labelled import LabelledBatch
from losses.core.laws import NON_NEGATIVE, SCALE_INVARIANT, SYMMETRIC_IN_PAIRS
from losses.core.loss import Loss
from losses.core.outputs import Pairs
from losses.core.parameters import Number, Positive, Reduction, checked
from losses.core.reduction import Total, total_of
from losses.core.registry import register
from losses.ops.distances import cosine_similarity, rowwise_cosine
from losses.ops.log_space import softplus
from losses.ops.log_sums import tiled_circle
from losses.ops.readings import Readings, readings_of, share
from losses.ops.whole_batch import over_batch, tileable


def circle(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.4,
    scale: float = 80.0,
    pace: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of every row of similarities, and which rows hold both positives and negatives; see
    :class:`CircleLoss`.

    ``pace`` are the similarities whose distance from their optimum weighs each term: constants, by default the present
    ones.
    """
    pace = similarity.detach() if pace is None else pace
    pull = -scale * (1 + margin - pace).relu() * (similarity - (1 - margin))
    push = scale * (pace + margin).relu() * (similarity - margin)
    valid = positive.any(-1) & negative.any(-1)
    # a row without either would be log 0: give it something finite and drop it
    exponent = sum_of_masked(pull, positive, valid) + sum_of_masked(push, negative, valid)
    return softplus(exponent).masked_fill(~valid, 0), valid


def sum_of_masked(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Return log(sum(exp(.))) over the masked entries of each row, 0 where the row is not valid."""
    kept = mask | ~valid.unsqueeze(-1)
    return logits.masked_fill(~kept, -torch.inf).logsumexp(-1) if logits.shape[-1] else logits.sum(-1)


@register(
    "circle",
    inputs=(EMBEDDINGS, PAIRS),
    laws=(NON_NEGATIVE, SCALE_INVARIANT, SYMMETRIC_IN_PAIRS),
    suits="embeddings for retrieval and verification; converges quickly, with one margin that rarely needs tuning",
    source="Y. Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020, "
    "arXiv:2002.10857, eq. 6",
)
class CircleLoss(Loss):
    r"""All positive against all negative similarities of an anchor, each weighted by its distance from the optimum.

    .. math::
        \ell = \log\Big(1 + \sum_j e^{\gamma\, [s^-_j + m]_+ (s^-_j - m)}
                            \sum_i e^{-\gamma\, [1 + m - s^+_i]_+ (s^+_i - 1 + m)}\Big)

    :math:`s` are cosine similarities; the weights in square brackets are constants in the gradient.

    Args:
        margin: :math:`m`, relaxation: positives aim beyond :math:`1 - m`, negatives below :math:`m`.
        scale: :math:`\gamma`, how sharply the worst similarities dominate.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one anchor. An anchor without a positive or without a
            negative has value 0 and does not count in the mean.

    Shapes:
        embeddings ``(N, D)`` with integer labels ``(N,)``; items ``(N,)``. ``indices=`` takes the tuple of a
        pytorch-metric-learning miner, ``reference=(embeddings, labels)`` another set to compare with.
        ``Pairs(first, second)``, each ``(N, D)``, with a target ``(N,)`` above 0 where the pair is of one class: all
        similarities given enter one sum, as for one anchor; items ``(1,)``.

    Units:
        None: similarities and the loss are pure numbers.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors do not fit together, or indices point outside the batch.

    >>> embeddings = tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = CircleLoss(margin=0.5, scale=1.0, reduction="none")
    >>> loss(embeddings, tensor([0, 0, 1]))  # log(1 + exp(0.5 * -0.5) * exp(-0.5 * 0.5)) for the first two
    tensor([0.4741, 0.4741, 0.0000])
    """

    exceptions: ClassVar[Mapping[str, str]] = {
        "first_derivative": "the weights in square brackets are constants in the gradient, by the paper's definition",
        "second_derivative": "the weights in square brackets are constants in the gradient, by the paper's definition",
    }

    @checked
    def __init__(self, *, margin: Number = 0.4, scale: Positive = 80.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.reduction = reduction

    def items(self, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return circle(*similarities(output, target), margin=self.margin, scale=self.scale)[0]

    def mass(self, items: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        return circle(*similarities(output, target), margin=self.margin, scale=self.scale)[1].to(items.dtype)

    def spread(self, weight: Tensor, output: LabelledBatch | Pairs, target: Tensor) -> Tensor:
        if isinstance(output, Pairs):
            raise InputError(
                f"circle takes {len(target)} pairs as one item, so a weight for each has no meaning; leave weight out, "
                "or pass a labelled batch with one weight per anchor"
            )
        return weight

    def summed(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total:
        if isinstance(output, LabelledBatch) and tileable(output, weight):
            kernel = partial(tiled_circle, margin=self.margin, scale=self.scale)
            sums, counts = over_batch(
                kernel,
                lambda batch: self._composed(batch, target, weight).sum.unsqueeze(0),
                output,
                "similarity",
                weight,
            )
            return Total(sums[0], counts[0])
        return self._composed(output, target, weight)

    def observed(self, output: LabelledBatch | Pairs, target: Tensor) -> Readings:
        counted = torch.as_tensor(self.summed(output, target, None).weight)
        anchors = len(output.anchors) if isinstance(output, LabelledBatch) else 1
        # similar by 1 - margin and no more than by margin: that far apart in cosine distance
        return readings_of(
            self, output, target, active=share(counted, anchors), distance="cosine", gap=1 - 2 * self.margin
        )

    def _composed(self, output: LabelledBatch | Pairs, target: Tensor, weight: Tensor | None) -> Total:
        """Return the total as a plain composition."""
        items, valid = circle(*similarities(output, target), margin=self.margin, scale=self.scale)
        if weight is not None:
            weight = self.spread(weight, output, target)
        return total_of(items, weight, valid.to(items.dtype))


def similarities(output: LabelledBatch | Pairs, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities, one row per item, and which of them are positive and which negative."""
    if isinstance(output, Pairs):
        same = (target > 0).unsqueeze(0)
        return rowwise_cosine(*output).unsqueeze(0), same, ~same
    positive, negative = output.occurrences()
    return cosine_similarity(output.anchors, output.others), positive > 0, negative > 0
