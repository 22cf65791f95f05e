"""Losses in blocks allocate nothing of all pairs, and count beyond single precision."""

import pytest
import torch
from torch import Tensor

import losses
from losses.core import torch_private
from losses.ops.tiles import blocks
from tests.largest_tensor import Largest
from tests.ops.tile_cases import ONE_OF_EACH, TileBatch, TileCase, plainly, shrink, total


def largest(case: TileCase, size: int) -> tuple[int, int]:
    """Return the elements of the largest tensor of forward and backward, and of all that is kept between them."""
    random, kept = torch.Generator().manual_seed(0), []
    embeddings = torch.nn.functional.normalize(torch.randn(size, 16, generator=random), dim=1).requires_grad_()
    labels = torch.arange(size) % (size // 8)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with Largest() as mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total(case, TileBatch(embeddings, labels)).sum.sum().backward()
    return mode.elements, sum(kept)


@pytest.mark.parametrize(
    ("case", "reads"),
    # which have to read
    [(case, reads) for case in ONE_OF_EACH for reads in (True, False) if reads or not (case.is_soft or case.swaps)],
    ids=str,
)
def test_nothing_of_all_pairs_is_allocated(case: TileCase, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if reads:  # under a dispatch mode, as on an accelerator, nothing is looked at
        monkeypatch.setattr(torch_private, "is_dispatched_to_python", lambda: False)
    size = 2048 if reads else 1024
    shrink(monkeypatch, 1 << 15, 8)
    block = max(blocks.BUFFERS << 15, size * (16 + 2) * 2)
    half, whole = largest(case, size // 2), largest(case, size)
    assert size**2 // 4 > block
    assert whole[0] <= 1.1 * block
    assert whole[1] <= 20 * size * (16 + 2)
    assert whole[0] <= 2.1 * half[0]
    assert whole[1] <= 2.1 * half[1]


def test_the_largest_tensor_of_a_plain_composition_is_seen() -> None:
    with plainly():
        assert largest(TileCase("info_nce", {}), 256)[0] >= 256**2


@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize("size", [603, 2103])
def test_triplets_are_counted_exactly_beyond_single_precision_and_31_bits(size: int, average: str) -> None:
    first, second = (size + 1) // 2, size // 2
    count = first * (first - 1) * second + second * (second - 1) * first
    assert count > 2 ** (31 if size > 1000 else 24)
    assert count != int(torch.tensor(count).float())
    embeddings = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    result = losses.create("triplet", margin=1e3, average=average).total(embeddings, torch.arange(size) % 2)
    assert result.denominator == count
    assert result.sum.item() == pytest.approx(1e3 * count, rel=1e-2)


@pytest.mark.parametrize("average", ["all", "active", "balanced"])
def test_pairs_are_counted_exactly_beyond_single_precision(average: str) -> None:
    size = 6003
    embeddings = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    weight = (
        losses.create("contrastive", margin=1e3, average=average)
        .total(embeddings, torch.arange(size) // 3000)
        .denominator
    )
    same = 3000 * 2999 + 3
    assert size * (size - 1) // 2 % 2 == 1  # which is no float32
    assert torch.as_tensor(weight).tolist() == (
        [same, size * (size - 1) // 2 - same] if average == "balanced" else size * (size - 1) // 2
    )


def test_active_triplets_far_beyond_single_precision_are_counted_one_by_one() -> None:
    """Some thousands of 2.5 x 10^8 triplets cost nothing, and the count says how many."""
    size = 1000
    points, labels = (
        torch.rand(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.arange(size) % 2,
    )
    points[0], points[1], points[2] = 0.0, 50.0, 0.0
    distances = (points.unsqueeze(1) - points).abs()
    expected = 0
    for anchor, row in enumerate(distances):
        others = torch.arange(size) != anchor
        same = labels == labels[anchor]
        expected += int((row[same & others].unsqueeze(1) - row[~same] + 49.5 > 0).sum())
    assert losses.create("triplet", margin=49.5).total(points.unsqueeze(1), labels).denominator == expected
    assert 2**24 < expected < size * 499 * 500
