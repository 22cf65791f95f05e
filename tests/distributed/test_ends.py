"""A rank that ends, and a group that is gone: errors in time, and no rank that goes on alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch.distributed as dist

import losses
from losses.distributed import GlobalBatch
from losses.ops.tiles.sizes import block_sizes
from tests.distributed.ranks import PATIENCE, RankError, Ranks
from tests.distributed.test_refusals import EMBEDDINGS, LABELS


def last_step(rank: int, group: dist.ProcessGroup, ending: int) -> None:
    if rank == ending:
        os._exit(3)
    loss = GlobalBatch(losses.create("triplet"), group)
    loss(EMBEDDINGS.clone().requires_grad_(), LABELS).backward()


def ends_before_backward(rank: int, group: dist.ProcessGroup, ending: int) -> None:
    with block_sizes(on_every_rank=0):  # where gradients for others go back to them
        value = GlobalBatch(losses.create("triplet"), group)(EMBEDDINGS.clone().requires_grad_(), LABELS)
    if rank == ending:
        os._exit(3)
    value.backward()


def ends_after_a_small_batch(rank: int, group: dist.ProcessGroup, ending: int) -> None:
    loss = GlobalBatch(losses.create("triplet"), group)
    value = loss(EMBEDDINGS.clone().requires_grad_(), LABELS)
    if rank == ending:
        os._exit(3)
    value.backward()  # for which no other rank is needed
    loss(EMBEDDINGS, LABELS)


def without_group(rank: int, group: dist.ProcessGroup) -> float:
    loss = GlobalBatch(losses.create("triplet"))
    loss(EMBEDDINGS, LABELS)
    dist.destroy_process_group()
    float(loss.eval()(EMBEDDINGS, LABELS))
    return float(loss.train()(EMBEDDINGS, LABELS))


def test_a_rank_that_ends_is_an_error_on_the_others_in_time(tmp_path: Path) -> None:
    for number, task in enumerate((last_step, ends_before_backward, ends_after_a_small_batch)):
        (tmp_path / str(number)).mkdir()
        ranks = Ranks(tmp_path / str(number), 2)
        start = time.monotonic()
        first, second = ranks.run(2, task, 1)
        ranks.stop()
        assert isinstance(first, RankError)
        assert str(first).startswith("RuntimeError")
        assert str(second) == "the process has ended"
        assert time.monotonic() - start < 2 * PATIENCE.total_seconds()
        if task is not ends_before_backward:
            assert "rank 0 got no answer from all ranks of its group" in str(first)


def test_no_rank_goes_on_alone_when_the_group_is_gone(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 2)
    for found in ranks.run(2, without_group):
        assert isinstance(found, RankError)
        assert "the process group that GlobalBatch has worked with is gone" in str(found)
    ranks.stop()
