"""Losses of scores, logits and classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.extend import (
    BINARY,
    CLASS_INDICES,
    LOGITS,
    NON_NEGATIVE,
    SCORES,
    SHIFT_INVARIANT_LOGITS,
    ElementwiseLoss,
    InnerProbability,
    Integer,
    Loss,
    NonNegative,
    Number,
    Positive,
    Probability,
    Reduction,
    bounded,
    checked,
)
from tests.correct.declaring import Plain, correct


def of_class(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target.unsqueeze(1)).squeeze(1)


def probability_of_target(logits: Tensor, target: Tensor) -> Tensor:
    return torch.stack([row.softmax(0)[int(index)] for row, index in zip(logits, target, strict=True)])


@correct(BINARY, NON_NEGATIVE)
class BinaryFocal(ElementwiseLoss):
    """Cross-entropy that hardly looks at what is easy; smooth for probabilities as targets too."""

    @checked
    def __init__(self, *, gamma: NonNegative = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.gamma = gamma
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        missing = logits.sigmoid() * (1 - target) + (-logits).sigmoid() * target
        return missing**self.gamma * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal(logits: Tensor, target: Tensor) -> Tensor:
    chosen = probability_of_target(logits, target)
    return (-((1 - chosen) ** 2) * chosen.log()).mean()


@correct(CLASS_INDICES, NON_NEGATIVE, SHIFT_INVARIANT_LOGITS, oracle=focal)
class MulticlassFocal(Plain):
    """Focal loss of classes, with an exponent of two."""

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        log_prob = of_class(logits.log_softmax(1), target)
        return -torch.expm1(log_prob).square() * log_prob


@correct(CLASS_INDICES, SHIFT_INVARIANT_LOGITS, oracle=lambda o, t: F.cross_entropy(o, t, label_smoothing=0.1))
class SmoothedEntropy(Loss):
    """Cross-entropy with smoothed labels."""

    @checked
    def __init__(self, *, smoothing: Probability = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.smoothing = smoothing
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        log_probs = logits.log_softmax(1).clamp(min=-1e30)  # an impossible class costs much, and not infinity
        return -(1 - self.smoothing) * of_class(log_probs, target) - self.smoothing * log_probs.mean(1)


@correct(CLASS_INDICES, oracle=lambda o, t: F.cross_entropy(o, t) + 0.5 * (1 - probability_of_target(o, t)).mean())
class PolyOne(Loss):
    """Cross-entropy and a multiple of the probability that is missing."""

    @checked
    def __init__(self, *, epsilon: Number = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.epsilon = epsilon
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        log_prob = of_class(logits.log_softmax(1), target)
        return -log_prob - self.epsilon * torch.expm1(log_prob)


@correct(
    CLASS_INDICES,
    NON_NEGATIVE,
    SHIFT_INVARIANT_LOGITS,
    oracle=lambda o, t: ((1 - probability_of_target(o, t) ** 0.7) / 0.7).mean(),
)
class GeneralizedEntropy(Loss):
    """Between cross-entropy and absolute error, for labels that are often wrong."""

    @checked
    def __init__(self, *, exponent: InnerProbability = 0.7, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.exponent = exponent
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return -torch.expm1(self.exponent * of_class(logits.log_softmax(1), target)) / self.exponent


@correct(CLASS_INDICES, NON_NEGATIVE, oracle=lambda o, t: F.multi_margin_loss(o, t, margin=0.5))
class MultiMargin(Loss):
    """Hinge of every other class against the right one."""

    @checked
    def __init__(self, *, margin: NonNegative = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        right = logits.gather(1, target.unsqueeze(1))
        others = torch.ones_like(logits).scatter(1, target.unsqueeze(1), 0)
        return ((self.margin - right + logits).relu() * others).mean(1)


@correct(CLASS_INDICES, NON_NEGATIVE)
class Coral(Plain):
    """Ordinal classes as thresholds that the class has passed or not."""

    exemptions = {"infinite_logits": "a threshold that is never passed, and was, costs infinity"}  # noqa: RUF012

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        ranks = torch.arange(logits.shape[1], device=logits.device).reshape(-1, *[1] * (logits.ndim - 2))
        passed = (target.unsqueeze(1) > ranks).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, passed, reduction="none")[:, :-1].sum(1)


@correct(LOGITS, NON_NEGATIVE, SHIFT_INVARIANT_LOGITS)
class SparingBrier(Loss):
    """Squared difference of probabilities; one class index does not count."""

    @checked
    def __init__(self, *, ignore_index: Integer | None = -100, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.dtype.is_floating_point:
            return (logits.softmax(1) - target).square().sum(1)
        classes = torch.arange(logits.shape[1], device=logits.device).reshape(-1, *[1] * (logits.ndim - 2))
        one_hot = (target.unsqueeze(1) == classes).to(logits.dtype)
        return (logits.softmax(1) - one_hot).square().sum(1) * self.counting(target)

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> Tensor | None:
        return None if target.dtype.is_floating_point else self.counting(target).to(items.dtype)

    def counting(self, target: Tensor) -> Tensor:
        return torch.ones_like(target) if self.ignore_index is None else (target != self.ignore_index).long()


@correct(CLASS_INDICES, NON_NEGATIVE, oracle=lambda o, t: F.cross_entropy(10 * o, t))
class LearnedScale(Plain):
    """Cross-entropy of logits times a scale that is learned too."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return -of_class((logits * self.scale).log_softmax(1), target)


@correct(SCORES, NON_NEGATIVE, oracle=lambda o, t: torch.where(t > 0, (-o).exp(), o.exp()).mean())
class Exponential(ElementwiseLoss):
    """The loss of AdaBoost."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return torch.where(target > 0, -scores, scores).exp()


def modified_huber(scores: Tensor, target: Tensor) -> Tensor:
    agreement = scores * torch.where(target > 0, 1.0, -1.0)
    return torch.where(agreement >= -1, (1 - agreement).clamp(min=0) ** 2, -4 * agreement).mean()


@correct(SCORES, NON_NEGATIVE, oracle=modified_huber)
class ModifiedHuber(Plain):
    """Squared hinge that goes on as a line; as in scikit-learn."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        agreement = torch.where(target > 0, scores, -scores)
        missing = (1 - agreement).relu()
        near = missing.clamp(max=2)
        return near * (2 * missing - near)


@correct(SCORES, NON_NEGATIVE, bounded(2.0), oracle=lambda o, t: ramp(o * torch.where(t > 0, 1.0, -1.0)))
class Ramp(Plain):
    """Hinge that stops growing."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        return (1 - torch.where(target > 0, scores, -scores)).clamp(0, 2)


def ramp(agreement: Tensor) -> Tensor:
    return (torch.clamp(1 - agreement, min=0) - torch.clamp(-1 - agreement, min=0)).mean()


def lovasz_by_hand(scores: Tensor, target: Tensor) -> Tensor:
    """The extension of the Jaccard loss, as a sum of sets that grow by the largest error."""
    rows = []
    for row, labels in zip(scores, target > 0, strict=True):
        errors = 1 - row * torch.where(labels, 1.0, -1.0)
        value, before, wrong = row.sum() * 0, 0.0, torch.zeros_like(labels)
        for index in errors.argsort(descending=True, stable=True):
            wrong[index] = True
            jaccard = 1 - int((labels & ~wrong).sum()) / max(1, int((labels | wrong).sum()))
            value = value + errors[index].relu() * (jaccard - before)
            before = jaccard
        rows.append(value)
    return torch.stack(rows).mean()


@correct(SCORES, NON_NEGATIVE, oracle=lovasz_by_hand)
class LovaszHinge(Plain):
    """Extension of the Jaccard loss of every sample, from sorted errors."""

    def items(self, scores: Tensor, target: Tensor) -> Tensor:
        positive = (target > 0).to(scores.dtype)
        errors, order = (1 - scores * (2 * positive - 1)).sort(dim=-1, descending=True, stable=True)
        positive = positive.gather(-1, order)
        missed = positive.sum(-1, keepdim=True) - positive.cumsum(-1)
        union = positive.sum(-1, keepdim=True) + (1 - positive).cumsum(-1)
        jaccard = 1 - missed / union.clamp(min=1)
        steps = jaccard.diff(dim=-1, prepend=torch.zeros_like(jaccard[..., :1]))
        return (errors.relu() * steps).sum(-1)


@correct(BINARY, NON_NEGATIVE, bounded(1.0), oracle=lambda o, t: tversky_by_hand(o.sigmoid(), t))
class Tversky(Loss):
    """Overlap of every sample, with misses and false alarms counted differently."""

    @checked
    def __init__(
        self, *, false_alarms: NonNegative = 0.3, misses: NonNegative = 0.7, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.false_alarms = false_alarms
        self.misses = misses
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        probs = logits.sigmoid()
        both = (probs * target).sum(-1)
        wrong = self.false_alarms * (probs * (1 - target)).sum(-1) + self.misses * ((1 - probs) * target).sum(-1)
        return wrong / (both + wrong + 1)


def tversky_by_hand(probs: Tensor, target: Tensor) -> Tensor:
    both = (probs * target).sum(-1) + 1
    alarms, misses = probs.sum(-1) - (probs * target).sum(-1), target.sum(-1) - (probs * target).sum(-1)
    return (1 - both / (both + 0.3 * alarms + 0.7 * misses)).mean()


@correct(BINARY, NON_NEGATIVE, oracle=lambda o, t: F.multilabel_soft_margin_loss(o, t))
class MultilabelSoftMargin(Loss):
    """Binary cross-entropies of a sample; the average is one over rows."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return (F.softplus(logits) - target * logits).mean(-1)


@correct(BINARY)
class Asymmetric(ElementwiseLoss):
    """Negatives count less the easier they are, and not at all below a probability."""

    @checked
    def __init__(self, *, focus: Positive = 4.0, shift: Probability = 0.05, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.focus = focus
        self.shift = shift
        self.reduction = reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        wrong = (logits.sigmoid() - self.shift).relu()
        easy = wrong**self.focus * -torch.log1p(-wrong.clamp(max=1 - 1e-6))
        return target * F.softplus(-logits) + (1 - target) * easy
