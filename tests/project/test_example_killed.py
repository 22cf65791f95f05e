"""A run that is killed in the middle goes on from its last checkpoint to the same losses, to the last bit."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project.example_runs import EXAMPLES, SMALL, TINY_GLYPHS, assert_equal, saved, train

STEPS = 60
RUNS = {
    "memory bank": ["glyphs", *TINY_GLYPHS, "--loss", "{name: memory_bank, loss: triplet, capacity: 40}"],
    "memory bank with warm-up": [
        "glyphs",
        *TINY_GLYPHS,
        "--loss",
        "{name: memory_bank, loss: supcon, warmup_steps: 8}",
    ],
    "warm-up of beta": ["vae", "--set", "loss.warmup_steps=50"],
    "an objective with a schedule": ["objective"],
}


def killed_after_its_first_checkpoint(arguments: list[str], output: Path) -> None:
    """Start a run in a process of its own, and kill that where it has saved something."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "train.py"), *arguments, "--output", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(output.glob("*/checkpoint.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9, "it has ended by itself"


@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=() if run == "memory bank with warm-up" else pytest.mark.integration) for run in RUNS],
)
def test_a_killed_run_goes_on_to_the_same_losses(run: str, tmp_path: Path) -> None:
    arguments = [*RUNS[run], *SMALL, "--set", f"steps={STEPS}"]
    assert train.main([*arguments, "--output", str(tmp_path / "whole")]) == 0
    killed_after_its_first_checkpoint(arguments, tmp_path / "parts")
    (folder,) = (tmp_path / "parts").iterdir()
    assert 0 < len(saved(folder)["history"]["training"]) < STEPS
    assert train.main([*arguments, "--output", str(tmp_path / "parts"), "--resume"]) == 0
    assert_equal(saved(tmp_path / "whole" / folder.name), saved(folder))
