"""Weighted sum: several losses and penalties as one objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Never

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from losses.core.checks import require_nothing_more
from losses.core.errors import InputError, quoted
from losses.core.fits import Fits
from losses.core.inputs import PARTS, Kind
from losses.core.loss import Loss
from losses.core.outputs import map_floating
from losses.core.parameters import Reduction, checked
from losses.core.precision import COMPUTED_IN, widened
from losses.core.reduction import Total
from losses.core.registry import register
from losses.core.schedules import Schedule, value_at
from losses.core.torch_private import stepped_over
from losses.objective.gradient_norm import GradientNorm
from losses.objective.penalties import ParameterPenalty, Penalty
from losses.objective.term import UNCERTAINTY, Term
from losses.objective.terms import Terms, common_kinds, term_of

Evaluated = Callable[[Loss | GradientNorm, Any, Any, Tensor | None], Any]
"""What is made of a loss, its parts of a batch and the weights of samples."""
Beside = Mapping[str, Any]
"""What there is beside a batch: the ``model``, and its ``inputs``."""
NOTHING: Beside = {"model": None, "inputs": None}


@register(
    "weighted_sum",
    inputs=PARTS,
    suits="several aims at once: many tasks, a reconstruction beside a class, a penalty on the parameters",
    fits=Fits(
        task=("multi_task_learning", "binary_classification", "classification", "regression"),
        few_samples="penalties on the parameters are among its terms",
    ),
    example={"terms": ["mse", {"loss": "mae", "weight": 0.5}]},
    source="learned weights: A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, "
    "2018, arXiv:1705.07115",
)
class WeightedSumLoss(Loss):
    r"""Several losses and penalties, each times a weight, as one objective.

    .. math::
        \ell = \sum_k w_k\, \ell_k(\hat y_k, y_k) + \sum_m w_m\, p_m(\theta)

    Each loss :math:`\ell_k` is averaged over its own items before it is multiplied with its weight :math:`w_k`, and is
    given its own part :math:`\hat y_k` of what the network returns, and :math:`y_k` of the target, if it takes one. A
    weight below 0 maximises. Penalties :math:`p_m` are of the parameters :math:`\theta` of the ``model=`` of a call, or
    of the gradient of the output by its ``inputs=`` (``gradient_norm``). With
    ``weight: uncertainty`` a term counts as :math:`e^{-s_k} \ell_k + s_k / 2` and learns :math:`s_k`, the logarithm of
    the variance that its task leaves unexplained: a parameter of the loss, which the optimiser has to be given.

    Args:
        terms: a list of terms: names, losses, or mappings of ``loss``, ``weight`` (a number, a schedule such as
            ``{"schedule": "linear", "start": 0, "end": 1, "steps": 1000}``, or ``"uncertainty"``), ``output``,
            ``target`` and ``inputs`` (key or position of a part) and ``name``.
        reduction: ``"mean"`` or ``"sum"`` of the items of each loss; ``"none"`` adds up item by item, where terms have
            equally many.

    Shapes:
        output, target: mappings, tuples or NamedTuples that hold what the losses take, or one part for all. ``weight``
        is given to every loss. Returns ``()``.

    Units:
        Those of the losses, times their weights.

    A schedule moves with every call in training mode; its progress is a buffer, so it survives a checkpoint. In
    evaluation mode its last number counts, and only there ``torch.func`` can transform the loss. A term of weight 0
    adds 0, even where it is infinite or NaN; a finite prediction gets no gradient from it.

    Raises:
        ConfigError: a term is none, two have one name, or a parameter is outside its range.
        InputError: a part is missing, a penalty is not given what it looks at, or a loss does not take its part.

    >>> both = WeightedSumLoss(terms=["mse", {"loss": "mae", "weight": 0.5}])
    >>> both(tensor([1.0, 3.0]), tensor([1.0, 1.0]))  # (0 + 4) / 2 + 0.5 (0 + 2) / 2
    tensor(2.5000)
    """

    progress: Tensor

    @checked
    def __init__(self, *, terms: Terms, reduction: Reduction = "mean") -> None:
        super().__init__()
        self._terms: tuple[Term, ...] = tuple(terms)
        self.losses = nn.ModuleDict({term.name: term.loss for term in self._terms})
        learned = [term.name for term in self._terms if term.weight == UNCERTAINTY]
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in learned})
        self.register_buffer("progress", torch.zeros((), dtype=torch.long))
        self.reduction = reduction
        moves = any(isinstance(term.weight, Schedule) for term in self._terms)
        self.remembers = moves or any(getattr(term.loss, "remembers", False) for term in self._terms)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_terms": [term.beside_its_loss() for term in self._terms]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        beside = zip(self.losses.values(), state["_terms"], strict=True)
        self._terms = tuple(term_of({"loss": loss, **settings}) for loss, settings in beside)

    @property
    def inputs(self) -> tuple[Kind, ...]:
        """What all losses take, where every one is given the whole; else parts of it."""
        return common_kinds(self._terms) or self.spec.inputs

    @stepped_over
    def forward(
        self,
        output: Any,
        target: Any = None,
        *surplus: Never,
        weight: Tensor | None = None,
        normalizer: Tensor | float | None = None,
        model: nn.Module | None = None,
        inputs: Any = None,
    ) -> Tensor:
        """Return the weighted sum of all terms.

        Args:
            output: what the model made, with the parts that terms ask for.
            target: what it should have made, likewise.
            weight: one weight per sample, given to every loss.
            normalizer: replaces the denominator of every mean; penalties and learned weights have none, so with them
                totals are added up instead.
            model: the network whose parameters are penalised.
            inputs: what the network was called with, where the gradient by it is penalised: a tensor that requires
                grad, or a tuple or mapping of them.
        """
        require_nothing_more(surplus)
        beside = {"model": model, "inputs": inputs}
        if is_compiling():
            return self._reduced(output, target, weight, normalizer, beside)
        value: Tensor = self._own_code.call(self, output, target, weight, normalizer, beside)
        return value

    def total(
        self,
        output: Any,
        target: Any = None,
        *surplus: Never,
        weight: Tensor | None = None,
        model: nn.Module | None = None,
        inputs: Any = None,
    ) -> Total:
        """Return ``Total(sums, denominators)``, vectors with an entry for every mean of every term; penalties on
        parameters count as one item."""
        require_nothing_more(surplus)
        total = self._total_of(output, target, weight, {"model": model, "inputs": inputs})
        self._advance()
        return total

    def require_parts(self, output: Any, target: Any, beside: Beside) -> None:
        """Raise an InputError unless every term finds what it is given."""
        self._evaluated(output, target, None, beside, lambda *batch: None)

    def combined(self, output: Any, target: Any, weight: Tensor | None, beside: Beside, mean: Evaluated) -> Tensor:
        """Return the weighted sum of what ``mean(loss, output, target, weight)`` makes of every loss, and of the
        penalties: how a wrapper of losses wraps each of them. It counts as a call, which schedules follow."""
        sums = [
            times(self._factor(term), value)
            for term, value in self._evaluated(output, target, weight, beside, mean).items()
        ]
        sums += [log_variance / 2 for log_variance in self._learned()]
        value: Tensor = sum(sums[1:], sums[0])
        self._advance()
        return value

    @torch.no_grad()
    def terms(
        self, output: Any, target: Any = None, *, model: nn.Module | None = None, inputs: Any = None
    ) -> dict[str, Tensor]:
        """Return what every term comes to before it is weighted, by name, detached, for logging."""
        beside = {"model": model, "inputs": inputs}
        values = self._evaluated(output, target, None, beside, total_seen_with(beside))
        return {term.name: value.mean() if isinstance(value, Total) else value for term, value in values.items()}

    def readings(
        self, output: Any, target: Any = None, *, model: nn.Module | None = None, inputs: Any = None
    ) -> dict[str, Tensor]:
        """Return what a batch tells beside its loss, by name: its :meth:`terms`."""
        return self.terms(output, target, model=model, inputs=inputs)

    @torch.no_grad()
    def weights(self) -> dict[str, float | Tensor]:
        """Return what every term is multiplied with in the next call, by name."""
        return {term.name: self._factor(term) for term in self._terms}

    def items(self, output: Any, target: Any) -> Tensor:
        def items(loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None) -> Tensor:
            return loss.items(output, target)

        return self._added_up(self._evaluated(output, target, None, NOTHING, items))

    def _reduced(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        normalizer: Tensor | float | None,
        beside: Beside | None = None,
    ) -> Tensor:
        beside = beside or NOTHING
        if normalizer is not None:
            normalizer = self._accepted_normalizer(normalizer)
            if not self._is_made_of_means():
                raise InputError(
                    "normalizer replaces the denominator of a mean, and penalties and learned weights have none; add "
                    "up loss.total(...) of the parts instead"
                )
            value = self.total(output, target, weight=weight, **beside).mean(normalizer)
        elif self.reduction == "sum":
            value = self.total(output, target, weight=weight, **beside).sum.sum()
        elif self.reduction == "none":
            value = self._added_up(self._evaluated(output, target, weight, beside, items_with(beside)))
            self._advance()
        else:
            value = self.combined(output, target, weight, beside, mean_with(beside))
        self._inspected = True
        return value

    def _evaluated(
        self, output: Any, target: Any, weight: Tensor | None, beside: Beside, made: Evaluated
    ) -> dict[Term, Any]:
        """Return what is made of every loss, and what the penalties are, by their terms."""
        wide: dict[int, tuple[Tensor, Tensor]] = {}  # beside each what it is of, whose id is no other's as long

        def widened_once(part: Tensor) -> Tensor:
            # so that the gradients of several terms are added up in float32
            return wide.setdefault(id(part), (part, widened(part)))[1]

        values: dict[Term, Any] = {}
        for term in self._terms:
            loss = term.loss
            if isinstance(loss, ParameterPenalty):
                values[term] = loss(required(beside, loss, term.name))
                continue
            assert isinstance(loss, Loss | GradientNorm)  # there are no other penalties
            inputs = required(beside, loss, term.name) if isinstance(loss, GradientNorm) else None
            part, other = term.parts(output, target, inputs)
            if isinstance(loss, Loss) and not (isinstance(part, Tensor) and part.dtype in COMPUTED_IN):
                part = map_floating(part, widened_once)
            values[term] = made(loss, part, other, weight)
        return values

    def _total_of(
        self, output: Any, target: Any, weight: Tensor | None, beside: Beside, made: Evaluated | None = None
    ) -> Total:
        sums: list[Tensor] = []
        denominators: list[Tensor] = []

        def add(added: Tensor, denominator: Tensor | int) -> None:
            sums.append(added.reshape(-1))
            counted = torch.as_tensor(denominator, device=added.device).to(added.dtype)
            denominators.append(counted.expand(added.shape).reshape(-1))

        for term, value in self._evaluated(output, target, weight, beside, made or total_with(beside)).items():
            total = value if isinstance(value, Total) else Total(value, 1)
            add(times(self._factor(term), total.sum), total.denominator)
        for log_variance in self._learned():
            add(log_variance / 2, 1)
        return Total(torch.cat(sums), torch.cat(denominators))

    def _added_up(self, values: dict[Term, Tensor]) -> Tensor:
        """Return the items of all terms, added up one by one."""
        shapes = {term.name: tuple(value.shape) for term, value in values.items()}
        like = next(iter(shapes.values()))
        unlike = any(shape != like for shape in shapes.values())
        if unlike or not self._is_made_of_means():
            raise InputError(
                f"reduction is 'none', and the terms have not one item each for the other's, but {shapes}; use 'mean' "
                "or 'sum', or ask each loss for its items"
            )
        items = [times(self._factor(term), value) for term, value in values.items()]
        added: Tensor = sum(items[1:], items[0])
        return added

    def _is_made_of_means(self) -> bool:
        """Return whether every term has items, and nothing is added to them."""
        within = [term.loss for term in self._terms if isinstance(term.loss, WeightedSumLoss)]
        own = not self._learned() and not any(isinstance(term.loss, ParameterPenalty) for term in self._terms)
        return own and all(each._is_made_of_means() for each in within)

    def _learned(self) -> list[Tensor]:
        """Return the logarithms of the variances that are learned."""
        return [self.log_variances[term.name] for term in self._terms if term.weight == UNCERTAINTY]

    def _factor(self, term: Term) -> float | Tensor:
        """Return what a term is multiplied with."""
        if term.weight == UNCERTAINTY:
            learned: Tensor = (-self.log_variances[term.name]).exp()
            return learned
        assert isinstance(term.weight, float | Schedule)
        return value_at(term.weight, self.progress if self.training else None)

    def _advance(self) -> None:
        if self.training and any(isinstance(term.weight, Schedule) for term in self._terms):
            self.progress += 1

    def _argument(self, name: str) -> Any:
        return [term.config() for term in self._terms] if name == "terms" else super()._argument(name)

    def _shown(self, name: str) -> str:
        if name != "terms":
            return super()._shown(name)
        return f"[{', '.join(f'{quoted(term.weight)} {term.name}' for term in self._terms)}]"


def times(factor: float | Tensor, value: Tensor) -> Tensor:
    """Return a product, which is no operation where the factor is 1, and 0 where it is 0, whatever the value is."""
    if isinstance(factor, float):
        if factor == 0:
            return value.masked_fill(torch.ones_like(value, dtype=torch.bool), 0)
        return value if factor == 1 else factor * value
    factor = factor.to(value.dtype)
    return (factor * value).masked_fill(factor == 0, 0)


def required(beside: Beside, penalty: Penalty, name: str) -> Any:
    """Return what a penalty of this name looks at, or raise where a call was not given it."""
    found = beside[penalty.needs]
    if found is None:
        raise InputError(
            f"{name} penalises {penalty.looks_at}, and {penalty.needs}= was not given; call {penalty.call}"
        )
    return found


def given_to(loss: Loss | GradientNorm, beside: Beside) -> Beside:
    """Return what a loss is called with beside its batch: one that is a weighted sum itself looks for its penalties."""
    return beside if isinstance(loss, WeightedSumLoss) else {}


def mean_with(beside: Beside) -> Evaluated:
    """Return what calls a loss."""

    def mean(loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        value: Tensor = loss(output, target, weight=weight, **given_to(loss, beside))
        return value

    return mean


def items_with(beside: Beside) -> Evaluated:
    """Return what calls a loss for its items."""

    def items(loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        reduction, loss.reduction = loss.reduction, "none"
        try:
            value: Tensor = loss(output, target, weight=weight, **given_to(loss, beside))
        finally:
            loss.reduction = reduction
        return value

    return items


def total_with(beside: Beside) -> Evaluated:
    """Return what asks a loss for its total."""

    def total(loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None) -> Total:
        return loss.total(output, target, weight=weight, **given_to(loss, beside))

    return total


def total_seen_with(beside: Beside) -> Evaluated:
    """Return what looks at the total of a loss, which counts as no call of it."""

    def total(loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None) -> Total:
        if isinstance(loss, WeightedSumLoss):
            return loss._total_of(output, target, weight, beside, total)
        if isinstance(loss, GradientNorm):
            return loss.total(output, target, weight=weight)
        return loss._on_accepted(loss._total, output, target, weight)

    return total
