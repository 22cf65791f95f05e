"""What the advice on losses rests on: every question of ``evidence/`` answered with every loss, for several seeds.

.venv/bin/python examples/choosing.py                       all questions, as ``make evidence`` does
.venv/bin/python examples/choosing.py outliers intervals    some of them
.venv/bin/python examples/choosing.py --quick --output /tmp/evidence a few steps each: does it run?

Writes one file for each question to docs/choosing, of which ``make pages`` makes docs/choosing.md, and a picture where
numbers do not show enough.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sklearn
import torch
from evidence import QUESTIONS
from evidence.question import Question
from overfitting import spread
from report import progress, widened
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent.parent / "docs" / "choosing"
QUICK_SEEDS, QUICK_STEPS = 1, 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions and leave what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", metavar="question", help=f"of {', '.join(QUESTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps for {QUICK_SEEDS} seeds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"unknown question {', '.join(sorted(unknown))}, there are {', '.join(QUESTIONS)}")
    torch.set_num_threads(1)
    console = Console()
    for name in options.questions or QUESTIONS:
        question = QUESTIONS[name]
        if options.quick:
            question = question._replace(seeds=QUICK_SEEDS, steps=QUICK_STEPS, **question.quick)
        found = answered(question)
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if question.picture is not None:
            question.picture.draw(found, options.output / f"{name}.png")
        widened(console, sheet := table(found)).print(sheet)
    return 0


def answered(question: Question) -> dict[str, Any]:
    """Return what was asked, and what was measured of every answer with every seed."""
    started, rows = time.perf_counter(), []
    with progress() as bar:
        shown = bar.add_task(question.condition, total=len(question.answers) * question.seeds, loss="-")
        for name, tried in question.answers.items():
            seen = []
            for seed in range(question.seeds):
                seen.append(question.measure(tried, seed, question.steps))
                bar.update(shown, advance=1, description=f"{question.condition}: {name}", loss="-")
            measured = {metric: [round(float(one[metric]), 6) for one in seen] for metric in question.better}
            rows.append({"answer": name, **tried._asdict(), "measured": measured})
    return {
        "condition": question.condition,
        "task": question.task,
        "asks": question.asks,
        "data": question.data,
        "better": question.better,
        "steps": question.steps,
        "seeds": question.seeds,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": {"torch": torch.__version__.partition("+")[0], "scikit-learn": sklearn.__version__},
        "picture": question.picture.shows if question.picture else "",
        "rows": rows,
    }


def table(found: Mapping[str, Any]) -> Table:
    """Return a row for every answer: means over the seeds, and their standard deviation."""
    sheet = Table(title=f"{found['asks']} ({found['seeds']} seeds)", min_width=60)
    sheet.add_column("loss", no_wrap=True)
    for metric in found["better"]:
        sheet.add_column(metric, justify="right")
    for row in found["rows"]:
        sheet.add_row(row["answer"], *map(spread, row["measured"].values()))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
