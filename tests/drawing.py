"""Labelled batches as several files draw them, and indices as a miner gives them."""

from typing import Any

import torch
from torch import Tensor


def pointing(*columns: Any, dtype: torch.dtype | None = None) -> dict[str, tuple[Tensor, ...]]:
    """Return the option of a loss that names pairs or triplets by their places."""
    return {"indices": tuple(torch.tensor(column, dtype=dtype) for column in columns)}


def with_singletons_and_duplicates(seed: int) -> tuple[Tensor, Tensor]:
    """Return a batch where some classes hold one embedding, and some embeddings are there twice, in one class or in
    two."""
    random = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(12, 4, generator=random, dtype=torch.float64)
    labels = torch.cat([torch.randint(4, (10,), generator=random), torch.tensor([8, 9])])
    copies = torch.tensor([0, 3, 10])
    return torch.cat([embeddings, embeddings[copies]]), torch.cat([labels, labels[:2], labels[:1]])
