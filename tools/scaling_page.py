"""The page of what a large batch over many ranks costs, from what ``python -m benchmarks distributed --json`` measured
on a few."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from losses.ops.tiles.sizes import sizes

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "distributed.json"
MEBIBYTE = 1 << 20
DIMENSION, NUMBER = 128, 4  # numbers of a row, and bytes of each
NETWORK = 10e9  # bytes that a rank sends in a second, as over 100 Gb/s
ASKED = ((8192, 2), (65_536, 64), (1_048_576, 1024))
ON_EVERY_RANK = math.isqrt(sizes().on_every_rank)
SHARE = 8e9  # bytes of a device that a loss may take


class Cost(NamedTuple):
    """What one loss costs: seconds of a pair (anchor, row), and bytes of a rank for every row of all ranks."""

    loss: str
    pair: float
    row: float


def scaling() -> str:
    """Return the page."""
    numbers: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    costs = [cost_of(loss, numbers["rows"]) for loss in dict.fromkeys(row["loss"] for row in numbers["rows"])]
    return "\n".join([*introduction(numbers), *measured(numbers["rows"]), *predicted(costs), *ring(costs), ""])


def introduction(numbers: dict[str, Any]) -> list[str]:
    versions, machine = numbers["versions"], numbers["machine"]
    return [
        "# What a batch over many ranks costs",
        "",
        "`losses.distributed.GlobalBatch` gathers the embeddings of all ranks and computes on each what its own "
        "anchors cost, compared with all N rows. With R ranks a rank computes N²/R pairs (anchor, row), in blocks, and "
        "keeps O(N·D) numbers: the rows of all, and the gradient by them. It sends its rows to all others and their "
        "gradients back: 8·N·D·(R - 1)/R bytes of float32, as measured below over gloo.",
        "",
        "What contrastive, supervised contrastive and multi-similarity compute of a pair is the same from both its "
        "ends. One process looks at each pair once, and so do many: pairs are dealt to ranks, N²/(2·R) to each. Where "
        "costs are made from sums over the pairs of an anchor, as in the latter two, ranks exchange those sums and "
        "their slopes, 16 bytes each for a row. Circle and triplet look at each pair from both its ends, on one "
        "process as on many.",
        "",
        f"Up to {ON_EVERY_RANK} rows of all ranks, messages cost more than pairs: each rank looks at all pairs, and no "
        "gradients are sent back. Batches with a reference or a miner's indices, and `memory_bank`, are always parted.",
        "",
        f"Measured with torch {versions['torch']}, pytorch-metric-learning {versions['pytorch-metric-learning']}, "
        f"{machine['cores']} cores of an {machine['cpu']}, one thread in each process, gloo over the loopback, D = "
        f"{DIMENSION}. Written by `make pages` from what `python -m benchmarks distributed --json` left.",
    ]


def measured(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of what was measured."""
    lines = [
        "",
        "## Measured",
        "",
        "PML is its `DistributedLossWrapper`; lines are `all_gather` by hand and its loss: on both each rank computes "
        "the whole. Where there are more ranks than cores, times say nothing of speed. The difference is that of the "
        "gradient in float64 from one process, relative to its largest entry; PML's wrapper lets none flow to the rows "
        "of others, whose own ranks compute it once more.",
        "",
        "| loss | rows | side | ranks | ms | 1 rank / this | MiB of a rank | MB sent by a rank | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        faster = row["faster_than_one_rank"]
        lines.append(
            f"| {row['loss']} | {row['rows']} | {row['side']} | {row['ranks']} | {row['milliseconds']:.3g} | "
            f"{'' if faster is None else f'{faster:.2f}'} | {row['mebibytes']:.3g} | {row['sent']:.3g} | "
            f"{row['difference']:.0e} |"
        )
    return lines


def cost_of(loss: str, rows: list[dict[str, Any]]) -> Cost:
    """Return the costs of a loss, from its largest batch on two ranks, each of which has a core."""
    ours = [row for row in rows if row["loss"] == loss and row["side"] == "ours" and row["ranks"] == 2]
    largest = max(ours, key=lambda row: row["rows"])
    count = largest["rows"]
    return Cost(loss, largest["milliseconds"] / 1000 / (count * count / 2), largest["mebibytes"] * MEBIBYTE / count)


def predicted(costs: list[Cost]) -> list[str]:
    """Return the table of what larger batches would cost."""
    lines = [
        "",
        "## From there to many ranks",
        "",
        "Assumed: time grows with the pairs (anchor, row) of a rank, dealt or not, and memory with the rows of all, as "
        f"measured on two ranks; each rank has one core like those; it sends {NETWORK / 1e9:.0f} GB/s, and what it "
        "sends does not overlap with what it computes. A GPU computes a pair many times as fast; none was measured. "
        f"D = {DIMENSION}.",
        "",
        "| loss | rows of all | ranks | rows of a rank | pairs of a rank | s to compute | s to send | MB of a rank |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        for count, ranks in ASKED:
            pairs = count * count // ranks
            sent = 2 * NUMBER * DIMENSION * count * (ranks - 1) / ranks
            lines.append(
                f"| {cost.loss} | {count:,} | {ranks:,} | {count // ranks:,} | {pairs:.1e} | {pairs * cost.pair:.2g} | "
                f"{sent / NETWORK:.2g} | {count * cost.row / 1e6:.0f} |"
            )
    return lines


def ring(costs: list[Cost]) -> list[str]:
    """Return where another way to exchange rows takes over."""
    most = max(cost.row for cost in costs)
    limit = SHARE / most
    return [
        "",
        "## Where a ring takes over",
        "",
        "A ring, as in SigLIP and open_clip, hands the rows of one rank after the other around: each rank keeps those "
        "of two at a time, so memory is O(N/R·D) and no longer O(N·D). It sends as many bytes, in R messages that wait "
        "for one another, and a loss whose sums over a row are needed before its derivative (softmax, counts of "
        "triplets) goes around twice. It is worth that where the rows of all do not fit beside the model: at "
        f"{most / (NUMBER * DIMENSION):.1f} times 4·D bytes for each row of all, which was the most that a loss needed "
        f"here, {SHARE / 1e9:.0f} GB hold {limit / 1e6:.1f} million rows of D = {DIMENSION}. A million rows on 1,024 "
        "ranks fit, so there is no ring here.",
    ]
