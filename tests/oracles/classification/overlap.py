"""Dice and Tversky losses: loops over samples, classes and places, and the formula of MONAI and
segmentation_models_pytorch by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tests.oracles.case import Answer, OracleBatch, OracleCase, coin, normal

CLASSES = {"form": "multiclass"}


def masks(*dims: int, size: int = 4) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of logits against masks, of which no sample's is empty."""

    def draw(random: Generator) -> OracleBatch:
        target = coin(random, size, *dims)
        target.view(size, -1)[:, 0] = True
        return OracleBatch(normal(random, size, *dims), target.long())

    return draw


def class_masks(*dims: int, size: int = 3) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        return OracleBatch(normal(random, size, 4, *dims), torch.randint(4, (size, *dims), generator=random))

    return draw


def tversky_of(probs: Tensor, mask: Tensor, alpha: float, beta: float) -> Tensor:
    """Equation 3 of Salehi et al. 2017, place by place, of one mask."""
    both = added = missed = torch.zeros((), dtype=torch.float64)
    for p, g in zip(probs.flatten(), mask.double().flatten(), strict=True):
        both = both + p * g
        added = added + p * (1 - g)
        missed = missed + (1 - p) * g
    return 1 - both / (both + alpha * added + beta * missed)


def tversky_loop(alpha: float = 0.5, beta: float = 0.5) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        probs = 1 / (1 + torch.exp(-logits))
        return torch.stack([tversky_of(p, mask, alpha, beta) for p, mask in zip(probs, target, strict=True)])

    return items


def tversky_of_classes(alpha: float = 0.5, beta: float = 0.5) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        probs = logits.exp() / logits.exp().sum(1, keepdim=True)
        rows = [
            torch.stack([tversky_of(sample[label], mask == label, alpha, beta) for label in range(logits.shape[1])])
            for sample, mask in zip(probs, target, strict=True)
        ]
        return torch.stack(rows)

    return items


def dice_formula(smooth: float = 0.0) -> Answer:
    """MONAI's DiceLoss(sigmoid=True, smooth_nr=s, smooth_dr=s) on one channel."""

    def items(logits: Tensor, target: Tensor) -> Tensor:
        probs, mask = logits.sigmoid().reshape(len(logits), -1), target.double().reshape(len(target), -1)
        both = (probs * mask).sum(1)
        return 1 - (2 * both + smooth) / (probs.sum(1) + mask.sum(1) + smooth)

    return items


def dice_formula_of_classes(smooth: float = 0.0) -> Answer:
    """The same with softmax=True and to_onehot_y=True."""

    def items(logits: Tensor, target: Tensor) -> Tensor:
        count = logits.shape[1]
        probs = logits.softmax(1).reshape(len(logits), count, -1)
        one_hot = F.one_hot(target, count).movedim(-1, 1).reshape(probs.shape)
        both = (probs * one_hot).sum(2)
        return 1 - (2 * both + smooth) / (probs.sum(2) + one_hot.sum(2) + smooth)

    return items


DICE = [
    OracleCase("loop", masks(6), items=tversky_loop()),
    OracleCase("monai", masks(1, 3, 4), items=dice_formula()),
    OracleCase("monai_smooth", masks(3, 4), {"smooth": 1.0}, items=dice_formula(1.0)),
    OracleCase("one_place", masks(), {"smooth": 0.5}, items=dice_formula(0.5)),
    OracleCase("classes_loop", class_masks(6), CLASSES, items=tversky_of_classes()),
    OracleCase("classes_monai", class_masks(3, 4), CLASSES, items=dice_formula_of_classes()),
    OracleCase("classes_monai_smooth", class_masks(5), {**CLASSES, "smooth": 2.0}, items=dice_formula_of_classes(2.0)),
    OracleCase("classes_at_one_place", class_masks(), {**CLASSES, "smooth": 0.1}, items=dice_formula_of_classes(0.1)),
]

TVERSKY = [
    OracleCase("loop", masks(6), items=tversky_loop()),
    OracleCase("dice", masks(3, 4), items=dice_formula()),
    OracleCase("alpha", masks(2, 3), {"alpha": 0.3}, items=tversky_loop(alpha=0.3)),
    OracleCase("beta", masks(2, 3), {"beta": 0.9}, items=tversky_loop(beta=0.9)),
    OracleCase("alpha_zero", masks(5), {"alpha": 0.0, "beta": 2.0}, items=tversky_loop(0.0, 2.0)),
    OracleCase("beta_zero", masks(5), {"alpha": 1.0, "beta": 0.0}, items=tversky_loop(1.0, 0.0)),
    OracleCase("classes_loop", class_masks(5), CLASSES, items=tversky_of_classes()),
    OracleCase(
        "classes_both", class_masks(2, 3), {**CLASSES, "alpha": 0.3, "beta": 0.7}, items=tversky_of_classes(0.3, 0.7)
    ),
]
