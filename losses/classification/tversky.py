"""Tversky loss: how much of two masks does not overlap, with a weight for what is added and one for what is missed."""

from torch import Tensor

from losses.extend import (
    CLASS_MASKS,
    MASKS,
    NON_NEGATIVE,
    ClassForm,
    ConfigError,
    Fits,
    NonNegative,
    OverlapLoss,
    Problem,
    Reduction,
    bounded,
    checked,
    overlap_loss,
    register,
)
from losses.ops.overlap.definitions import Errors


def tversky(
    logits: Tensor, target: Tensor, *, alpha: float = 0.5, beta: float = 0.5, form: ClassForm = "binary"
) -> Tensor:
    """Return the Tversky loss of every sample, or sample and class, unreduced; see :class:`TverskyLoss`."""
    return overlap_loss(logits, target, Errors(alpha, beta), form)


@register(
    "tversky",
    inputs=(MASKS, CLASS_MASKS),
    laws=(NON_NEGATIVE, bounded(1.0)),
    suits="segmentation where to miss something is worse than to add something, or the other way round",
    fits=Fits(
        task=("segmentation",),
        imbalance="what is missed may weigh more than what is added",
        against={"calibration": "it is less the more certain a right answer is"},
    ),
    source="S. S. M. Salehi, D. Erdogmus, A. Gholipour, Tversky Loss Function for Image Segmentation Using 3D Fully "
    "Convolutional Deep Networks, 2017, arXiv:1706.05721; the index: A. Tversky, Features of Similarity, 1977",
)
class TverskyLoss(OverlapLoss):
    r"""One minus the Tversky index of the predicted probabilities and the mask.

    .. math::
        \ell(z, t) = 1 - \frac{\sum_i p_i t_i}
            {\sum_i p_i t_i + \alpha \sum_i p_i (1 - t_i) + \beta \sum_i (1 - p_i)\, t_i},
        \qquad p = \sigma(z) \text{ or } \operatorname{softmax}(z)

    :math:`z` are the logits, :math:`\sigma` is the sigmoid, and :math:`t_i` is 1 where place :math:`i` belongs to the
    mask, else 0. In the multi-class form every class has its own mask and its own item. With
    :math:`\alpha = \beta = 1/2` it is the ``dice`` loss, with 1 and 1 one minus the intersection over union.

    Where the mask is empty the loss is 1 without a gradient as long as anything is predicted, and 0 if nothing is.

    Args:
        alpha: :math:`\alpha`, weight of false positives.
        beta: :math:`\beta`, weight of false negatives.
        form: ``"binary"``, one mask, or ``"multiclass"``, one for each of several classes, which share out every place.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample, in the multi-class form one class of it.

    Shapes:
        logits, target: ``(N, ...)``, the same; the target is 0 or 1, bool and integers are accepted. Returns ``()``, or
        ``(N,)`` if nothing is reduced.
        In the multi-class form logits ``(N, C, ...)`` and class indices ``(N, ...)``. Returns ``()``, or ``(N, C)`` if
        nothing is reduced.

    Units:
        None: the loss is a pure number from 0 to 1.

    Raises:
        ConfigError: a parameter is outside its range, or ``alpha`` and ``beta`` are both 0.
        InputError: shapes do not fit, or a target is not 0 or 1, or no class.

    >>> loss = TverskyLoss(alpha=0.25, beta=1.0)
    >>> loss(tensor([[0.0, 0.0, 0.0]]), tensor([[1, 0, 0]]))  # 1 - 0.5 / (0.5 + 0.25 * 1 + 0.5)
    tensor(0.6000)
    """

    @checked
    def __init__(
        self,
        *,
        alpha: NonNegative = 0.5,
        beta: NonNegative = 0.5,
        form: ClassForm = "binary",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if alpha == beta == 0:
            raise ConfigError(
                Problem(("alpha",), "got 0 beside beta=0, expected one of them above 0, or nothing would be wrong")
            )
        self.alpha = alpha
        self.beta = beta
        self.form: ClassForm = form
        self.reduction = reduction

    def errors(self) -> Errors:
        return Errors(self.alpha, self.beta)
