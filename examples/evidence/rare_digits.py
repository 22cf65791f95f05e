"""Imbalance: what is looked for is rare, a digit among others."""

from collections.abc import Mapping

from sklearn.datasets import load_digits

from evidence.question import Answer, Question
from evidence.rare import ANSWERS, measured, parted

DIGIT = 8


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    digits = load_digits()
    return measured(tried, *parted(digits.data / 16, digits.target == DIGIT, seed), seed, steps)


QUESTION = Question(
    name="rare_digits",
    condition="imbalance",
    task="binary_classification",
    asks="Which loss finds what one sample in twenty is?",
    data="`load_digits`, is it an eight? One image in twenty is; a linear network, batches of 256, of which `dice` and "
    "`tversky` make one mask. Average precision looks at the order of the logits alone, F1 and recall at decisions at "
    "probability 1/2",
    better={"average precision": "higher", "F1": "higher", "recall": "higher"},
    answers=ANSWERS,
    measure=measure,
    steps=2000,
)
