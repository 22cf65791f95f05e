"""Singular values of embeddings: how many directions they use."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.precision import accumulated, widened


def effective_rank(embeddings: Tensor) -> Tensor:
    r"""Return the effective rank of embeddings ``(N, D)``, less their mean, as a tensor ``()`` without gradient.

    .. math::
        \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \sigma_k / \sum_j \sigma_j

    with the singular values themselves, not their squares: n where n of them are equal and the others 0. It lies
    between 1 and min(N - 1, D), and is 0 where nothing varies: all rows equal, N < 2 or D = 0. Embeddings that are not
    finite have the rank NaN, so that a reading never stops a training.

    Nothing is read on the way; but torch's decomposition itself makes the host wait for a GPU, so take it now and then.

    Source:
        O. Roy, M. Vetterli, The Effective Rank: A Measure of Effective Dimensionality, 2007, EUSIPCO.

    >>> effective_rank(tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
    tensor(2., dtype=torch.float64)
    """
    embeddings = embeddings.detach()
    embeddings = widened(embeddings)
    finite = embeddings.isfinite().all()
    # the decomposition raises where it meets a NaN
    residual = centred(accumulated(embeddings).nan_to_num(0, 0, 0))
    return entropy_rank(torch.linalg.svdvals(residual)).masked_fill(~finite, torch.nan)


def centred(embeddings: Tensor) -> Tensor:
    """Return embeddings ``(N, D)`` less their mean, exactly 0 where all rows are equal, as rounding of the mean would
    not be."""
    shifted = embeddings - embeddings[:1]
    return shifted - shifted.mean(0) if len(shifted) else shifted


def entropy_rank(singular: Tensor) -> Tensor:
    """Return the exponential of the entropy of singular values ``(K,)`` as fractions of their sum; 0 where all of them
    are 0."""
    whole = singular.sum()
    entropy: Tensor = torch.special.entr(singular / whole.masked_fill(whole == 0, 1)).sum()
    return entropy.exp().masked_fill(whole == 0, 0)


def leading_variance_ratio(singular: Tensor) -> Tensor:
    """Return the fraction of the largest singular value, of ``(K,)`` in falling order, in the sum of their squares; 1
    if all are 0."""
    largest = singular[:1].sum()
    relative = singular / largest.masked_fill(largest == 0, 1)  # squares of the values themselves might overflow
    return 1 / relative.square().sum().clamp(min=1)
