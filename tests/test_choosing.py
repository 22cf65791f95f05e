"""Choosing: what fits is ranked with its reasons, and a word that is none is refused in words that help."""

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
from torch import Tensor

import losses
from losses import choosing
from losses.core.fits import CONDITIONS, TASKS, Fits
from losses.core.registry import SPECS, find
from losses.extend import POINTWISE, ElementwiseLoss, Reduction, checked, register
from tests.refusals import refused

NAMES = losses.available()


def named(*arguments: Any, **conditions: Any) -> list[str]:
    return [choice.name for choice in losses.choose(*arguments, **conditions)]


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_says_what_it_fits(name: str) -> None:
    fits = find(name).fits
    assert fits is not None
    assert set(fits.task) <= set(TASKS)
    for task in fits.task:
        assert name in named(task)
    for condition in fits.claimed:
        assert name in named(fits.task[0], **{condition: True})
    for condition in fits.against:
        assert name not in named(fits.task[0], **{condition: True})


def test_conditions_are_the_fields_of_a_declaration() -> None:
    assert [field.name for field in fields(Fits)] == ["task", *CONDITIONS, "against"]


@pytest.mark.parametrize("word", [*TASKS, *CONDITIONS])
def test_every_word_leads_to_a_loss_and_is_documented(word: str) -> None:
    assert named(word) if word in TASKS else named(**{word: True})
    assert f"``{word}``" in str(losses.choose.__doc__)


def test_the_plainest_loss_of_a_task_comes_first() -> None:
    assert named("regression")[0] == "mse"
    assert named("segmentation") == ["dice", "tversky"]
    assert named("generation") == ["elbo"]


def test_a_loss_that_claims_more_of_what_is_asked_for_comes_first() -> None:
    assert named("regression", outliers=True, intervals=True)[0] == "quantile"
    assert "mse" not in named("regression", outliers=True)
    assert "cross_entropy" not in named("classification", label_noise=True)


def test_what_did_better_in_the_measurement_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"outliers": {"log_cosh": True, "mae": True, "quantile": False}}
    monkeypatch.setattr(choosing, "MEASURED", measured)
    assert named("regression", outliers=True) == ["log_cosh", "mae", "huber", "quantile"]
    assert "said of it, but not what was measured" in losses.choose("regression", outliers=True)[-1].reasons[1]


@pytest.mark.parametrize("condition", choosing.MEASURED)
def test_the_ranking_is_that_of_the_measurement(condition: str) -> None:
    order = [name for name in named(**{condition: True}) if name in choosing.MEASURED[condition]]
    assert order == sorted(choosing.MEASURED[condition], key=lambda name: not choosing.MEASURED[condition][name])


def test_a_condition_that_is_false_is_not_asked_for() -> None:
    assert named("regression", outliers=False) == named("regression")


def test_a_choice_says_why_and_where_it_is_measured() -> None:
    choice = losses.choose("classification", label_noise=True, few_samples=True)[0]
    assert choice.name == "generalized_cross_entropy"
    assert choice.reasons[0] == find(choice.name).suits
    assert [reason.partition(":")[0] for reason in choice.reasons[1:]] == ["label_noise", "few_samples"]
    assert choice.evidence == ("docs/choosing.md#label-noise",)
    both = losses.choose("regression", outliers=True, intervals=True)[0]
    assert both.evidence == ("docs/choosing.md#outliers", "docs/choosing.md#intervals")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "regresion"}, ["unknown task 'regresion'", "there are binary_cl", "Did you mean 'regression'?"]),
        ({"task": 3}, ["unknown task 3", "there are binary_classification"]),
        ({"task": "regression", "outlier": True}, ["unknown condition 'outlier'", "Did you mean 'outliers'?"]),
        ({"quick": True}, ["unknown condition 'quick'", "there are outliers, imbalance"]),
        ({"outliers": 1}, ["outliers: got 1", "expected True or False"]),
        ({}, ["nothing is asked for", "regression", "label_noise"]),
        ({"outliers": False}, ["nothing is asked for"]),
    ],
    ids=str,
)
def test_what_is_no_question_is_refused(arguments: dict[str, Any], words: list[str]) -> None:
    with refused(words, losses.ConfigError):
        losses.choose(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "regression"}, ["fits.task: got 'regression'", "expected a list"]),
        ({"task": ()}, ["fits.task: got ()", "one or more of binary_classification"]),
        ({"task": ["regresion"]}, ["fits.task: unknown task 'regresion'", "Did you mean 'regression'?"]),
        ({"task": ["regression"], "outliers": True}, ["fits.outliers: got True", "expected why, in one phrase"]),
        ({"task": ["regression"], "outliers": " "}, ["fits.outliers: got ' '"]),
        ({"task": ["regression"], "against": "outliers"}, ["fits.against: got 'outliers'", "expected a mapping"]),
        ({"task": ["regression"], "against": {"outlier": "x"}}, ["fits.against: unknown condition 'outlier'"]),
        ({"task": ["regression"], "against": {"outliers": 3}}, ["fits.against.outliers: got 3"]),
        ({"task": ["regression"], "outliers": "x", "against": {"outliers": "y"}}, ["fits.outliers", "for", "against"]),
    ],
    ids=str,
)
def test_a_wrong_declaration_is_refused(arguments: dict[str, Any], words: list[str]) -> None:
    with refused(words, losses.ConfigError):
        Fits(**arguments)


def a_class() -> Any:
    class Fourth(ElementwiseLoss):
        """Residual to the fourth power."""

        @checked
        def __init__(self, *, reduction: Reduction = "mean") -> None:
            super().__init__()
            self.reduction = reduction

        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target) ** 4

    return Fourth


def test_a_loss_of_anyone_is_proposed_if_it_says_what_it_fits() -> None:
    said = {"inputs": POINTWISE, "suits": "tests", "source": "2026", "family": "tests"}
    silent, saying = a_class(), a_class()
    try:
        register("silent_power", **said)(silent)
        register("saying_power", fits=Fits(task=["regression"], outliers="tests"), **said)(saying)
        assert "silent_power" not in named("regression")
        assert "saying_power" in named("regression", outliers=True)
        with refused(["cannot register 'x'", "fits must be", "write fits=Fits("], losses.ConfigError):
            register("x", fits={"task": "regression"}, **said)(a_class())  # type: ignore[arg-type]  # wrong on purpose
    finally:
        SPECS.pop("silent_power", None), SPECS.pop("saying_power", None)


def shown(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "losses", "choose", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_reader_may_leave_early() -> None:
    """As `python -m losses | head -1` does."""
    with subprocess.Popen(
        [sys.executable, "-m", "losses"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listing:
        assert listing.stdout is not None and listing.stderr is not None
        listing.stdout.close()
        assert listing.stderr.read() == ""
        assert listing.wait(timeout=120) == 1


def test_the_command_line_says_the_same() -> None:
    asked = shown("--task", "regression", "--outliers")
    assert asked.returncode == 0
    assert [line for line in asked.stdout.splitlines() if not line.startswith(" ")] == named(
        "regression", outliers=True
    )
    assert "label_noise" in shown().stdout
    wrong = shown("--task=regression", "--outlier")
    assert wrong.returncode == 2
    assert "Did you mean 'outliers'?" in wrong.stderr
