"""What came of checking a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Outcome = Literal["kept", "broken", "declared", "not applicable", "not offered"]
WORST_FIRST: tuple[Outcome, ...] = ("broken", "declared", "not offered", "not applicable", "kept")


class Verdict(NamedTuple):
    """What became of one clause in one precision."""

    clause: str
    precision: str
    outcome: Outcome
    seen: str
    kinds: tuple[str, ...] = ()
    """The kinds of input on which it was kept, where it does not apply to all that the loss takes."""


@dataclass(frozen=True)
class Report:
    """The verdicts of all clauses on one loss; ``str()`` of it is a table of clause, verdict and what was seen,
    with the counts below."""

    loss: str
    verdicts: tuple[Verdict, ...]

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The clauses that are broken."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "broken")

    def raise_for_failures(self) -> None:
        """Raise an AssertionError that lists every broken clause, if there is one."""
        if self.failures:
            broken = sorted({verdict.clause for verdict in self.failures})
            raise AssertionError(f"{self.loss} breaks {len(broken)} clauses:\n{table(self.failures)}")

    def __str__(self) -> str:
        return f"{self.loss}\n{table(self.verdicts)}\n{self.summary}"

    @property
    def summary(self) -> str:
        """How many clauses fared how, in one line; a clause that is broken in one precision is broken."""
        outcomes: dict[str, set[str]] = {}
        for verdict in self.verdicts:
            outcomes.setdefault(verdict.clause, set()).add(verdict.outcome)
        worst = [next(each for each in WORST_FIRST if each in found) for found in outcomes.values()]
        counts = {outcome: worst.count(outcome) for outcome in reversed(WORST_FIRST) if outcome in worst}
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def table(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as lines; precisions in which a clause fared alike share one."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        rows.setdefault((verdict.clause, verdict.outcome, verdict.seen), []).append(verdict.precision)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    split = {
        clause for clause, outcome, _ in rows if any(other == clause and fared != outcome for other, fared, _ in rows)
    }
    lines = []
    for (clause, outcome, seen), precisions in rows.items():
        where = f" ({', '.join(precisions)})" if any(precisions) and (outcome == "broken" or clause in split) else ""
        lines.append(f"{clause:<{widths[0]}}  {outcome:<{widths[1]}}  {seen}{where}")
    return "\n".join(lines)
