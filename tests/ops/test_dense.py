"""Small batches in one piece: equal to the definition, in few operations."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import losses
from losses.ops.dense import differentiable
from losses.ops.dense.matrix import DenseMatrix
from tests.ops.tile_cases import CASES, TileCase, function, plainly, tile_batch

FEW = 60  # operations, forward and backward


class Operations(TorchDispatchMode):
    """Counts what is asked of the dispatcher."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[DenseMatrix]:
    """Collect the matrices that a result was made from."""
    matrices: list[DenseMatrix] = []
    original = differentiable.differentiable

    def noted(matrix: DenseMatrix, *rest: Any, **options: Any) -> Tensor:
        matrices.append(matrix)
        return original(matrix, *rest, **options)

    for module in (losses.ops.dense.batch, losses.metric.info_nce):
        monkeypatch.setattr(module, "differentiable", noted)
    return matrices


def mean_and_gradient(of_embeddings: Any, embeddings: Tensor, above: float = 1.0) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().requires_grad_()
    value = of_embeddings(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, torch.tensor(above, dtype=value.dtype))[0]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 20).map(lambda half: 2 * half),
    balance=st.sampled_from(["balanced", "imbalanced", "singletons", "one"]),
    dimension=st.integers(2, 9),
    seed=st.integers(0, 1000),
)
def test_the_mean_in_one_piece_equals_the_definition(
    case: TileCase, size: int, balance: str, dimension: int, seed: int
) -> None:
    batch = tile_batch(size, balance, dimension=dimension, seed=seed)
    of_embeddings = function(case, batch)
    actual = mean_and_gradient(of_embeddings, batch.embeddings, -0.7)
    with plainly():
        expected = mean_and_gradient(of_embeddings, batch.embeddings, -0.7)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", [2, 32, 64, 128])
def test_small_batches_take_the_dense_path_and_equal_their_definition(
    case: TileCase, size: int, made: list[DenseMatrix]
) -> None:
    batch = tile_batch(size, dimension=16)._replace(labels=torch.arange(size) % max(1, size // 4))
    of_embeddings = function(case, batch)
    actual = mean_and_gradient(of_embeddings, batch.embeddings)
    assert made
    with plainly():
        torch.testing.assert_close(actual, mean_and_gradient(of_embeddings, batch.embeddings), rtol=1e-10, atol=1e-12)


def operations(case: TileCase, size: int = 64) -> int:
    batch = tile_batch(size, dimension=128)._replace(labels=torch.arange(size) % (size // 4))
    of_embeddings, leaf = function(case, batch), batch.embeddings.float().requires_grad_()
    of_embeddings(leaf)  # the first batch is looked at
    with Operations() as operations:
        of_embeddings(leaf).backward()
    return operations.count


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_backward_are_few_operations(case: TileCase, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("losses.ops.eager.is_dispatched_to_python", lambda: False)  # nothing is looked at under a mode
        count = operations(case)
    assert count <= FEW, count
