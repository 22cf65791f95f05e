"""Every registered loss keeps every clause of the contract, but those that it says it does not."""

import pytest

import losses
from losses.checking import CLAUSES, check_loss


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("name", losses.available())
def test_contract(name: str, clause: str) -> None:
    check_loss(name, clauses=[clause]).raise_for_failures()


@pytest.mark.parametrize("name", losses.available())
def test_exemptions_are_declared_for_clauses_that_exist_and_are_not_kept(name: str) -> None:
    cls = type(losses.create(name))
    for clause in cls.exemptions:
        without = type(cls.__name__, (cls,), {"exemptions": {}})
        assert check_loss(without, clauses=[clause]).failures
