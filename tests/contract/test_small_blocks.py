"""Losses that sum elements or rows in blocks keep the contract where every batch takes several of them."""

import pytest

from losses.checking import CLAUSES, check_loss
from losses.checking.case import several_blocks

IN_BLOCKS = (
    "binary_cross_entropy",
    "cross_entropy",
    "elbo",
    "hinge",
    "huber",
    "js_divergence",
    "kl_divergence",
    "mae",
    "mse",
)


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_the_contract_holds_in_blocks_of_a_few_elements(name: str) -> None:
    # 66,000 items would take thousands of blocks
    clauses = [clause for clause in CLAUSES if clause != "many_items"]
    with several_blocks():
        report = check_loss(name, clauses=clauses)
    report.raise_for_failures()
