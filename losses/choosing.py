"""Choosing a loss: what is to be learnt, and under which conditions, in words; the losses that fit, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from losses.core.errors import ConfigError, quoted
from losses.core.fits import CONDITIONS, TASKS, Fits, require_word
from losses.core.registry import SPECS, Spec, load_plugins

PAGE = "docs/choosing.md"
"""Where the measurements are shown that an advice rests on, under a heading for each condition."""

MEASURED: Mapping[str, Mapping[str, bool]] = {
    # begin measured
    "outliers": {
        "mae": True,
        "quantile": True,
        "huber": True,
        "log_cosh": True,
    },
    "imbalance": {
        "dice": True,
        "tversky": False,
        "focal": False,
        "binary_cross_entropy": False,
    },
    "label_noise": {
        "generalized_cross_entropy": True,
    },
    "calibration": {
        "binary_cross_entropy": True,
        "focal": False,
        "cross_entropy": True,
    },
    "intervals": {
        "quantile": True,
        "gaussian_nll": True,
    },
    "open_set": {
        "multi_similarity": True,
        "info_nce": True,
        "contrastive": True,
        "supervised_contrastive": True,
        "triplet": True,
        "memory_bank": True,
        "circle": True,
        "cosine_embedding": True,
    },
    "ordering": {
        "ordinal": True,
        "wasserstein": False,
    },
    "few_samples": {
        "weighted_sum": True,
        "binary_cross_entropy": False,
    },
    # end measured
}
"""What was measured of losses that claim a condition, the best first, and whether they did better than the usual
choice; written by ``make pages``."""


class Choice(NamedTuple):
    """A loss that fits, why it does, and where that is measured."""

    name: str
    reasons: tuple[str, ...]
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {line}" for line in (*self.reasons, *self.evidence))])


def choose(task: str | None = None, **conditions: bool) -> list[Choice]:
    """Return the losses that fit a task under all the conditions that are asked for, the best first.

    A loss comes first of which more claims stood the measurement, then one that claims more of what is asked for, then
    one that did better in the measurement, and then one that claims less that nobody asked for. Left out are losses of
    other tasks, those that claim none of the conditions, and those that do badly under any of them.

    Args:
        task: what is to be learnt, one of ``binary_classification``, ``classification``, ``multilabel_classification``,
            ``segmentation``, ``regression``, ``count_regression``, ``metric_learning``, ``self_supervised_learning``,
            ``distribution_matching``, ``generation`` and ``multi_task_learning``; left out, any.
        conditions: of ``outliers``, ``imbalance``, ``label_noise``, ``calibration``, ``intervals``, ``open_set``,
            ``ordering``, ``distributions`` and ``few_samples`` those that are true.

    Raises:
        ConfigError: a word is unknown, a condition is neither true nor false, or nothing is asked for.

    >>> for choice in choose(task="regression", outliers=True, intervals=True)[:1]:
    ...     print(choice)
    quantile
      intervals and forecasts: predicts a quantile in place of the mean, or several at once
      outliers: the gradient is the same for any residual; with quantile=0.5 it predicts the median
      intervals: a quantile for each end, whatever the shape of the noise
      docs/choosing.md#outliers
      docs/choosing.md#intervals
    >>> [choice.name for choice in choose("classification", label_noise=True)]
    ['generalized_cross_entropy']
    >>> choose("regression", outlier=True)
    Traceback (most recent call last):
        ...
    losses.ConfigError: unknown condition 'outlier', there are outliers, imbalance, ... Did you mean 'outliers'?
    """
    if task is not None:
        require_word("task", task, TASKS)
    for word, value in conditions.items():
        require_word("condition", word, CONDITIONS)
        if not isinstance(value, bool):
            raise ConfigError(f"{word}: got {quoted(value)}, expected True or False")
    asked = [word for word in CONDITIONS if conditions.get(word)]
    if task is None and not asked:
        raise ConfigError(
            f"nothing is asked for; give a task, one of {', '.join(TASKS)}, or conditions, of {', '.join(CONDITIONS)}"
        )
    load_plugins()
    declared = [(spec, spec.fits) for spec in SPECS.values() if spec.fits is not None]
    fitting = [(spec, fits) for spec, fits in declared if is_fit(fits, task, asked)]
    fitting.sort(key=lambda pair: rank(pair[0], pair[1], asked))
    return [chosen(spec, fits, asked) for spec, fits in fitting]


def is_fit(fits: Fits, task: str | None, asked: Sequence[str]) -> bool:
    """Return whether a loss is made for the task and claims a condition that is asked for, with none against it."""
    if task is not None and task not in fits.task:
        return False
    return not asked or (bool(fits.claimed.keys() & set(asked)) and not fits.against.keys() & set(asked))


def rank(spec: Spec, fits: Fits, asked: Sequence[str]) -> tuple[int, int, int, int, str]:
    """Return a key to sort by, less for what fits better."""
    claimed = [word for word in asked if word in fits.claimed]
    refuted = [word for word in claimed if stands(spec.name, word) is False]
    proven = [word for word in claimed if stands(spec.name, word)]
    places = sum(place(spec.name, word) for word in claimed)
    return -len(proven), len(refuted) - len(claimed), places, len(fits.claimed) - len(claimed), spec.name


def stands(name: str, condition: str) -> bool | None:
    """Return whether the measurement bears out that a loss does well under a condition; none: it was not measured."""
    return MEASURED.get(condition, {}).get(name)


def place(name: str, condition: str) -> int:
    """Return which of the losses measured under a condition a loss is, 0 for the best; behind all if it is none."""
    order = [*MEASURED.get(condition, {})]
    return order.index(name) if name in order else len(order)


def chosen(spec: Spec, fits: Fits, asked: Sequence[str]) -> Choice:
    """Return a choice with its reasons: what the loss is for, then what it says to every condition."""
    said = [f"{word}: {reason_of(word, spec.name, fits)}" for word in asked]
    return Choice(spec.name, (spec.suits, *said), tuple(link(word) for word in asked if word in fits.claimed))


def reason_of(condition: str, name: str, fits: Fits) -> str:
    """Return what a loss says to a condition, and what the measurement says to that."""
    reason = fits.claimed.get(condition, "nothing is claimed")
    return f"{reason} (said of it, but not what was measured)" if stands(name, condition) is False else reason


def link(condition: str) -> str:
    """Return where a condition is measured: the place on the page in the repository."""
    return f"{PAGE}#{heading(condition)}"


def heading(word: str) -> str:
    """Return the anchor of the heading that a task or condition has on the page.

    >>> heading("label_noise")
    'label-noise'
    """
    return word.replace("_", "-")
