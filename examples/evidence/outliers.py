"""Outliers: some of the targets that are trained on are wrong."""

from collections.abc import Mapping

from evidence.question import Answer, Question, answer, run_of, trained


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    run = run_of("outliers", tried.loss, seed, f"task.split_seed={seed}")
    return run.task.metrics(trained(run, steps))


QUESTION = Question(
    name="outliers",
    condition="outliers",
    task="regression",
    asks="Which loss learns a regression from targets some of which are far off?",
    data="`load_diabetes`, a linear network, one training target in ten is ten times too large; errors on right "
    "targets, in their unit",
    better={"MAE": "lower", "R2": "higher"},
    answers={
        "mse": answer("mse"),
        "mae": answer("mae", peer="mse"),
        "huber": answer("huber", peer="mse"),
        "log_cosh": answer("log_cosh", peer="mse"),
        "quantile": answer("quantile", peer="mse", quantile=0.5),
    },
    measure=measure,
    steps=1000,
)
