"""The support page says what was seen: its marks are what ``test_contract`` sees, and all else on it follows from
them."""

import pytest

from losses.checking import CLAUSES, Report, Verdict
from losses.core.registry import find
from tests.contract.support_page import MARKS, PAGE
from tools import contract_pages


def test_all_but_the_marks_follows_from_them() -> None:
    outcomes = {mark: outcome for outcome, mark in contract_pages.MARKS.items()}
    reports = {}
    for name in contract_pages.our_losses():
        exemptions = find(name).cls.exemptions
        verdicts = []
        for clause in CLAUSES.values():
            for precision in clause.precisions:
                where = precision.name if len(clause.precisions) > 1 else ""
                mark = MARKS.get((name, clause.name, where), "missing")
                outcome = next((outcomes[each] for each in outcomes if mark.startswith(each)), "broken")
                kinds = tuple(mark.split()[1:])
                seen = f"{clause.promise}: not so, {exemptions.get(clause.name)}"
                verdicts.append(Verdict(clause.name, where, outcome, seen, kinds))
        reports[name] = Report(name, tuple(verdicts))
    assert contract_pages.support_of(reports) == PAGE, "support.md is stale: run make pages"


@pytest.mark.parametrize("name", contract_pages.our_losses())
def test_the_mark_of_the_oracle_is_current(name: str) -> None:
    assert contract_pages.mark_of(contract_pages.answer_of(name)) == MARKS[name, "equals_its_oracle", ""]
