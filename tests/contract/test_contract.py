"""Every registered loss keeps every clause of the contract, but those that it says it does not; the support page tells
the same."""

from collections.abc import Sequence
from typing import Any

import pytest

import losses
from losses.checking import CLAUSES, Verdict, parametrizing, verdict
from losses.checking.parametrizing import ClauseTest, parametrize_with_clauses
from losses.core.registry import find
from tests.contract.support_page import MARKS
from tools.contract_pages import mark_of


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Sequence[Verdict]:
    """What the test of a clause finds, the last of it the verdict on that clause."""
    found: list[Verdict] = []

    def recorded(*arguments: Any) -> Verdict:
        found.append(verdict(*arguments))
        return found[-1]

    monkeypatch.setattr(parametrizing, "verdict", recorded)
    return found


@parametrize_with_clauses(losses.available())
def test_contract(loss: str, clause: ClauseTest, verdicts: Sequence[Verdict]) -> None:
    try:
        clause(loss)
    finally:
        for found in verdicts[-1:]:  # none, where the loss gives no loss that could be checked
            mark = MARKS.get((loss, found.clause, found.precision), "missing")
            # an exemption's clause is run all the same, and what the tests' oracles say is asked elsewhere
            if mark != "declared" and found.clause != "equals_its_oracle":
                assert mark_of(found) == mark, "support.md is stale: run make pages"


@pytest.mark.parametrize("name", losses.available())
def test_exemptions_are_for_clauses_that_exist(name: str) -> None:
    assert set(type(find(name).instance()).exemptions) <= set(CLAUSES)
