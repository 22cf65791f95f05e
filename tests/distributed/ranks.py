"""Four processes that are started once and run what a test asks of them, with a time limit for everything."""

from __future__ import annotations

import datetime
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

MOST = 4
SECONDS = 60  # that a task may take, on a busy machine too
PATIENCE = datetime.timedelta(seconds=20)  # of a rank that waits for another


class RankError(Exception):
    """What a rank raised, as text."""


class Ranks:
    """Processes of one group, and in it a group of the first 1, 2, 3 and 4 of them."""

    def __init__(self, folder: Path, size: int = MOST) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["losses.adapters.pytorch_metric_learning"])  # imported once, for all of them
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(rank, size, str(folder / "meeting"), theirs), daemon=True)
            process.start()
            self._processes.append(process)
            self._pipes.append(ours)

    def run(self, size: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what the first ``size`` ranks make of ``task(rank, group, *arguments)``; an exception is returned as
        a :class:`RankError`."""
        for pipe in self._pipes[:size]:
            pipe.send((size, task, arguments))
        answers = []
        for rank, pipe in enumerate(self._pipes[:size]):
            if not pipe.poll(SECONDS):
                self.stop()
                raise TimeoutError(f"rank {rank} of {size} did not finish {task.__name__} in {SECONDS} s")
            try:
                answers.append(pipe.recv())
            except EOFError:
                answers.append(RankError("the process has ended"))
        return answers

    def stop(self) -> None:
        """End the processes that were started here."""
        for process in self._processes:
            process.kill()
            process.join()


def work(rank: int, ranks: int, meeting: str, pipe: Connection) -> None:
    """Do what is asked until nobody asks any more."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks, timeout=PATIENCE)
    groups = {size: dist.new_group(list(range(size)), timeout=PATIENCE) for size in range(1, ranks + 1)}
    while True:
        size, task, arguments = pipe.recv()
        try:
            pipe.send(task(rank, groups[size], *arguments))
        except Exception as error:
            pipe.send(RankError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
