"""Whole-batch metric losses against pytorch-metric-learning and plain torch: time, memory, and how both grow with the
batch.

float32, 128 dimensions, forward and backward. Nothing is timed before its value and gradient were seen to be the
peer's.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console

import losses
from benchmarks.harness.comparison import command
from benchmarks.harness.comparison.case import Batch, Case, Peer, Views, of_cubes, of_matrices, of_triplets
from benchmarks.peers import near_hinge, plain_torch
from benchmarks.peers import pytorch_metric_learning as pml

DIMENSIONS = 128


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


PML_TRIPLET = Peer("PML", pml.triplet, of_triplets(60))
PML_SOFT = Peer("PML", partial(pml.triplet, 0.0, smooth=True), of_triplets(60))
PML_HARD = Peer("PML", pml.hard_triplet, of_matrices(40))
PML_CONTRASTIVE = Peer("PML", partial(pml.contrastive, 1.4), of_matrices(45))
PML_CIRCLE = Peer("PML", pml.circle, of_matrices(80))
PML_MULTI_SIMILARITY = Peer("PML", pml.multi_similarity, of_matrices(60))
PML_MINED_MULTI_SIMILARITY = Peer("PML", pml.mined_multi_similarity, of_matrices(60))
PML_SUPCON = Peer("PML", pml.supervised_contrastive, of_matrices(60))
PML_INFO_NCE = Peer("PML", pml.info_nce, of_cubes(32))
CUBE = Peer("cube", plain_torch.triplet_cube, of_cubes(20))
CDIST = Peer("cdist", plain_torch.cdist, of_matrices(20))
NAIVE_CONTRASTIVE = Peer("naive", partial(plain_torch.contrastive, 1.4), of_matrices(40))
NAIVE_BOTH = Peer("naive", plain_torch.info_nce_both, of_matrices(30))
NAIVE_SECOND = Peer("naive", plain_torch.info_nce_second, of_matrices(40))
TRIPLET_DEFINITION = Peer("definition", plain_torch.triplet_definition, of_triplets(24))
HALF = Peer("N / 2", partial(losses.create, "triplet"), of_matrices(0), shrink=2)

NEAR_PAIRS = partial(near_hinge.pairs, margin=1.4)
SIMCLR = {"negatives": "both"}
CLIP = {"negatives": "second", "direction": "both"}
CIRCLE = {"margin": 0.4, "scale": 80}
MULTI_SIMILARITY = {"alpha": 2, "beta": 50, "base": 0.5}
BALANCED = {"power": 1, "average": "balanced", "margin": 1.4}

on_labels = partial(Case, batch=labelled)
triplet = partial(on_labels, loss="triplet")
all_triplets = partial(triplet, hinge=near_hinge.triplets)
hard_triplets = partial(triplet, parameters={"mining": "hard"}, products=1)
contrastive = partial(on_labels, loss="contrastive")
circle = partial(on_labels, loss="circle")
multi_similarity = partial(on_labels, loss="multi_similarity")
supcon = partial(on_labels, loss="supervised_contrastive")
simclr = partial(Case, loss="info_nce", parameters=SIMCLR, batch=views, pack=losses.Pairs)
clip = partial(Case, loss="info_nce", parameters=CLIP, batch=rows, pack=losses.Pairs)

CASES = (
    all_triplets("triplet-all-128", 128, 4, peer=PML_TRIPLET, faster=2.5),
    all_triplets("triplet-all-256", 256, 32, peer=PML_TRIPLET, faster=18, lighter=1 / 20),
    all_triplets("triplet-all-512", 512, 4, peer=PML_TRIPLET, faster=45, lighter=1 / 25),
    all_triplets("triplet-all-1024", 1024, 32, peer=PML_TRIPLET, faster=110, lighter=1 / 150),
    all_triplets("triplet-all-128-cube", 128, 4, peer=CUBE),
    all_triplets("triplet-all-256-cube", 256, 32, peer=CUBE),
    all_triplets("triplet-all-512-cube", 512, 4, peer=CUBE),
    all_triplets("triplet-all-1024-cube", 1024, 32, peer=CUBE),
    all_triplets(
        *("triplet-all-4096", 4096, 4),
        peer=CDIST,
        definition=TRIPLET_DEFINITION,
        defined_at=4096,
        slower=1.4,
        megabytes=40,
    ),
    all_triplets("triplet-all-8192", 8192, 32, definition=TRIPLET_DEFINITION, defined_at=1024),
    all_triplets(
        *("triplet-all-16384", 16384, 32),
        peer=HALF,
        definition=TRIPLET_DEFINITION,
        defined_at=1024,
        slower=6,
        megabytes=250,
    ),
    triplet("triplet-soft-1024", 1024, 32, parameters={"margin": "soft"}, peer=PML_SOFT, faster=60, lighter=1 / 50),
    hard_triplets("triplet-hard-512", 512, 4, peer=PML_HARD, faster=3, lighter=1 / 2),
    hard_triplets("triplet-hard-2048", 2048, 4, peer=PML_HARD, faster=6, lighter=1 / 10),
    contrastive(
        *("contrastive-4096", 4096, 4),
        parameters=BALANCED,
        peer=PML_CONTRASTIVE,
        hinge=NEAR_PAIRS,
        faster=5,
        lighter=1 / 25,
    ),
    contrastive("contrastive-default-4096", 4096, 4, parameters={"margin": 1.4}, peer=NAIVE_CONTRASTIVE),
    circle("circle-4096", 4096, 4, parameters=CIRCLE, peer=PML_CIRCLE, faster=12, lighter=1 / 50),
    multi_similarity("multi_similarity-128", 128, 4, parameters=MULTI_SIMILARITY, peer=PML_MULTI_SIMILARITY),
    multi_similarity(
        *("multi_similarity-4096", 4096, 4),
        parameters=MULTI_SIMILARITY,
        peer=PML_MULTI_SIMILARITY,
        faster=10,
        lighter=1 / 25,
    ),
    multi_similarity(
        *("multi_similarity-mined-4096", 4096, 4),
        parameters={**MULTI_SIMILARITY, "mining_epsilon": 0.1},
        peer=PML_MINED_MULTI_SIMILARITY,
    ),
    supcon("supcon-4096", 4096, 4, parameters={"temperature": 0.1}, peer=PML_SUPCON, faster=5, lighter=1 / 40),
    simclr("info_nce-both-512", 512, 2, peer=NAIVE_BOTH, faster=1.4, lighter=1),
    simclr("info_nce-both-512-pml", 512, 2, peer=PML_INFO_NCE),
    simclr("info_nce-both-4096", 4096, 2, peer=NAIVE_BOTH, faster=2.5, lighter=1 / 12),
    clip("info_nce-second-4096", 4096, 1, peer=NAIVE_SECOND, faster=2.5, lighter=1 / 12),
)
NAMES = tuple(case.name for case in CASES)

SERIES = {
    "triplet-all, 4 per class": triplet("", 0, 4),
    "triplet-all, 32 per class": triplet("", 0, 32),
    "contrastive": contrastive("", 0, 4),
    "circle": circle("", 0, 4),
    "multi_similarity": multi_similarity("", 0, 4),
    "supervised_contrastive": supcon("", 0, 4),
    "info_nce, both": simclr("", 0, 2),
    "info_nce, second": clip("", 0, 1),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    command.options(parser, CASES)


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all went well."""
    return command.report(f"metric: float32, {DIMENSIONS} dimensions", CASES, SERIES, arguments, console)
