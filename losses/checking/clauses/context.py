"""Clauses about what a labelled batch may be called with besides: a miner's indices, a reference set."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
from torch import Tensor

from losses.checking.case import (
    LARGE,
    SIZE,
    Case,
    NotApplicable,
    gradients_of,
    leaves_of,
    require_near,
    rows_of,
    several_blocks,
)
from losses.checking.contract import clause
from losses.checking.slopes import require_between_slopes
from losses.core.inputs import EMBEDDINGS, MATCHES, Batch
from losses.core.outputs import tensors_in
from losses.core.reduction import Total

Indices = tuple[Tensor, ...]


@clause(of_the_call=True)
def indices_say_what_is_compared(case: Case) -> None:
    """indices= of all pairs are as good as none, a triplet is its two pairs, in any order; those within some samples
    make a batch of these, and without any index the loss is 0"""
    require_takes(case, "indices")
    batch = case.batch()
    everything, triplets = all_pairs(batch.target), one_triplet_each(batch.target)
    if not getattr(case.loss, "mines", False):
        require_alike("all pairs", case, batch, {"indices": everything}, {})
    anchor, positive, negative = triplets
    require_alike("triplets", case, batch, {"indices": triplets}, {"indices": (anchor, positive, anchor, negative)})
    some_pairs = tuple(index[-3:] for index in everything)
    others_first = (some_pairs[0].flip(0), some_pairs[1].flip(0), *some_pairs[2:])
    require_alike("as many positive as negative pairs", case, batch, {"indices": others_first}, {"indices": some_pairs})
    require_alike(
        "another order", case, batch, {"indices": tuple(index.flip(0) for index in triplets)}, {"indices": triplets}
    )
    some = torch.arange(SIZE) % 3 > 0
    within = all_pairs(batch.target[some])
    places = torch.arange(SIZE)[some]
    total, (gradient,) = case.total(batch, indices=tuple(places[index] for index in within))
    expected, (other,) = case.total(rows_of(batch, some), indices=within)
    require_near("sum of pairs within some samples", total.sum.sum(), expected.sum.sum())
    require_near("gradient of pairs within some samples", gradient[some], other, 1e-7)
    require_near("gradient of the other samples", gradient[~some], torch.zeros_like(gradient[~some]))
    value, gradients = case.run(batch, indices=(places[:0],) * 3)
    for tensor in (value, *gradients):
        require_near("without any index", tensor, torch.zeros_like(tensor))


@clause(of_the_call=True)
def indices_said_twice(case: Case) -> None:
    """indices that say everything twice leave the mean and its gradient as they are"""
    require_takes(case, "indices")
    batch = case.batch()
    once = all_pairs(batch.target)
    require_alike("all said twice", case, batch, {"indices": tuple(i.repeat(2) for i in once)}, {"indices": once})


@clause(of_the_call=True)
def reference_is_compared_with(case: Case) -> None:
    """reference= is compared with in place of the batch: with its own self left out by indices the batch is its own
    reference, anchors can be split over calls, and neither order nor names of labels matter"""
    require_takes(case, "reference")
    batch, (others, labels) = case.batch(), case.batch(seed=1)
    reference = (others.detach(), labels)
    itself = {"reference": (batch.output.detach().clone(), batch.target), "indices": all_pairs(batch.target)}
    if not getattr(case.loss, "mines", False):
        require_near("itself as reference", case.loss(*batch, **itself), case.loss(*batch))
    same = {"reference": (batch.output, batch.target)}
    copied = {"reference": (batch.output.detach().clone(), batch.target.clone())}
    require_near("the batch, or a copy, as reference", case.loss(*batch, **same), case.loss(*batch, **copied))
    turned = (reference[0].flip(0), labels.flip(0))
    require_alike("another order", case, batch, {"reference": turned}, {"reference": reference})
    place = SIZE - 1 - torch.arange(SIZE)
    anchors, positive, others_of, negative = all_pairs(labels)
    there = {"reference": reference, "indices": (anchors, positive, others_of, negative)}
    back = {"reference": turned, "indices": (anchors, place[positive], others_of, place[negative])}
    require_alike("another order, which indices follow", case, batch, back, there)
    whole, (gradient,) = case.total(batch, reference=reference)
    renamed, _ = case.total(Batch(batch.output, 2**33 - batch.target), reference=(reference[0], 2**33 - labels))
    require_near("other names", renamed.sum.sum(), whole.sum.sum())
    parts = [case.total(rows_of(batch, rows), reference=reference) for rows in (slice(4), slice(4, None))]
    require_near("sum of anchors in two calls", parts[0][0].sum.sum() + parts[1][0].sum.sum(), whole.sum.sum())
    require_near("gradients of anchors in two calls", torch.cat([part for _, (part,) in parts]), gradient, 1e-7)
    many = case.batch(LARGE)
    few = [case.total(rows_of(many, rows), reference=reference)[0] for rows in (slice(40), slice(40, None))]
    require_near(
        "sum of many anchors in two calls",
        few[0].sum.sum() + few[1].sum.sum(),
        case.total(many, reference=reference)[0].sum.sum(),
    )
    denominators = [torch.as_tensor(part.denominator) for part in (whole, *(part for part, _ in parts))]
    require_near("denominators of anchors in two calls", denominators[1] + denominators[2], denominators[0])


@clause(of_the_call=True)
def reference_in_blocks(case: Case) -> None:
    """beside a reference of any length, in one block and in several, the total is the sum over items, and the gradient
    into both lies between the slopes"""
    require_takes(case, "reference")
    for size in (SIZE, 1, 7, 90):
        batch, other = case.batch(), case.batch(size, seed=size)
        reference = (other.output.detach(), other.target)
        expected, (gradient,) = case.definition(batch, reference=reference)
        for blocks in (contextlib.nullcontext, several_blocks):
            with blocks():
                total, (got,) = case.total(batch, reference=reference)
                mean = case.with_reduction("mean")(*batch, reference=reference)
                beside_a_reference(case, batch, other)
            what = f"beside {size} others{', in several blocks' if blocks is several_blocks else ''}"
            require_near(f"sum {what}", total.sum.sum(), expected.sum.sum())
            require_near(f"mean {what}", mean, total.mean())
            require_near(f"gradient {what}", got, gradient, 1e-7)


def beside_a_reference(case: Case, batch: Batch, other: Batch) -> None:
    """Raise :class:`Broken` unless gradients into the anchors and into a reference lie between the slopes."""
    leaves, rebuild = leaves_of((batch.output, other.output))

    def function(tensors: Any) -> Tensor:
        anchors, others = rebuild(tensors)
        result: Tensor = case.loss(anchors, batch.target, reference=(others, other.target)).sum()
        return result

    if "gradient_everywhere" not in case.loss.exemptions:
        require_between_slopes(f"a reference of {len(other.target)}", function, leaves)


@clause(of_the_call=True)
def parts_in_their_place_add_up(case: Case) -> None:
    """a batch that several processes hold in parts, each compared with all of it, has the sum, the denominator and the
    gradient of the batch, with weights and in several blocks; so it has where each pair is dealt to one of them"""
    part_total = getattr(case.loss, "part_total", None)
    if case.kind not in (EMBEDDINGS, MATCHES) or part_total is None:
        raise NotApplicable("its samples are not compared with one another, or nobody asks it for parts")
    for size in (SIZE, LARGE) if case.is_default else (SIZE,):
        batch = case.batch(size)
        leaves, rebuild = leaves_of(batch.output)
        weight = torch.linspace(0, 2, size, dtype=torch.float64)
        for each in (None, weight):
            expected = case.loss.total(batch.output, batch.target, weight=each)
            gradients = gradients_of(expected.sum, [part for part in tensors_in(batch.output) if part.requires_grad])
            for blocks in (contextlib.nullcontext, several_blocks):
                with blocks():
                    whole, parts = rebuild(leaves), []
                    for rows in (slice(0, 3), slice(3, 3), slice(3, size)):
                        own = rows_of(Batch(whole, batch.target), rows)
                        own_weight = None if each is None else each[rows]
                        parts.append(part_total(*own, own_weight, (whole, batch.target), rows.start))
                    found = {"parts": sum(parts[1:], parts[0])}
                    if case.kind is EMBEDDINGS and each is None and getattr(case.loss, "each_pair_once", False):
                        found["dealt pairs"] = total_of_halves(case, whole, batch.target)
                for name, total in found.items():
                    what = f"{name} of {size} samples{', weighted' if each is not None else ''}"
                    what += ", in several blocks" if blocks is several_blocks else ""
                    require_near(f"sum of {what}", total.sum, expected.sum)
                    counted, wanted = (torch.as_tensor(one.denominator).double() for one in (total, expected))
                    require_near(f"denominator of {what}", counted, wanted)
                    for got, gradient in zip(gradients_of(total.sum, leaves), gradients, strict=True):
                        require_near(f"gradient of {what}", got, gradient, 1e-7)


def total_of_halves(case: Case, output: Tensor, target: Tensor) -> Total:
    """Return the total of a batch from those of two parts of it, and of the pairs that lie between them."""
    first, second = ((output[rows], target[rows]) for rows in (slice(0, 3), slice(3, None)))
    total: Total = case.loss.total(*first) + case.loss.total(*second) + case.loss.total(*first, reference=second)
    return total


def require_alike(what: str, case: Case, batch: Batch, context: dict[str, Any], same: dict[str, Any]) -> None:
    """Raise :class:`Broken` unless two ways to say what is compared have one mean and one gradient."""
    (value, gradients), (expected, others) = case.run(batch, **context), case.run(batch, **same)
    require_near(what, value, expected)
    for gradient, other in zip(gradients, others, strict=True):
        require_near(f"gradient of {what}", gradient, other, 1e-7)


def require_takes(case: Case, name: str) -> None:
    """Raise :class:`NotApplicable` for a loss that takes no such argument."""
    if case.kind is not EMBEDDINGS:
        raise NotApplicable("it takes no labels of a whole batch")
    if name not in inspect.signature(case.loss.forward).parameters:
        raise NotApplicable(f"it takes no {name}")


def all_pairs(labels: Tensor) -> Indices:
    """Return all pairs of a batch as a miner would: (anchor, positive, anchor, negative)."""
    negative = labels.unsqueeze(1) != labels.unsqueeze(0)
    positive = ~negative & ~torch.eye(len(labels), dtype=torch.bool)
    return (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))


def one_triplet_each(labels: Tensor) -> Indices:
    """Return a triplet (anchor, positive, negative) of every sample that has a positive."""
    anchor, positive, _, _ = all_pairs(labels)
    first = torch.cat([anchor.new_ones(1, dtype=torch.bool), anchor[1:] != anchor[:-1]])
    anchor, positive = anchor[first], positive[first]
    return anchor, positive, (labels[anchor].unsqueeze(1) != labels).long().argmax(1)
