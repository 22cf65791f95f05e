"""The same loss over the batch of all processes of a ``torch.distributed`` job."""

from losses.distributed.global_batch import GlobalBatch

__all__ = ["GlobalBatch"]
