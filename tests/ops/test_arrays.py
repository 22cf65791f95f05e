"""Means of few numbers in NumPy: equal to the definition, and left alone where NumPy may not look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import losses
from losses.ops.tiles.sizes import block_sizes
from tests.ops.tile_cases import without_torchs_own_remarks

Batch = tuple[Tensor, Tensor | None]
Drawn = Callable[[torch.Generator, int, int, float], Batch]


def elements(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    output, target = torch.randn(2, rows, columns, generator=random, dtype=torch.float64)
    return target + scale * output, target


def counts(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    log_rates = scale * torch.randn(rows, columns, generator=random, dtype=torch.float64)
    return log_rates, torch.randint(9, (rows, columns), generator=random).double()


def quantiles(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    output = scale * torch.randn(rows, columns, 3, generator=random, dtype=torch.float64)
    return output, torch.randn(rows, columns, generator=random, dtype=torch.float64)


def logits_and_probs(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    output, target = scale * torch.randn(2, rows, columns, generator=random, dtype=torch.float64)
    probs = target.softmax(-1)
    return output, torch.where(probs < 1e-3, 0, probs)  # not normalised by as much, and 0 log 0


def two_logits(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    output, target = scale * torch.randn(2, rows, columns, generator=random, dtype=torch.float64)
    return output, target


def log_probs_and_log_probs(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    output, target = two_logits(random, rows, columns, scale)
    return output.log_softmax(-1), target.log_softmax(-1)


def logits_alone(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    return scale * torch.randn(rows, columns, generator=random, dtype=torch.float64), None


def log_probs_alone(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    return logits_alone(random, rows, columns, scale)[0].log_softmax(-1), None


def logits_and_classes(random: torch.Generator, rows: int, columns: int, scale: float) -> Batch:
    logits = scale * torch.randn(rows, columns, generator=random, dtype=torch.float64)
    return logits, torch.randint(columns, (rows,), generator=random)


def narrowed(target: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return target.to(dtype) if target is not None and target.dtype.is_floating_point else target


LOG_FORMS = {"output_form": "log_probs", "target_form": "log_probs"}
CASES: dict[str, tuple[dict[str, Any], Drawn, int]] = {
    "smoothing": ({"name": "ce", "label_smoothing": 0.1}, logits_and_classes, 1),
    "z_loss": ({"name": "ce", "z_loss": 0.3}, logits_and_classes, 1),
    "both": ({"name": "ce", "label_smoothing": 0.1, "z_loss": 0.3}, logits_and_classes, 1),
    "log_cosh": ({"name": "log_cosh"}, elements, 2),
    "poisson_nll": ({"name": "poisson_nll"}, counts, 2),
    "quantile": ({"name": "quantile", "quantile": 0.9}, elements, 2),
    "quantiles": ({"name": "quantile", "quantile": [0.1, 0.5, 0.9]}, quantiles, 3),
    "js": ({"name": "js", "mixture": 0.3}, logits_and_probs, 1),
    "js of logits": ({"name": "js", "target_form": "logits"}, two_logits, 1),
    "js of log_probs": ({"name": "js", **LOG_FORMS}, log_probs_and_log_probs, 1),
    "entropy": ({"name": "entropy"}, logits_alone, 1),
    "entropy of log_probs": ({"name": "entropy", "output_form": "log_probs"}, log_probs_alone, 1),
}
"""What the loss is made of, its batches, and how many dimensions of the output its items have."""
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def made(case: str, rows: int = 4, columns: int = 5, scale: float = 1.0, seed: int = 0) -> tuple[losses.Loss, Batch]:
    """Return a loss and a batch, whose output requires a gradient."""
    config, drawn, _ = CASES[case]
    output, target = drawn(torch.Generator().manual_seed(seed), rows, columns, scale)
    return losses.create(config), (output.requires_grad_(), target)


def weight_for(case: str, output: Tensor, leading: bool, seed: int) -> Tensor:
    shape = output.shape[:1] if leading else output.shape[: CASES[case][2]]
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(loss: losses.Loss, output: Tensor, target: Tensor | None, weight: Tensor | None) -> Tensor:
    (kind,) = [kind for kind in loss.inputs if kind.claims(output)]
    return loss.definition_total(*kind.accept(loss, output, target), weight).mean()


def is_in_numpy(value: Tensor) -> bool:
    return "Written" in str(value.grad_fn)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 20),
    scale=st.sampled_from([1e-3, 1.0, 6.0, 30.0]),
    seed=st.integers(0, 1000),
    weights=st.sampled_from(["none", "one each", "one each row"]),
)
def test_few_equal_the_definition(case: str, rows: int, columns: int, scale: float, seed: int, weights: str) -> None:
    """Value, gradient and second derivative, with the gradient asked for twice and for several losses at once."""
    loss, (output, target) = made(case, rows, columns, scale, seed)
    weight = None if weights == "none" else weight_for(case, output, weights == "one each row", seed)
    value, expected = loss(output, target, weight=weight), by_definition(loss, output, target, weight)
    assert is_in_numpy(value)
    torch.testing.assert_close(value, expected, **EXACT)
    (slopes,) = torch.autograd.grad(expected, output, create_graph=True)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, output, retain_graph=True)
        torch.testing.assert_close(gradient, slopes, **EXACT)
    (several,) = torch.autograd.grad(value, output, torch.tensor([1.0, -2.0]).double(), True, is_grads_batched=True)
    torch.testing.assert_close(several, torch.stack([slopes, -2 * slopes]), **EXACT)
    if not slopes.requires_grad:  # as of what is linear piece by piece
        return
    (again,) = torch.autograd.grad(value, output, create_graph=True)
    second = [torch.autograd.grad(part.square().sum(), output, retain_graph=True)[0] for part in (again, slopes)]
    torch.testing.assert_close(*second, **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_what_has_weight_0_is_absent_even_if_it_is_nan(case: str) -> None:
    loss, (output, target) = made(case)
    weight = weight_for(case, output, leading=True, seed=0)
    weight[1] = 0
    missing = output.detach().clone()
    missing[1] = torch.nan
    missing.requires_grad_()
    rest = torch.tensor([0, 2, 3])
    loss(output, target)  # has looked at the values of its first batch
    value = loss(missing, target, weight=weight)
    expected = loss(output[rest], None if target is None else target[rest], weight=weight[rest])
    torch.testing.assert_close(value, expected, **EXACT)
    (got,), (right,) = torch.autograd.grad(value, missing), torch.autograd.grad(expected, output)
    torch.testing.assert_close(got, right, **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_tensors_may_lie_in_memory_as_they_like(case: str) -> None:
    loss, (output, target) = made(case)
    value = loss(output, target)
    (expected,) = torch.autograd.grad(value, output)
    apart = torch.stack([output.detach(), -output.detach()], -1)[..., 0].mT.contiguous().mT.requires_grad_()
    assert not apart.is_contiguous()
    other = loss(apart, target)
    assert is_in_numpy(other)
    torch.testing.assert_close(other, value, **EXACT)
    torch.testing.assert_close(torch.autograd.grad(other, apart)[0], expected, **EXACT)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_narrower_numbers_keep_their_dtype(case: str, dtype: torch.dtype) -> None:
    loss, (output, target) = made(case)
    output, target = output.detach().to(dtype).requires_grad_(), narrowed(target, dtype)
    value = loss(output, target)
    assert is_in_numpy(value) is not (case == "poisson_nll" and dtype.itemsize < 4)  # its largest rate is of the dtype
    wide = output.detach().double().requires_grad_()
    expected = loss(wide, narrowed(target, torch.float64))
    assert value.dtype is torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    (got,), (right,) = torch.autograd.grad(value, output), torch.autograd.grad(expected, wide)
    torch.testing.assert_close(got, right.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


class Labelled(Tensor):
    """A tensor that might mean something else by its operations."""


def in_a_dispatch_mode(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return function(*args, **(kwargs or {}))

    with Recording():
        return loss(output, target)


def in_forward_mode(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        return loss(forward_ad.make_dual(output, torch.ones_like(output)), target)


def of_a_subclass(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    return loss(output.as_subclass(Labelled), target).as_subclass(Tensor)


def with_a_target_to_learn(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    assert target is not None
    return loss(output, target.clone().requires_grad_())


def without_gradient(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    return loss(output.detach(), target)


def many(loss: losses.Loss, output: Tensor, target: Tensor | None) -> Tensor:
    with block_sizes(in_arrays=1):
        return loss(output, target)


OTHERS = (in_a_dispatch_mode, in_forward_mode, of_a_subclass, with_a_target_to_learn, without_gradient, many)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("call", OTHERS)
@without_torchs_own_remarks
def test_numpy_is_left_out(case: str, call: Callable[..., Tensor]) -> None:
    loss, (output, target) = made(case)
    if call is with_a_target_to_learn and (target is None or not target.dtype.is_floating_point):
        pytest.skip("there is nothing to learn of a target")
    value, expected = call(loss, output, target), loss(output, target)
    assert is_in_numpy(expected)
    assert not is_in_numpy(value)
    torch.testing.assert_close(value, expected, check_dtype=True, **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_functions_are_transformed_without_numpy(case: str) -> None:
    loss, (output, target) = made(case)
    (expected,) = torch.autograd.grad(loss(output, target), output)
    transformed = torch.func.grad(lambda output: loss(output, target))(output.detach())
    torch.testing.assert_close(transformed, expected, **EXACT)
    both = torch.stack([output, 2 * output]).detach()
    values = torch.func.vmap(lambda output: loss(output, target))(both)
    torch.testing.assert_close(values, torch.stack([loss(each, target) for each in both]), **EXACT)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(2, 12), weighted=st.booleans(), seed=st.integers(0, 1000))
def test_classes_may_weigh_differently(rows: int, columns: int, weighted: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, target = logits_and_classes(random, rows, columns, 3.0)
    class_weight = torch.rand(columns, generator=random, dtype=torch.float64) + 0.1
    weight = torch.rand(rows, generator=random, dtype=torch.float64) + 0.1 if weighted else None
    loss = losses.create("ce", label_smoothing=0.2, z_loss=0.1, class_weight=class_weight.tolist())
    value = loss(logits.requires_grad_(), target, weight=weight)
    expected = by_definition(loss, logits, target, weight)
    assert is_in_numpy(value)
    torch.testing.assert_close(value, expected, **EXACT)
    (got,), (right,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(got, right, **EXACT)


@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_ignored_rows_are_left_to_others(ignore_index: int) -> None:
    loss = losses.create("ce", label_smoothing=0.2, ignore_index=ignore_index)
    logits, target = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 0, ignore_index])
    value, expected = loss(logits, target), by_definition(loss, logits, target, None)
    assert not is_in_numpy(value)
    torch.testing.assert_close(value, expected, **EXACT)
