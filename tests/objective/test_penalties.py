"""Penalties against optimisers and scikit-learn, and what they refuse."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso
from torch import nn

import losses
from losses.extend import ConfigError, InputError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()


def test_an_l2_penalty_is_the_weight_decay_of_sgd() -> None:
    penalised, decayed = network(), network()
    losses.create("l2_penalty", strength=0.3)(penalised).backward()
    for parameter in decayed.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD(penalised.parameters(), lr=0.1).step()
    torch.optim.SGD(decayed.parameters(), lr=0.1, weight_decay=0.3).step()
    for ours, theirs in zip(penalised.parameters(), decayed.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_an_elastic_net_is_between_both(ratio: float) -> None:
    values = [losses.create(name, strength=0.7)(network()) for name in ("l1_penalty", "l2_penalty")]
    between = losses.create("elastic_net", strength=0.7, l1_ratio=ratio)(network())
    torch.testing.assert_close(between, ratio * values[0] + (1 - ratio) * values[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("penalty", "peer"),
    [
        ({"name": "elastic_net", "strength": 0.1, "l1_ratio": 0.4}, ElasticNet(alpha=0.1, l1_ratio=0.4, tol=1e-12)),
        ({"name": "l1_penalty", "strength": 0.1}, Lasso(alpha=0.1, tol=1e-12)),
    ],
)
def test_where_scikit_learn_ends_no_step_is_left(penalty: dict[str, object], peer: Lasso) -> None:
    """At its solution the gradient of half the mean squared error is balanced by the penalty: 0, or within its kink."""
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(60, 5))
    target = samples @ [1.0, -2.0, 0.0, 0.0, 0.5] + 0.1 * generator.normal(size=60)
    peer.fit(samples, target)
    linear = nn.Linear(5, 1).double()
    linear.weight.data, linear.bias.data = torch.tensor(peer.coef_[None]), torch.tensor([peer.intercept_])
    objective = losses.create(
        "weighted_sum", terms=[{"loss": "mse", "weight": 0.5}, {"loss": {**penalty, "include": "weight"}}]
    )
    objective(linear(torch.tensor(samples)), torch.tensor(target[:, None]), model=linear).backward()
    assert linear.weight.grad is not None
    used = linear.weight != 0
    torch.testing.assert_close(linear.weight.grad[used], torch.zeros_like(linear.weight[used]), rtol=0, atol=1e-6)
    assert 0 < int(used.sum()) < 5
    assert float(linear.weight.grad[~used].abs().max()) <= 0.1


def test_patterns_choose_parameters_and_frozen_ones_are_left_out() -> None:
    model = network()
    model[2].weight.requires_grad_(False)
    penalty = losses.create("l1_penalty", strength=1, include=["*.weight", "0.*"])
    expected = model[0].weight.abs().sum() + model[0].bias.abs().sum()
    torch.testing.assert_close(penalty(model), expected)
    penalty(model).backward()
    assert model[2].weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(100, 100, bias=False).to(dtype)
    model.weight.data.fill_(4.0)
    penalty = losses.create("l2_penalty", strength=1)(model)
    assert penalty.dtype is torch.float32
    assert float(penalty.detach()) == 80_000.0  # more than float16 holds
    penalty.backward()
    assert model.weight.grad is not None and float(model.weight.grad.max()) == 4.0


def test_a_network_without_parameters_costs_nothing() -> None:
    assert float(losses.create("l1_penalty")(nn.ReLU())) == 0


@pytest.mark.parametrize("name", ["l1_penalty", "l2_penalty", "elastic_net"])
def test_configuration_is_read_back(name: str) -> None:
    penalty = losses.create(name, strength=0.5, include=["*.weight"])
    assert losses.create(penalty.config()).config() == penalty.config()
    assert "strength=0.5" in repr(penalty)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"strength": -1}, "strength: got -1, expected a finite number of at least 0"),
        ({"include": ""}, "include is empty"),
        ({"include": []}, "include is empty"),
        ({"include": 3}, "include: got 3, expected a pattern such as"),
        ({"strenght": 1}, "strenght: unknown key.*Did you mean 'strength'?"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        losses.create("l2_penalty", **parameters)


def test_a_pattern_that_fits_nothing_is_refused_with_the_names_there_are() -> None:
    penalty = losses.create("l2_penalty", include=["*.weight", "*.wieght"])
    with pytest.raises(InputError, match=r"include: '\*.wieght' fits no parameter, there are 0.weight, 0.bias"):
        penalty(network())


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InputError, match="l2_penalty takes a module whose parameters it penalises, got"):
        losses.create("l2_penalty")(torch.ones(3))
    with pytest.raises(ConfigError, match="reconstruction: got L2Penalty, which looks at the parameters of a network"):
        losses.create("elbo", reconstruction="l2_penalty")


def test_patterns_that_are_set_later_count() -> None:
    penalty, model = losses.create("l2_penalty", strength=2.0), network()
    penalty.include = "*.bias"
    torch.testing.assert_close(penalty(model), losses.create(penalty.config())(model))
    torch.testing.assert_close(penalty(model), sum(layer.bias.square().sum() for layer in (model[0], model[2])))


def test_complex_parameters_are_penalised_by_their_size() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.tensor([1 + 1j, 1j]))
    assert float(losses.create("l2_penalty", strength=2.0)(model).detach()) == pytest.approx(3.0)
    assert float(losses.create("l1_penalty", strength=1.0)(model).detach()) == pytest.approx(1 + 2**0.5)
