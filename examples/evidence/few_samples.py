"""Few samples: what closes the gap between data that are trained on and data that are not?"""

from collections.abc import Mapping

import overfitting

from evidence.question import Answer, Question, answer


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    stopped = {"stop_after": 3} if tried.reading else {}
    outcome = overfitting.trained(
        {**overfitting.RUN, "loss": dict(tried.loss), **stopped, "steps": steps, "seed": seed}
    )
    return {"validation loss": outcome.validation, "gap": outcome.gap, "accuracy": outcome.accuracy}


def penalised(name: str) -> Answer:
    """Return an answer with the penalty that the example of over-fitting has."""
    return answer(peer="binary_cross_entropy", **overfitting.REMEDIES[name]["loss"])


QUESTION = Question(
    name="few_samples",
    condition="few_samples",
    task="binary_classification",
    asks="Which loss learns most from few samples?",
    data="`load_breast_cancer`, 56 women to train on, a network with 256 hidden units (`examples/overfitting.py`); "
    "whatever is minimised, the loss on data that were not trained on and the gap are cross-entropies",
    better={"validation loss": "lower", "gap": "lower", "accuracy": "higher"},
    answers={
        "binary_cross_entropy": answer("binary_cross_entropy"),
        "binary_cross_entropy, smoothed": answer(
            "binary_cross_entropy", peer="binary_cross_entropy", label_smoothing=0.05
        ),
        "weighted_sum, l2 penalty": penalised("l2 penalty"),
        "weighted_sum, l1 penalty": penalised("l1 penalty"),
        "weighted_sum, elastic net": penalised("elastic net"),
        "binary_cross_entropy, stopped early": answer("binary_cross_entropy", reading="stopped early"),
    },
    measure=measure,
    steps=400,
)
