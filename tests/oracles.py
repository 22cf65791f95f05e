"""Independent answers: what every loss should be, from another library, a closed form or a loop written from its paper.

A case draws a batch in float64 and says what the loss should make of it. Nothing here comes from the package's own
mathematics: only the containers that its losses take. An oracle in torch also gives the expected gradient; one in numpy
gives values, whose central differences are the expected gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mpmath
import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances as pml_distances
from pytorch_metric_learning import losses as pml_losses
from pytorch_metric_learning import miners as pml_miners
from pytorch_metric_learning import reducers as pml_reducers
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    Laplace,
    Normal,
)
from torch.distributions import kl_divergence as torch_kl

from losses import Pairs, Samples, Triplets, VAEOutput

Answer = Callable[..., Any]


class Batch(NamedTuple):
    """What a loss is called with; the tensors that require grad are those whose gradient is compared.

    ``leaves`` are those tensors where the batch hides them, as two Distribution objects do.
    """

    output: Any
    target: Any
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    leaves: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Case:
    """One configuration of a loss, batches for it, and the independent answer.

    Args:
        id: name of the test.
        draw: makes a batch in float64.
        parameters: of the loss, without its reduction.
        items: expected unreduced value, called like the loss: ``items(output, target, **options)``.
        mass: what each item adds to the denominator of the mean, from the items; by default 1.
        value: expected mean, called like the loss; by default the mean of ``items``.
        differentiable: whether autograd through the answer is the expected gradient; else central differences are.
        tangent: the answer normalises its distributions, so only the gradient along the simplex can be compared.
        paced: the gradient treats a part of the formula as constant, so that it is no derivative of the value.
    """

    id: str
    draw: Callable[[Generator], Batch]
    parameters: dict[str, Any] = field(default_factory=dict)
    items: Answer | None = None
    mass: Callable[[Tensor], Tensor] | None = None
    value: Answer | None = None
    differentiable: bool = True
    tangent: bool = False
    paced: bool = False

    def mean(self, batch: Batch) -> Tensor:
        """Return the expected mean."""
        if self.value is not None:
            return torch.as_tensor(self.value(batch.output, batch.target, **batch.options), dtype=torch.float64)
        items = self.unreduced(batch)
        mass = torch.ones_like(items) if self.mass is None else self.mass(items)
        return items.sum() / mass.sum() if mass.sum() else items.sum() * 0

    def unreduced(self, batch: Batch) -> Tensor:
        """Return the expected items."""
        assert self.items is not None
        return torch.as_tensor(self.items(batch.output, batch.target, **batch.options), dtype=torch.float64)


def drawn(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def normal(random: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()


def uniform(random: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=random, dtype=torch.float64)


def coin(random: Generator, *shape: int) -> Tensor:
    return uniform(random, *shape) > 0.5


def probabilities(random: Generator, *shape: int, dim: int = -1) -> Tensor:
    return normal(random, *shape).detach().softmax(dim)


def numpied(answer: Answer) -> Answer:
    """Return an answer in numpy as one that takes torch tensors."""

    def call(output: Any, target: Any, **options: Any) -> Any:
        return answer(*(part.detach().numpy() for part in (output, target)), **options)

    return call


def active(items: Tensor) -> Tensor:
    return (items > 0).double()


# --- cross_entropy ---------------------------------------------------------------------------------------------------

WEIGHTS = [0.5, 2.0, 0.25, 1.5, 1.0]


def classes(*dims: int, size: int = 6, share_ignored: float = 0.0, ignored: int = -100) -> Callable[[Generator], Batch]:
    """Return a drawer of logits against class indices, some of them ignored (never the first)."""

    def draw(random: Generator) -> Batch:
        logits = normal(random, size, 5, *dims)
        target = torch.randint(5, (size, *dims), generator=random)
        absent = uniform(random, size, *dims) < share_ignored
        absent[0] = False
        target = target.where((target != ignored), (target + 1) % 5)
        return Batch(logits, target.masked_fill(absent, ignored))

    return draw


def class_probabilities(*dims: int, size: int = 6, sparse: bool = False) -> Callable[[Generator], Batch]:
    def draw(random: Generator) -> Batch:
        logits, target = normal(random, size, 5, *dims), probabilities(random, size, 5, *dims, dim=1)
        if sparse:
            target = target.masked_fill(target < target.mean(1, keepdim=True), 0)
            target = target / target.sum(1, keepdim=True)
        return Batch(logits, target)

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
                share, mass = right, 1.0
            elif int(right) == ignored:
                yield row.sum() * 0, 0.0
                continue
            else:
                share, mass = torch.eye(count, dtype=torch.float64)[right], weights[right].item()
            partition = row.exp().sum().log()
            share = (1 - smoothing) * share + smoothing / count
            cost = sum(-weights[c] * share[c] * (row[c] - partition) for c in range(count))
            yield cost + z_loss * mass * partition**2, mass

    def items(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([cost for cost, _ in positions(logits, target)]).reshape(logits[:, 0].shape)

    def value(logits: Tensor, target: Tensor) -> Tensor:
        parts = list(positions(logits, target))
        return sum(cost for cost, _ in parts) / sum(mass for _, mass in parts)

    return {"items": items, "value": value}


def sklearn_log_loss(weight: list[float] | None = None) -> Answer:
    def value(logits: np.ndarray, target: np.ndarray) -> float:
        probs = scipy.special.softmax(logits, axis=1)
        sample_weight = None if weight is None else np.array(weight)[target]
        return sklearn.metrics.log_loss(target, probs, labels=list(range(logits.shape[1])), sample_weight=sample_weight)

    return numpied(value)


CROSS_ENTROPY = [
    Case("torch", classes(), **torch_cross_entropy()),
    Case("scikit_learn", classes(), value=sklearn_log_loss(), differentiable=False),
    Case(
        "scikit_learn_class_weight",
        classes(),
        {"class_weight": WEIGHTS},
        value=sklearn_log_loss(WEIGHTS),
        differentiable=False,
    ),
    Case("class_weight", classes(size=8), {"class_weight": WEIGHTS}, **torch_cross_entropy(WEIGHTS)),
    Case(
        "class_weight_zero",
        classes(size=8),
        {"class_weight": [0, 1, 1, 0.5, 2]},
        **torch_cross_entropy([0.0, 1.0, 1.0, 0.5, 2.0]),
    ),
    Case("smoothing", classes(), {"label_smoothing": 0.1}, **torch_cross_entropy(smoothing=0.1)),
    Case("smoothing_whole", classes(), {"label_smoothing": 1.0}, **torch_cross_entropy(smoothing=1.0)),
    Case("ignored", classes(share_ignored=0.5), **torch_cross_entropy()),
    Case("ignore_index", classes(share_ignored=0.5, ignored=2), {"ignore_index": 2}, **torch_cross_entropy(ignored=2)),
    Case(
        "ignore_index_255",
        classes(share_ignored=0.5, ignored=255),
        {"ignore_index": 255},
        **torch_cross_entropy(ignored=255),
    ),
    Case(
        "class_weight_smoothing_ignored",
        classes(share_ignored=0.4, ignored=-1),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": -1},
        **torch_cross_entropy(WEIGHTS, 0.2, -1),
    ),
    Case(
        "class_weight_smoothing_ignored_class",
        classes(share_ignored=0.4, ignored=3),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": 3},
        **cross_entropy_loop(WEIGHTS, 0.2, 3),
    ),
    Case("probabilities", class_probabilities(), **torch_cross_entropy()),
    Case("probabilities_sparse", class_probabilities(sparse=True), **torch_cross_entropy()),
    Case(
        "probabilities_class_weight_smoothing",
        class_probabilities(),
        {"class_weight": WEIGHTS, "label_smoothing": 0.2},
        **torch_cross_entropy(WEIGHTS, 0.2),
    ),
    Case("images", classes(3, 2, size=2), **torch_cross_entropy()),
    Case(
        "images_everything",
        classes(3, 2, size=2, share_ignored=0.3),
        {"class_weight": WEIGHTS, "label_smoothing": 0.3},
        **torch_cross_entropy(WEIGHTS, 0.3),
    ),
    Case(
        "images_probabilities",
        class_probabilities(3, 2, size=2),
        {"class_weight": WEIGHTS, "label_smoothing": 0.3},
        **torch_cross_entropy(WEIGHTS, 0.3),
    ),
    Case("loop", classes(4, size=2, share_ignored=0.3), **cross_entropy_loop()),
    Case("z_loss", classes(), {"z_loss": 0.1}, **cross_entropy_loop(z_loss=0.1)),
    Case("z_loss_probabilities", class_probabilities(2, size=3), {"z_loss": 0.1}, **cross_entropy_loop(z_loss=0.1)),
    Case(
        "z_loss_everything",
        classes(2, size=4, share_ignored=0.3),
        {"z_loss": 0.1, "class_weight": WEIGHTS, "label_smoothing": 0.2},
        **cross_entropy_loop(WEIGHTS, 0.2, z_loss=0.1),
    ),
]

# --- binary_cross_entropy --------------------------------------------------------------------------------------------


def questions(kind: str) -> Callable[[Generator], Batch]:
    def draw(random: Generator) -> Batch:
        logits = normal(random, 5, 3)
        target = uniform(random, 5, 3) if kind == "probabilities" else coin(random, 5, 3)
        return Batch(logits, target.long() if kind == "integers" else target)

    return draw


def torch_binary(positive_weight: list[float] | float | None = None) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        weight = None if positive_weight is None else torch.as_tensor(positive_weight, dtype=torch.float64)
        return F.binary_cross_entropy_with_logits(logits, target.double(), pos_weight=weight, reduction="none")

    return items


def binary_loop(smoothing: float = 0.0, positive_weight: list[float] | float = 1.0) -> Answer:
    def items(logits: Tensor, target: Tensor) -> Tensor:
        weights = torch.as_tensor(positive_weight, dtype=torch.float64).expand(logits.shape[-1])
        rows = []
        for row, wanted in zip(logits, target.double(), strict=True):
            for weight, logit, t in zip(weights, row, wanted, strict=True):
                prob = 1 / (1 + torch.exp(-logit))
                t = t * (1 - smoothing) + smoothing / 2
                rows.append(-weight * t * prob.log() - (1 - t) * (1 - prob).log())
        return torch.stack(rows).reshape(logits.shape)

    return items


def sklearn_binary(logits: np.ndarray, target: np.ndarray) -> float:
    return sklearn.metrics.log_loss(target.ravel(), scipy.special.expit(logits.ravel()), labels=[False, True])


BINARY_CROSS_ENTROPY = [
    Case("torch", questions("probabilities"), items=torch_binary()),
    Case("integers", questions("integers"), items=torch_binary()),
    Case("booleans", questions("booleans"), items=torch_binary()),
    Case("scikit_learn", questions("booleans"), value=numpied(sklearn_binary), differentiable=False),
    Case("smoothing", questions("booleans"), {"label_smoothing": 0.2}, items=binary_loop(0.2)),
    Case("positive_weight", questions("probabilities"), {"positive_weight": 2.5}, items=torch_binary(2.5)),
    Case(
        "positive_weight_list",
        questions("integers"),
        {"positive_weight": [0.5, 2.0, 1.5]},
        items=torch_binary([0.5, 2.0, 1.5]),
    ),
    Case(
        "smoothing_positive_weight",
        questions("probabilities"),
        {"label_smoothing": 0.3, "positive_weight": [0.5, 2.0, 0.0]},
        items=binary_loop(0.3, [0.5, 2.0, 0.0]),
    ),
]

# --- hinge -----------------------------------------------------------------------------------------------------------


def decisions(kind: str) -> Callable[[Generator], Batch]:
    def draw(random: Generator) -> Batch:
        scores, yes = normal(random, 7, 2), coin(random, 7, 2)
        targets = {"zero_one": yes.long(), "signs": yes.long() * 2 - 1, "booleans": yes, "floats": yes.double() * 2 - 1}
        return Batch(scores, targets[kind])

    return draw


def hinge_loop(margin: float = 1.0, power: int = 1) -> Answer:
    def items(scores: Tensor, target: Tensor) -> Tensor:
        values = []
        for score, wanted in zip(scores.flatten(), target.flatten(), strict=True):
            sign = 1 if wanted > 0 else -1
            values.append(torch.clamp(margin - sign * score, min=0) ** power)
        return torch.stack(values).reshape(scores.shape)

    return items


def sklearn_hinge(scores: np.ndarray, target: np.ndarray) -> float:
    return sklearn.metrics.hinge_loss(target.ravel(), scores.ravel())


HINGE = [
    *(
        Case(f"scikit_learn_{kind}", decisions(kind), value=numpied(sklearn_hinge), differentiable=False)
        for kind in ("zero_one", "signs")
    ),
    *(
        Case(f"loop_{kind}", decisions(kind), items=hinge_loop())
        for kind in ("zero_one", "signs", "booleans", "floats")
    ),
    Case("margin", decisions("zero_one"), {"margin": 0.3}, items=hinge_loop(0.3)),
    Case("squared", decisions("booleans"), {"power": 2}, items=hinge_loop(1, 2)),
    Case("squared_margin", decisions("signs"), {"margin": 2.5, "power": 2}, items=hinge_loop(2.5, 2)),
]

# --- regression ------------------------------------------------------------------------------------------------------


def numbers(*shape: int) -> Callable[[Generator], Batch]:
    return lambda random: Batch(normal(random, *shape), normal(random, *shape))


def unreduced(function: Callable[..., Tensor], **options: Any) -> Answer:
    return lambda prediction, target: function(prediction, target, reduction="none", **options)


MSE = [
    Case("torch", numbers(5, 3), items=unreduced(F.mse_loss)),
    Case("one_dimension", numbers(7), items=unreduced(F.mse_loss)),
    Case("scalar", numbers(), items=unreduced(F.mse_loss)),
    Case("scikit_learn", numbers(7), value=numpied(sklearn.metrics.mean_squared_error), differentiable=False),
]
MAE = [
    Case("torch", numbers(5, 3), items=unreduced(F.l1_loss)),
    Case("scalar", numbers(), items=unreduced(F.l1_loss)),
    Case("scikit_learn", numbers(7), value=numpied(sklearn.metrics.mean_absolute_error), differentiable=False),
]
HUBER = [
    Case("torch", numbers(5, 3), items=unreduced(F.huber_loss)),
    *(
        Case(f"torch_{delta}", numbers(5, 3), {"delta": delta}, items=unreduced(F.huber_loss, delta=delta))
        for delta in (0.1, 0.5, 3.0)
    ),
    Case(
        "scipy",
        numbers(4, 5),
        {"delta": 0.7},
        items=numpied(lambda prediction, target: scipy.special.huber(0.7, prediction - target)),
        differentiable=False,
    ),
    Case(
        "smooth_l1_times_beta",
        numbers(9),
        {"delta": 0.4},
        items=lambda p, t: 0.4 * F.smooth_l1_loss(p, t, beta=0.4, reduction="none"),
    ),
]

# --- metric ----------------------------------------------------------------------------------------------------------

EUCLIDEAN = pml_distances.LpDistance(normalize_embeddings=False, power=1)
SQUARED = pml_distances.LpDistance(normalize_embeddings=False, power=2)
COSINE = pml_distances.CosineSimilarity()
PML_DISTANCES = {"euclidean": EUCLIDEAN, "squared_euclidean": SQUARED, "cosine": COSINE}


def apart(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Return the distance of two vectors."""
    if distance == "cosine":
        return 1 - (first @ second) / (first.norm() * second.norm())
    squared = ((first - second) ** 2).sum()
    if distance == "squared_euclidean" or not squared:
        return squared
    return squared.sqrt()


def labelled(size: int = 7, count: int = 3, dimension: int = 3) -> Callable[[Generator], Batch]:
    """Return a drawer of embeddings whose classes differ in size: some may hold one embedding, some none."""

    def draw(random: Generator) -> Batch:
        labels = (uniform(random, size) ** 2 * count).long()
        labels[:3] = torch.tensor([0, 0, 1])  # there is something to compare
        return Batch(normal(random, size, dimension), labels)

    return draw


def with_reference(draw: Callable[[Generator], Batch], size: int = 5) -> Callable[[Generator], Batch]:
    def drawer(random: Generator) -> Batch:
        embeddings, labels, options, _ = draw(random)
        others, other_labels = normal(random, size, embeddings.shape[1]), torch.randint(3, (size,), generator=random)
        other_labels[:2] = torch.tensor([0, 1])
        return Batch(embeddings, labels, {**options, "reference": (others, other_labels)})

    return drawer


def with_indices(
    draw: Callable[[Generator], Batch], make: Callable[..., tuple[Tensor, ...]]
) -> Callable[[Generator], Batch]:
    """Return a drawer that adds the tuple that a miner makes of a batch."""

    def drawer(random: Generator) -> Batch:
        embeddings, labels, options, _ = draw(random)
        others, other_labels = options.get("reference", (embeddings, labels))
        sides = (
            (embeddings.detach(), labels)
            if "reference" not in options
            else (embeddings.detach(), labels, others.detach(), other_labels)
        )
        return Batch(embeddings, labels, {**options, "indices": make(*sides)})

    return drawer


def given_pairs(random: Generator) -> Batch:
    return Batch(Pairs(normal(random, 8, 3), normal(random, 8, 3)), torch.arange(8) % 3 == 0)


def given_triplets(random: Generator) -> Batch:
    return Batch(Triplets(normal(random, 8, 3), normal(random, 8, 3), normal(random, 8, 3)), None)


def some_triplets(
    embeddings: Tensor, labels: Tensor, others: Tensor | None = None, other_labels: Tensor | None = None
) -> Any:
    """Return every second triplet of a batch, the first of them twice."""
    triplets = list(triplets_of(labels, labels if other_labels is None else other_labels, others is not None))[::2]
    return tuple(torch.tensor(column, dtype=torch.long) for column in zip(*triplets, triplets[0], strict=True))


def some_pairs(
    embeddings: Tensor, labels: Tensor, others: Tensor | None = None, other_labels: Tensor | None = None
) -> Any:
    """Return every second positive pair and every third negative one, the first of each twice."""
    positive, negative = pairs_of(labels, labels if other_labels is None else other_labels, others is not None)
    columns = (*zip(*positive[::2], positive[0], strict=True), *zip(*negative[::3], negative[0], strict=True))
    return tuple(torch.tensor(column, dtype=torch.long) for column in columns)


def pairs_of(
    labels: Tensor, other_labels: Tensor, has_reference: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    positive, negative = [], []
    for i, j in itertools.product(range(len(labels)), range(len(other_labels))):
        if i == j and not has_reference:
            continue
        (positive if labels[i] == other_labels[j] else negative).append((i, j))
    return positive, negative


def triplets_of(labels: Tensor, other_labels: Tensor, has_reference: bool) -> Iterator[tuple[int, int, int]]:
    positive, negative = pairs_of(labels, other_labels, has_reference)
    for anchor, near in positive:
        for second, far in negative:
            if anchor == second:
                yield anchor, near, far


def tuple_as_pairs(indices: tuple[Tensor, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    columns = [column.tolist() for column in indices]
    if len(columns) == 3:
        columns = [columns[0], columns[1], columns[0], columns[2]]
    return list(zip(*columns[:2], strict=True)), list(zip(*columns[2:], strict=True))


def contrastive_loop(
    margin: float = 1.0, positive_margin: float = 0.0, power: int = 2, distance: str = "euclidean"
) -> Answer:
    """Hadsell, Chopra, LeCun 2006, eq. 4, pair by pair; without a square for power=1."""

    def cost(first: Tensor, second: Tensor, same: bool) -> Tensor:
        d = apart(first, second, distance)
        excess = torch.clamp(d - positive_margin if same else margin - d, min=0)
        return excess**2 / 2 if power == 2 else excess

    def items(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            return torch.stack([cost(a, b, bool(same)) for a, b, same in zip(*output, target > 0, strict=True)])
        others, other_labels = (output, target) if reference is None else reference
        if indices is not None:
            positive, negative = tuple_as_pairs(indices)
            return torch.stack(
                [
                    cost(output[i], others[j], same)
                    for same, pairs in ((True, positive), (False, negative))
                    for i, j in pairs
                ]
            )
        pairs = itertools.product(range(len(output)), range(len(others)))
        wanted = [(i, j) for i, j in pairs if reference is not None or i < j]
        return torch.stack([cost(output[i], others[j], bool(target[i] == other_labels[j])) for i, j in wanted])

    return items


def balanced(items: Answer) -> Answer:
    """Return the mean over active pairs of one class plus the mean over active pairs of two, from a loop over pairs."""

    def value(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        costs = items(output, target, indices=indices, reference=reference)
        if isinstance(output, Pairs):
            same = target > 0
        elif indices is not None:
            same = torch.arange(len(costs)) < len(indices[0])
        else:
            _, other_labels = (output, target) if reference is None else reference
            grid = target.unsqueeze(1) == other_labels
            same = grid.flatten() if reference is not None else grid[*torch.triu_indices(len(target), len(target), 1)]
        sides = [costs[side & (costs > 0)] for side in (same, ~same)]
        return sum((side.mean() for side in sides if len(side)), start=costs.sum() * 0)

    return value


def pml(loss: Any) -> Answer:
    """Return a loss of pytorch-metric-learning, called as ours are."""

    def value(embeddings: Tensor, labels: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        return loss(embeddings, labels, indices, *((None, None) if reference is None else reference))

    return value


def pml_contrastive(margin: float = 1.0, positive_margin: float = 0.0, distance: str = "euclidean") -> Answer:
    if distance == "cosine":  # a similarity there, 1 - similarity here
        margin, positive_margin = 1 - margin, 1 - positive_margin
    return pml(
        pml_losses.ContrastiveLoss(pos_margin=positive_margin, neg_margin=margin, distance=PML_DISTANCES[distance])
    )


def contrastive_case(name: str, draw: Callable[[Generator], Batch], average: str = "all", **parameters: Any) -> Case:
    items = contrastive_loop(**parameters)
    mean: dict[str, Any] = {"all": {}, "active": {"mass": active}, "balanced": {"value": balanced(items)}}[average]
    return Case(name, draw, {**parameters, "average": average}, items=items, **mean)


LABELLED = labelled()
PML_MINERS = {
    "pair_margin": pml_miners.PairMarginMiner(pos_margin=0.2, neg_margin=2.5, distance=EUCLIDEAN),
    "batch_hard": pml_miners.BatchHardMiner(distance=EUCLIDEAN),
    "semi_hard": pml_miners.TripletMarginMiner(margin=1.0, type_of_triplets="semihard", distance=EUCLIDEAN),
    "easy_hard": pml_miners.BatchEasyHardMiner(distance=EUCLIDEAN),
}
CONTRASTIVE = [
    contrastive_case("hadsell", LABELLED, margin=2.0),
    contrastive_case("hadsell_pairs", given_pairs, margin=2.0),
    *(
        contrastive_case(
            f"{form}_{distance}_{average}_power_{power}",
            draw,
            average,
            distance=distance,
            power=power,
            margin=margin,
            **more,
        )
        for form, draw in (("batch", LABELLED), ("pairs", given_pairs))
        for distance, margin in (("euclidean", 2.0), ("squared_euclidean", 5.0), ("cosine", 0.8))
        for average in ("all", "active", "balanced")
        for power, more in ((1, {"positive_margin": 0.25}), (2, {}))
    ),
    contrastive_case("positive_margin_squared", LABELLED, "active", margin=2.0, positive_margin=0.5),
    *(
        contrastive_case(f"{name}_{average}", draw, average, margin=2.5, power=power)
        for average, power in (("all", 2), ("active", 1), ("balanced", 1), ("balanced", 2))
        for name, draw in (
            (f"indices_of_triplets_power_{power}", with_indices(LABELLED, some_triplets)),
            (f"indices_of_pairs_power_{power}", with_indices(LABELLED, some_pairs)),
            (f"reference_power_{power}", with_reference(LABELLED)),
            (f"reference_indices_power_{power}", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    *(
        Case(
            f"pml_{distance}_{name}",
            draw,
            {"margin": margin, "positive_margin": 0.25, "power": 1, "average": "balanced", "distance": distance},
            value=pml_contrastive(margin, 0.25, distance),
        )
        for distance, margin in (("euclidean", 2.0), ("squared_euclidean", 5.0), ("cosine", 0.8))
        for name, draw in (
            ("batch", labelled(size=20, count=5)),
            ("reference", with_reference(LABELLED)),
            *((name, with_indices(labelled(size=12, count=4), miner)) for name, miner in PML_MINERS.items()),
            ("reference_miner", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
        )
    ),
]

# --- triplet ---------------------------------------------------------------------------------------------------------


def mined(
    distances: Tensor, labels: Tensor, other_labels: Tensor, has_reference: bool, mining: str
) -> list[tuple[int, int, int]]:
    """Return the triplets that count, found by comparing every candidate with every other."""
    triplets = list(triplets_of(labels, other_labels, has_reference))
    if mining == "all":
        return triplets
    chosen = []
    for anchor in range(len(labels)):
        near = sorted({p for a, p, _ in triplets if a == anchor})
        far = sorted({n for a, _, n in triplets if a == anchor})
        if not near:
            continue
        if mining == "hard":  # Hermans et al. 2017, eq. 5
            chosen.append(
                (anchor, max(near, key=lambda p: distances[anchor, p]), min(far, key=lambda n: distances[anchor, n]))
            )
            continue
        for p in near:  # Schroff et al. 2015, section 3.2, as in FaceNet's own code
            farther = [n for n in far if distances[anchor, n] > distances[anchor, p]]
            if farther:
                chosen.append((anchor, p, min(farther, key=lambda n: distances[anchor, n])))
            else:
                chosen.append((anchor, p, max(far, key=lambda n: distances[anchor, n])))
    return chosen


def triplet_loop(
    margin: float | str = 0.2, distance: str = "euclidean", mining: str = "all", swap: bool = False
) -> Answer:
    def cost(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near, far = apart(anchor, positive, distance), apart(anchor, negative, distance)
        if swap:
            far = torch.minimum(far, apart(positive, negative, distance))
        return torch.log1p(torch.exp(near - far)) if margin == "soft" else torch.clamp(near - far + margin, min=0)

    def items(output: Any, target: Tensor | None, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Triplets):
            return torch.stack([cost(*row) for row in zip(*output, strict=True)])
        others, other_labels = (output, target) if reference is None else reference
        if indices is not None:
            positive, negative = tuple_as_pairs(indices)
            triplets = (
                list(zip(*(column.tolist() for column in indices), strict=True))
                if len(indices) == 3
                else [(a, p, n) for a, p in positive for b, n in negative if a == b]
            )
        else:
            distances = torch.stack([torch.stack([apart(a, b, distance) for b in others]) for a in output]).detach()
            triplets = mined(distances, target, other_labels, reference is not None, mining)
        if not triplets:
            return output.sum(1)[:0]
        return torch.stack([cost(output[a], others[p], others[n]) for a, p, n in triplets])

    return items


def triplet_case(name: str, draw: Callable[[Generator], Batch], average: str = "active", **parameters: Any) -> Case:
    mass = {"mass": active} if average == "active" else {}
    return Case(name, draw, {**parameters, "average": average}, items=triplet_loop(**parameters), **mass)


def torch_triplet(distance: str, margin: float, swap: bool) -> Answer:
    def items(output: Triplets, target: None) -> Tensor:
        if distance == "euclidean":
            return F.triplet_margin_loss(*output, margin=margin, eps=0.0, swap=swap, reduction="none")
        functions = {
            "squared_euclidean": lambda a, b: (a - b).square().sum(1),
            "cosine": lambda a, b: 1 - F.cosine_similarity(a, b),
        }
        return F.triplet_margin_with_distance_loss(
            *output, distance_function=functions[distance], margin=margin, swap=swap, reduction="none"
        )

    return items


def pml_triplet(margin: float | str, distance: str, average: str = "active", swap: bool = False) -> Answer:
    reducer = pml_reducers.AvgNonZeroReducer() if average == "active" else pml_reducers.MeanReducer()
    soft = margin == "soft"
    return pml(
        pml_losses.TripletMarginLoss(
            margin=0.0 if soft else margin,
            smooth_loss=soft,
            swap=swap,
            distance=PML_DISTANCES[distance],
            reducer=reducer,
        )
    )


MARGINS = {"euclidean": 0.8, "squared_euclidean": 2.0, "cosine": 0.3}
TRIPLET = [
    triplet_case("facenet_default", LABELLED),
    *(
        triplet_case(f"{mining}_{distance}_{margin}", LABELLED, mining=mining, distance=distance, margin=margin)
        for mining in ("all", "hard", "semi_hard")
        for distance, number in MARGINS.items()
        for margin in (number, "soft")
    ),
    *(
        triplet_case(
            f"{mining}_average_all_swap_{swap}_{margin}", LABELLED, "all", mining=mining, margin=margin, swap=swap
        )
        for mining in ("all", "hard", "semi_hard")
        for margin in (0.8, "soft")
        for swap in (False, True)
    ),
    *(
        triplet_case(f"{mining}_swap_{distance}", LABELLED, mining=mining, margin=margin, swap=True, distance=distance)
        for mining in ("all", "hard", "semi_hard")
        for distance, margin in MARGINS.items()
    ),
    *(
        triplet_case(
            f"{mining}_reference_{margin}_swap_{swap}",
            with_reference(LABELLED),
            mining=mining,
            margin=margin,
            swap=swap,
        )
        for mining in ("all", "hard", "semi_hard")
        for margin in (0.8, "soft")
        for swap in (False, True)
    ),
    triplet_case("margin_zero", LABELLED, margin=0.0),
    triplet_case("imbalanced", labelled(size=9, count=2), margin=0.8, mining="semi_hard"),
    *(
        triplet_case(f"{name}_{average}", draw, average, margin=margin, swap=swap)
        for average, margin, swap in (("all", 0.8, True), ("active", 0.8, False), ("active", "soft", False))
        for name, draw in (
            (f"given_{margin}", given_triplets),
            (f"indices_of_triplets_{margin}", with_indices(LABELLED, some_triplets)),
            (f"indices_of_pairs_{margin}", with_indices(LABELLED, some_pairs)),
            (f"reference_indices_{margin}", with_indices(with_reference(LABELLED), some_triplets)),
        )
    ),
    *(
        Case(
            f"torch_{distance}_swap_{swap}",
            given_triplets,
            {"distance": distance, "margin": margin, "swap": swap, "average": "all"},
            items=torch_triplet(distance, margin, swap),
        )
        for distance, margin in MARGINS.items()
        for swap in (False, True)
    ),
    *(
        Case(
            f"pml_{distance}_{margin}_{average}_swap_{swap}",
            labelled(size=20, count=5),
            {"distance": distance, "margin": margin, "average": average, "swap": swap},
            value=pml_triplet(margin, distance, average, swap),
        )
        for distance, number in MARGINS.items()
        for margin in (number, "soft")
        for average in ("active", "all")
        for swap in (False, True)
    ),
    *(
        Case(
            f"pml_miner_{name}",
            with_indices(labelled(size=12, count=4), miner),
            {"margin": 0.8},
            value=pml_triplet(0.8, "euclidean"),
        )
        for name, miner in PML_MINERS.items()
    ),
    Case(
        "pml_batch_hard",
        labelled(size=12, count=4),
        {"margin": 0.8, "mining": "hard"},
        value=lambda embeddings, labels: pml_triplet(0.8, "euclidean")(
            embeddings, labels, indices=PML_MINERS["batch_hard"](embeddings.detach(), labels)
        ),
    ),
    Case("pml_reference", with_reference(LABELLED), {"margin": 0.8}, value=pml_triplet(0.8, "euclidean")),
]

# --- circle ----------------------------------------------------------------------------------------------------------


def circle_row(positive: list[Tensor], negative: list[Tensor], margin: float, scale: float) -> Tensor:
    """Sun et al. 2020, eq. 6, with the weights of eq. 5 held constant; optima and margins as in section 3.2."""
    pull = [torch.exp(-scale * max(0.0, 1 + margin - s.item()) * (s - (1 - margin))) for s in positive]
    push = [torch.exp(scale * max(0.0, s.item() + margin) * (s - margin)) for s in negative]
    return torch.log(1 + sum(push) * sum(pull))


def circle_loop(margin: float = 0.4, scale: float = 80.0) -> Answer:
    def items(output: Any, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            similarity = [1 - apart(a, b, "cosine") for a, b in zip(*output, strict=True)]
            sides = [
                [s for s, same in zip(similarity, target > 0, strict=True) if same == side] for side in (True, False)
            ]
            return circle_row(*sides, margin, scale).unsqueeze(0)
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        rows = []
        for anchor in range(len(output)):
            near, far = (
                [1 - apart(output[i], others[j], "cosine") for i, j in sorted(set(s)) if i == anchor]
                for s in (positive, negative)
            )
            rows.append(circle_row(near, far, margin, scale) if near and far else output[anchor].sum() * 0)
        return torch.stack(rows)

    return items


def circle_case(name: str, draw: Callable[[Generator], Batch], **parameters: Any) -> Case:
    return Case(name, draw, parameters, items=circle_loop(**parameters), mass=active, paced=True)


def pml_circle(margin: float, scale: float) -> Answer:
    return pml(pml_losses.CircleLoss(m=margin, gamma=scale))


CIRCLE = [
    circle_case("default", LABELLED),
    circle_case("pairs", given_pairs, scale=10.0),
    *(
        circle_case(f"margin_{m}_scale_{s:g}", LABELLED, margin=m, scale=s)
        for m, s in ((0.25, 128.0), (0.1, 4.0), (-0.1, 4.0), (0.0, 1.0))
    ),
    *(
        circle_case(name, draw, margin=0.25, scale=16.0)
        for name, draw in (
            ("reference", with_reference(LABELLED)),
            ("indices_of_triplets", with_indices(LABELLED, some_triplets)),
            ("indices_of_pairs", with_indices(LABELLED, some_pairs)),
            ("reference_indices", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    *(
        Case(
            f"pml_{name}_margin_{m}_scale_{s:g}",
            draw,
            {"margin": m, "scale": s},
            value=pml_circle(m, s),
            paced=True,
        )
        for m, s in ((0.4, 80.0), (0.25, 16.0))
        for name, draw in (
            ("batch", labelled(size=20, count=5)),
            ("reference", with_reference(LABELLED)),
            ("indices", with_indices(labelled(size=12, count=4), PML_MINERS["pair_margin"])),
            ("triplets", with_indices(labelled(size=12, count=4), PML_MINERS["batch_hard"])),
            ("reference_indices", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
        )
    ),
]

# --- supervised_contrastive -------------------------------------------------------------------------------------------


def cosines_of(output: Tensor, others: Tensor, pairs: Iterable[tuple[int, int]], anchor: int) -> list[Tensor]:
    """Return the similarity of every pair of one anchor."""
    return [1 - apart(output[i], others[j], "cosine") for i, j in pairs if i == anchor]


def supcon_loop(temperature: float = 0.1) -> Answer:
    """Khosla et al. 2020, eq. 2, anchor by anchor."""

    def items(output: Tensor, target: Tensor, indices: Any = None, reference: Any = None) -> Tensor:
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        rows = []
        for anchor in range(len(output)):
            near = cosines_of(output, others, sorted(set(positive)), anchor)
            everything = cosines_of(output, others, sorted({*positive, *negative}), anchor)
            if not near or len(everything) == 1:
                rows.append(output[anchor].sum() * 0)
                continue
            partition = sum(torch.exp(s / temperature) for s in everything)
            rows.append(-sum(torch.log(torch.exp(s / temperature) / partition) for s in near) / len(near))
        return torch.stack(rows)

    return items


def supcon_case(name: str, draw: Callable[[Generator], Batch], **parameters: Any) -> Case:
    return Case(name, draw, parameters, items=supcon_loop(**parameters), mass=active)


SUPERVISED_CONTRASTIVE = [
    supcon_case("default", LABELLED),
    *(supcon_case(f"temperature_{t:g}", LABELLED, temperature=t) for t in (0.05, 0.5, 1.0, 20.0)),
    *(
        supcon_case(name, draw, temperature=0.3)
        for name, draw in (
            ("one_class", labelled(size=5, count=1)),
            ("reference", with_reference(LABELLED)),
            ("indices_of_triplets", with_indices(LABELLED, some_triplets)),
            ("indices_of_pairs", with_indices(LABELLED, some_pairs)),
            ("reference_indices", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    *(
        Case(f"pml_{name}_temperature_{t:g}", draw, {"temperature": t}, value=pml(pml_losses.SupConLoss(temperature=t)))
        for t in (0.1, 0.7)
        for name, draw in (
            ("batch", labelled(size=20, count=5)),
            ("reference", with_reference(LABELLED)),
            ("indices", with_indices(labelled(size=12, count=4), PML_MINERS["pair_margin"])),
            ("triplets", with_indices(labelled(size=12, count=4), PML_MINERS["batch_hard"])),
            ("reference_indices", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
        )
    ),
]

# --- info_nce --------------------------------------------------------------------------------------------------------


def matching_rows(random: Generator) -> Batch:
    return Batch(Pairs(normal(random, 5, 3), normal(random, 5, 3)), None)


def info_nce_row(positive: Tensor, negative: list[Tensor], temperature: float) -> Tensor:
    """van den Oord et al. 2018, eq. 4, with the density ratio exp(cosine / temperature) of the later papers."""
    ratio = torch.exp(positive / temperature)
    return -torch.log(ratio / (ratio + sum(torch.exp(s / temperature) for s in negative)))


def info_nce_loop(temperature: float = 0.1, negatives: str = "second", direction: str = "both") -> Answer:
    def of_pairs(pairs: Pairs) -> Tensor:
        rows = []
        for anchors, partners in [tuple(pairs), tuple(pairs)[::-1]][: 2 if direction == "both" else 1]:
            for i in range(len(anchors)):
                others = [
                    side[j]
                    for side in ((partners, anchors) if negatives == "both" else (partners,))
                    for j in range(len(side))
                    if j != i
                ]
                near, *far = (1 - apart(anchors[i], other, "cosine") for other in (partners[i], *others))
                rows.append(info_nce_row(near, far, temperature))
        return torch.stack(rows)

    def items(output: Any, target: Any, indices: Any = None, reference: Any = None) -> Tensor:
        if isinstance(output, Pairs):
            return of_pairs(output)
        others, other_labels = (output, target) if reference is None else reference
        positive, negative = (
            pairs_of(target, other_labels, reference is not None) if indices is None else tuple_as_pairs(indices)
        )
        return torch.stack(
            [
                info_nce_row(
                    *cosines_of(output, others, [(i, j)], i), cosines_of(output, others, negative, i), temperature
                )
                for i, j in positive
            ]
        )

    return items


def clip(temperature: float, direction: str = "both") -> Answer:
    """Radford et al. 2021, figure 3: two cross-entropies on the matrix of similarities."""

    def items(pairs: Pairs, target: None) -> Tensor:
        first, second = (F.normalize(side, dim=1) for side in pairs)
        logits, match = first @ second.T / temperature, torch.arange(len(first))
        ways = [logits, logits.T][: 2 if direction == "both" else 1]
        return torch.cat([F.cross_entropy(way, match, reduction="none") for way in ways])

    return items


def simclr(temperature: float) -> Answer:
    def value(pairs: Pairs, target: None) -> Tensor:
        return pml_losses.NTXentLoss(temperature=temperature)(
            torch.cat(pairs), torch.arange(len(pairs.first)).repeat(2)
        )

    return value


def info_nce_case(name: str, draw: Callable[[Generator], Batch], **parameters: Any) -> Case:
    return Case(name, draw, parameters, items=info_nce_loop(**parameters))


INFO_NCE = [
    info_nce_case("default", LABELLED),
    *(info_nce_case(f"temperature_{t:g}", LABELLED, temperature=t) for t in (0.05, 0.5, 1.0, 20.0)),
    *(
        info_nce_case(
            f"pairs_{negatives}_{direction}", matching_rows, negatives=negatives, direction=direction, temperature=0.5
        )
        for negatives in ("second", "both")
        for direction in ("both", "forward")
    ),
    Case("pairs_clip", matching_rows, items=clip(0.1)),
    Case("pairs_clip_forward", matching_rows, {"temperature": 0.3, "direction": "forward"}, items=clip(0.3, "forward")),
    Case("pairs_pml_simclr", matching_rows, {"temperature": 0.3, "negatives": "both"}, value=simclr(0.3)),
    *(
        info_nce_case(name, draw, temperature=0.3)
        for name, draw in (
            ("reference", with_reference(LABELLED)),
            ("indices_of_triplets", with_indices(LABELLED, some_triplets)),
            ("indices_of_pairs", with_indices(LABELLED, some_pairs)),
            ("reference_indices", with_indices(with_reference(LABELLED), some_pairs)),
        )
    ),
    *(
        Case(f"pml_{name}_temperature_{t:g}", draw, {"temperature": t}, value=pml(pml_losses.NTXentLoss(temperature=t)))
        for t in (0.1, 0.7)
        for name, draw in (
            ("batch", labelled(size=20, count=5)),
            ("reference", with_reference(LABELLED)),
            ("listed_triplets", with_indices(LABELLED, some_triplets)),
            ("listed_pairs", with_indices(LABELLED, some_pairs)),
            ("indices", with_indices(labelled(size=12, count=4), PML_MINERS["pair_margin"])),
            ("triplets", with_indices(labelled(size=12, count=4), PML_MINERS["batch_hard"])),
            ("reference_indices", with_indices(with_reference(LABELLED), PML_MINERS["pair_margin"])),
        )
    ),
]

# --- divergences -----------------------------------------------------------------------------------------------------

FORMS = ("logits", "log_probs", "probs")


def distributions(output: str, target: str, *shape: int) -> Callable[[Generator], Batch]:
    """Return a drawer of two distributions, each in its form."""

    def draw(random: Generator) -> Batch:
        sides = []
        for form in (output, target):
            probs = probabilities(random, *(shape or (4, 5)))
            sides.append({"logits": probs.log() + 0.5, "log_probs": probs.log(), "probs": probs}[form].requires_grad_())
        return Batch(*sides)

    return draw


def against_zeros(random: Generator) -> Batch:
    """Draw logits against probabilities of which one in each row, and all but one in the first, is 0."""
    probs = probabilities(random, 4, 5)
    probs[:, 1] = 0
    probs[0, 2:] = 0
    return Batch(normal(random, 4, 5), probs / probs.sum(-1, keepdim=True))


def as_probs(values: Tensor, form: str, temperature: float = 1.0) -> Tensor:
    probs = {
        "logits": lambda: values.exp() / values.exp().sum(-1, keepdim=True),
        "log_probs": values.exp,
        "probs": lambda: values,
    }[form]()
    if temperature == 1:
        return probs
    powers = probs ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def relative_entropy_loop(first: Tensor, second: Tensor) -> Tensor:
    """Return sum p log(p / q) over the outcomes that p has mass on."""
    values = []
    for p, q in zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, first.shape[-1]), strict=True):
        values.append(sum((a * (a / b).log() for a, b in zip(p, q, strict=True) if a > 0), start=(p + q).sum() * 0))
    return torch.stack(values).reshape(first.shape[:-1])


def kl_loop(
    output: str = "logits", target: str = "probs", direction: str = "forward", temperature: float = 1.0
) -> Answer:
    def items(first: Tensor, second: Tensor) -> Tensor:
        o, t = as_probs(first, output, temperature), as_probs(second, target, temperature)
        return temperature**2 * (relative_entropy_loop(t, o) if direction == "forward" else relative_entropy_loop(o, t))

    return items


def kl_case(name: str, *shape: int, **parameters: Any) -> Case:
    draw = distributions(parameters.get("output", "logits"), parameters.get("target", "probs"), *shape)
    return Case(name, draw, parameters, items=kl_loop(**parameters))


def scipy_kl(direction: str = "forward") -> Answer:
    def items(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        probs = scipy.special.softmax(logits, axis=-1)
        return scipy.special.rel_entr(*((target, probs) if direction == "forward" else (probs, target))).sum(-1)

    return numpied(items)


def mpmath_kl(logits: Tensor, target: Tensor) -> list[float]:
    """Return KL(target || softmax(logits)) in fifty digits."""
    with mpmath.workdps(50):
        values = []
        for row, wanted in zip(logits.tolist(), target.tolist(), strict=True):
            partition = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in row))
            values.append(
                float(mpmath.fsum(t * (mpmath.log(t) - x + partition) for x, t in zip(row, wanted, strict=True) if t))
            )
        return values


def objects(
    make: Callable[..., Distribution], *parameters: Callable[[Generator], Tensor]
) -> Callable[[Generator], Batch]:
    def draw(random: Generator) -> Batch:
        leaves = [parameter(random) for parameter in (*parameters, *parameters)]
        return Batch(make(*leaves[: len(parameters)]), make(*leaves[len(parameters) :]), leaves=tuple(leaves))

    return draw


def torch_kl_items(direction: str) -> Answer:
    return lambda output, target: torch_kl(target, output) if direction == "forward" else torch_kl(output, target)


def normal_kl_by_hand(output: Normal, target: Normal) -> Tensor:
    """KL(N(m1, s1) || N(m2, s2)) of the target from the output, written out."""
    (m1, s1), (m2, s2) = (target.loc, target.scale), (output.loc, output.scale)
    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def positive(random: Generator, *shape: int) -> Tensor:
    return (uniform(random, *shape) + 0.5).requires_grad_()


def real(*shape: int) -> Callable[[Generator], Tensor]:
    return lambda random: normal(random, *shape)


def above_zero(*shape: int) -> Callable[[Generator], Tensor]:
    return lambda random: positive(random, *shape)


OBJECTS = {
    "normal": objects(Normal, real(4, 2), above_zero(4, 2)),
    "independent_normal": objects(
        lambda mean, scale: Independent(Normal(mean, scale), 1), real(4, 2), above_zero(4, 2)
    ),
    "gamma": objects(Gamma, above_zero(4), above_zero(4)),
    "beta": objects(Beta, above_zero(4), above_zero(4)),
    "laplace": objects(Laplace, real(4), above_zero(4)),
    "dirichlet": objects(Dirichlet, above_zero(3, 4)),
    "categorical": objects(lambda logits: Categorical(logits=logits), real(3, 4)),
    "bernoulli": objects(lambda logits: Bernoulli(logits=logits), real(5)),
}

KL_DIVERGENCE = [
    *(
        kl_case(
            f"{output}_against_{target}_{direction}_temperature_{temperature:g}", output=output, target=target, **more
        )
        for output, target in itertools.product(FORMS, FORMS)
        for direction, temperature in itertools.product(("forward", "reverse"), (1.0, 2.5))
        for more in [{"direction": direction, "temperature": temperature}]
    ),
    kl_case("one_distribution", 5),
    kl_case("leading_dimensions", 2, 3, 4),
    kl_case("temperature_below_one", temperature=0.5),
    Case("scipy", distributions("logits", "probs"), items=scipy_kl(), differentiable=False, tangent=True),
    Case(
        "scipy_reverse",
        distributions("logits", "probs"),
        {"direction": "reverse"},
        items=scipy_kl("reverse"),
        differentiable=False,
        tangent=True,
    ),
    Case(
        "scipy_zeros",
        against_zeros,
        items=scipy_kl(),
        differentiable=False,
    ),
    Case(
        "mpmath",
        lambda random: Batch((30 * normal(random, 4, 5)).detach().requires_grad_(), probabilities(random, 4, 5)),
        items=mpmath_kl,
        differentiable=False,
    ),
    Case(
        "torch_kl_div_batchmean",
        distributions("log_probs", "probs"),
        {"output": "log_probs"},
        value=lambda o, t: F.kl_div(o, t, reduction="batchmean"),
        items=lambda o, t: F.kl_div(o, t, reduction="none").sum(-1),
    ),
    Case(
        "torch_kl_div_log_target",
        distributions("log_probs", "log_probs"),
        {"output": "log_probs", "target": "log_probs"},
        value=lambda o, t: F.kl_div(o, t, reduction="batchmean", log_target=True),
    ),
    Case(
        "torch_categorical",
        distributions("logits", "logits"),
        {"target": "logits"},
        items=lambda o, t: torch_kl(Categorical(logits=t), Categorical(logits=o)),
    ),
    Case(
        "torch_categorical_probs_reverse",
        distributions("probs", "probs"),
        {"output": "probs", "direction": "reverse"},
        items=lambda o, t: torch_kl(Categorical(probs=o), Categorical(probs=t)),
        tangent=True,
    ),
    Case(
        "hinton_temperature",
        distributions("logits", "logits"),
        {"target": "logits", "temperature": 4.0},
        items=lambda o, t: 16 * torch_kl(Categorical(logits=t / 4), Categorical(logits=o / 4)),
    ),
    *(
        Case(f"objects_{name}_{direction}", draw, {"direction": direction}, items=torch_kl_items(direction))
        for name, draw in OBJECTS.items()
        for direction in ("forward", "reverse")
    ),
    Case("objects_normal_by_hand", OBJECTS["normal"], items=normal_kl_by_hand),
]


def js_loop(output: str = "logits", target: str = "probs", mixture: float = 0.5) -> Answer:
    """Lin 1991, eq. 4.1: the entropy of the mixture above the mixture of the entropies, as two divergences."""

    def items(first: Tensor, second: Tensor) -> Tensor:
        o, t = as_probs(first, output), as_probs(second, target)
        middle = (1 - mixture) * o + mixture * t
        return (1 - mixture) * relative_entropy_loop(o, middle) + mixture * relative_entropy_loop(t, middle)

    return items


def js_by_entropies(logits: np.ndarray, target: np.ndarray, mixture: float = 0.3) -> np.ndarray:
    probs = scipy.special.softmax(logits, axis=-1)
    entropy = [scipy.stats.entropy(p, axis=-1) for p in ((1 - mixture) * probs + mixture * target, probs, target)]
    return entropy[0] - (1 - mixture) * entropy[1] - mixture * entropy[2]


def scipy_js(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return scipy.spatial.distance.jensenshannon(scipy.special.softmax(logits, axis=-1), target, axis=-1) ** 2


JS_DIVERGENCE = [
    *(
        Case(
            f"{output}_against_{target}_mixture_{mixture}",
            distributions(output, target),
            {"output": output, "target": target, "mixture": mixture},
            items=js_loop(output, target, mixture),
        )
        for output, target in itertools.product(FORMS, FORMS)
        for mixture in (0.5, 0.2)
    ),
    Case("leading_dimensions", distributions("logits", "probs", 2, 3, 4), items=js_loop()),
    Case("scipy", distributions("logits", "probs"), items=numpied(scipy_js), differentiable=False, tangent=True),
    Case("scipy_zeros", against_zeros, items=numpied(scipy_js), differentiable=False),
    Case(
        "scipy_entropies",
        distributions("logits", "probs"),
        {"mixture": 0.3},
        items=numpied(js_by_entropies),
        differentiable=False,
        tangent=True,
    ),
]

# --- wasserstein -----------------------------------------------------------------------------------------------------


def samples(first: int, second: int, *leading: int, weighted: str = "") -> Callable[[Generator], Batch]:
    """Return a drawer of samples on a line; those named in ``weighted`` carry weights that do not sum to 1."""

    def draw(random: Generator) -> Batch:
        sides: list[Any] = []
        for name, size in (("output", first), ("target", second)):
            points: Any = normal(random, *leading, size)
            sides.append(Samples(points, positive(random, *leading, size)) if name in weighted else points)
        return Batch(*sides)

    return draw


def as_samples(value: Any) -> tuple[Tensor, Tensor]:
    points, weights = value if isinstance(value, tuple) else (value, torch.ones_like(value))
    return points, weights / weights.sum(-1, keepdim=True)


def each(function: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    """Return a function of two weighted samples on one line as one of batches of them."""

    def call(output: Any, target: Any) -> Tensor:
        parts = (*as_samples(output), *as_samples(target))
        rows = zip(*(part.reshape(-1, part.shape[-1]) for part in parts), strict=True)
        return torch.stack([torch.as_tensor(function(*row), dtype=torch.float64) for row in rows]).reshape(
            parts[0].shape[:-1]
        )

    return call


def north_west(p: float, value: str = "distance") -> Callable[..., Tensor]:
    """Return W_p by the north-west corner rule: on a line, the leftmost mass goes to the leftmost place that is
    free."""

    def cost(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> Tensor:
        order, other = first.argsort(), second.argsort()
        left, right = list(first_mass[order]), list(second_mass[other])
        i = j = 0
        total = torch.zeros((), dtype=torch.float64)
        while i < len(left) and j < len(right):
            moved = torch.minimum(left[i], right[j])
            total = total + moved * (first[order[i]] - second[other[j]]).abs() ** p
            left[i], right[j] = left[i] - moved, right[j] - moved
            if left[i] <= right[j]:
                i += 1
            else:
                j += 1
        return total if value == "cost" else total ** (1 / p)

    return cost


def linear_program(p: float) -> Callable[..., float]:
    """Return W_p as the optimum over all couplings."""

    def distance(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
        a, u, b, v = (part.detach().numpy() for part in (first, first_mass, second, second_mass))
        costs = np.abs(a[:, None] - b[None, :]) ** p
        rows = np.kron(np.eye(len(a)), np.ones(len(b)))
        columns = np.kron(np.ones(len(a)), np.eye(len(b)))
        result = scipy.optimize.linprog(
            costs.ravel(), A_eq=np.vstack([rows, columns])[:-1], b_eq=np.concatenate([u, v])[:-1]
        )
        return float(result.fun ** (1 / p))

    return distance


def assignment(p: float) -> Callable[..., float]:
    """Return W_p of equally many equal weights as the best matching."""

    def distance(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
        costs = np.abs(first.detach().numpy()[:, None] - second.detach().numpy()[None, :]) ** p
        return float(costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / p))

    return distance


def scipy_wasserstein(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
    a, u, b, v = (part.detach().numpy() for part in (first, first_mass, second, second_mass))
    return float(scipy.stats.wasserstein_distance(a, b, u, v))


def on_support(positions: list[float] | None, form: str, function: Callable[..., Any]) -> Answer:
    """Return a function of two weighted samples as one of two histograms."""

    def items(output: Tensor, target: Tensor) -> Tensor:
        support = torch.tensor(list(range(output.shape[-1])) if positions is None else positions, dtype=torch.float64)
        sides = [(support.expand_as(part), part.exp() if form == "logits" else part) for part in (output, target)]
        return each(function)(*sides)

    return items


POSITIONS = [2.0, -1.5, 0.0, 7.25, 3.0]
WASSERSTEIN = [
    *(
        Case(f"scipy_{name}", draw, items=each(scipy_wasserstein), differentiable=False)
        for name, draw in (
            ("equal_sizes", samples(5, 5)),
            ("unequal_sizes", samples(5, 3)),
            ("weights", samples(5, 4, weighted="output target")),
            ("weights_of_target", samples(4, 4, weighted="target")),
            ("batches", samples(4, 3, 2, 3)),
        )
    ),
    *(
        Case(f"{name}_p_{p:g}_{value}", draw, {"p": p, "value": value}, items=each(north_west(p, value)))
        for p in (1.0, 2.0, 3.0, 1.5)
        for value in ("distance", "cost")
        for name, draw in (
            ("equal_sizes", samples(5, 5, 2)),
            ("unequal_sizes", samples(5, 3, 2)),
            ("multiple_sizes", samples(6, 3)),
            ("weights", samples(5, 4, 2, weighted="output target")),
        )
    ),
    *(
        Case(f"matching_p_{p:g}", samples(6, 6, 2), {"p": p}, items=each(assignment(p)), differentiable=False)
        for p in (1.0, 2.0, 3.0)
    ),
    *(
        Case(
            f"linear_program_p_{p:g}",
            samples(4, 3, weighted="output target"),
            {"p": p},
            items=each(linear_program(p)),
            differentiable=False,
        )
        for p in (1.0, 2.0, 3.0)
    ),
    *(
        Case(
            f"histogram_{form}_{'positions' if positions else 'plain'}_p_{p:g}_{value}",
            distributions(form, form),
            {"input": form, "p": p, "value": value} | ({"positions": positions} if positions else {}),
            items=on_support(positions, form, north_west(p, value)),
            tangent=True,
        )
        for form in ("probs", "logits")
        for positions in (None, POSITIONS)
        for p, value in ((1.0, "distance"), (2.0, "distance"), (3.0, "cost"))
    ),
    *(
        Case(
            f"scipy_histogram_{name}",
            distributions("probs", "probs", 3, 5),
            {"input": "probs"} | ({"positions": positions} if positions else {}),
            items=on_support(positions, "probs", scipy_wasserstein),
            differentiable=False,
            tangent=True,
        )
        for name, positions in (("plain", None), ("positions", POSITIONS), ("sorted_positions", sorted(POSITIONS)))
    ),
    Case(
        "cumulated_differences",
        distributions("logits", "logits", 2, 3, 5),
        {"input": "logits"},
        items=lambda o, t: (o.softmax(-1).cumsum(-1) - t.softmax(-1).cumsum(-1)).abs()[..., :-1].sum(-1),
    ),
    Case(
        "linear_program_histogram",
        distributions("probs", "probs", 2, 5),
        {"input": "probs", "p": 2.0, "positions": POSITIONS},
        items=on_support(POSITIONS, "probs", linear_program(2.0)),
        differentiable=False,
        tangent=True,
    ),
]

# --- elbo ------------------------------------------------------------------------------------------------------------


def vae(*event: int, latent: tuple[int, ...] = (2,), binary: bool = False) -> Callable[[Generator], Batch]:
    def draw(random: Generator) -> Batch:
        target = coin(random, 4, *event).double() if binary else uniform(random, 4, *event)
        return Batch(
            VAEOutput(normal(random, 4, *event), normal(random, 4, *latent), normal(random, 4, *latent)), target
        )

    return draw


def latent_kl(output: VAEOutput) -> Tensor:
    posterior = Normal(output.mean, (output.log_variance / 2).exp())
    prior = Normal(torch.zeros_like(output.mean), torch.ones_like(output.mean))
    return torch_kl(posterior, prior)


def elbo_items(
    reconstruction: Callable[..., Tensor], beta: float = 1.0, free_bits: float = 0.0, capacity: float | None = None
) -> Answer:
    def items(output: VAEOutput, target: Tensor) -> Tensor:
        values = []
        missed, divergence = reconstruction(output.reconstruction, target), latent_kl(output)
        for sample in range(len(target)):
            nats = sum(torch.clamp(kl, min=free_bits) for kl in divergence[sample].flatten())
            if capacity is not None:
                nats = torch.abs(nats - capacity)
            values.append(missed[sample].sum() + beta * nats)
        return torch.stack(values)

    return items


def kl_by_quadrature(output: VAEOutput, target: Tensor) -> Tensor:
    """Integrate q log(q / p) over the latent line, and add the negative log-likelihood of Bernoulli pixels."""
    values = []
    for sample, (mean, log_variance) in enumerate(zip(output.mean.tolist(), output.log_variance.tolist(), strict=True)):
        (mean,), deviation = mean, math.exp(log_variance[0] / 2)

        def integrand(z: float, mean: float = mean, deviation: float = deviation) -> float:
            log_q = -(((z - mean) / deviation) ** 2) / 2 - math.log(deviation)
            return math.exp(log_q) / math.sqrt(2 * math.pi) * (log_q + z**2 / 2)

        nats, _ = scipy.integrate.quad(
            integrand, mean - 12 * deviation, mean + 12 * deviation, epsabs=1e-12, epsrel=1e-12
        )
        pixels = scipy.special.expit(output.reconstruction[sample].detach().numpy())
        values.append(nats - scipy.stats.bernoulli.logpmf(target[sample].numpy(), pixels).sum())
    return torch.tensor(values, dtype=torch.float64)


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    return -Bernoulli(logits=logits).log_prob(target)


BCE_ITEMS, MSE_ITEMS = torch_binary(), unreduced(F.mse_loss)
ELBO = [
    Case("torch_distributions", vae(3, binary=True), items=elbo_items(log_likelihood)),
    Case("probabilities", vae(3), items=elbo_items(BCE_ITEMS)),
    Case("images", vae(1, 2, 3), items=elbo_items(BCE_ITEMS)),
    Case("latent_of_one", vae(3, latent=()), items=elbo_items(BCE_ITEMS)),
    Case("latent_image", vae(3, latent=(2, 2)), items=elbo_items(BCE_ITEMS)),
    Case("quadrature", vae(3, latent=(1,), binary=True), items=kl_by_quadrature, differentiable=False),
    Case("mse", vae(2, 2), {"reconstruction": "mse"}, items=elbo_items(MSE_ITEMS)),
    Case(
        "gaussian_of_variance_half",
        vae(3),
        {"reconstruction": {"name": "mse"}},
        items=elbo_items(lambda r, x: -Normal(r, math.sqrt(0.5)).log_prob(x) - math.log(math.pi) / 2),
    ),
    Case(
        "nested",
        vae(3),
        {"reconstruction": {"name": "huber", "delta": 0.3}, "beta": 2.0},
        items=elbo_items(unreduced(F.huber_loss, delta=0.3), beta=2.0),
    ),
    Case(
        "nested_smoothing",
        vae(3),
        {"reconstruction": {"name": "binary_cross_entropy", "label_smoothing": 0.2}},
        items=elbo_items(binary_loop(0.2)),
    ),
    Case("beta", vae(3), {"beta": 4.0}, items=elbo_items(BCE_ITEMS, beta=4.0)),
    Case("beta_zero", vae(3), {"beta": 0.0}, items=elbo_items(BCE_ITEMS, beta=0.0)),
    Case("free_bits", vae(3, latent=(4,)), {"free_bits": 0.4}, items=elbo_items(BCE_ITEMS, free_bits=0.4)),
    Case("capacity", vae(3), {"capacity": 0.8}, items=elbo_items(BCE_ITEMS, capacity=0.8)),
    Case(
        "everything",
        vae(3, latent=(4,)),
        {"reconstruction": "mse", "beta": 3.0, "free_bits": 0.4, "capacity": 2.0},
        items=elbo_items(MSE_ITEMS, 3.0, 0.4, 2.0),
    ),
    Case("warmup_first_step", vae(3), {"warmup_steps": 4, "beta": 2.0}, items=elbo_items(BCE_ITEMS, beta=0.0)),
]

ORACLES: dict[str, list[Case]] = {
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "hinge": HINGE,
    "mse": MSE,
    "mae": MAE,
    "huber": HUBER,
    "contrastive": CONTRASTIVE,
    "triplet": TRIPLET,
    "circle": CIRCLE,
    "supervised_contrastive": SUPERVISED_CONTRASTIVE,
    "info_nce": INFO_NCE,
    "kl_divergence": KL_DIVERGENCE,
    "js_divergence": JS_DIVERGENCE,
    "wasserstein": WASSERSTEIN,
    "elbo": ELBO,
}
