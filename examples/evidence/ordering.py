"""Ordered classes: a far miss is worse than a near one."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from tasks.task import Samples
from torch import Tensor, nn

from evidence.fitting import diabetes, fitted
from evidence.question import Answer, Question, answer
from losses import create

GRADES = 10


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    known, unknown = diabetes(seed)
    ends = known.target.quantile(torch.linspace(0, 1, GRADES + 1)[1:-1])
    known, unknown = (Samples(part.inputs, torch.bucketize(part.target, ends)) for part in (known, unknown))
    torch.manual_seed(seed)
    outputs = GRADES - 1 if tried.loss["name"] == "ordinal" else GRADES
    network, loss = nn.Linear(known.inputs.shape[1], outputs), create(tried.loss)

    def cost(logits: Tensor, grade: Tensor) -> Tensor:
        if tried.loss["name"] == "wasserstein":
            return loss(logits.softmax(1), F.one_hot(grade, GRADES).float())
        return loss(logits, grade)

    fitted(network, cost, known, seed, steps)
    with torch.no_grad():
        grades = grades_of(tried, network(unknown.inputs))
    missed = (grades - unknown.target).abs().float()
    return {"mean absolute class error": missed.mean().item(), "accuracy": (missed == 0).float().mean().item()}


def grades_of(tried: Answer, logits: Tensor) -> Tensor:
    """Return the classes that are read from an output: the most probable ones, or the medians, for which the expected
    absolute error is least."""
    if tried.loss["name"] == "ordinal":
        return (logits > 0).sum(1)
    if tried.reading == "its median":
        return (logits.softmax(1).cumsum(1) < 0.5).sum(1).clamp(max=GRADES - 1)
    return logits.argmax(1)


QUESTION = Question(
    name="ordering",
    condition="ordering",
    task="classification",
    asks="Which loss predicts ordered classes so that misses are near?",
    data="`load_diabetes`, the progression in ten grades of equal frequency, linear networks; the class is the most "
    "probable one, or the median of the probabilities, and with `ordinal` the number of thresholds that are crossed",
    better={"mean absolute class error": "lower", "accuracy": "higher"},
    answers={
        "cross_entropy": answer("cross_entropy", reading="the most probable"),
        "cross_entropy, median": answer("cross_entropy", reading="its median"),
        "ordinal": answer("ordinal", peer="cross_entropy, median", reading="thresholds"),
        "wasserstein": answer(
            "wasserstein", peer="cross_entropy, median", reading="the most probable", p=2, value="cost", form="probs"
        ),
        "wasserstein, median": answer(
            "wasserstein", peer="cross_entropy, median", reading="its median", p=2, value="cost", form="probs"
        ),
    },
    measure=measure,
    steps=500,
)
