"""as_pml: losses of this package in the memory, wrappers, miners and trainers of pytorch-metric-learning."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import losses
from losses.adapters.pml import as_pml
from losses.adapters.pml.ours import NAMES
from losses.adapters.pytorch_metric_learning import (
    DistributedLossWrapper,
    MPerClassSampler,
    accuracy_calculator,
    distances,
    miners,
    trainers,
)
from losses.adapters.pytorch_metric_learning import losses as pml
from losses.distributed import GlobalBatch
from tests.distributed.ranks import Ranks
from tests.distributed.steps import Outcome, averaged, drawn, network
from tests.refusals import refused

METRIC = [name for name in losses.available("metric") if name != "memory_bank"]  # there CrossBatchMemory
THEIRS = {
    "triplet": ({"margin": 0.2}, lambda: pml.TripletMarginLoss(margin=0.2, distance=raw())),
    "contrastive": (
        {"power": 1, "average": "balanced"},
        lambda: pml.ContrastiveLoss(pos_margin=0, neg_margin=1, distance=raw()),
    ),
    "circle": ({"scale": 8}, lambda: pml.CircleLoss(m=0.4, gamma=8)),
    "multi_similarity": ({}, lambda: pml.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)),
    "supervised_contrastive": ({"temperature": 0.5}, lambda: pml.SupConLoss(temperature=0.5)),
    "info_nce": ({"temperature": 0.5}, lambda: pml.NTXentLoss(temperature=0.5)),
}
"""Of every loss the parameters with which it is one of theirs, and that one."""


def raw() -> Any:
    return distances.LpDistance(normalize_embeddings=False)


def embedded(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    return drawn(size, 4, seed=seed).requires_grad_(), torch.arange(size) % 3


def both(name: str) -> tuple[Any, Any]:
    """Return a loss of ours through as_pml, and theirs."""
    parameters, theirs = THEIRS[name]
    return as_pml(losses.create(name, **parameters)), theirs()


def require_equal(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    gradients = (torch.autograd.grad(value, leaves) for value in (ours, theirs))
    torch.testing.assert_close(next(gradients), next(gradients), rtol=1e-8, atol=1e-8)


def test_every_loss_of_embeddings_has_an_equal_there() -> None:
    assert sorted(THEIRS) == sorted(NAMES) == sorted({*METRIC} - {"cosine_embedding"})  # whose mean torch has


@pytest.mark.parametrize("name", THEIRS)
def test_it_is_called_as_theirs_are(name: str) -> None:
    ours, theirs = both(name)
    assert isinstance(ours, pml.BaseMetricLossFunction)
    assert type(ours).__name__ == type(theirs).__name__
    embeddings, labels = embedded(0)
    require_equal(ours(embeddings, labels), theirs(embeddings, labels), embeddings)
    others, other_labels = embedded(1, 9)
    given = {"ref_emb": others, "ref_labels": other_labels}
    require_equal(ours(embeddings, labels, **given), theirs(embeddings, labels, **given), embeddings, others)
    same = {"ref_emb": embeddings, "ref_labels": labels}  # the batch itself, as there
    require_equal(ours(embeddings, labels, **same), theirs(embeddings, labels, **same), embeddings)


@pytest.mark.parametrize(
    "miner",
    [
        miners.MultiSimilarityMiner(epsilon=0.5),
        miners.BatchHardMiner(),
        miners.PairMarginMiner(),
        miners.TripletMarginMiner(margin=0.5),
        miners.UniformHistogramMiner(),
    ],
    ids=lambda miner: type(miner).__name__,
)
@pytest.mark.parametrize("name", THEIRS)
def test_miners_say_what_is_compared_with_labels_and_without(name: str, miner: Any) -> None:
    ours, theirs = both(name)
    embeddings, labels = embedded(2)
    mined = miner(embeddings, labels)
    require_equal(ours(embeddings, labels, mined), theirs(embeddings, labels, mined), embeddings)
    assert torch.equal(ours(embeddings, indices_tuple=mined), ours(embeddings, labels, mined))
    others, other_labels = embedded(3, 9)
    mined = miner(embeddings, labels, others, other_labels)
    value = ours(embeddings, labels, mined, others, other_labels)
    require_equal(value, theirs(embeddings, labels, mined, others, other_labels), embeddings)
    assert torch.equal(ours(embeddings, indices_tuple=mined, ref_emb=others), value)


@pytest.mark.parametrize("miner", [None, miners.MultiSimilarityMiner(epsilon=0.5), miners.BatchHardMiner()], ids=str)
@pytest.mark.parametrize("name", THEIRS)
def test_a_memory_keeps_batches_for_it(name: str, miner: Any) -> None:
    memories = [pml.CrossBatchMemory(loss, embedding_size=4, memory_size=30, miner=miner) for loss in both(name)]
    for seed in range(5):  # the third batch fills the memory, the fourth replaces the first
        embeddings, labels = embedded(seed)
        require_equal(*(memory(embeddings, labels) for memory in memories), embeddings)
    mask = torch.arange(12) < 6
    embeddings, labels = embedded(9)
    require_equal(*(memory(embeddings, labels, enqueue_mask=mask) for memory in memories), embeddings)


@pytest.mark.parametrize("name", THEIRS)
def test_several_losses_are_added_each_with_its_miner(name: str) -> None:
    embeddings, labels = embedded(4)
    miner = miners.MultiSimilarityMiner(epsilon=0.5)
    several = [
        pml.MultipleLosses(
            {"one": loss, "other": pml.NCALoss()}, miners={"one": miner}, weights={"one": 0.5, "other": 2}
        )
        for loss in both(name)
    ]
    require_equal(*(each(embeddings, labels) for each in several), embeddings)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", THEIRS)
def test_two_views_are_labelled_for_it(name: str, symmetric: bool) -> None:
    (first, _), (second, _) = embedded(5), embedded(6)
    wrapped = [pml.SelfSupervisedLoss(loss, symmetric=symmetric) for loss in both(name)]
    require_equal(*(each(first, second) for each in wrapped), first, second)


@pytest.mark.parametrize("name", ["TripletMarginLoss", "NCALoss"])
def test_a_loss_of_theirs_that_was_built_here_goes_back(name: str) -> None:
    ours = as_pml(losses.create(f"pml.{name}"))
    assert type(ours).__name__ == name
    theirs = getattr(pml, name)()
    memories = [pml.CrossBatchMemory(loss, embedding_size=4, memory_size=30) for loss in (ours, theirs)]
    for seed in range(3):
        embeddings, labels = embedded(seed)
        require_equal(*(memory(embeddings, labels) for memory in memories), embeddings)


class Letters(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Points around the corner of their class, which a linear network can find again."""

    def __init__(self) -> None:
        self.labels = torch.arange(60) % 5
        self.points = F.one_hot(self.labels, 8).double() + 0.5 * drawn(60, 8, seed=3)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.points[place], int(self.labels[place])


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True")  # of its progress bar
@pytest.mark.parametrize("name", THEIRS)
def test_a_trainer_with_a_sampler_and_a_miner_trains_on_it(name: str) -> None:
    """As with the loss that it equals; the accuracy calculator sees it learn."""
    learned, dataset = [], Letters()
    sampler = InOrder(dataset.labels)
    for loss in both(name):
        torch.manual_seed(0)
        trunk = nn.Linear(8, 3).double()
        before = precision(trunk)
        trainer = trainers.MetricLossOnly(
            models={"trunk": trunk},
            optimizers={"trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=0.02)},
            batch_size=20,
            loss_funcs={"metric_loss": loss},
            mining_funcs={"tuple_miner": miners.MultiSimilarityMiner(epsilon=0.5)},
            dataset=dataset,
            sampler=sampler,
            dtype=torch.float64,
            iterations_per_epoch=15,
            dataloader_num_workers=0,
        )
        trainer.train(num_epochs=1)
        assert precision(trunk) > before
        learned.append(trunk.weight.detach())
    torch.testing.assert_close(*learned, rtol=1e-6, atol=1e-6)


class InOrder(torch.utils.data.Sampler[int]):
    """What a sampler drew once, again and again."""

    def __init__(self, labels: Tensor) -> None:
        self.drawn = list(MPerClassSampler(labels, m=4, batch_size=20, length_before_new_iter=300))

    def __iter__(self) -> Any:
        return iter(self.drawn)

    def __len__(self) -> int:
        return len(self.drawn)


def precision(trunk: nn.Module) -> float:
    """Return how well classes are found again, by the accuracy calculator."""
    data = Letters()
    calculator = accuracy_calculator(distances.LpDistance(normalize_embeddings=True), ["mean_average_precision"])
    found = calculator.get_accuracy(trunk(data.points).detach(), data.labels)
    return float(found["mean_average_precision"])


def wrapped(rank: int, group: dist.ProcessGroup, name: str, efficient: bool) -> Outcome:
    """Take one step within the wrapper of pytorch-metric-learning, which knows the group of all processes alone."""
    encoder, loss = network(), both(name)[0]
    points, labels = drawn(16, 5, seed=1).chunk(4)[rank], (torch.arange(16) % 3).chunk(4)[rank]
    value = DistributedLossWrapper(loss, efficient=efficient)(encoder(points), labels)
    value.backward()
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    return Outcome(torch.zeros(()), torch.cat([gradient.flatten() for gradient in gradients]))


@pytest.mark.integration
@pytest.mark.parametrize("name", THEIRS)
def test_the_wrapper_for_several_processes_takes_it(name: str, ranks: Ranks) -> None:
    outcomes = ranks.run(4, wrapped, name, False)
    for one in outcomes:
        assert not isinstance(one, Exception), one
    encoder = network()
    both(name)[0](encoder(drawn(16, 5, seed=1)), torch.arange(16) % 3).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in encoder.parameters() if parameter.grad is not None])
    torch.testing.assert_close(averaged(outcomes).gradient, expected, rtol=1e-10, atol=1e-10)
    for one in ranks.run(4, wrapped, name, True):
        assert not isinstance(one, Exception), one


@pytest.mark.parametrize("name", THEIRS)
def test_a_value_can_be_changed_in_place_as_trainers_do(name: str) -> None:
    embeddings, labels = embedded(0)
    for indices in (None, miners.BatchHardMiner()(embeddings, labels)):
        expected = torch.autograd.grad(both(name)[0](embeddings, labels, indices), embeddings)[0] / 2
        value = both(name)[0](embeddings, labels, indices)
        value /= 2
        torch.testing.assert_close(torch.autograd.grad(value, embeddings)[0], expected)


def test_a_global_batch_is_taken_too() -> None:
    embeddings, labels = embedded(0)
    loss = losses.create("triplet")
    memory = pml.CrossBatchMemory(as_pml(GlobalBatch(loss)), embedding_size=4, memory_size=12)
    torch.testing.assert_close(memory(embeddings, labels), loss(embeddings, labels))


@pytest.mark.parametrize("name", THEIRS)
def test_copies_are_the_same(name: str) -> None:
    embeddings, labels = embedded(0)
    loss = both(name)[0].eval()
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert type(other).__name__ == type(loss).__name__
        assert repr(other) == repr(loss) == f"as_pml({loss.loss!r})"
        assert not other.training
        assert torch.equal(other(embeddings, labels), loss(embeddings, labels))


def test_what_it_does_not_take_is_refused() -> None:
    embeddings, labels = embedded(0)
    with refused(["as_pml takes losses of labelled embeddings, mse takes prediction"], losses.ConfigError):
        as_pml(losses.create("mse"))
    with refused(["as_pml takes a loss of this package, got TripletMarginLoss"], losses.ConfigError):
        as_pml(pml.TripletMarginLoss(margin=0.1))  # type: ignore[arg-type]  # wrong on purpose
    with refused(["reduction is 'none'", "use 'mean' or 'sum'"], losses.ConfigError):
        as_pml(losses.create("triplet", reduction="none"))
    loss = as_pml(losses.create("triplet"))
    with refused(["labels and indices_tuple are both None"]):
        loss(embeddings)
    with refused(["ref_emb without ref_labels"]):
        loss(embeddings, labels, ref_emb=embedded(1)[0])


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_value_in_half_precision_is_float32_as_everywhere_here(name: str, dtype: torch.dtype) -> None:
    embeddings, labels = embedded(0)
    given = embeddings.detach().to(dtype).requires_grad_()
    value = both(name)[0](given, labels)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, both(name)[1](given.detach().float(), labels), rtol=1e-5, atol=1e-5)
    assert torch.autograd.grad(value, given)[0].dtype is dtype
