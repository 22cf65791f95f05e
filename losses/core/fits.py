"""What a loss fits, as data: for which tasks it is made, and under which conditions it does well or badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from losses.core.errors import ConfigError, Problem, quoted, suggestion

TASKS: Mapping[str, str] = {
    "binary_classification": "yes or no",
    "classification": "one of several classes",
    "multilabel_classification": "any number of several classes",
    "segmentation": "a class for every place of a picture",
    "regression": "a number",
    "count_regression": "how many",
    "metric_learning": "embeddings in which what belongs together lies together",
    "self_supervised_learning": "embeddings, without labels",
    "distribution_matching": "a distribution like a given one",
    "generation": "new samples like those of the data",
    "multi_task_learning": "several aims at once",
}
"""What may be learnt, and what each word means."""

CONDITIONS: Mapping[str, str] = {
    "outliers": "some targets are far off",
    "imbalance": "one class is much rarer than the others",
    "label_noise": "many labels are wrong",
    "calibration": "probabilities should be as large as they come true",
    "intervals": "the answer is an interval that holds the target as often as promised",
    "open_set": "classes in use are none of those in training",
    "ordering": "classes have an order, and a far miss is worse than a near one",
    "distributions": "targets are probabilities rather than one class",
    "few_samples": "there are few samples to learn from",
}
"""Under which conditions, and what each word means."""


@dataclass(frozen=True, kw_only=True)
class Fits:
    """What a loss fits: every condition holds why the loss does well under it, or nothing where nothing is claimed.

    Args:
        task: the tasks it is made for, words of ``TASKS``.
        outliers, imbalance, ...: the words of ``CONDITIONS``, each a phrase that says why.
        against: conditions under which the loss does badly, and why.

    Raises:
        ConfigError: a word is unknown, a reason is empty, or a condition speaks for the loss and against it.

    >>> Fits(task=["regression"], outliers="the gradient is at most delta").outliers
    'the gradient is at most delta'
    """

    task: Sequence[str]
    outliers: str = ""
    imbalance: str = ""
    label_noise: str = ""
    calibration: str = ""
    intervals: str = ""
    open_set: str = ""
    ordering: str = ""
    distributions: str = ""
    few_samples: str = ""
    against: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.task, str) or not isinstance(self.task, Sequence) or not self.task:
            message = f"got {quoted(self.task)}, expected a list of one or more of {', '.join(TASKS)}"
            raise ConfigError(Problem(("fits", "task"), message))
        for word in self.task:
            require_word("task", word, TASKS, "fits", "task")
        if not isinstance(self.against, Mapping):
            message = f"got {quoted(self.against)}, expected a mapping from a condition to why not"
            raise ConfigError(Problem(("fits", "against"), message))
        for word in self.against:
            require_word("condition", word, CONDITIONS, "fits", "against")
        for word in CONDITIONS:
            self._require_reasons(word)

    def _require_reasons(self, word: str) -> None:
        for place, reason in (((word,), getattr(self, word)), (("against", word), self.against.get(word, ""))):
            if not isinstance(reason, str) or (reason and not reason.strip()):
                raise ConfigError(Problem(("fits", *place), f"got {quoted(reason)}, expected why, in one phrase"))
        if getattr(self, word) and word in self.against:
            raise ConfigError(Problem(("fits", word), "speaks for the loss and against it; leave one of them out"))

    @property
    def claimed(self) -> dict[str, str]:
        """The conditions that it claims to do well under, and why."""
        return {word: reason for word in CONDITIONS if (reason := getattr(self, word))}


def require_word(what: str, word: object, known: Mapping[str, str], *path: str) -> None:
    """Raise unless a word is a known one; the error says which there are, and which may be meant.

    >>> require_word("task", "regresion", TASKS)
    Traceback (most recent call last):
        ...
    losses.ConfigError: unknown task 'regresion', there are binary_classification, ... Did you mean 'regression'?
    """
    if not isinstance(word, str) or word not in known:
        message = f"unknown {what} {quoted(word)}, there are {', '.join(known)}.{suggestion(word, known)}"
        raise ConfigError(Problem(path, message))
