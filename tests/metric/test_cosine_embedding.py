"""Cosine embedding: torch's value on every encoding of a target, no cube, and what it is of contrastive."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import losses
from losses import CosineEmbeddingLoss, Pairs
from tests.refusals import refused

TARGET = torch.tensor([1, 0, 1, 1, 0, 0])
ENCODINGS = {
    "bool": TARGET.bool(),
    "0 and 1": TARGET,
    "0.0 and 1.0": TARGET.double(),
    "-1 and 1": 2 * TARGET - 1,
    "-1.0 and 1.0": 2.0 * TARGET - 1,
    "int8": (2 * TARGET - 1).to(torch.int8),
}


def pairs(dtype: torch.dtype = torch.float64) -> Pairs:
    return Pairs(*(torch.randn(6, 4, dtype=dtype).requires_grad_() for _ in range(2)))


@pytest.mark.parametrize("target", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("margin", [0.0, 0.4, -0.3])
def test_every_encoding_of_a_target_means_what_torch_means_by_signs(margin: float, reduction: Any, target: Any) -> None:
    given = pairs()
    expected = F.cosine_embedding_loss(*given, 2 * TARGET - 1, margin=margin, reduction=reduction)
    value = CosineEmbeddingLoss(margin=margin, reduction=reduction)(given, target)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    gradients = (torch.autograd.grad(part.sum(), given) for part in (value, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [20, 700])
def test_a_labelled_batch_is_the_list_of_its_pairs(size: int) -> None:
    """In one piece and in blocks."""
    embeddings = torch.randn(size, 6, dtype=torch.float64).requires_grad_()
    labels = torch.arange(size) % 5
    first, second = torch.triu_indices(size, size, 1)
    loss = CosineEmbeddingLoss(margin=0.25)
    listed = Pairs(embeddings[first], embeddings[second])
    expected = loss(listed, labels[first] == labels[second])
    value = loss(embeddings, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(part, embeddings)[0] for part in (value, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_it_is_contrastive_of_the_cosine_distance() -> None:
    embeddings, labels = torch.randn(30, 5), torch.arange(30) % 4
    other = losses.create("contrastive", distance="cosine", power=1, margin=0.75)
    torch.testing.assert_close(CosineEmbeddingLoss(margin=0.25)(embeddings, labels), other(embeddings, labels))


def test_readings_count_the_pairs_that_cost_something() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    readings = CosineEmbeddingLoss(margin=0.8).readings(embeddings, torch.tensor([0, 0, 1, 2]))
    assert readings["active_fraction"].item() == pytest.approx(1 / 6)  # but (0, 1) all are below a cosine of 0.8


def test_a_vector_of_zeros_is_at_a_right_angle_to_all() -> None:
    zeros, others = torch.zeros(2, 3), torch.randn(2, 3)
    items = CosineEmbeddingLoss(margin=-0.5, reduction="none")(Pairs(zeros, others), torch.tensor([1, 0]))
    assert items.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("margin", [-1.1, 1.1, float("nan"), "soft"], ids=str)
def test_a_margin_that_is_no_cosine_is_refused(margin: Any) -> None:
    with refused(["margin", "a number from -1 to 1"], losses.ConfigError):
        CosineEmbeddingLoss(margin=margin)


def test_a_target_that_is_a_label_is_refused() -> None:
    with refused(["same (1 or True) or different (0, -1 or False)", "got 2"]):
        CosineEmbeddingLoss()(pairs(), torch.tensor([0, 1, 2, 0, 1, 2]))
