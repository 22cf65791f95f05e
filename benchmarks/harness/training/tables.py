"""What came of a training, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table

from benchmarks.harness.tables import empty_table, yes_or_no
from benchmarks.harness.timing import ratio
from benchmarks.harness.training.seeds import COMPARED, SIDES, Judged, Trained, together

WIDTH = 120
ABREAST = 3  # seeds side by side in the table of the first steps


def first_steps(seeds: Sequence[Trained]) -> Table:
    """Return the losses of the first steps, side by side."""
    shown = empty_table(
        "loss of each step, float32",
        "step",
        *(column for seed in seeds for column in (f"seed {seed.seed}\nours", "\nPML", "\ndifference")),
        gap=2,
    )
    for index in range(max(min(COMPARED, len(seed.differences())) for seed in seeds)):
        cells: list[str] = []
        for seed in seeds:
            differences = seed.differences()
            if index < len(differences):
                cells += [*(f"{seed.losses[side][index]:.7f}" for side in SIDES), f"{differences[index]:.1e}"]
            else:
                cells += [""] * 3
        shown.add_row(str(index + 1), *cells)
    return shown


def together_table(seeds: Sequence[Trained]) -> Table:
    """Return the same as a table."""
    shown = empty_table(
        f"difference of the losses in the first {COMPARED} steps",
        *("", "seed", "largest", "limit", "kept", "first step beyond it"),
        gap=2,
    )
    found = {seed.seed: together(seed) for seed in seeds}
    for name in dict.fromkeys(name for rows in found.values() for name in rows):
        for number, rows in found.items():
            if name in rows:
                row = rows[name]
                beyond = f"none of {row['steps']}" if row["parted"] is None else str(row["parted"])
                shown.add_row(
                    name,
                    str(number),
                    f"{row['largest']:.1e}",
                    f"{row['tolerance']:.0e}",
                    yes_or_no(row["kept"]),
                    beyond,
                )
    return shown


def metrics_table(rows: Sequence[Judged], steps: int) -> Table:
    """Return what the networks are worth after the last step."""
    shown = empty_table(
        f"after {steps} steps, on alphabets that were not trained on",
        *("metric", "seed", "ours", "PML", "ours - PML", "PML's range over seeds", "within", "PML nudged - PML"),
        gap=2,
    )
    for row in rows:
        peer_range = "" if row.peer_range is None else f"{row.peer_range:.4f}"
        numbers = (f"{row.ours:.4f}", f"{row.other:.4f}", f"{row.ours - row.other:+.4f}")
        shown.add_row(
            row.metric, str(row.seed), *numbers, peer_range, yes_or_no(row.within), f"{row.nudged - row.other:+.4f}"
        )
    return shown


def times_table(times: dict[str, dict[str, list[float]]]) -> Table:
    """Return the medians of what was timed."""
    shown = empty_table("median time", "", "ours, ms", "PML, ms", "PML / ours (quartiles)", "pairs", gap=2)
    for name, both in times.items():
        times_as_long = ratio(both["PML"], both["ours"])
        shown.add_row(
            name,
            *(f"{1000 * statistics.median(both[side]):.3f}" for side in SIDES),
            f"{times_as_long.median:.2f} ({times_as_long.lower:.2f}-{times_as_long.upper:.2f})",
            str(len(both["ours"])),
        )
    return shown


CAPTION = """\
within: |ours - PML| at the same seed is at most the range (largest - smallest) of PML's metric over the seeds.
nudged: PML again, one weight starting one unit in the last place away; how much rounding alone changes.
training step: train.trained_on, the batch drawn before. loss alone: forward and backward on the embeddings that
the network makes of one batch, before and after training. PML / ours: median of pairs taken in turns."""
