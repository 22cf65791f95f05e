"""Every example runs, small; what is told to be exact is exact; what is told to be refused is refused."""

import doctest
import json
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))  # as Python does for `python examples/train.py`

import batches  # noqa: E402  (after the path)
import glyph_data  # noqa: E402  (after the path)
import history  # noqa: E402  (after the path)
import networks  # noqa: E402  (after the path)
import report  # noqa: E402  (after the path)
import run_config  # noqa: E402  (after the path)
import train  # noqa: E402  (after the path)
from pytorch_metric_learning.utils import common_functions  # noqa: E402  (after the path)

import losses  # noqa: E402  (after the path)
from losses.core.inputs import EMBEDDINGS, PAIRS, TRIPLETS  # noqa: E402  (after the path)

RUNS = sorted(file.stem for file in (EXAMPLES / "configs").glob("*.yaml"))
OF_EMBEDDINGS = ("glyphs", "siamese", "triplet_network")
SMALL = ["--set", "steps=4", "--set", "validate_every=2", "--set", "validation_batches=1", "--set", "batch_size=16"]
TINY_GLYPHS = ["--set", "network.channels=[2,2,2]", "--set", "task.verify_on=[hebrew]"]


def small(run: str, output: Path, *more: str) -> int:
    size = TINY_GLYPHS if run in OF_EMBEDDINGS else []
    return train.main([run, *SMALL, *size, "--output", str(output), *more])


def saved(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_equal(first: object, second: object) -> None:
    """Assert that two saved states are the same to the last bit."""
    if isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


@pytest.mark.parametrize("run", RUNS)
def test_run_leaves_everything_behind(run, tmp_path, capsys):
    assert small(run, tmp_path) == 0
    folder = tmp_path / run
    plan = run_config.planned(str(folder / "config.yaml"))["config"]
    metrics = json.loads((folder / "metrics.json").read_text())
    pictures = {"loss.png", plan.task.picture} | ({"readings.png"} if metrics["readings"] else set())
    assert {file.name for file in folder.iterdir()} == {"config.yaml", "metrics.json", "checkpoint.pt"} | pictures
    assert bool(metrics["readings"]) == (run in OF_EMBEDDINGS)
    assert metrics["metrics"].keys() == plan.task.better.keys() == metrics["baselines"]["untrained"].keys()
    assert metrics["steps"] == 4
    assert saved(folder)["run"] == plan.values() == yaml.safe_load((folder / "config.yaml").read_text())
    printed = capsys.readouterr().out
    assert "untrained" in printed
    assert all(metric in printed for metric in plan.task.better)


@pytest.mark.parametrize("run", ["vae", "siamese", "digits"])
def test_resumed_run_equals_uninterrupted_run(run, tmp_path):
    warmup = ["--set", "loss.warmup_steps=20"] if run == "vae" else []
    assert small(run, tmp_path / "whole", *warmup, "--set", "steps=9") == 0
    assert small(run, tmp_path / "parts", *warmup, "--set", "steps=5") == 0  # 5 is between two evaluations
    assert small(run, tmp_path / "parts", *warmup, "--set", "steps=9", "--resume") == 0
    whole, parts = saved(tmp_path / "whole" / run), saved(tmp_path / "parts" / run)
    assert len(whole["history"]["training"]) == 9
    assert_equal(whole, parts)
    found = [json.loads((tmp_path / part / run / "metrics.json").read_text()) for part in ("whole", "parts")]
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["loss"] == found[1]["loss"]
    assert found[0]["readings"] == found[1]["readings"]
    assert bool(found[0]["readings"]) == (run in OF_EMBEDDINGS)


@pytest.mark.parametrize("run", OF_EMBEDDINGS)
def test_readings_are_those_of_the_batches_that_are_evaluated(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert small(run, tmp_path, "--set", "validation_batches=2") == 0
    metrics, state = json.loads((tmp_path / run / "metrics.json").read_text()), saved(tmp_path / run)
    assert [evaluation[0] for evaluation in state["history"]["evaluations"]] == [0, 2, 4]
    assert all(evaluation[3].keys() == metrics["readings"].keys() for evaluation in state["history"]["evaluations"])
    plan = run_config.planned(str(tmp_path / run / "config.yaml"))["config"]
    learner = train.Learner(plan)
    learner.load_state_dict(state["learner"])
    learner.eval()
    for part in ("training", "validation"):
        drawn = [plan.task.batches(part, plan.kind, plan.batch_size)(plan.seed, index) for index in range(2)]
        with torch.no_grad():
            first, second = (learner.loss.readings(learner.network(*batch.inputs), batch.target) for batch in drawn)
        for name, reading in metrics["readings"].items():
            assert reading[part] == pytest.approx(float(first[name] + second[name]) / 2)


def test_readings_do_not_change_the_training(tmp_path, monkeypatch):
    assert small("glyphs", tmp_path / "with") == 0
    monkeypatch.setattr(losses.Loss, "readings", lambda *_: {})
    assert small("glyphs", tmp_path / "without") == 0
    one, other = (saved(tmp_path / part / "glyphs") for part in ("with", "without"))
    for key in ("learner", "optimiser", "random"):
        assert_equal(one[key], other[key])
    assert one["history"]["training"] == other["history"]["training"]
    assert [evaluation[:3] for evaluation in one["history"]["evaluations"]] == [
        evaluation[:3] for evaluation in other["history"]["evaluations"]
    ]


def test_last_readings_are_shown_where_there_are_any_within_a_hundred_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert small("glyphs", tmp_path, "--loss", "contrastive", "--loss", "cross_entropy") == 0
    table = capsys.readouterr().out.split("Readings of the loss")[1].split("Pictures")[0]
    assert all(
        word in table
        for word in ("active", "distance", "violations", "collapse", "effective", "glyphs-contrastive", "validation")
    )
    assert "cross_entropy" not in table
    assert all(len(line) <= 100 for line in table.splitlines())
    assert small("digits", tmp_path) == 0
    assert "Readings" not in capsys.readouterr().out


def test_only_a_run_that_is_as_if_collapsed_is_warned_of(tmp_path, capsys, monkeypatch):
    told = [{"collapse": history.Reading(value, 0.5)} for value in (0.5, 0.98, 0.991, 1.0, 1.009, 1.02)]
    lines = list(
        report.collapse_warnings({str(number): readings for number, readings in enumerate(told)} | {"none": {}})
    )
    assert [line.split(":")[0] for line in lines] == ["2", "3", "4"]
    assert "lower learning rate" in lines[0]
    monkeypatch.setattr(networks.F, "normalize", lambda features, dim: torch.ones_like(features) + 0 * features)
    assert small("glyphs", tmp_path, "--set", "loss.mining=hard") == 0
    assert "glyphs: collapse is 1.000" in capsys.readouterr().out


def test_stopped_run_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    assert small("disease", tmp_path / "whole", "--set", "steps=7") == 0
    step_of_training = train.trained_on
    steps = iter(range(5))

    def stopping(*arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step_of_training(*arguments)

    monkeypatch.setattr(train, "trained_on", stopping)
    assert small("disease", tmp_path / "parts", "--set", "steps=7") == 130
    monkeypatch.undo()
    assert len(saved(tmp_path / "parts" / "disease")["history"]["training"]) == 4
    assert small("disease", tmp_path / "parts", "--set", "steps=7", "--resume") == 0
    assert_equal(saved(tmp_path / "whole" / "disease"), saved(tmp_path / "parts" / "disease"))


def test_resuming_keeps_the_progress_of_a_warm_up(tmp_path):
    small("vae", tmp_path, "--set", "loss.warmup_steps=20")
    small("vae", tmp_path, "--set", "loss.warmup_steps=20", "--set", "steps=6", "--resume")
    assert saved(tmp_path / "vae")["learner"]["loss.progress"] == 6


def test_resuming_a_different_run_is_refused(tmp_path, capsys):
    small("disease", tmp_path)
    assert small("disease", tmp_path, "--resume", "--set", "seed=3", "--set", "steps=8") == 2
    assert "seed: got 3" in capsys.readouterr().err


def test_resuming_backwards_is_refused(tmp_path, capsys):
    small("disease", tmp_path)
    assert small("disease", tmp_path, "--resume", "--set", "steps=3") == 2
    assert "steps: got 3" in capsys.readouterr().err


def test_resuming_from_nothing_is_refused(tmp_path, capsys):
    assert small("disease", tmp_path, "--resume") == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_several_losses_give_one_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # a narrow terminal cuts long names
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


def test_robust_losses_are_ahead_among_outliers(tmp_path):
    assert train.main(["outliers", "--loss", "mse", "--loss", "mae", "--loss", "huber", "--output", str(tmp_path)]) == 0
    mse, mae, huber = (
        json.loads((tmp_path / f"outliers-{loss}" / "metrics.json").read_text())["metrics"]["MAE"]
        for loss in ("mse", "mae", "huber")
    )
    assert max(mae, huber) < 0.5 * mse


def test_all_problems_are_reported_at_once(tmp_path, capsys):
    wrong = {
        "step=3": "step: unknown key, accepted are task, network,",
        "network.chanels=[8]": "network.chanels: unknown key, accepted are name, channels, dimension. "
        "Did you mean 'channels'?",
        "network.dimension=true": "network.dimension: got True, expected an integer of at least 1",
        "network.channels=[8,0]": "network.channels[1]: got 0, expected an integer of at least 1",
        "loss.margn=1": "Did you mean 'margin'?",
        "optimiser.learning_rate='1'": "optimiser.learning_rate: got '1', expected a finite number greater than 0",
        "task.train_on=[latn]": "Did you mean 'latin'?",
        "seed=0.5": "seed: got 0.5, expected an integer of at least 0",
    }
    assert (
        train.main(["glyphs", "--output", str(tmp_path), *(part for change in wrong for part in ("--set", change))])
        == 2
    )
    printed = capsys.readouterr().err
    assert f"{len(wrong)} problems" in printed
    for message in wrong.values():
        assert message in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glyps"], "Did you mean 'glyphs'?"),
        (["missing.yaml"], "there is no such file"),
        (["--loss", "triplett"], "loss.name: unknown loss 'triplett'"),
        (["--loss", "{name: triplet"], "--loss {name: triplet: is not plain YAML"),
        (["--set", "steps"], "expected key=value"),
        (["--set", "seed.more=1"], "seed: "),
        (["--set", "task=glyph"], "task.name: unknown task 'glyph'"),
        (["--set", "loss.reduction=none"], "loss.reduction: got 'none'"),
        (["--set", "batch_size=66"], "batch_size: got 66, expected a multiple of task.per_class=4 from 8 to "),
        (["--set", "batch_size=4"], "batch_size: got 4, expected"),
        (["--set", "batch_size=4000"], "batch_size: got 4000, expected"),
        (["--set", "task.verify_on=[latin]"], "task.verify_on: got latin, which train_on holds too"),
        (["--set", "task.verify_on=[]"], "task.verify_on: got [], expected a list of one or more of latin, greek"),
        (["digits", "--set", "task.testing=0.9"], "task.validation: got 0.2 beside testing=0.9"),
        (["disease", "--set", "network={name: cnn, channels: [8], dimension: 8}"], "network: 'cnn' takes images"),
        (["vae", "--set", "network=linear"], "network: 'linear' cannot return"),
        (["siamese", "--set", "input=pair"], "Did you mean 'pairs'?"),
    ],
)
def test_wrong_request_is_refused_with_its_reason(arguments, message, tmp_path, capsys):
    assert train.main([*arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


def test_a_run_that_is_made_to_exhaust_its_reader_is_refused(tmp_path, capsys):
    """In a file, or in the YAML of the command line."""
    (tmp_path / "bomb.yaml").write_text(BOMB)
    (tmp_path / "sized.yaml").write_text("task: digits\n" + "#" * 2**20)
    (tmp_path / "unknown.yaml").write_text("task: digits\n" + "".join(f"key{n}: 1\n" for n in range(20_000)))
    (tmp_path / "name.yaml").write_text("task: {name: [" + "x, " * 40_000 + "]}\ninput: " + "y" * 500_000)
    for arguments, message in (
        ([str(tmp_path / "bomb.yaml")], "bomb.yaml: holds more than 50,000 values"),
        ([str(tmp_path / "sized.yaml")], "at most 1,048,576 are read"),
        ([str(tmp_path / "unknown.yaml")], "key0: unknown key"),
        ([str(tmp_path / "name.yaml")], "unknown task ['x', 'x'"),
        (["--set", f"loss={{x: {{{'a: {' * 200}"], "is nested more than 100 deep"),
        (["--loss", "{name: huber, 1: 2, 0x1: 3}"], "the key '0x1' stands there twice, which is written '1' before"),
    ):
        started = time.process_time()
        assert train.main([*arguments, "--output", str(tmp_path / "runs")]) == 2
        assert time.process_time() - started < 1
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed) < 20_000


@pytest.mark.parametrize(
    ("run", "loss", "fits"),
    [
        ("digits", "triplet", "cross_entropy"),
        ("disease", "cross_entropy", "hinge"),
        ("glyphs", "huber", "contrastive"),
        ("vae", "mse", "elbo"),
    ],
)
def test_loss_of_a_kind_that_the_task_cannot_feed_is_refused(run, loss, fits, tmp_path, capsys):
    assert train.main([run, "--loss", loss, "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert f"loss: '{loss}' takes" in printed
    assert fits in printed.split("losses that fit are")[1]


@pytest.mark.parametrize(("kind", "parts"), [(EMBEDDINGS, 1), (PAIRS, 2), (TRIPLETS, 3)])
def test_batch_is_a_function_of_seed_and_step_alone(kind, parts):
    task = run_config.planned("glyphs")["glyphs"].task
    before = torch.get_rng_state()
    numpy_source = common_functions.NUMPY_RANDOM
    one, other = task.batches("training", kind, 32), task.batches("training", kind, 32)
    [one(0, step) for step in range(200)]  # into another epoch
    for step in (0, 3, 150):
        assert_equal(list(one(0, step).inputs), list(other(0, step).inputs))
        assert len(one(0, step).inputs) == parts
    assert not torch.equal(one(0, 3).inputs[0], one(1, 3).inputs[0])
    assert not torch.equal(one(0, 3).inputs[0], one(0, 4).inputs[0])
    assert torch.equal(before, torch.get_rng_state())
    assert common_functions.NUMPY_RANDOM is numpy_source


def test_pairs_and_triplets_hold_what_they_say():
    labels = torch.arange(40).repeat_interleave(10)
    samples = labels.float().reshape(-1, 1, 1, 1)
    labelled = batches.grouped(samples, labels, 32, 4)
    (first, second), same = batches.pairs(labelled, 4)(0, 0)
    assert torch.equal((first == second).flatten(), same)
    anchor, positive, negative = batches.triplets(labelled, 4)(0, 0).inputs
    assert torch.equal(anchor, positive)
    assert not (anchor == negative).any()


def test_diverging_run_stops_and_says_so(tmp_path, capsys):
    assert (
        small(
            "outliers",
            tmp_path,
            "--loss",
            "mse",
            "--set",
            "optimiser={name: sgd, learning_rate: 1e17}",
            "--set",
            "steps=40",
        )
        == 1
    )
    assert "the loss became" in capsys.readouterr().err


def test_run_of_no_steps_shows_the_untrained_network(tmp_path):
    assert small("disease", tmp_path, "--set", "steps=0") == 0
    metrics = json.loads((tmp_path / "disease" / "metrics.json").read_text())
    assert metrics["metrics"] == metrics["baselines"]["untrained"]


def test_documentation_is_true():
    assert doctest.testmod(run_config) == (0, 2)


def test_shuffled_batches_visit_every_sample_once_an_epoch():
    numbers = torch.arange(20)
    draw = batches.shuffled(numbers, numbers, 5)
    epochs = [torch.cat([draw(0, step).target for step in range(start, start + 4)]) for start in (0, 4)]
    assert all(torch.equal(epoch.sort().values, numbers) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_unseen_alphabets_share_no_letter_and_no_homoglyph_with_those_trained_on():
    glyphs = glyph_data.glyphs()
    assert len(set(glyphs.letters)) == len(glyphs.letters)
    assert "A" in glyphs.letters
    assert not {
        "\N{GREEK CAPITAL LETTER ALPHA}",
        "\N{CYRILLIC CAPITAL LETTER A}",
        "\N{ARMENIAN SMALL LETTER CO}",
    } & set(glyphs.letters)
    seen = glyphs.written_in(["latin", "greek", "cyrillic"])
    unseen = glyphs.written_in(["armenian", "georgian", "hebrew"])
    assert not set(seen.letters) & set(unseen.letters)
    different = torch.cdist(unseen.images.flatten(1), seen.images.flatten(1))
    assert different.min() > 0


def test_a_loss_of_another_library_is_checked_in_a_script_of_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "check_another_loss.py"))
    printed = capsys.readouterr().out
    assert "SmoothL1Loss" in printed
    assert "not offered" in printed
    assert "broken: bad_batches_are_refused" in printed
