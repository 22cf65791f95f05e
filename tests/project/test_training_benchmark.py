"""The training benchmark: it trains what examples/train.py trains, finds equal losses equal, and notices another
one."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.cases import training
from benchmarks.harness.training import seeds, turns

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def short_rounds():
    """One call is enough of a measurement here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.harness.timing.SLOT", 0.0)
        patch.setattr("benchmarks.harness.timing.CHEAP_ROUNDS", 3)
        yield


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, bool, str]:
    """Return the numbers, whether all went well, and what was printed, of one run with --quick."""
    parser = argparse.ArgumentParser()
    training.options(parser)
    printed = tmp_path_factory.mktemp("training") / "printed.txt"
    with printed.open("w", encoding="utf-8") as file:
        numbers, well = training.report(parser.parse_args(["--quick"]), Console(file=file, width=140))
    return json.loads(json.dumps(numbers)), well, printed.read_text(encoding="utf-8")


def test_first_steps_are_equal(quick: tuple[dict, bool, str]) -> None:
    numbers, well, _ = quick
    (seed,) = numbers["seeds"]
    assert well
    assert seed["error"] is None
    assert len(seed["double"]["ours"]) == training.COMPARED
    assert seed["double"]["ours"] == pytest.approx(seed["double"]["PML"], rel=seeds.EQUAL, abs=0)
    assert seed["losses"]["ours"][:5] == pytest.approx(seed["losses"]["PML"][:5], rel=seeds.TOLERANCE, abs=0)
    assert len(seed["losses"]["ours"]) == 30


def test_table_is_narrow_and_shows_every_metric(quick: tuple[dict, bool, str]) -> None:
    numbers, _, printed = quick
    assert max(map(len, printed.splitlines())) <= training.WIDTH
    assert {row["metric"] for row in numbers["judged"]} == {"AUC", "EER", "recall@1"}
    assert all(row["within"] is None for row in numbers["judged"]), "a single seed has no range"
    assert all(row["metric"] in printed for row in numbers["judged"])
    assert set(numbers["milliseconds"]) == {"training step", "loss alone, untrained", "loss alone, trained"}
    assert all(time > 0 for times in numbers["milliseconds"].values() for time in times.values())


@pytest.mark.parametrize("by", [0.01, 1e-5])
def test_another_margin_is_noticed(by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "timed", lambda *_, **__: pytest.fail("timed before it was equal"))
    run = training.planned(0, STEPS)
    other = training.peer(run)
    other.margin += by
    found = training.trained(run, other, seconds=0.0)
    assert found.error is not None
    assert "seed 0, step 1 in float64" in found.error
    assert not found.metrics
    assert not found.steps
    assert not training.judged([found])


def test_our_side_is_what_the_example_trains(tmp_path: Path) -> None:
    changes = ["seed=0", f"steps={STEPS}", "task.verify_on=[hebrew]", "validation_batches=1"]
    run = training.examples().run_config.planned(training.RUN, changes=changes)[training.RUN]
    found = training.trained(run, training.peer(run), seconds=0.0)
    expected = training.examples().train.train("glyphs", run, tmp_path, resume=False)
    assert found.losses["ours"] == expected.history.training
    assert found.metrics["ours"] == expected.metrics


def test_embeddings_are_unit_vectors_before_any_loss_sees_them() -> None:
    run = training.planned(0, STEPS)
    (images,), _ = run.task.batches("training", run.kind, run.batch_size)(0, 0)
    norms = turns.learner_with(None, run).network(images).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert not training.peer(run).distance.normalize_embeddings


def test_rule_compares_the_sides_with_the_range_of_the_peer_alone() -> None:
    def seed(number: int, ours: float, other: float) -> seeds.Trained:
        return seeds.Trained(
            number, metrics={"ours": {"AUC": ours}, "PML": {"AUC": other}, seeds.NUDGED: {"AUC": other}}
        )

    # a range over both sides, or ours, would excuse seed 0
    rows = training.judged([seed(0, 0.5, 0.9), seed(1, 0.91, 0.92)])
    assert [row.within for row in rows] == [False, True]
    assert training.judged([seed(0, 0.9, 0.9)])[0].within is None
