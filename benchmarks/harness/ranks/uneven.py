"""What becomes of two processes with batches of different sizes where rows are gathered without asking for them."""

from __future__ import annotations

import datetime
import os
import tempfile
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.harness.ranks.gradients import SPLITS, gathered, gradient_of, pml_wrapper
from benchmarks.harness.ranks.subjects import Subject

SUBJECT = Subject("triplet", {}, "EMBEDDINGS")
SIDES = {"PML": pml_wrapper, "gathered": gathered}
SECONDS = 30  # after which a process is taken to wait for ever
RAISED = 3  # exit status


def ends() -> dict[str, dict[str, list[str]]]:
    """Return how each of two processes ends, by side and split of the batch."""
    return {name: {split: ends_of(name, split) for split in ("uneven", "empty")} for name in SIDES}


def ends_of(name: str, split: str) -> list[str]:
    """Return how each of two processes ends."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        context = get_context("spawn")
        processes = [context.Process(target=step, args=(rank, meeting, name, split)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
        found = [end(process.exitcode) for process in processes]
        for process in processes:
            process.kill()
            process.join()
    return found


def step(rank: int, meeting: str, name: str, split: str) -> None:
    """Take one step on the rows of a rank, and say nothing of how it fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    patience = datetime.timedelta(seconds=SECONDS / 3)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=patience)
    cuts = SPLITS[2][split]
    side = SIDES[name](SUBJECT)
    assert side is not None
    try:
        gradient_of(side, SUBJECT, "mean", slice(cuts[rank], cuts[rank + 1]))
        dist.barrier()
    except Exception:
        os._exit(RAISED)
    os._exit(0)


def end(status: int | None) -> str:
    """Return an exit status in words; without one the process still waits."""
    words = {None: "waits", 0: "goes on", RAISED: "raises"}
    return words.get(status, "is aborted")
