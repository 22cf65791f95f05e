"""Whole-batch metric losses against pytorch-metric-learning and plain torch: time, memory, and how both grow with the
batch.

float32, 128 dimensions, forward and backward. Nothing is timed before its value and gradient were seen to be the
peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from benchmarks.cases.elementwise import of_lines, weighted
from benchmarks.harness.comparison.case import (
    Batch,
    Case,
    Peer,
    Shape,
    Views,
    at_least_four_classes,
    of_cubes,
    of_matrices,
    of_squared_triplets,
    of_triplets,
)
from benchmarks.harness.equality import Value
from benchmarks.peers import lines, memories, near_hinge, plain_torch
from benchmarks.peers import pytorch_metric_learning as pml

DIMENSIONS = 128
WHAT = f"float32, {DIMENSIONS} dimensions"
SHAPE = "N/class"


def labelled(size: int, per_class: int, device: str = "cpu") -> Batch:
    """Return unit vectors scattered about the centres of their classes, in random order.

    Distances within a class are about 1.15 and between classes about 1.41, each scattered, so that both sides of
    every hinge are met. Peers that take distances as they are get the same as those that normalise.
    """
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(size) // per_class)[torch.randperm(size, generator=generator)]
    centres, noise = (torch.randn(size, DIMENSIONS, generator=generator) for _ in range(2))
    embeddings = F.normalize(centres[labels] + 1.4 * noise, dim=1)
    return Batch((embeddings.to(device).requires_grad_(),), (labels.to(device),))


def views(size: int, per_class: int, device: str = "cpu") -> Views:
    """Return ``size`` embeddings in all: two noisy views of half as many samples."""
    return Views(rows(size // 2, per_class, device).leaves, ())


def rows(size: int, per_class: int, device: str = "cpu") -> Batch:
    """Return ``size`` rows of two modalities that match."""
    generator = torch.Generator().manual_seed(0)
    common, *noise = (torch.randn(size, DIMENSIONS, generator=generator) for _ in range(3))
    return Batch(tuple(F.normalize(common + side, dim=1).to(device).requires_grad_() for side in noise), ())


def pairs(size: int, device: str = "cpu") -> Batch:
    """Return rows of two modalities, and which of them match: about every other one."""
    first, second = (side.detach() for side in rows(size, 1).leaves)
    same = (torch.arange(size) + 1) % 2.0
    second = torch.where(same.unsqueeze(1) > 0, second, second.roll(1, dims=0))
    return Batch(tuple(side.to(device).requires_grad_() for side in (first, second)), (same.to(device),))


def triplets(size: int, device: str = "cpu") -> Batch:
    """Return anchors, positives that are nearer by about the margin, and negatives."""
    first, second = (side.detach() for side in rows(size, 1).leaves)
    sides = (first, second, F.normalize(second.roll(1, dims=0) + 0.4 * first, dim=1))
    return Batch(tuple(side.to(device).requires_grad_() for side in sides), ())


def mined(miner: Callable[..., tuple[Tensor, ...]], size: int, per_class: int, device: str = "cpu") -> Batch:
    """Return a labelled batch with what a miner of pytorch-metric-learning lists of it."""
    leaves, (labels,) = labelled(size, per_class, device)
    return Batch(leaves, (labels, tuple(miner(leaves[0].detach(), labels))))


def as_pairs(loss: losses.Loss, first: Tensor, second: Tensor, *rest: Tensor) -> Tensor:
    """Call a loss with two sides, which of them match, if it takes that, and perhaps weights."""
    target, weight = (*rest, None, None)[:2]
    return loss(losses.Pairs(first, second), target, weight=weight)


def as_triplets(loss: losses.Loss, *batch: Tensor) -> Tensor:
    """Call a loss with triplets and perhaps weights."""
    return loss(losses.Triplets(*batch[:3]), None, weight=batch[3] if len(batch) > 3 else None)


def with_indices(loss: losses.Loss, embeddings: Tensor, labels: Tensor, indices: tuple[Tensor, ...]) -> Tensor:
    """Call a loss with what a miner lists of the batch."""
    return loss(embeddings, labels, indices=indices)


PML_TRIPLET = Peer("PML", pml.triplet, of_triplets(60))
PML_SOFT = Peer("PML", partial(pml.triplet, 0.0, smooth=True), of_triplets(60))
PML_HARD = Peer("PML", pml.hard_triplet, of_matrices(40))
PML_CONTRASTIVE = Peer("PML", partial(pml.contrastive, 1.4), of_matrices(45))
PML_CIRCLE = Peer("PML", pml.circle, of_matrices(80))
PML_MULTI_SIMILARITY = Peer("PML", pml.multi_similarity, of_matrices(60))
PML_MINED_MULTI_SIMILARITY = Peer("PML", pml.mined_multi_similarity, of_matrices(60))
PML_SUPCON = Peer("PML", pml.supervised_contrastive, of_matrices(60))
PML_INFO_NCE = Peer("PML", pml.info_nce, of_cubes(32))
CUBE = Peer("cube", plain_torch.triplet_cube, of_cubes(20), formula=True)
CDIST = Peer("cdist", plain_torch.cdist, of_matrices(20))
NAIVE_CONTRASTIVE = Peer("naive", partial(plain_torch.contrastive, 1.4), of_matrices(40))
NAIVE_COSINE = Peer("naive", partial(plain_torch.cosine_embedding, lines.COSINE_MARGIN), of_matrices(30))
NAIVE_BOTH = Peer("naive", plain_torch.info_nce_both, of_matrices(30))
SIMCLR_LINES = Peer("SimCLR", plain_torch.info_nce_both, of_matrices(30))
CLIP_LINES = Peer("CLIP", plain_torch.info_nce_second, of_matrices(40))
NAIVE_SECOND = Peer("naive", plain_torch.info_nce_second, of_matrices(40))
TRIPLET_DEFINITION = Peer("definition", plain_torch.triplet_definition, of_triplets(24))
HALF = Peer("N / 2", partial(losses.create, "triplet"), of_matrices(0), shrink=2)

NEAR_PAIRS = partial(near_hinge.pairs, margin=1.4)
SIMCLR = {"negatives": "both"}
CLIP = {"negatives": "second", "direction": "both"}
CIRCLE = {"margin": 0.4, "scale": 80}
MULTI_SIMILARITY = {"alpha": 2, "beta": 50, "base": 0.5}
BALANCED = {"power": 1, "average": "balanced", "margin": 1.4}

on_labels = partial(Case, batch=labelled, resized=at_least_four_classes, products=3)
triplet = partial(on_labels, loss="triplet")
all_triplets = partial(triplet, hinge=near_hinge.triplets)
hard_triplets = partial(triplet, parameters={"mining": "hard"}, products=1)
contrastive = partial(on_labels, loss="contrastive")
circle = partial(on_labels, loss="circle")
multi_similarity = partial(on_labels, loss="multi_similarity")
supcon = partial(on_labels, loss="supervised_contrastive")
in_rows = partial(Case, loss="info_nce", call=as_pairs, resized=at_least_four_classes, products=3)
simclr = partial(in_rows, parameters=SIMCLR, batch=views)
clip = partial(in_rows, parameters=CLIP, batch=rows)

SMALL_REACH = {32: 2.5, 64: 2.5}


def small_batches() -> Iterator[Case]:
    """Yield the losses on batches so small that the number of operations decides, 4 of each class."""
    for name, case, reach in (
        ("triplet-all", partial(all_triplets, peer=PML_TRIPLET), {**SMALL_REACH, 128: 6.0}),
        (
            "contrastive",
            partial(contrastive, parameters=BALANCED, hinge=NEAR_PAIRS, peer=PML_CONTRASTIVE),
            {**SMALL_REACH, 128: 2.5},
        ),
        ("circle", partial(circle, parameters=CIRCLE, peer=PML_CIRCLE), {**SMALL_REACH, 128: 5.0}),
        ("supcon", partial(supcon, parameters={"temperature": 0.1}, peer=PML_SUPCON), {**SMALL_REACH, 128: 2.5}),
        (
            "multi_similarity",
            partial(multi_similarity, parameters=MULTI_SIMILARITY, peer=PML_MULTI_SIMILARITY),
            {**SMALL_REACH, 128: None},
        ),
    ):
        for size, faster in reach.items():
            yield case(f"{name}-{size}", (size, 4), faster=faster)


def matching_rows() -> Iterator[Case]:
    """Yield small batches of rows that match, beside the lines of the papers."""
    for count in (32, 64):
        yield clip(f"info_nce-pairs-second-{count}", (count, 1), peer=CLIP_LINES, faster=1.3)
        yield simclr(f"info_nce-pairs-both-{count}", (2 * count, 2), peer=SIMCLR_LINES, faster=1.3)


def given_pairs_and_triplets() -> Iterator[Case]:
    """Yield pairs and triplets that are given, without and with weights."""
    each = 12 * DIMENSIONS
    for size, faster in ((32, None), (256, 1.0), (4096, None)):
        pair = partial(Case, shape=(size,), loss="contrastive", call=as_pairs, parameters={"margin": 1.4})
        yield pair(f"pairs-{size}", batch=pairs, peer=of_lines(lines.contrastive_pairs, each), faster=faster)
        yield pair(
            f"pairs-weighted-{size}",
            batch=partial(weighted, pairs),
            peer=of_lines(lines.weighted_contrastive_pairs, each),
        )
        cosine = partial(
            Case, shape=(size,), loss="cosine_embedding", call=as_pairs, parameters={"margin": lines.COSINE_MARGIN}
        )
        # torch's function tells pairs that lie close apart by the rounding of their cosines alone: it takes fewer
        # operations, and nothing is asked of the few pairs at which these are most of the time
        reached = 1.0 if size == 4096 else None
        yield cosine(f"cosine-pairs-{size}", batch=pairs, peer=of_lines(lines.cosine_pairs, each), faster=reached)
        yield cosine(
            f"cosine-pairs-weighted-{size}",
            batch=partial(weighted, pairs),
            peer=of_lines(lines.weighted_cosine_pairs, each),
        )
        three = partial(Case, shape=(size,), loss="triplet", call=as_triplets, parameters={"average": "all"})
        yield three(f"triplets-{size}", batch=triplets, peer=of_lines(lines.triplets, each), faster=faster)
        yield three(
            f"triplets-weighted-{size}",
            batch=partial(weighted, triplets),
            peer=of_lines(lines.weighted_triplets, each),
        )


MINERS = {"3tuple": (pml.all_triplets, of_triplets(200)), "4tuple": (pml.hard_pairs, of_matrices(400))}
SQUARED = of_squared_triplets(8)  # of each triplet PML makes two pairs, and compares all of the one kind with the other
GIVEN_INDICES = {
    "triplet": ("triplet", {}, pml.triplet, near_hinge.triplets),
    "contrastive": ("contrastive", BALANCED, partial(pml.contrastive, 1.4), NEAR_PAIRS),
    "circle": ("circle", CIRCLE, pml.circle, None),
    "supcon": ("supervised_contrastive", {"temperature": 0.1}, pml.supervised_contrastive, None),
    "multi_similarity": ("multi_similarity", MULTI_SIMILARITY, pml.multi_similarity, None),
    "info_nce": ("info_nce", {"temperature": 0.1}, pml.labelled_info_nce, None),
}


def miners_indices() -> Iterator[Case]:
    """Yield every loss with the tuples of miners, of three columns and of four."""
    for name, (loss, parameters, make, hinge) in GIVEN_INDICES.items():
        for kind, (miner, estimate) in MINERS.items():
            for size in (128, 512):
                yield Case(
                    f"{name}-{kind}-{size}",
                    (size, 4),
                    loss,
                    batch=partial(mined, miner),
                    call=with_indices,
                    resized=at_least_four_classes,
                    parameters=parameters,
                    peer=Peer("PML", make, SQUARED if (name, kind) == ("info_nce", "3tuple") else estimate),
                    hinge=partial(near_hinge.of_labels, hinge) if hinge else None,
                    faster=1.0,
                    lighter=1.0,
                )


class MemoryCase(Case):
    """A memory bank, of the capacity that is the first number of the shape, and batches of the second."""

    def ours(self, device: str = "cpu") -> Value:
        return memories.InTurn(partial(memories.ours, self.parameters["loss"]))


def anchors_and_pool(capacity: int, size: int, device: str = "cpu") -> Batch:
    """Return anchors with their labels, and a pool of a batch more than is remembered; 4 samples of each class."""
    (everything,), (labels,) = labelled(capacity + 2 * size, 4, device)
    leaf = everything[:size].detach().requires_grad_()
    return Batch((leaf,), (labels[:size], everything[size:].detach(), labels[size:]))


def of_whole_batches(shape: Shape, capacity: int) -> Shape:
    """Return another capacity, a multiple of batches that are smaller if need be."""
    size = max(1, min(shape[1], capacity // 4))
    return capacity // size * size, size


def in_memory(make: Callable[[], Value]) -> Callable[[], Value]:
    """Return what makes ``CrossBatchMemory`` around a loss."""
    return partial(memories.InTurn, partial(memories.theirs, make))


def bytes_of_memory(each: float, capacity: int, size: int) -> float:
    return each * size * (capacity + size)


def memory_banks() -> Iterator[Case]:
    """Yield memories of past embeddings around losses, with batches of 64."""
    near_pairs, near_triplets = partial(near_hinge.pairs_with, margin=1.4), near_hinge.triplets_with
    for name, nested, make, hinge, each in (
        ("contrastive", {"name": "contrastive", **BALANCED}, partial(pml.contrastive, 1.4), near_pairs, 60),
        ("triplet", {"name": "triplet"}, pml.triplet, near_triplets, 400),
        ("supcon", {"name": "supervised_contrastive", "temperature": 0.1}, pml.supervised_contrastive, None, 60),
    ):
        for capacity in (1024, 8192):
            yield MemoryCase(
                f"memory_bank-{name}-{capacity}",
                (capacity, 64),
                "memory_bank",
                batch=anchors_and_pool,
                resized=of_whole_batches,
                parameters={"loss": nested},
                peer=Peer("PML", in_memory(make), partial(bytes_of_memory, each)),
                hinge=hinge,
                faster=1.0,
                lighter=1.0,
            )


CASES = (
    *small_batches(),
    *matching_rows(),
    *given_pairs_and_triplets(),
    *miners_indices(),
    *memory_banks(),
    all_triplets("triplet-all-256", (256, 32), peer=PML_TRIPLET, faster=18, lighter=1 / 20),
    all_triplets("triplet-all-512", (512, 4), peer=PML_TRIPLET, faster=45, lighter=1 / 25),
    all_triplets("triplet-all-1024", (1024, 32), peer=PML_TRIPLET, faster=110, lighter=1 / 150),
    all_triplets("triplet-all-128-cube", (128, 4), peer=CUBE),
    all_triplets("triplet-all-256-cube", (256, 32), peer=CUBE),
    all_triplets("triplet-all-512-cube", (512, 4), peer=CUBE),
    all_triplets("triplet-all-1024-cube", (1024, 32), peer=CUBE),
    all_triplets(
        *("triplet-all-4096", (4096, 4)),
        peer=CDIST,
        definition=TRIPLET_DEFINITION,
        defined_at=4096,
        faster=1.5,
        megabytes=40,
    ),
    all_triplets("triplet-all-8192", (8192, 32), definition=TRIPLET_DEFINITION, defined_at=1024),
    all_triplets(
        *("triplet-all-16384", (16384, 32)),
        peer=HALF,
        definition=TRIPLET_DEFINITION,
        defined_at=1024,
        slower=6,
        megabytes=250,
    ),
    triplet("triplet-soft-1024", (1024, 32), parameters={"margin": "soft"}, peer=PML_SOFT, faster=60, lighter=1 / 50),
    hard_triplets("triplet-hard-512", (512, 4), peer=PML_HARD, faster=3, lighter=1 / 2),
    hard_triplets("triplet-hard-2048", (2048, 4), peer=PML_HARD, faster=6, lighter=1 / 10),
    contrastive(
        *("contrastive-4096", (4096, 4)),
        parameters=BALANCED,
        peer=PML_CONTRASTIVE,
        hinge=NEAR_PAIRS,
        faster=5,
        lighter=1 / 25,
    ),
    contrastive("contrastive-default-4096", (4096, 4), parameters={"margin": 1.4}, peer=NAIVE_CONTRASTIVE),
    on_labels(
        *("cosine_embedding-4096", (4096, 4)),
        loss="cosine_embedding",
        parameters={"margin": lines.COSINE_MARGIN},
        peer=NAIVE_COSINE,
        faster=2,
        lighter=1 / 20,
    ),
    circle("circle-4096", (4096, 4), parameters=CIRCLE, peer=PML_CIRCLE, faster=12, lighter=1 / 50),
    multi_similarity(
        *("multi_similarity-4096", (4096, 4)),
        parameters=MULTI_SIMILARITY,
        peer=PML_MULTI_SIMILARITY,
        faster=10,
        lighter=1 / 25,
    ),
    multi_similarity(
        *("multi_similarity-mined-4096", (4096, 4)),
        parameters={**MULTI_SIMILARITY, "mining_epsilon": 0.1},
        peer=PML_MINED_MULTI_SIMILARITY,
    ),
    supcon("supcon-4096", (4096, 4), parameters={"temperature": 0.1}, peer=PML_SUPCON, faster=5, lighter=1 / 40),
    simclr("info_nce-both-512", (512, 2), peer=NAIVE_BOTH, faster=1.4, lighter=1),
    simclr("info_nce-both-512-pml", (512, 2), peer=PML_INFO_NCE),
    simclr("info_nce-both-4096", (4096, 2), peer=NAIVE_BOTH, faster=2.5, lighter=1 / 12),
    clip("info_nce-second-4096", (4096, 1), peer=NAIVE_SECOND, faster=2.5, lighter=1 / 12),
)

SERIES = {
    "triplet-all, 4 per class": triplet("", (0, 4)),
    "triplet-all, 32 per class": triplet("", (0, 32)),
    "contrastive": contrastive("", (0, 4)),
    "cosine_embedding": on_labels("", (0, 4), loss="cosine_embedding"),
    "circle": circle("", (0, 4)),
    "multi_similarity": multi_similarity("", (0, 4)),
    "supervised_contrastive": supcon("", (0, 4)),
    "info_nce, both": simclr("", (0, 2)),
    "info_nce, second": clip("", (0, 1)),
}
