"""examples/large_batch.py: chunks and processes change what a batch takes, and nothing that comes of it."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from tests.project.example_runs import EXAMPLES

large_batch = importlib.import_module("large_batch")
SMALL = ["--batch", "64", "--steps", "3"]


def numbers(printed: str) -> list[str]:
    """Return first loss, last loss and metrics of the table."""
    (row,) = [line for line in printed.splitlines() if line.startswith("│")]
    return re.findall(r"\d+\.\d+", row)


@pytest.fixture
def whole(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert large_batch.main([*SMALL, "--chunk", "0"]) == 0
    return numbers(capsys.readouterr().out)


def test_chunks_come_to_the_same(whole: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert large_batch.main([*SMALL, "--chunk", "10"]) == 0
    printed = capsys.readouterr().out
    assert "3 batches of 64 letters, in chunks of 10" in printed
    assert len(whole) == 5
    assert numbers(printed) == whole


@pytest.mark.integration
def test_two_processes_come_to_the_same(whole: list[str]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    outcome = subprocess.run(
        [*command, str(EXAMPLES / "large_batch.py"), *SMALL, "--chunk", "10"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "2 process(es)" in outcome.stdout
    assert numbers(outcome.stdout) == whole


def test_what_is_no_chunk_or_loss_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert large_batch.main([*SMALL, "--chunk", "-1"]) == 2
    assert "chunk_size: got -1" in capsys.readouterr().err
    assert large_batch.main([*SMALL, "--loss", "mse"]) == 2
    assert "prediction" in capsys.readouterr().err
