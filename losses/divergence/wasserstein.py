"""Wasserstein distance on a line: exact, for samples and for histograms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from losses.extend import (
    NON_NEGATIVE,
    TRANSPORT,
    AtLeastOne,
    ConfigError,
    Fits,
    InputError,
    Loss,
    Problem,
    Reduction,
    Samples,
    Total,
    Vector,
    checked,
    register,
    register_values,
)
from losses.ops.at_once import ItemsAtOnce, items_at_once
from losses.ops.eager import is_launched, on_cpu
from losses.ops.transport.quantiles import moves, norm, power_mean
from losses.ops.transport.sample_arrays import mean_of_few_distances


@register(
    "wasserstein",
    aliases=("emd",),
    inputs=TRANSPORT,
    laws=(NON_NEGATIVE,),
    suits="distributions over ordered outcomes, where being off by one is better than being off by ten",
    fits=Fits(
        task=("distribution_matching", "classification"),
        ordering="moving a probability costs as much as it moves",
        distributions="compares two of them by how far their outcomes lie apart",
    ),
    source="L. V. Kantorovich, 1942, doi:10.1007/s10958-006-0049-2; S. S. Vallender, 1974, doi:10.1137/1118101",
)
class WassersteinLoss(Loss):
    r"""How far mass has to be moved to turn one distribution into the other.

    .. math::
        W_p = \Big(\int_0^1 \big|F^{-1}(q) - G^{-1}(q)\big|^p \, dq\Big)^{1/p}

    :math:`F` and :math:`G` are the cumulative distribution functions of output and target, :math:`q` is a quantile.

    Args:
        p: power of the distance, at least 1.
        form: what output and target hold: ``"samples"``, or a histogram as ``"probs"`` or ``"logits"``.
        positions: support of a histogram, one number for each of its K entries; by default 0, 1, ..., K - 1.
        value: ``"distance"`` is :math:`W_p`, ``"cost"`` is :math:`W_p^p`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; an item is one distribution.

    Shapes:
        samples: ``(..., N)`` against ``(..., M)``, or ``Samples(points, weights)`` with weights that are normalised to
        sum to 1; histograms: ``(..., K)``, the same. Returns ``()``, or ``(...)`` if nothing is reduced.

    Units:
        The distance is in the unit of the samples or positions, the cost in that unit to the power p.

    Raises:
        ConfigError: a parameter is outside its range, or ``positions`` are given for samples.
        InputError: the tensors do not fit together, or their values are not what ``form`` declares.

    >>> WassersteinLoss()(tensor([0.0, 1.0]), tensor([5.0, 6.0]))  # both points move by 5
    tensor(5.)
    >>> WassersteinLoss(form="probs")(tensor([1.0, 0.0, 0.0]), tensor([0.0, 0.0, 1.0]))  # all mass moves by 2
    tensor(2.)
    """

    positions: Tensor | None

    @checked
    def __init__(
        self,
        *,
        p: AtLeastOne = 1.0,
        form: Literal["samples", "probs", "logits"] = "samples",
        positions: Vector | None = None,
        value: Literal["distance", "cost"] = "distance",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if form == "samples" and positions is not None:
            raise ConfigError(
                Problem(("positions",), "got a support, expected None: samples say themselves where they are")
            )
        self.p = p
        self.form: Literal["samples", "probs", "logits"] = form
        register_values(self, positions=positions)
        self.value = value
        self.reduction = reduction

    def items(self, output: Samples, target: Samples) -> Tensor:
        if self.form != "samples":
            output, target = self._histogram(output.points), self._histogram(target.points)
        moved = moves(output.points, target.points, output.weights, target.weights)
        value = power_mean(*moved, self.p) if self.value == "cost" else norm(*moved, self.p)
        return value.to(output.points.dtype)

    def fast_total(self, output: Samples, target: Samples, weight: Tensor | None) -> Total | None:
        batch = self._at_once(output, target, weight)
        return None if batch is None else batch.total()

    def fast_mean(self, output: Samples, target: Samples) -> Tensor | None:
        few = self._mean_of_few(output, target, None)
        if few is not None:
            return few
        items = self.items(output, target) if is_launched(output.points) else None
        return items.mean() if items is not None and items.numel() else None

    def fast_weighted_mean(self, output: Samples, target: Samples, weight: Tensor) -> Tensor | None:
        few = self._mean_of_few(output, target, weight)
        if few is not None:
            return few
        batch = self._at_once(output, target, weight)
        return None if batch is None else batch.mean()

    def hides_by_itself(self, output: Samples, target: Samples, weight: Tensor) -> bool:
        return self.reduction != "none" and self._at_once(output, target, weight) is not None

    def _mean_of_few(self, output: Samples, target: Samples, weight: Tensor | None) -> Tensor | None:
        """Return the mean of the distances of few samples in NumPy."""
        if self.p != 1 or self.form != "samples" or output.weights is not None or target.weights is not None:
            return None

        def definition(points: Tensor) -> Tensor:
            return self.definition_total(Samples(points), target, weight).mean()

        return mean_of_few_distances(definition, output.points, target.points, weight)

    def _at_once(self, output: Samples, target: Samples, weight: Tensor | None) -> ItemsAtOnce | None:
        """Return what sums a batch up where every operation is a launch."""
        if on_cpu(output.points) or output.weights is not None or target.weights is not None:
            return None

        def items(output: Tensor, target: Tensor) -> Tensor:
            return self.items(Samples(output), Samples(target))

        return items_at_once(items, output.points, target.points, weight, dim=-1)

    def _histogram(self, values: Tensor) -> Samples:
        size = values.shape[-1]
        if self.positions is None:
            points = torch.arange(size, dtype=values.dtype, device=values.device)
        elif self.positions.numel() != size:
            raise InputError(
                f"positions holds {self.positions.numel()} numbers, the histograms {tuple(values.shape)} have {size} "
                "entries; "
                "give one position for each"
            )
        else:
            points = self.positions.to(values.dtype)
        return Samples(points.expand_as(values), values.softmax(-1) if self.form == "logits" else values)
