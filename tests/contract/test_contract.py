"""Every registered loss keeps every clause of the contract."""

import pytest

import losses
from losses.checking import CLAUSES


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("name", losses.available())
def test_contract(name: str, clause: str) -> None:
    losses.check_loss(name, clauses=[clause]).raise_for_failures()
