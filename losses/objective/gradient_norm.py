"""Gradient norm: a penalty on how much the output of a network changes with its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from losses.core.checks import require_floating, require_same_length, require_tensor, shown
from losses.core.errors import InputError, quoted
from losses.core.parameters import NonNegative, PositiveInteger, checked
from losses.core.precision import matched, widened
from losses.core.reduction import Total, total_of, weighted
from losses.core.registry import PENALTIES
from losses.core.torch_private import left_alone
from losses.objective.penalties import Penalty


class GradientNorm(Penalty):
    r"""How much each output changes with its input: the squared norm of the Jacobian, so that small changes of the
    input, such as noise, change little.

    .. math::
        \ell = \frac{\lambda}{N} \sum_i \sum_{k,d} \Big( \frac{\partial f_k(x_i)}{\partial x_{id}} \Big)^2

    :math:`f_k(x_i)` is component :math:`k` of the output for sample :math:`i`. The gradient is taken with a graph
    (double backpropagation, Drucker & LeCun 1992), so that the penalty trains the parameters. One number per sample
    costs one more backward pass, a vector as many as it has components, and ``projections`` as many as these: the
    Jacobian is then seen along random directions, an unbiased estimate (Hoffman et al. 2019).

    It is called as ``penalty(output, inputs)`` and as a term of a weighted sum, which is given ``inputs=``: what the
    network was called with, after ``inputs.requires_grad_()``. Under ``torch.no_grad()`` a network makes no graph and
    there is nothing to see: that is an error in validation too, where ``torch.enable_grad()`` around network and loss
    has the same objective, and ``objective.losses["cross_entropy"]`` one of its losses alone.

    Each row of the output has to be made of its own row of the inputs. Batch normalisation in training mode breaks
    that: the gradient by an input is then that of the outputs of all samples together. What a network is made of has to
    be differentiable twice, which compiled networks, cuDNN's recurrent layers and fused attention are not.

    Args:
        strength: :math:`\lambda`.
        projections: how many random directions are drawn for each sample, from torch's generator; ``None`` is all
            components, exactly.

    Shapes:
        output ``(N, ...)`` and inputs ``(N, ...)``, or a tuple or mapping of inputs, which count together. ``weight``
        ``(N,)`` weighs the samples. Returns ``()``.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: inputs do not require grad, or the output was not made of them with a graph.

    >>> inputs = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> float(GradientNorm(strength=0.5)(inputs**2, inputs).detach())  # 0.5 (2**2 + 4**2)
    10.0
    """

    name = "gradient_norm"
    looks_at = "how the output of a network changes with its inputs"
    parts = ("output", "inputs")
    needs = "inputs"
    call = "inputs.requires_grad_(), output = network(inputs), loss(output, target, inputs=inputs)"

    @checked
    def __init__(self, *, strength: NonNegative = 0.01, projections: PositiveInteger | None = None) -> None:
        super().__init__()
        self.strength = strength
        self.projections = projections
        self.reduction = "mean"  # a weighted sum sets its own

    def forward(self, output: Tensor, inputs: Any, *, weight: Tensor | None = None) -> Tensor:
        """Return what the samples cost.

        Args:
            output: what the network made.
            inputs: what it was made of.
            weight: one weight per sample.
        """
        if self.reduction == "none":
            items = self.items(output, inputs)
            return weighted(items, None if weight is None else matched(weight, items))
        total = self.total(output, inputs, weight=weight)
        return total.sum if self.reduction == "sum" else total.mean()

    def total(self, output: Tensor, inputs: Any, *, weight: Tensor | None = None) -> Total:
        """Return the sum over samples, and what their mean divides it by."""
        items = self.items(output, inputs)
        return total_of(items, None if weight is None else matched(weight, items))

    def items(self, output: Tensor, inputs: Any) -> Tensor:
        """Return what every sample costs."""
        tensors = differentiable(inputs)
        require_made_of(output, tensors)
        return self.strength * gradient_norms(output, tensors, projections=self.projections)


@left_alone
def gradient_norms(output: Tensor, inputs: Sequence[Tensor], *, projections: int | None = None) -> Tensor:
    """Return of every sample the squared norm of the Jacobian of its output by its inputs; see :class:`GradientNorm`.

    It has a graph where gradients are recorded. One direction after the other: all at once, by ``is_grads_batched``,
    takes twice as long on a CPU, and not every function that a network is made of can be differentiated so.
    """
    rows = as_rows(output)
    norms = torch.zeros(len(rows), dtype=widened(rows).dtype, device=rows.device)
    with torch.autocast(rows.device.type, enabled=False):
        for direction in directions(rows, projections):
            gradients = torch.autograd.grad(
                rows,
                inputs,
                direction,
                retain_graph=True,  # the losses beside it need it too
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
            require_found(gradients)
            for gradient in gradients:
                if gradient is not None:
                    norms = norms + as_rows(widened(gradient)).square().sum(1)
    return norms


def as_rows(samples: Tensor) -> Tensor:
    """Return samples ``(N, ...)`` as ``(N, K)``."""
    return samples.flatten(1) if samples.ndim > 1 else samples.unsqueeze(1)


def directions(rows: Tensor, projections: int | None) -> Iterator[Tensor]:
    """Yield the directions ``(N, K)`` that the Jacobian of outputs ``(N, K)`` is seen along, of such lengths that the
    sum of squares is that of all components: exactly, or in the mean over draws."""
    count = rows.shape[1]
    if projections is None or projections >= count:  # of as many as there are components none is drawn
        for component in torch.eye(count, dtype=rows.dtype, device=rows.device):
            yield component.expand_as(rows)
        return
    for _ in range(projections):
        drawn = normalize(torch.randn_like(rows, dtype=widened(rows).dtype), dim=1)
        yield matched(drawn * (count / projections) ** 0.5, rows)


def require_found(gradients: Sequence[Tensor | None]) -> None:
    """Raise where an output depends on none of the inputs."""
    if all(gradient is None for gradient in gradients):
        raise InputError(
            "the output does not depend on the inputs that were given; pass the very tensors that the network was "
            "called with, not copies of them"
        )


def differentiable(inputs: Any) -> list[Tensor]:
    """Return the tensors of what a network was called with: a tensor, or a tuple, list or mapping of them.

    Raises:
        InputError: there is none, or one does not require grad.
    """
    parts = {"inputs": inputs}
    if isinstance(inputs, Mapping):
        parts = {f"inputs[{quoted(key)}]": part for key, part in inputs.items()}
    elif isinstance(inputs, tuple | list):
        parts = {f"inputs[{place}]": part for place, part in enumerate(inputs)}
    if not parts:
        raise InputError(f"there is nothing in inputs, {quoted(inputs)}; pass what the network was called with")
    require_tensor(**parts)
    for name, part in parts.items():
        if not part.dtype.is_floating_point:
            raise InputError(
                f"{name} has no gradient, it is {shown(part)}; name the part that has one, such as {{loss: "
                "gradient_norm, inputs: 0}, or pass embeddings in place of tokens"
            )
        if not part.requires_grad:
            raise InputError(
                f"{name} does not require grad; call {name}.requires_grad_() before the network, which is then called "
                "with it"
            )
    return list(parts.values())


def require_made_of(output: Any, inputs: Sequence[Tensor]) -> None:
    """Raise unless an output has a row for each sample of the inputs, and a graph that may lead there."""
    require_tensor(output=output)
    require_floating(output=output)
    for name, tensor in (("output", output), *(("inputs", part) for part in inputs)):
        if not tensor.ndim:
            raise InputError(f"{name} must have its samples first, (N, ...), got a scalar; write {name}.unsqueeze(0)")
        require_same_length(**{"output": output, name: tensor})
    if not output.requires_grad:
        raise InputError(
            "the output has no graph: it was made under torch.no_grad() or torch.inference_mode(), or detached; call "
            "the network under torch.enable_grad(), in validation too, or leave the penalty out there: "
            "objective.losses holds the losses by name"
        )


PENALTIES[GradientNorm.name] = GradientNorm
