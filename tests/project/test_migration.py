"""docs/migration.md does what it says: equal rows are equal in value and gradient, and every example runs."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import losses
from losses.adapters import pytorch_metric_learning as pml
from tests.drawing import with_singletons_and_duplicates
from tests.gradients import backward

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(pml\..*?)` \| `(losses\..*?)` \|$", TEXT, re.MULTILINE)
NAMES: dict[str, Any] = {
    "pml": pml,
    "losses": losses,
    "raw": pml.distances.LpDistance(normalize_embeddings=False, power=1),
}


def test_the_page_runs() -> None:
    results = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 25
    assert results.failed == 0


def test_every_loss_of_embeddings_has_a_row() -> None:
    told = {name for _, ours in ROWS for name in re.findall(r'create\("(\w+)"', ours)}
    # a memory counts the batch there, so that the gradient is another one: told below the table; the mean of cosines is
    # over all pairs as in torch, which has no like there
    assert told == set(losses.available("metric")) - {"memory_bank", "cosine_embedding"}
    assert len(ROWS) == len(re.findall(r"^\| `", TEXT, re.MULTILINE)), "a row that is not read is not tested"


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=[theirs for theirs, _ in ROWS])
@pytest.mark.parametrize("seed", range(5))
def test_both_sides_of_a_row_have_the_same_value_and_gradient(theirs: str, ours: str, seed: int) -> None:
    embeddings, labels = with_singletons_and_duplicates(seed)
    embeddings = embeddings + 1e-3 * torch.randn(embeddings.shape, dtype=embeddings.dtype)  # no distance is 0
    found, expected = (backward(eval(side, {**NAMES}), embeddings, labels) for side in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    assert found[1].any()


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_supcon_of_one_class_is_that_of_the_paper_and_not_that_of_pytorch_metric_learning(
    size: int, dtype: torch.dtype
) -> None:
    """Their 0 has no gradient; ours is the mean over positives of -log of the softmax, positives against positives."""
    embeddings, labels = torch.randn(size, 4).to(dtype), torch.zeros(size, dtype=torch.long)
    assert pml.losses.SupConLoss(temperature=0.5)(embeddings, labels) == 0
    value, gradient = backward(losses.create("supcon", temperature=0.5), embeddings, labels)
    exact = embeddings.double().requires_grad_()
    cosines = torch.nn.functional.cosine_similarity(exact.unsqueeze(1), exact, dim=-1) / 0.5
    others = ~torch.eye(size, dtype=torch.bool)
    rows = cosines[others].reshape(size, size - 1)
    expected = -rows.log_softmax(1).mean()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    (of_exact,) = torch.autograd.grad(expected, exact)
    rounding = max(tolerance, torch.finfo(dtype).eps)
    torch.testing.assert_close(gradient.double(), of_exact, rtol=2 * rounding, atol=2 * rounding)
    assert bool(gradient.any()) == (size > 2)  # of two, each has one positive and nothing to tell it from
