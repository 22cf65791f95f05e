"""Binary cross-entropy of logits: yes-or-no questions, one or many per sample."""

import torch.nn.functional as F
from torch import Tensor

from losses.extend import (
    BINARY,
    NON_NEGATIVE,
    ElementwiseLoss,
    Fits,
    InputError,
    NonNegative,
    NonNegativeVector,
    Probability,
    Reduction,
    checked,
    register,
    register_values,
    require_same_shape,
)
from losses.ops.elementwise import formulas
from losses.ops.elementwise.formulas import Formula
from losses.ops.elementwise.fused import fused_binary_cross_entropy


def binary_cross_entropy(
    logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0, positive_weight: Tensor | float | None = None
) -> Tensor:
    """Return the binary cross-entropy of every element, unreduced; see :class:`BinaryCrossEntropyLoss`."""
    require_same_shape(logits=logits, target=target)
    smooth = smoothed(target, label_smoothing)
    yes, no = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    return (yes if positive_weight is None else yes * positive_weight) * smooth + no * (1 - smooth)


def smoothed(target: Tensor, label_smoothing: float) -> Tensor:
    return target * (1 - label_smoothing) + label_smoothing / 2 if label_smoothing else target


@register(
    "binary_cross_entropy",
    aliases=("bce",),
    inputs=BINARY,
    laws=(NON_NEGATIVE,),
    suits="binary and multi-label classification with calibrated probabilities",
    fits=Fits(
        task=("binary_classification", "multilabel_classification"),
        imbalance="positive_weight makes up for how rare a yes is",
        calibration="least where the probability is the true one",
        few_samples="label_smoothing keeps it from certainty",
        against={"label_noise": "a wrong label that is found absurd has the largest gradient"},
    ),
    source="I. J. Good, Rational Decisions, 1952, doi:10.1111/j.2517-6161.1952.tb00104.x",
)
class BinaryCrossEntropyLoss(ElementwiseLoss):
    r"""Negative log-likelihood of yes-or-no targets, from logits only, so that no probability is ever rounded to 0 or
    1.

    .. math::
        \ell(z, t) = -w\, t \log \sigma(z) - (1 - t) \log(1 - \sigma(z)),
        \qquad t \leftarrow t (1 - s) + s / 2

    :math:`z` is the logit, :math:`\sigma` the sigmoid and :math:`t` the target, drawn towards 1/2 first.

    Args:
        label_smoothing: :math:`s`, how far targets are drawn towards 1/2.
        positive_weight: :math:`w`, weight of a positive target against a negative one: one number, or a list with one
            for each entry of the last dimension. It changes the value of an item, not how much the item counts in the
            mean.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one element.

    Shapes:
        logits, target: ``(*)``, the same; targets are probabilities in [0, 1], bool and integers are accepted.
        Returns ``()``, or ``(*)`` if nothing is reduced.

    Units:
        Nats.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: the tensors differ in shape, a target lies outside [0, 1], or ``positive_weight`` does not fit.

    >>> loss = BinaryCrossEntropyLoss(reduction="none")
    >>> loss(tensor([0.0, 0.0]), tensor([True, False]))  # log 2 each
    tensor([0.6931, 0.6931])
    """

    long_fused = True
    positive_weight: Tensor | float | None

    @checked
    def __init__(
        self,
        *,
        label_smoothing: Probability = 0.0,
        positive_weight: NonNegative | NonNegativeVector | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        register_values(self, positive_weight=positive_weight)
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        positive_weight = self.positive_weight
        if isinstance(positive_weight, Tensor):
            if logits.ndim == 0 or logits.shape[-1] != positive_weight.numel():
                raise InputError(
                    f"positive_weight holds {positive_weight.numel()} numbers, the last dimension of the logits "
                    f"{tuple(logits.shape)} "
                    "has another length; give one number, or one per entry of that dimension"
                )
            positive_weight = positive_weight.to(logits.dtype)
        return binary_cross_entropy(
            logits, target, label_smoothing=self.label_smoothing, positive_weight=positive_weight
        )

    def block_formula(self) -> Formula | None:
        return formulas.binary_cross_entropy(self.label_smoothing) if self.positive_weight is None else None

    def fused(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor | None:
        if self.positive_weight is not None:
            return None
        return fused_binary_cross_entropy(logits, smoothed(target, self.label_smoothing), reduction)
