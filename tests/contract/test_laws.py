"""Every loss has the properties that it declares, on batches of any size and seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses.checking import cases_of
from losses.core.laws import Law, LawError
from losses.core.registry import find
from tests.mutants.meaning import SmoothL1

DECLARED = [(name, law) for name in losses.available() for law in find(name).laws]


@pytest.mark.parametrize(("name", "law"), DECLARED, ids=str)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(size=st.integers(0, 12), seed=st.integers(0, 2**31))
def test_a_loss_has_the_properties_it_declares(name: str, law: Law, size: int, seed: int) -> None:
    for case in cases_of(find(name).instance()):
        law.check(case.loss, case.batch(size, seed=seed))


@pytest.mark.parametrize("name", losses.available())
def test_every_loss_declares_a_law(name: str) -> None:
    assert find(name).laws or name == "weighted_sum", "which has those of its terms, times their weights"


def test_smooth_l1_breaks_the_unit_of_huber() -> None:
    (case,) = cases_of(SmoothL1())
    (unit,) = (law for law in find("huber").laws if law.name.startswith("scales"))
    with pytest.raises(LawError, match="times 2"):
        unit.check(case.loss, case.batch())


@pytest.mark.parametrize("name", losses.available())
def test_drawn_batches_are_valid_varied_and_teach_something(name: str) -> None:
    for case in cases_of(name):
        batch = case.batch()
        parts = [batch.output] if isinstance(batch.output, torch.Tensor) else list(batch.output)
        value = case.loss(*batch)
        gradients = torch.autograd.grad(value, parts)
        assert value.isfinite()
        for part, gradient in zip(parts, gradients, strict=True):
            assert part.isfinite().all()
            assert part.std() > 0
            assert gradient.abs().sum() > 0, f"{case} has no gradient on the batch it draws"
