"""Unseen classes: what are embeddings of letters worth on alphabets that were not trained on?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy
import torch
import torch.nn.functional as F
from pictures import draw_planes
from run_config import Run
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, roc_auc_score
from tasks.glyphs import compared, embedded
from torch import Tensor

from evidence.question import Answer, Found, Picture, Question, answer, nothing_learnt, run_of, trained
from losses.ops.distances import pairwise_distance

SHOTS = (1, 5)
CLUSTERED = 40  # letters, of all of which k-means would take minutes
PIXELS, UNTRAINED = "raw pixels", "untrained network"
SHOWN = 10  # letters in the picture
SMALL = ("network.channels=[8, 8, 8]", "task.train_on=[greek]", "task.verify_on=[armenian]")


def measure(tried: Answer, seed: int, steps: int, *, changes: Sequence[str] = ()) -> Mapping[str, float]:
    run = run_for(tried, seed, changes)
    embed = embedding(tried, run, steps)
    unseen, known = run.task.unseen, run.task.parts["training"]
    embeddings, labels = embed(unseen.images), unseen.labels
    metrics = compared(embeddings, labels)
    chance = numpy.random.default_rng(seed)
    return {
        "recall@1": metrics["recall@1"],
        "EER": metrics["EER"],
        **{f"{shots} shot": few_shots(embeddings, labels, shots, chance) for shots in SHOTS},
        **clustered(embeddings, labels, seed),
        "AUROC": anomalies(embed(known.images), embed(run.task.parts["validation"].images), embeddings),
    }


def run_for(tried: Answer, seed: int, changes: Sequence[str]) -> Run:
    return run_of("glyphs", tried.loss or {"name": "triplet"}, seed, *changes)


def embedding(tried: Answer, run: Run, steps: int) -> Callable[[Tensor], Tensor]:
    """Return what makes embeddings of images, all of length 1."""
    if tried.reading == PIXELS:
        return lambda images: F.normalize(images.flatten(1), dim=1)
    return partial(embedded, trained(run, steps if tried.loss else 0))


def few_shots(embeddings: Tensor, labels: Tensor, shots: int, chance: numpy.random.Generator) -> float:
    """Return how often the nearest mean of so many images of each letter is that of its own letter; letters that have
    no other image are left out."""
    order = torch.from_numpy(chance.permutation(len(labels)))
    embeddings, labels = embeddings[order], labels[order]
    letters = [letter for letter in labels.unique() if (labels == letter).sum() > shots]
    members = [torch.nonzero(labels == letter).flatten() for letter in letters]
    means = torch.stack([embeddings[each[:shots]].mean(0) for each in members])
    rest = torch.cat([each[shots:] for each in members])
    truth = torch.cat([torch.full((len(each) - shots,), place) for place, each in enumerate(members)])
    return (pairwise_distance(embeddings[rest], means).argmin(1) == truth).float().mean().item()


def clustered(embeddings: Tensor, labels: Tensor, seed: int) -> Mapping[str, float]:
    """Return how well clusters of k-means are letters."""
    few = torch.isin(labels, labels.unique()[:CLUSTERED])
    found = KMeans(CLUSTERED, n_init=3, random_state=seed).fit_predict(embeddings[few].numpy())
    return {
        "NMI": normalized_mutual_info_score(labels[few].numpy(), found),
        "ARI": adjusted_rand_score(labels[few].numpy(), found),
    }


def anomalies(known: Tensor, normal: Tensor, foreign: Tensor) -> float:
    """Return how well the distance to the nearest image that was trained on tells letters of other alphabets from the
    trained ones in faces that are new."""
    distances = [pairwise_distance(each, known).amin(1) for each in (normal, foreign)]
    truth = numpy.repeat([0, 1], [len(normal), len(foreign)])
    return float(roc_auc_score(truth, torch.cat(distances).numpy()))


def draw(found: Found, path: Path, *, changes: Sequence[str] = ()) -> None:
    """Draw some unseen letters where the first two principal components of their embeddings put them: by pixels, by
    a network that is not trained, and by the two losses that did best."""
    deciding = next(iter(found["better"]))
    rows = {row["answer"]: row for row in found["rows"]}
    best = sorted((row for row in rows.values() if row["peer"]), key=lambda row: -fmean(row["measured"][deciding]))
    planes = {}
    for row in (rows[PIXELS], rows[UNTRAINED], *best[:2]):
        tried = QUESTION.answers[row["answer"]]
        run = run_for(tried, 0, changes)
        glyphs = run.task.unseen
        shown = glyphs.only(torch.isin(glyphs.labels, letters_shown(glyphs.labels)))
        points = PCA(2, svd_solver="full").fit_transform(embedding(tried, run, found["steps"])(shown.images).numpy())
        planes[f"{row['answer']}: {deciding} {row['measured'][deciding][0]:.3f}"] = points
    draw_planes(planes, shown.images.squeeze(1).numpy(), shown.labels.numpy(), path)


def letters_shown(labels: Tensor) -> Tensor:
    """Return some letters, of those that have the most faces."""
    counts = labels.bincount()
    most = torch.nonzero(counts == counts.max()).flatten()
    return most[torch.linspace(0, len(most) - 1, SHOWN).long()]


SHOWS = (
    f"{SHOWN} letters that were not trained on, in all their faces, where the first two principal components of their "
    "embeddings put them: pixels, a network before training, and after training with the two losses that did best"
)
QUESTION = Question(
    name="open_set",
    condition="open_set",
    task="metric_learning",
    asks="Which loss makes embeddings of letters that are of use on alphabets it never saw?",
    data="glyphs, trained on Latin, Greek and Cyrillic, measured on Armenian, Georgian and Hebrew; a small CNN, 200 "
    "steps of 64 images. Search (recall@1), verification (EER), the nearest mean of 1 or 5 images of each letter, "
    "k-means on 40 letters (NMI, ARI), and these letters as anomalies among those in training, by distance to the "
    "nearest (AUROC); beside pixels and a network before training, which learn nothing",
    better={
        "recall@1": "higher",
        "EER": "lower",
        "1 shot": "higher",
        "5 shot": "higher",
        "NMI": "higher",
        "ARI": "higher",
        "AUROC": "higher",
    },
    answers={
        PIXELS: nothing_learnt(PIXELS),
        UNTRAINED: nothing_learnt(UNTRAINED),
        "cross_entropy": answer("cross_entropy", reading="its last features"),
        "contrastive": answer("contrastive", peer="cross_entropy", margin=1.0),
        "cosine_embedding": answer("cosine_embedding", peer="cross_entropy", margin=0.5),
        "triplet": answer("triplet", peer="cross_entropy", margin=0.5, average="all"),
        "circle": answer("circle", peer="cross_entropy"),
        "supervised_contrastive": answer("supervised_contrastive", peer="cross_entropy"),
        "multi_similarity": answer("multi_similarity", peer="cross_entropy"),
        "info_nce": answer("info_nce", peer="cross_entropy"),
        "memory_bank": answer(
            "memory_bank", peer="cross_entropy", loss={"name": "triplet", "margin": 0.5, "average": "all"}
        ),
    },
    measure=measure,
    picture=Picture(SHOWS, draw),
    quick={"measure": partial(measure, changes=SMALL), "picture": Picture(SHOWS, partial(draw, changes=SMALL))},
    steps=200,
    seeds=3,
)
