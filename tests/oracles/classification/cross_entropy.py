"""Cross-entropy: torch's own, scikit-learn, and a loop over positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.special
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from losses import LinearLogits
from tests.oracles.case import Answer, OracleBatch, OracleCase, normal, numpied, probabilities, uniform

WEIGHTS = [0.5, 2.0, 0.25, 1.5, 1.0]


def classes(
    *dims: int, size: int = 6, share_ignored: float = 0.0, ignored: int = -100
) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of logits against class indices, some of them ignored (never the first)."""

    def draw(random: Generator) -> OracleBatch:
        logits = normal(random, size, 5, *dims)
        target = torch.randint(5, (size, *dims), generator=random)
        absent = uniform(random, size, *dims) < share_ignored
        absent[0] = False
        target = target.where((target != ignored), (target + 1) % 5)
        return OracleBatch(logits, target.masked_fill(absent, ignored))

    return draw


def class_probabilities(*dims: int, size: int = 6, sparse: bool = False) -> Callable[[Generator], OracleBatch]:
    def draw(random: Generator) -> OracleBatch:
        logits, target = normal(random, size, 5, *dims), probabilities(random, size, 5, *dims, dim=1)
        if sparse:
            target = target.masked_fill(target < target.mean(1, keepdim=True), 0)
            target = target / target.sum(1, keepdim=True)
        return OracleBatch(logits, target)

    return draw


def torch_cross_entropy(
    weight: list[float] | None = None, smoothing: float = 0.0, ignored: int = -100
) -> dict[str, Answer]:
    def answer(reduction: str) -> Answer:
        def call(logits: Tensor, target: Tensor) -> Tensor:
            weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
            return F.cross_entropy(
                logits, target, weights, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction
            )

        return call

    return {"items": answer("none"), "value": answer("mean")}


def cross_entropy_loop(
    weight: list[float] | None = None, smoothing: float = 0.0, ignored: int = -100, z_loss: float = 0.0
) -> dict[str, Answer]:
    """Szegedy et al. 2016, section 7, position by position, with the z-loss of Chowdhery et al. 2022, section 5."""

    def positions(logits: Tensor, target: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield the cost of every position and what it adds to the denominator."""
        count = logits.shape[1]
        weights = (
            torch.ones(count, dtype=torch.float64) if weight is None else torch.tensor(weight, dtype=torch.float64)
        )
        rows = logits.movedim(1, -1).reshape(-1, count)
        wanted = target.movedim(1, -1).reshape(-1, count) if target.is_floating_point() else target.reshape(-1)
        for row, right in zip(rows, wanted, strict=True):
            if target.is_floating_point():
                share, denominator = right, 1.0
            elif int(right) == ignored:
                yield row.sum() * 0, 0.0
                continue
            else:
                share, denominator = torch.eye(count, dtype=torch.float64)[right], weights[right].item()
            partition = row.exp().sum().log()
            share = (1 - smoothing) * share + smoothing / count
            cost = sum(-weights[c] * share[c] * (row[c] - partition) for c in range(count))
            yield cost + z_loss * denominator * partition**2, denominator

    def items(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([cost for cost, _ in positions(logits, target)]).reshape(logits[:, 0].shape)

    def value(logits: Tensor, target: Tensor) -> Tensor:
        parts = list(positions(logits, target))
        return sum(cost for cost, _ in parts) / sum(denominator for _, denominator in parts)

    return {"items": items, "value": value}


def linear_classes(*dims: int, share_ignored: float = 0.0, bias: bool = True) -> Callable[[Generator], OracleBatch]:
    """Return a drawer of features and the linear layer that makes logits of them, against class indices."""

    def draw(random: Generator) -> OracleBatch:
        _, target, *_ = classes(*dims, share_ignored=share_ignored)(random)
        layer = normal(random, 5, 3), normal(random, 5) if bias else None
        return OracleBatch(LinearLogits(normal(random, 6, *dims, 3), *layer), target)

    return draw


def linear_probabilities(random: Generator) -> OracleBatch:
    layer = LinearLogits(normal(random, 2, 3, 3), normal(random, 5, 3), normal(random, 5))
    return OracleBatch(layer, probabilities(random, 2, 3, 5))


def on_layer(**answers: Answer) -> dict[str, Answer]:
    """Return answers on the logits that a linear layer makes, classes where they are elsewhere."""

    def of_layer(answer: Answer) -> Answer:
        def call(output: LinearLogits, target: Tensor) -> Any:
            logits = torch.einsum("...d,cd->...c", output.features, output.weight)
            logits = logits if output.bias is None else logits + output.bias
            target = target.movedim(-1, 1) if target.dtype.is_floating_point else target
            return answer(logits.movedim(-1, 1), target)

        return call

    return {name: of_layer(answer) for name, answer in answers.items()}


def sklearn_log_loss(weight: list[float] | None = None) -> Answer:
    def value(logits: np.ndarray, target: np.ndarray) -> float:
        probs = scipy.special.softmax(logits, axis=1)
        sample_weight = None if weight is None else np.array(weight)[target]
        return sklearn.metrics.log_loss(target, probs, labels=list(range(logits.shape[1])), sample_weight=sample_weight)

    return numpied(value)


CROSS_ENTROPY = [
    OracleCase("torch", classes(), **torch_cross_entropy()),
    OracleCase("scikit_learn", classes(), value=sklearn_log_loss(), differentiable=False),
    OracleCase(
        "scikit_learn_class_weight",
        classes(),
        {"class_weight": WEIGHTS},
        value=sklearn_log_loss(WEIGHTS),
        differentiable=False,
    ),
    OracleCase("class_weight", classes(size=8), {"class_weight": WEIGHTS}, **torch_cross_entropy(WEIGHTS)),
    OracleCase(
        "class_weight_zero",
        classes(size=8),
        {"class_weight": [0, 1, 1, 0.5, 2]},
        **torch_cross_entropy([0.0, 1.0, 1.0, 0.5, 2.0]),
    ),
    OracleCase("smoothing", classes(), {"label_smoothing": 0.1}, **torch_cross_entropy(smoothing=0.1)),
    OracleCase("smoothing_whole", classes(), {"label_smoothing": 1.0}, **torch_cross_entropy(smoothing=1.0)),
    OracleCase("ignored", classes(share_ignored=0.5), **torch_cross_entropy()),
    OracleCase(
        "ignore_index", classes(share_ignored=0.5, ignored=2), {"ignore_index": 2}, **torch_cross_entropy(ignored=2)
    ),
    OracleCase(
        "ignore_index_255",
        classes(share_ignored=0.5, ignored=255),
        {"ignore_index": 255},
        **torch_cross_entropy(ignored=255),
    ),
    OracleCase(
        "class_weight_smoothing_ignored",
        classes(share_ignored=0.4, ignored=-1),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": -1},
        **torch_cross_entropy(WEIGHTS, 0.2, -1),
    ),
    OracleCase(
        "class_weight_smoothing_ignored_class",
        classes(share_ignored=0.4, ignored=3),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": 3},
        **cross_entropy_loop(WEIGHTS, 0.2, 3),
    ),
    OracleCase("probabilities", class_probabilities(), **torch_cross_entropy()),
    OracleCase("probabilities_sparse", class_probabilities(sparse=True), **torch_cross_entropy()),
    OracleCase(
        "probabilities_class_weight_smoothing",
        class_probabilities(),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2},
        **torch_cross_entropy(WEIGHTS, 0.2),
    ),
    OracleCase("images", classes(3, 2, size=2), **torch_cross_entropy()),
    OracleCase(
        "images_everything",
        classes(3, 2, size=2, share_ignored=0.3),
        {"class_weight": WEIGHTS, "label_smoothing": 0.3},
        **torch_cross_entropy(WEIGHTS, 0.3),
    ),
    OracleCase(
        "images_probabilities",
        class_probabilities(3, 2, size=2),
        {"class_weight": WEIGHTS, "label_smoothing": 0.3},
        **torch_cross_entropy(WEIGHTS, 0.3),
    ),
    OracleCase("loop", classes(4, size=2, share_ignored=0.3), **cross_entropy_loop()),
    OracleCase("z_loss", classes(), {"z_loss": 0.1}, **cross_entropy_loop(z_loss=0.1)),
    OracleCase(
        "z_loss_probabilities", class_probabilities(2, size=3), {"z_loss": 0.1}, **cross_entropy_loop(z_loss=0.1)
    ),
    OracleCase(
        "z_loss_everything",
        classes(2, size=4, share_ignored=0.3),
        {"z_loss": 0.1, "class_weight": WEIGHTS, "label_smoothing": 0.2},
        **cross_entropy_loop(WEIGHTS, 0.2, z_loss=0.1),
    ),
    OracleCase("linear", linear_classes(), **on_layer(**torch_cross_entropy())),
    OracleCase("linear_no_bias", linear_classes(bias=False), **on_layer(**torch_cross_entropy())),
    OracleCase("linear_sequences", linear_classes(4, share_ignored=0.3), **on_layer(**torch_cross_entropy())),
    OracleCase(
        "linear_everything",
        linear_classes(2, share_ignored=0.3),
        {"z_loss": 0.1, "class_weight": WEIGHTS, "label_smoothing": 0.2},
        **on_layer(**cross_entropy_loop(WEIGHTS, 0.2, z_loss=0.1)),
    ),
    OracleCase("linear_probabilities", linear_probabilities, **on_layer(**torch_cross_entropy())),
]
