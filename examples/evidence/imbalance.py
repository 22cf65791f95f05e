"""Imbalance: what is looked for is rare."""

from collections.abc import Mapping

import numpy
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tasks.task import Samples
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_average_precision, binary_f1_score, binary_recall

from evidence.fitting import fitted
from evidence.question import Answer, Question, answer
from losses import create

DIGIT, RARITY = 8, 20
OVERLAPS = ("dice", "tversky")


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    known, unknown = eights(seed)
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
    }


def eights(seed: int) -> tuple[Samples, Samples]:
    """Return images to train on and to test on, one in twenty of which shows an eight; more eights are left out."""
    digits = load_digits()
    chance = numpy.random.default_rng(seed)
    rare, frequent = (numpy.flatnonzero((digits.target == DIGIT) == is_rare) for is_rare in (True, False))
    rows = numpy.concatenate([chance.permutation(rare)[: len(frequent) // (RARITY - 1)], frequent])
    target = digits.target[rows] == DIGIT
    seen, unseen = train_test_split(numpy.arange(len(rows)), test_size=0.4, random_state=seed, stratify=target)
    both = torch.from_numpy(digits.data[rows]).float() / 16, torch.from_numpy(target).float()
    return Samples(*(each[seen] for each in both)), Samples(*(each[unseen] for each in both))


QUESTION = Question(
    condition="imbalance",
    asks="Which loss finds what one sample in twenty is?",
    data="`load_digits`, is it an eight? One image in twenty is; a linear network, batches of 256, of which `dice` and "
    "`tversky` make one mask. Average precision looks at the order of the logits alone, F1 and recall at decisions at "
    "probability 1/2",
    better={"average precision": "higher", "F1": "higher", "recall": "higher"},
    answers={
        "binary_cross_entropy": answer("binary_cross_entropy"),
        "binary_cross_entropy, weighted": answer(
            "binary_cross_entropy", peer="binary_cross_entropy", positive_weight=RARITY - 1
        ),
        "focal": answer("focal", peer="binary_cross_entropy"),
        "dice": answer("dice", peer="binary_cross_entropy", smooth=1.0),
        "tversky": answer("tversky", peer="binary_cross_entropy", alpha=0.3, beta=0.7),
    },
    measure=measure,
    steps=2000,
)
