"""Label noise: many of the labels that are trained on are wrong."""

from collections.abc import Mapping

from evidence.question import Answer, Question, answer, run_of, trained


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    run = run_of("digits", tried.loss, seed, f"task.split_seed={seed}", "task.label_noise=0.4")
    return run.task.metrics(trained(run, steps))


QUESTION = Question(
    name="label_noise",
    condition="label_noise",
    task="classification",
    asks="Which loss learns a classification from labels many of which are wrong?",
    data="`load_digits`, a small CNN, 40 % of the training labels are another digit, each as often; right labels to "
    "test on",
    better={"accuracy": "higher"},
    answers={
        "cross_entropy": answer("cross_entropy"),
        "cross_entropy, smoothed": answer("cross_entropy", label_smoothing=0.1),
        "generalized_cross_entropy": answer("generalized_cross_entropy", peer="cross_entropy"),
        "generalized_cross_entropy, q = 1": answer("generalized_cross_entropy", peer="cross_entropy", q=1.0),
    },
    measure=measure,
    steps=600,
)
