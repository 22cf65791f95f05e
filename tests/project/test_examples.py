"""Every example runs, small; what is told to be exact is exact; what is told to be refused is refused."""

import doctest
import json
import random
import runpy
import time

import numpy
import pytest
import torch
import yaml

import losses
from losses.core.inputs import EMBEDDINGS, PAIRS, TRIPLETS
from tests.project.example_runs import (
    EXAMPLES,
    OF_EMBEDDINGS,
    assert_equal,
    batches,
    glyph_data,
    run_config,
    saved,
    small,
    spam_data,
    train,
)

RUNS = sorted(file.stem for file in (EXAMPLES / "configs").glob("*.yaml"))


@pytest.mark.parametrize("run", RUNS)
def test_run_leaves_everything_behind(run, tmp_path, capsys):
    assert small(run, tmp_path) == 0
    folder = tmp_path / run
    plan = run_config.planned(str(folder / "config.yaml"))["config"]
    metrics = json.loads((folder / "metrics.json").read_text())
    pictures = {"loss.png", plan.task.picture} | ({"readings.png"} if metrics["readings"] else set())
    assert {file.name for file in folder.iterdir()} == {"config.yaml", "metrics.json", "checkpoint.pt"} | pictures
    assert bool(metrics["readings"]) == (run in (*OF_EMBEDDINGS, "objective"))
    assert metrics["metrics"].keys() == plan.task.better.keys() == metrics["baselines"]["untrained"].keys()
    assert metrics["steps"] == 4
    assert saved(folder)["run"] == plan.values() == yaml.safe_load((folder / "config.yaml").read_text())
    printed = capsys.readouterr().out
    assert "untrained" in printed
    assert all(metric in printed for metric in plan.task.better)


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
    numbers, python = numpy.random.get_state()[1].copy(), random.getstate()
    one, other = task.batches("training", kind, 32), task.batches("training", kind, 32)
    [one(0, step) for step in range(200)]  # into another epoch
    for step in (0, 3, 150):
        assert_equal(list(one(0, step).inputs), list(other(0, step).inputs))
        assert len(one(0, step).inputs) == parts
    assert not torch.equal(one(0, 3).inputs[0], one(1, 3).inputs[0])
    assert not torch.equal(one(0, 3).inputs[0], one(0, 4).inputs[0])
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy.random.get_state()[1] == numbers).all()
    assert random.getstate() == python


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
    assert doctest.testmod(train) == (0, 1)


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


def test_every_mail_has_words_and_is_there_once():
    words, spam = spam_data.mails()
    assert len(words) == len(spam) > 5000
    assert words.unique().tolist() == spam.unique().tolist() == [0, 1]
    assert len(words.unique(dim=0)) == len(words)
    assert 0.2 < spam.mean() < 0.4
    assert spam_data.FILE.stat().st_size < 500_000


def test_of_a_mail_its_subject_and_what_a_reader_sees_are_kept():
    mail = b"""From: sender@example.org
Subject: Hello
Content-Type: multipart/alternative; boundary=cut

--cut
Content-Type: text/plain

some words
--cut
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable

<p class=3Dwide>others <!-- not this --> <style>nor: this</style>
--cut
Content-Type: image/gif

GIF89a
"""
    assert spam_data.text_of(mail).split() == ["Hello", "some", "words", "others"]


def test_a_loss_of_another_library_is_checked_in_a_script_of_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "check_another_loss.py"))
    printed = capsys.readouterr().out
    assert "SmoothL1Loss" in printed
    assert "not offered" in printed
    assert "broken: bad_batches_are_refused" in printed
