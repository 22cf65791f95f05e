"""The benchmarks: every case runs and is equal to its peer, a wrong peer is caught, and the instruments read right."""

import argparse
import dataclasses
import gc
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

import losses
from benchmarks.__main__ import FAMILIES, main
from benchmarks.cases import gradients_over_ranks, metric
from benchmarks.harness import memory
from benchmarks.harness.comparison import growth, measure, tables
from benchmarks.harness.comparison.case import Case
from benchmarks.harness.comparison.row import Row, Settings
from benchmarks.harness.equality import Difference, Outcome, UnequalError, require_equal
from benchmarks.harness.timing import exponent, quartiles, timed
from benchmarks.peers import near_hinge
from losses.core.registry import find
from tools import performance_page, ranks_page, scaling_page
from tools.performance_pictures import SIZE_IN_NAME

QUICK = Settings(quick=True, fresh=False)
CASES = [case for family in FAMILIES.values() for case in family.cases]


def named(name: str) -> Case:
    """Return the case of a name."""
    return next(case for case in CASES if case.name == name)


FIRST = named("triplet-all-128")


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """As the command does: what is imported is not gone through before every look at memory."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_runs_and_is_equal_to_its_peer(case: Case) -> None:
    row = measure.measured(case, QUICK)
    assert row.error is None
    assert not row.notes
    assert row.equality["float64"]["value"] <= measure.EXACT.value  # so small that every peer is also run in float64
    assert set(row.milliseconds) == {"ours", *(["products"] if case.products else []), *(["peer"] if case.peer else [])}
    assert all(time > 0 for time in row.milliseconds.values())
    assert row.memory["ours"] >= 0
    assert row.time_kept is row.memory_kept is None, "limits are about full sizes"


def wrong_value(embeddings: Tensor, labels: Tensor) -> Tensor:
    return metric.PML_TRIPLET.make()(embeddings, labels) * 1.001


def wrong_gradient(embeddings: Tensor, labels: Tensor) -> Tensor:
    value = metric.PML_TRIPLET.make()(embeddings, labels)
    return value.detach() + 1.01 * (value - value.detach())


@pytest.mark.parametrize(("wrong", "part"), [(wrong_value, "value"), (wrong_gradient, "gradient")])
def test_a_wrong_peer_ends_its_case_with_an_error_and_without_a_number(
    wrong: object, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "timed", lambda *_, **__: pytest.fail("timed before it was equal"))
    case = dataclasses.replace(FIRST, peer=dataclasses.replace(metric.PML_TRIPLET, make=lambda: wrong))
    row = measure.measured(case, QUICK)
    assert row.error is not None
    assert f"the {part} is" in row.error
    assert not row.milliseconds
    assert not row.rounds
    assert not row.memory
    assert "error" in tables.cells(row, metric.SHAPE)


def test_a_wrong_loss_is_caught_where_only_the_definition_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    case = named("triplet-all-4096")
    row = measure.measured(dataclasses.replace(case, parameters={"margin": 0.21}), QUICK)
    assert row.error is not None
    assert "definition" in row.error


def test_an_inequality_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = dataclasses.replace(FIRST, peer=dataclasses.replace(metric.PML_TRIPLET, make=lambda: wrong_value))
    monkeypatch.setattr(metric, "CASES", (wrong,))
    assert main(["metric", "--quick", "--case", FIRST.name]) == 1
    assert f"ERROR {FIRST.name}" in capsys.readouterr().out


def test_a_loss_that_fails_is_an_error_of_its_row_alone() -> None:
    row = measure.measured(dataclasses.replace(FIRST, loss="no_such_loss"), QUICK)
    assert row.error is not None
    assert "unknown loss" in row.error


def test_a_peer_that_does_not_fit_is_not_run_and_equality_is_seen_where_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MOST", 1 << 20)
    monkeypatch.setattr(memory, "limited", lambda *_: pytest.MonkeyPatch().context())  # the estimate alone decides here
    case = named("triplet-all-1024-cube")
    row = measure.measured(case, QUICK)
    assert row.error is None
    assert re.fullmatch(r"about \d+\.\d GiB", row.notes["peer"])
    assert row.equality["at"] == (32, 8)
    assert set(row.milliseconds) == {"ours", "products"}
    assert any("not run" in cell for cell in tables.cells(row, metric.SHAPE))


def test_what_outgrows_the_limit_is_stopped() -> None:
    with pytest.raises(memory.TooLargeError, match="GiB"), memory.limited(memory.GIBIBYTE // 8):
        torch.ones(1 << 28)
    torch.ones(1 << 26)  # and the limit is lifted again


def test_the_memory_probe_sees_a_known_allocation() -> None:
    peak = memory.fresh(memory.filled, 64)
    assert peak.extra == pytest.approx(64 * memory.MEBIBYTE, rel=0.2)


def test_the_memory_of_a_case_in_a_fresh_process_is_about_what_was_estimated() -> None:
    case = named("triplet-all-256-cube")
    assert case.peer is not None
    peak = memory.fresh(measure.prepared, case, "peer", (256, 4))
    assert case.peer.bytes(256, 4) / 3 < peak.extra < case.peer.bytes(256, 4)


def test_a_loss_of_ours_that_does_not_fit_misses_its_limits_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(Case, "ours", lambda *_: greedy)
    row = measure.measured(FIRST, dataclasses.replace(QUICK, fresh=False))
    assert row.error is None
    assert "ours" in row.notes
    assert not row.milliseconds
    assert dataclasses.replace(row, judged=True).time_kept is False


def test_a_loss_that_was_unequal_gets_no_exponent() -> None:
    series = {"circle": metric.SERIES["circle"]}
    assert growth.scaling(series, QUICK, {"circle"}) == {"circle": {"exponent": None, "seconds": {}, "not_run": {}}}


def test_functions_take_turns_and_long_ones_get_fewer_calls() -> None:
    calls = []
    functions = {"short": lambda: calls.append("short"), "long": lambda: (calls.append("long"), time.sleep(0.005))}
    times = timed(functions, budget=0.3)
    assert len(times["short"]) == len(times["long"]) >= 3
    assert calls.count("short") > 2 * calls.count("long")
    turns = re.sub(r"(short)+", "s", re.sub(r"(long)+", "l", "".join(calls)))
    assert turns == "sl" * (len(times["long"]) + 1)


def test_what_is_dear_is_measured_at_least_three_times() -> None:
    assert len(timed({"dear": lambda: time.sleep(0.05)}, budget=0.0)["dear"]) == 3


def test_the_exponent_of_a_power_law() -> None:
    sizes = [512, 1024, 2048, 4096]
    assert exponent(sizes, [3e-9 * size**1.7 for size in sizes]) == pytest.approx(1.7)


def test_median_and_quartiles() -> None:
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)
    assert quartiles([2.0]) == (2.0, 2.0, 2.0)


def test_what_rounding_decides_about_is_counted() -> None:
    embeddings, labels = torch.tensor([[0.0], [1.0], [1.2], [5.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    # by hand: 1 - 1.2 + 0.2 of (0, 1, 2) and 3.8 - 4 + 0.2 of (3, 2, 1) are 0; 1.0, 2.8 and 3.8 of others are surely
    # active
    touching, near, active = near_hinge.triplets(embeddings, labels, within=1e-9)
    assert (touching, near) == (2, 2)
    assert 3 <= active <= 5
    assert near_hinge.pairs(embeddings, labels, within=1e-9, margin=1.2) == (1, 1, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_never_equal(bad: float) -> None:
    right = Outcome(torch.tensor(1.0), (torch.ones(3),))
    for value, gradient in ((bad, [1.0, 1.0, 1.0]), (1.0, [1.0, bad, 1.0])):
        wrong = Outcome(torch.tensor(value), (torch.tensor(gradient),))
        with pytest.raises(UnequalError):
            require_equal("wrong", wrong, right, Difference(1.0, 1.0))


def test_a_gradient_of_nothing_says_nothing() -> None:
    nothing = Outcome(torch.tensor(1.0), (torch.zeros(3),))
    with pytest.raises(UnequalError, match="expected gradient is 0"):
        require_equal("nothing", nothing, nothing, Difference(1.0, 1.0))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("block", [1 << 26, 1 << 10])
def test_the_bare_products_do_all_products_whatever_the_block(
    count: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BLOCK", block)
    first, second = torch.randn(50, 8), torch.randn(40, 8)
    last, first_gradient, second_gradient = measure.products(first, second, count)()
    torch.testing.assert_close(last, first[-len(last) :] @ second.T)
    if count == 3:
        torch.testing.assert_close(first_gradient, first @ second.T @ second)
        torch.testing.assert_close(second_gradient, (first @ second.T).T @ first)


def test_limits_are_judged_from_the_right_side() -> None:
    def row(**limits: float) -> Row:
        blank = dict.fromkeys(("faster", "slower", "lighter", "megabytes"))
        return Row("", "", (1, 1), "", {**blank, **limits}, judged=True)

    fast = dataclasses.replace(row(faster=2.0), peer_over_ours=quartiles([3.0]), ours_over_peer=quartiles([1 / 3]))
    assert fast.time_kept
    assert not dataclasses.replace(fast, limits={**fast.limits, "faster": 4.0}).time_kept
    slow = dataclasses.replace(row(slower=1.4), peer_over_ours=quartiles([0.5]), ours_over_peer=quartiles([2.0]))
    assert slow.time_kept is False
    assert dataclasses.replace(row(lighter=1 / 4), memory={"ours": 1, "peer": 4}).memory_kept
    assert dataclasses.replace(row(lighter=1 / 4), memory={"ours": 2, "peer": 4}).memory_kept is False
    alike = {"ours": 159_928_320, "peer": 159_862_784}  # the same kernel in two processes
    assert dataclasses.replace(row(lighter=1.0), memory=alike).memory_kept
    assert dataclasses.replace(row(megabytes=1), memory={"ours": 1 << 21}).memory_kept is False
    assert dataclasses.replace(row(faster=2.0, megabytes=1), notes={"ours": "more than 8 GiB"}).time_kept is False
    assert row(faster=2.0).time_kept is None


def test_sources_that_change_during_a_run_are_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = iter(["before", "after"])
    monkeypatch.setattr("benchmarks.harness.command_line.fingerprint", lambda: next(states))
    monkeypatch.setattr(FAMILIES["metric"], "report", lambda *_: ({}, True))
    assert main(["metric"]) == 1
    assert "changed during the run" in capsys.readouterr().out


@pytest.fixture
def quiet_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may edit while tests run."""
    monkeypatch.setattr("benchmarks.harness.command_line.fingerprint", lambda: "0123456789abcdef")


@pytest.mark.usefixtures("quiet_sources")
def test_the_numbers_of_a_run_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "numbers.json"
    names = ["triplet-all-128", "contrastive-4096"]
    assert main(["metric", "--quick", "--json", str(file), "--case", *names]) == 0
    numbers = json.loads(file.read_text(encoding="utf-8"))
    assert set(numbers) == {
        "benchmark",
        "date",
        "versions",
        "machine",
        "threads",
        "device",
        "sources",
        "what",
        "shape",
        "rows",
        "scaling",
    }
    assert set(numbers["versions"]) == {"torch", "python", "pytorch-metric-learning", "numpy"}
    assert set(numbers["machine"]) == {"cpu", "cores", "architecture"}
    assert (numbers["threads"], numbers["device"]) == (1, "cpu")
    assert [row["name"] for row in numbers["rows"]] == names
    for row in numbers["rows"]:
        assert set(row["peer_over_ours"]) == {"median", "lower", "upper"}
        assert set(row["memory"]) == {"ours", "peer"}
        assert {"limits", "equality", "milliseconds", "rounds", "time_kept", "memory_kept", "memory_method"} <= set(row)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 140
    assert all(name in shown for name in names)


def test_the_exponents_cover_every_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIZES", (512, 1024))
    found = growth.scaling(metric.SERIES, QUICK)
    assert set(found) == set(metric.SERIES)
    for series in found.values():
        assert set(series["seconds"]) == {32, 64}
        assert not series["not_run"]
        assert series["exponent"] is not None
    console = Console(width=140, record=True, quiet=True)
    console.print(tables.scaling_table(found))


def test_every_loss_has_a_row() -> None:
    ours = {name for name in losses.available() if find(name).cls.__module__.startswith("losses.")}
    assert {case.loss for case in CASES} == ours - {"weighted_sum"}  # which is measured by its terms
    for name, family in FAMILIES.items():
        assert {find(case.loss).family for case in family.cases} == {name}


def test_without_a_name_every_family_runs_and_writes_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_sources: None
) -> None:
    for family in FAMILIES.values():
        monkeypatch.setattr(family.module, "CASES", family.cases[:1])
    monkeypatch.setattr(metric, "SERIES", {})
    assert main(["--quick", "--json", str(tmp_path)]) == 0
    assert {file.stem for file in tmp_path.iterdir()} == set(FAMILIES)
    with pytest.raises(SystemExit):
        main(["--quick", "--json", str(tmp_path / "one.json")])  # that would be overwritten four times


def test_both_sides_are_timed_compiled_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda value, **_: value)  # it takes seconds; the contract tries the real one
    row = measure.measured(named("mse-weighted-1e3"), dataclasses.replace(QUICK, compiled=True))
    assert row.error is None
    assert {"compiled ours", "compiled peer", "compiled module"} <= set(row.milliseconds)
    assert row.compiled_peer_over_ours is not None
    assert row.compiled_module_over_compiled_ours is not None
    assert tables.compiled_table([row]).row_count == 1
    plain = measure.measured(named("triplet-all-128"), dataclasses.replace(QUICK, compiled=True))
    assert plain.compiled_peer_over_ours is None, "PML is no formula"


@pytest.fixture
def some_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What two families wrote, as if each had been measured; of the others there is nothing."""
    monkeypatch.setattr(performance_page, "RESULTS", tmp_path)
    chosen = {"regression": ["mse-1e3", "mse-1e5", "mse-weighted-1e3"], "metric": ["circle-32", "pairs-32"]}
    for name, cases in chosen.items():
        assert main([name, "--quick", "--json", str(tmp_path), "--case", *cases]) == 0
    return tmp_path


def test_the_page_tells_of_compiled_formulas_where_they_were_measured(some_results: Path) -> None:
    assert "torch.compile" not in performance_page.performance()
    numbers = performance_page.results("regression")
    numbers["rows"][0]["compiled_peer_over_ours"] = {"median": 1.5, "lower": 1.25, "upper": 1.75}
    (some_results / "regression.json").write_text(json.dumps(numbers), encoding="utf-8")
    assert "| mse-1e3 | 1.5 (1.25-1.75) |  |  |" in performance_page.performance()


@pytest.mark.usefixtures("quiet_sources", "some_results")
def test_the_page_and_its_pictures_show_what_was_measured_and_nothing_else() -> None:
    page = performance_page.performance()
    assert performance_page.families() == ["metric", "regression"]
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == ["Metric", "Regression"]
    for name in ("mse-1e3", "mse-1e5", "mse-weighted-1e3", "circle-32", "pairs-32"):
        assert f"| {name} |" in page
    for name, curves in (("regression", ["mse (torch.nn)", "mse-weighted (lines)"]), ("metric", ["circle (PML)"])):
        assert f"](performance/{name}.svg)" in page
        drawn = performance_page.picture_of(name)
        assert drawn == performance_page.picture_of(name), "each time another file"
        assert all(f">{curve}<" in drawn for curve in curves)


def test_every_picture_of_the_page_is_there() -> None:
    docs = Path(__file__).parents[2] / "docs"
    linked = re.findall(r"!\[.*?\]\((.*?)\)", (docs / "performance.md").read_text(encoding="utf-8"))
    assert linked
    assert {docs / name for name in linked} == set((docs / "performance").iterdir())


def test_a_curve_goes_through_all_sizes_of_a_form() -> None:
    forms = {
        "mse-weighted-1e3": "mse-weighted",
        "ce-class_weight-4096x1000": "ce-class_weight",
        "triplet-all-128-cube": "triplet-all-cube",
        "multi_similarity-3tuple-512": "multi_similarity-3tuple",
    }
    for name, form in forms.items():
        assert SIZE_IN_NAME.sub("", name) == form


def test_the_command_line_names_every_case() -> None:
    for family in FAMILIES.values():
        parser = argparse.ArgumentParser()
        family.options(parser)
        names = [case.name for case in family.cases]
        assert len(set(names)) == len(names)
        assert parser.parse_args(["--case", *names]).case == names


def test_gradient_caching_is_equal_and_takes_less_memory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gradient_caching", "--quick", "--json", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["peak_bytes"]["GradientCaching"] < numbers["peak_bytes"]["whole batch"] / 2
    assert "GradientCaching" in capsys.readouterr().out


@pytest.mark.integration  # processes that each import torch
def test_ranks_are_measured_and_agree_with_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "distributed.json"
    assert main(["distributed", "--quick", "--json", str(file)]) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert {row["ranks"] for row in rows} == {1, 2}
    assert {row["side"] for row in rows} == {"ours", "PML", "lines"}
    assert all(row["difference"] <= 1e-10 for row in rows if row["side"] == "ours")
    assert "distributed: forward and backward" in capsys.readouterr().out


def test_the_bytes_that_the_page_tells_are_those_that_were_measured() -> None:
    rows = json.loads((scaling_page.RESULTS).read_text(encoding="utf-8"))["rows"]
    large = [row for row in rows if row["side"] == "ours" and row["rows"] == 8192 and row["ranks"] > 1]
    assert {row["ranks"] for row in large} == {2, 4}
    for row in large:
        of_a_row = 8 * scaling_page.DIMENSION
        if row["loss"] == "supervised_contrastive":
            of_a_row += 2 * 16  # sums, and their slopes on the way back
        told = of_a_row * row["rows"] * (row["ranks"] - 1) / row["ranks"] / 1e6
        assert row["sent"] == pytest.approx(told, rel=0.02)


@pytest.mark.usefixtures("quiet_sources")
@pytest.mark.integration  # processes that each import torch
def test_gradients_over_ranks_are_those_of_one_process_and_a_loss_alone_is_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gradients.json"
    assert main(["gradients_over_ranks", "--quick", "--json", str(file)]) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert {row["loss"] for row in rows} == set(gradients_over_ranks.QUICK)
    for row in rows:
        assert set(row["largest"]["GlobalBatch"]) == {"even", "uneven", "empty"}
        assert all(difference <= gradients_over_ranks.EQUAL for difference in row["largest"]["GlobalBatch"].values())
        assert row["largest"]["alone"]["uneven"] > 0.1, "what one gets without"
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 140
    assert "kept" in shown


def test_every_loss_has_its_gradient_over_ranks_compared() -> None:
    numbers = json.loads(ranks_page.RESULTS.read_text(encoding="utf-8"))
    compared = {(row["loss"].partition(",")[0], row["input"]) for row in numbers["rows"]}
    assert {name for name, _ in compared} == {*losses.available(), *losses.available("pml")}
    assert {(name, kind.name) for name in losses.available() for kind in find(name).instance().inputs} <= compared
    for row in numbers["rows"]:
        assert all(difference <= gradients_over_ranks.EQUAL for difference in row["largest"]["GlobalBatch"].values())
