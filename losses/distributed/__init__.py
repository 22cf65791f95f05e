"""Batches beyond one process and beyond one device's memory: GlobalBatch over the ranks of a ``torch.distributed`` job,
gradient caching over the chunks of a batch."""

from losses.distributed.global_batch import GlobalBatch
from losses.distributed.gradient_caching import GradientCaching

__all__ = ["GlobalBatch", "GradientCaching"]
