"""Calibration: are probabilities as large as they come true?"""

from collections.abc import Mapping

from run_config import Run
from tasks.digits import logits_of
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from evidence.question import Answer, Question, answer, run_of, trained

OVER_FITTED = ("task.testing=0.75", "network={name: mlp, hidden: [256, 256]}", "optimiser.weight_decay=0")


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    of_digits = ("digits", tried.loss, seed, f"task.split_seed={seed}", "task.validation=0.2")
    usual, over_fitted = run_of(*of_digits, "task.testing=0.6"), run_of(*of_digits, *OVER_FITTED)
    return {
        **tested(usual, steps),
        **{f"{name}, over-fitted": value for name, value in tested(over_fitted, steps).items()},
    }


def tested(run: Run, steps: int) -> Mapping[str, float]:
    """Return how well the probabilities of what a run trains are calibrated, and how often the largest is right."""
    network = trained(run, steps)
    images, labels = run.task.parts["testing"]
    probs = logits_of(network, images).softmax(1)
    return {
        "ECE": multiclass_calibration_error(probs, labels, run.task.outputs, n_bins=15).item(),
        "accuracy": multiclass_accuracy(probs, labels, run.task.outputs, average="micro").item(),
    }


QUESTION = Question(
    name="class_probabilities",
    condition="calibration",
    task="classification",
    asks="Which loss gives probabilities that come true as often as they say?",
    data="`load_digits`, a small CNN with weight decay and 359 images to train on; and, over-fitted, two layers of 256 "
    "hidden units without weight decay and 89 images. Expected calibration error of 15 bins (torchmetrics) of the "
    "softmax of what the network returns",
    better={"ECE": "lower", "accuracy": "higher", "ECE, over-fitted": "lower", "accuracy, over-fitted": "higher"},
    answers={
        "multiclass_hinge": answer("multiclass_hinge"),
        "cross_entropy": answer("cross_entropy", peer="multiclass_hinge"),
        "cross_entropy, smoothed": answer("cross_entropy", peer="cross_entropy", label_smoothing=0.05),
        "focal": answer("focal", peer="cross_entropy", form="multiclass"),
    },
    measure=measure,
    steps=600,
)
