"""The norm of the gradient by the inputs: against Jacobians, along random directions, and what it refuses."""

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import torch
from torch import Tensor, nn

import losses
from losses.extend import ConfigError
from tests.refusals import refused

STRENGTH = 0.5


def perceptron(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()


def samples(count: int = 6, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator, dtype=torch.float64).requires_grad_()


def norms_by_jacrev(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the squared Frobenius norm of each sample's Jacobian, one sample at a time."""
    rows = [torch.func.jacrev(lambda row: network(row[None])[0])(row) for row in inputs.detach()]
    return torch.stack([jacobian.square().sum() for jacobian in rows])


def penalty(**parameters: Any) -> Any:
    return losses.create("gradient_norm", **{"strength": STRENGTH, **parameters})


def test_of_a_linear_network_it_is_the_norm_of_the_weight_and_so_is_its_gradient() -> None:
    linear = nn.Linear(4, 3).double()
    inputs = samples()
    value = penalty()(linear(inputs), inputs)
    torch.testing.assert_close(value, STRENGTH * linear.weight.square().sum())
    value.backward()
    torch.testing.assert_close(linear.weight.grad, 2 * STRENGTH * linear.weight.detach())
    assert linear.bias.grad is None or not linear.bias.grad.any()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_is_that_of_every_sample_alone(outputs: int, reduction: str) -> None:
    network, inputs = perceptron(outputs), samples()
    objective = losses.create(
        "weighted_sum", terms=[{"loss": {"name": "gradient_norm", "strength": STRENGTH}}], reduction=reduction
    )
    expected = STRENGTH * norms_by_jacrev(network, inputs)
    expected = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    torch.testing.assert_close(objective(network(inputs), inputs=inputs), expected, rtol=1e-12, atol=1e-14)
    output = network(inputs).squeeze(1) if outputs == 1 else network(inputs)[:, None]  # (N,), (N, 1, 3)
    torch.testing.assert_close(objective(output, inputs=inputs), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("outputs", [1, 3])
def test_its_gradient_by_parameters_is_that_of_differences(outputs: int) -> None:
    network, inputs = perceptron(outputs), samples()
    names, parameters = zip(*network.named_parameters(), strict=True)

    def value(*given: Tensor) -> Tensor:
        output = torch.func.functional_call(network, dict(zip(names, given, strict=True)), (inputs,))
        found: Tensor = penalty()(output, inputs)
        return found

    assert torch.autograd.gradcheck(value, parameters)


def test_random_directions_are_right_in_the_mean_and_are_those_of_the_seed() -> None:
    network, inputs = perceptron(), samples()
    exact = float(penalty()(network(inputs), inputs).detach())
    for projections in (1, 2):
        estimate = penalty(projections=projections)
        torch.manual_seed(0)
        found = torch.stack([estimate(network(inputs), inputs).detach() for _ in range(500)])
        assert found.std() > 0
        assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(500)
        torch.manual_seed(0)
        torch.testing.assert_close(estimate(network(inputs), inputs).detach(), found[0], rtol=0, atol=0)
    for all_of_them in (3, 100):
        torch.testing.assert_close(penalty(projections=all_of_them)(network(inputs), inputs).item(), exact)


@pytest.mark.parametrize("projections", [None, 2])
def test_a_gradient_along_random_directions_reaches_the_parameters(projections: int | None) -> None:
    network, inputs = perceptron(), samples()
    penalty(projections=projections)(network(inputs), inputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network[0].parameters())
    assert network[0].weight.grad.any()


def test_beside_other_losses_everything_gets_its_gradient_and_terms_tell_it() -> None:
    network, inputs, labels = perceptron(), samples(), torch.arange(6) % 3
    terms = ["cross_entropy", {"loss": {"name": "gradient_norm", "strength": STRENGTH}, "weight": 0.3}]
    objective = losses.create("weighted_sum", terms=terms)
    expected = losses.create("cross_entropy")(network(inputs), labels)
    expected = expected + 0.3 * STRENGTH * norms_by_jacrev(network, inputs).mean()
    found = objective(network(inputs), labels, inputs=inputs)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    found.backward()
    told = objective.terms(network(inputs), labels, inputs=inputs)
    torch.testing.assert_close(told["gradient_norm"], STRENGTH * norms_by_jacrev(network, inputs).mean())
    assert not any(value.requires_grad for value in told.values())
    assert objective.readings(network(inputs), labels, inputs=inputs).keys() == told.keys()


def test_weights_are_of_samples_and_totals_of_parts_add_up() -> None:
    network, inputs = perceptron(), samples()
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
    objective = losses.create("weighted_sum", terms=[{"loss": {"name": "gradient_norm", "strength": STRENGTH}}])
    expected = STRENGTH * (norms_by_jacrev(network, inputs) * weight).sum() / weight.sum()
    torch.testing.assert_close(objective(network(inputs), inputs=inputs, weight=weight), expected)
    halves = []
    for rows in (slice(0, 2), slice(2, 6)):
        part = inputs.detach()[rows].requires_grad_()
        halves.append(objective.total(network(part), inputs=part, weight=weight[rows]))
    torch.testing.assert_close(sum(halves).mean(), expected)
    half = inputs.detach()[:3].requires_grad_()
    first = objective(network(half), inputs=half, normalizer=6)
    torch.testing.assert_close(first, STRENGTH * norms_by_jacrev(network, half).sum() / 6)


def test_parts_of_output_and_inputs_are_picked_by_key_and_position() -> None:
    image, text = samples(seed=1), samples(seed=2)
    network = perceptron()
    output = {"logits": network(image), "caption": network(text) * network(image)}

    def value(given: Any, **term: Any) -> Tensor:
        objective = losses.create("weighted_sum", terms=[{"loss": "gradient_norm", **term}])
        found: Tensor = objective(output, inputs=given)
        return found.detach()

    both = {"image": image, "text": text}
    alone = value(image, output="logits")
    torch.testing.assert_close(value(both, output="logits", inputs="image"), alone)
    torch.testing.assert_close(value((image, text), output="logits", inputs=0), alone)
    torch.testing.assert_close(value(both, output="logits"), alone)  # which does not change with the text
    of_each = [value(both, output="caption", inputs=name) for name in both]
    torch.testing.assert_close(value(both, output="caption"), sum(of_each))
    torch.testing.assert_close(value([image, text], output="caption"), sum(of_each))
    with refused(["gradient_norm: the inputs has no part 'imag'", "Did you mean 'image'?"]):
        value(both, output="logits", inputs="imag")


def test_it_finds_its_inputs_in_a_sum_within_a_sum() -> None:
    network, inputs = perceptron(), samples()
    inner = {"name": "weighted_sum", "terms": ["entropy", {"loss": "gradient_norm", "weight": 2}]}
    nested = losses.create("weighted_sum", terms=[{"loss": inner, "weight": 0.5}])
    flat = losses.create("weighted_sum", terms=[{"loss": "entropy", "weight": 0.5}, "gradient_norm"])
    torch.testing.assert_close(nested(network(inputs), inputs=inputs), flat(network(inputs), inputs=inputs))
    (told,) = nested.terms(network(inputs), inputs=inputs).values()
    torch.testing.assert_close(0.5 * told, flat(network(inputs), inputs=inputs).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_squared_and_added_up_in_single(dtype: torch.dtype) -> None:
    linear = nn.Linear(4, 2, dtype=dtype)
    nn.init.constant_(linear.weight, 300.0)  # whose square float16 does not hold
    inputs = torch.ones(3, 4, dtype=dtype, requires_grad=True)
    objective = losses.create("weighted_sum", terms=[{"loss": {"name": "gradient_norm", "strength": 1}}])
    value = objective(linear(inputs), inputs=inputs)
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(8 * 300**2, rel=1e-2)
    assert objective.terms(linear(inputs), inputs=inputs)["gradient_norm"] == value.detach()
    value.backward()
    assert linear.weight.grad is not None and linear.weight.grad.dtype is dtype


def test_under_autocast_the_gradient_is_added_up_in_single() -> None:
    network, inputs = perceptron().float(), samples().detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = penalty()(network(inputs), inputs)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, penalty()(network(inputs), inputs), rtol=0.1, atol=0)
    value.backward()


def test_of_one_number_per_sample_it_is_the_squared_derivative() -> None:
    inputs = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
    value = losses.create("gradient_norm", strength=1)(inputs**2, inputs)
    assert value.item() == pytest.approx((2**2 + 4**2 + 6**2) / 3)


def test_where_samples_change_one_another_it_is_that_of_all_outputs_together() -> None:
    """As the documentation says of batch normalisation, which in evaluation mode takes each sample for itself."""
    network, inputs = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).double(), samples()
    together = torch.autograd.functional.jacobian(lambda rows: network(rows).sum(0), inputs.detach())  # (2, 6, 4)
    torch.testing.assert_close(penalty()(network(inputs), inputs), STRENGTH * together.square().sum() / 6)
    network.eval()
    expected = STRENGTH * norms_by_jacrev(network, inputs).mean()
    torch.testing.assert_close(penalty()(network(inputs), inputs), expected)


def test_an_empty_batch_costs_nothing() -> None:
    network, inputs = perceptron(), samples(0)
    value = penalty()(network(inputs), inputs)
    assert value == 0
    value.backward()
    assert not network[0].weight.grad.any()


def test_in_evaluation_it_is_seen_where_the_network_makes_a_graph() -> None:
    network, inputs, labels = perceptron().eval(), samples(), torch.arange(6) % 3
    objective = losses.create("weighted_sum", terms=["cross_entropy", "gradient_norm"]).eval()
    expected = objective(network(inputs), labels, inputs=inputs)
    with torch.no_grad():
        with torch.enable_grad():
            output = network(inputs)
        seen = objective(output, labels, inputs=inputs)
        assert not seen.requires_grad
        torch.testing.assert_close(seen, expected.detach())
        alone = objective.losses["cross_entropy"](network(inputs), labels)
        assert alone.isfinite()
        with refused(["torch.no_grad()", "torch.enable_grad()", "objective.losses"]):
            objective(network(inputs), labels, inputs=inputs)
    with torch.inference_mode(), refused(["torch.inference_mode()"]):
        penalty()(network(inputs), inputs)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which torch looks at while it compiles, and hides
def test_a_compiled_objective_looks_at_the_gradient_as_it_is() -> None:
    network, inputs, labels = perceptron(), samples(), torch.arange(6) % 3
    objective = losses.create("weighted_sum", terms=["cross_entropy", "gradient_norm"])
    expected = objective(network(inputs), labels, inputs=inputs)
    compiled = torch.compile(objective, backend="eager")
    torch.testing.assert_close(compiled(network(inputs), labels, inputs=inputs), expected)


Wrong = Callable[[nn.Module, Tensor], tuple[Any, Any]]
WRONG: dict[str, tuple[Wrong, list[str]]] = {
    "inputs without gradient": (
        lambda network, x: (network(x), x.detach()),
        ["inputs does not require grad", "call inputs.requires_grad_() before the network"],
    ),
    "a copy": (lambda network, x: (network(x), x.clone()), ["does not depend on the inputs", "not copies"]),
    "another tensor": (lambda network, x: (network(x), samples()), ["does not depend on the inputs"]),
    "a detached output": (lambda network, x: (network(x).detach(), x), ["the output has no graph", "enable_grad"]),
    "tokens": (
        lambda network, x: (network(x), (x, torch.arange(6))),
        ["inputs[1] has no gradient, it is (6,) int64", "inputs: 0"],
    ),
    "no inputs": (lambda network, x: (network(x), {}), ["there is nothing in inputs"]),
    "no tensor": (lambda network, x: (network(x), {"image": 3}), ["inputs['image'] must be a tensor, got 3"]),
    "several outputs": (lambda network, x: ((network(x),), x), ["output must be a tensor"]),
    "labels as an output": (lambda network, x: (torch.arange(6), x), ["output must be floating point"]),
    "a scalar": (lambda network, x: (network(x).sum(), x), ["output must have its samples first", "scalar"]),
    "rows that are no samples": (lambda network, x: (network(x)[:2], x), ["output holds 2 rows and inputs holds 6"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_call_is_refused_with_what_came_and_the_fix(wrong: str) -> None:
    make, words = WRONG[wrong]
    output, inputs = make(perceptron(), samples())
    with refused(words):
        losses.create("weighted_sum", terms=["gradient_norm"])(output, inputs=inputs)


def test_a_call_without_inputs_is_told() -> None:
    network, inputs = perceptron(), samples()
    objective = losses.create("weighted_sum", terms=["cross_entropy", "gradient_norm"])
    with refused(["gradient_norm penalises how the output", "inputs= was not given", "inputs.requires_grad_()"]):
        objective(network(inputs), torch.arange(6) % 3)


def test_copies_pickles_and_configurations_are_the_same_penalty() -> None:
    terms = [{"loss": {"name": "gradient_norm", "projections": 2, "strength": 0.2}, "inputs": 0, "weight": 0.5}]
    network, inputs = perceptron(), samples()
    objective = losses.create("weighted_sum", terms=terms)
    read = losses.create(json.loads(json.dumps(objective.config())))
    for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective)), read):
        assert other.config() == objective.config()
        values = []
        for each in (objective, other):
            torch.manual_seed(0)
            values.append(each(network(inputs), inputs=(inputs,)))
        torch.testing.assert_close(*values, rtol=0, atol=0)
    assert "strength=0.2, projections=2" in repr(objective)


@pytest.mark.parametrize(
    ("term", "said"),
    [
        (
            {"loss": {"name": "gradient_norm", "strength": -1}},
            r"strength: got -1, expected a finite number of at least",
        ),
        ({"loss": {"name": "gradient_norm", "projections": 0}}, r"projections: got 0, expected an integer of at least"),
        ({"loss": {"name": "gradient_norm", "projections": 1.5}}, r"projections: got 1.5"),
        ({"loss": {"name": "gradient_norm", "include": "*"}}, r"include: unknown key"),
        ({"loss": "gradient_norm", "target": "label"}, r"target: gradient_norm looks at how .* and at no target"),
        ({"loss": "gradient_norm", "weight": "uncertainty"}, r"weight: 'uncertainty' is that of a loss"),
        ({"loss": "mse", "inputs": 0}, r"inputs: mse looks at what the network made .* and at no inputs; leave it out"),
        ({"loss": "l2_penalty", "inputs": 0}, r"inputs: l2_penalty looks at the parameters .* and at no inputs"),
    ],
)
def test_wrong_terms_are_refused(term: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        losses.create("weighted_sum", terms=[term])


@pytest.mark.parametrize(
    ("term", "accepted"),
    [
        ({"loss": {"name": "gradient_norm", "strength": 0.1, "projections": 1}, "output": "logits", "inputs": 0}, True),
        ({"loss": "gradient_norm", "inputs": "image"}, True),
        ({"loss": {"name": "gradient_norm", "projections": None}}, True),
        ({"loss": {"name": "gradient_norm", "projections": 0}}, False),
        ({"loss": {"name": "gradient_norm", "strength": -0.1}}, False),
        ({"loss": "gradient_norm", "inputs": 0.5}, False),
    ],
)
def test_the_schema_accepts_what_is_accepted(term: dict[str, Any], accepted: bool) -> None:
    config = {"name": "weighted_sum", "terms": [term]}
    assert jsonschema.Draft202012Validator(losses.schema()).is_valid(config) == accepted
    if accepted:
        losses.create(config)
    else:
        with pytest.raises(ConfigError):
            losses.create(config)


def test_where_a_loss_is_wanted_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="reconstruction: got GradientNorm, which looks at how the output"):
        losses.create("elbo", reconstruction="gradient_norm")
