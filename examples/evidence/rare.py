"""Training of a linear network on samples few of which are what is looked for, and what it finds."""

from collections.abc import Mapping

import numpy
import torch
from sklearn.model_selection import train_test_split
from tasks.task import Samples
from torch import Tensor, nn
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_average_precision,
    binary_f1_score,
    binary_recall,
)

from evidence.fitting import fitted
from evidence.question import Answer, answer
from losses import create

RARITY = 20
OVERLAPS = ("dice", "tversky")
ANSWERS = {
    "binary_cross_entropy": answer("binary_cross_entropy"),
    "binary_cross_entropy, weighted": answer(
        "binary_cross_entropy", peer="binary_cross_entropy", positive_weight=RARITY - 1
    ),
    "focal": answer("focal", peer="binary_cross_entropy"),
    "dice": answer("dice", peer="binary_cross_entropy", smooth=1.0),
    "tversky": answer("tversky", peer="binary_cross_entropy", alpha=0.3, beta=0.7),
}


def parted(measurements: numpy.ndarray, found: numpy.ndarray, seed: int) -> tuple[Samples, Samples]:
    """Return samples to train on and to test on, one in twenty of which is what is looked for; more are left out."""
    chance = numpy.random.default_rng(seed)
    rare, frequent = (numpy.flatnonzero(found == is_rare) for is_rare in (True, False))
    rows = numpy.concatenate([chance.permutation(rare)[: len(frequent) // (RARITY - 1)], frequent])
    target = found[rows]
    seen, unseen = train_test_split(numpy.arange(len(rows)), test_size=0.4, random_state=seed, stratify=target)
    both = torch.from_numpy(measurements[rows]).float(), torch.from_numpy(target).float()
    return Samples(*(each[seen] for each in both)), Samples(*(each[unseen] for each in both))


def measured(tried: Answer, known: Samples, unknown: Samples, seed: int, steps: int) -> Mapping[str, float]:
    """Return how well what is rare is found among unknown samples, learnt from known ones."""
    torch.manual_seed(seed)
    network, loss = nn.Sequential(nn.Linear(known.inputs.shape[1], 1), nn.Flatten(0)), create(tried.loss)

    def cost(logits: Tensor, target: Tensor) -> Tensor:
        if tried.loss["name"] in OVERLAPS:
            return loss(logits.unsqueeze(0), target.unsqueeze(0))  # the batch is one mask
        return loss(logits, target)

    fitted(network, cost, known, seed, steps, batch=256)
    with torch.no_grad():
        probs, rare = network(unknown.inputs).sigmoid(), unknown.target.int()
    return {
        "average precision": binary_average_precision(probs, rare).item(),
        "F1": binary_f1_score(probs, rare).item(),
        "recall": binary_recall(probs, rare).item(),
        "accuracy": binary_accuracy(probs, rare).item(),
    }
