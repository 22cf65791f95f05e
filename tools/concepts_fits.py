"""What the pictures of ``docs/concepts.md`` fit, each by a loss of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

import losses

DIGITS = 6  # of what an iteration ends with, so that the last bits of another processor change no picture


def fitted_normal(direction: str, start: float, outcomes: Tensor, target: Tensor) -> Tensor:
    """Return the probabilities of the normal distribution that a direction of KL ends at."""
    loss = losses.create("kl_divergence", output_form="logits", target_form="probs", direction=direction)
    parameters = torch.tensor([start, -0.5]).double().requires_grad_()  # the mean and the log of the deviation

    def logits() -> Tensor:
        mean, log_deviation = parameters
        return -((outcomes - mean) / log_deviation.exp()).square() / 2

    minimise(parameters, lambda: loss(logits(), target))
    parameters.data = rounded(parameters.detach())
    return logits().detach().softmax(-1)


def fitted_l2(model: nn.Linear, inputs: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Return the coefficients that minimise mean squared error and L2 penalty, from those that the model has."""
    terms = ["mse", {"loss": {"name": "l2_penalty", "strength": strength}}]
    objective = losses.create("weighted_sum", terms=terms)
    minimise(model.weight, lambda: objective(model(inputs), targets, model=model))
    return rounded(model.weight.detach()[0])


def fitted_l1(model: nn.Linear, inputs: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Likewise with the L1 penalty, by proximal gradient descent, which ends at exact zeros."""
    loss, rate = losses.create("mse"), 0.2
    for _ in range(120):
        (gradient,) = torch.autograd.grad(loss(model(inputs), targets), model.weight)
        model.weight.data = nn.functional.softshrink(model.weight.data - rate * gradient, rate * strength)
    return rounded(model.weight.detach()[0])


def descended(model: nn.Linear, data: tuple[Tensor, Tensor], strength: float, steps: Sequence[int]) -> Iterator[int]:
    """Yield each of the steps of gradient descent that are asked for, after it was taken."""
    penalty = {"loss": {"name": "l2_penalty", "strength": strength}}
    objective = losses.create("weighted_sum", terms=["mse", penalty])
    inputs, targets = data
    for step in range(1, steps[-1] + 1):
        (gradient,) = torch.autograd.grad(objective(model(inputs), targets, model=model), model.weight)
        model.weight.data -= 0.4 * gradient
        if step in steps:
            yield step


def minimise(parameter: Tensor, value: Callable[[], Tensor]) -> None:
    """Change a parameter so that a value becomes least."""
    optimiser = torch.optim.LBFGS(
        [parameter], max_iter=200, tolerance_grad=1e-11, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        current = value()
        current.backward()
        return current

    optimiser.step(closure)


def rounded(found: Tensor) -> Tensor:
    """Return what an iteration ended with, without digits that depend on the processor."""
    return found.round(decimals=DIGITS)
