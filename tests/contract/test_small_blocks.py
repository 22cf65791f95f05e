"""Losses that sum elements, rows or pairs in blocks keep the contract where every batch takes several of them."""

import pytest

import losses
from losses.checking import CLAUSES, check_loss
from losses.checking.case import several_blocks

OTHERWISE = frozenset(
    {
        "many_items",  # 66,000 items would take thousands of blocks
        # these take every batch in small blocks too, wherever they run
        "parameters_on_every_path",
        "reference_in_blocks",
        "parts_in_their_place_add_up",
        # these are made of the composition, which knows no blocks
        "second_derivative",
        "forward_mode",
        "func_grad",
        "func_vmap",
        "compiles",
        "compiles_once_for_all_sizes",
        "compiles_with_weights",
        "exports",
        "exports_any_batch_size",
    }
)


@pytest.mark.parametrize("name", losses.available())
def test_the_contract_holds_in_blocks_of_a_few_elements(name: str) -> None:
    clauses = [clause for clause in CLAUSES if clause not in OTHERWISE]
    with several_blocks():
        report = check_loss(name, clauses=clauses)
    report.raise_for_failures()
