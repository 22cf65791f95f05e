"""Unseen classes: what are embeddings of letters worth on alphabets that were not trained on?"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, roc_auc_score
from tasks.glyphs import compared, embedded
from torch import Tensor

from evidence.question import Answer, Question, answer, run_of, trained
from losses.ops.distances import pairwise_distance

SHOTS = (1, 5)
CLUSTERED = 40  # letters, of all of which k-means would take minutes
SMALL = ("network.channels=[8, 8, 8]", "task.train_on=[greek]", "task.verify_on=[armenian]")


def measure(tried: Answer, seed: int, steps: int, *, changes: Sequence[str] = ()) -> Mapping[str, float]:
    run = run_of("glyphs", tried.loss, seed, *changes)
    network = trained(run, steps)
    unseen, known = run.task.unseen, run.task.parts["training"]
    embeddings, labels = embedded(network, unseen.images), unseen.labels
    metrics = compared(embeddings, labels)
    chance = numpy.random.default_rng(seed)
    return {
        "recall@1": metrics["recall@1"],
        "EER": metrics["EER"],
        **{f"{shots} shot": few_shots(embeddings, labels, shots, chance) for shots in SHOTS},
        **clustered(embeddings, labels, seed),
        "AUROC": anomalies(
            embedded(network, known.images), embedded(network, run.task.parts["validation"].images), embeddings
        ),
    }


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


QUESTION = Question(
    condition="open_set",
    asks="Which loss makes embeddings of letters that are of use on alphabets it never saw?",
    data="glyphs, trained on Latin, Greek and Cyrillic, measured on Armenian, Georgian and Hebrew; a small CNN, 200 "
    "steps of 64 images. Search (recall@1), verification (EER), the nearest mean of 1 or 5 images of each letter, "
    "k-means on 40 letters (NMI, ARI), and these letters as anomalies among those in training, by distance to the "
    "nearest (AUROC)",
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
    quick=partial(measure, changes=SMALL),
    steps=200,
    seeds=3,
)
