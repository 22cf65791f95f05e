"""Imbalance: what is looked for is rare, spam among mails."""

from collections.abc import Mapping

from spam_data import mails

from evidence.question import Answer, Question, answer
from evidence.rare import ANSWERS, measured, parted


def measure(tried: Answer, seed: int, steps: int) -> Mapping[str, float]:
    words, spam = mails()
    return measured(tried, *parted(words.numpy(), spam.numpy() == 1, seed), seed, steps)


QUESTION = Question(
    name="spam",
    condition="imbalance",
    task="binary_classification",
    asks="Which loss finds the one mail in twenty that is spam?",
    data="The SpamAssassin corpus (`examples/spam_data.py`), which of 1024 places the words of a mail are hashed to; "
    "one mail in twenty is spam; a linear network, batches of 256, of which `dice` and `tversky` make one mask. "
    "Average precision looks at the order of the logits alone, the others at decisions at probability 1/2",
    better={"average precision": "higher", "F1": "higher", "recall": "higher", "accuracy": "higher"},
    answers={**ANSWERS, "hinge": answer("hinge")},
    measure=measure,
    steps=1000,
)
