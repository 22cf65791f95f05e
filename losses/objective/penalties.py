"""Penalties: terms of an objective that compare nothing with a target; here those on the parameters of a network."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from fnmatch import translate
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from losses.core.errors import ConfigError, InputError, listed, quoted, suggestion
from losses.core.parameters import NonNegative, Probability, Wording, as_configuration, checked, declared_parameters
from losses.core.precision import widened
from losses.core.registry import PENALTIES

Patterns = Annotated[
    str | Annotated[Sequence[str], Wording("a list of patterns")],
    Wording("a pattern such as '*.weight', or a list of them"),
]


class Penalty(nn.Module):
    """What a network costs beside its losses."""

    name: ClassVar[str]
    """What a configuration calls it."""
    looks_at: ClassVar[str]
    """What is penalised, in words."""
    parts: ClassVar[tuple[str, ...]] = ()
    """What it is given, of which a term may pick a part: of the output and the inputs of a network."""
    needs: ClassVar[str]
    """Name of the argument by which an objective is given what it looks at."""
    call: ClassVar[str]
    """How an objective is called with that."""

    def config(self) -> dict[str, Any]:
        """Return the configuration that :func:`losses.create` turns into this penalty again."""
        names = [parameter.name for parameter in declared_parameters(type(self).__init__)]
        return {"name": self.name} | {name: as_configuration(getattr(self, name)) for name in names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items() if name != "name")


class ParameterPenalty(Penalty):
    """A number that a network's parameters cost, called as ``penalty(network)``.

    Parameters that are frozen cost nothing: nothing would come of it.
    """

    looks_at = "the parameters of a network"
    needs, call = "model", "loss(output, target, model=network)"

    @checked
    def __init__(self, *, strength: NonNegative = 1e-4, include: Patterns = "*") -> None:
        super().__init__()
        self.strength = strength
        self.include = include

    @property
    def include(self) -> str | list[str]:
        """Names of parameters that are penalised: a pattern, or a list of them."""
        return self._include

    @include.setter
    def include(self, include: str | Sequence[str]) -> None:
        if not include:
            raise ConfigError(f"include is empty, and no parameter fits; write include='*' for all, got {include!r}")
        self._include = include if isinstance(include, str) else list(include)
        patterns = [include] if isinstance(include, str) else include
        self._patterns = {pattern: re.compile(translate(pattern)) for pattern in patterns}

    @abstractmethod
    def of(self, parameter: Tensor) -> Tensor:
        """Return what one parameter costs at strength 1, as a scalar."""

    def forward(self, model: nn.Module) -> Tensor:
        """Return what the parameters of a network cost.

        Raises:
            InputError: it is no module, or no parameter has a name that fits the patterns.
        """
        costs = [self.of(widened(parameter)) for parameter in self._included(model)]
        return self.strength * torch.stack(costs).sum() if costs else torch.zeros(())

    def _included(self, model: nn.Module) -> list[Tensor]:
        if not isinstance(model, nn.Module):
            raise InputError(f"{self.name} takes a module whose parameters it penalises, got {quoted(model)}")
        named = dict(model.named_parameters())
        included: dict[str, Tensor] = {}
        for pattern, fits in self._patterns.items():
            fitting = {name: parameter for name, parameter in named.items() if fits.match(name)}
            if named and not fitting:
                raise InputError(
                    f"include: {pattern!r} fits no parameter, there are {listed(named)}.{suggestion(pattern, named)}"
                )
            included |= fitting
        return [parameter for parameter in included.values() if parameter.requires_grad]


class L1Penalty(ParameterPenalty):
    r"""Sum of absolute parameters: those that bring little become exactly 0 (with a proximal optimiser) or nearly so.

    .. math::
        \ell(\theta) = \lambda \sum_i |\theta_i|

    Args:
        strength: :math:`\lambda`.
        include: names of parameters that are penalised, a pattern such as ``"*.weight"`` or a list of them.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: a pattern fits no parameter of the network.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    >>> float(L1Penalty(strength=0.5)(layer).detach())  # 0.5 (3 + 4)
    3.5
    """

    name = "l1_penalty"

    def of(self, parameter: Tensor) -> Tensor:
        return parameter.abs().sum()


class L2Penalty(ParameterPenalty):
    r"""Half the sum of squared parameters: with SGD what its ``weight_decay=strength`` does, seen in the loss.

    .. math::
        \ell(\theta) = \frac{\lambda}{2} \sum_i \theta_i^2

    Under Adam it is not the decay of AdamW, which leaves the scaling of gradients out.

    Args:
        strength: :math:`\lambda`.
        include: names of parameters that are penalised, a pattern such as ``"*.weight"`` or a list of them.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: a pattern fits no parameter of the network.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    >>> float(L2Penalty(strength=0.5)(layer).detach())  # 0.25 (9 + 16)
    6.25
    """

    name = "l2_penalty"

    def of(self, parameter: Tensor) -> Tensor:
        return squares(parameter).sum() / 2


class ElasticNet(ParameterPenalty):
    r"""A mixture of both: few parameters, and none of them large.

    .. math::
        \ell(\theta) = \lambda \Big( \alpha \sum_i |\theta_i| + \frac{1 - \alpha}{2} \sum_i \theta_i^2 \Big)

    It is that of scikit-learn's ``ElasticNet(alpha=strength, l1_ratio=l1_ratio)`` (Zou & Hastie 2005).

    Args:
        strength: :math:`\lambda`.
        l1_ratio: :math:`\alpha`, the part of the absolute values.
        include: names of parameters that are penalised, a pattern such as ``"*.weight"`` or a list of them.

    Raises:
        ConfigError: a parameter is outside its range.
        InputError: a pattern fits no parameter of the network.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    >>> float(ElasticNet(strength=1.0, l1_ratio=0.5)(layer).detach())  # (3 + 4) / 2 + (9 + 16) / 4
    9.75
    """

    name = "elastic_net"

    @checked
    def __init__(self, *, strength: NonNegative = 1e-4, l1_ratio: Probability = 0.5, include: Patterns = "*") -> None:
        super().__init__(strength=strength, include=include)
        self.l1_ratio = l1_ratio

    def of(self, parameter: Tensor) -> Tensor:
        return self.l1_ratio * parameter.abs().sum() + (1 - self.l1_ratio) / 2 * squares(parameter).sum()


def squares(parameter: Tensor) -> Tensor:
    """Return the squared absolute values."""
    return (parameter.abs() if parameter.is_complex() else parameter).square()


PENALTIES.update({cls.name: cls for cls in (L1Penalty, L2Penalty, ElasticNet)})
