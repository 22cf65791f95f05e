"""Correct losses with unusual parameters, items or forms break no clause on parameters and forms."""

from typing import Annotated, Any, Literal

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

import losses
from losses.checking import CLAUSES, check_loss
from losses.checking.values import values_of
from losses.core.inputs import BINARY, CLASS_INDICES, DISTRIBUTIONS, LOGITS, POINTWISE, SCORES, Kind
from losses.core.registry import SPECS
from losses.extend import (
    EMBEDDINGS,
    PAIRS,
    AnchorLoss,
    AnchorRows,
    ConfigError,
    Count,
    Loss,
    NonNegative,
    NonNegativeVector,
    Number,
    Pairs,
    Positive,
    Probability,
    Problem,
    Reduction,
    Vector,
    checked,
    register,
    register_values,
)

ROOMS = ("forms", "parameters", "usual_parameters")
NAMES = [name for name, clause in CLAUSES.items() if clause.check.__module__.rpartition(".")[2] in ROOMS]
CORRECT: list[type[Loss]] = []


def correct(kind: Kind) -> Any:
    """Declare a loss without leaving it in the registry."""

    def decorate(cls: type[Loss]) -> type[Loss]:
        register(f"another_{cls.__name__.lower()}", inputs=kind, suits="tests", source="2026", family="tests")(cls)
        del SPECS[f"another_{cls.__name__.lower()}"]
        CORRECT.append(cls)
        return cls

    return decorate


@correct(POINTWISE)
class Quantiles(Loss):
    """One level for each column, by default a tuple."""

    @checked
    def __init__(self, *, levels: Vector = (0.1, 0.5, 0.9), reduction: Reduction = "mean") -> None:
        super().__init__()
        register_values(self, levels=levels)
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        levels, residual = self.levels.to(prediction.dtype), target - prediction
        return torch.where(residual > 0, levels * residual, (levels - 1) * residual)


@correct(POINTWISE)
class Tube(Loss):
    """Counts nothing inside a tube, and nothing above a cap if there is one."""

    @checked
    def __init__(
        self, *, epsilon: NonNegative = 0.1, cap: Positive | None = None, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.epsilon, self.cap, self.reduction = epsilon, cap, reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).abs() - self.epsilon).relu().clamp(max=self.cap or torch.inf)


@correct(POINTWISE)
class Angle(Loss):
    """One item for each row, with a guard that hardly matters."""

    @checked
    def __init__(self, *, eps: Positive = 1e-8, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.eps, self.reduction = eps, reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        lengths = prediction.norm(dim=-1) * target.norm(dim=-1)
        return 1 - (prediction * target).sum(-1) / (lengths + self.eps)


@correct(POINTWISE)
class Horizon(Loss):
    """Items that mind their place in the row."""

    @checked
    def __init__(self, *, discount: Probability = 0.9, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.discount, self.reduction = discount, reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        steps = torch.arange(prediction.shape[-1], device=prediction.device, dtype=prediction.dtype)
        return (prediction - target).square() * self.discount**steps


@correct(POINTWISE)
class Poisson(Loss):
    """A guard that matters with one option of another parameter alone."""

    @checked
    def __init__(self, *, log_input: bool = True, eps: Positive = 1e-8, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.log_input, self.eps, self.reduction = log_input, eps, reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.log_input:
            return prediction.exp() - target * prediction
        return prediction.relu() - target * (prediction.relu() + self.eps).log()


@correct(LOGITS)
class Focal(Loss):
    """Weights of classes that are not in the denominator."""

    @checked
    def __init__(
        self, *, gamma: NonNegative = 2.0, class_weight: NonNegativeVector | None = None, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        register_values(self, class_weight=class_weight)
        self.gamma, self.reduction = gamma, reduction

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        column = (-1, *[1] * (logits.ndim - 2))
        if not target.dtype.is_floating_point:
            classes = torch.arange(logits.shape[1], device=logits.device).reshape(column)
            target = (target.unsqueeze(1) == classes).to(logits.dtype)
        log_probs = logits.log_softmax(1)
        items = -target * (1 - log_probs.exp() + 1e-12) ** self.gamma * log_probs
        return (items if self.class_weight is None else items * self.class_weight.to(items.dtype).reshape(column)).sum(
            1
        )


@correct(DISTRIBUTIONS)
class Renyi(Loss):
    """A number that one value is excluded from."""

    @checked
    def __init__(self, *, order: Positive = 2.0, reduction: Reduction = "mean") -> None:
        if order == 1:
            raise ConfigError(Problem(("order",), "got 1, expected another number"))
        super().__init__()
        self.order, self.reduction = order, reduction

    def items(self, logits: Tensor, probs: Tensor) -> Tensor:
        return (probs**self.order * logits.softmax(-1) ** (1 - self.order)).sum(-1).log() / (self.order - 1)


@correct(EMBEDDINGS)
class Threshold(AnchorLoss):
    """A threshold, between whose values nothing changes, and a number of times."""

    @checked
    def __init__(self, *, threshold: Number = 0.2, times: Count = 1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.threshold, self.times, self.reduction = threshold, times, reduction

    def of_anchors(self, rows: AnchorRows) -> Tensor:
        near = rows.negatives.masked_fill(~rows.is_negative, 0)
        far = (1 - rows.positives).masked_fill(~rows.is_positive, 0)
        return (near * (near > self.threshold)).sum(-1) * self.times + far.sum(-1)


@correct(PAIRS)
class Cosine(Loss):
    """A range of its own, and a scale that is learnt."""

    @checked
    def __init__(
        self, *, margin: Annotated[float, Ge(-1), Le(1)] = 0.0, scale: Positive = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.margin, self.reduction = margin, reduction

    def config(self) -> dict[str, Any]:
        return super().config() | {"scale": self.scale.item()}

    def items(self, pairs: Pairs, same: Tensor) -> Tensor:
        cosine = F.cosine_similarity(pairs.first, pairs.second)
        return self.scale * torch.where(same > 0, 1 - cosine, (cosine - self.margin).relu())


class Bare(losses.TripletLoss):
    """Nothing that could be chosen."""

    def __init__(self) -> None:
        super().__init__(margin=0.5)


class Fixed(losses.TripletLoss):
    """Fewer parameters than its base."""

    @checked
    def __init__(self, *, margin: NonNegative = 0.3, reduction: Reduction = "mean") -> None:
        super().__init__(margin=margin, mining="hard", reduction=reduction)


class Flat(nn.Module):
    """A module of which nothing is known but its value: the sum over rows, and the mean of them."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sum(1).mean()


class Overlap(nn.Module):
    """One item for the whole batch."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probs = logits.sigmoid()
        return 1 - (2 * (probs * target).sum() + 1) / (probs.sum() + target.sum() + 1)


WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
MODULES = [
    (nn.MSELoss(), POINTWISE),
    (nn.PoissonNLLLoss(), POINTWISE),
    (Flat(), POINTWISE),
    (nn.SoftMarginLoss(), SCORES),
    (nn.HingeEmbeddingLoss(), SCORES),
    (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS[:3]), BINARY),
    (nn.MultiLabelSoftMarginLoss(), BINARY),
    (Overlap(), BINARY),
    (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS),
    (nn.CrossEntropyLoss(weight=WEIGHTS), LOGITS),
    (nn.MultiMarginLoss(), CLASS_INDICES),
    (nn.KLDivLoss(reduction="batchmean"), DISTRIBUTIONS),
]


@pytest.mark.parametrize("cls", [*CORRECT, Bare, Fixed], ids=lambda cls: cls.__name__)
def test_a_correct_loss_breaks_none(cls: type[Loss]) -> None:
    report = check_loss(cls, clauses=NAMES)
    report.raise_for_failures()
    assert any(verdict.outcome == "kept" for verdict in report.verdicts)


@pytest.mark.parametrize(("module", "kind"), MODULES, ids=lambda value: repr(value).partition("(")[0])
def test_a_module_of_torch_breaks_none(module: nn.Module, kind: Kind) -> None:
    check_loss(module, inputs=kind, clauses=NAMES).raise_for_failures()


def test_forms_of_our_losses_are_compared_and_not_passed_over() -> None:
    """What refuses every shape, or has none, would break nothing."""
    for name in ("mse", "hinge", "binary_cross_entropy", "cross_entropy", "kl_divergence", "wasserstein", "elbo"):
        (verdict,) = check_loss(name, clauses=["shapes_agree"]).verdicts
        assert verdict.outcome == "kept", name
    for name in ("hinge", "binary_cross_entropy", "cross_entropy", "js_divergence", "triplet", "info_nce", "elbo"):
        (verdict,) = check_loss(name, clauses=["encodings_agree"]).verdicts
        assert verdict.outcome == "kept", name


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Probability, {"numbers": (0.15625, 0.3125, 0.625, 0.8125), "bounds": (0.0, 1.0)}),
        (Positive | Literal["soft"], {"options": ("soft",), "numbers": (0.3125, 0.4375, 1.625, 1.875)}),
        (Number, {"numbers": (-0.3125, 0.3125, 0.4375, 1.625, 1.875)}),
        (Count | None, {"options": (None,), "integers": (0, 1, 2, 3), "bounds": (0,)}),
        (NonNegativeVector | None, {"options": (None,), "lists": True}),
        (list[float], {"lists": True}),
        (bool, {"options": (True, False)}),
        (str, {}),
    ],
    ids=["probability", "positive or soft", "number", "count or none", "vector or none", "list", "bool", "str"],
)
def test_values_follow_from_an_annotation(annotation: Any, expected: dict[str, Any]) -> None:
    found = values_of(annotation)._asdict()
    assert {name: value for name, value in found.items() if value} == expected


def test_a_target_of_transport_is_taken_in_the_precision_of_the_output() -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = losses.WassersteinLoss(form="logits")
    assert torch.equal(loss(output, target.float()), loss(output, target.float().double()))
    assert loss(output.float(), target).dtype is torch.float32
