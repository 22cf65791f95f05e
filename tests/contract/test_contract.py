"""Every registered loss keeps every clause of the contract, but those that it says it does not."""

import pytest

import losses
from losses.checking import CLAUSES
from losses.checking.parametrizing import ClauseTest, parametrize_with_clauses


@parametrize_with_clauses(losses.available())
def test_contract(loss: str, clause: ClauseTest) -> None:
    clause(loss)


@pytest.mark.parametrize("name", losses.available())
def test_exemptions_are_for_clauses_that_exist(name: str) -> None:
    assert set(type(losses.create(name)).exemptions) <= set(CLAUSES)
