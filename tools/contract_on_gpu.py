"""``python -m tools.contract_on_gpu``: the contract of every loss where a GPU computes, written to
``benchmarks/results/contract-cuda.json``, of which ``make pages`` makes a part of ``docs/gpu.md``.

What is broken is tried again on the CPU of the same machine, so that the GPU is not blamed for what the version of
torch does.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import losses
from benchmarks.harness.environment import environment, fingerprint
from losses.checking import CLAUSES, cases_of, verdict
from tools.on_accelerator import computing_on

TRACED = ("compiles", "compiles_once_for_all_sizes", "compiles_with_weights", "exports", "exports_any_batch_size")
"""Clauses that are left out: what is traced is the plain composition, which has no device of its own."""
FILE = Path(__file__).parents[1] / "benchmarks" / "results" / "contract-cuda.json"


def verdicts(name: str, clause: str) -> list[dict[str, Any]]:
    """Return what becomes of a clause on a loss, in every precision."""
    warnings.simplefilter("ignore")
    found = []
    for precision in CLAUSES[clause].precisions:
        with computing_on("cuda"):
            seen = verdict(CLAUSES[clause], list(cases_of(name)), precision)
        each = {"loss": name, "clause": clause, "precision": seen.precision, "outcome": seen.outcome}
        if seen.outcome == "broken":
            on_cpu = verdict(CLAUSES[clause], list(cases_of(name)), precision)
            each |= {"seen": seen.seen, "on_the_cpu": on_cpu.outcome}
        found.append(each)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that share the GPU (default: all cores)")
    parser.add_argument("--json", type=Path, default=FILE, help="where to write (default: benchmarks/results/)")
    arguments = parser.parse_args()
    questions = [(name, clause) for clause in CLAUSES if clause not in TRACED for name in losses.available()]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        answers = [each for some in processes.map(verdicts, *zip(*questions, strict=True)) for each in some]
    outcomes = collections.Counter(each["outcome"] for each in answers)
    numbers = {
        "benchmark": "contract",
        **environment("cuda"),
        "sources": fingerprint(),
        "losses": losses.available(),
        "left_out": TRACED,
        "outcomes": dict(outcomes),
        "broken": [each for each in answers if each["outcome"] == "broken"],
    }
    arguments.json.write_text(json.dumps(numbers, indent=2), encoding="utf-8")
    print(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
