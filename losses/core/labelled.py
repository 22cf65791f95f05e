"""Labelled batches as metric losses take them: what each embedding is compared with, and what counts as the same
class."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling, is_exporting

from losses.core.checks import (
    beside,
    require_floating,
    require_integer,
    require_rank,
    require_same_length,
    require_tensor,
    shown,
)
from losses.core.device import on_cpu
from losses.core.errors import InputError
from losses.core.outputs import Pairs


class LabelledBatch(NamedTuple):
    """Anchors ``(N, D)`` and what they are compared with ``(M, D)``, each with its labels.

    Without a reference set the others are the anchors themselves, and no anchor is compared with its own self. Nor is
    it where the anchors are a part of the reference, as the rows of one process are of those of all of them.
    """

    anchors: Tensor
    others: Tensor
    labels: Tensor
    other_labels: Tensor
    indices: tuple[Tensor, ...] | None
    has_reference: bool
    place: int | None = None
    """Row of a reference at which the anchors stand, where they are a part of it."""

    @property
    def itself(self) -> Tensor | None:
        """Where an anchor meets its own self ``(N, M)``; ``None`` where it never does."""
        if self.has_reference and self.place is None:
            return None
        columns = torch.arange(self.other_labels.shape[0], device=self.labels.device)
        return (columns[: self.labels.shape[0]] + (self.place or 0)).unsqueeze(1) == columns

    @property
    def positive(self) -> Tensor:
        """Who is of the same class as whom, ``(N, M)``, nobody with itself."""
        same, itself = ~self.negative, self.itself
        return same if itself is None else same & ~itself

    @property
    def negative(self) -> Tensor:
        """Who is of another class than whom, ``(N, M)``."""
        return self.labels.unsqueeze(1) != self.other_labels.unsqueeze(0)

    def occurrences(self) -> tuple[Tensor, Tensor]:
        """Return how often each pair ``(N, M)`` is meant as a positive and as a negative one: at most once, unless
        indices repeat it."""
        if self.indices is None:
            return self.positive.long(), self.negative.long()
        height, width = self.anchors.shape[0], self.others.shape[0]
        nothing = torch.zeros(height * width, dtype=torch.long, device=self.anchors.device)
        anchor, positive, negative_anchor, negative = self.pairs()
        # where no CPU computes index_put would sort them first
        pairs = (anchor * width + positive, negative_anchor * width + negative)
        found = (nothing.scatter_add(0, pair, torch.ones_like(pair)).view(height, width) for pair in pairs)
        return next(found), next(found)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the indices as pairs ``(anchor, positive, anchor, negative)``; a triplet is a positive and a negative
        pair."""
        assert self.indices is not None
        if len(self.indices) == 3:
            anchor, positive, negative = self.indices
            return anchor, positive, anchor, negative
        first, positive, second, negative = self.indices
        return first, positive, second, negative

    def triplets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices as triplets ``(anchor, positive, negative)``: every positive with every negative pair of
        one anchor."""
        assert self.indices is not None
        if len(self.indices) == 3:
            anchor, positive, negative = self.indices
            return anchor, positive, negative
        first, positive, second, negative = self.indices
        if is_compiling():  # lengths that nobody knows are known to come from here
            one, other = torch.nonzero(first.unsqueeze(1) == second.unsqueeze(0), as_tuple=True)
            return first[one], positive[one], negative[other]
        one, rival = Rivals(second, negative, self.anchors.shape[0]).beside(first)
        return first[one], positive[one], rival


class Rivals:
    """The negatives of every anchor, from negative pairs in any order.

    Args:
        anchor, negative: of every pair ``(Q,)``.
        anchors: how many there are.
    """

    def __init__(self, anchor: Tensor, negative: Tensor, anchors: int) -> None:
        in_order = bool((anchor[1:] >= anchor[:-1]).all())
        self._negative = negative if in_order else negative[anchor.argsort(stable=True)]
        self._number = torch.bincount(anchor, minlength=anchors)
        self._start = self._number.cumsum(0) - self._number

    def counts(self, anchor: Tensor) -> Tensor:
        """Return how many negatives there are of each of these anchors."""
        return self._number[anchor]

    def beside(self, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Return all negatives of each of these anchors, one anchor after the other: the places of the anchors, and
        the negatives."""
        number = self._number[anchor]
        place = torch.arange(len(anchor), device=anchor.device).repeat_interleave(number)
        shift = self._start[anchor] - (number.cumsum(0) - number)  # from the place of a triplet to its negative's
        return place, self._negative[shift[place] + torch.arange(len(place), device=anchor.device)]


def labelled_batch(
    embeddings: Tensor, labels: Tensor, indices: Any = None, reference: Any = None, place: int | None = None
) -> LabelledBatch:
    """Return a labelled batch with what it is compared with.

    Args:
        embeddings: ``(N, D)``, checked.
        labels: ``(N,)``, checked.
        indices: a miner's tuple (anchor, positive, negative) or (anchor, positive, anchor, negative).
        reference: (embeddings ``(M, D)``, labels ``(M,)``) to compare with instead of the batch itself.
        place: row of the reference at which the batch stands, if it is a part of it.
    """
    others, other_labels = (embeddings, labels) if reference is None else checked_reference(embeddings, reference)
    if indices is not None:
        indices = checked_indices(indices, embeddings, others)
    return LabelledBatch(embeddings, others, labels, other_labels, indices, reference is not None, place)


def views_of(pairs: Pairs) -> LabelledBatch:
    """Return matching rows as one batch in which every sample is a class of two."""
    labels = torch.arange(pairs.first.shape[0], device=pairs.first.device).repeat(2)
    return labelled_batch(torch.cat(pairs), labels)


def checked_reference(embeddings: Tensor, reference: Any) -> tuple[Tensor, Tensor]:
    """Return a reference set in the dtype and on the device of the embeddings, or raise where it does not fit them."""
    others, labels = require_reference(reference)
    require_tensor(reference_embeddings=others, reference_labels=labels)
    require_rank(2, "(M, D)", reference_embeddings=others)
    require_rank(1, "(M,)", reference_labels=labels)
    require_floating(reference_embeddings=others)
    require_integer(reference_labels=labels)
    require_same_length(reference_embeddings=others, reference_labels=labels)
    require_same_dimension(embeddings, others)
    others, labels = (
        beside(part, embeddings, f"reference_{name}") for part, name in ((others, "embeddings"), (labels, "labels"))
    )
    return others.to(embeddings.dtype), labels.long()


def require_reference(reference: Any) -> tuple[Any, Any]:
    """Return a reference set, which is a tuple of embeddings and labels, or raise an InputError."""
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise InputError(f"reference must be a tuple (embeddings, labels), got {shown(reference)}")
    return reference[0], reference[1]


def require_same_dimension(embeddings: Tensor, others: Tensor) -> None:
    """Raise unless a reference lies in the space of the embeddings."""
    if others.shape[1] != embeddings.shape[1]:
        raise InputError(
            f"reference embeddings have {others.shape[1]} dimensions, the embeddings {embeddings.shape[1]}; they must "
            "agree, so let one network make both"
        )


def checked_indices(indices: Any, embeddings: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    """Return a miner's indices on the device of the embeddings, or raise where they do not point into the batch."""
    if not isinstance(indices, tuple | list) or len(indices) not in (3, 4):
        raise InputError(
            "indices must be a tuple (anchor, positive, negative) or (anchor, positive, anchor, negative) as miners "
            "return it, "
            f"got {shown(indices)}"
        )
    names = (
        ("anchor", "positive", "negative")
        if len(indices) == 3
        else ("anchor", "positive", "negative_anchor", "negative")
    )
    named: dict[str, Tensor] = dict(zip(names, indices, strict=True))
    require_tensor(**named)
    require_integer(**named)
    named = {name: beside(index, embeddings, name).long() for name, index in named.items()}
    require_rank(1, "of indices", **named)
    positives = {name: index for name, index in named.items() if len(indices) == 3 or name in ("anchor", "positive")}
    require_same_length(**positives)
    if len(indices) == 4:
        require_same_length(negative_anchor=named["negative_anchor"], negative=named["negative"])
    # an index out of range ends a CUDA process, so it is worth one look at the values
    looked_at = {} if is_compiling() else {name: index for name, index in named.items() if index.numel()}
    sizes = {name: len(embeddings if name.endswith("anchor") else others) for name in looked_at}
    if on_cpu(embeddings) or not point_inside(looked_at, sizes):
        for name, index in looked_at.items():
            least, most = (int(end) for end in index.aminmax())
            if least < 0 or most >= sizes[name]:
                raise InputError(
                    f"indices: {name} runs from {least} to {most}, the batch it points into holds {sizes[name]}"
                )
    return tuple(named.values())


def point_inside(indices: dict[str, Tensor], sizes: dict[str, int]) -> bool:
    """Return whether indices point into sets of these sizes, read at once, as to read means to wait."""
    if not indices:
        return True
    into = {size: torch.cat([indices[name] for name in sizes if sizes[name] == size]) for size in set(sizes.values())}
    ends = torch.stack([end for index in into.values() for end in index.aminmax()]).tolist()
    return min(ends) >= 0 and all(most < size for most, size in zip(ends[1::2], into, strict=True))


def each_pair_once(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the two indices of every unordered pair of a batch: (0, 1), (0, 2), ..., (1, 2), ..."""
    rows = torch.arange(size, device=device)
    if is_exporting():  # a program would not take batches of so few that there is one pair, or none
        first, second = (rows.unsqueeze(1) < rows).nonzero().unbind(1)
        return first, second
    later = size - 1 - rows  # how many come after each
    pairs = size * (size - 1) // 2
    first = rows.repeat_interleave(later, output_size=pairs)  # triu_indices would be compiled again for every size
    second = torch.arange(pairs, device=device) - (later.cumsum(0) - later)[first] + first + 1
    return first, second
