"""Dice loss: how much of two masks does not overlap, whatever part of the picture they fill."""

from torch import Tensor

from losses.extend import (
    CLASS_MASKS,
    MASKS,
    NON_NEGATIVE,
    ClassForm,
    Fits,
    NonNegative,
    OverlapLoss,
    Reduction,
    bounded,
    checked,
    overlap_loss,
    register,
)
from losses.ops.overlap.definitions import Errors


def dice(logits: Tensor, target: Tensor, *, smooth: float = 0.0, form: ClassForm = "binary") -> Tensor:
    """Return the Dice loss of every sample, or sample and class, unreduced; see :class:`DiceLoss`."""
    return overlap_loss(logits, target, Errors(0.5, 0.5, smooth / 2), form)


@register(
    "dice",
    inputs=(MASKS, CLASS_MASKS),
    laws=(NON_NEGATIVE, bounded(1.0)),
    suits="segmentation where what is looked for fills a small part of the picture",
    fits=Fits(
        task=("segmentation",),
        imbalance="what is neither predicted nor there does not count",
        against={"calibration": "it is less the more certain a right answer is"},
    ),
    source="L. R. Dice, Measures of the Amount of Ecologic Association Between Species, 1945, doi:10.2307/1932409; as "
    "a loss, with squares in the denominator: F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 2016, arXiv:1606.04797",
)
class DiceLoss(OverlapLoss):
    r"""One minus the Dice coefficient of the predicted probabilities and the mask.

    .. math::
        \ell(z, t) = 1 - \frac{2 \sum_i p_i t_i + s}{\sum_i p_i + \sum_i t_i + s},
        \qquad p = \sigma(z) \text{ or } \operatorname{softmax}(z)

    :math:`z` are the logits, :math:`\sigma` is the sigmoid, and :math:`t_i` is 1 where place :math:`i` belongs to the
    mask, else 0. In the multi-class form every class has its own mask and its own item.

    Where the mask is empty the loss is 1 without a gradient as long as anything is predicted, and 0 if nothing is; with
    ``smooth`` above 0 it falls with what is predicted. It is the ``tversky`` loss whose errors weigh 1/2 each.

    Args:
        smooth: :math:`s`, added to both sides of the fraction: a number of places that counts as right already.
        form: ``"binary"``, one mask, or ``"multiclass"``, one for each of several classes, which share out every place.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one sample, in the multi-class form one class of it.

    Shapes:
        logits, target: ``(N, ...)``, the same; the target is 0 or 1, bool and integers are accepted. Returns ``()``, or
        ``(N,)`` if nothing is reduced. Masks of several channels are one item; give them as ``(N * K, ...)`` to have
        each for itself.
        In the multi-class form logits ``(N, C, ...)`` and class indices ``(N, ...)``. Returns ``()``, or ``(N, C)`` if
        nothing is reduced.

    Units:
        None: the loss is a pure number from 0 to 1; ``smooth`` is a number of places.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: shapes do not fit, or a target is not 0 or 1, or no class.

    >>> loss = DiceLoss()
    >>> loss(tensor([[0.0, 0.0, 0.0]]), tensor([[1, 0, 0]]))  # 1 - 2 * 0.5 / (1.5 + 1)
    tensor(0.6000)
    >>> loss = DiceLoss(form="multiclass", reduction="none")
    >>> loss(torch.zeros(1, 2, 3), tensor([[1, 0, 0]]))  # 1 - 2 * 1 / (1.5 + 2), 1 - 2 * 0.5 / (1.5 + 1)
    tensor([[0.4286, 0.6000]])
    """

    @checked
    def __init__(self, *, smooth: NonNegative = 0.0, form: ClassForm = "binary", reduction: Reduction = "mean") -> None:
        super().__init__()
        self.smooth = smooth
        self.form: ClassForm = form
        self.reduction = reduction

    def errors(self) -> Errors:
        return Errors(0.5, 0.5, self.smooth / 2)
