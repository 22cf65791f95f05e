"""What a run shows: tables that cut nothing, pictures that mark what they leave out, units, defaults taken."""

import json

import pytest
import torch
import yaml

import losses
from losses.core.registry import find
from tests.project.example_runs import (
    assert_equal,
    history,
    networks,
    pictures,
    report,
    run_config,
    saved,
    small,
    train,
)

LONG = "{name: multi_similarity, mining_epsilon: 0.1, alpha: 2.5}"
LONG_NAME = "glyphs-multi_similarity-mining_epsilon=0.1-alpha=2.5"


@pytest.mark.parametrize("columns", ["40", "80"])
def test_tables_cut_no_name_and_no_number_in_a_narrow_terminal(columns, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert small("glyphs", tmp_path, "--loss", "circle", "--loss", "cross_entropy", "--loss", LONG) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed.split("Do two images")[1]
    metrics, readings = printed.split("Readings of the loss")
    names = ["glyphs-circle", "glyphs-cross_entropy", LONG_NAME]
    assert all(f"│ {name} " in metrics for name in names)
    lines = readings.splitlines()
    assert all(any(line.split(" ")[0].rstrip(":") == name for line in lines) for name in names)
    assert "glyphs-circle (cosine distance)" in lines
    assert "glyphs-cross_entropy: none, its loss does not see embeddings" in lines
    assert all(word in readings for word in ("active", "distance", "violations", "relative", "effective"))
    assert readings.count("  training ") == readings.count("  validation ") == 2
    of_columns = [line for line in lines if line.startswith(" ")]
    assert len({len(line) for line in of_columns if line.strip()}) == 1, "columns stand below their names"
    assert all(len(line) <= 80 for line in lines if "Pictures" not in line)


def test_readings_are_those_of_the_metrics_file(tmp_path, capsys):
    assert small("siamese", tmp_path) == 0
    numbers = json.loads((tmp_path / "siamese" / "metrics.json").read_text())["readings"]
    lines = capsys.readouterr().out.splitlines()
    for part in ("training", "validation"):
        shown = next(line for line in lines if line.startswith(f"  {part} ")).split()[1:]
        assert [float(cell) for cell in shown] == pytest.approx([each[part] for each in numbers.values()], rel=1e-2)


def test_every_term_of_an_objective_is_logged(tmp_path, capsys):
    assert small("objective", tmp_path) == 0
    terms = ["classification", "reconstruction", "metric", "penalty"]
    assert list(json.loads((tmp_path / "objective" / "metrics.json").read_text())["readings"]) == terms
    heads = next(line for line in capsys.readouterr().out.splitlines() if "classification" in line)
    assert heads.split() == terms
    assert (tmp_path / "objective" / "readings.png").exists()


def test_runs_without_any_readings_show_none(tmp_path, capsys):
    assert small("digits", tmp_path) == 0
    assert "Readings" not in capsys.readouterr().out


def test_losses_of_different_units_are_compared_by_a_ratio(tmp_path, capsys):
    assert small("outliers", tmp_path, "--loss", "mse", "--loss", "mae") == 0
    printed = capsys.readouterr().out
    assert "loss gap" not in printed
    for name in ("outliers-mse", "outliers-mae"):
        loss = json.loads((tmp_path / name / "metrics.json").read_text())["loss"]
        assert loss["ratio"] == loss["validation"] / loss["training"]
        row = next(line for line in printed.splitlines() if f"│ {name} " in line)
        assert float(row.split("│")[4]) == pytest.approx(loss["ratio"], rel=1e-2)
    assert history.Evaluation(1, 0.0, 1.0, {}).ratio is None
    assert history.Evaluation(1, -2.0, -1.0, {}).ratio is None  # a density may be above 1, its ELBO below 0


def test_only_a_run_that_is_as_if_collapsed_is_warned_of(tmp_path, capsys, monkeypatch):
    told = [{"relative_loss": history.Reading(value, 0.5)} for value in (0.5, 0.98, 0.991, 1.0, 1.009, 1.02)]
    runs = {str(number): report.MeasuredReadings(readings, "cosine") for number, readings in enumerate(told)}
    lines = list(report.collapse_warnings(runs | {"none": report.MeasuredReadings({}, "")}))
    assert [line.split(":")[0] for line in lines] == ["2", "3", "4"]
    assert "lower learning rate" in lines[0]
    monkeypatch.setattr(networks.F, "normalize", lambda features, dim: torch.ones_like(features) + 0 * features)
    assert small("glyphs", tmp_path, "--set", "loss.mining=hard") == 0
    assert "glyphs: the relative loss is 1.000" in capsys.readouterr().out


def test_no_loss_is_nan_before_the_first_step(tmp_path, capsys):
    assert small("disease", tmp_path, "--set", "steps=0") == 0
    assert "loss -" in capsys.readouterr().out
    assert train.last_loss(history.History(training=[0.5])) == "0.5000"
    assert train.last_loss(history.History()) == "-"


def test_a_named_loss_says_which_parameters_of_the_file_it_leaves(tmp_path, capsys):
    losses = ["triplet", "{name: triplet, margin: 0.5}", "cross_entropy", "contrastive"]
    assert small("glyphs", tmp_path, *(part for loss in losses for part in ("--loss", loss))) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("--loss")]
    assert lines == [
        "--loss triplet: margin=0.2, average=active by default; glyphs.yaml has margin=0.5, average=all for triplet. "
        "To take that over, --loss '{name: triplet, margin: 0.5, average: all}'",
        "--loss triplet: average=active by default; glyphs.yaml has average=all for triplet. "
        "To take that over, --loss '{name: triplet, average: all}'",
        "--loss contrastive: margin=1.0 by default; glyphs.yaml has margin=0.5 for triplet. "
        "To take that over, --loss '{name: contrastive, margin: 0.5}'",
    ]
    taken = yaml.safe_load((tmp_path / "glyphs-triplet" / "config.yaml").read_text())["loss"]
    assert (taken["margin"], taken["average"]) == (0.2, "active")


def test_what_a_change_sets_is_not_left(tmp_path):
    assert not list(run_config.left_out("glyphs", ["triplet"], ["loss.margin=0.3", "loss.average=all"]))
    assert not list(run_config.left_out("glyphs", []))
    assert not list(run_config.left_out("outliers", ["huber"])), "the file says what is the default"


@pytest.mark.parametrize("spikes", [{}, {3: 50.0}, {3: 50.0, 60: -9.0}], ids=["none", "above", "both"])
def test_what_a_loss_curve_leaves_out_is_marked_with_how_far_it_goes(spikes, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: kept.append(figure))
    course = [1.0 + 0.1 * (step % 7) for step in range(100)]
    for step, value in spikes.items():
        course[step] = value
    evaluations = [history.Evaluation(step, 1.2, 1.4, {}) for step in (0, 50, 100)]
    pictures.draw_losses(history.History(course, evaluations), "a loss", "nats", tmp_path / "loss.png")
    (figure,) = kept
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    marks = {
        tuple(map(float, point)) for line in axes.lines if line.get_marker() in "^v" for point in line.get_xydata()
    }
    assert marks == {(step + 1.0, high if value > 0 else low) for step, value in spikes.items()}
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text for text in told if "beyond" in text] == [
        f"beyond the axis, as far as {value:.4g}" for value in spikes.values()
    ]
    assert axes.get_title() == "Unit: nats"


@pytest.mark.parametrize("name", losses.available())
def test_every_loss_says_its_unit_in_a_picture(name):
    unit = train.unit_of(find(name).instance())
    assert unit.endswith(".")
    assert not set("`:*") & set(unit.replace(": ", " "))
    assert len(unit) < 100


def test_readings_say_what_they_are_measured_in(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: kept.append(figure))
    names = [*pictures.READING_UNITS, "positive_distance"]
    readings = {name: history.Reading(0.5, 0.6) for name in names}
    course = history.History([1.0], [history.Evaluation(step, 1.0, 1.0, readings) for step in (0, 1)])
    pictures.draw_readings(course, "a loss", "cosine", tmp_path / "readings.png")
    labels = [axes.get_ylabel() for axes in kept[0].axes if axes.get_visible()]
    assert labels == [*pictures.READING_UNITS.values(), "cosine distance"]
    assert "1: collapsed to one point (above: worse)" in [text.get_text() for text in kept[0].legends[0].get_texts()]


def test_several_losses_give_one_table(tmp_path, capsys):
    losses = ["contrastive", "triplet", "circle", "cross_entropy", "{name: triplet, margin: 0.1}"]
    assert small("glyphs", tmp_path, *(part for loss in losses for part in ("--loss", loss))) == 0
    names = [
        "glyphs-contrastive",
        "glyphs-triplet",
        "glyphs-circle",
        "glyphs-cross_entropy",
        "glyphs-triplet-margin=0.1",
    ]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(names)
    printed = capsys.readouterr().out
    assert printed.count("untrained") == printed.count("raw pixels") == 1
    assert all(f"│ {name} " in printed for name in names)


def test_a_penalty_on_the_gradient_trains_from_a_configuration_and_resumes(tmp_path):
    loss = (
        "{name: weighted_sum, terms: [{loss: cross_entropy, output: logits, target: label}, "
        "{loss: {name: gradient_norm, strength: 0.1, projections: 2}, output: logits, name: smoothness}]}"
    )
    assert small("objective", tmp_path / "whole", "--loss", loss) == 0
    (folder,) = (tmp_path / "whole").iterdir()
    assert list(json.loads((folder / "metrics.json").read_text())["readings"]) == ["cross_entropy", "smoothness"]
    assert small("objective", tmp_path / "parts", "--loss", loss, "--set", "steps=2") == 0
    assert small("objective", tmp_path / "parts", "--loss", loss, "--resume") == 0
    assert_equal(saved(folder)["learner"], saved(tmp_path / "parts" / folder.name)["learner"])
