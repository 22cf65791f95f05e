"""Whole batches at random, against pytorch-metric-learning or a loop over triplets."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses.adapters.pytorch_metric_learning import distances, reducers
from losses.adapters.pytorch_metric_learning import losses as pml
from losses.adapters.pytorch_metric_learning import miners as pml_miners

BATCHES = 200


class FromDifferences(distances.LpDistance):
    """Distances of points that coincide are exactly 0: torch.cdist uses a matrix product above 25 rows, which loses
    them."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor | None) -> Tensor:
        return torch.cdist(
            query_emb, query_emb if ref_emb is None else ref_emb, compute_mode="donot_use_mm_for_euclid_dist"
        )


EUCLIDEAN = FromDifferences(normalize_embeddings=False)


def batches(largest: int, *, small_classes: bool = False) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Draw embeddings and labels of all sizes and balances; every fourth batch holds points that coincide."""
    random = torch.Generator().manual_seed(0)
    for batch in range(BATCHES):
        size = 1 + round((largest - 1) * float(torch.rand((), generator=random)) ** 2) if batch else largest
        embeddings = torch.randn(size, 5, generator=random, dtype=torch.float64)
        classes = size // 3 + 1 if small_classes else int(torch.randint(1, 8, (), generator=random))
        labels = [
            torch.arange(size) % classes,
            (torch.rand(size, generator=random) ** 2 * classes).long(),  # imbalanced
            torch.arange(size).clamp(max=max(0, size - 4)),  # singletons, and one class of four
        ][batch % 3][torch.randperm(size, generator=random)]
        has_duplicates = batch % 4 == 0 and size > 5
        if has_duplicates:
            first, *others = torch.randperm(size, generator=random)[:4].tolist()
            embeddings[others] = embeddings[first].clone()
        yield embeddings, labels, has_duplicates


def backward(loss: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().requires_grad_()
    value = torch.as_tensor(loss(leaf, labels), dtype=torch.float64)
    if not value.requires_grad:
        return value, torch.zeros_like(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, materialize_grads=True, allow_unused=True)[0]


def assert_equal(ours: Any, theirs: Any, largest: int, *, ties: bool = False, **options: Any) -> None:
    """Compare value and gradient on all batches; the gradient not where duplicates leave open which point is chosen."""
    counted = 0
    for embeddings, labels, has_duplicates in batches(largest, **options):
        value, gradient = backward(ours, embeddings, labels)
        expected, of_other = backward(theirs, embeddings, labels)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
        assert gradient.isfinite().all()
        if not (ties and has_duplicates):
            torch.testing.assert_close(gradient, of_other, rtol=1e-10, atol=1e-10)
            counted += bool(gradient.any())
    assert counted > BATCHES / 4


@pytest.mark.parametrize("average", ["active", "all"])
def test_two_hundred_random_batches_of_all_triplets_equal_pytorch_metric_learning(average: str) -> None:
    reducer = reducers.MeanReducer() if average == "all" else reducers.AvgNonZeroReducer()
    theirs = pml.TripletMarginLoss(margin=0.5, distance=EUCLIDEAN, reducer=reducer)
    assert_equal(losses.create("triplet", margin=0.5, average=average), theirs, 120)


def test_two_hundred_random_batches_of_pairs_equal_pytorch_metric_learning() -> None:
    ours = losses.create("contrastive", margin=2.0, positive_margin=0.3, power=1, average="balanced")
    assert_equal(ours, pml.ContrastiveLoss(pos_margin=0.3, neg_margin=2.0, distance=EUCLIDEAN), 120)


def test_two_hundred_random_batches_of_the_circle_equal_pytorch_metric_learning() -> None:
    # their softplus is linear above 20, which is off by 2e-9: a scale at which no anchor gets there
    assert_equal(losses.create("circle", margin=0.25, scale=2.0), pml.CircleLoss(m=0.25, gamma=2), 120)


@pytest.mark.parametrize("settings", [{}, {"alpha": 3.0, "beta": 7.0, "base": 0.2}], ids=["default", "other"])
def test_two_hundred_random_batches_of_multi_similarity_equal_pytorch_metric_learning(
    settings: dict[str, float],
) -> None:
    assert_equal(losses.create("multi_similarity", **settings), pml.MultiSimilarityLoss(**settings), 120)


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
def test_two_hundred_random_batches_of_mined_multi_similarity_equal_pytorch_metric_learning(epsilon: float) -> None:
    theirs, miner = pml.MultiSimilarityLoss(), pml_miners.MultiSimilarityMiner(epsilon=epsilon)
    ours = losses.create("multi_similarity", mining_epsilon=epsilon)

    def where_defined(embeddings: Tensor, labels: Tensor) -> Tensor:
        # theirs is 0 where one positive and one negative pair are all that is mined
        indices = miner(embeddings, labels)
        return ours(embeddings, labels) if max(map(len, indices)) == 1 else theirs(embeddings, labels, indices)

    assert_equal(ours, where_defined, 120)


def test_two_hundred_random_batches_of_supervised_contrast_equal_pytorch_metric_learning() -> None:
    theirs, ours = pml.SupConLoss(temperature=0.3), losses.create("supervised_contrastive", temperature=0.3)

    def where_defined(embeddings: Tensor, labels: Tensor) -> Tensor:
        # theirs is 0 where the whole batch is of one class
        return ours(embeddings, labels) if len(labels.unique()) > 1 else embeddings.sum() * 0

    assert_equal(where_defined, theirs, 120)


def test_two_hundred_random_batches_of_info_nce_equal_pytorch_metric_learning() -> None:
    assert_equal(losses.create("info_nce", temperature=0.3), pml.NTXentLoss(temperature=0.3), 120, small_classes=True)


def looped(mining: str, margin: float | str, average: str, swap: bool) -> Any:
    """Return the mean over triplets, anchor by anchor and positive by positive."""

    def mean(embeddings: Tensor, labels: Tensor) -> Tensor:
        squared = (embeddings.unsqueeze(1) - embeddings).square().sum(2)
        apart = torch.where(squared > 0, squared.masked_fill(squared == 0, 1).sqrt(), 0.0)
        items = []
        for anchor, name in enumerate(labels.tolist()):
            negatives = torch.nonzero(labels != name)[:, 0]
            positives = [place for place in torch.nonzero(labels == name)[:, 0].tolist() if place != anchor]
            if not positives or not len(negatives):
                continue
            far = apart[anchor, negatives].expand(len(positives), -1)
            if mining == "semi_hard":
                near = apart[anchor, positives].detach().tolist()
                order = sorted(range(len(negatives)), key=far[0].tolist().__getitem__)
                ranked = far[0][order].tolist()
                chosen = [
                    next(
                        (place for place, distance in zip(order, ranked, strict=True) if distance > own * (1 + 1e-13)),
                        order[-1],
                    )
                    for own in near
                ]
                far = far[0][chosen].unsqueeze(1)
                if swap:
                    far = torch.minimum(far, apart[positives, negatives[chosen]].unsqueeze(1))
            elif swap:
                far = torch.minimum(far, apart[positives][:, negatives])
            difference = apart[anchor, positives].unsqueeze(1) - far
            costs = (
                torch.logaddexp(difference, torch.zeros_like(difference))
                if margin == "soft"
                else (difference + margin).clamp(min=0)
            )
            items.append(costs.flatten())
        every = torch.cat(items) if items else embeddings.new_zeros(0)
        count = int((every > 0).sum()) if average == "active" else len(every)
        return every.sum() / max(count, 1)

    return mean


@pytest.mark.parametrize(
    ("mining", "margin", "average", "swap"),
    [
        ("semi_hard", 0.5, "active", False),
        ("semi_hard", "soft", "all", False),
        ("semi_hard", 0.5, "all", True),
        ("all", 0.5, "active", True),
        ("all", 0.5, "all", True),
        ("all", "soft", "active", True),
        ("all", "soft", "active", False),
    ],
)
def test_two_hundred_random_batches_equal_a_loop_over_triplets(
    mining: str, margin: Any, average: str, swap: bool
) -> None:
    ours = losses.create("triplet", mining=mining, margin=margin, average=average, swap=swap)
    # a swap is free to choose between the distances of duplicates, and mining between duplicates
    assert_equal(ours, looped(mining, margin, average, swap), 50, ties=mining == "semi_hard" or swap)
