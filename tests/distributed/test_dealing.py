"""Pairs that are dealt to ranks: each to one of them, and to each about as many as its rows are due."""

import pytest
import torch

from losses.distributed.dealing import pairs_with_others

SIZES = [[7], [4, 4], [5, 0], [0, 3, 1], [1, 1, 1, 1], [6, 7, 0, 2, 9], [8] * 8]


def looks_at(sizes: list[int], rank: int) -> torch.Tensor:
    """How often a rank looks at two rows ``(N, N)``, whichever comes first."""
    count, start = sum(sizes), sum(sizes[:rank])
    seen = torch.zeros(count, count, dtype=torch.long)
    rows = torch.arange(count)
    own = rows[start : start + sizes[rank]]
    seen[own.unsqueeze(1), own] += 1
    for mine, others in pairs_with_others(sizes, rank):
        theirs = torch.cat([rows[part] for part in others])
        seen[own[mine].unsqueeze(1), theirs] += 1
        seen[theirs.unsqueeze(1), own[mine]] += 1
    return seen


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_pair_is_looked_at_by_one_rank(sizes: list[int]) -> None:
    seen = sum(looks_at(sizes, rank) for rank in range(len(sizes)))
    assert torch.equal(seen, torch.ones(sum(sizes), sum(sizes), dtype=torch.long))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_rank_looks_at_half_of_the_pairs_of_its_rows(sizes: list[int]) -> None:
    for rank, size in enumerate(sizes):
        looked_at = int(looks_at(sizes, rank).sum())  # both orders of a pair, so half of them are size * sum / 2
        assert abs(looked_at - size * sum(sizes)) <= sum(sizes)  # a row of an odd number may be too many
