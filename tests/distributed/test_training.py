"""GlobalBatch in what surrounds it: DistributedDataParallel, autocast, second derivatives, evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import losses
from losses.distributed import GlobalBatch
from losses.ops.tiles.sizes import block_sizes
from tests.distributed.ranks import RankError, Ranks
from tests.distributed.steps import ROWS, WIDTH, classes, drawn, network, parts

NAMES = ("triplet", "supervised_contrastive", "contrastive", "circle")
CUTS = [0, 5, 13, ROWS]
PAIRS_ON_EVERY_RANK = pytest.mark.parametrize("on_every_rank", [0, ROWS**2], ids=["dealt", "on every rank"])


def batch(rows: slice) -> tuple[Tensor, Tensor]:
    return drawn(ROWS, WIDTH, seed=1)[rows], classes(ROWS, seed=5)[rows]


def trained(encoder: nn.Module, loss: nn.Module, rows: slice, steps: int = 3) -> list[Tensor]:
    """Parameters after a few steps."""
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1, momentum=0.9)
    samples, labels = batch(rows)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(F.normalize(encoder(samples), dim=1), labels).backward()
        optimiser.step()
    return [parameter.detach().clone() for parameter in encoder.parameters()]


def in_parallel(rank: int, group: dist.ProcessGroup, name: str, cuts: list[int], on_every_rank: int) -> list[Tensor]:
    encoder = nn.parallel.DistributedDataParallel(network(), process_group=group)
    with block_sizes(on_every_rank=on_every_rank):
        return trained(encoder, GlobalBatch(losses.create(name), group), parts(ROWS, cuts)[rank])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cuts", [[0, 12, ROWS], CUTS], ids=len)
@PAIRS_ON_EVERY_RANK
def test_steps_under_distributed_data_parallel_are_those_of_one_process(
    name: str, cuts: list[int], on_every_rank: int, ranks: Ranks
) -> None:
    expected = trained(network(), losses.create(name), slice(0, ROWS))
    for found in ranks.run(len(cuts) - 1, in_parallel, name, cuts, on_every_rank):
        assert not isinstance(found, RankError), found
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def penalised(encoder: nn.Module, loss: nn.Module, rows: slice, count: int) -> Tensor:
    """The gradient of the squared gradient by the embeddings."""
    samples, labels = batch(rows)
    embeddings = F.normalize(encoder(samples), dim=1)
    (slope,) = torch.autograd.grad(loss(embeddings, labels), embeddings, create_graph=True)
    (slope / count).square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters() if parameter.grad is not None])


def penalised_part(rank: int, group: dist.ProcessGroup, name: str, on_every_rank: int) -> Tensor:
    loss = GlobalBatch(losses.create(name), group)
    with block_sizes(on_every_rank=on_every_rank):
        return penalised(network(), loss, parts(ROWS, CUTS)[rank], dist.get_world_size(group))


@pytest.mark.parametrize("name", NAMES)
@PAIRS_ON_EVERY_RANK
def test_second_derivatives_reach_the_points_of_others(name: str, on_every_rank: int, ranks: Ranks) -> None:
    expected = penalised(network(), losses.create(name), slice(0, ROWS), 1)
    found = ranks.run(3, penalised_part, name, on_every_rank)
    torch.testing.assert_close(torch.stack(found).sum(0), expected, rtol=1e-9, atol=1e-10)


def narrow(rank: int, group: dist.ProcessGroup, name: str) -> tuple[Tensor, Tensor]:
    samples, labels = batch(parts(ROWS, CUTS)[rank])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = network().float()(samples.float())
        embeddings.retain_grad()
        value = GlobalBatch(losses.create(name), group)(embeddings, labels)
    value.backward()
    assert embeddings.grad is not None
    return value.detach(), embeddings.grad


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_travels_as_it_is_and_adds_up_in_single(name: str, ranks: Ranks) -> None:
    samples, labels = batch(slice(0, ROWS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = network().float()(samples.float())
        embeddings.retain_grad()
        expected = losses.create(name)(embeddings, labels)
    expected.backward()
    found: list[Any] = ranks.run(3, narrow, name)
    assert found[0][0].dtype is torch.float32
    for value, _ in found:
        torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-6)
    gradient = torch.cat([part for _, part in found]) / 3
    assert embeddings.grad is not None
    torch.testing.assert_close(gradient, embeddings.grad, rtol=2e-2, atol=1e-3)


def evaluated(rank: int, group: dist.ProcessGroup) -> list[float]:
    samples, labels = batch(parts(ROWS, CUTS)[rank])
    values = []
    with torch.no_grad():
        for name in NAMES:
            values.append(float(GlobalBatch(losses.create(name), group)(network()(samples), labels)))
    return values


def test_without_gradient_all_ranks_have_the_value_of_the_whole_batch(ranks: Ranks) -> None:
    samples, labels = batch(slice(0, ROWS))
    with torch.no_grad():
        expected = [float(losses.create(name)(network()(samples), labels)) for name in NAMES]
    for found in ranks.run(3, evaluated):
        assert found == pytest.approx(expected, rel=1e-12)
