"""Whole-batch metric losses against pytorch-metric-learning and plain torch: time, memory, and how both grow with the
batch.

float32, 128 dimensions, forward and backward. Nothing is timed before its value and gradient were seen to be the
peer's.
"""

from __future__ import annotations

import argparse
import statistics
import traceback
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import losses
from benchmarks import memory, peers
from benchmarks.measure import (
    Difference,
    Outcome,
    Spread,
    UnequalError,
    alone,
    difference,
    exponent,
    ratio,
    require_equal,
    step,
    summary,
    timed,
)
from benchmarks.memory import GIBIBYTE, MEBIBYTE, TooLargeError

DIMENSIONS = 128
# float32 against float32, relative to the value, and to the largest entry of the gradient
TOLERANCE = Difference(value=1e-5, gradient=1e-4)
# float32 makes up to 3e-7 of a distance of 1.4 in torch.cdist, twice of d_ap - d_an: nearer to the hinge, rounding
# decides
NEAR = 1e-6
# float64 against float64, where nothing is that near to the hinge: whether it is the same mathematics
EXACT = Difference(value=1e-9, gradient=1e-7)
CHEAP = 2 * GIBIBYTE  # peers are also run in float64 where that takes no more
SMALL = 16  # embeddings of the batch that warms a process up
QUICK = 16  # how many times smaller the batches of --quick are
BLOCK = 64 * MEBIBYTE  # largest matrix that the bare matrix products write
SCALING_SIZES = (512, 1024, 2048, 4096, 8192)

Side = Literal["ours", "peer"]
Estimate = Callable[[int, int], float]


class OursTooLargeError(Exception):
    """Our loss needs more memory than is safe, so that it cannot be checked; then it is not timed either."""


class Batch(NamedTuple):
    """What a loss is called with: tensors whose gradient is wanted, and labels if it takes any."""

    leaves: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]

    def double(self) -> Batch:
        """Return the same batch in float64."""
        return Batch(tuple(leaf.detach().double().requires_grad_() for leaf in self.leaves), self.constants)

    def compared(self) -> tuple[Tensor, Tensor]:
        """Return the two sets of embeddings of which every pair is compared."""
        leaves = [leaf.detach() for leaf in self.leaves]
        return leaves[0], leaves[-1]


class Views(Batch):
    """Two views of each sample, every embedding compared with all others of both."""

    def compared(self) -> tuple[Tensor, Tensor]:
        everything = torch.cat([leaf.detach() for leaf in self.leaves])
        return everything, everything


def labelled(size: int, per_class: int, device: str = "cpu") -> Batch:
    """Return unit vectors scattered about the centres of their classes, in random order.

    Distances within a class are about 1.15 and between classes about 1.41, each with some spread, so that both sides of
    every hinge are met. Peers that take distances as they are get the same as those that normalise.
    """
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(size) // per_class)[torch.randperm(size, generator=generator)]
    centres, noise = (torch.randn(size, DIMENSIONS, generator=generator) for _ in range(2))
    embeddings = F.normalize(centres[labels] + 1.4 * noise, dim=1)
    return Batch((embeddings.to(device).requires_grad_(),), (labels.to(device),))


def views(size: int, per_class: int, device: str = "cpu") -> Views:
    """Return ``size`` embeddings in all: two noisy views of half as many samples."""
    return Views(rows(size // 2, per_class, device).leaves, ())


def rows(size: int, per_class: int, device: str = "cpu") -> Batch:
    """Return ``size`` rows of two modalities that match."""
    generator = torch.Generator().manual_seed(0)
    common, *noise = (torch.randn(size, DIMENSIONS, generator=generator) for _ in range(3))
    return Batch(tuple(F.normalize(common + side, dim=1).to(device).requires_grad_() for side in noise), ())


@dataclass(frozen=True)
class Peer:
    """What we are compared with.

    Args:
        name: for the table.
        make: returns the function to differentiate.
        bytes: what it takes of memory for a size and a number per class, roughly: what would take too much is not run.
        comparable: whether value and gradient are to be ours.
        shrink: how many times smaller its batch is than ours.
    """

    name: str
    make: Callable[[], peers.Value]
    bytes: Estimate
    comparable: bool = True
    shrink: int = 1


@dataclass(frozen=True)
class Case:
    """One row: a loss of ours on batches of one shape, its peer, and what it must reach.

    Args:
        name: on the command line and in the table.
        size: embeddings in the batch, of which ``per_class`` are of one class each.
        loss, parameters: ours.
        peer: what is timed in turns with it.
        definition: what value and gradient are checked against, in float64, where the peer computes something else.
        defined_at: size of the batch of that check.
        batch: makes the batch from size, number per class and device.
        hinge: counts what lies so near to a hinge that rounding decides about it, where mean or gradient jump there.
        products: how many matrix products of N x N x D the loss cannot do without.
        faster: peer / ours is at least this.
        slower: ours / peer is at most this.
        lighter: memory of ours / peer is at most this.
        megabytes: memory of ours is at most this.
    """

    name: str
    size: int
    per_class: int
    loss: str
    parameters: dict[str, Any] = field(default_factory=dict)
    peer: Peer | None = None
    definition: Peer | None = None
    defined_at: int = 0
    batch: Callable[[int, int, str], Batch] = labelled
    hinge: Callable[..., tuple[int, int, int]] | None = None
    products: int = 3
    faster: float | None = None
    slower: float | None = None
    lighter: float | None = None
    megabytes: float | None = None

    def ours(self) -> peers.Value:
        """Return our loss as a function of the leaves of a batch and its labels."""
        loss = losses.create(self.loss, **self.parameters)
        return loss if self.batch is labelled else lambda first, second: loss(losses.Pairs(first, second))

    def value(self, side: Side) -> peers.Value:
        """Return what is differentiated on one side."""
        if side == "ours":
            return self.ours()
        assert self.peer is not None, f"{self.name} has no peer"
        return self.peer.make()

    def shape(self, size: int | None = None, *, quick: bool = False) -> tuple[int, int]:
        """Return size and number per class, of the full batch or one of another size; at least four classes stay."""
        size = (size or self.size) // (QUICK if quick else 1)
        return size, min(self.per_class, size // 4)


def triplets(size: int, per_class: int) -> int:
    """Return how many triplets a batch has."""
    return size * (per_class - 1) * (size - per_class)


def of_triplets(each: float) -> Estimate:
    """Return the estimate of a peer that lists all triplets, found in a cube of single bytes."""
    return lambda size, per_class: each * triplets(size, per_class) + (size**3 if size**3 < 2**31 else 0)


def of_matrices(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each pair."""
    return lambda size, _: each * size**2


def of_cubes(each: float) -> Estimate:
    """Return the estimate of a peer that holds so many bytes for each element of N x N x N."""
    return lambda size, _: each * size**3


PML_TRIPLET = Peer("PML", peers.pml_triplet, of_triplets(60))
CUBE = Peer("cube", peers.cube_triplet, of_cubes(20))
CDIST = Peer("cdist", peers.cdist, of_matrices(20), comparable=False)
PML_SOFT = Peer("PML", partial(peers.pml_triplet, 0.0, smooth=True), of_triplets(60))
PML_HARD = Peer("PML", peers.pml_hard_triplet, of_matrices(40))
PML_CONTRASTIVE = Peer("PML", partial(peers.pml_contrastive, 1.4), of_matrices(45))
NAIVE_CONTRASTIVE = Peer("naive", partial(peers.naive_contrastive, 1.4), of_matrices(40))
PML_CIRCLE = Peer("PML", peers.pml_circle, of_matrices(80))
PML_SUPCON = Peer("PML", peers.pml_supervised_contrastive, of_matrices(60))
PML_INFO_NCE = Peer("PML", peers.pml_info_nce, of_cubes(32))
NAIVE_BOTH = Peer("naive", peers.naive_both, of_matrices(30))
NAIVE_SECOND = Peer("naive", peers.naive_second, of_matrices(40))
TRIPLET_DEFINITION = Peer("definition", peers.triplet_definition, of_triplets(24))
HALF = Peer("N / 2", lambda: losses.create("triplet"), lambda size, per_class: 0, comparable=False, shrink=2)

NEAR_PAIRS = partial(peers.pairs_near_hinge, margin=1.4)
SIMCLR = {"negatives": "both"}
CLIP = {"negatives": "second", "direction": "both"}
BALANCED = {"power": 1, "average": "balanced", "margin": 1.4}

CASES = (
    Case("triplet-all-128", 128, 4, "triplet", peer=PML_TRIPLET, faster=2.5, hinge=peers.triplets_near_hinge),
    Case(
        "triplet-all-256",
        256,
        32,
        "triplet",
        peer=PML_TRIPLET,
        faster=18,
        lighter=1 / 20,
        hinge=peers.triplets_near_hinge,
    ),
    Case(
        "triplet-all-512",
        512,
        4,
        "triplet",
        peer=PML_TRIPLET,
        faster=45,
        lighter=1 / 25,
        hinge=peers.triplets_near_hinge,
    ),
    Case(
        "triplet-all-1024",
        1024,
        32,
        "triplet",
        peer=PML_TRIPLET,
        faster=110,
        lighter=1 / 150,
        hinge=peers.triplets_near_hinge,
    ),
    Case("triplet-all-128-cube", 128, 4, "triplet", peer=CUBE, hinge=peers.triplets_near_hinge),
    Case("triplet-all-256-cube", 256, 32, "triplet", peer=CUBE, hinge=peers.triplets_near_hinge),
    Case("triplet-all-512-cube", 512, 4, "triplet", peer=CUBE, hinge=peers.triplets_near_hinge),
    Case("triplet-all-1024-cube", 1024, 32, "triplet", peer=CUBE, hinge=peers.triplets_near_hinge),
    Case(
        "triplet-all-4096",
        4096,
        4,
        "triplet",
        {},
        CDIST,
        TRIPLET_DEFINITION,
        4096,
        slower=1.4,
        megabytes=40,
        hinge=peers.triplets_near_hinge,
    ),
    Case("triplet-all-8192", 8192, 32, "triplet", {}, None, TRIPLET_DEFINITION, 1024, hinge=peers.triplets_near_hinge),
    Case(
        "triplet-all-16384",
        16384,
        32,
        "triplet",
        {},
        HALF,
        TRIPLET_DEFINITION,
        1024,
        slower=6,
        megabytes=250,
        hinge=peers.triplets_near_hinge,
    ),
    Case("triplet-soft-1024", 1024, 32, "triplet", {"margin": "soft"}, PML_SOFT, faster=60, lighter=1 / 50),
    Case("triplet-hard-512", 512, 4, "triplet", {"mining": "hard"}, PML_HARD, products=1, faster=3, lighter=1 / 2),
    Case("triplet-hard-2048", 2048, 4, "triplet", {"mining": "hard"}, PML_HARD, products=1, faster=6, lighter=1 / 10),
    Case(
        "contrastive-4096",
        4096,
        4,
        "contrastive",
        BALANCED,
        PML_CONTRASTIVE,
        hinge=NEAR_PAIRS,
        faster=5,
        lighter=1 / 25,
    ),
    Case("contrastive-default-4096", 4096, 4, "contrastive", {"margin": 1.4}, NAIVE_CONTRASTIVE),
    Case("circle-4096", 4096, 4, "circle", {"margin": 0.4, "scale": 80}, PML_CIRCLE, faster=12, lighter=1 / 50),
    Case("supcon-4096", 4096, 4, "supervised_contrastive", {"temperature": 0.1}, PML_SUPCON, faster=5, lighter=1 / 40),
    Case("info_nce-both-512", 512, 2, "info_nce", SIMCLR, NAIVE_BOTH, batch=views, faster=1.4, lighter=1),
    Case("info_nce-both-512-pml", 512, 2, "info_nce", SIMCLR, PML_INFO_NCE, batch=views),
    Case("info_nce-both-4096", 4096, 2, "info_nce", SIMCLR, NAIVE_BOTH, batch=views, faster=2.5, lighter=1 / 12),
    Case("info_nce-second-4096", 4096, 1, "info_nce", CLIP, NAIVE_SECOND, batch=rows, faster=2.5, lighter=1 / 12),
)
NAMES = tuple(case.name for case in CASES)

SERIES = {
    "triplet-all, 4 per class": Case("", 0, 4, "triplet"),
    "triplet-all, 32 per class": Case("", 0, 32, "triplet"),
    "contrastive": Case("", 0, 4, "contrastive"),
    "circle": Case("", 0, 4, "circle"),
    "supervised_contrastive": Case("", 0, 4, "supervised_contrastive"),
    "info_nce, both": Case("", 0, 2, "info_nce", SIMCLR, batch=views),
    "info_nce, second": Case("", 0, 1, "info_nce", CLIP, batch=rows),
}


@dataclass(frozen=True)
class Settings:
    """How a run measures.

    Args:
        seconds: that timing one case takes, about.
        quick: batches a sixteenth of the size.
        device: ``"cpu"`` or ``"cuda"``.
        fresh: whether memory is the peak of a fresh process; else of this one, as on a GPU, whose allocator counts
            exactly.
    """

    seconds: float = 10.0
    quick: bool = False
    device: str = "cpu"
    fresh: bool = True


@dataclass
class Row:
    """What was found about a case. After an error nothing else is there; a note says what was not run and why.

    Small batches are not judged by the limits, which are about the full ones.
    """

    name: str
    size: int
    per_class: int
    peer: str | None
    limits: dict[str, float | None]
    judged: bool
    equality: dict[str, Any] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    peer_over_ours: Spread | None = None
    ours_over_peer: Spread | None = None
    ours_over_products: Spread | None = None
    memory: dict[str, int] = field(default_factory=dict)
    memory_method: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def time_kept(self) -> bool | None:
        """Whether the limit of time is kept; ``None`` where there is none, or nothing to judge it by."""
        if not self.judged or (self.limits["faster"] is None and self.limits["slower"] is None):
            return None
        if "ours" in self.notes:
            return False
        if self.peer_over_ours is None or self.ours_over_peer is None:
            return None
        if self.limits["faster"] is not None:
            return self.peer_over_ours.median >= self.limits["faster"]
        assert self.limits["slower"] is not None
        return self.ours_over_peer.median <= self.limits["slower"]

    @property
    def memory_kept(self) -> bool | None:
        """Whether the limit of memory is kept, likewise."""
        lighter, megabytes = self.limits["lighter"], self.limits["megabytes"]
        if not self.judged or (lighter is None and megabytes is None):
            return None
        if "ours" in self.notes:
            return False
        if "ours" not in self.memory:
            return None
        if megabytes is not None:
            return self.memory["ours"] <= megabytes * MEBIBYTE
        assert lighter is not None
        return self.memory["ours"] <= lighter * self.memory["peer"] if "peer" in self.memory else None

    def record(self) -> dict[str, Any]:
        """Return everything as numbers and text."""
        spreads = {
            name: value and value._asdict()
            for name, value in vars(self).items()
            if name in ("peer_over_ours", "ours_over_peer", "ours_over_products")
        }
        return {**vars(self), **spreads, "time_kept": self.time_kept, "memory_kept": self.memory_kept}


def measured(case: Case, settings: Settings) -> Row:
    """Return a row: equality first, then time, then memory."""
    size, per_class = case.shape(quick=settings.quick)
    limits = {name: getattr(case, name) for name in ("faster", "slower", "lighter", "megabytes")}
    blank = partial(Row, case.name, size, per_class, case.peer and case.peer.name, limits, not settings.quick)
    row = blank()
    try:
        batch = case.batch(size, per_class, settings.device)
        row.equality = equality(case, batch, settings)
        del batch
        row = alone(timed_row, row, settings) if settings.fresh else timed_row(row, settings, case)
        measure_memory(row, case, settings)
    except OursTooLargeError as error:
        row.notes["ours"] = str(error)
    except TooLargeError as error:
        row.notes["peer"] = f"{error}, beyond its estimate; so equality was not seen, and ours was not timed"
    except UnequalError as error:
        return blank(error=str(error))
    except Exception as error:  # whatever a loss or a peer does, the other cases go on, and the exit status tells
        traceback.print_exc()
        return blank(error=f"{type(error).__name__}: {error}")
    return row


def equality(case: Case, batch: Batch, settings: Settings) -> dict[str, Any]:
    """Return how far value and gradient are from what they should be, or raise where that is too far.

    They are compared on the batch that is timed; on a smaller one only where the peer does not fit, or computes
    something else and the definition takes too long.
    """
    reference = case.definition or case.peer
    assert reference is not None, f"{case.name} has nothing to be equal to"
    most = memory.allowed(settings.device)
    whole = case.shape(quick=settings.quick)
    size, per_class = case.shape(case.defined_at or None, quick=settings.quick)
    while reference.bytes(size, per_class) > most:
        size, per_class = size // 2, min(per_class, size // 8)
    if (size, per_class) != whole:
        batch = case.batch(size, per_class, settings.device)
    run = partial(contained, most=most, device=settings.device)
    found: dict[str, Any] = {"at": size, "per_class": per_class, "tolerance_float64": EXACT._asdict()}
    try:
        ours = run(case.ours(), batch)
    except TooLargeError as error:
        raise OursTooLargeError(str(error)) from error
    double = batch.double()
    expected = run(reference.make(), double if case.definition else batch)
    tolerance = widened(TOLERANCE, case.hinge, double, expected) if case.hinge else TOLERANCE
    found["tolerance"] = tolerance._asdict()
    name = f"{case.name} and {reference.name}"
    if case.definition is None:
        found["float32"] = require_equal(name, ours, expected, tolerance)._asdict()
        if 2 * reference.bytes(size, per_class) > min(most, CHEAP):
            return found
        exact = run(reference.make(), double)
        found["peer_from_float64"] = difference(expected, exact)._asdict()
    else:
        exact = expected
    found["ours_from_float64"] = require_equal(f"{name} in float64", ours, exact, tolerance)._asdict()
    found["float64"] = require_equal(f"{name}, both in float64", run(case.ours(), double), exact, EXACT)._asdict()
    return found


def contained(value: peers.Value, batch: Batch, *, most: int, device: str) -> Outcome:
    """Return value and gradient on a batch, or raise where that takes more memory than is safe."""
    with memory.limited(most, device):
        return outcome(value, batch)


def widened(
    tolerance: Difference, hinge: Callable[..., tuple[int, int, int]], batch: Batch, expected: Outcome
) -> Difference:
    """Return the tolerance with room for everything of which rounding decides whether it is active, counted in float64.

    Each may change the number that the mean divides by, and gives or takes a gradient of at most 2 at one embedding.
    """
    touching, near, active = hinge(*batch.leaves, *batch.constants, within=NEAR)
    count = near / active
    return Difference(
        tolerance.value + count,
        tolerance.gradient + count + 2 * touching / active / float(expected.gradient.abs().max()),
    )


def outcome(value: peers.Value, batch: Batch) -> Outcome:
    """Return value and gradient on a batch."""
    return step(value, batch.leaves, *batch.constants)()


def timed_row(row: Row, settings: Settings, case: Case | None = None) -> Row:
    """Return a row with its times; called by itself, it finds its case by name and makes the batch again."""
    case = case or CASES[NAMES.index(row.name)]
    measure_time(row, case, case.batch(row.size, row.per_class, settings.device), settings)
    return row


def measure_time(row: Row, case: Case, batch: Batch, settings: Settings) -> None:
    """Time ours, the peer and the bare matrix products in turns."""
    most = memory.allowed(settings.device)
    functions: dict[str, Callable[[], object]] = {"ours": step(case.ours(), batch.leaves, *batch.constants)}
    if case.peer is not None:
        about = case.peer.bytes(row.size, row.per_class)
        if about > most:
            row.notes["peer"] = f"about {about / GIBIBYTE:.1f} GiB"
        else:
            other = (
                batch
                if case.peer.shrink == 1
                else case.batch(row.size // case.peer.shrink, row.per_class, settings.device)
            )
            functions["peer"] = step(case.peer.make(), other.leaves, *other.constants)
    functions["products"] = products(*batch.compared(), case.products)
    for first in ("ours", "peer"):  # alone, so that whoever does not fit is known by name
        if first in functions:
            try:
                with memory.limited(most, settings.device):
                    functions[first]()
            except TooLargeError as error:
                row.notes[first] = str(error)
                del functions[first]
    if "ours" not in functions:
        return
    row.rounds = timed(functions, budget=0.2 if settings.quick else settings.seconds, device=settings.device)
    row.milliseconds = {name: 1000 * statistics.median(times) for name, times in row.rounds.items()}
    row.ours_over_products = ratio(row.rounds["ours"], row.rounds["products"])
    if "peer" in row.rounds:
        row.peer_over_ours = ratio(row.rounds["peer"], row.rounds["ours"])
        row.ours_over_peer = ratio(row.rounds["ours"], row.rounds["peer"])


def measure_memory(row: Row, case: Case, settings: Settings) -> None:
    """Find the peak of each side."""
    sides: tuple[Side, ...] = ("ours", "peer") if case.peer is not None else ("ours",)
    for side in sides:
        if side in row.notes:
            continue
        size = row.size // (case.peer.shrink if case.peer is not None and side == "peer" else 1)
        arguments = (case.name, side, size, row.per_class, settings.device)
        try:
            if settings.fresh and settings.device == "cpu":
                peak = memory.fresh("benchmarks.metric", "prepared", *arguments, limit=memory.allowed())
            else:
                peak = memory.here(prepared(*arguments), settings.device)
        except TooLargeError as error:
            row.notes[side] = str(error)
            continue
        row.memory[side] = peak.extra
        row.memory_method = peak.method


def prepared(
    name: str, side: Side, size: int | str, per_class: int | str, device: str = "cpu"
) -> Callable[[], Outcome]:
    """Return a step of one side of a case whose batch is built, after a small step has set up all that is set up
    once."""
    case = CASES[NAMES.index(name)]
    value = case.value(side)
    batch = case.batch(int(size), int(per_class), device)
    outcome(value, case.batch(SMALL, min(case.per_class, SMALL // 4), device))
    return step(value, batch.leaves, *batch.constants)


def products(first: Tensor, second: Tensor, count: int) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """Return a function that does the matrix products of a loss of all pairs and nothing else, into buffers made
    beforehand.

    One is the similarities; three are these, and the products of a matrix of their size with both sides: the gradients.
    """
    height = max(1, min(len(first), BLOCK // (first.element_size() * len(second))))
    buffer = first.new_empty(height, len(second))
    first_gradient, second_gradient = torch.empty_like(first), torch.empty_like(second)

    def multiply() -> tuple[Tensor, Tensor, Tensor]:
        for start in range(0, len(first), height):
            part, target = first[start : start + height], first_gradient[start : start + height]
            block = torch.mm(part, second.T, out=buffer[: len(part)])
            if count == 3:
                torch.mm(block, second, out=target)
                second_gradient.addmm_(block.T, part, beta=1 if start else 0)
        return block, first_gradient, second_gradient

    return multiply


def scaling(settings: Settings, unequal: Container[str] = ()) -> dict[str, dict[str, Any]]:
    """Return for each series the time at every size and the exponent with which it grows; nothing for losses that were
    unequal."""
    found = {}
    for name, case in SERIES.items():
        if case.loss in unequal:
            found[name] = {"exponent": None, "seconds": {}, "not_run": {}}
        else:
            found[name] = alone(growth, name, settings) if settings.fresh else growth(name, settings)
    return found


def growth(name: str, settings: Settings) -> dict[str, Any]:
    """Return the time of one series at every size, and its exponent."""
    case, most = SERIES[name], memory.allowed(settings.device)
    times: dict[int, float] = {}
    notes: dict[int, str] = {}
    for full in SCALING_SIZES:
        size, per_class = case.shape(full, quick=settings.quick)
        batch = case.batch(size, per_class, settings.device)
        function = step(case.ours(), batch.leaves, *batch.constants)
        try:
            with memory.limited(most, settings.device):
                rounds = timed(
                    {"ours": function}, budget=0.1 if settings.quick else settings.seconds / 5, device=settings.device
                )
        except TooLargeError as error:
            notes[size] = str(error)
            continue
        times[size] = statistics.median(rounds["ours"])
    slope = exponent(list(times), list(times.values())) if len(times) > 1 else None
    return {"exponent": slope, "seconds": times, "not_run": notes}


def table(rows: Iterable[Row], settings: Settings) -> Table:
    """Return the rows as a table of at most 140 columns."""
    shown = Table(
        title=title(settings), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    shown.add_column("case", no_wrap=True)
    shown.add_column("N/class", no_wrap=True)
    shown.add_column("peer", no_wrap=True)
    for column in (
        "ours\nms",
        "peer\nms",
        "times\n(quartiles)",
        "limit",
        "time",
        "ours\nMiB",
        "peer\nMiB",
        "ours/\npeer",
        "limit",
        "memory",
        "of\nmm",
    ):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*cells(row))
    return shown


def title(settings: Settings) -> str:
    """Return what the table is of."""
    sizes = ", sizes divided by 16" if settings.quick else ""
    return f"metric: float32, {DIMENSIONS} dimensions, forward and backward{sizes}; {summary(settings.device)}"


CAPTION = """\
times: peer / ours, ours / peer where the limit is <=; median of interleaved pairs. MiB: peak of a step, beyond imports
and the batch. of mm: ours / the bare matrix products of the loss, in the same turns; below 1 where each pair is
looked at once, which halves them. "N / 2" is ours at half the size. Every case is timed in a process of its own."""


def cells(row: Row) -> list[str]:
    """Return a row of the table."""
    times = row.ours_over_peer if row.limits["slower"] is not None else row.peer_over_ours
    shape = [row.name, f"{row.size}/{row.per_class}", row.peer or ""]
    if row.error is not None:
        return [*shape, *[""] * 4, "error", *[""] * 4, "error", ""]
    if times is not None:
        middle = f"{short(times.median)} ({short(times.lower)}-{short(times.upper)})"
    else:
        middle = f"not run: {row.notes['peer'].replace('about ', '~')}" if "peer" in row.notes else ""
    return [
        *shape,
        *(short(row.milliseconds.get(side)) for side in ("ours", "peer")),
        middle,
        limit(row.limits["faster"], ">=") or limit(row.limits["slower"], "<="),
        verdict(row.time_kept),
        *(short(row.memory[side] / MEBIBYTE) if side in row.memory else "" for side in ("ours", "peer")),
        share(row.memory["ours"] / max(1, row.memory["peer"])) if len(row.memory) == 2 else "",
        limit(row.limits["megabytes"], "<=", " MB")
        or (f"<={share(row.limits['lighter'])}" if row.limits["lighter"] else ""),
        verdict(row.memory_kept),
        short(row.ours_over_products.median) if row.ours_over_products else "",
    ]


def short(number: float | None) -> str:
    """Return three digits of a number, all of those before the point."""
    if number is None:
        return ""
    return (
        f"{number:.0f}" if number >= 1000 else f"{number:.2f}" if number < 0.1 else f"{number:#.3g}".removesuffix(".")
    )


def limit(number: float | None, sign: str, unit: str = "") -> str:
    """Return a limit as text."""
    return "" if number is None else f"{sign}{number:g}{unit}"


def share(part: float) -> str:
    """Return a share as 1/25, or as a factor where it is above 1."""
    return f"1/{1 / part:.3g}" if 0 < part < 1 else f"{part:.3g}"


def verdict(kept: bool | None) -> str:
    """Return whether a limit was kept, in a word."""
    return "" if kept is None else "kept" if kept else "missed"


def scaling_table(found: dict[str, dict[str, Any]]) -> Table:
    """Return exponents and the times they come from as a table."""
    shown = Table(
        title="ours: time grows with N to the power of",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    sizes = sorted({size for series in found.values() for size in (*series["seconds"], *series["not_run"])})
    shown.add_column("loss")
    for column in ("exponent", *(f"N={size}, ms" for size in sizes)):
        shown.add_column(column, justify="right")
    for name, series in found.items():
        power = "" if series["exponent"] is None else f"{series['exponent']:.2f}"
        times = (short(1000 * series["seconds"][size]) if size in series["seconds"] else "not run" for size in sizes)
        shown.add_row(name, power, *times)
    return shown


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument(
        "--case",
        nargs="+",
        choices=NAMES,
        metavar="NAME",
        help=f"run only these, without the exponents: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="batches a sixteenth of the size, few rounds: does everything run and agree?",
    )
    parser.add_argument(
        "--seconds", type=float, default=Settings.seconds, help="time for each case, about (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def report(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], bool]:
    """Run, print, and return every number and whether all went well."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: this torch sees no GPU")
    settings = Settings(arguments.seconds, arguments.quick, arguments.device, fresh=not arguments.quick)
    chosen = [case for case in CASES if not arguments.case or case.name in arguments.case]
    rows = [measured(case, settings) for case in track(chosen, console=Console(stderr=True), transient=True)]
    console.print(table(rows, settings))
    console.print(CAPTION, highlight=False)
    for row in rows:
        for side, note in row.notes.items():
            console.print(
                f"{row.name}: {'ours' if side == 'ours' else row.peer} was not run: {note}",
                highlight=False,
                markup=False,
            )
        if row.error is not None:
            console.print(f"ERROR {row.name}: {row.error}", highlight=False, markup=False)
    unequal = {case.loss for case, row in zip(chosen, rows, strict=True) if row.error is not None}
    found = {} if arguments.case else scaling(settings, unequal)
    if found:
        console.print(scaling_table(found))
    return {"rows": [row.record() for row in rows], "scaling": found}, all(row.error is None for row in rows)
