"""Gradients of so much that the system hands out memory for each are as those of less, and belong to the caller."""

import copy

import numpy as np
import pytest
import torch

import losses
from losses.ops.elementwise.buffers import MANY_BYTES, gradient_like

MANY = MANY_BYTES // 4


@pytest.mark.parametrize(("less", "own"), [(0, True), (1, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_much_is_asked_of_numpy(less: int, own: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    empty = np.empty

    def counted(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        asked.append(tuple(shape))
        return empty(shape, dtype)

    monkeypatch.setattr(np, "empty", counted)
    like = torch.empty(MANY_BYTES // dtype.itemsize // 2 - less, 2, dtype=dtype)
    made = gradient_like(like)
    assert made.shape == like.shape and made.dtype is dtype and made.is_contiguous()
    assert bool(asked) == own


def test_gradients_of_much_are_right_and_can_be_handled_as_any() -> None:
    output = torch.linspace(-1, 1, MANY + 3).requires_grad_()
    target = torch.zeros(MANY + 3)
    loss = losses.MSELoss()
    (gradient,) = torch.autograd.grad(loss(output, target), output)
    torch.testing.assert_close(gradient, output.detach() * (2 / (MANY + 3)))
    gradient.add_(1).mul_(2)
    kept = copy.deepcopy(gradient)
    loss(output, target).backward()
    loss(output, target).backward()
    torch.testing.assert_close(output.grad, output.detach() * (4 / (MANY + 3)))
    torch.testing.assert_close(kept, gradient)


def test_gradients_of_many_classes_are_right() -> None:
    logits = torch.linspace(-3, 3, MANY).reshape(1024, -1).sin().requires_grad_()
    target = torch.arange(1024)
    (gradient,) = torch.autograd.grad(losses.CrossEntropyLoss()(logits, target), logits)
    (right,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target), logits)
    torch.testing.assert_close(gradient, right, rtol=1e-5, atol=1e-9)
