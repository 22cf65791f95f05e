"""The page of gradients over processes, from what ``python -m benchmarks gradients_over_ranks --json`` found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.harness.ranks.gradients import NOT_A_NUMBER

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "gradients_over_ranks.json"
OF_OTHERS = "pml."
OURS = (("GlobalBatch", "even"), ("GlobalBatch", "uneven"), ("GlobalBatch", "empty"))
APART = (("alone", "even"), ("alone", "uneven"))
PEERS = (("PML", "even"), ("gathered", "even"), ("own anchors", "even"))


def gradients_over_ranks() -> str:
    """Return the page."""
    numbers: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return "\n".join([*introduction(numbers), *uneven(numbers["uneven"]), *tables(numbers["rows"]), ""])


def introduction(numbers: dict[str, Any]) -> list[str]:
    versions = numbers["versions"]
    worst = max(one["largest"][side][split] for one in numbers["rows"] for side, split in OURS)
    return [
        "# The gradient over several processes",
        "",
        f"The gradient of {numbers['samples']} samples, averaged over 1, 2, 3 and 4 processes as "
        "DistributedDataParallel does, against that of one process that holds them all: every registered loss with "
        "each kind of input, and every loss of pytorch-metric-learning, in float64. Numbers are the largest difference "
        "of any entry on any rank, over the largest entry of that gradient: by the rows of the output, which makes it "
        "that of every network, and by what the loss learns.",
        "",
        f"With `GlobalBatch` the largest of all is {worst:.0e}. Batches are of equal sizes (even), of different ones "
        "(uneven), and with a rank that has no sample (empty); each number is the largest over the mean, the sum and "
        "the mean with weights, one of them 0, where the loss takes them. The memory bank is called twice.",
        "",
        "- **alone**: each rank computes the loss of its own rows. The average is right for a mean over all items of "
        "single samples in batches of equal sizes, and for little else. Of this and of what follows the mean without "
        "weights is shown.",
        f"- **PML**: `DistributedLossWrapper` of pytorch-metric-learning {versions['pytorch-metric-learning']}, around "
        "its own losses and around ours by `as_pml`. Each rank computes the whole loss times the number of ranks and "
        "takes the gradient by its own rows, which is right; what a loss learns gets the number of ranks times its "
        "gradient. Each rank puts its own rows first, so losses that read the order of the batch become others.",
        "- **gathered**: rows gathered as by `gather` of lightly 1.6 (the lines are ours), whose backward pass adds "
        "the gradients of all ranks, and the whole loss on every rank.",
        "- **own anchors**: the same `gather`, and on each rank the mean over its own anchors, compared with the rows "
        "of all: the way of lightly's `NTXentLoss`. It is right where every rank has as many items as the others, and "
        "not where a mean is over active, mined or positive ones. Losses that take no pairs against a reference have "
        "no number here.",
        "",
        f"Measured with torch {versions['torch']} over gloo. Written by `make pages` from what "
        "`python -m benchmarks gradients_over_ranks --json` left.",
    ]


def uneven(found: dict[str, dict[str, list[str]]]) -> list[str]:
    """Return what becomes of the others with batches of different sizes."""
    names = {"PML": "PML's wrapper", "gathered": "lightly's `gather`"}
    lines = ["", "Both ways of the others want as many rows on every rank. Over gloo, of two ranks", ""]
    for split, what in (("uneven", "with 5 and 19 rows"), ("empty", "without any and with 24 rows")):
        said = "; ".join(f"with {names[name]} {listed(by_split[split])}" for name, by_split in found.items())
        lines.append(f"- {what}: {said}.")
    return lines


def listed(ends: list[str]) -> str:
    """Return how processes ended."""
    counts = Counter(ends)
    return " and ".join(f"{'each' if count > 1 else 'one'} {way}" for way, count in counts.items())


def tables(rows: list[dict[str, Any]]) -> list[str]:
    """Return the tables, of our losses and of those of others."""
    lines = []
    for title, others in (("Losses of this package", False), ("Losses of pytorch-metric-learning", True)):
        lines += [
            "",
            f"## {title}",
            "",
            "| loss | input | GlobalBatch, even | uneven | empty | alone, even | uneven | PML, even | gathered, even | "
            "own anchors, even |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for one in rows:
            if one["loss"].startswith(OF_OTHERS) == others:
                cells = " | ".join(cell(one, side, split) for side, split in (*OURS, *APART, *PEERS))
                lines.append(f"| `{one['loss']}` | {one['input'].lower()} | {cells} |")
    return lines


def cell(one: dict[str, Any], side: str, split: str) -> str:
    """Return a difference as text, nothing where the loss is not called this way."""
    difference = one["largest"].get(side, {}).get(split)
    return "" if difference is None else "NaN" if difference == NOT_A_NUMBER else f"{difference:.0e}"
