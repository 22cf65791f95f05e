"""Losses of embeddings: labelled batches, pairs and triplets, whole or against a reference, in blocks or as they
are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Never, Self

import torch
from torch import Tensor
from torch.compiler import is_compiling

from losses.abstract.readings import Readings, at_one_point, fraction, separation
from losses.core.checks import require_nothing_more, shown
from losses.core.collectives import in_a_group, warn_of_ranks_apart
from losses.core.errors import InputError
from losses.core.inputs.embeddings import Embeddings, is_labelled
from losses.core.labelled import LabelledBatch, each_pair_once, labelled_batch
from losses.core.loss import Loss
from losses.core.outputs import Pairs, Triplets
from losses.core.reduction import Total
from losses.core.torch_private import stepped_over
from losses.ops.dense.batch import Dense, dense_mean, dense_total
from losses.ops.distances import measured
from losses.ops.indexed.lists import IndexLists
from losses.ops.indexed.pairs import measured_at
from losses.ops.indexed.rows import IndexRows
from losses.ops.indexed.totals import indexable, mean_over_indices, over_indices
from losses.ops.numerics.spectrum import effective_rank
from losses.ops.pairs.sums_of_parts import SharedSums
from losses.ops.rowwise import RowCosts, can_be_summed, mean_of_rows, measured_side_by_side, total_of_rows
from losses.ops.tiles.whole_batch import Tiling, over_batch, tileable


class ListedPairs(NamedTuple):
    """A batch as a list: what every pair measures ``(P,)``, and whether it is of one class ``(P,)``."""

    values: Tensor
    same: Tensor


class EmbeddingLoss(Loss):
    """A loss of embeddings. What it has to say of its own:

    ====================================================  =============================================================
    what you have                                         what you write
    ====================================================  =============================================================
    a formula for every anchor                            a subclass of :class:`losses.extend.AnchorLoss`: no more
    a value for every pair, triplet or other item         :meth:`items`, the definition, perhaps from :meth:`pairs`
    items that do not all count; weights of pairs         :meth:`denominators`; :meth:`item_weights`
    pairs or triplets that are chosen by their values     :attr:`mines`
    distances in place of cosine similarities             :attr:`measure`
    a margin between classes; other readings              :attr:`gap`; :meth:`active_items`
    the same sums block by block, with their gradient     :meth:`tiling`
    the same sums of a small batch in one piece           :meth:`dense`
    the same over what a miner's indices say              :meth:`index_sums`
    the same over pairs or triplets that are given        :meth:`row_costs`
    items that are unordered pairs of a batch             :attr:`each_pair_once`
    costs made from what both ends of a pair add up       :meth:`shared_sums`
    an input whose samples are compared with one another  :meth:`compares`, :meth:`part_total`
    something of a batch that later calls see             :meth:`remember`
    a plain sum that is shorter than the sum of items     :meth:`plain_total`
    ====================================================  =============================================================

    The class chooses the way to a batch's total: of a small batch in one piece (:mod:`losses.ops.dense`), in few
    operations; else in blocks (:mod:`losses.ops.tiles`), in memory that grows with N and not with N²; or as a plain
    composition where somebody traces, transforms or differentiates twice. What a miner's indices say is picked out of
    the matrix of all pairs (:mod:`losses.ops.indexed`). It owns ``indices``, ``reference``, explicit pairs,
    weights and readings.
    """

    each_pair_once: ClassVar[bool] = False
    """Whether the items of a labelled batch are its unordered pairs, as :meth:`pairs` lists them. Such a batch costs
    what its parts cost and what they cost against one another, so of several ranks one looks at each pair."""
    average: str
    """Of losses with this parameter: over which items the mean is, ``"active"`` or ``"all"`` among others."""

    def __init__(self) -> None:
        super().__init__()
        of_tensors = [type(kind).accept for kind in self.spec.inputs if kind.container is None]
        as_is = of_tensors == [Embeddings.accept] and type(self).inputs is Loss.inputs
        self._goes_direct = self._goes_direct and as_is

    @property
    def measure(self) -> str:
        """What pairs are compared by: ``"similarity"`` (the cosine), ``"euclidean"``, ``"squared_euclidean"`` or
        ``"cosine"`` (1 - the cosine)."""
        return "similarity"

    @property
    def gap(self) -> float:
        """By how much more than its farthest positive the nearest negative of an anchor should be away."""
        return 0.0

    @property
    def mines(self) -> bool:
        """Whether only some of the pairs or triplets of a labelled batch count, unless ``indices`` say which."""
        return False

    def tiling(self, batch: LabelledBatch) -> Tiling | None:
        """Return how to sum a batch block by block; ``None`` where the plain composition has to do."""
        return None

    def dense(self, batch: LabelledBatch) -> Dense | None:
        """Return how to sum a small batch in one piece; ``None`` where it is summed block by block as well."""
        return None

    def shared_sums(self) -> SharedSums | None:
        """Return how to sum over the pairs of a labelled batch for both their ends, so that of several ranks one looks
        at each pair and they exchange the sums; ``None`` where every rank looks at all pairs of its anchors."""
        return None

    def index_sums(self, batch: LabelledBatch) -> IndexLists | IndexRows | None:
        """Return how to sum what the indices of a batch say; ``None`` where the plain composition does as well."""
        return None

    def row_costs(self, output: Any, target: Any) -> RowCosts | None:
        """Return what pairs or triplets cost that are given; ``None`` where the plain composition does as well."""
        return None

    def plain_total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        """Return the total of a labelled batch as a plain composition; by default over all items."""
        return self.definition_total(output, target, weight)

    def active_items(self, output: Any, target: Any) -> tuple[Tensor | int, Tensor | int]:
        """Return how many items still cost something, or count in the mean where a cost never ends, and of how many: by
        default of the anchors."""
        if hasattr(self, "average"):
            active, every = (self._averaged(over)._total(output, target, None) for over in ("active", "all"))
            return active.denominator, every.denominator
        anchors = len(output.anchors) if isinstance(output, LabelledBatch) else 1
        return self._total(output, target, None).denominator, anchors

    @stepped_over
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
            output: embeddings ``(N, D)``, or the pairs or triplets that the loss takes.
            target: labels ``(N,)``, or what goes with the pairs or triplets.
            indices: of a labelled batch, a miner's tuple (anchor, positive, negative) or (anchor, positive, anchor,
                negative): what is compared, in place of everything. The third argument, as in
                pytorch-metric-learning.
            weight: one weight per anchor, pair or triplet, as the loss says.
            normalizer: replaces the denominator of the mean. It makes parts of ``Pairs`` and ``Triplets`` add up to the
                whole where each pair or triplet is an item (contrastive, triplet), but not parts of a labelled batch,
                of the views of InfoNCE or of the pairs of circle: there everything is compared with everything, and
                what lies across two parts is in neither (parts of the anchors against one and the same ``reference``
                do add up). A batch whose network does not fit into memory is accumulated exactly by gradient caching,
                :class:`losses.distributed.GradientCaching`.
            reference: of a labelled batch, another set (embeddings ``(M, D)``, labels ``(M,)``) to compare with.

        Raises:
            InputError: the batch is not what the loss takes.
        """
        require_nothing_more(surplus, "reference=(embeddings, labels)")
        context = given(indices, reference)
        if is_compiling():  # somebody's function, and this as a part of it
            return self._reduced(output, target, weight, normalizer, context)
        if self.training and in_a_group() and self.compares(output):
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
        """Return ``Total(sum, denominator)``. Totals of labelled batches add up to the loss of the batches, each on its
        own: a pair across two batches is in neither, so totals of its halves are not the total of a batch."""
        require_nothing_more(surplus, "reference=(embeddings, labels)")
        return self._on_accepted(self._total, output, target, weight, given(indices, reference))

    def compares(self, output: Any) -> bool:
        """Return whether samples of a batch like this one are compared with one another, so that its loss is more than
        those of its parts: by default of labelled batches."""
        return not isinstance(output, tuple)

    def part_total(
        self,
        output: Any,
        target: Any,
        weight: Tensor | None,
        everyone: tuple[Any, Any],
        place: int,
        indices: tuple[Tensor, ...] | None = None,
    ) -> Total:
        """Return the total of anchors that are a part of a larger batch, compared with all of it: totals of the parts
        add up to that of the batch.

        Args:
            output: embeddings ``(N, D)``, the anchors.
            target: their labels ``(N,)``.
            weight: of every anchor.
            everyone: embeddings ``(M, D)`` and labels ``(M,)`` of the whole batch.
            place: row of it at which the anchors stand.
            indices: of anchors and others, as :meth:`forward` takes them with a reference.
        """
        context = {"reference": everyone} | ({"place": place} if indices is None else {"indices": indices})
        total = self._on_accepted(self._total, output, target, weight, context)
        if self.each_pair_once and indices is None:  # here every pair has come from both its ends
            return Total(total.sum / 2, torch.as_tensor(total.denominator) / 2)
        return total

    def remember(self, own: tuple[Tensor, Tensor], everyone: tuple[Tensor, Tensor]) -> None:
        """Keep of a batch what later calls see; by default nothing. :class:`losses.distributed.GlobalBatch` calls it
        after a batch, and has every rank compute what its own anchors cost, as ranks may remember different things.

        Args:
            own: embeddings and labels that this rank compares with.
            everyone: those of all ranks.
        """

    @torch.no_grad()
    def readings(
        self,
        output: Any,
        target: Any = None,
        indices: tuple[Tensor, ...] | None = None,
        *,
        reference: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what a batch tells beside its loss, by name: scalars without gradient, none of which is read here.

        - ``active_fraction``: of the items that still cost something, or count in the mean where a cost never ends.
        - ``positive_distance``, ``negative_distance``: mean distance within a class and between classes.
        - ``margin_violations``: fraction of the anchors whose nearest negative is not farther than the farthest
          positive by the margin; of triplets and pairs that are given, of those that cost something.
        - ``relative_loss``: the loss, averaged over all items, over that of the same batch with all embeddings at one
          point. A training that stays at 1 has collapsed or is stuck; above 1 the embeddings are worse than that, since
          negatives are nearer than positives; it falls as they learn. 0 where the loss at one point is 0.
        - ``effective_rank``: how many directions the embeddings use (Roy & Vetterli 2007).

        Raises:
            InputError: the batch is not what the loss takes.
        """
        return self._on_accepted(self._readings, output, target, None, given(indices, reference))

    def pairs(self, output: LabelledBatch | Pairs, target: Tensor) -> ListedPairs:
        """Return a batch as a list of pairs: those given, those of the indices (positive ones first), every anchor with
        everyone of the reference, or every unordered pair of the batch once."""
        if isinstance(output, Pairs):
            return ListedPairs(measured_side_by_side(*output, self.measure), target > 0)
        if output.indices is not None:
            anchor, positive, negative_anchor, negative = output.pairs()
            values = self.measured_at(output, torch.cat([anchor, negative_anchor]), torch.cat([positive, negative]))
            same = torch.arange(values.shape[0], device=values.device) < anchor.shape[0]
            return ListedPairs(values, same)
        values = measured(output.anchors, output.others, self.measure)
        if output.has_reference:
            return ListedPairs(listed(values, output), listed(output.positive, output))
        upper = each_pair_once(values.shape[0], values.device)
        return ListedPairs(values[upper], output.positive[upper])

    def measured_at(self, batch: LabelledBatch, anchor: Tensor, other: Tensor) -> Tensor:
        """Return what anchors measure to others, given by their indices ``(P,)``."""
        return measured_at(batch.anchors, batch.others if batch.has_reference else None, anchor, other, self.measure)

    def pair_weights(self, weight: Tensor, output: LabelledBatch | Pairs) -> Tensor:
        """Return weights of the pairs of :meth:`pairs`: of a batch the mean of both ends, else that of the anchor."""
        if isinstance(output, Pairs):
            return weight
        if output.indices is not None:
            anchor, _, negative_anchor, _ = output.pairs()
            return weight[torch.cat([anchor, negative_anchor])]
        if output.has_reference:
            return listed(weight.unsqueeze(1).expand(output.positive.shape), output)
        first, second = each_pair_once(output.anchors.shape[0], weight.device)
        return (weight[first] + weight[second]) / 2

    @property
    def distance_measure(self) -> str:
        """The distance that goes with the measure: of similarities the cosine distance."""
        return "cosine" if self.measure == "similarity" else self.measure

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total | None:
        if not isinstance(output, LabelledBatch):
            rows = self.row_costs(output, target)
            if rows is None or not can_be_summed(rows, output, weight):
                return None
            return total_of_rows(rows, self._of_points(output, target, weight), output, weight)

        def plain_total(batch: LabelledBatch) -> Total:
            return self.plain_total(batch, target, weight)

        indexed = self.index_sums(output) if indexable(output, self.measure, weight) else None
        if indexed is not None:
            return over_indices(indexed, plain_total, output, self.measure, weight)
        if not tileable(output, weight):
            return plain_total(output)
        dense = self._dense(output)
        if dense is not None:
            total = dense_total(dense, plain_total, output, self.measure, weight)
            if total is not None:
                return total
        tiling = self.tiling(output)
        if tiling is None:
            return self.plain_total(output, target, weight)
        sums, denominators = over_batch(
            tiling, lambda batch: plain_total(batch).sum.reshape(-1), output, self.measure, weight
        )
        return Total(sums, denominators) if tiling.outputs > 1 else Total(sums[0], denominators[0])

    def direct_mean(self, output: Tensor, target: Tensor, weight: Any) -> Tensor | None:
        if weight is not None or not is_labelled(output, target):
            return None
        return self.fast_mean(labelled_batch(output, target, None, None, None), target)

    def fast_mean(self, output: Any, target: Any) -> Tensor | None:
        if not isinstance(output, LabelledBatch):
            rows = self.row_costs(output, target)
            if rows is None:
                return None
            plain_rows = self._of_points(output, target, None)
            few = rows.mean_of_few(plain_rows, output, None)
            if few is not None:
                return few
            return mean_of_rows(rows, plain_rows, output) if can_be_summed(rows, output) else None

        def plain_total(batch: LabelledBatch) -> Total:
            return self.plain_total(batch, target, None)

        indexed = self.index_sums(output) if indexable(output, self.measure) else None
        if indexed is not None:
            return mean_over_indices(indexed, plain_total, output, self.measure)
        dense = self._dense(output) if tileable(output) else None
        return None if dense is None else dense_mean(dense, plain_total, output, self.measure)

    def fast_weighted_mean(self, output: Any, target: Any, weight: Tensor) -> Tensor | None:
        rows = None if isinstance(output, LabelledBatch) else self.row_costs(output, target)
        return rows and rows.mean_of_few(self._of_points(output, target, weight), output, weight)

    def batch_readings(self, output: LabelledBatch | Pairs | Triplets, target: Any) -> Readings:
        active = fraction(*self.active_items(output, target))
        # what still costs something costs about a margin, collapsed or not
        overall = self._averaged("all") if hasattr(self, "average") else self
        mean, collapsed = (overall._total(batch, target, None).mean() for batch in (output, at_one_point(output)))
        points = output.anchors if isinstance(output, LabelledBatch) else torch.cat(output)
        return {
            "active_fraction": active,
            **separation(output, target, active, self.distance_measure, self.gap),
            "relative_loss": fraction(mean, collapsed),
            "effective_rank": effective_rank(points),
        }

    def _dense(self, batch: LabelledBatch) -> Dense | None:
        return None if batch.place is not None else self.dense(batch)  # a part of a large set is large

    def _of_points(self, output: Pairs | Triplets, target: Any, weight: Tensor | None) -> Callable[..., Total]:
        """Return the total of given rows as a plain composition of their points."""
        return lambda *points: self.definition_total(type(output)(*points), target, weight)

    def _averaged(self, average: str) -> Self:
        """Return the same loss with another average."""
        other = copy.copy(self)
        other.average = average
        return other


def listed(of_pairs: Tensor, batch: LabelledBatch) -> Tensor:
    """Return what every anchor and other ``(N, M)`` have as a list, without that of a point and itself."""
    return of_pairs.flatten() if batch.itself is None else of_pairs[~batch.itself]


@stepped_over
def given(indices: Any, reference: Any) -> dict[str, Any] | None:
    """Return those of both that are given, if any."""
    if isinstance(indices, Tensor):
        raise InputError(
            f"indices must be the tuple that a miner returns, got {shown(indices)}; if these are weights, pass them by "
            "name: weight=..."
        )
    if indices is None:
        return None if reference is None else {"reference": reference}
    return {"indices": indices} if reference is None else {"indices": indices, "reference": reference}
