"""Deliberately broken losses: each is rejected by the clause named for its fault."""

import pytest
import torch
from torch import Tensor

import losses
from losses.checking import CLAUSES, check_loss
from losses.core.reduction import Total


class MeanWithWeights(losses.MSELoss):
    """Divides by the number of items where weights should be summed."""

    def summed(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return Total(super().summed(output, target, weight).sum, output.numel())


class IgnoringWeights(losses.MSELoss):
    def summed(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total:
        return super().summed(output, target, None)


class Detached(losses.MSELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target) * (prediction - target).detach()

    def kernel(self, *_: object) -> None:
        return None


class ForgottenHalf(losses.MSELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / 2


class UnguardedRoot(losses.MSELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - prediction.mean(0)).square().sum(-1).sqrt()

    def kernel(self, *_: object) -> None:
        return None


class Mutating(losses.MAELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        target.add_(1)
        return super().items(prediction, target)

    def kernel(self, *_: object) -> None:
        return None


class Synchronising(losses.MAELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / max(1.0, target.max().item())

    def kernel(self, *_: object) -> None:
        return None


class NarrowAccumulation(losses.MSELoss):
    def kernel(self, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        return (prediction - target).bfloat16().square().sum() / (1 if reduction == "sum" else prediction.numel())


class Counting(losses.MAELoss):
    """Keeps state between calls."""

    calls = 0

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return super().items(prediction, target) * self.calls

    def kernel(self, *_: object) -> None:
        return None


class OrderDependent(losses.MAELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        ramp = torch.arange(len(prediction), dtype=prediction.dtype).reshape(-1, *[1] * (prediction.ndim - 1))
        return super().items(prediction, target) * ramp

    def kernel(self, *_: object) -> None:
        return None


class UnsafeMean(losses.MSELoss):
    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean()


class GraphBreaking(losses.MSELoss):
    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().items(prediction, target)

    def kernel(self, *_: object) -> None:
        return None


class ForgetfulConfig(losses.HuberLoss):
    def config(self) -> dict[str, object]:
        return {"name": "huber"}


BROKEN = {
    "weight_of_one_changes_nothing": MeanWithWeights,
    "weights_agree": IgnoringWeights,
    "first_derivative": Detached,
    "definition_equals_fast_path": ForgottenHalf,
    "equal_points": UnguardedRoot,
    "inputs_stay_untouched": Mutating,
    "no_synchronisation": Synchronising,
    "half_precision": NarrowAccumulation,
    "reductions_agree": Counting,
    "order_of_the_batch": OrderDependent,
    "empty_batch": UnsafeMean,
    "compiles": GraphBreaking,
}


@pytest.mark.parametrize(("clause", "broken"), BROKEN.items(), ids=BROKEN)
def test_a_broken_loss_is_rejected_by_the_clause_named_for_its_fault(clause: str, broken: type[losses.Loss]) -> None:
    report = check_loss(broken(), clauses=[clause])
    assert [verdict.clause for verdict in report.failures] == [clause]
    with pytest.raises(AssertionError, match=clause):
        report.raise_for_failures()


def test_a_config_that_forgets_a_parameter_is_rejected() -> None:
    assert check_loss(ForgetfulConfig(delta=3.0), clauses=["config_round_trip"]).failures


def test_a_declared_exception_is_shown_with_its_reason_and_is_no_failure() -> None:
    report = check_loss("circle", clauses=["first_derivative"])
    assert not report.failures
    assert "by the paper's definition" in str(report)


@pytest.mark.parametrize("name", losses.available())
def test_exceptions_are_declared_for_clauses_that_exist(name: str) -> None:
    assert set(losses.create(name).exceptions) <= set(CLAUSES)


def test_an_unknown_clause_is_refused_with_a_suggestion() -> None:
    with pytest.raises(losses.ConfigError, match="Did you mean 'empty_batch'"):
        check_loss("mse", clauses=["empty_bach"])
