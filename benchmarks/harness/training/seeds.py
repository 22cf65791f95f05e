"""What came of a training with both losses, seed by seed, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.equality import relative

SIDES = ("ours", "PML")
NUDGED = "nudged"  # PML once more, one weight one unit in the last place away
COMPARED = 20  # steps whose losses are compared
TOLERANCE = 1e-4  # of a loss in float32: as it is, required; relative to that of PML, shown
EQUAL = 1e-7  # of a loss in float64, relative to that of PML: required


@dataclass
class Trained:
    """What came of one seed. After an error there are no metrics and no times.

    Args:
        seed: of initial weights and batches.
        double: losses of the first steps in float64, by side.
        losses: of every step, by side and ``"nudged"``.
        metrics: on alphabets that were not trained on, likewise.
        steps: seconds of every timed step, likewise.
        alone: seconds of the loss forward and backward, by the state of the network that made the embeddings, by side.
        equality: how far losses are from PML in float64 on these embeddings.
        error: why the seed was given up.
    """

    seed: int
    double: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=dict)
    alone: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    equality: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    error: str | None = None

    def distances(self) -> list[float]:
        """Return how far our losses are from PML's in float32, step by step, not in proportion."""
        return (
            [abs(ours - other) for ours, other in zip(self.losses["ours"], self.losses["PML"], strict=True)]
            if self.losses
            else []
        )

    def differences(self, side: str = "ours") -> list[float]:
        """Return how far the losses of a side are from PML's in float32, step by step."""
        return relative(self.losses[side], self.losses["PML"]) if self.losses else []


def parted(differences: Sequence[float], tolerance: float) -> int | None:
    """Return the first step that differs by more than the tolerance, counted from 1."""
    return next((number for number, far in enumerate(differences, 1) if far > tolerance), None)


@dataclass(frozen=True)
class Judged:
    """One metric of one seed on both sides, and by how much it moves where only the seed is another.

    The rule: the difference of the two sides at one seed is within the range where it is at most the range (largest
    minus smallest) of PML's metric over all seeds. PML's range alone, since a range over both sides would hold every
    difference, and ours would excuse whatever is unsteady about us. A few seeds measure a range roughly, so this is
    shown, not required; and so is how far PML gets from itself by a nudge, which is rounding and nothing else.
    """

    metric: str
    seed: int
    ours: float
    other: float
    nudged: float
    peer_range: float | None

    @property
    def within(self) -> bool | None:
        """Whether the rule holds; ``None`` for a single seed, which has no range."""
        return None if self.peer_range is None else abs(self.ours - self.other) <= self.peer_range


def judged(seeds: Sequence[Trained]) -> list[Judged]:
    """Return every metric of every seed, judged."""
    found = []
    complete = [seed for seed in seeds if seed.metrics]
    for metric in complete[0].metrics["ours"] if complete else ():
        values = [{side: metrics[metric] for side, metrics in seed.metrics.items()} for seed in complete]
        others = [value["PML"] for value in values]
        peer_range = max(others) - min(others) if len(others) > 1 else None
        found += [
            Judged(metric, seed.seed, value["ours"], value["PML"], value[NUDGED], peer_range)
            for seed, value in zip(complete, values, strict=True)
        ]
    return found


def together(seed: Trained) -> dict[str, dict[str, Any]]:
    """Return how long, and how closely, the first steps stay together: in both precisions, and PML with itself
    nudged."""
    rows = {
        "ours - PML, float32": (seed.distances(), TOLERANCE),
        "ours / PML - 1, float64": (relative(*seed.double.values()) if seed.double else [], EQUAL),
        "ours / PML - 1, float32": (seed.differences(), TOLERANCE),
        "PML nudged / PML - 1, float32": (seed.differences(NUDGED), TOLERANCE),
    }
    return {
        name: {
            "tolerance": tolerance,
            "largest": max(differences[:COMPARED]),
            "kept": parted(differences[:COMPARED], tolerance) is None,
            "parted": parted(differences, tolerance),
            "steps": len(differences),
        }
        for name, (differences, tolerance) in rows.items()
        if differences
    }


def pooled(seeds: Sequence[Trained]) -> dict[str, dict[str, list[float]]]:
    """Return the times of all seeds by what was timed and by side, as pairs that were taken in turns."""
    complete = [seed for seed in seeds if seed.error is None]
    found = {"training step": {side: [spent for seed in complete for spent in seed.steps[side]] for side in SIDES}}
    for state in complete[0].alone if complete else ():
        found[f"loss alone, {state}"] = {
            side: [spent for seed in complete for spent in seed.alone[state][side]] for side in SIDES
        }
    return {name: times for name, times in found.items() if times["ours"]}
