"""GlobalBatch: the averaged gradient of several ranks is that of one process with the whole batch."""

import pytest
import torch
import torch.distributed as dist

import losses
from losses.core.collectives import TOGETHER, as_bytes, from_bytes
from losses.distributed import GlobalBatch
from losses.ops.tiles.sizes import block_sizes
from tests.distributed.ranks import Ranks
from tests.distributed.steps import (
    DIMENSION,
    ROWS,
    Step,
    averaged,
    classes,
    drawn,
    many_processes,
    one_process,
)

SPLITS = {  # rows at which the batch is cut: even and uneven, a rank of one row and one without any
    1: [[0, ROWS]],
    2: [[0, 12, ROWS], [0, 5, ROWS], [0, 0, ROWS]],
    3: [[0, 8, 16, ROWS], [0, 9, 9, ROWS]],
    4: [[0, 1, 13, 17, ROWS], [0, 6, 12, 18, ROWS]],
}
METRIC = [
    ("circle", {}),
    ("contrastive", {}),
    ("contrastive", {"average": "active", "reduction": "sum"}),
    ("contrastive", {"average": "balanced", "power": 1}),
    ("info_nce", {}),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1, "reduction": "sum"}),
    ("supervised_contrastive", {}),
    ("supervised_contrastive", {"temperature": 0.02}),
    ("triplet", {}),
    ("triplet", {"average": "all", "distance": "squared_euclidean", "reduction": "sum"}),
    ("triplet", {"margin": "soft", "distance": "cosine"}),
    ("triplet", {"mining": "hard"}),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"swap": True}),
]
LABELLED = [Step(*loss, weighted=weighted) for loss in METRIC for weighted in (False, True)]
REFERENCES = [Step(*loss, reference=True) for loss in METRIC]
MINED = [
    Step(name, {}, mined=mined, reference=reference)
    for name in ("circle", "contrastive", "info_nce", "multi_similarity", "supervised_contrastive", "triplet")
    for mined in (3, 4)
    for reference in (False, True)
]
MATCHES = [
    Step("info_nce", {"negatives": negatives, "direction": direction}, kind="matches", weighted=weighted)
    for negatives in ("second", "both")
    for direction in ("both", "forward")
    for weighted in (False, True)
]
GIVEN = [
    Step("contrastive", {"average": "balanced"}, kind="pairs", weighted=True),
    Step("circle", {}, kind="pairs"),
    Step("triplet", {}, kind="triplets", weighted=True),
]
OTHERS = [
    Step("mse", {}, kind="numbers"),
    Step("huber", {"reduction": "sum"}, kind="numbers", weighted=True),
    Step("mae", {}, kind="numbers", weighted=True),
    Step("cross_entropy", {"class_weight": [1.0, 2.0, 0.5, 1.0, 1.0, 3.0], "ignore_index": 2}, kind="logits"),
    Step("kl_divergence", {"output_form": "logits", "target_form": "logits"}, kind="numbers"),
    Step("js_divergence", {"output_form": "logits", "target_form": "logits"}, kind="numbers", weighted=True),
    Step("entropy", {}, kind="alone", weighted=True),
    Step("entropy", {"reduction": "sum"}, kind="alone"),
    Step("wasserstein", {}, kind="numbers"),
]
TERMS = [
    {"loss": "cross_entropy", "output": "logits", "target": "class", "weight": "uncertainty"},
    {"loss": "triplet", "output": "embedding", "target": "label", "weight": -0.5},
    {"loss": {"name": "weighted_sum", "terms": ["mse", "l1_penalty"]}, "output": "embedding", "target": "view"},
    {"loss": {"name": "l2_penalty", "strength": 0.3}, "weight": {"schedule": "linear", "start": 1, "steps": 3}},
    {"loss": "entropy", "output": "logits", "weight": -0.2},
    {"loss": {"name": "gradient_norm", "strength": 0.3}, "output": "embedding", "inputs": "embedding"},
]
SUMS = [
    Step("weighted_sum", {"terms": TERMS, "reduction": reduction}, kind="parts", weighted=weighted)
    for weighted in (False, True)
    for reduction in ("mean", "sum")
]


@pytest.mark.parametrize("step", [*LABELLED, *REFERENCES, *MINED, *MATCHES, *GIVEN, *OTHERS, *SUMS], ids=str)
def test_the_gradient_averaged_over_ranks_is_that_of_one_process(step: Step, ranks: Ranks) -> None:
    expected = one_process(step)
    for size, splits in SPLITS.items():
        for number, cuts in enumerate(splits):
            together = 0 if number % 2 else TOGETHER  # uneven ones apart, a rank without rows both ways
            outcomes = ranks.run(size, many_processes, step, cuts, 0, together)
            for one in outcomes:
                assert not isinstance(one, Exception), one
            actual = averaged(outcomes)
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", [*LABELLED, *MATCHES], ids=str)
def test_so_it_is_of_a_small_batch_which_every_rank_looks_at(step: Step, ranks: Ranks) -> None:
    expected = one_process(step)
    for size, splits in SPLITS.items():
        outcomes = ranks.run(size, many_processes, step, splits[-1], ROWS**2, TOGETHER)
        for one in outcomes:
            assert not isinstance(one, Exception), one
        torch.testing.assert_close(averaged(outcomes), expected, rtol=1e-10, atol=1e-10)


def of_few_rows(rank: int, group: dist.ProcessGroup, name: str, counts: list[int]) -> torch.Tensor:
    """The loss of ranks that have hardly any rows, with a weight for each, after a step back."""
    rows = torch.ones(counts[rank], 5, requires_grad=True)
    labels, weight = torch.zeros(counts[rank], dtype=torch.long), torch.ones(counts[rank])
    value = GlobalBatch(losses.create(name), group)(rows, labels, weight=weight)
    value.backward()
    return value.detach()


@pytest.mark.parametrize("counts", [[1, 0], [0, 1, 0], [0, 0]], ids=str)
@pytest.mark.parametrize("name", ["contrastive", "supervised_contrastive", "triplet"])
def test_nothing_to_compare_on_all_ranks_together_is_0(name: str, counts: list[int], ranks: Ranks) -> None:
    for value in ranks.run(len(counts), of_few_rows, name, counts):
        assert not isinstance(value, Exception), value
        assert value == 0


def squared_slope(loss: torch.nn.Module, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The derivative of the squared length of the gradient."""
    embeddings.requires_grad_()
    (slope,) = torch.autograd.grad(loss(embeddings, labels), embeddings, create_graph=True)
    return torch.autograd.grad(slope.square().sum(), embeddings)[0]


def of_own_rows(rank: int, group: dist.ProcessGroup, name: str, cuts: list[int]) -> torch.Tensor:
    """The same of the rows of a rank, as in a batch of many rows."""
    embeddings, labels = drawn(ROWS, DIMENSION, seed=3), classes(ROWS, seed=4)
    own = slice(cuts[rank], cuts[rank + 1])
    with block_sizes(on_every_rank=0):
        return squared_slope(GlobalBatch(losses.create(name), group), embeddings[own], labels[own])


@pytest.mark.parametrize("name", ["contrastive", "supervised_contrastive", "triplet", "circle"])
@pytest.mark.parametrize("cuts", [[0, 5, ROWS], [0, 0, 10, ROWS], [0, 10, ROWS, ROWS]], ids=str)
def test_second_derivatives_are_those_of_one_process(name: str, cuts: list[int], ranks: Ranks) -> None:
    size = len(cuts) - 1
    expected = squared_slope(losses.create(name), drawn(ROWS, DIMENSION, seed=3), classes(ROWS, seed=4))
    found = ranks.run(size, of_own_rows, name, cuts)
    for one in found:
        assert not isinstance(one, Exception), one
    # a rank's own gradient is as many times that of one process as there are ranks
    torch.testing.assert_close(torch.cat(found) / size**2, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_rows_that_travel_as_bytes_come_back(count: int) -> None:
    parts = [  # rows of 28 bytes, which are no whole number of int64
        torch.randn(count, 2),
        torch.randn(count, 2, 1).bfloat16(),
        torch.arange(count),
        torch.rand(count).double(),
    ]
    for part, right in zip(from_bytes(as_bytes(parts), parts), parts, strict=True):
        assert part.dtype is right.dtype
        assert torch.equal(part, right)
