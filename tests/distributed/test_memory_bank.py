"""A memory bank under GlobalBatch: gathered it is that of one process, and each rank may have its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from losses.distributed import GlobalBatch
from tests.distributed.ranks import Ranks
from tests.metric.test_memory_bank import bank_of, batch, gradient


def over_ranks(
    rank: int, group: dist.ProcessGroup, settings: dict[str, Any], sizes: list[int], reference: bool
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    bank = bank_of(**settings)
    loss = GlobalBatch(bank, group)
    seen = []
    for step in range(4):
        start = sum(sizes[:rank])
        rows = slice(start, start + sizes[rank])
        embeddings, labels = (part[rows] for part in batch(step, sum(sizes)))
        keys = tuple(part[rows].detach() for part in batch(100 + step, sum(sizes)))
        leaf = embeddings.detach().requires_grad_()
        value = loss(leaf, labels, **({"reference": keys} if reference else {}))
        value.backward()
        assert leaf.grad is not None
        seen.append((value.detach(), leaf.grad / len(sizes), *bank.past()))
    return seen


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("sizes", [[4, 4], [1, 6, 3], [5, 0]], ids=str)
@pytest.mark.parametrize("name", ["contrastive", "triplet", "supervised_contrastive"])
def test_gathered_memories_are_that_of_one_process(name: str, sizes: list[int], reference: bool, ranks: Ranks) -> None:
    settings = {"name": name, "capacity": 17}
    bank = bank_of(**settings)
    everyone = ranks.run(len(sizes), over_ranks, settings, sizes, reference)
    for one in everyone:
        assert not isinstance(one, Exception), one
    for step in range(4):
        embeddings, labels = batch(step, sum(sizes))
        keys, key_labels = batch(100 + step, sum(sizes))
        value = bank(embeddings, labels, **({"reference": (keys.detach(), key_labels)} if reference else {}))
        for one in everyone:
            torch.testing.assert_close(one[step][0], value.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(one[step][2:], bank.past(), rtol=0, atol=0)
        got = torch.cat([one[step][1] for one in everyone])
        torch.testing.assert_close(got, gradient(value, embeddings), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reference", [False, True])
def test_each_rank_may_remember_its_own_batch_alone(reference: bool, ranks: Ranks) -> None:
    sizes = [4, 3]
    everyone = ranks.run(2, over_ranks, {"name": "triplet", "enqueue": "own"}, sizes, reference)
    for rank, one in enumerate(everyone):
        assert not isinstance(one, Exception), one
        rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        own = [batch((100 if reference else 0) + step, 7)[0][rows].detach() for step in range(4)]
        torch.testing.assert_close(one[3][2], torch.cat(own), rtol=0, atol=0)


def loaded_unlike(rank: int, group: dist.ProcessGroup) -> None:
    bank = bank_of(capacity=8)
    if rank:
        other = bank_of(capacity=8)
        other(torch.randn(4, 6), torch.arange(4) % 2)
        bank.load_state_dict(other.state_dict())
    GlobalBatch(bank, group)(*batch(0))


def test_a_rank_with_a_memory_of_another_dimension_is_an_error_on_all(ranks: Ranks) -> None:
    for one in ranks.run(2, loaded_unlike):
        assert isinstance(one, Exception)
        assert "InputError" in str(one)
        assert "memory bank holds 6" in str(one) or "rank 1 of the group refused its batch" in str(one)
