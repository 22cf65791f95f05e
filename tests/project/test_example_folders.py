"""A run goes on where it stopped, exactly, and no run is lost to another."""

import json

import pytest

from tests.project.example_runs import OF_EMBEDDINGS, assert_equal, contents, saved, small, train


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


def test_a_run_never_overwrites_another_unless_told_so(tmp_path, capsys):
    assert small("disease", tmp_path, "--loss", "hinge") == 0
    before = contents(tmp_path / "disease-hinge")
    again = ("--loss", "bce", "--loss", "hinge", "--set", "seed=3")
    assert small("disease", tmp_path, *again) == 2
    refused = capsys.readouterr().err
    assert f"{tmp_path / 'disease-hinge'} holds a run already" in refused
    assert all(way in refused for way in ("--resume", "--overwrite", "--output"))
    assert contents(tmp_path / "disease-hinge") == before
    assert not (tmp_path / "disease-bce").exists(), "nothing starts where something is refused"
    (tmp_path / "disease-hinge" / "readings.png").write_bytes(b"of the former run")
    (tmp_path / "disease-hinge" / "notes.txt").write_text("mine")
    assert small("disease", tmp_path, *again, "--overwrite") == 0
    after = contents(tmp_path / "disease-hinge")
    assert after.keys() == before.keys() | {"notes.txt"}
    assert saved(tmp_path / "disease-hinge")["run"]["seed"] == 3
    with pytest.raises(SystemExit):
        small("disease", tmp_path, "--overwrite", "--resume")


def test_a_folder_without_a_checkpoint_or_results_is_free(tmp_path):
    (tmp_path / "disease").mkdir()
    (tmp_path / "disease" / "config.yaml").write_text("of a run that was stopped before its first checkpoint")
    assert small("disease", tmp_path) == 0


def test_a_finished_run_that_is_resumed_says_so_and_shows_its_results(tmp_path, capsys):
    assert small("glyphs", tmp_path) == 0
    first = capsys.readouterr()
    before = contents(tmp_path / "glyphs")
    assert small("glyphs", tmp_path, "--resume") == 0
    again = capsys.readouterr()
    assert "glyphs: is finished, all 4 steps are done" in again.err
    assert "loss nan" not in again.out + again.err
    table = first.out.index("Do two images")
    assert again.out == first.out[table:]
    after = contents(tmp_path / "glyphs")
    for name in ("checkpoint.pt", "metrics.json", "config.yaml"):
        assert after[name] == before[name]


def test_time_is_counted_across_resuming(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(train.time, "perf_counter", lambda: float(next(clock)))
    assert small("disease", tmp_path, "--set", "steps=3") == 0
    assert small("disease", tmp_path, "--set", "steps=5", "--resume") == 0
    assert json.loads((tmp_path / "disease" / "metrics.json").read_text())["seconds"] == 5


def test_of_several_runs_those_without_a_checkpoint_start_anew(tmp_path):
    assert small("disease", tmp_path, "--loss", "bce") == 0
    before = (tmp_path / "disease-bce" / "checkpoint.pt").read_bytes()
    assert small("disease", tmp_path, "--loss", "bce", "--loss", "hinge", "--resume") == 0
    assert (tmp_path / "disease-bce" / "checkpoint.pt").read_bytes() == before
    assert len(saved(tmp_path / "disease-hinge")["history"]["training"]) == 4


def test_two_losses_are_never_kept_in_one_folder(tmp_path, capsys):
    alike = ("--loss", "{name: triplet, margin: 0.5}", "--loss", "{name: triplet, margin: '0.5'}")
    assert small("glyphs", tmp_path, *alike) == 2
    assert "same folder, glyphs-triplet-margin=0.5" in capsys.readouterr().err
