"""Segmentation of pictures of letters by a small network: which pixels are strokes of those that are looked for?"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from glyph_data import SIDE, glyphs
from tasks.task import Samples
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_average_precision, binary_f1_score, binary_recall

from evidence.fitting import fitted
from evidence.question import Answer, answer
from losses import create

CANVAS, LETTER = 28, SIDE // 2  # pixels of a side
OTHERS = 4  # letters beside the one that is looked for
RARITY = 33  # pixels of a picture for one of the mask, about
OWN = "its own threshold"
THRESHOLDS = torch.linspace(-6, 2, 33).sigmoid()
FACTS = (
    "pictures of 28 x 28 pixels with five letters of all alphabets that overlap, a small CNN, batches of 16 "
    "pictures, tested on others; about 3 % of the pixels are to be found. Dice, IoU and recall, means over pictures, "
    "of decisions at probability 1/2, or at the one with which Dice was best in training; average precision looks at "
    "the order of all pixels' logits alone"
)
PEER = "binary_cross_entropy, threshold"
ASKED: Mapping[str, Any] = {
    "condition": "imbalance",
    "task": "segmentation",
    "better": {"Dice": "higher", "IoU": "higher", "recall": "higher", "average precision": "higher"},
    "answers": {
        "binary_cross_entropy": answer("binary_cross_entropy"),
        PEER: answer("binary_cross_entropy", reading=OWN),
        "binary_cross_entropy, weighted": answer("binary_cross_entropy", peer=PEER, positive_weight=RARITY - 1),
        "focal": answer("focal", peer=PEER),
        "dice": answer("dice", peer=PEER),
        "tversky": answer("tversky", peer=PEER, alpha=0.3, beta=0.7),
    },
}
"""What two questions share."""


def asked(letters: Sequence[str]) -> Mapping[str, Any]:
    """Return how a question is measured that looks for some letters."""
    measure = partial(measured, letters)
    return {**ASKED, "measure": measure, "quick": {"measure": partial(measure, pictures=32, channels=2)}}


def measured(
    letters: Sequence[str], tried: Answer, seed: int, steps: int, *, pictures: int = 512, channels: int = 8
) -> Mapping[str, float]:
    """Return how well letters are found in pictures that were not trained on."""
    chance = numpy.random.default_rng(seed)
    known, unknown = (drawn(letters, pictures, chance) for _ in range(2))
    torch.manual_seed(seed)
    network = fitted(segmenting(channels), create(tried.loss), known, seed, steps, batch=16)
    with torch.no_grad():
        probs, mask = network(unknown.inputs).sigmoid(), unknown.target.int()
        seen = network(known.inputs).sigmoid()
    threshold = 0.5
    if tried.reading == OWN:
        threshold = max(THRESHOLDS.tolist(), key=lambda each: overlaps(seen, known.target.int(), each).mean())
    overlap = overlaps(probs, mask, threshold)
    return {
        "Dice": overlap.mean().item(),
        "IoU": (overlap / (2 - overlap)).mean().item(),
        "recall": binary_recall(probs, mask, threshold, multidim_average="samplewise").mean().item(),
        "average precision": binary_average_precision(probs, mask).item(),
    }


def overlaps(probs: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Return the Dice coefficient of every picture, which is the F1 of its pixels."""
    return binary_f1_score(probs, mask, threshold, multidim_average="samplewise")


def segmenting(channels: int) -> nn.Module:
    """Return a network that looks at 31 x 31 pixels around each and says of each whether it belongs to the mask."""
    layers: list[nn.Module] = []
    for before, dilation in ((1, 1), (channels, 2), (channels, 4), (channels, 8)):
        convolution = nn.Conv2d(before, channels, 3, padding=dilation, dilation=dilation)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))


def drawn(sought: Sequence[str], pictures: int, chance: numpy.random.Generator) -> Samples:
    """Return pictures ``(N, 1, 28, 28)`` of a letter that is looked for among others, and where its strokes are."""
    letters = glyphs()
    images = F.avg_pool2d(letters.images, SIDE // LETTER)
    found = torch.tensor([letter in sought for letter in letters.letters])[letters.labels]
    strokes = torch.stack([placed(images[found], 1, chance) for _ in range(pictures)])
    others = torch.stack([placed(images[~found], OTHERS, chance) for _ in range(pictures)])
    return Samples(torch.maximum(strokes, others), (strokes > 0.3).float())


def placed(letters: Tensor, count: int, chance: numpy.random.Generator) -> Tensor:
    """Return a canvas on which some letters stand anywhere."""
    canvas = torch.zeros(1, CANVAS, CANVAS)
    for letter in letters[chance.integers(len(letters), size=count)]:
        top, left = chance.integers(CANVAS - LETTER + 1, size=2)
        place = canvas[:, top : top + LETTER, left : left + LETTER]
        torch.maximum(place, letter, out=place)
    return canvas
