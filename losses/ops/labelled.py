"""Labelled batches: what each embedding is compared with, and which comparisons count as the same class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from losses.core.checks import require_floating, require_integer, require_rank, require_same_length, require_tensor, shown
from losses.core.errors import InputError
from losses.core.inputs import matched

Indices = tuple[Tensor, Tensor, Tensor] | tuple[Tensor, Tensor, Tensor, Tensor]
Reference = tuple[Tensor, Tensor]


class Comparison(NamedTuple):
    """Anchors ``(N, D)``, what they are compared with ``(M, D)``, and ``(N, M)``: who is of the same and who of another class."""

    anchors: Tensor
    others: Tensor
    positive: Tensor
    negative: Tensor


def comparison(embeddings: Tensor, labels: Tensor, reference: Reference | None = None) -> Comparison:
    """Return what a labelled batch is compared with: itself without each anchor's own self, or a reference set."""
    if reference is None:
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        itself = torch.eye(len(labels), dtype=torch.bool, device=same.device)
        return Comparison(embeddings, embeddings, same & ~itself, ~same)
    others, other_labels = reference
    require_tensor(reference_embeddings=others, reference_labels=other_labels)
    require_rank(2, "(M, D)", reference_embeddings=others)
    require_rank(1, "(M,)", reference_labels=other_labels)
    require_floating(reference_embeddings=others)
    require_integer(reference_labels=other_labels)
    require_same_length(reference_embeddings=others, reference_labels=other_labels)
    if others.shape[1] != embeddings.shape[1]:
        raise InputError(f"reference embeddings have {others.shape[1]} dimensions, the embeddings {embeddings.shape[1]}; they must be the same")
    same = labels.unsqueeze(1) == other_labels.to(labels.device).unsqueeze(0)
    return Comparison(embeddings, matched(others, embeddings).to(embeddings.device), same, ~same)


def pairs_of(indices: Indices, compared: Comparison) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return indices as pairs ``(anchor, positive, anchor, negative)``; a triplet is a positive and a negative pair."""
    checked = _in_range(indices, compared)
    if len(checked) == 3:
        anchor, positive, negative = checked
        return anchor, positive, anchor, negative
    return checked


def triplets_of(indices: Indices, compared: Comparison) -> tuple[Tensor, Tensor, Tensor]:
    """Return indices as triplets ``(anchor, positive, negative)``: every positive with every negative pair of one anchor."""
    checked = _in_range(indices, compared)
    if len(checked) == 3:
        return checked
    anchor, positive, other_anchor, negative = checked
    first, second = torch.nonzero(anchor.unsqueeze(1) == other_anchor.unsqueeze(0), as_tuple=True)
    return anchor[first], positive[first], negative[second]


def _in_range(indices: Indices, compared: Comparison) -> Indices:
    """Return the indices on the embeddings' device, or raise where they do not point into the batch."""
    if not isinstance(indices, tuple) or len(indices) not in (3, 4):
        raise InputError(
            f"indices must be a tuple (anchor, positive, negative) or (anchor, positive, anchor, negative), "
            f"as miners return it, got {shown(indices)}"
        )
    names = ("anchor", "positive", "negative") if len(indices) == 3 else ("anchor", "positive", "negative_anchor", "negative")
    for name, index in zip(names, indices, strict=True):
        require_tensor(**{name: index})
        require_integer(**{name: index})
        require_rank(1, "of indices", **{name: index})
        size = len(compared.anchors) if name.endswith("anchor") else len(compared.others)
        if index.numel() and not torch.compiler.is_compiling() and bool(((index < 0) | (index >= size)).any()):
            raise InputError(f"indices: {name} points at {int(index.max())} (least {int(index.min())}) in a batch of {size}")
    parts = tuple(index.to(compared.anchors.device).long() for index in indices)
    for index in parts[1:2] if len(parts) == 4 else parts[1:]:
        require_same_length(anchor=parts[0], **{"positive or negative": index})
    if len(parts) == 4:
        require_same_length(negative_anchor=parts[2], negative=parts[3])
    return parts  # type: ignore[return-value]  # three or four, as given
