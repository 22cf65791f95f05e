"""GlobalBatch: a loss over the batch of all ranks, with the gradient of one process that holds the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from losses.core.collectives import in_a_group, ranks_apart_are_meant
from losses.core.errors import ConfigError, InputError
from losses.core.loss import Loss
from losses.distributed.ways import Given, over_items, over_parts, over_terms, repeatedly, way_of
from losses.objective.gradient_norm import GradientNorm
from losses.objective.weighted_sum import WeightedSumLoss, given_to

if TYPE_CHECKING:
    from losses.core.collectives import Group


class GlobalBatch(nn.Module):
    """A loss over the batch of all ranks of a ``torch.distributed`` job.

    Losses whose items are samples divide by the denominator of all ranks. Losses that compare the samples of a batch
    with one another compare those of each rank with those of all: embeddings, labels and a ``reference`` are gathered,
    each rank computes what its own anchors cost, and gradients for the points of others go back to them. Pairs that
    are the same from both their ends are dealt to ranks, each to one (:mod:`losses.distributed.dealing`). Of so few
    rows that messages would take longer, every rank looks at all pairs. The value is the same on all ranks; the
    gradient is such that its average over ranks, which DistributedDataParallel takes, is that of one process that holds
    the whole batch. Ranks may have batches of different sizes, and none at all.

    Losses of others, such as those of pytorch-metric-learning, see the gathered batch on every rank.

    Without a process group, or in one of a single process, it is the loss.

    Args:
        loss: any loss of this package or of a plugin, or a module called as ``loss(embeddings, labels)``.
        group: of processes; by default all of them.

    Raises:
        ConfigError: the loss does not reduce its items.
        InputError: the batch is not what the loss takes, on this rank or on another one, or ranks differ in what they
            have. It is raised on all ranks.
        RuntimeError: a rank does not answer in the time limit of the group, or the group is gone in a training.

    >>> import losses
    >>> loss = GlobalBatch(losses.create("supervised_contrastive", temperature=1.0))
    >>> loss(tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), tensor([0, 1, 0, 1]))  # log((e + 2) / e)
    tensor(0.5514)
    """

    def __init__(self, loss: nn.Module, group: Group = None) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module):
            raise ConfigError(f"GlobalBatch takes a loss, got {type(loss).__name__}; build it with losses.create(...)")
        if getattr(loss, "reduction", "mean") == "none":
            raise ConfigError("reduction is 'none': there is nothing to add up over ranks; use 'mean' or 'sum'")
        self.loss = loss
        self.group = group
        self._over_several = False

    def forward(
        self,
        output: Any,
        target: Any = None,
        indices: tuple[Tensor, ...] | None = None,
        *,
        weight: Tensor | None = None,
        normalizer: Tensor | float | None = None,
        reference: tuple[Tensor, Tensor] | None = None,
        model: nn.Module | None = None,
        inputs: Any = None,
    ) -> Tensor:
        """Return the loss of the batch of all ranks.

        Args:
            output: what the model made on this rank.
            target: what it should have made.
            indices: of a labelled batch, a miner's tuple that points into the rows of all ranks, one rank after the
                other. Each rank passes what is said of its own anchors, or all ranks pass the same.
            weight: one weight per item or anchor of this rank.
            normalizer: replaces the denominator of the mean over all ranks.
            reference: of a labelled batch, the part that this rank has of another set to compare with.
            model: of a weighted sum, the network whose parameters are penalised.
            inputs: of a weighted sum, what the network was called with on this rank, where the gradient by it is
                penalised.
        """
        beside = {"model": model, "inputs": inputs}
        given = Given(indices, weight, reference, normalizer, self.group)
        if self.group is not None and dist.is_initialized() and dist.get_rank(self.group) < 0:
            raise InputError("this process is not in the group of GlobalBatch; call it on the ranks of the group only")
        if not in_a_group(self.group):
            if self._over_several and self.training and torch.is_grad_enabled():
                raise RuntimeError(
                    "the process group that GlobalBatch has worked with is gone, and this rank would go on alone; end "
                    "the training before dist.destroy_process_group(), or build GlobalBatch anew"
                )
            with ranks_apart_are_meant():
                own = {name: value for name, value in beside.items() if value is not None}
                value: Tensor = self.loss(output, target, **given.names(), **own)
            return value
        self._over_several = True
        result: Tensor = self._over_ranks(output, target, given, beside)
        return result

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]  # torch leaves it untyped
    def _over_ranks(self, output: Any, target: Any, given: Given, beside: Mapping[str, Any]) -> Tensor:
        """Return the loss of the batch of all ranks; what they exchange is no part of a compiled program."""
        if isinstance(self.loss, WeightedSumLoss):
            return over_terms(self.loss, output, target, given, beside, self._of_term)
        for name, value in beside.items():
            if value is not None:
                raise InputError(f"{type(self.loss).__name__} takes no {name}=, a weighted sum does; leave it out")
        way = way_of(self.loss, output)
        if way == "repeated":
            return repeatedly(self.loss, output, target, given)
        loss: Any = self.loss
        total = (over_parts if way == "parts" else over_items)(loss, output, target, given)
        return total.sum.sum() if loss.reduction == "sum" else total.mean(given.normalizer)

    def _of_term(
        self, loss: Loss | GradientNorm, output: Any, target: Any, weight: Tensor | None, beside: Mapping[str, Any]
    ) -> Tensor:
        """Return what a loss of a weighted sum comes to over all ranks."""
        own, loss.reduction = loss.reduction, str(self.loss.reduction)  # a term is reduced as the sum says
        try:
            value: Tensor = GlobalBatch(loss, self.group)(output, target, weight=weight, **given_to(loss, beside))
        finally:
            loss.reduction = own
        return value
