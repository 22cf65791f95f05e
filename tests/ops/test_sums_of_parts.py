"""Sums of both ends of pairs, of a part of a batch: in blocks they are those of the plain composition."""

import pytest
import torch
from torch import Tensor

import losses
from losses.abstract.embedding import EmbeddingLoss
from losses.ops.pairs.sums_of_parts import Part, SharedSums, plain_sums, sums_of_part
from losses.ops.tiles.sizes import BlockSizes, block_sizes

SIZES = {"one block": {}, "several blocks": {"elements": 64, "one_block": 0, "rows": 4}}


def shared(name: str) -> SharedSums:
    loss = losses.create(name)
    assert isinstance(loss, EmbeddingLoss)
    sums = loss.shared_sums()
    assert sums is not None
    return sums


def part(rows: int, others: int | None) -> Part:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(rows, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (rows,), generator=generator)
    if others is None:
        return Part(first, labels)
    second = torch.randn(others, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    return Part(first, labels, second, torch.randint(1, 6, (others,), generator=generator))


def points(of: Part) -> list[Tensor]:
    return [of.first] if of.second is None else [of.first, of.second]


@pytest.mark.parametrize("name", ["supervised_contrastive", "multi_similarity"])
@pytest.mark.parametrize(("rows", "others"), [(17, None), (1, None), (0, None), (9, 21), (13, 1)])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
def test_sums_and_gradients_are_those_of_the_plain_composition(
    name: str, rows: int, others: int | None, sizes: dict[str, int]
) -> None:
    pairs, sums = part(rows, others), shared(name)
    expected = plain_sums(sums, pairs)(*points(pairs))
    above = torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).reshape(expected.shape) / expected.detach()
    above = above.nan_to_num(0, 0, 0)
    with block_sizes(**sizes):
        found = sums_of_part(sums, pairs)
        gradients = torch.autograd.grad(found, points(pairs), above)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, points(pairs), above), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


def test_no_sums_are_exchanged_where_exponentials_could_overflow() -> None:
    for loss in (losses.create("supervised_contrastive", temperature=0.01), losses.create("circle")):
        assert isinstance(loss, EmbeddingLoss)
        assert loss.shared_sums() is None
    assert BlockSizes().on_every_rank == 512**2
