"""Gradients as tests ask for them: of everything in a batch, or with the promise that they are finite."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor of a nested argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def gradients_of(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Return the gradient of the sum of a value; zeros where it does not depend on an input."""
    if not inputs or not value.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    return list(torch.autograd.grad(value.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True))


def backward(loss: Any, output: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Return value and gradient of the output, both finite."""
    output = output.detach().requires_grad_()
    value = loss(output, *arguments, **options)
    (gradient,) = torch.autograd.grad(value.sum(), output)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.dtype is output.dtype
    return value.detach(), gradient


def backward_of_both(loss: Any, output: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return value and both gradients, all finite."""
    output, target = output.detach().requires_grad_(), target.detach().requires_grad_()
    value = loss(output, target, **options)
    gradients = torch.autograd.grad(value.sum(), (output, target))
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    return value.detach(), *gradients
