"""Three ways to the loss of the batch of all ranks: over items, over parts of the anchors, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from losses.abstract.embedding import EmbeddingLoss
from losses.core.collectives import gathered, tied
from losses.core.errors import InputError
from losses.core.inputs import EMBEDDINGS, MATCHES
from losses.core.labelled import LabelledBatch
from losses.core.loss import Loss
from losses.core.outputs import Pairs, tensors_in
from losses.core.reduction import Total
from losses.distributed.agreement import Sizes, agreed
from losses.distributed.dealing import dealt_total
from losses.distributed.indices import gathered_indices, of_own_anchors
from losses.objective.gradient_norm import GradientNorm
from losses.ops.tiles.sizes import sizes as sizes_in_force

if TYPE_CHECKING:
    from losses.core.collectives import Group
    from losses.objective.weighted_sum import WeightedSumLoss

REFERENCE = ("reference embeddings", "reference labels")
Way = Literal["items", "parts", "repeated"]


class Given(NamedTuple):
    """What a rank passes beside output and target, and to which group it belongs."""

    indices: tuple[Tensor, ...] | None
    weight: Tensor | None
    reference: tuple[Tensor, Tensor] | None
    normalizer: Tensor | float | None
    group: Group

    def names(self) -> dict[str, Any]:
        """Return what is passed, by name."""
        return {name: value for name, value in self._asdict().items() if name != "group" and value is not None}


def way_of(loss: nn.Module, output: Any) -> Way:
    """Return how a loss is made over all ranks: its items are added up where they are of samples; where samples are
    compared with one another every rank takes its own anchors, if the loss can, or else all of them."""
    if isinstance(loss, GradientNorm):
        return "items"
    if not isinstance(loss, Loss):
        return "repeated"
    kind = next((kind for kind in loss.inputs if kind.claims(output)), None)
    if kind is None:
        return "items"  # and the loss will say what it takes
    whole = kind in (EMBEDDINGS, MATCHES)
    if not isinstance(loss, EmbeddingLoss):
        return "repeated" if whole else "items"
    if not loss.compares(output):
        return "items"
    return "parts" if whole else "repeated"


def over_items(loss: Loss | GradientNorm, output: Any, target: Any, given: Given) -> Total:
    """Return the total of the items of all ranks."""
    total, refusal = None, None
    try:
        if isinstance(loss, Loss):
            require_mean(loss, given)
        total = loss.total(output, target, **given._replace(normalizer=None).names())
    except Exception as error:
        refusal = error
    found = {} if total is None else {"sum": total.sum.detach().reshape(1, -1)}
    agreed(found, called(loss, output, given, "weight"), device_of(output, given.group), given.group, refusal)
    assert total is not None
    return total.all_reduce(given.group)


def over_parts(loss: EmbeddingLoss, output: Any, target: Any, given: Given) -> Total:
    """Return the total of the anchors of all ranks, each compared with the rows of all of them; of a small batch every
    rank makes all of it."""
    inputs, refusal = {}, None
    try:
        require_mean(loss, given)
        inputs = accepted_inputs(loss, output, target, given)
    except Exception as error:
        refusal = error
    sizes = agreed(inputs, called(loss, output, given), device_of(output, given.group), given.group, refusal)
    if is_small(loss, given, sum(sizes.of("embeddings"))):
        rows = rows_of_all(inputs, sizes, given.group)
        return loss._on_accepted(loss._total, whole(rows), rows.get("labels"), rows.get("weight"))
    roles = ("embeddings", "second", "labels") if given.reference is None else REFERENCE
    present = {role: part for role in roles if (part := inputs.get(role)) is not None}
    everyone = gathered(list(present.values()), sizes.of(next(iter(present))), given.group)
    rows = dict(zip(present, everyone, strict=True))
    total = total_of_anchors(loss, output, inputs.get("labels"), given, sizes, rows).all_reduce(given.group)
    if isinstance(output, Tensor):
        loss.remember(compared_with(inputs, given), compared_with(rows, given))
    return Total(tied(total.sum, [part for part in rows.values() if part.requires_grad]), total.denominator)


def is_small(loss: EmbeddingLoss, given: Given, count: int) -> bool:
    """Return whether so many rows of all ranks are so few that each rank had better look at all their pairs: that takes
    no gradient of others and no sum over ranks. What a loss remembers is of its own rank."""
    alone = given.reference is None and given.indices is None and type(loss).remember is EmbeddingLoss.remember
    return alone and count * count <= sizes_in_force().on_every_rank


def compared_with(parts: Mapping[str, Any], given: Given) -> tuple[Tensor, Tensor]:
    """Return embeddings and labels that anchors are compared with, of what is known by its role."""
    role = "" if given.reference is None else "reference "
    return parts[f"{role}embeddings"], parts[f"{role}labels"]


def total_of_anchors(
    loss: EmbeddingLoss, output: Any, labels: Tensor | None, given: Given, sizes: Sizes, rows: dict[str, Tensor]
) -> Total:
    """Return the total of the anchors of this rank, from the rows of all ranks by their roles."""
    start, count = sizes.start("embeddings"), sum(sizes.of("embeddings"))
    indices = given.indices
    if given.reference is not None:
        everyone = rows["reference embeddings"], rows["reference labels"]
        if indices is not None:
            indices = of_own_anchors(indices, start, len(output), count, len(everyone[0]), given.group)
        context = {"reference": everyone} | ({} if indices is None else {"indices": indices})
        return loss._on_accepted(loss._total, output, labels, given.weight, context)
    if isinstance(output, tuple):
        return loss.part_total(output, None, given.weight, (Pairs(rows["embeddings"], rows["second"]), None), start)
    if indices is not None:
        indices = of_own_anchors(indices, start, len(output), count, count, given.group)
    everyone = rows["embeddings"], rows["labels"]
    total = dealt_total(loss, output, labels, given.weight, everyone, sizes, given.group) if indices is None else None
    return loss.part_total(output, labels, given.weight, everyone, start, indices) if total is None else total


def over_terms(
    loss: WeightedSumLoss,
    output: Any,
    target: Any,
    given: Given,
    beside: Mapping[str, Any],
    of_term: Callable[..., Tensor],
) -> Tensor:
    """Return the weighted sum of what every loss comes to over all ranks, ``of_term(loss, output, target, weight,
    beside)``; penalties on parameters are the same on all of them."""
    refusal = None
    try:
        loss.require_parts(output, target, beside)
        if beyond := given.names().keys() - {"weight"}:
            raise InputError(f"a weighted sum takes no {', '.join(sorted(beyond))} over several ranks; leave it out")
    except Exception as error:
        refusal = error
    agreed({}, called(loss, output, given), device_of(output, given.group), given.group, refusal)
    return loss.combined(output, target, given.weight, beside, lambda *term: of_term(*term, beside))


def repeatedly(loss: nn.Module, output: Any, target: Any, given: Given) -> Tensor:
    """Return the loss of what all ranks have, which each of them computes whole."""
    inputs: dict[str, Tensor | None] = {}
    refusal: Exception | None = None
    try:
        if isinstance(loss, Loss):
            require_mean(loss, given)
            inputs = accepted_inputs(loss, output, target, given)
        else:
            require_only_embeddings(loss, output, given)
            inputs = {"embeddings": output, "labels": target}
            if given.reference is not None:
                inputs |= {"reference embeddings": given.reference[0], "reference labels": given.reference[1]}
    except Exception as error:
        refusal = error
    sizes = agreed(inputs, called(loss, output, given), device_of(output, given.group), given.group, refusal)
    rows = rows_of_all(inputs, sizes, given.group)
    context: dict[str, Any] = {}
    if given.reference is not None:
        context["reference"] = rows["reference embeddings"], rows["reference labels"]
    if given.indices is not None:
        others = rows.get("reference embeddings", rows["embeddings"])
        own = sizes.start("embeddings"), len(output), len(rows["embeddings"]), len(others)
        context["indices"] = gathered_indices(given.indices, *own, given.group)
    if isinstance(loss, Loss):
        return loss._reduced(whole(rows), rows.get("labels"), rows.get("weight"), given.normalizer, context)
    beside = [context["indices"]] if "indices" in context else [None] if "reference" in context else []
    value: Tensor = loss(rows["embeddings"], rows.get("labels"), *beside, *context.get("reference", ()))
    return value


def rows_of_all(inputs: Mapping[str, Tensor | None], sizes: Sizes, group: Group) -> dict[str, Tensor]:
    """Return what all ranks have, by its role, where every rank makes the same of it; what has as many rows travels
    together."""
    together: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for role, part in inputs.items():
        if part is not None:
            together.setdefault(tuple(sizes.of(role)), {})[role] = part
    rows: dict[str, Tensor] = {}
    for counts, parts in together.items():
        rows |= zip(parts, gathered(list(parts.values()), counts, group, alike=True), strict=True)
    return rows


def whole(rows: Mapping[str, Tensor]) -> Any:
    """Return what the model made on all ranks."""
    return Pairs(rows["embeddings"], rows["second"]) if "second" in rows else rows["embeddings"]


def accepted_inputs(loss: Loss, output: Any, target: Any, given: Given) -> dict[str, Tensor | None]:
    """Return what is gathered of a batch that the loss accepts, by its role."""
    context = None if given.reference is None else {"reference": given.reference}
    batch, target, weight = loss._accepted(output, target, given.weight, context)
    first, second = (output, None) if isinstance(output, Tensor) else output
    inputs = {"embeddings": first, "second": second, "labels": target, "weight": weight}
    if isinstance(batch, LabelledBatch) and batch.has_reference:
        inputs |= {"reference embeddings": batch.others, "reference labels": batch.other_labels}
    return inputs


def require_mean(loss: Loss, given: Given) -> None:
    """Raise unless a normalizer has a mean to replace the denominator of."""
    if given.normalizer is not None:
        loss._accepted_normalizer(given.normalizer)


def require_only_embeddings(loss: nn.Module, output: Any, given: Given) -> None:
    """Raise unless a loss of others gets what it knows."""
    name = type(loss).__name__
    if not isinstance(output, Tensor):
        raise InputError(f"{name} takes a tensor of embeddings under GlobalBatch, got {type(output).__name__}")
    if given.weight is not None or given.normalizer is not None:
        raise InputError(
            f"{name} is no loss of this package and knows no weight or normalizer; leave them out, or build it with "
            f"losses.create('pml.{name}')"
        )


def called(loss: nn.Module, output: Any, given: Given, *further: str) -> str:
    """Return what ranks must have in common beside their batches; a rank that passes no indices would not exchange
    them, and the others wait for it."""
    name = repr(loss) if isinstance(loss, Loss) else type(loss).__name__
    said = (
        f"{'without' if getattr(given, each) is None else 'with'} {each}"
        for each in ("indices", "normalizer", *further)
    )
    return f"{name} of {type(output).__name__} {' and '.join(said)}"


def device_of(output: Any, group: Group) -> torch.device:
    """Return the device that the group can reach, that of the output if it has one."""
    tensors = tensors_in(output)
    if tensors:
        return tensors[0].device
    return torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
