"""The page of measured times and memory, from what ``python -m benchmarks ... --json`` wrote to
``benchmarks/results/``. What was not measured is not on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.performance_pictures import picture

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

COLUMNS = (
    *("case", "peer", "ours, ms", "peer, ms", "peer / ours (quartiles)", "reach"),
    *("ours, MiB", "peer, MiB", "reach"),
)
PEERS = {
    "lines": "lines of plain torch",
    "cube": "N x N x N broadcast",
    "naive": "naive N x N torch",
    "CLIP": "the lines of CLIP",
    "SimCLR": "the lines of SimCLR",
    "cdist": "`torch.cdist` alone",
    "N / 2": "ours at N / 2",
}
"""What the peers of the benchmark are called in words; pytorch-metric-learning is called with its version."""


def performance() -> str:
    """Return the page."""
    lines = [
        "# Measured",
        "",
        "float32, forward and backward. Value and gradient of a row were seen to be the peer's before it was timed. "
        "Times are medians of interleaved pairs, more than 1 is faster than the peer; "
        "memory is the peak of a step in a fresh process, beyond imports and the batch. "
        "A reach in bold was missed; in the pictures it is a bar of the colour of its curve. "
        "Written by `make pages` from what `python -m benchmarks --json` left in `benchmarks/results/`. "
        "On a GPU: [gpu.md](gpu.md).",
    ]
    for name in families():
        lines += ["", *section(name, results(name))]
    if (RESULTS / "training.json").exists():
        lines += ["", "## A whole training", "", *whole_training(results("training"))]
    return "\n".join([*lines, ""])


def families() -> list[str]:
    """Return the families that were measured on a CPU."""
    names = sorted(path.stem for path in RESULTS.glob("*.json"))
    return [name for name in names if "what" in results(name) and results(name)["device"] == "cpu"]


def results(name: str) -> dict[str, Any]:
    """Return what was written of a benchmark."""
    numbers: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return numbers


def picture_path(name: str) -> Path:
    """Return where the picture of a family stands."""
    return ROOT / "docs" / "performance" / f"{name}.svg"


def picture_of(name: str, _: str = "") -> str:
    """Return the picture of a family, whatever stood there."""
    return picture(results(name))


def section(name: str, numbers: dict[str, Any]) -> list[str]:
    """Return what the page says of a family."""
    machine, versions = numbers["machine"], numbers["versions"]
    peers = PEERS | {"PML": theirs(versions)}
    measured_with = ", ".join(f"{library} {version}" for library, version in versions.items())
    cpu = f"One thread of an {machine['cpu']} ({machine['architecture']})"
    where = cpu if numbers["device"] == "cpu" else numbers["device"]
    headings = [COLUMNS[0], numbers["shape"], *COLUMNS[1:]]
    products = any(row["ours_over_products"] for row in numbers["rows"])
    lines = [
        f"## {name.capitalize()}",
        "",
        f"{numbers['what']}. {where}, {measured_with}; {numbers['date'][:10]}.",
        "",
        f"![how many times faster than the peer, by size](performance/{name}.svg)",
        "",
        f"| {' | '.join(headings + ['products'] * products)} |",
        f"|---|---|---|---:|---:|---|---|---:|---:|---|{'---:|' * products}",
        *(line(row, numbers["shape"], peers, products=products) for row in numbers["rows"]),
    ]
    if products:
        lines += [
            "",
            "*Products* is our time over that of the bare matrix products of the loss: 1 is the limit of its "
            "arithmetic, and losses that look at each pair once can be below it.",
        ]
    if any(row["compiled_peer_over_ours"] for row in numbers["rows"]):
        lines += ["", "### Beside the plain formula under `torch.compile`", "", *compiled(numbers["rows"])]
    if numbers["scaling"]:
        lines += [
            "",
            "### Growth with N",
            "",
            "Exponent of the time, by least squares on its logarithm, and milliseconds.",
            "",
            *growth(numbers["scaling"]),
        ]
    return lines


def theirs(versions: dict[str, str]) -> str:
    """Return pytorch-metric-learning with the version that was measured against."""
    return f"pytorch-metric-learning {versions['pytorch-metric-learning']}"


def line(row: dict[str, Any], heading: str, peers: dict[str, str], *, products: bool) -> str:
    """Return a row of the table."""
    limits, times, memory = row["limits"], row["milliseconds"], row["memory"]
    ratio = row["peer_over_ours"]
    faster = quartiles(ratio) or row["notes"].get("peer", "")
    time_limit = (
        f">= {limits['faster']}" if limits["faster"] else f">= 1 / {limits['slower']}" if limits["slower"] else ""
    )
    space_limit = (
        f"<= 1/{1 / limits['lighter']:.0f}"
        if limits["lighter"]
        else f"<= {limits['megabytes']} MB"
        if limits["megabytes"]
        else ""
    )
    cells = [
        row["name"],
        ("/" if "/" in heading else "x").join(map(str, row["shape"])),
        peers.get(row["peer"], row["peer"] or ""),
        number(times.get("ours")),
        number(times.get("peer")),
        faster,
        time_limit if row["time_kept"] is not False else f"**{time_limit}**",
        mebibytes(memory.get("ours")),
        mebibytes(memory.get("peer")),
        space_limit if row["memory_kept"] is not False else f"**{space_limit}**",
    ]
    if products:
        cells.append(number((row["ours_over_products"] or {}).get("median")))
    return f"| {' | '.join(cells)} |"


def compiled(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of the rows whose plain formula was also compiled."""
    lines = [
        "| case | formula compiled / ours | formula compiled / ours compiled | the same of a module |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["compiled_peer_over_ours"]:
            ratios = (row["compiled_peer_over_ours"], row["compiled_peer_over_compiled_ours"])
            ratios += (row.get("compiled_module_over_compiled_ours"),)
            lines.append(f"| {row['name']} | {' | '.join(map(quartiles, ratios))} |")
    return lines


def quartiles(ratio: dict[str, float] | None) -> str:
    """Return a median with its quartiles."""
    return f"{number(ratio['median'])} ({number(ratio['lower'])}-{number(ratio['upper'])})" if ratio else ""


def growth(scaling: dict[str, Any]) -> list[str]:
    """Return the table of exponents."""
    sizes = list(dict.fromkeys(size for found in scaling.values() for size in found["seconds"]))
    lines = [
        f"| loss | exponent | {' | '.join(f'N = {size}' for size in sizes)} |",
        f"|---|---:|{'---:|' * len(sizes)}",
    ]
    for name, found in scaling.items():
        times = [number(found["seconds"][size] * 1e3) if size in found["seconds"] else "" for size in sizes]
        lines.append(f"| {name} | {number(found['exponent'])} | {' | '.join(times)} |")
    return lines


def whole_training(training: dict[str, Any]) -> list[str]:
    """Return what the training with our loss and with pytorch-metric-learning's came to."""
    times, seeds = training["milliseconds"], training["seeds"]
    apart = max(seed["together"]["ours - PML, float32"]["largest"] for seed in seeds)
    exact = max(seed["together"]["ours / PML - 1, float64"]["largest"] for seed in seeds)
    rows = []
    for row in training["judged"]:
        numbers = (f"{row[key]:.4f}" for key in ("ours", "other", "peer_range"))
        rows.append(f"| {row['metric']} | {row['seed']} | {' | '.join(numbers)} | {'yes' if row['within'] else 'no'} |")
    step, alone = (
        {side: number(times[what][side]) for side in ("ours", "PML")}
        for what in ("training step", "loss alone, trained")
    )
    return [
        f"The default run of `examples/train.py`, batches of {training['run']['batch_size']}, "
        f"with our triplet loss and with that of {theirs(training['versions'])} from the same seed. "
        f"The losses of the first {training['compared_steps']} steps differ by at most {apart:.1e} in float32, "
        f"and in float64 by at most {exact:.1e} of themselves. "
        f"Median time of a training step: {step['ours']} ms with ours, {step['PML']} ms with theirs; "
        f"of the loss alone, on a trained network: {alone['ours']} ms and {alone['PML']} ms.",
        "",
        "| metric on unseen alphabets | seed | ours | theirs | their range over seeds | within |",
        "|---|---:|---:|---:|---:|---|",
        *rows,
    ]


def number(value: float | None) -> str:
    """Return a number to three digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def mebibytes(value: float | None) -> str:
    return "" if value is None else number(value / 2**20)
