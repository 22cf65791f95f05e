"""docs/pytorch_metric_learning.md does what it says, and its table is what the losses do."""

import doctest
import re
from pathlib import Path

import pytest
import torch

from losses.adapters.pytorch_metric_learning import reducers
from losses.core.reduction import Total
from tests.adapters.pml_cases import CASES, batch, call_theirs, ours, theirs

PAGE = Path(__file__).parents[2] / "docs" / "pytorch_metric_learning.md"
TEXT = PAGE.read_text(encoding="utf-8")
ITEMS = {0: "the batch", 1: "sample", 2: "pair", 3: "triplet"}
OF_SOMETHING_ELSE = {"ProxyAnchorLoss": "proxy", "VICRegLoss": "sample, dimension and the batch"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),
]


def test_the_page_runs() -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
    assert results.attempted > 25
    assert results.failed == 0


def item_of(name: str) -> str:
    """Return what the loss hands item by item to its reducer."""
    said = call_theirs(theirs(name, reducer=reducers.DoNothingReducer()), *batch())
    part = next(iter(said.values()))  # type: ignore[operator]  # a mapping
    if name in OF_SOMETHING_ELSE:
        return OF_SOMETHING_ELSE[name]
    if part["indices"] is None or not part["losses"].ndim:
        return ITEMS[0]
    return ITEMS[len(part["indices"]) if isinstance(part["indices"], tuple) else 1]


@pytest.mark.parametrize("name", CASES)
def test_its_table_says_what_a_loss_does(name: str) -> None:
    case = CASES[name]
    words = ("weight", "normalizer", "indices", "reference")
    taken = [word for word in words if getattr(case, word if word != "weight" else "weights")]
    learns = ", ".join(key.rpartition(".")[2] for key, _ in ours(name).named_parameters())
    row = f"| `pml.{name}` | {item_of(name)} | {', '.join(taken) or 'nothing'} | {learns or 'nothing'} |"
    assert row in TEXT.splitlines(), row


def test_no_other_loss_is_in_its_table() -> None:
    assert re.findall(r"^\| `pml\.(\w+)` ", TEXT, re.MULTILINE) == list(CASES)


def test_a_loss_of_several_terms_has_a_mean_for_each() -> None:
    total: Total = ours("ContrastiveLoss").total(*batch())
    assert total.sum.shape == (2,)
    torch.testing.assert_close(total.mean(), (total.sum / total.denominator).sum())
