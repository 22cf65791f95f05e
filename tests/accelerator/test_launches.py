"""How many operations are launched, forward and backward, beside the lines that one writes: they are counted where a
CPU is taken for an accelerator, and never timed."""

import pytest

from benchmarks.__main__ import FAMILIES
from benchmarks.harness.comparison.case import Case, Side
from benchmarks.harness.equality import step
from tests.accelerator.pretended import launches

MOST = 1.2  # times as many as the peer
BEYOND = {
    "huber-weighted": 11,  # torch makes values, and slopes times weights, in one operation each
    "ce": 6,  # where everything is ignored the mean is 0
    "ce-ignored": 6,
    "ce-linear": 10,
    "ce-linear-ignored": 10,
    "ce-class_weight": 10,  # of weights in float64; a class of weight 0 changes nothing, even where it is impossible
    "ce-weighted": 15,  # a target of weight 0 may be any number, and what is ignored has no weight
    "ce-z_loss": 32,
    "weston_watkins": 16,  # torch's function takes NaN for nothing to pay
    "dice-classes": 36,
    "kl": 13,  # a probability of 0 has a logarithm that is finite, and a slope of 0
    "elbo-weighted": 33,
    "entropy": 17,  # by the definition: what is impossible has no slope
    "entropy-weighted": 29,
    "triplets-weighted": 39,  # what has weight 0 is hidden in copies of the points
}
"""What takes more, and how many it takes."""
ROWWISE = ("pairs", "triplets", "cosine-pairs")


def name_of(case: Case) -> str:
    return case.name.rsplit("-", 1)[0]


def rows() -> dict[str, Case]:
    """Return a case of every row of the benchmarks of single elements and rows, without and with weights."""
    families = ("regression", "classification", "divergence", "generative")
    cases = [case for family in families for case in FAMILIES[family].cases]
    cases += [case for case in FAMILIES["metric"].cases if name_of(case).removesuffix("-weighted") in ROWWISE]
    return {name_of(case): case for case in reversed(cases)}


ROWS = rows()


def launched(case: Case, side: Side) -> int:
    batch = case.batch(*case.shaped(quick=True), "cpu")
    return launches(step(case.value(side, "cpu"), batch.leaves, *batch.constants))


@pytest.mark.parametrize("name", ROWS)
def test_no_more_is_launched_than_by_the_lines_one_writes(name: str) -> None:
    ours, theirs, most = launched(ROWS[name], "ours"), launched(ROWS[name], "peer"), BEYOND.get(name, 0)
    assert ours <= max(MOST * theirs, most), f"{ours} operations, {theirs} of the peer"
    assert not most or ours > MOST * theirs, f"{ours} operations, {theirs} of the peer: it is no longer beyond"
