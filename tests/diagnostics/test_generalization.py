"""Over-fitting: what courses are called, what is refused, and which state of a network is kept."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from losses.diagnostics import EarlyStopping, GeneralizationGap
from losses.extend import ConfigError, InputError


def followed(training: list[float], validation: list[float], **settings: Any) -> GeneralizationGap:
    gap = GeneralizationGap(**settings)
    for step, losses in enumerate(zip(training, validation, strict=True)):
        gap.add(10 * step, *losses)
    return gap


COURSES = {
    "over-fitting": ([3, 2, 1, 0.5, 0.2], [3, 2, 2.2, 2.4, 2.8]),
    "under-fitting": ([5, 4, 3, 2, 1], [5, 4, 3, 2, 1.5]),
    "fitting": ([3, 1, 1, 1, 1], [3, 1.1, 1.1, 1.1, 1.1]),
    "unknown": ([3, 2], [3, 2]),
}


@pytest.mark.parametrize("fit", COURSES)
def test_courses_are_called_by_their_names(fit: str) -> None:
    verdict = followed(*COURSES[fit], patience=3).verdict()
    assert verdict.fit == fit
    assert verdict.since == (10 if fit == "over-fitting" else None)
    assert str(verdict).startswith(fit)


def test_both_losses_rising_is_no_over_fitting() -> None:
    assert followed([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], patience=3).verdict().fit == "fitting"


def test_changes_within_the_tolerance_are_none() -> None:
    course = [3.0, 1.0, 0.9, 0.8, 0.7], [3.0, 1.0, 1.005, 1.004, 1.006]
    assert followed(*course, patience=3).verdict().fit == "fitting"
    assert followed(*course, patience=3, tolerance=0.001).verdict().fit == "over-fitting"


def test_losses_below_0_have_verdicts_too() -> None:
    assert followed([0, -1, -2, -3, -4], [0, -1, -0.5, 0, 1], patience=3).verdict().fit == "over-fitting"


def test_the_gap_is_in_the_unit_of_the_loss_and_the_best_is_the_first() -> None:
    gap = followed([2, 1, 0.5], [3, 2, 2])
    assert gap.gap == 1.5
    assert gap.best.step == 10
    assert gap.points[0].gap == 1


def test_it_goes_on_from_a_checkpoint() -> None:
    gap, again = followed(*COURSES["over-fitting"], patience=3), GeneralizationGap(patience=3)
    again.load_state_dict(copy.deepcopy(gap.state_dict()))
    assert again.points == gap.points
    assert again.verdict() == gap.verdict()


@pytest.mark.parametrize(
    ("step", "values", "said"),
    [
        (20, (1.0, 1.0), "step 20 comes after step 20"),
        (30, (math.nan, 1.0), "the training loss of step 30 is NaN"),
        (30, (1.0, math.nan), "the validation loss of step 30 is NaN"),
        (2.5, (1.0, 1.0), "a step is a number of steps that were made, got 2.5"),
        ("30", (1.0, 1.0), "a step is a number of steps that were made, got '30'"),
    ],
)
def test_points_that_cannot_be_are_refused(step: Any, values: tuple[float, float], said: str) -> None:
    gap = followed([2, 1, 0.5], [3, 2, 2])
    with pytest.raises(InputError, match=said):
        gap.add(step, *values)
    assert len(gap.points) == 3


def test_nothing_can_be_said_of_nothing() -> None:
    for ask in (lambda: GeneralizationGap().gap, lambda: GeneralizationGap().best):
        with pytest.raises(InputError, match="nothing was added yet"):
            ask()


@pytest.mark.parametrize("make", [GeneralizationGap, lambda **settings: EarlyStopping(nn.Linear(1, 1), **settings)])
@pytest.mark.parametrize("patience", [0, -1, 1.5, True, "3"])
def test_a_patience_is_a_number_of_points(make: Any, patience: Any) -> None:
    with pytest.raises(ConfigError, match=r"patience: got .*, expected an integer of at least 1"):
        make(patience=patience)


def test_other_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="tolerance: got -1"):
        GeneralizationGap(tolerance=-1)
    with pytest.raises(ConfigError, match="better: got 'smaller', expected 'lower' or 'higher'"):
        EarlyStopping(nn.Linear(1, 1), better="smaller")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigError, match="least: got nan"):
        EarlyStopping(nn.Linear(1, 1), least=math.nan)


@pytest.mark.parametrize(("better", "values"), [("lower", [3, 1, 2, 1]), ("higher", [1, 3, 2, 3])])
def test_the_best_state_is_kept_and_brought_back(better: Any, values: list[float]) -> None:
    model = nn.Linear(2, 1)
    stopping = EarlyStopping(model, patience=2, better=better)
    states = []
    for step, value in enumerate(values):
        nn.init.constant_(model.weight, float(step))
        states.append(stopping.update(step, value))
    assert states == [False, False, False, True]
    assert stopping.best_step == 1
    stopping.restore()
    assert model.weight.tolist() == [[1.0, 1.0]]


def test_a_nan_is_no_better_and_the_least_counts() -> None:
    stopping = EarlyStopping(nn.Linear(1, 1), patience=3, least=0.1)
    with pytest.raises(InputError, match="there is no best state"):
        stopping.restore()
    assert [stopping.update(step, value) for step, value in enumerate([math.nan, 1.0, 0.95, 0.92, math.nan])] == [
        *[False] * 4,
        True,
    ]
    assert stopping.best == 1.0


def test_stopping_goes_on_from_a_checkpoint() -> None:
    model, again = nn.Linear(2, 1), nn.Linear(2, 1)
    stopping, other = EarlyStopping(model, patience=2), EarlyStopping(again, patience=2)
    for step, value in enumerate([1.0, 2.0]):
        stopping.update(step, value)
    kept = copy.deepcopy(model.state_dict())
    other.load_state_dict(copy.deepcopy(stopping.state_dict()))
    assert other.update(2, 3.0)
    other.restore()
    assert all(torch.equal(value, kept[name]) for name, value in again.state_dict().items())
