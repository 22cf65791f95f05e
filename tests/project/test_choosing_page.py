"""The page on choosing a loss says what was measured and no more, its links lead somewhere, and the evidence runs."""

import importlib
import json
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

import losses
from losses.choosing import MEASURED
from losses.core.fits import CONDITIONS, TASKS
from losses.core.registry import find
from tests.project.example_runs import EXAMPLES
from tools import choosing_page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
command = importlib.import_module("choosing")
QUESTIONS = importlib.import_module("evidence").QUESTIONS


def results(question: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "choosing" / f"{question}.json").read_text(encoding="utf-8"))


def anchors() -> set[str]:
    """Return what links into the page may name: headings, as GitHub makes anchors of them, and places of losses."""
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings} | {
        *re.findall(r'<a id="(\w+)"></a>', PAGE)
    }


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_measured_as_it_is_asked(question: str) -> None:
    """A question that has changed since is to be measured again: make evidence."""
    asked, found = QUESTIONS[question], results(question)
    for name in ("condition", "task", "asks", "data", "better", "steps", "seeds"):
        assert found[name] == getattr(asked, name), name
    assert found["picture"] == (asked.picture.shows if asked.picture else "")
    assert found["seeds"] >= 3
    assert [row["answer"] for row in found["rows"]] == list(asked.answers)
    for row, tried in zip(found["rows"], asked.answers.values(), strict=True):
        assert {name: row[name] for name in tried._fields} == tried._asdict()
        assert {len(values) for values in row["measured"].values()} == {asked.seeds}


@pytest.mark.parametrize("question", QUESTIONS)
def test_whatever_is_compared_with_a_peer_claims_to_be_better(question: str) -> None:
    asked = QUESTIONS[question]
    assert asked.condition in CONDITIONS
    assert asked.task in TASKS
    for name, tried in asked.answers.items():
        assert name == tried.reading if not tried.loss else name.partition(",")[0] == tried.loss["name"]
        if tried.peer:
            assert tried.peer in asked.answers
            assert asked.condition in find(tried.loss["name"]).fits.claimed, f"{name} claims nothing"


def test_every_number_was_measured() -> None:
    measured = {
        choosing_page.spread_of(values)
        for question in QUESTIONS
        for row in results(question)["rows"]
        for values in row["measured"].values()
    }
    shown = re.findall(r"(-?[\d.]+ ± [\d.]+)", PAGE)
    assert len(shown) > 100
    assert set(shown) == measured
    texts = json.dumps([results(question) for question in QUESTIONS], ensure_ascii=False)
    texts += json.dumps([find(name).suits + str(find(name).fits) for name in losses.available()], ensure_ascii=False)
    rest = re.sub(r"-?[\d.]+ ± [\d.]+", "", PAGE.partition("## Which loss when")[2])
    numbers = set(re.findall(r"\d[\d.,]*\d|\d", rest))
    assert not {number for number in numbers if number not in texts}


def test_a_mean_and_its_deviation_are_those_of_the_statistics_module() -> None:
    values = results("outliers")["rows"][0]["measured"]["MAE"]
    assert f"{fmean(values):.1f} ± {stdev(values):.1f}" in PAGE


def test_what_did_not_do_better_than_its_peer_is_struck_everywhere() -> None:
    decisions = PAGE.partition("## Which loss when")[2].partition("\n## ")[0].splitlines()
    for question in QUESTIONS:
        for advice in choosing_page.advices(question):
            name = choosing_page.named(advice.answer)
            shown = name if advice.stands else f"~~{name}~~"
            (row,) = [line for line in decisions if f"(#{choosing_page.heading(question)}) | {shown} |" in line]
            assert f"| {choosing_page.named(advice.peer)} {choosing_page.spread_of(advice.peer_values)} |" in row
            assert f"| {shown}" in PAGE.replace(row, "")


@pytest.mark.parametrize("condition", MEASURED)
def test_a_claim_stands_where_a_question_about_a_task_of_its_loss_bears_it_out(condition: str) -> None:
    asked = {name: question for name, question in QUESTIONS.items() if question.condition == condition}
    for loss, stands in MEASURED[condition].items():
        fitting = [name for name, question in asked.items() if question.task in find(loss).fits.task]
        tried = [one.stands for name in fitting for one in choosing_page.advices(name) if one.loss == loss]
        assert tried
        assert stands == any(tried)
        assert choosing_page.is_struck(condition, loss) != stands


def test_an_advice_does_better_than_what_learns_nothing() -> None:
    found = results("open_set")
    reference = {row["answer"]: row["measured"] for row in found["rows"] if not row["loss"]}
    assert list(reference) == ["raw pixels", "untrained network"]
    for advice in choosing_page.advices("open_set"):
        for measured in reference.values():
            values = measured[advice.metric]
            assert advice.stands <= choosing_page.is_better(advice.values, values, found["better"][advice.metric])


def test_better_is_better_by_more_than_chance() -> None:
    assert choosing_page.is_better([2.0, 2.1, 2.2], [1.0, 1.1, 1.3], "higher")
    assert not choosing_page.is_better([2.0, 2.1, 2.2], [1.0, 1.1, 1.3], "lower")
    assert not choosing_page.is_better([2.0, 2.0, 2.0], [1.0, 3.0, 1.9], "higher")
    assert not choosing_page.is_better([1.0, 1.0], [1.0, 1.0], "higher")


def test_every_link_leads_somewhere() -> None:
    there = anchors()
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    assert len(headings) == len(set(headings)), "the anchor of a heading that is there twice leads to the first"
    inside = set(re.findall(r"\]\(#([^)]*)\)", PAGE))
    outside = set(re.findall(r"\]\(docs/choosing\.md#([^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    proposed = {
        link.partition("#")[2]
        for word in CONDITIONS
        for choice in losses.choose(**{word: True})
        for link in choice.evidence
    }
    assert inside | outside | proposed <= there
    assert {name for name in losses.available() if choosing_page.is_ours(find(name))} <= outside
    assert {choosing_page.heading(word) for word in (*TASKS, *CONDITIONS)} <= there
    pictures = re.findall(r"!\[[^\]]+\]\(choosing/(\w+)\.png\)", PAGE)
    assert len(re.findall(r"\]\((?!#)", PAGE)) == len(pictures)
    assert set(pictures) == {path.stem for path in (ROOT / "docs" / "choosing").glob("*.png")}
    assert set(pictures) == {name for name, question in QUESTIONS.items() if question.picture}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_evidence_runs_small(question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([question, "--quick", "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / f"{question}.json").read_text(encoding="utf-8"))
    assert list(found) == list(results(question))
    assert (tmp_path / f"{question}.png").exists() == bool(found["picture"])
    assert found["seeds"] == 1
    shown = capsys.readouterr().out
    for row in found["rows"]:
        assert row["answer"] in shown
        assert list(row["measured"]) == list(QUESTIONS[question].better)


def test_an_unknown_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["outlier"])
    assert "unknown question outlier, there are outliers, label_noise" in capsys.readouterr().err


def test_every_question_has_its_file() -> None:
    assert {name: question.name for name, question in QUESTIONS.items()} == {name: name for name in QUESTIONS}
    assert {path.stem for path in (EXAMPLES / "evidence").glob("*.py")} >= set(QUESTIONS)
    assert {path.stem for path in (ROOT / "docs" / "choosing").glob("*.json")} == set(QUESTIONS)
