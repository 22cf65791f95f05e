"""Calibration: is a probability of yes as large as it comes true?"""

from collections.abc import Mapping

from run_config import Run
from tasks.task import answers
from torchmetrics.functional.classification import binary_accuracy, binary_calibration_error

from evidence.question import Answer, Question, answer, run_of, trained


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    found = {
        config: tested(run_of(config, tried.loss, seed, f"task.split_seed={seed}"), steps)
        for config in ("spam", "disease")
    }
    return {f"{metric}, {config}": value for config, metrics in found.items() for metric, value in metrics.items()}


def tested(run: Run, steps: int) -> Mapping[str, float]:
    """Return how well the probabilities of what a run trains are calibrated, and how often the side is right."""
    network = trained(run, steps)
    inputs, target = run.task.parts["testing"]
    probs, target = answers(network, inputs).sigmoid(), target.int()
    return {
        "ECE": binary_calibration_error(probs, target, n_bins=15).item(),
        "accuracy": binary_accuracy(probs, target).item(),
    }


QUESTION = Question(
    name="binary_probabilities",
    condition="calibration",
    task="binary_classification",
    asks="Which loss gives probabilities of yes that come true as often as they say?",
    data="The SpamAssassin corpus, is it spam? and `load_breast_cancer`, is it malignant? Linear networks; expected "
    "calibration error of 15 bins (torchmetrics) of the sigmoid of what the network returns",
    better={
        "ECE, spam": "lower",
        "accuracy, spam": "higher",
        "ECE, disease": "lower",
        "accuracy, disease": "higher",
    },
    answers={
        "hinge": answer("hinge"),
        "binary_cross_entropy": answer("binary_cross_entropy", peer="hinge"),
        "binary_cross_entropy, smoothed": answer(
            "binary_cross_entropy", peer="binary_cross_entropy", label_smoothing=0.05
        ),
        "focal": answer("focal", peer="binary_cross_entropy"),
    },
    measure=measure,
    steps=600,
)
