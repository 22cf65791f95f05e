"""The example of over-fitting runs, small: every remedy has its row, its curve and its numbers."""

import json
from pathlib import Path

import pytest

from tests.project.example_runs import EXAMPLES, overfitting


def test_every_remedy_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert overfitting.main(["--seeds", "1", "--steps", "10", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    numbers = json.loads((tmp_path / "overfitting.json").read_text())
    assert list(numbers) == list(overfitting.REMEDIES)
    for remedy, seeds in numbers.items():
        assert f"│ {remedy}" in shown
        assert [one["gap"] for one in seeds] == [one["validation"] - one["training"] for one in seeds]
    assert (tmp_path / "gap.png").stat().st_size > 10_000
    assert (EXAMPLES / "overfitting.py").exists()


def test_a_run_that_stops_early_ends_with_its_best_network(tmp_path: Path) -> None:
    values = overfitting.RUN | overfitting.REMEDIES["early stopping"] | {"steps": 400, "seed": 0}
    outcome = overfitting.trained(values)
    assert outcome.steps < 400
    assert outcome.validation == pytest.approx(outcome.course.best.validation)
