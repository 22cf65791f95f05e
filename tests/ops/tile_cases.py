"""Every configuration of a whole-batch loss, batches for it, and its answers in blocks or as a plain composition."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import losses
from losses import Pairs
from losses.core.reduction import Total
from losses.metric import triplet
from losses.ops.dense import matrix
from losses.ops.tiles import blocks, classes, sizes, whole_batch

DISTANCES = ("euclidean", "squared_euclidean", "cosine")


class TileCase(NamedTuple):
    """A loss that works in blocks; of embeddings with labels, or of matching rows in two halves."""

    name: str
    parameters: dict[str, Any]
    of_pairs: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *("pairs" for _ in range(self.of_pairs)), *map(str, self.parameters.values())])

    @property
    def is_soft(self) -> bool:
        return (
            self.parameters.get("margin") == "soft" and self.parameters.get("mining", "all") == "all" and not self.swaps
        )

    @property
    def swaps(self) -> bool:
        return self.parameters.get("swap", False)


CASES = [
    *(
        TileCase("triplet", {**kind, "distance": distance, "average": average})
        for kind in (
            {"margin": 0.7},
            {"margin": "soft"},
            {"margin": 0.7, "mining": "hard"},
            {"margin": 0.7, "mining": "semi_hard"},
            {"margin": "soft", "mining": "semi_hard"},
            {"margin": 0.7, "swap": True},
            {"margin": "soft", "swap": True},
        )
        for distance in DISTANCES
        for average in ("active", "all")
    ),
    *(
        TileCase(
            "contrastive",
            {"power": power, "average": average, "distance": distance, "margin": 1.3, "positive_margin": 0.2},
        )
        for power in (1, 2)
        for average in ("all", "active", "balanced")
        for distance in DISTANCES
    ),
    *(TileCase("cosine_embedding", {"margin": margin}) for margin in (0.0, 0.4)),
    TileCase("circle", {}),
    TileCase("circle", {"margin": 0.1, "scale": 4.0}),
    TileCase("multi_similarity", {}),
    TileCase("multi_similarity", {"alpha": 1.0, "beta": 4.0, "base": 0.1}),
    TileCase("multi_similarity", {"beta": 10.0, "mining_epsilon": 0.1}),
    TileCase("supervised_contrastive", {"temperature": 0.3}),
    TileCase("info_nce", {"temperature": 0.3}),
    *(
        TileCase("info_nce", {"temperature": 0.3, "negatives": negatives, "direction": direction}, of_pairs=True)
        for negatives in ("second", "both")
        for direction in ("both", "forward")
    ),
]
ONE_OF_EACH = [
    TileCase("triplet", {"margin": 0.7}),
    TileCase("triplet", {"margin": 0.7, "distance": "cosine"}),
    TileCase("triplet", {"margin": "soft", "distance": "squared_euclidean"}),
    TileCase("triplet", {"margin": 0.7, "mining": "hard"}),
    TileCase("triplet", {"margin": 0.7, "mining": "semi_hard"}),
    TileCase("triplet", {"margin": 0.7, "swap": True}),
    TileCase("contrastive", {"margin": 1.3, "average": "balanced", "power": 1}),
    TileCase("contrastive", {"margin": 1.3, "average": "active", "distance": "cosine"}),
    TileCase("cosine_embedding", {"margin": 0.2}),
    TileCase("circle", {"margin": 0.1, "scale": 4.0}),
    TileCase("supervised_contrastive", {"temperature": 0.3}),
    TileCase("multi_similarity", {"beta": 10.0}),
    TileCase("multi_similarity", {"beta": 10.0, "mining_epsilon": 0.1}),
    TileCase("info_nce", {"temperature": 0.3}),
    TileCase("info_nce", {"temperature": 0.3, "negatives": "second"}, of_pairs=True),
    TileCase("info_nce", {"temperature": 0.3, "negatives": "both"}, of_pairs=True),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
without_torchs_own_remarks = pytest.mark.filterwarnings("ignore:.torch.jit.script.")
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)


class TileBatch(NamedTuple):
    """Embeddings in generic position; of matching rows, the first half belongs to the second."""

    embeddings: Tensor
    labels: Tensor
    weight: Tensor | None = None
    reference: tuple[Tensor, Tensor] | None = None


def tile_batch(
    size: int,
    balance: str = "balanced",
    others: int | None = None,
    *,
    weighted: bool = False,
    dimension: int = 4,
    seed: int = 0,
) -> TileBatch:
    random = torch.Generator().manual_seed(1000 * size + seed)
    embeddings = torch.randn(size, dimension, generator=random, dtype=torch.float64)
    weight = (
        torch.rand(size, generator=random, dtype=torch.float64) * (torch.rand(size, generator=random) > 0.2)
        if weighted
        else None
    )
    reference = None
    if others is not None:
        reference = (
            torch.randn(others, dimension, generator=random, dtype=torch.float64),
            labels_of(others, balance, random),
        )
    return TileBatch(embeddings, labels_of(size, balance, random), weight, reference)


def labels_of(size: int, balance: str, random: torch.Generator) -> Tensor:
    if balance == "balanced":
        return torch.arange(size)[torch.randperm(size, generator=random)] % 4 - 1
    if balance == "imbalanced":
        return (torch.rand(size, generator=random) ** 3 * 6).long()
    if balance == "singletons":
        return torch.arange(size).clamp(max=max(1, size - 3))[torch.randperm(size, generator=random)]
    return torch.zeros(size, dtype=torch.long)  # one class


def total(case: TileCase, batch: TileBatch) -> Total:
    loss = losses.create(case.name, **case.parameters)
    if case.of_pairs:
        half = len(batch.embeddings) // 2
        weight = None if batch.weight is None else batch.weight[:half]
        return loss.total(Pairs(batch.embeddings[:half], batch.embeddings[half : 2 * half]), weight=weight)
    context = {} if batch.reference is None else {"reference": batch.reference}
    return loss.total(batch.embeddings, batch.labels, weight=batch.weight, **context)


def answers(case: TileCase, batch: TileBatch, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return sum, denominator, and the gradients of the embeddings and of the reference, if any."""
    leaves = [batch.embeddings] + ([] if batch.reference is None else [batch.reference[0]])
    leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    weight = None if batch.weight is None else batch.weight.to(dtype)
    reference = None if batch.reference is None else (leaves[1], batch.reference[1])
    result = total(case, batch._replace(embeddings=leaves[0], weight=weight, reference=reference))
    of_each = torch.arange(1, result.sum.numel() + 1, dtype=dtype).view_as(result.sum)  # balanced parts are told apart
    gradients = torch.autograd.grad((result.sum * of_each).sum(), leaves)
    return [result.sum.detach(), torch.as_tensor(result.denominator), *gradients]


@contextmanager
def plainly() -> Iterator[None]:
    """Make every loss a plain composition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_batch, "is_eager", lambda *_: False)
        patch.delattr(blocks.Tiles, "__init__")
        yield


def shrink(monkeypatch: pytest.MonkeyPatch, elements: int = 150, rows: int = 3) -> None:
    """Make blocks so small that there are many of them, the last one smaller."""
    of_blocks = {"elements": elements, "elements_in_cache": elements, "strip_of_block": elements // 2}
    small = replace(sizes.sizes(), **of_blocks, one_block=0, rows=rows, group=2, dense=0)
    monkeypatch.setattr(sizes, "_sizes", small)


def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at no batch in one dense piece, however small it is."""
    monkeypatch.setattr(sizes, "_sizes", replace(sizes.sizes(), dense=0))


def forget_reading(monkeypatch: pytest.MonkeyPatch, *, by_loss: bool = True) -> None:
    """Make every tensor one whose values cost a synchronisation to look at, as on an accelerator."""
    for module in (blocks, classes, matrix, *((triplet,) if by_loss else ())):
        monkeypatch.setattr(module, "may_read", lambda _: False)


def assert_near(actual: list[Tensor], expected: list[Tensor], tolerance: float, rows: bool = False) -> None:
    """Check that every tensor, or every one of its rows, lies within a fraction of its own size."""
    assert len(actual) == len(expected)
    for mine, other in zip(actual, expected, strict=True):
        assert mine.shape == other.shape
        mine, other = mine.double(), other.double()
        error, size = ((part.norm(dim=-1) if rows and part.ndim else part.norm()) for part in (mine - other, other))
        size = size.clamp(min=size.mean() / 10)  # where derivatives at a point cancel, its rounding remains
        assert bool((error <= tolerance * size + 1e-12).all()), f"{error} of {size}"


def function(case: TileCase, batch: TileBatch) -> Callable[[Tensor], Tensor]:
    """Return the mean as a function of the embeddings."""
    loss = losses.create(case.name, **case.parameters)

    def of_embeddings(embeddings: Tensor) -> Tensor:
        if case.of_pairs:
            half = len(embeddings) // 2
            return loss(Pairs(embeddings[:half], embeddings[half:]))
        return loss(embeddings, batch.labels)

    return of_embeddings


def small(size: int = 8) -> TileBatch:
    return tile_batch(size, dimension=3, seed=3)._replace(labels=torch.arange(size) % 3)
