"""Kinds of input of metric learning: labelled batches, pairs, matching rows and triplets of embeddings."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from losses.core import checks as check
from losses.core.errors import InputError
from losses.core.inputs.kind import (
    INTEGERS,
    Batch,
    Form,
    Kind,
    in_plain_tuple,
    masked,
    normal,
    retyped,
    signs,
    yes_and_no,
)
from losses.core.labelled import LabelledBatch, labelled_batch
from losses.core.outputs import Pairs, Triplets
from losses.core.precision import COMPUTED_IN, matched, widened
from losses.core.reduction import hides_nothing, require_weight_fits


class Embeddings(Kind):
    """A labelled batch; the loss makes its pairs or triplets from the labels, from ``indices`` or with a ``reference``
    set."""

    name, returns = "EMBEDDINGS", "embeddings"
    output_text, target_text = "embeddings (N, D)", "integer labels (N,)"
    context = ("indices", "reference", "place")

    def accept(
        self,
        loss: Any,
        output: Any,
        target: Any,
        indices: Any = None,
        reference: Any = None,
        place: int | None = None,
    ) -> Batch:
        embeddings, labels = output, target
        if is_labelled(embeddings, labels):
            return Batch(labelled_batch(embeddings, labels, indices, reference, place), labels)
        check.require_tensor(embeddings=embeddings)
        if embeddings.ndim == 3:
            refuse_views(embeddings, labels)
        if labels is None:
            refuse_without_labels(loss, embeddings)
        check.require_tensor(labels=labels)
        check.require_rank(2, "(N, D)", embeddings=embeddings)
        check.require_rank(1, "(N,)", labels=labels)
        check.require_floating(embeddings=embeddings)
        check.require_integer(labels=labels)
        check.require_same_length(embeddings=embeddings, labels=labels)
        labels = check.beside(labels, embeddings, "labels")
        labels = labels if labels.dtype is torch.long else labels.long()
        return Batch(labelled_batch(widened(embeddings), labels, indices, reference, place), labels)

    def inspect(self, loss: Any, output: LabelledBatch, target: Tensor) -> None:
        check.require_finite(embeddings=output.anchors)
        if output.has_reference:
            check.require_finite(reference_embeddings=output.others)

    def mask(self, loss: Any, output: LabelledBatch, target: Tensor, weight: Tensor) -> Batch:
        check.require_rank(1, "(N,), one weight per anchor", weight=weight)
        # an anchor of weight 0 is still another anchor's neighbour, so nothing is masked
        require_weight_fits(weight, target.shape)
        return Batch(output, target)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        embeddings, labels = batch
        alike = embeddings[:1].expand_as(embeddings)
        nobody = torch.arange(len(labels))
        return {
            "equal_points": [Batch(alike, labels), Batch(torch.cat([embeddings[:2]] * (len(labels) // 2)), labels)],
            "near_duplicates": [Batch(alike + 1e-4 * embeddings, labels)],
            "zero_vectors": [
                Batch(torch.zeros_like(embeddings), labels),
                Batch(embeddings * (nobody % 2).unsqueeze(1), labels),
            ],
            "one_class": [Batch(embeddings, torch.zeros_like(labels))],
            "every_label_different": [Batch(embeddings, nobody)],
        }

    def regimes(self, loss: Any, batch: Batch) -> dict[str, Batch]:
        embeddings, labels = batch
        some = embeddings[: len(labels) // 2]
        return {
            **super().regimes(loss, batch),
            "with duplicates": Batch(torch.cat([some, some, embeddings[2 * len(some) :]]), labels),
            "two large classes": Batch(embeddings, torch.arange(len(labels)) % 2),
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(at_two_scales(generator, size), uneven_labels(generator, size))

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        _, labels = batch.target.unique(return_inverse=True)
        apart = max(1, 127 // max(1, int(labels.max())))  # as large as the narrowest dtype can say
        return {
            "labels": retyped(Batch(batch.output, labels * apart), *INTEGERS),
            "two classes": retyped(Batch(batch.output, labels % 2), torch.bool),
        }


class PairInput(Kind):
    """Pairs of embeddings that belong together or do not."""

    name, returns, container = "PAIRS", "pairs", Pairs
    output_text, target_text = "Pairs(first, second), each (N, D)", "same or different (N,): positive where above 0"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        pairs = Pairs(*output)
        if are_alike(*pairs) and is_same_or_different(target, pairs.first):
            return Batch(pairs, target)
        check.require_tensor(first=pairs.first, second=pairs.second, target=target)
        check.require_rank(2, "(N, D)", first=pairs.first)
        check.require_same_shape(first=pairs.first, second=pairs.second)
        check.require_floating(first=pairs.first, second=pairs.second)
        check.require_rank(1, "(N,)", target=target)
        check.require_same_length(first=pairs.first, target=target)
        check.require_real(target=target)
        first = widened(pairs.first)
        same = target if target.dtype is torch.bool else target.to(first.dtype)
        return Batch(Pairs(first, matched(pairs.second, first)), same)

    def inspect(self, loss: Any, output: Pairs, target: Tensor) -> None:
        check.require_finite(first=output.first, second=output.second, target=target)
        check.require_same_or_different(target)

    def mask(self, loss: Any, output: Pairs, target: Tensor, weight: Tensor) -> Batch:
        require_weight_fits(weight, target.shape)
        if hides_nothing(weight):
            return Batch(output, target)
        return Batch(Pairs(*(masked(part, weight) for part in output)), masked(target, weight))

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        (first, second), same = batch
        zeros = torch.zeros_like(first)
        return {
            "equal_points": [Batch(Pairs(first, first), same)],
            "near_duplicates": [Batch(Pairs(first, first + 1e-4), same)],
            "zero_vectors": [Batch(Pairs(zeros, zeros), same), Batch(Pairs(zeros, second), same)],
            "one_class": [Batch(Pairs(first, second), torch.ones_like(same))],
            "every_label_different": [Batch(Pairs(first, second), torch.zeros_like(same))],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        first, apart = normal(generator, size, 4), at_two_scales(generator, size)
        second = (first + apart).detach().requires_grad_()
        return Batch(Pairs(first, second), torch.randperm(size, generator=generator) % 2 == 0)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return {"same or different": yes_and_no(batch) + signs(batch), **in_plain_tuple(batch)}


class MatchInput(Kind):
    """Two embeddings of each sample, of which every one finds its own among all the others."""

    name, returns, container, takes_target = "MATCHES", "pairs", Pairs, False
    output_text, target_text = "Pairs(first, second) of matching rows, each (N, D)", "None"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        pairs = Pairs(*output)
        if target is None and are_alike(*pairs):
            return Batch(pairs, None)
        check.require_tensor(**pairs._asdict())
        check.require_rank(2, "(N, D)", first=pairs.first)
        check.require_same_shape(**pairs._asdict())
        check.require_floating(**pairs._asdict())
        if target is not None:
            raise InputError(
                f"matching rows say themselves what belongs together: pass None as target, got {check.shown(target)}; "
                "for pairs that are the same or different choose another loss, such as 'contrastive'"
            )
        first = widened(pairs.first)
        return Batch(Pairs(first, matched(pairs.second, first)), None)

    def inspect(self, loss: Any, output: Pairs, target: None) -> None:
        check.require_finite(**output._asdict())

    def mask(self, loss: Any, output: Pairs, target: None, weight: Tensor) -> Batch:
        check.require_rank(1, "(N,), one weight per row of the pairs", weight=weight)
        # a row of weight 0 is still a negative of the others, so nothing is masked
        require_weight_fits(weight, output.first.shape[:1])
        return Batch(output, None)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        first, second = batch.output
        zeros, alike = torch.zeros_like(first), first[:1].expand_as(first)
        return {
            "equal_points": [
                Batch(Pairs(first, first), None),
                Batch(Pairs(alike, alike), None),
                Batch(Pairs(alike, second), None),
            ],
            "near_duplicates": [
                Batch(Pairs(first, first + 1e-4), None),
                Batch(Pairs(alike + 1e-4 * first, alike + 1e-4 * second), None),
            ],
            "zero_vectors": [Batch(Pairs(zeros, zeros), None), Batch(Pairs(zeros, second), None)],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        return Batch(Pairs(normal(generator, size, 4), normal(generator, size, 4)), None)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return in_plain_tuple(batch)


def is_labelled(embeddings: object, labels: object) -> bool:
    """Return whether embeddings and labels are as all losses take them."""
    if not (isinstance(embeddings, Tensor) and isinstance(labels, Tensor) and are_alike(embeddings)):
        return False
    if labels.dtype is not torch.long or labels.ndim != 1:
        return False
    return labels.shape[0] == embeddings.shape[0] and labels.device == embeddings.device


def are_alike(first: object, *others: object) -> bool:
    """Return whether sets of embeddings are as all losses take them: nothing needs to be asked one by one then."""
    if not isinstance(first, Tensor) or first.ndim != 2 or first.dtype not in COMPUTED_IN:
        return False
    return all(isinstance(each, Tensor) and each.shape == first.shape and each.dtype is first.dtype for each in others)


def is_same_or_different(target: object, embeddings: Tensor) -> bool:
    """Return whether a target says of every embedding, as losses take it, whether it belongs to its counterpart."""
    if not isinstance(target, Tensor) or target.shape != embeddings.shape[:1]:
        return False
    return target.dtype is torch.bool or target.dtype is embeddings.dtype


class TripletInput(Kind):
    """Anchors, each with one embedding of its own class and one of another."""

    name, returns, container, takes_target = "TRIPLETS", "triplets", Triplets, False
    output_text, target_text = "Triplets(anchor, positive, negative), each (N, D)", "None"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        triplets = Triplets(*output)
        if target is None and are_alike(*triplets):
            return Batch(triplets, None)
        check.require_tensor(**triplets._asdict())
        check.require_rank(2, "(N, D)", anchor=triplets.anchor)
        check.require_same_shape(**triplets._asdict())
        check.require_floating(**triplets._asdict())
        if target is not None:
            raise InputError(
                f"triplets say themselves what belongs together: pass None as target, got {check.shown(target)}"
            )
        anchor = widened(triplets.anchor)
        return Batch(Triplets(anchor, matched(triplets.positive, anchor), matched(triplets.negative, anchor)), None)

    def inspect(self, loss: Any, output: Triplets, target: None) -> None:
        check.require_finite(**output._asdict())

    def mask(self, loss: Any, output: Triplets, target: None, weight: Tensor) -> Batch:
        require_weight_fits(weight, output.anchor.shape[:1])
        if hides_nothing(weight):
            return Batch(output, None)
        return Batch(Triplets(*(masked(part, weight) for part in output)), None)

    def edges(self, loss: Any, batch: Batch) -> dict[str, list[Batch]]:
        anchor, positive, negative = batch.output
        zeros = torch.zeros_like(anchor)
        return {
            "equal_points": [
                Batch(Triplets(anchor, anchor, anchor), None),
                Batch(Triplets(anchor, positive, anchor), None),
            ],
            "near_duplicates": [Batch(Triplets(anchor, anchor + 1e-4, anchor - 1e-4), None)],
            "zero_vectors": [
                Batch(Triplets(zeros, zeros, zeros), None),
                Batch(Triplets(zeros, positive, negative), None),
            ],
        }

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
        anchor, near, far = normal(generator, size, 4), at_two_scales(generator, size), at_two_scales(generator, size)
        return Batch(Triplets(anchor, *((anchor + apart).detach().requires_grad_() for apart in (near, far))), None)

    def encodings(self, loss: Any, batch: Batch) -> dict[str, list[Form]]:
        return in_plain_tuple(batch)


def at_two_scales(generator: torch.Generator, size: int) -> Tensor:
    """Return embeddings ``(N, 4)``, some of them within usual margins of one another and some far beyond."""
    scale = torch.where(torch.randperm(size, generator=generator) % 2 == 0, 0.2, 1.0).double()
    return (normal(generator, size, 4) * scale.unsqueeze(1)).detach().requires_grad_()


def uneven_labels(generator: torch.Generator, size: int) -> Tensor:
    """Return labels of classes of 2, 1, 3 and up to 8 samples, in any order, the least of them -1."""
    largest = max(2, min(8, size // 3))
    counts = torch.tensor([2, 1, 3, largest]).repeat(1 + size // (6 + largest))
    classes = torch.randperm(len(counts), generator=generator).repeat_interleave(counts)[:size]
    _, places = torch.unique(classes, return_inverse=True)
    shuffled: Tensor = places[torch.randperm(size, generator=generator)] - 1
    return shuffled


def refuse_views(embeddings: Tensor, labels: Any) -> NoReturn:
    """Refuse several embeddings per sample, (N, views, D), and say how they become rows with a label each."""
    samples, views = embeddings.shape[:2]
    if isinstance(labels, Tensor) and labels.ndim == 2:
        each = "labels.flatten()"
    else:
        each = f"{f'torch.arange({samples})' if labels is None else 'labels'}.repeat_interleave({views})"
    raise InputError(
        f"embeddings must have 2 dimensions (N, D), got {check.shown(embeddings)}; if these are {views} views of each "
        f"of {samples} samples, flatten them and give each row its label: embeddings.flatten(0, 1), {each}"
    )


def refuse_without_labels(loss: Any, embeddings: Tensor) -> NoReturn:
    """Refuse a batch without labels, and say what the loss takes without."""
    unlabelled = [f"losses.{kind.output_text}" for kind in loss.inputs if not kind.takes_target]
    otherwise = (
        f"without labels the loss takes {' or '.join(unlabelled)}"
        if unlabelled
        else "two views of each sample, torch.cat([first, second]), have the labels torch.arange(len(first)).repeat(2)"
    )
    raise InputError(
        f"{loss.spec.name} on embeddings {tuple(embeddings.shape)} needs integer labels (N,), got None; pass them as "
        f"target, or: {otherwise}"
    )
