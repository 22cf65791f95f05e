"""The contract as pages: ``support.md``, every clause on every loss, and ``peers.md``, the same clauses on other
libraries."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import losses
from losses.adapters import pytorch_metric_learning as pml
from losses.checking import CLAUSES, Report, Verdict, check_loss
from losses.core.inputs import BINARY, DISTRIBUTIONS, EMBEDDINGS, LOGITS, POINTWISE, TRIPLETS, Kind
from losses.core.registry import find

ROOT = Path(__file__).parent.parent
MARKS = {"kept": "✓", "broken": "✗", "declared": "declared", "not applicable": "·", "not offered": "-"}


@cache
def support() -> str:
    """Return the support matrix: loss x clause x precision."""
    return support_of({name: report_of(name) for name in our_losses()})


def our_losses() -> list[str]:
    """Return the names of the losses of this package, without those of installed ones."""
    return [name for name in losses.available() if type(find(name).instance()).__module__.startswith("losses.")]


def support_of(reports: Mapping[str, Report]) -> str:
    """Return the support matrix of reports."""
    counts = counted(reports.values())
    reasons = [
        f"- `{name}`, `{verdict.clause}`: {verdict.seen}."
        for name, report in reports.items()
        for verdict in report.verdicts
        if verdict.outcome == "declared"
    ]
    return "\n".join(
        [
            "# What every loss promises, and keeps",
            "",
            "Made by `make pages` from `losses.check_loss`, which runs on your own losses too; "
            "a test fails when this page is stale.",
            "A class is checked on every kind of input that it takes (`cross_entropy` on logits and on `LinearLogits`) "
            "with every option of every parameter, so one mark stands for many cases. "
            "Where a clause applies to some only of the kinds of input that a loss takes, the mark names those it was "
            "kept on: that two halves make the whole is said of pairs and triplets that are given, never of a labelled "
            "batch, for which exact accumulation is gradient caching (`losses.distributed.GradientCaching`).",
            "",
            f"**{counts['kept']} kept, {counts['declared']} declared, {counts['broken']} broken**, "
            f"{counts['not applicable']} not applicable (·: the loss has no such edge or option).",
            "",
            *matrix(reports),
            "## Declared exemptions",
            "",
            *reasons,
            "",
        ]
    )


@cache
def peers() -> str:
    """Return the same matrix for the losses of torch and of pytorch-metric-learning."""
    reports = {}
    for name, (module, kind) in PEERS.items():
        torch.manual_seed(0)
        # a peer's warnings, and torch's tracebacks of it, are its own
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            reports[name] = check_loss(module, inputs=kind)
    counts = counted(reports.values())
    return "\n".join(
        [
            "# The same clauses on other libraries",
            "",
            f"Made by `make pages`, with torch {torch.__version__.partition('+')[0]} "
            f"and {pml.NAME}. "
            "Each module is called as its own documentation says, on the batches that our losses are checked on.",
            "A mark says what was seen, not what its authors promise: nobody promised most of this. "
            "Clauses on weights, totals and",
            "configuration are about a call that these modules do not have (-). "
            "Our own side of the table is [support.md](support.md).",
            "",
            f"{counts['kept']} kept, {counts['broken']} not kept (✗), {counts['not offered']} not offered (-), "
            f"{counts['not applicable']} not applicable (·).",
            "",
            *matrix(reports),
        ]
    )


def matrix(reports: Mapping[str, Report]) -> list[str]:
    """Return tables of clause and precision against loss, one for each file of clauses."""
    marks = {
        (name, verdict.clause, verdict.precision): mark_of(verdict)
        for name, report in reports.items()
        for verdict in report.verdicts
    }
    lines = []
    for module in dict.fromkeys(clause.check.__module__ for clause in CLAUSES.values()):
        title = (sys.modules[module].__doc__ or "").splitlines()[0].removesuffix(".")
        lines += [
            f"## {title}",
            "",
            f"| clause | in | {' | '.join(f'`{name}`' for name in reports)} |",
            "|---|---|" + ":-:|" * len(reports),
        ]
        for clause in (each for each in CLAUSES.values() if each.check.__module__ == module):
            for index, precision in enumerate(clause.precisions):
                promise = f"`{clause.name}`: {clause.promise}" if index == 0 else ""
                where = precision.name if len(clause.precisions) > 1 else ""
                lines.append(
                    f"| {promise} | {where} | {' | '.join(marks[name, clause.name, where] for name in reports)} |"
                )
        lines.append("")
    return lines


def mark_of(verdict: Verdict) -> str:
    """Return what stands in a table for a verdict."""
    return " ".join([MARKS[verdict.outcome], *verdict.kinds])


def marks_on(page: str) -> dict[tuple[str, str, str], str]:
    """Return the marks of a page by loss, clause and precision: what :func:`matrix` wrote."""
    marks, names, clause = {}, list[str](), ""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if cells[:2] == ["clause", "in"]:
            names = [cell.strip("`") for cell in cells[2:]]
        elif cells:
            clause = cells[0].split("`")[1] if cells[0] else clause
            marks |= {(name, clause, cells[1]): mark for name, mark in zip(names, cells[2:], strict=True)}
    return marks


def counted(reports: Iterable[Report]) -> dict[str, int]:
    """Return how many verdicts there are of each outcome."""
    outcomes = [verdict.outcome for report in reports for verdict in report.verdicts]
    return {outcome: outcomes.count(outcome) for outcome in MARKS}


def report_of(name: str) -> Report:
    """Return the report on a loss, with the tests' oracles in the place of the one that a class cannot be given."""
    report, answer = check_loss(name), answer_of(name)
    return Report(
        report.loss, tuple(answer if verdict.clause == answer.clause else verdict for verdict in report.verdicts)
    )


def answer_of(name: str) -> Verdict:
    """Return what becomes of a loss beside the tests' oracles."""
    answers = [
        verdict
        for loss, kind, oracle in oracles_of(name)
        for verdict in check_loss(loss, inputs=kind, oracle=oracle, clauses=["equals_its_oracle"]).verdicts
    ]
    return next((answer for answer in answers if answer.outcome == "broken"), answers[0])


def oracles_of(name: str) -> Iterable[tuple[losses.Loss, Kind, Callable[[Any, Any], Tensor]]]:
    """Yield, for each kind of input, a loss with an oracle that autograd goes through; the simplest parameters come
    first."""
    tests, seen = oracles(), set()
    for case in sorted(tests.ORACLES[name], key=lambda case: len(case.parameters)):
        loss, drawn = find(name).instance(**case.parameters), case.draw(torch.Generator().manual_seed(0))
        kind = next((kind for kind in loss.inputs if kind.claims(drawn.output)), None)
        if (
            kind is not None
            and kind not in seen
            and case.differentiable
            and not (drawn.options or drawn.leaves or case.tangent)
        ):
            seen.add(kind)
            yield loss, kind, lambda output, target, case=case: case.mean(tests.OracleBatch(output, target))


@cache
def oracles() -> ModuleType:
    """Return the tests' oracles."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # a script finds what lies beside it, and the tests lie elsewhere
    return importlib.import_module("tests.oracles")


class OfTriplets(nn.Module):
    """A module that takes anchor, positive and negative one by one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, output: tuple[Tensor, Tensor, Tensor], target: None) -> Tensor:
        return self.module(*output)


class OfLogProbabilities(nn.KLDivLoss):
    """``KLDivLoss`` says its kind of input to the batches: log-probabilities against probabilities."""

    output_form, target_form = "log_probs", "probs"


class OfProbabilities(nn.BCELoss):
    """``BCELoss`` behind the sigmoid that its documentation puts before it."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits.sigmoid(), target)


PEERS: dict[str, tuple[nn.Module, Kind]] = {
    "nn.MSELoss": (nn.MSELoss(), POINTWISE),
    "nn.L1Loss": (nn.L1Loss(), POINTWISE),
    "nn.HuberLoss": (nn.HuberLoss(), POINTWISE),
    "nn.BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), BINARY),
    "sigmoid + nn.BCELoss": (OfProbabilities(), BINARY),
    "nn.CrossEntropyLoss": (nn.CrossEntropyLoss(), LOGITS),
    "nn.KLDivLoss": (OfLogProbabilities(reduction="batchmean"), DISTRIBUTIONS),
    "nn.TripletMarginLoss": (OfTriplets(nn.TripletMarginLoss()), TRIPLETS),
    "PML ContrastiveLoss": (pml.losses.ContrastiveLoss(distance=pml.distances.LpDistance()), EMBEDDINGS),
    "PML TripletMarginLoss": (pml.losses.TripletMarginLoss(margin=0.05), EMBEDDINGS),
    "PML CircleLoss": (pml.losses.CircleLoss(), EMBEDDINGS),
}
