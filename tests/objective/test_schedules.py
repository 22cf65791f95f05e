"""Schedules: what a number is after so many calls, and which are refused."""

import json
import math

import jsonschema
import pytest
import torch
from torch import Tensor

import losses
from losses.core.schedules import KINDS, Schedule, schedule_of, scheduled, schema_of, value_at
from losses.extend import ConfigError

EXAMPLES = {
    "linear": {"schedule": "linear", "start": 1.0, "end": 3.0, "steps": 4},
    "cosine": {"schedule": "cosine", "start": 1.0, "end": 3.0, "steps": 4},
    "cyclical": {"schedule": "cyclical", "start": 0.0, "end": 1.0, "period": 4, "cycles": 2, "rising": 0.5},
    "steps": {"schedule": "steps", "values": [1.0, 0.5, 2.0], "at": [2, 5]},
}
VALUES = {
    "linear": [1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0],
    "cosine": [2 - math.cos(math.pi * step / 4) for step in range(5)] + [3.0, 3.0],
    "cyclical": [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0],
    "steps": [1.0, 1.0, 0.5, 0.5, 0.5, 2.0, 2.0],
}


def at(schedule: Schedule, step: int) -> float:
    return float(schedule.at(torch.tensor(step)))


def test_every_kind_has_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(VALUES) == sorted(KINDS)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_values_are_those_of_the_formula(kind: str) -> None:
    schedule = schedule_of(EXAMPLES[kind])
    assert [at(schedule, step) for step in range(len(VALUES[kind]))] == pytest.approx(VALUES[kind])


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_schedule_comes_to_rest_where_it_says(kind: str) -> None:
    schedule = schedule_of(EXAMPLES[kind])
    assert at(schedule, schedule.steps) == at(schedule, schedule.steps + 1000) == schedule.last
    assert value_at(schedule, None) == schedule.last
    assert schedule.lowest == pytest.approx(min(at(schedule, step) for step in range(schedule.steps + 1)))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_configuration_is_read_back(kind: str) -> None:
    schedule = schedule_of(EXAMPLES[kind])
    assert schedule_of(json.loads(json.dumps(schedule.config()))) == schedule
    assert schedule.config() == EXAMPLES[kind]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_schema_accepts_what_is_accepted(kind: str) -> None:
    jsonschema.validate(EXAMPLES[kind], schema_of(KINDS[kind]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(EXAMPLES[kind] | {"stepss": 3}, schema_of(KINDS[kind]))


def test_no_value_is_read_to_follow_a_schedule() -> None:
    for example in EXAMPLES.values():
        assert schedule_of(example).at(torch.tensor(3, device="meta")).is_meta


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fast", "got 'fast', expected a finite number or a schedule"),
        (True, "got True, expected a finite number"),
        (math.nan, "got nan, expected a finite number"),
        (math.inf, "got inf, expected a finite number"),
        ({"start": 1}, "schedule: is missing, there are linear, cosine, cyclical, steps."),
        (
            {"schedule": "linaer", "steps": 1},
            "unknown schedule 'linaer', there are .* Did you mean 'linear'?",
        ),
        ({"schedule": "linear"}, "steps: is missing"),
        ({"schedule": "linear", "steps": 0}, "steps: got 0, expected an integer of at least 1"),
        ({"schedule": "linear", "steps": 3, "stpes": 4}, "stpes: unknown key.* Did you mean 'steps'?"),
        (
            {"schedule": "cyclical", "period": 5, "cycles": math.inf},
            "cycles: got inf, expected an integer of at least 1",
        ),
        ({"schedule": "cyclical", "period": 5, "rising": 1.5}, "rising: got 1.5, expected a number from 0 to 1"),
        ({"schedule": "steps", "values": [1.0, 2.0], "at": [3, 5]}, "values: got 2 values for 2 changes"),
        ({"schedule": "steps", "values": [1.0, 2.0, 3.0], "at": [5, 3]}, r"at: goes backwards, got \[5, 3\]; sort"),
        ({"schedule": "steps", "values": [1.0, 2.0, 3.0], "at": [3, 3]}, r"at: goes backwards, got \[3, 3\]; sort"),
    ],
)
def test_what_is_no_schedule_is_refused(value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scheduled(value)


def test_a_schedule_below_what_a_parameter_allows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"beta: got a schedule that comes by -1\.0, expected numbers of at least 0"):
        losses.create("elbo", beta={"schedule": "linear", "start": -1, "steps": 3})
    with pytest.raises(ConfigError, match="warmup_steps: got 3 beside a beta with a schedule"):
        losses.create("elbo", beta={"schedule": "linear", "steps": 3}, warmup_steps=3)


def output(seed: int = 0) -> tuple[losses.VAEOutput, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = (torch.randn(4, 2, generator=generator) for _ in range(3))
    return losses.VAEOutput(*parts), torch.rand(4, 2, generator=generator)


def test_warm_up_of_the_elbo_is_a_linear_schedule() -> None:
    warm, linear = losses.create("elbo", warmup_steps=4), losses.create("elbo", beta={"schedule": "linear", "steps": 4})
    for step in range(6):
        torch.testing.assert_close(warm(*output(step)), linear(*output(step)), rtol=0, atol=0)
    assert int(linear.progress) == 6
    assert linear.eval()(*output()) == warm.eval()(*output()) == losses.create("elbo")(*output())
    assert int(linear.progress) == 6


def test_a_schedule_of_the_elbo_goes_on_from_a_checkpoint() -> None:
    config = {"name": "elbo", "beta": {"schedule": "cyclical", "period": 4}}
    whole, before, after = (losses.create(config) for _ in range(3))
    expected = [whole(*output(step)) for step in range(6)]
    begun = [before(*output(step)) for step in range(3)]
    after.load_state_dict(before.state_dict())
    assert [*begun, *(after(*output(step)) for step in range(3, 6))] == expected
    assert after.config() == whole.config()
    assert losses.create(after.config()).beta == whole.beta
