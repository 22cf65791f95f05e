"""The page on choosing a loss, from the declarations of all losses and what ``make evidence`` measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from losses.choosing import heading
from losses.configuration import available
from losses.core.fits import CONDITIONS, TASKS, Fits
from losses.core.registry import Spec, find

RESULTS = Path(__file__).parent.parent / "docs" / "choosing"
ERRORS = 2
"""By how many standard errors of their difference a loss has to do better than its peer."""
BEGINNING = f"""# Choosing a loss

What is to be learnt, what is in the way, and which loss helps: every advice with the measurement that it rests on and
the usual choice beside it. `losses.choose("regression", outliers=True)`, or
`.venv/bin/python -m losses choose --task regression --outliers`, ranks the losses by the same numbers.

Numbers are means and standard deviations over seeds, each of which draws the network and, but for letters, what is
trained on anew. An advice stands where its loss does better than its peer, and than what learns nothing, in the
deciding metric, the first of its table, seed by seed, by more than {ERRORS} standard errors of the mean difference;
otherwise it is ~~struck~~: that was tried, and not seen here. What is better than the peer by as much is **bold** in
any metric. A claim of a loss is struck where no question bears it out that is about a task it is made for. Data and
networks are small, parameters were not tuned, and little data stands behind each question: repeat it on your own.
`make evidence` measures all of it again and draws the pictures, and `make pages` writes this page of it."""


class Advice(NamedTuple):
    """What was measured of a loss, beside its peer."""

    question: str
    answer: str
    loss: str
    peer: str
    metric: str
    stands: bool
    values: Sequence[float]
    peer_values: Sequence[float]


def choosing() -> str:
    """Return the page."""
    return "\n".join([BEGINNING, *decisions(), *tasks(), *(line for word in CONDITIONS for line in measured(word)), ""])


@cache
def results() -> dict[str, dict[str, Any]]:
    """Return what was measured, by the names of the questions."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def questions(condition: str) -> list[str]:
    """Return the names of the questions that were asked about a condition."""
    return [name for name, found in results().items() if found["condition"] == condition]


def advices(question: str) -> list[Advice]:
    """Return what was measured of the losses that an advice is on, the best first."""
    found = results()[question]
    metric, better = next(iter(found["better"].items()))
    values = {row["answer"]: row["measured"][metric] for row in found["rows"]}
    learns_nothing = [row["answer"] for row in found["rows"] if not row["loss"]]
    made = [
        Advice(
            question,
            row["answer"],
            row["loss"]["name"],
            row["peer"],
            metric,
            all(is_better(values[row["answer"]], values[other], better) for other in (row["peer"], *learns_nothing)),
            values[row["answer"]],
            values[row["peer"]],
        )
        for row in found["rows"]
        if row["peer"]
    ]
    sign = -1 if better == "higher" else 1
    return sorted(made, key=lambda one: sign * float(f"{fmean(one.values):.3g}"))  # what is as good stays in its order


def is_better(values: Sequence[float], peer: Sequence[float], better: str) -> bool:
    """Return whether values are better than a peer's by more than chance, seed by seed."""
    sign = 1 if better == "higher" else -1
    differences = [sign * (one - other) for one, other in zip(values, peer, strict=True)]
    return fmean(differences) > ERRORS * stdev(differences) / math.sqrt(len(differences))


def claims_that_stand(condition: str) -> dict[str, bool]:
    """Return the losses that were measured under a condition, in the order of what was measured, and whether what they
    claim stands: in the best of the forms that were tried, for the tasks that they are made for."""
    stands: dict[str, bool] = {}
    for question in questions(condition):
        for advice in advices(question):
            fits = find(advice.loss).fits
            if fits is not None and results()[question]["task"] in fits.task:
                stands[advice.loss] = stands.get(advice.loss, False) or advice.stands
    return stands


def measured_order() -> str:
    """Return :func:`claims_that_stand` of every condition as lines of code."""
    lines = []
    for condition in CONDITIONS:
        if stands := claims_that_stand(condition):
            lines += [
                f'    "{condition}": {{',
                *(f'        "{loss}": {value},' for loss, value in stands.items()),
                "    },",
            ]
    return "\n".join(lines)


def decisions() -> Iterator[str]:
    """Yield the table of all advices."""
    yield from (
        "",
        "## Which loss when",
        "",
        "| if | then | which does | and its peer | seeds |",
        "|---|---|---|---|---|",
    )
    for condition, meaning in CONDITIONS.items():
        asked = questions(condition)
        for advice in (advice for question in asked for advice in advices(question)):
            name = named(advice.answer)
            place = f"{meaning}: {spaced(advice.question)}" if len(asked) > 1 else meaning
            cells = (
                f"[{place}](#{heading(advice.question)})",
                name if advice.stands else f"~~{name}~~",
                f"{advice.metric} {spread_of(advice.values)}",
                f"{named(advice.peer)} {spread_of(advice.peer_values)}",
                str(len(advice.values)),
            )
            yield f"| {' | '.join(cells)} |"


def tasks() -> Iterator[str]:
    """Yield the losses of every task, each with what it claims."""
    yield from ("", "## What each loss is for")
    for task, meaning in TASKS.items():
        yield from (
            "",
            f"### {titled(task)}",
            "",
            f"What is learnt: {meaning}.",
            "",
            "| loss | for | claims | not for |",
        )
        yield "|---|---|---|---|"
        for spec, fits in made_for(task):
            first = f'<a id="{spec.name}"></a>' if fits.task[0] == task else ""
            claims = ", ".join(linked(word, is_struck(word, spec.name)) for word in fits.claimed)
            against = "; ".join(f"{linked(word)}: {reason}" for word, reason in fits.against.items())
            yield f"| {first}`{spec.name}` | {spec.suits} | {claims} | {against} |"


def made_for(task: str) -> list[tuple[Spec, Fits]]:
    """Return the losses of this package that are made for a task."""
    specs = [find(name) for name in available()]
    return [(spec, fits) for spec in specs if is_ours(spec) and (fits := spec.fits) is not None and task in fits.task]


def is_ours(spec: Spec) -> bool:
    return spec.cls.__module__.startswith("losses.")


def is_struck(condition: str, loss: str) -> bool:
    """Return whether a loss was tried under a condition and did not do better."""
    return claims_that_stand(condition).get(loss) is False


def measured(condition: str) -> Iterator[str]:
    """Yield what is claimed under a condition, what was asked about it, and what was measured."""
    claims = {
        name: fits.claimed[condition]
        for name in available()
        if is_ours(find(name)) and (fits := find(name).fits) is not None and condition in fits.claimed
    }
    yield from ("", f"## {titled(condition)}", "", f"The case: {CONDITIONS[condition]}.")
    tried = claims_that_stand(condition)
    for title, names in (
        ("Why they should", [name for name in claims if name in tried]),
        ("Claimed and not measured", [name for name in claims if name not in tried]),
    ):
        if names:
            yield from ("", f"{title}:", "", *(f"- [`{name}`](#{name}): {claims[name]}." for name in names))
    asked = questions(condition)
    for question in asked:
        if len(asked) > 1:
            yield from ("", f"### {titled(question)}")
        yield from table(question)


def table(question: str) -> Iterator[str]:
    """Yield the question, a row for every answer, and what was drawn."""
    found = results()[question]
    metrics: Mapping[str, str] = found["better"]
    stands = {advice.answer: advice.stands for advice in advices(question)}
    yield from ("", f"{found['asks']} {found['data']}. {found['seeds']} seeds, {found['steps']} steps.", "")
    yield f"| loss | {' | '.join(f'{metric} ({better})' for metric, better in metrics.items())} | peer | |"
    yield f"|---|{'---|' * (len(metrics) + 2)}"
    for row in found["rows"]:
        answer = row["answer"]
        verdict = "" if answer not in stands else "stands" if stands[answer] else struck(row, found)
        name = named(answer) if row["loss"] else answer
        name = f"~~{name}~~" if stands.get(answer) is False else name
        cells = " | ".join(cell(metric, row, found) for metric in metrics)
        parameters = ", ".join(f"{key}={value}" for key, value in row["loss"].items() if key != "name")
        said = "; ".join(part for part in (f"`{parameters}`" if parameters else "", row["reading"]) if part)
        said = f" ({said})" if said and row["loss"] else ""
        yield f"| {name}{said} | {cells} | {named(row['peer'])} | {verdict} |"
    if found["picture"]:
        yield from ("", f"![{found['picture']}](choosing/{question}.png)", "", f"{found['picture']}.")


def struck(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the verdict on an advice that does not stand: where its loss does better after all."""
    elsewhere = [metric for metric in found["better"] if does_better(metric, row, found)]
    return f"~~struck~~, though better in {' and '.join(elsewhere)}" if elsewhere else "~~struck~~"


def cell(metric: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return a metric as text, bold where it is better than that of the peer."""
    text = spread_of(row["measured"][metric])
    return f"**{text}**" if does_better(metric, row, found) else text


def does_better(metric: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether an answer is better than its peer in a metric of which more, or less, is better."""
    better = found["better"][metric]
    peers = [other["measured"][metric] for other in found["rows"] if other["answer"] == row["peer"]]
    return better in ("lower", "higher") and bool(peers) and is_better(row["measured"][metric], peers[0], better)


def named(answer: str) -> str:
    """Return an answer as the page calls it: the loss as code, and what is said beside it."""
    loss, comma, more = answer.partition(",")
    return f"`{loss}`{comma}{more}" if loss else ""


def linked(condition: str, struck: bool = False) -> str:
    link = f"[{spaced(condition)}](#{heading(condition)})"
    return f"~~{link}~~" if struck else link


def titled(word: str) -> str:
    """Return a word as a heading, which :func:`losses.choosing.heading` is the anchor of."""
    return spaced(word).capitalize()


def spaced(word: str) -> str:
    return word.replace("_", " ")


def spread_of(values: Sequence[float]) -> str:
    """Return a mean and its standard deviation.

    >>> spread_of([45.0, 47.0]), spread_of([0.5, 0.5])
    ('46.0 ± 1.4', '0.500 ± 0.000')
    """
    digits = 1 if abs(fmean(values)) >= 10 else 3
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"
