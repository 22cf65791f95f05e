"""One case after the other: equality first, then time, then memory."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import memory
from benchmarks.harness.comparison.case import Batch, Case, Shape, Side
from benchmarks.harness.comparison.row import Row, Settings
from benchmarks.harness.equality import Difference, Outcome, UnequalError, Value, difference, require_equal, step
from benchmarks.harness.memory import GIBIBYTE, MEBIBYTE, TooLargeError
from benchmarks.harness.timing import in_own_process, ratio, timed

# float32 against float32, relative to the value, and to the largest entry of the gradient
TOLERANCE = Difference(value=1e-5, gradient=1e-4)
# float32 makes up to 3e-7 of a distance of 1.4 in torch.cdist, twice of d_ap - d_an: nearer to the hinge, rounding
# decides
NEAR = 1e-6
# float64 against float64, where nothing is that near to the hinge: whether it is the same mathematics
EXACT = Difference(value=1e-9, gradient=1e-7)
CHEAP = 2 * GIBIBYTE  # peers are also run in float64 where that takes no more
SMALL = 16  # rows of the batch that warms a process up
BLOCK = 64 * MEBIBYTE  # largest matrix that the bare matrix products write
RATIOS = {
    "peer_over_ours": ("peer", "ours"),
    "ours_over_peer": ("ours", "peer"),
    "ours_over_products": ("ours", "products"),
}
COMPILED = {
    "compiled_peer_over_ours": ("compiled peer", "ours"),
    "compiled_peer_over_compiled_ours": ("compiled peer", "compiled ours"),
    "compiled_module_over_compiled_ours": ("compiled module", "compiled ours"),
}
"""Each timed by itself: what all others leave to the allocator decides on how fast compiled code gets its memory. A
module costs some microseconds more to call than a function once it is compiled, whoever wrote it."""


class Written(nn.Module):
    """A plain formula as a module of its own, which is what a loss is."""

    def __init__(self, formula: Value) -> None:
        super().__init__()
        self._formula = formula

    def forward(self, *batch: object) -> Tensor:
        return self._formula(*batch)


class OursTooLargeError(Exception):
    """Our loss needs more memory than is safe, so that it cannot be checked; then it is not timed either."""


def measured(case: Case, settings: Settings) -> Row:
    """Return a row: equality first, then time, then memory."""
    shape = case.shaped(quick=settings.quick)
    limits = {name: getattr(case, name) for name in ("faster", "slower", "lighter", "megabytes")}
    judged = not settings.quick and settings.device == "cpu"
    blank = partial(Row, case.name, case.loss, shape, case.peer and case.peer.name, limits, judged)
    row = blank()
    try:
        batch = case.batch(*shape, settings.device)
        row.equality = equality(case, batch, settings)
        del batch
        row = in_own_process(timed_row, row, case, settings) if settings.fresh else timed_row(row, case, settings)
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
    whole = case.shaped(quick=settings.quick)
    shape = case.shaped(case.defined_at or None, quick=settings.quick)
    while reference.bytes(*shape) > most:
        shape = case.resized(shape, shape[0] // 2)
    if shape != whole:
        batch = case.batch(*shape, settings.device)
    run = partial(contained, most=most, device=settings.device)
    found: dict[str, Any] = {"at": shape, "tolerance_float64": EXACT._asdict()}
    try:
        ours = run(case.ours(settings.device), batch)
    except TooLargeError as error:
        raise OursTooLargeError(str(error)) from error
    double = batch.double()
    expected = run(reference.make(), double if case.definition else batch)
    tolerance = widened(TOLERANCE, case.hinge, double, expected) if case.hinge else TOLERANCE
    found["tolerance"] = tolerance._asdict()
    name = f"{case.name} and {reference.name}"
    if case.definition is None:
        found["float32"] = require_equal(name, ours, expected, tolerance)._asdict()
        if 2 * reference.bytes(*shape) > min(most, CHEAP):
            return found
        exact = run(reference.make(), double)
        found["peer_from_float64"] = difference(expected, exact)._asdict()
    else:
        exact = expected
    found["ours_from_float64"] = require_equal(f"{name} in float64", ours, exact, tolerance)._asdict()
    ours = run(case.ours(settings.device), double)
    found["float64"] = require_equal(f"{name}, both in float64", ours, exact, EXACT)._asdict()
    return found


def contained(value: Value, batch: Batch, *, most: int, device: str) -> Outcome:
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


def outcome(value: Value, batch: Batch) -> Outcome:
    """Return value and gradient on a batch."""
    return step(value, batch.leaves, *batch.constants)()


def timed_row(row: Row, case: Case, settings: Settings) -> Row:
    """Return a row with its times, on a batch made anew: what a process of its own can be asked for."""
    measure_time(row, case, case.batch(*row.shape, settings.device), settings)
    return row


def measure_time(row: Row, case: Case, batch: Batch, settings: Settings) -> None:
    """Time ours, the peer and the bare matrix products in turns."""
    most = memory.allowed(settings.device)
    functions: dict[str, Callable[[], object]] = {
        "ours": step(case.ours(settings.device), batch.leaves, *batch.constants)
    }
    beside: dict[str, Callable[[], object]] = {}
    if case.peer is not None:
        about = case.peer.bytes(*row.shape)
        if about > most:
            row.notes["peer"] = f"about {about / GIBIBYTE:.1f} GiB"
        else:
            other = batch if case.peer.shrink == 1 else case.batch(*shape_of_peer(case, row.shape), settings.device)
            functions["peer"] = step(case.peer.make(), other.leaves, *other.constants)
            if settings.compiled and case.peer.formula:
                beside = compiled(case, batch, settings)
    if case.products:
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
    row.rounds = timed(functions, budget=settings.seconds, device=settings.device, quick=settings.quick)
    row.milliseconds = {name: 1000 * statistics.median(times) for name, times in row.rounds.items()}
    for name, (numerator, denominator) in RATIOS.items():
        if numerator in row.rounds and denominator in row.rounds:
            setattr(row, name, ratio(row.rounds[numerator], row.rounds[denominator]))
    for name, pair in COMPILED.items() if beside else ():
        two = {side: (functions | beside)[side] for side in pair}
        times = timed(two, budget=settings.seconds, device=settings.device, quick=settings.quick)
        row.milliseconds |= {side: 1000 * statistics.median(times[side]) for side in beside.keys() & times.keys()}
        setattr(row, name, ratio(*(times[side] for side in pair)))


def compiled(case: Case, batch: Batch, settings: Settings) -> dict[str, Callable[[], object]]:
    """Return the steps of ours, of the plain formula and of a module of it under ``torch.compile``, after they were
    seen to be what they are without."""
    steps: dict[str, Callable[[], object]] = {}
    formula = case.value("peer", settings.device)
    values = {"ours": case.value("ours", settings.device), "peer": formula, "module": Written(formula)}
    for name, value in values.items():
        function = step(torch.compile(value, dynamic=False), batch.leaves, *batch.constants)
        require_equal(f"{case.name}: {name} compiled", function(), outcome(value, batch), TOLERANCE)
        steps[f"compiled {name}"] = function
    return steps


def shape_of_peer(case: Case, shape: Shape) -> Shape:
    """Return the shape of the batch that the peer gets."""
    assert case.peer is not None
    return case.resized(shape, shape[0] // case.peer.shrink)


def measure_memory(row: Row, case: Case, settings: Settings) -> None:
    """Find the peak of each side."""
    sides: tuple[Side, ...] = ("ours", "peer") if case.peer is not None else ("ours",)
    for side in sides:
        if side in row.notes:
            continue
        shape = shape_of_peer(case, row.shape) if side == "peer" else row.shape
        try:
            if settings.fresh and settings.device == "cpu":
                peak = memory.fresh(prepared, case, side, shape, limit=memory.allowed())
            else:
                peak = memory.here(prepared(case, side, shape, settings.device), settings.device)
        except TooLargeError as error:
            row.notes[side] = str(error)
            continue
        row.memory[side] = peak.extra
        row.memory_method = peak.method


def prepared(case: Case, side: Side, shape: Shape, device: str = "cpu") -> Callable[[], Outcome]:
    """Return a step of one side of a case whose batch is built, after a small step has set up all that is set up
    once."""
    value = case.value(side, device)
    batch = case.batch(*shape, device)
    outcome(value, case.batch(*case.resized(shape, min(SMALL, shape[0])), device))
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
