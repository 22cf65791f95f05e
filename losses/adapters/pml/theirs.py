"""The call of a loss of pytorch-metric-learning as that of any loss here: checked, weighted, averaged.

Tried with version 2.9; what is different about version 3 (``loss_terms``) is written by its documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Never, NoReturn

from torch import Tensor, nn
from torch.compiler import is_compiling

from losses.abstract.embedding import given
from losses.adapters.pml.parameters import constructed
from losses.adapters.pml.stepping import StepWatch
from losses.adapters.pml.terms import Term, averages_of, items_over, terms_in, total_over
from losses.adapters.pytorch_metric_learning import reducers
from losses.core.checks import require_between, require_nothing_more
from losses.core.collectives import in_a_group, warn_of_ranks_apart
from losses.core.errors import InputError
from losses.core.labelled import LabelledBatch
from losses.core.loss import Loss, is_meta
from losses.core.outputs import Pairs
from losses.core.reduction import Total

NUMBER_OF_CLASSES = {"ManifoldLoss": "K"}
"""Losses that call the number of their classes otherwise than ``num_classes``."""


class TheirLoss(Loss):
    """A loss of pytorch-metric-learning, called and averaged as any loss here.

    Its terms are averaged over the items that its reducer averages over: those that are not 0 where that is
    ``AvgNonZeroReducer``, and so on. An item is what the loss computes a value of, a sample, a pair or a triplet, and
    weighs as much as its anchor does; several terms are several means, which are added. What a loss reduces itself, or
    by a reducer that says nothing of items, is one item, which takes neither weights nor a ``normalizer``.
    """

    theirs: ClassVar[type[nn.Module]]

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.reduction = parameters["reduction"]
        self._parameters_given = {name: value for name, value in parameters.items() if name != "reduction"}
        self.module = constructed(self.theirs, self._parameters_given)
        self._averages = averages_of(self.module.reducer)
        if self._averages is not None and not hasattr(self.module, "loss_terms"):  # which is version 3
            self.module.reducer = reducers.DoNothingReducer()
        self._steps = StepWatch()

    def __repr__(self) -> str:
        return f"{self.spec.name}({self.extra_repr()})"  # what create() takes, in one line

    def forward(
        self,
        output: Any,
        target: Any = None,
        indices: tuple[Tensor, ...] | None = None,
        *surplus: Never,
        weight: Tensor | None = None,
        normalizer: Tensor | float | None = None,
        reference: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of embeddings against their labels.

        Args:
            output: embeddings ``(N, D)``, or :class:`losses.Pairs` of two views for ``VICRegLoss``.
            target: labels ``(N,)``; of ``ManifoldLoss`` the meta-class of every sample.
            indices: a miner's tuple.
            weight: one weight per anchor; an item weighs as much as the anchor of its pair or triplet.
            normalizer: replaces the denominator of every mean.
            reference: another set (embeddings ``(M, D)``, labels ``(M,)``) to compare with: ``ref_emb`` and
                ``ref_labels``.

        Raises:
            InputError: the batch is not what the loss takes.
        """
        require_nothing_more(surplus, "reference=(embeddings, labels)")
        context = given(indices, reference)
        if is_compiling():
            return self._reduced(output, target, weight, normalizer, context)
        if self.training and in_a_group() and self.compares:
            warn_of_ranks_apart(self.spec.name)
        value: Tensor = self._own_code.call(self, output, target, weight, normalizer, context)
        return value

    def total(
        self,
        output: Any,
        target: Any = None,
        indices: tuple[Tensor, ...] | None = None,
        *surplus: Never,
        weight: Tensor | None = None,
        reference: tuple[Tensor, Tensor] | None = None,
    ) -> Total:
        """Return ``Total(sum, denominator)``, with one entry for each term of several."""
        require_nothing_more(surplus, "reference=(embeddings, labels)")
        return self._on_accepted(self._total, output, target, weight, given(indices, reference))

    @property
    def compares(self) -> bool:
        """Whether samples of a batch are compared with one another, and not each with weights of the loss alone."""
        return not {"embedding_size", "descriptors_dim"} & self._parameters_given.keys()

    @property
    def classes(self) -> int | None:
        """How many classes there may be, where the loss holds something for each."""
        count = self._parameters_given.get(NUMBER_OF_CLASSES.get(self.theirs.__name__, "num_classes"))
        return None if count is None else int(count)

    def items(self, output: Any, target: Any) -> Tensor:
        return items_over(self.terms(output, target), None)

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        return total_over(self.terms(output, target, weighted=weight is not None), weight)

    def terms(self, output: Any, target: Any, *, weighted: bool = False, normalized: bool = False) -> list[Term]:
        """Return the items of an accepted batch, term by term.

        Raises:
            InputError: the loss refuses the batch, or is to be weighted or normalized and cannot.
        """
        first = output.first if isinstance(output, Pairs) else output.anchors
        nothing = first.flatten()[:0]
        if not len(first):
            return [Term(nothing, nothing.detach().long())]
        said = self._said(output, target)
        terms = (
            [Term(said.reshape(()), None)] if self._averages is None else terms_in(said, self._averages, nothing)
        ) or [Term(nothing, nothing.detach().long())]
        if normalized and any(term.is_reduced for term in terms):
            self._refuse("normalizer")
        if weighted and (isinstance(output, Pairs) or not all(term.takes_weights for term in terms)):
            self._refuse("weight")
        return terms

    def _said(self, output: Any, target: Any) -> Any:
        """Return what the loss says of a batch: its terms by name, or one number."""
        call = self.module if self._averages is None else getattr(self.module, "loss_terms", self.module)
        try:
            if isinstance(output, Pairs):
                return call(output.first, ref_emb=output.second)
            if self.theirs.__name__ == "ManifoldLoss":  # takes meta-classes where others take indices
                return call(output.anchors, indices_tuple=target)
            reference = (output.others, output.other_labels) if output.has_reference else ()
            return call(output.anchors, output.labels, output.indices, *reference)
        except (AssertionError, IndexError, ValueError) as error:
            raise InputError(f"{self.spec.name} refuses the batch: {error or type(error).__name__}") from error

    def _refuse(self, argument: str) -> NoReturn:
        why = "its reducer says nothing of items" if self._averages is None else "it has items that are of no anchor"
        raise InputError(f"{self.spec.name} takes no {argument}: {why}; leave it out")

    def _value(self, output: Any, target: Any, weight: Tensor | None) -> Tensor:
        if self.reduction == "none":
            return items_over(self.terms(output, target, weighted=weight is not None), weight)
        return super()._value(output, target, weight)

    def _reduced(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        normalizer: Tensor | float | None,
        context: Mapping[str, Any] | None = None,
    ) -> Tensor:
        if normalizer is None:
            value = super()._reduced(output, target, weight, normalizer, context)
        else:
            normalizer = self._accepted_normalizer(normalizer)
            value = self._on_accepted(self._normalized_total, output, target, weight, context).mean(normalizer)
        if self.training:
            self._steps.follow(value, self.module, self.spec.name)
        return value

    def _normalized_total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        return total_over(self.terms(output, target, weighted=weight is not None, normalized=True), weight)

    def _accepted(
        self, output: Any, target: Any, weight: Tensor | None, context: Mapping[str, Any] | None
    ) -> tuple[Any, Any, Tensor | None]:
        due = self._inspection_is_due() and self.classes is not None
        accepted = super()._accepted(output, target, weight, context)
        if due and isinstance(accepted[0], LabelledBatch) and not is_meta(output):
            inspected, self._inspected = self._inspected, False  # should they be out of range, the next are read too
            require_between(0, (self.classes or 0) - 1, "the loss holds something for each class", labels=accepted[1])
            self._inspected = inspected
        return accepted
