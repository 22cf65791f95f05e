"""Totals: added they stay exact, whatever carries them."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import InputError, Loss, Total
from losses.core.registry import find
from losses.extend import ElementwiseLoss
from tests.refusals import refused

ELEMENTWISE = [name for name in losses.available() if issubclass(find(name).cls, ElementwiseLoss)]
FIRST, SECOND = Total(torch.tensor(6.0), 2), Total(torch.tensor(1.0), 5)


def test_totals_add_and_divide() -> None:
    assert Total(torch.tensor(7.0), 7) == FIRST + SECOND == sum([FIRST, SECOND])
    assert sum([FIRST, SECOND, FIRST]) == FIRST + (SECOND + FIRST)
    assert (FIRST + SECOND).mean() == 1
    assert (FIRST + SECOND).mean(14) == 0.5
    assert (FIRST + SECOND).mean(torch.tensor(14)) == 0.5
    assert (FIRST + Total(torch.tensor(1.0), torch.tensor(5.0))).mean() == 1


def test_several_means_are_divided_each_on_its_own_and_added() -> None:
    total = Total(torch.tensor([6.0, 1.0]), torch.tensor([2, 5]))
    assert total.mean() == pytest.approx(3.2)
    assert (total + total).mean() == pytest.approx(3.2)
    assert total.mean(2) == 3.5
    with refused(["normalizer has shape (3,)", "the sum has shape (2,)", "give a number"]):
        total.mean(torch.ones(3))


@pytest.mark.parametrize("denominator", [0, torch.tensor(0), torch.tensor(0.0), 0.0], ids=repr)
@pytest.mark.parametrize("value", [0.0, torch.inf])
def test_nothing_to_divide_by_is_0_with_a_graph(denominator: Any, value: float) -> None:
    total = torch.tensor(value, requires_grad=True)
    mean = Total(total, denominator).mean()
    mean.backward()
    assert mean == 0
    assert total.grad == 0


@pytest.mark.parametrize("normalizer", [-1, float("nan"), float("inf"), "2", True, [2], torch.tensor(1j)], ids=repr)
def test_a_wrong_normalizer_is_refused(normalizer: Any) -> None:
    with refused(["normalizer must be", "got ", "pass the number of items"]):
        FIRST.mean(normalizer)


@pytest.mark.parametrize("other", [(1, 2), (), [1], 1, 0.5, None, torch.tensor(1.0), "total"], ids=repr)
def test_a_total_is_added_to_nothing_but_a_total(other: Any) -> None:
    with pytest.raises(TypeError, match="Total"):
        FIRST + other
    with pytest.raises(TypeError, match=r"Total|sequence"):
        other + FIRST


def test_sums_start_at_0_and_nowhere_else() -> None:
    assert sum([FIRST]) is FIRST
    assert sum([FIRST, SECOND], FIRST) == FIRST + FIRST + SECOND
    with pytest.raises(TypeError, match="Total"):
        sum([FIRST], ())


@pytest.mark.parametrize("factor", [2, 0, 0.5, torch.tensor(2.0)], ids=repr)
def test_a_total_is_not_repeated(factor: Any) -> None:
    with pytest.raises(TypeError, match=r"multiply its \.mean"):
        FIRST * factor
    with pytest.raises(TypeError, match=r"multiply its \.mean"):
        factor * FIRST


def test_totals_of_different_shapes_are_refused() -> None:
    two = Total(torch.tensor([6.0, 1.0]), torch.tensor([2, 5]))
    with refused(["totals of shapes () and (2,) cannot be added", "add totals of one loss"]):
        FIRST + two
    with refused(["totals of shapes (2,) and () cannot be added"]):
        two + FIRST
    balanced = losses.create("contrastive", average="balanced")
    embeddings, labels = torch.randn(8, 4), torch.arange(8) // 2
    with pytest.raises(InputError, match="cannot be added"):
        balanced.total(embeddings, labels) + losses.create("contrastive").total(embeddings, labels)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_totals_of_two_halves_are_the_whole_in_value_and_gradient(name: str, weighted: bool) -> None:
    loss = losses.create(name)
    generator = torch.Generator().manual_seed(0)
    output, target = loss.inputs[0].draw(loss, 9, generator)
    weight = torch.rand(9, generator=generator, dtype=torch.float64) if weighted else None

    def total(rows: slice) -> Total:
        return loss.total(output[rows], target[rows], weight=None if weight is None else weight[rows])

    halves = [total(slice(0, 4)), total(slice(4, 9))]
    whole = loss(output, target, weight=weight)
    (expected,) = torch.autograd.grad(whole, output, retain_graph=True)
    for mean in ((halves[0] + halves[1]).mean(), sum(halves).mean(), total(slice(None)).mean()):  # type: ignore[union-attr]  # sum of totals is one
        torch.testing.assert_close(mean, whole)
        torch.testing.assert_close(torch.autograd.grad(mean, output, retain_graph=True)[0], expected)
    parts = [half.mean(total(slice(None)).denominator) for half in halves]
    torch.testing.assert_close(sum(parts), whole)
    uneven = (halves[0].mean() + halves[1].mean()) / 2
    assert not torch.allclose(uneven, whole), "which is why totals are added and not means"


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=generator, requires_grad=True), torch.randn(6, 3, generator=generator)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_compiled_code_returns_adds_and_averages_totals(weighted: bool, dynamic: bool) -> None:
    loss = losses.create("huber")
    output, target = batch()
    weight = torch.rand(6) if weighted else None

    def returned(output: Tensor, target: Tensor) -> Total:
        return loss.total(output, target, weight=weight)

    def added(output: Tensor, target: Tensor) -> Total:
        return loss.total(output[:2], target[:2], weight=weight if weight is None else weight[:2]) + loss.total(
            output[2:], target[2:], weight=weight if weight is None else weight[2:]
        )

    def averaged(output: Tensor, target: Tensor) -> Tensor:
        return added(output, target).mean()

    def summed(output: Tensor, target: Tensor) -> Tensor:
        return sum([returned(output, target), returned(output, target)]).mean()  # type: ignore[union-attr]  # of totals

    for function in (returned, added, averaged, summed):
        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)(output, target)
        expected = function(output, target)
        assert type(compiled) is type(expected)
        torch.testing.assert_close(compiled, expected)
        of_compiled, of_eager = (value[0] if isinstance(value, Total) else value for value in (compiled, expected))
        torch.testing.assert_close(
            *(torch.autograd.grad(value, output)[0] for value in (of_compiled, of_eager)), msg=function.__name__
        )


def test_compiled_code_concatenates_no_tuples_either() -> None:
    loss = losses.create("huber")
    other = (1, 2)
    for function in (lambda *pair: loss.total(*pair) + other, lambda *pair: other + loss.total(*pair)):
        torch.compiler.reset()
        with pytest.raises((TypeError, RuntimeError)):  # what the compiler cannot follow is a RuntimeError
            torch.compile(function, fullgraph=True, backend="aot_eager")(*batch())


class Whole(torch.nn.Module):
    """Returns the total of two batches."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor, target: Tensor) -> Total:
        return self.loss.total(output, target) + self.loss.total(target, output)


def test_an_exported_program_returns_a_total() -> None:
    module = Whole(losses.create("huber"))
    program = torch.export.export(module, batch())
    total, expected = program.module()(*batch()), module(*batch())
    assert isinstance(total, Total)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close((total + expected).mean(), expected.mean())


def test_vmap_returns_a_total_for_each_problem() -> None:
    loss = losses.create("huber")
    output, target = batch()
    weight = torch.rand(6, 3)
    each = [loss.total(*rows) for rows in zip(output, target, strict=True)]
    counted = torch.func.vmap(loss.total, out_dims=Total(0, None))(output, target)  # type: ignore[arg-type]  # where the problems are
    assert isinstance(counted, Total)
    torch.testing.assert_close(counted.sum, torch.stack([total.sum for total in each]))
    assert counted.denominator == 3
    weighed = torch.func.vmap(lambda o, t, w: loss.total(o, t, weight=w))(output, target, weight)
    assert isinstance(weighed, Total)
    torch.testing.assert_close(weighed.denominator, weight.sum(1))
    means = torch.func.vmap(lambda o, t: (loss.total(o, t) + loss.total(t, o)).mean())(output, target)
    torch.testing.assert_close(means, torch.stack([total.mean() for total in each]))


def test_func_grad_goes_through_a_total() -> None:
    loss = losses.create("huber")
    output, target = batch()
    gradient = torch.func.grad(lambda o: (loss.total(o, target) + loss.total(o, target)).mean())(output)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss(output, target), output)[0])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_carries_a_total(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(FIRST, protocol))
    assert type(again) is Total
    assert again + SECOND == FIRST + SECOND


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("of_weight", [torch.float64, torch.int64, torch.bool], ids=str)
def test_no_result_is_wider_for_its_weights(dtype: torch.dtype, of_weight: torch.dtype) -> None:
    prediction, target = torch.tensor([3.0, 1.0], dtype=dtype, requires_grad=True), torch.zeros(2, dtype=dtype)
    loss, weight = losses.create("mse"), torch.tensor([1, 0]).to(of_weight)
    value, total = loss(prediction, target, weight=weight), loss.total(prediction, target, weight=weight)
    assert {value.dtype, total.sum.dtype, total.denominator.dtype} == {torch.float32}
    assert value == 9
    value.backward()
    assert prediction.grad is not None
    assert prediction.grad.dtype is dtype
    assert prediction.grad.tolist() == [6, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_weights_beside_distributions_add_up_in_float32(dtype: torch.dtype) -> None:
    """66,000 is more than float16 can count to."""
    output, target = (torch.distributions.Normal(torch.full((66_000,), mean), 1.0) for mean in (0.0, 2.0))
    total = losses.create("kl_divergence").total(output, target, weight=torch.ones(66_000, dtype=dtype))
    assert total.denominator.dtype is torch.float32
    assert total.denominator.item() == 66_000
    assert total.mean().item() == pytest.approx(2.0)
