"""Sums that are made where every operation is a launch: value and slopes at once, equal to the definition."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.core.inputs import Batch
from losses.core.loss import Loss
from losses.core.outputs import map_tensors, tensors_in
from losses.ops import at_once
from losses.ops.elementwise import stacked
from tests.accelerator.pretended import accelerator


class Row(NamedTuple):
    """A loss that is summed so, and with which engine."""

    name: str
    parameters: Mapping[str, Any] = MappingProxyType({})
    soft: bool = False
    engine: Any = stacked.StackedSum

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.parameters.values()), *(["soft"] if self.soft else [])])

    @property
    def loss(self) -> Loss:
        return losses.create(self.name, **self.parameters)

    def batch(self, size: int) -> Batch:
        loss, generator = self.loss, torch.Generator().manual_seed(size)
        output, target = loss.inputs[0].draw(loss, size, generator)
        if self.soft:
            target = torch.randn(size, 5, generator=generator, dtype=torch.float64).softmax(1)
        return Batch(output, target)


FORMS = ("logits", "log_probs", "probs")
ROWS = [
    Row("mse"),
    Row("mae"),
    Row("huber", {"delta": 0.7}),
    Row("log_cosh"),
    Row("quantile", {"quantile": 0.3}),
    *(Row("hinge", {"margin": 0.7, "power": power}) for power in (1, 2)),
    *(Row("binary_cross_entropy", {"label_smoothing": smoothing}) for smoothing in (0.0, 0.1)),
    *(Row(name, {"full": full}) for name in ("poisson_nll", "gaussian_nll") for full in (False, True)),
    *(Row("focal", {"gamma": gamma, "alpha": alpha}) for gamma in (0.0, 0.5, 2.0) for alpha in (None, 0.25)),
    *(Row("kl_divergence", {"target_form": form}) for form in FORMS),
    *(Row("js_divergence", {"target_form": form, "mixture": 0.3}) for form in FORMS),
    *(
        Row("cross_entropy", {"label_smoothing": smoothing, "class_weight": weight}, soft=True)
        for smoothing in (0.0, 0.2)
        for weight in (None, [1.0, 0.0, 2.0, 0.5, 1.0])
    ),
]
WEIGHTED_ROWS = [
    *ROWS,
    *(
        Row(name, parameters, engine=at_once.SumAtOnce)
        for name, parameters in [
            ("cross_entropy", {"label_smoothing": 0.2, "z_loss": 0.1, "ignore_index": 2}),
            ("cross_entropy", {"class_weight": [1.0, 0.0, 2.0, 0.5, 1.0]}),
            ("focal", {"form": "multiclass", "ignore_index": 2}),
            ("generalized_cross_entropy", {"ignore_index": 2}),
            ("multiclass_hinge", {"form": "weston_watkins"}),
            ("ordinal", {}),
            ("wasserstein", {}),
            ("wasserstein", {"p": 2.0, "form": "logits"}),
        ]
    ),
]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the engines that were used."""
    seen = []
    for engine in (stacked.StackedSum, at_once.SumAtOnce):

        def apply(*arguments: Any, engine: Any = engine, original: Any = engine.apply) -> Tensor:
            seen.append(engine)
            value: Tensor = original(*arguments)
            return value

        monkeypatch.setattr(engine, "apply", apply)
    return seen


def fresh(batch: Batch) -> tuple[list[Tensor], Any]:
    output = map_tensors(batch.output, lambda tensor: tensor.detach().clone().requires_grad_())
    return list(tensors_in(output)), output


def with_nothing_where(batch: Batch, absent: Tensor) -> Batch:
    """Return a batch that holds NaN, or a class that does not exist, where a sample is absent."""

    def emptied(tensor: Tensor) -> Tensor:
        nothing = torch.nan if tensor.dtype.is_floating_point else 10**6
        return tensor.detach().masked_fill(absent.reshape(-1, *[1] * (tensor.ndim - 1)), nothing)

    return Batch(*(map_tensors(part, emptied) for part in batch))


def definition(row: Row, output: Any, target: Any, weight: Tensor | None) -> Tensor:
    loss, kind = row.loss, row.loss.inputs[0]
    accepted = kind.accept(loss, output, target)
    if weight is not None:
        accepted = kind.mask(loss, *accepted, weight)
    return loss.definition_total(*accepted, weight).mean()


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("row", ROWS, ids=str)
@given(size=st.integers(1, 40))
@settings(max_examples=5, deadline=None)
def test_a_mean_is_that_of_the_definition(row: Row, size: int) -> None:
    batch = row.batch(size)
    (leaves, output), (others, same) = fresh(batch), fresh(batch)
    with accelerator():
        value = row.loss(output, batch.target)
    expected = definition(row, same, batch.target, None)
    assert_equal([value, *torch.autograd.grad(value, leaves)], [expected, *torch.autograd.grad(expected, others)])


@pytest.mark.parametrize("row", WEIGHTED_ROWS, ids=str)
@given(weights=st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0, 7.0, 1e-20]), min_size=1, max_size=20))
@settings(max_examples=10, deadline=None)
def test_what_has_weight_0_is_absent(row: Row, weights: list[float]) -> None:
    weight = torch.tensor(weights, dtype=torch.float64)
    batch = with_nothing_where(row.batch(len(weights)), weight == 0)
    (leaves, output), (others, same) = fresh(batch), fresh(batch)
    with accelerator(), losses.checks("never"):
        value = row.loss(output, batch.target, weight=weight)
        total = row.loss.total(output, batch.target, weight=weight).mean()
    expected = definition(row, same, batch.target, weight)
    gradients = torch.autograd.grad(expected, others)
    assert_equal([value, *torch.autograd.grad(value, leaves)], [expected, *gradients])
    assert_equal([total, *torch.autograd.grad(total, leaves)], [expected, *gradients])


@pytest.mark.parametrize("row", WEIGHTED_ROWS, ids=str)
def test_it_is_differentiated_again_and_several_at_once(row: Row, applied: list[Any]) -> None:
    weight = torch.tensor([1.0, 0.0, 0.3, 2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    batch = with_nothing_where(row.batch(7), weight == 0)
    (leaves, output), (others, same) = fresh(batch), fresh(batch)
    with accelerator(), losses.checks("never"):
        value = row.loss(output, batch.target, weight=weight)
        assert applied == [row.engine]
        expected = definition(row, same, batch.target, weight)
        first, second = (
            torch.autograd.grad(one, points, create_graph=True) for one, points in ((value, leaves), (expected, others))
        )
        assert_equal(list(first), list(second))
        assert_equal(*(differentiated_again(*pair) for pair in ((first, leaves), (second, others))))
        factors = torch.tensor([1.0, -2.0], dtype=torch.float64)
        for batched in torch.autograd.grad(value, leaves, factors, is_grads_batched=True, retain_graph=True):
            torch.testing.assert_close(batched[1], -2 * batched[0])
        for part, other in zip(torch.autograd.grad(value, leaves), second, strict=True):
            torch.testing.assert_close(part, other)


def differentiated_again(gradients: Sequence[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    product = sum((part * leaf.nan_to_num()).sum() for part, leaf in zip(gradients, leaves, strict=True))
    return list(torch.autograd.grad(product, leaves))


@pytest.mark.parametrize("row", WEIGHTED_ROWS, ids=str)
def test_views_and_batches_that_want_no_gradient_are_summed_too(row: Row) -> None:
    batch, weight = row.batch(6), torch.linspace(0, 1, 6, dtype=torch.float64)
    apart: Callable[[Tensor], Tensor] = lambda tensor: torch.stack([tensor, tensor], -1)[..., 0].detach()  # noqa: E731
    output, target = (map_tensors(part, apart) for part in batch)
    with accelerator():
        for options in ({}, {"weight": weight}):
            value = row.loss(output, target, **options)
            torch.testing.assert_close(value, row.loss(*batch, **options).detach())
            assert not value.requires_grad
