"""A memory bank step by step: against pytorch-metric-learning's, against a list of what came before, and from
checkpoints."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import losses
from losses.adapters import pytorch_metric_learning as pml
from losses.checking import CLAUSES

DIMENSION = 4
OF_AN_EMPTY_BANK = {
    "indices_say_what_is_compared",
    "reference_is_compared_with",
    "labels_are_names",  # other names are not those of the past
    "width_does_not_matter",
    "config_round_trip",  # a configuration is no checkpoint
    "compiles_once_for_all_sizes",  # and widths
    "weight_is_of_the_anchor",
    "bad_normalizers_are_refused",  # in the first batch
}
"""Clauses that are about a batch on its own, or of another width."""
NESTED: list[tuple[str, dict[str, Any]]] = [
    ("circle", {}),
    ("contrastive", {}),
    ("contrastive", {"average": "active", "distance": "cosine"}),
    ("contrastive", {"average": "balanced", "power": 1}),
    ("info_nce", {}),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1}),
    ("supervised_contrastive", {}),
    ("triplet", {}),
    ("triplet", {"mining": "hard", "distance": "cosine"}),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"margin": "soft", "average": "all"}),
]


def bank_of(name: str = "triplet", parameters: dict[str, Any] | None = None, **settings: Any) -> Any:
    return losses.create("memory_bank", loss={"name": name, **(parameters or {})}, **settings)


def batch(step: int, size: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    embeddings = torch.randn(size, DIMENSION, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return embeddings, torch.randint(3, (size,), generator=generator)


class Listed:
    """What a bank should make of batch after batch, with a list for a memory."""

    def __init__(self, name: str, parameters: dict[str, Any], capacity: int) -> None:
        self.loss: Any = losses.create(name, **parameters)
        self.capacity, self.rows = capacity, list[tuple[Tensor, Tensor]]()

    def total(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> losses.Total:
        past = self.past()
        if past is None:
            total = self.loss.total(embeddings, labels, weight=weight)
        elif self.loss.each_pair_once:
            total = self.loss.total(embeddings, labels, weight=weight)
            total += self.loss.total(embeddings, labels, weight=weight, reference=past)
        else:
            everyone = torch.cat([embeddings, past[0]]), torch.cat([labels, past[1]])
            total = self.loss.part_total(embeddings, labels, weight, everyone, 0)
        self.put(embeddings, labels)
        return total

    def past(self) -> tuple[Tensor, Tensor] | None:
        if not self.rows:
            return None
        return torch.stack([row for row, _ in self.rows]), torch.stack([label for _, label in self.rows])

    def put(self, embeddings: Tensor, labels: Tensor) -> None:
        self.rows += zip(embeddings.detach(), labels, strict=True)
        self.rows = self.rows[max(0, len(self.rows) - self.capacity) :]


def gradient(value: Tensor, embeddings: Tensor, **options: Any) -> Tensor:
    return torch.autograd.grad(value, embeddings, **options)[0]


@pytest.mark.parametrize("capacity", [0, 1, 5, 16, 100])
@pytest.mark.parametrize(("name", "parameters"), NESTED)
def test_a_batch_is_compared_with_itself_and_with_the_last_ones(
    name: str, parameters: dict[str, Any], capacity: int
) -> None:
    """The batches are uneven, one is empty, and some are larger than the bank."""
    bank, listed = bank_of(name, parameters, capacity=capacity), Listed(name, parameters, capacity)
    for step, size in enumerate([7, 7, 3, 0, 20, 7, 1, 7]):
        embeddings, labels = batch(step, size)
        weight = torch.linspace(0, 2, size, dtype=torch.float64) if step % 3 == 2 else None
        expected = listed.total(embeddings, labels, weight).mean()
        value = bank(embeddings, labels, weight=weight)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradient(value, embeddings), gradient(expected, embeddings), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "parameters"), NESTED)
def test_every_reduction_goes_over_the_same_items(name: str, parameters: dict[str, Any]) -> None:
    banks = {reduction: bank_of(name, parameters, reduction=reduction) for reduction in ("mean", "sum", "none")}
    for step in range(3):
        embeddings, labels = batch(step)
        values = {reduction: bank(embeddings, labels) for reduction, bank in banks.items()}
        torch.testing.assert_close(values["none"].sum(), values["sum"], rtol=1e-10, atol=1e-12)
    listed = Listed(name, parameters, 1024)
    for step in range(3):
        total = listed.total(*batch(step))
    torch.testing.assert_close(values["sum"], total.sum.sum(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(values["mean"], total.mean(), rtol=1e-10, atol=1e-12)


def euclidean() -> Any:
    return pml.distances.LpDistance(normalize_embeddings=False, power=1)


PEERS: dict[str, tuple[str, dict[str, Any], Callable[[], Any]]] = {
    "triplet": ("triplet", {"margin": 0.5}, lambda: pml.losses.TripletMarginLoss(margin=0.5, distance=euclidean())),
    "circle": ("circle", {"margin": 0.4, "scale": 80}, lambda: pml.losses.CircleLoss(m=0.4, gamma=80)),
    "supcon": ("supervised_contrastive", {}, lambda: pml.losses.SupConLoss(temperature=0.1)),
    "multi_similarity": (
        "multi_similarity",
        {"alpha": 2, "beta": 50, "base": 0.5},
        lambda: pml.losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5),
    ),
}
CONTRASTIVE = (
    "contrastive",
    {"power": 1, "average": "balanced", "margin": 2.0},
    lambda: pml.losses.ContrastiveLoss(neg_margin=2.0, distance=euclidean()),
)


@pytest.mark.parametrize("peer", PEERS)
def test_the_value_is_that_of_cross_batch_memory(peer: str) -> None:
    """Its memory holds the batch too, so it is larger by one: then both compare with the same."""
    name, parameters, theirs = PEERS[peer]
    bank = bank_of(name, parameters, capacity=21)
    memory = pml.losses.CrossBatchMemory(theirs(), DIMENSION, memory_size=28)
    for step in range(8):
        embeddings, labels = batch(step)
        torch.testing.assert_close(
            bank(embeddings, labels), memory(embeddings, labels), rtol=1e-6, atol=1e-7, check_dtype=False
        )


@pytest.mark.parametrize("peer", [*PEERS, "contrastive"])
def test_a_reference_is_what_cross_batch_memory_calls_an_enqueue_mask(peer: str) -> None:
    name, parameters, theirs = {**PEERS, "contrastive": CONTRASTIVE}[peer]
    bank = bank_of(name, parameters, capacity=21)
    memory = pml.losses.CrossBatchMemory(theirs(), DIMENSION, memory_size=28)
    mask = torch.arange(14) >= 7
    for step in range(8):
        (embeddings, labels), (keys, key_labels) = batch(step), batch(100 + step)
        value = bank(embeddings, labels, reference=(keys.detach(), key_labels))
        expected = memory(torch.cat([embeddings, keys.detach()]), torch.cat([labels, key_labels]), enqueue_mask=mask)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, check_dtype=False)
        torch.testing.assert_close(gradient(value, embeddings), gradient(expected, embeddings), rtol=1e-5, atol=1e-6)


def test_the_keys_of_a_momentum_encoder_are_what_is_remembered() -> None:
    bank = bank_of("info_nce", {"temperature": 0.2}, capacity=32)
    encoder = nn.Linear(DIMENSION, DIMENSION).double()
    momentum = copy.deepcopy(encoder)
    for step in range(5):
        samples, _ = batch(step)
        numbers = torch.arange(7) + 7 * step  # a sample finds its own key among all keys, old ones too
        with torch.no_grad():
            keys = momentum(samples)
        past = bank.past()[0].reshape(-1, DIMENSION)
        logits = F.normalize(encoder(samples)) @ F.normalize(torch.cat([keys, past])).T / 0.2
        value = bank(encoder(samples), numbers, reference=(keys, numbers))
        torch.testing.assert_close(value, F.cross_entropy(logits, torch.arange(7)))
        assert bank.queue[(numbers % 32)].equal(keys)
        value.backward()


def test_warm_up_neither_fills_nor_sees_the_memory() -> None:
    bank, late, alone = bank_of(warmup_steps=3), bank_of(), losses.create("triplet")
    for step in range(3):
        torch.testing.assert_close(bank(*batch(step)), alone(*batch(step)), rtol=0, atol=0)
        assert not len(bank.past()[0])
    for step in range(3, 6):
        torch.testing.assert_close(bank(*batch(step)), late(*batch(step)), rtol=0, atol=0)


def test_in_evaluation_mode_the_memory_stands_still_and_is_seen() -> None:
    bank = bank_of().eval()
    torch.testing.assert_close(bank(*batch(0)), losses.create("triplet")(*batch(0)), rtol=0, atol=0)
    assert not len(bank.past()[0])
    training = bank_of()
    training(*batch(1))
    seen = [copy.deepcopy(training)(*batch(2)), *(training.eval()(*batch(2)) for _ in range(2))]
    assert seen[0] == seen[1] == seen[2] != losses.create("triplet")(*batch(2))
    assert len(training.past()[0]) == 7


def test_a_total_is_remembered_and_readings_only_look() -> None:
    bank, other = bank_of("contrastive"), bank_of("contrastive")
    for step in range(3):
        readings = bank.readings(*batch(step))
        assert all(bool(reading.isfinite()) for reading in readings.values())
        torch.testing.assert_close(bank.total(*batch(step)).mean(), other(*batch(step)), rtol=1e-12, atol=1e-12)


def test_indices_point_into_the_batch_and_then_into_the_past() -> None:
    bank = bank_of()
    bank(*batch(0))
    (embeddings, labels), (past, past_labels) = batch(1), bank.past()
    everyone = torch.cat([embeddings, past]), torch.cat([labels, past_labels])
    miner = pml.miners.TripletMarginMiner(margin=0.2, type_of_triplets="all", distance=euclidean())
    anchor, positive, negative = miner(embeddings, labels, past, past_labels)
    indices = anchor, positive + 7, negative + 7
    expected = losses.create("triplet")(embeddings, labels, indices, reference=everyone)
    torch.testing.assert_close(bank(embeddings, labels, indices), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(losses.InputError, match="runs from"):
        bank(embeddings, labels, (anchor, positive + 30, negative))


def training(bank: Any, encoder: nn.Module, optimiser: Any, steps: range) -> Iterator[Tensor]:
    for step in steps:
        samples, labels = batch(step, 5, torch.float32)
        value = bank(F.normalize(encoder(samples.detach())), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        yield value.detach()


def parts(**settings: Any) -> tuple[Any, nn.Module, Any]:
    torch.manual_seed(3)
    encoder = nn.Linear(DIMENSION, 3)
    bank = bank_of("supervised_contrastive", capacity=13, **settings)
    return bank, encoder, torch.optim.Adam(encoder.parameters())


@pytest.mark.parametrize("stopped", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("settings", [{}, {"dimension": 3}, {"warmup_steps": 2}], ids=str)
def test_a_training_that_goes_on_from_a_checkpoint_has_the_same_losses_to_the_last_bit(
    stopped: int, settings: dict[str, Any]
) -> None:
    expected = list(training(*parts(**settings), range(12)))
    begun = parts(**settings)
    list(training(*begun, range(stopped)))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in begun], file)
    file.seek(0)
    resumed = parts(**settings)
    list(training(*resumed, range(50, 53)))  # whatever it did before is gone
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    again = list(training(*resumed, range(stopped, 12)))
    assert torch.stack(again).equal(torch.stack(expected[stopped:]))


def test_copies_and_pickles_go_on_by_themselves() -> None:
    bank = bank_of()
    bank(*batch(0))
    copies = [copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))]
    values = [[each(*batch(step)) for step in (1, 2)] for each in (bank, *copies)]
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"capacity": 8}, "capacity: got 8, the memory bank in the checkpoint has 16"),
        ({"capacity": 16, "dimension": 6}, "dimension: got 6, the memory bank in the checkpoint has 4"),
    ],
)
def test_a_checkpoint_of_another_bank_is_refused(settings: dict[str, Any], said: str) -> None:
    saved = bank_of(capacity=16)
    saved(*batch(0))
    with pytest.raises(losses.ConfigError, match=said):
        bank_of(**settings).load_state_dict(saved.state_dict())
    assert bank_of(capacity=8).load_state_dict(bank_of(capacity=8).state_dict()).missing_keys == []


def test_embeddings_of_another_dimension_are_refused() -> None:
    bank = bank_of()
    bank(*batch(0))
    for width in (3, 6):
        with pytest.raises(losses.InputError, match=f"embeddings have {width} dimensions, the memory bank holds 4"):
            bank(torch.randn(5, width), torch.arange(5) % 2)
    with pytest.raises(losses.InputError, match="embeddings have 4 dimensions, the memory bank holds 6"):
        bank_of(dimension=6)(*batch(0))
    torch.testing.assert_close(len(bank.past()[0]), 7)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "mse"}, "loss: got 'mse', expected a loss of labelled embeddings"),
        ({"loss": "memory_bank"}, "loss: got 'memory_bank', expected a loss of labelled embeddings"),
        ({"loss": {"name": "triplet", "reduction": "sum"}}, r"loss\.reduction: got 'sum'; set reduction on the memory"),
        ({"loss": "triplet", "capacity": -1}, "capacity: got -1, expected an integer of at least 0"),
        ({"loss": "triplet", "dimension": 0}, "dimension: got 0, expected an integer of at least 1"),
        ({"loss": "triplet", "warmup_steps": 0.5}, "warmup_steps: got 0.5"),
        ({"loss": {"name": "triplet", "margn": 1}}, r"loss\.margn"),
    ],
)
def test_what_is_no_bank_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(losses.ConfigError, match=said):
        losses.create("memory_bank", **settings)


def test_capacity_and_dimension_do_not_change() -> None:
    bank = bank_of()
    for name in ("capacity", "dimension"):
        with pytest.raises(AttributeError):
            setattr(bank, name, 3)


def test_what_is_forgotten_is_not_seen() -> None:
    bank = bank_of(warmup_steps=1)
    for step in range(3):
        bank(*batch(step))
    bank.forget()
    torch.testing.assert_close(bank(*batch(4)), losses.create("triplet")(*batch(4)), rtol=0, atol=0)
    assert len(bank.past()[0]) == 7


@pytest.mark.parametrize(("name", "parameters"), NESTED)
def test_second_derivatives_beside_the_past(name: str, parameters: dict[str, Any]) -> None:
    bank = bank_of(name, parameters)
    bank(*batch(0))
    bank.eval()
    embeddings, labels = batch(1, 5)
    if name != "circle":  # whose gradient treats its weights as constants
        assert torch.autograd.gradcheck(lambda given: bank(given, labels), embeddings, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda given: bank(given, labels), embeddings, fast_mode=True)


def test_the_memory_that_a_graph_holds_may_be_overwritten() -> None:
    bank = bank_of("contrastive", capacity=8)
    bank(*batch(0))
    embeddings, labels = batch(1)
    expected = copy.deepcopy(bank)(embeddings, labels)
    value = bank(embeddings, labels)
    bank(*batch(2))
    torch.testing.assert_close(gradient(value, embeddings), gradient(expected, embeddings), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_remembered_in_single(dtype: torch.dtype) -> None:
    bank, exact = bank_of("supervised_contrastive"), bank_of("supervised_contrastive")
    for step in range(3):
        embeddings, labels = batch(step, dtype=dtype)
        value = bank(embeddings, labels)
        assert value.dtype is torch.float32
        expected = exact(embeddings.detach().double(), labels).float()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        assert gradient(value, embeddings).dtype is dtype


def test_digits_of_double_precision_are_kept_whatever_came_first() -> None:
    bank = bank_of()
    bank(*batch(0, dtype=torch.float32))
    bank(*batch(1))
    assert bank.past()[0][7:14].equal(batch(1)[0].detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_callers_fall_back_to_it_in_training_and_take_it_in_in_evaluation() -> None:
    bank, other = bank_of(), bank_of()
    compiled = torch.compile(lambda embeddings, labels: bank(2 * embeddings, labels), backend="eager")
    for step in range(4):
        embeddings, labels = batch(step)
        torch.testing.assert_close(compiled(embeddings, labels), other(2 * embeddings, labels))
    bank.eval()
    whole = torch.compile(lambda embeddings, labels: bank(embeddings, labels), backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(*batch(9)), other(*batch(9)))


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
def test_a_full_bank_keeps_the_contract(name: str) -> None:
    """In evaluation mode: no value is read, derivatives are right, in blocks too, compiled, in half precision."""
    bank = bank_of(name, capacity=9)
    for step in range(3):
        bank(*batch(step))
    clauses = [clause for clause in CLAUSES if clause not in OF_AN_EMPTY_BANK and clause not in bank.exemptions]
    report = losses.check_loss(bank, clauses=clauses)
    assert not [verdict for verdict in report.verdicts if verdict.outcome == "broken"]
