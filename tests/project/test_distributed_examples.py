"""The examples of several processes, started as their pages say, each with a time limit."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.project.example_runs import EXAMPLES, distributed

SECONDS = 120  # that a run of 10 s may take, on a busy machine
SCRIPT = str(EXAMPLES / "distributed.py")
INTEGRATIONS = EXAMPLES / "integrations"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0"]
LAUNCHERS = [
    pytest.param(TORCHRUN, id="torchrun", marks=pytest.mark.integration),
    pytest.param([sys.executable, "-m", *ACCELERATE, "--multi_gpu"], id="accelerate", marks=pytest.mark.integration),
]
METRICS = {"AUC", "EER", "recall@1"}


class Shown(NamedTuple):
    """What a command has written."""

    stdout: str
    stderr: str


def run(command: list[str]) -> Shown:
    """Run a command to its end, or to the limit: a launcher that is told to end then ends what it has started."""
    environment = {**os.environ, "COLUMNS": "140", "PYTHONPATH": str(EXAMPLES.parent)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            shown = Shown(*process.communicate(timeout=SECONDS))
        except subprocess.TimeoutExpired:
            process.terminate()
            shown = Shown(*process.communicate(timeout=SECONDS))
    assert process.returncode == 0, shown.stderr
    return shown


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_global_batch_agrees_with_one_process_and_the_loss_alone_does_not(launcher: list[str], tmp_path: Path) -> None:
    shown = run([*launcher, SCRIPT, "--quick", "--seeds", "2", "--output", str(tmp_path)])
    assert "compares the samples of rank" not in shown.stderr, "the page says what is shown"
    results = json.loads((tmp_path / "distributed" / "metrics.json").read_text())
    whole, together, alone = results["ways"].values()
    assert results["seeds"] == [0, 1]
    assert len(whole["metrics"]) == len(together["metrics"]) == len(alone["metrics"]) == 2
    assert together["apart"] < 1e-10
    assert alone["apart"] > 1e-4
    for one, other in zip(whole["metrics"], together["metrics"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
        assert one.keys() == METRICS
    for name in results["ways"]:
        assert shown.stdout.count(f"│ {name}") == 1, "one process shows the table"
    assert "What GlobalBatch brings over the loss alone" in shown.stdout
    config = yaml.safe_load((tmp_path / "distributed" / "config.yaml").read_text())
    assert (config["steps"], config["batch_size"]) == (4, 32)


def test_one_process_says_that_there_is_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    quick = ["--quick", "--seeds", "1", "--steps", "2", "--output", str(tmp_path)]
    assert distributed.main(quick) == 0
    assert "One process has nothing to compare; torchrun --nproc-per-node 2" in capsys.readouterr().out
    results = json.loads((tmp_path / "distributed" / "metrics.json").read_text())
    assert results["steps"] == 2
    assert list(results["ways"]) == ["1 process, all 32 samples"]
    assert distributed.main(quick) == 2
    said = capsys.readouterr().err
    assert "--overwrite replaces it" in said
    assert "--resume" not in said, "there is none here"
    assert distributed.main([*quick, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "loss=info_nc"], "Did you mean 'info_nce'?"),
        (["--steps", "-1"], "steps: got -1, expected an integer of at least 0"),
        (["--set", "batch_size=6"], "batch_size: got 6, expected a multiple of task.per_class=4"),
    ],
)
def test_wrong_request_is_refused_with_its_reason(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distributed.main([*arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_documentation_is_true() -> None:
    assert doctest.testmod(distributed) == (0, 1)


def difference(shown: str) -> float:
    (found,) = re.findall(r"largest difference from one process: (\S+)", shown)
    return float(found)


@pytest.mark.integration
def test_steps_under_the_ddp_strategy_of_lightning_are_those_of_one_process() -> None:
    shown = run([sys.executable, str(INTEGRATIONS / "with_lightning.py")])
    assert "All distributed processes registered. Starting with 2 processes" in shown.stderr + shown.stdout
    assert difference(shown.stdout) < 1e-6


@pytest.mark.integration
def test_steps_under_accelerate_are_those_of_one_process() -> None:
    shown = run([sys.executable, "-m", *ACCELERATE, "--multi_gpu", str(INTEGRATIONS / "with_accelerate.py")])
    assert "processes: 2" in shown.stdout
    assert difference(shown.stdout) < 1e-6


@pytest.mark.integration
def test_accelerate_starts_one_process_on_cpus_without_mpi() -> None:
    """As the page says of ``--cpu``; should that change, the page may promise more."""
    command = [sys.executable, "-m", *ACCELERATE, "--cpu", str(INTEGRATIONS / "with_accelerate.py")]
    shown = run(command)
    assert "processes: 1" in shown.stdout
    assert difference(shown.stdout) == 0
