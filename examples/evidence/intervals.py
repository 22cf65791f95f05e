"""Intervals: how narrow may they be, and how often do they hold the target?"""

from collections.abc import Mapping

import torch
from sklearn.datasets import load_breast_cancer
from tasks.task import Samples
from torch import Tensor, nn

from evidence.fitting import diabetes, fitted, parted
from evidence.question import Answer, Question, answer
from losses import Gaussian, create

LEVEL = 0.9
DEVIATIONS = torch.distributions.Normal(0, 1).icdf(torch.tensor((1 + LEVEL) / 2)).item()  # on either side


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    parts = {"tumours": tumours(seed), "diabetes": diabetes(seed)}
    found = {name: on(*samples, tried, seed, steps) for name, samples in parts.items()}
    return {f"{metric}, {name}": value for name, metrics in found.items() for metric, value in metrics.items()}


def tumours(seed: int) -> tuple[Samples, Samples]:
    """Return tumours to train on and to test on: how large the largest nuclei of each are, by means of its nuclei; the
    larger they are, the less the means say."""
    data = load_breast_cancer()
    names = list(data.feature_names)
    means = [place for place, name in enumerate(names) if name.startswith("mean ")]
    return parted(data.data[:, means], data.data[:, names.index("worst area")], seed)


def on(known: Samples, unknown: Samples, tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    """Return how well intervals do that are learnt from some samples on others."""
    middle, width = known.target.mean(), known.target.std()
    torch.manual_seed(seed)
    network, loss = nn.Linear(known.inputs.shape[1], 2), create(tried.loss)
    scaled = Samples(known.inputs, (known.target - middle) / width)
    fitted(network, lambda output, target: loss(form(tried, output), target), scaled, seed, steps)
    with torch.no_grad():
        both = ends(tried, network(unknown.inputs), network(known.inputs), scaled)
    low, high = (end * width + middle for end in both)
    return compared(low, high, unknown.target)


def form(tried: Answer, output: Tensor) -> Tensor | Gaussian:
    """Return two numbers of each sample as its loss takes them."""
    match tried.loss["name"]:
        case "gaussian_nll":
            return Gaussian(output[:, 0], output[:, 1])
        case "mse":
            return output[:, 0]
    return output


def ends(tried: Answer, output: Tensor, seen: Tensor, known: Samples) -> tuple[Tensor, Tensor]:
    """Return both ends of the intervals; of squared errors the residuals of training tell how wide all of them are."""
    if tried.loss["name"] == "quantile":
        return output[:, 0], output[:, 1]
    if tried.loss["name"] == "mse":
        deviation = (seen[:, 0] - known.target).square().mean().sqrt()
    else:
        deviation = (output[:, 1] / 2).exp()
    return output[:, 0] - DEVIATIONS * deviation, output[:, 0] + DEVIATIONS * deviation


def compared(low: Tensor, high: Tensor, target: Tensor) -> Mapping[str, float]:
    """Return the interval score (Gneiting and Raftery 2007, eq. 43), the coverage and the width."""
    missed = (low - target).relu() + (target - high).relu()
    return {
        "interval score": (high - low + 2 / (1 - LEVEL) * missed).mean().item(),
        "coverage": (missed == 0).float().mean().item(),
        "width": (high - low).mean().item(),
    }


QUESTION = Question(
    name="intervals",
    condition="intervals",
    task="regression",
    asks="Which loss gives intervals that hold nine of ten targets and are narrow?",
    data="`load_breast_cancer`, the area of the largest nuclei by the means of all, which say the less the larger they "
    "are, and `load_diabetes`, whose noise differs little from patient to patient; linear networks, intervals for "
    "90 %, beside those of a mean and one deviation for all that is taken from training. The interval score is the "
    "width, and twenty times what a target lies outside (Gneiting and Raftery 2007)",
    better={
        "interval score, tumours": "lower",
        "coverage, tumours": "90 %",
        "width, tumours": "lower",
        "interval score, diabetes": "lower",
        "coverage, diabetes": "90 %",
        "width, diabetes": "lower",
    },
    answers={
        "mse": answer("mse", reading="one deviation for all"),
        "quantile": answer("quantile", peer="mse", quantile=[0.05, 0.95]),
        "gaussian_nll": answer("gaussian_nll", peer="mse"),
    },
    measure=measure,
    steps=1000,
)
