"""Losses of pytorch-metric-learning within GlobalBatch: the averaged gradient of several ranks, by the network and by
what a loss learns, is that of one process."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import losses
from losses.adapters.pytorch_metric_learning import miners
from losses.distributed import GlobalBatch
from tests.adapters.pml_cases import CASES, ours
from tests.distributed.ranks import Ranks
from tests.distributed.steps import ROWS, WIDTH, Outcome, averaged, drawn, network, parts

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),
]
SPLITS = {  # rows at which the batch is cut: even and uneven, ranks without any
    1: [[0, ROWS]],
    2: [[0, 12, ROWS], [0, 5, ROWS], [0, 0, ROWS]],
    3: [[0, 8, 16, ROWS], [0, 9, 9, ROWS]],
    4: [[0, 1, 13, 17, ROWS]],
}


class Call(NamedTuple):
    """One step: which loss, and what it is given beside embeddings and labels."""

    name: str
    weighted: bool = False
    reference: bool = False
    mined: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *(word for word in ("weighted", "reference", "mined") if getattr(self, word))])


CALLS = [
    *map(Call, CASES),
    *(Call(name, weighted=True) for name in ("ArcFaceLoss", "ContrastiveLoss", "SupConLoss", "TripletMarginLoss")),
    *(Call(name, reference=True) for name in ("ContrastiveLoss", "NCALoss", "TripletMarginLoss")),
    *(Call(name, mined=True) for name in ("ArcFaceLoss", "MultiSimilarityLoss", "TripletMarginLoss")),
]


def step(call: Call, group: dist.ProcessGroup | None, cuts: list[int], rank: int) -> Outcome:
    """Take the step on the rows of one rank."""
    torch.manual_seed(3)
    encoder, loss = network(), ours(call.name)
    rows, others = (parts(count, cuts)[rank] for count in (ROWS, ROWS + 3))
    embeddings = encoder(drawn(ROWS, WIDTH, seed=1)[rows])
    labels = (torch.arange(ROWS) % 4)[rows] if call.name != "SmoothAPLoss" else (torch.arange(ROWS) // 6)[rows]
    given: dict[str, Any] = {}
    if call.weighted:
        given["weight"] = torch.linspace(0, 2, ROWS, dtype=torch.float64)[rows]
    if call.reference:
        given["reference"] = encoder(drawn(ROWS + 3, WIDTH, seed=6)[others]), (torch.arange(ROWS + 3) % 4)[others]
    if call.mined:
        everyone = encoder(drawn(ROWS, WIDTH, seed=1)).detach()
        given["indices"] = miners.MultiSimilarityMiner(epsilon=0.5)(everyone, torch.arange(ROWS) % 4)  # on all ranks
    output: Any = embeddings
    if call.name == "VICRegLoss":
        output, labels = losses.Pairs(embeddings, encoder(drawn(ROWS, WIDTH, seed=2)[rows])), None
    torch.manual_seed(5)
    whole: Any = loss if group is None else GlobalBatch(loss, group)
    value: Tensor = whole(output, labels, **given)
    value.backward()
    gradients = [parameter.grad for parameter in (*encoder.parameters(), *loss.parameters())]
    return Outcome(value.detach(), torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))


def on_a_rank(rank: int, group: dist.ProcessGroup, call: Call, cuts: list[int]) -> Outcome:
    return step(call, group, cuts, rank)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_gradient_averaged_over_ranks_is_that_of_one_process(call: Call, ranks: Ranks) -> None:
    expected = step(call, None, [0, ROWS], 0)
    assert expected.gradient.any()
    for size, splits in SPLITS.items():
        for cuts in splits:
            outcomes = ranks.run(size, on_a_rank, call, cuts)
            for one in outcomes:
                assert not isinstance(one, Exception), one
            torch.testing.assert_close(averaged(outcomes), expected, rtol=1e-10, atol=1e-10)
