"""Several processes on this machine that do the same work together."""

from __future__ import annotations

import os
import queue
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.harness.memory import ONE_THREAD

PATIENCE = 900  # seconds until an answer
GLANCE = 1.0  # seconds after which it is looked whether all processes are still there


def answers_of(
    ranks: int, work: Callable[..., None], asked: Sequence[Any], settings: Mapping[str, str] | None = None
) -> dict[Any, Any]:
    """Return what so many processes answer to everything that is asked.

    Args:
        ranks: how many processes.
        work: what each does, ``work(rank, ranks, meeting, asked, answers)``: it meets the others at a file, and rank 0
            puts a pair of a name and an answer into the queue of answers for everything that is asked.
        asked: what they are asked.
        settings: of their environment, beside one thread in each.
    """
    context = get_context("spawn")
    environment = ONE_THREAD | dict(settings or {})
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # of the processes that are started now
    try:
        with tempfile.TemporaryDirectory() as folder:
            answers = context.Queue()
            arguments = (ranks, str(Path(folder) / "meeting"), asked, answers)
            processes = [context.Process(target=work, args=(rank, *arguments)) for rank in range(ranks)]
            for process in processes:
                process.start()
            found = dict(answer(answers, processes) for _ in asked)
            for process in processes:
                process.join()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    return found


def answer(answers: Any, processes: Sequence[BaseProcess]) -> Any:
    """Return the next answer.

    Raises:
        RuntimeError: a process has failed, or there is none in time.
    """
    for _ in range(int(PATIENCE / GLANCE)):
        try:
            return answers.get(timeout=GLANCE)
        except queue.Empty:
            failed = [rank for rank, process in enumerate(processes) if process.exitcode]
            if failed:
                break
    for process in processes:
        process.kill()
    raise RuntimeError(f"rank {failed} has failed, and said why" if failed else f"no answer in {PATIENCE} s")
