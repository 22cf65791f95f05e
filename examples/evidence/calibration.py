"""Calibration: are probabilities as large as they come true?"""

from collections.abc import Mapping

from tasks.digits import logits_of
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from evidence.question import Answer, Question, answer, run_of, trained


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    run = run_of("digits", tried.loss, seed, f"task.split_seed={seed}", "task.testing=0.6", "task.validation=0.2")
    network = trained(run, steps)
    images, labels = run.task.parts["testing"]
    probs = logits_of(network, images).softmax(1)
    return {
        "ECE": multiclass_calibration_error(probs, labels, run.task.outputs, n_bins=15).item(),
        "accuracy": multiclass_accuracy(probs, labels, run.task.outputs, average="micro").item(),
    }


QUESTION = Question(
    condition="calibration",
    asks="Which loss gives probabilities that come true as often as they say?",
    data="`load_digits`, a small CNN, 359 images to train on and 1,079 to test on; expected calibration error of 15 "
    "bins (torchmetrics), of the softmax of what the network returns",
    better={"ECE": "lower", "accuracy": "higher"},
    answers={
        "multiclass_hinge": answer("multiclass_hinge"),
        "cross_entropy": answer("cross_entropy", peer="multiclass_hinge"),
        "cross_entropy, smoothed": answer("cross_entropy", peer="cross_entropy", label_smoothing=0.05),
        "focal": answer("focal", peer="cross_entropy", form="multiclass"),
    },
    measure=measure,
    steps=300,
)
