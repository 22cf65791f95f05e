"""Siamese and triplet networks: one encoder, a loss that fits, and a threshold as good as any."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import losses
from losses import ConfigError, InputError, Pairs, Triplets
from losses.core.registry import find
from losses.networks import SiameseNetwork, TripletNetwork
from tests.refusals import refused


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def line(*distances: float) -> tuple[Tensor, Tensor]:
    """Return pairs of points on a line that lie so far apart."""
    second = torch.tensor(distances, dtype=torch.float64).unsqueeze(1)
    return torch.zeros_like(second), second


def youden(accepted: Tensor, same: Tensor) -> float:
    return (accepted & same).sum().item() / same.sum().item() - (accepted & ~same).sum().item() / (~same).sum().item()


def test_both_inputs_go_through_one_encoder() -> None:
    network = SiameseNetwork(encoder())
    first, second = torch.randn(2, 5, 3)
    pairs = network(first, second)
    assert isinstance(pairs, Pairs)
    torch.testing.assert_close(pairs.first, network.encoder(first))
    torch.testing.assert_close(pairs.second, network.embed(second))
    assert len(list(network.parameters())) == len(list(network.encoder.parameters()))


def test_all_three_inputs_go_through_one_encoder() -> None:
    network = TripletNetwork(encoder())
    batches = torch.randn(3, 5, 3)
    triplets = network(*batches)
    assert isinstance(triplets, Triplets)
    for embedded, batch in zip(triplets, batches, strict=True):
        torch.testing.assert_close(embedded, network.encoder(batch))


@pytest.mark.parametrize("loss", ["contrastive", "circle", {"name": "contrastive", "distance": "cosine"}], ids=str)
def test_shared_weights_get_the_gradients_of_both_sides(loss: Any) -> None:
    network = SiameseNetwork(encoder(), loss=loss)
    first, second, same = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([1, 0, 1, 0, 1, 0])
    network.loss(network(first, second), same).backward()
    both = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    assert len(both) == 4
    sides = []
    for frozen in (0, 1):
        network.zero_grad()
        pairs = [network.embed(first), network.embed(second)]
        pairs[frozen] = pairs[frozen].detach()
        network.loss(Pairs(*pairs), same).backward()
        sides.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    for whole, one, other in zip(both, *sides, strict=True):
        torch.testing.assert_close(whole, one + other)


def test_triplet_networks_learn_to_tell_classes_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = TripletNetwork(encoder(), loss={"name": "triplet", "margin": 1.0, "average": "all"})
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    centres = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    values = []
    for _ in range(60):
        own, other = (centre + 0.3 * torch.randn(2, 16, 3, generator=generator) for centre in centres)
        value = network.loss(network(own[0], own[1], other[0]), None)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] / 4


@pytest.mark.parametrize("name", losses.available())
def test_a_loss_that_does_not_fit_is_refused_when_the_network_is_built(name: str) -> None:
    takes_pairs, takes_triplets = name in ("contrastive", "circle", "cosine_embedding"), name == "triplet"
    for network, fits, fitting in (
        (SiameseNetwork, takes_pairs, ["Pairs", "circle, contrastive, cosine_embedding"]),
        (TripletNetwork, takes_triplets, ["Triplets", "triplet"]),
    ):
        if fits:
            assert network(encoder(), loss=name).loss.spec.name == name
            continue
        with refused([network.__name__, repr(name), *fitting], ConfigError):
            network(encoder(), loss=find(name).instance())


def test_a_loss_is_a_name_a_configuration_or_an_instance() -> None:
    instance = losses.create("contrastive", margin=3.0)
    assert SiameseNetwork(encoder(), loss=instance).loss is instance
    assert SiameseNetwork(encoder(), loss={"name": "contrastive", "margin": 3.0}).loss.config() == instance.config()
    with pytest.raises(ConfigError, match="Did you mean 'contrastive'"):
        SiameseNetwork(encoder(), loss="contrastiv")


@pytest.mark.parametrize("seed", range(60))
def test_the_threshold_is_the_best_there_is(seed: int) -> None:
    """By brute force over every way to cut the sorted distances in two."""
    random = torch.Generator().manual_seed(seed)
    count = int(torch.randint(2, 15, (), generator=random))
    same = torch.rand(count, generator=random) > 0.5
    same[:2] = torch.tensor([True, False])
    # telling, or worse than chance
    distances = torch.rand(count, generator=random, dtype=torch.float64) + (~same) * (seed % 4 - 1) / 3 + 1
    if seed % 2:
        distances = (distances * 5).round() / 5  # ties
    first, second = line(*distances.tolist())
    network = SiameseNetwork(nn.Identity())
    threshold = network.calibrate((first, second), same)
    accepted = network.verify(first, second)
    best = max(youden(distances <= cut, same) for cut in [-1.0, *distances.tolist()])
    assert youden(accepted, same) == pytest.approx(best)
    assert threshold == float(network.threshold)


def test_the_threshold_lies_halfway_between_the_distances_it_separates() -> None:
    network = SiameseNetwork(nn.Identity())
    assert network.calibrate(line(1.0, 2.0, 4.0, 9.0), torch.tensor([1, 1, 0, 0])) == 3
    assert network.verify(*line(2.9, 3.1)).tolist() == [True, False]


@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_where_no_threshold_is_better_than_chance_nothing_is_accepted(scale: float) -> None:
    """Different pairs nearer than same ones."""
    network = SiameseNetwork(nn.Identity())
    pairs = line(0.1 * scale, 0.7 * scale)
    assert network.calibrate(pairs, torch.tensor([0, 1])) == -torch.inf
    assert network.verify(*pairs).tolist() == [False, False]


@pytest.mark.parametrize(
    ("network", "metric"),
    [
        (SiameseNetwork(nn.Identity()), "euclidean"),
        (
            SiameseNetwork(nn.Identity(), loss={"name": "contrastive", "distance": "squared_euclidean"}),
            "squared_euclidean",
        ),
        (SiameseNetwork(nn.Identity(), loss="circle"), "cosine"),
        (TripletNetwork(nn.Identity(), loss={"name": "triplet", "distance": "cosine"}), "cosine"),
    ],
    ids=["default", "squared", "circle", "triplet"],
)
def test_distance_is_in_the_metric_of_the_loss(network: Any, metric: str) -> None:
    first, second = torch.randn(2, 5, 3)
    expected = {
        "euclidean": (first - second).norm(dim=1),
        "squared_euclidean": (first - second).square().sum(1),
        "cosine": 1 - nn.functional.cosine_similarity(first, second),
    }[metric]
    torch.testing.assert_close(network.distance(first, second), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_distances_of_an_encoder_in_half_precision_are_finite(dtype: torch.dtype) -> None:
    first, second = torch.tensor([[300.0, 400.0]], dtype=dtype), torch.zeros(1, 2, dtype=dtype)
    assert SiameseNetwork(nn.Identity()).distance(first, second).item() == pytest.approx(500, rel=0.01)


def test_verify_before_calibrate_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"calibrate\(pairs, same\)"):
        SiameseNetwork(nn.Identity()).verify(*line(1.0))


@pytest.mark.parametrize("same", [[1, 1], [0, 0], [-1, -1]], ids=str)
def test_calibration_needs_both_kinds_of_pairs(same: list[int]) -> None:
    with pytest.raises(InputError, match="same and different"):
        SiameseNetwork(nn.Identity()).calibrate(line(1.0, 2.0), torch.tensor(same))


def test_calibration_needs_an_answer_for_each_pair() -> None:
    with pytest.raises(InputError, match="2 rows"):
        SiameseNetwork(nn.Identity()).calibrate(line(1.0, 2.0), torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("kind", [SiameseNetwork, TripletNetwork])
def test_the_threshold_is_kept_in_the_state(kind: Any) -> None:
    network = kind(nn.Identity())
    network.calibrate(line(1.0, 4.0), torch.tensor([1, 0]))
    fresh = kind(nn.Identity())
    fresh.load_state_dict(network.state_dict())
    assert float(fresh.threshold) == 2.5
    assert copy.deepcopy(network).verify(*line(2.0, 3.0)).tolist() == [True, False]


@pytest.mark.parametrize("training", [True, False])
def test_calibrate_and_verify_evaluate_and_leave_every_mode_as_it_was(training: bool) -> None:
    normalisation, dropout = nn.BatchNorm1d(3), nn.Dropout(0.9)
    network = SiameseNetwork(nn.Sequential(normalisation, dropout)).train(training)
    normalisation.eval()  # as one freezes a pretrained layer
    before = {name: module.training for name, module in network.named_modules()}
    running = normalisation.running_mean.clone()
    first, second, same = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([1, 0, 1, 0, 1, 0])
    thresholds = {network.calibrate((first, second), same) for _ in range(3)}
    assert len(thresholds) == 1  # no dropout
    network.verify(first, second)
    torch.testing.assert_close(normalisation.running_mean, running)
    assert {name: module.training for name, module in network.named_modules()} == before


def test_calibrate_builds_no_graph() -> None:
    network = SiameseNetwork(encoder())
    network.calibrate((torch.randn(4, 3), torch.randn(4, 3)), torch.tensor([1, 0, 1, 0]))
    assert not network.threshold.requires_grad
    assert not network.verify(torch.randn(4, 3), torch.randn(4, 3)).requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_distances_that_are_not_numbers_are_no_basis_for_a_threshold() -> None:
    network = SiameseNetwork(torch.nn.Identity())
    with pytest.raises(InputError, match="distances must be numbers"):
        network.calibrate((torch.tensor([[float("nan")], [1.0]]), torch.zeros(2, 1)), torch.tensor([0, 1]))
