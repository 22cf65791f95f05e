"""Circle loss: every similarity is pushed as hard as it is far from its optimum."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import Tensor

from losses.extend import (
    EMBEDDINGS,
    NON_NEGATIVE,
    PAIRS,
    SCALE_INVARIANT,
    SYMMETRIC_IN_PAIRS,
    AnchorLoss,
    AnchorRows,
    Fits,
    LabelledBatch,
    Number,
    Positive,
    Reduction,
    Tiling,
    checked,
    has_both,
    register,
)
from losses.ops.dense.arrays import log_sums
from losses.ops.dense.batch import Dense
from losses.ops.dense.log_sums import dense_circle
from losses.ops.indexed.rows import NamedRows
from losses.ops.numerics.log_space import masked_log_sum, softplus
from losses.ops.pairs.circle import circle_of_named, tiled_circle
from losses.ops.tiles.rows import Costs


def circle(
    rows: AnchorRows, *, margin: float = 0.4, scale: float = 80.0, paces: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the loss of every anchor from its similarities, 0 where it lacks positives or negatives.

    Args:
        rows: similarities to positives and negatives.
        margin: see :class:`CircleLoss`, and ``scale`` too.
        paces: the similarities whose distance from their optimum weighs each term: constants, by default the present
            ones.
    """
    positives, negatives, is_positive, is_negative = rows
    of_positives, of_negatives = (positives.detach(), negatives.detach()) if paces is None else paces
    positive_logits = -scale * (1 + margin - of_positives).relu() * (positives - (1 - margin))
    negative_logits = scale * (of_negatives + margin).relu() * (negatives - margin)
    exponent = masked_log_sum(positive_logits, is_positive) + masked_log_sum(negative_logits, is_negative)
    return softplus(exponent).masked_fill(~has_both(is_positive, is_negative), 0)


@register(
    "circle",
    inputs=(EMBEDDINGS, PAIRS),
    laws=(NON_NEGATIVE, SCALE_INVARIANT, SYMMETRIC_IN_PAIRS),
    suits="embeddings for retrieval and verification; one margin for all pairs, of which the worst weigh most",
    fits=Fits(
        task=("metric_learning",),
        open_set="learns similarities, which new classes have too; the worst pairs weigh most",
    ),
    source="Y. Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020, "
    "arXiv:2002.10857, eq. 6",
)
class CircleLoss(AnchorLoss):
    r"""All positive against all negative similarities of an anchor, each weighted by its distance from the optimum.

    .. math::
        \ell = \log\Big(1 + \sum_j e^{\gamma\, [s^-_j + m]_+ (s^-_j - m)}
                            \sum_i e^{-\gamma\, [1 + m - s^+_i]_+ (s^+_i - 1 + m)}\Big)

    :math:`s^+_i` are the cosine similarities of an anchor to its positives, :math:`s^-_j` those to its negatives, and
    :math:`[x]_+` is :math:`\max(0, x)`; these weights in square brackets are constants in the gradient.

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

        Parts add up, by ``normalizer=`` or as totals, where they are anchors against one and the same reference; halves
        of a labelled batch, or of pairs, do not.

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

    exemptions: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("first_derivative", "second_derivative", "gradient_everywhere"),
        "the weights in square brackets are constants in the gradient, by the paper's definition",
    )

    @checked
    def __init__(self, *, margin: Number = 0.4, scale: Positive = 80.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.reduction = reduction

    @property
    def gap(self) -> float:
        return (
            1 - 2 * self.margin
        )  # similar by 1 - margin and no more than by margin: that far apart in cosine distance

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        return circle(rows, margin=self.margin, scale=self.scale)

    def counted(self, is_positive: Tensor, is_negative: Tensor) -> Tensor:
        return has_both(is_positive, is_negative)

    def dense(self, batch: LabelledBatch) -> Dense:
        return Dense(
            partial(dense_circle, margin=self.margin, scale=self.scale),
            in_arrays=partial(log_sums.circle, margin=self.margin, scale=self.scale),
        )

    def tiling(self, batch: LabelledBatch) -> Tiling:
        return Tiling(partial(tiled_circle, margin=self.margin, scale=self.scale))

    def costs_of_named(self, rows: NamedRows) -> Costs:
        return circle_of_named(rows, margin=self.margin, scale=self.scale)
