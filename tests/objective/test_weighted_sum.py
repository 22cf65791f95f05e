"""Weighted sums: what they add up, learn, remember and refuse."""

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import jsonschema
import pytest
import torch
from torch import Tensor, nn

import losses
from losses.extend import ConfigError, InputError
from tests.ops.tile_cases import without_torchs_own_remarks

TERMS: list[Any] = [
    {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}, "output": "logits", "target": "label"},
    {"loss": "mse", "weight": -0.5, "output": "image", "target": "image", "name": "reconstruction"},
    {"loss": "triplet", "weight": 2.0, "output": "embedding", "target": "label"},
]


def batch(size: int = 8, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    output = {"logits": normal(size, 3), "image": normal(size, 5), "embedding": normal(size, 4)}
    for part in output.values():
        part.requires_grad_()
    return output, {"label": torch.arange(size) % 3, "image": normal(size, 5)}


def by_hand(output: Mapping[str, Tensor], target: Mapping[str, Tensor], weight: Tensor | None = None) -> Tensor:
    """Return what TERMS come to, each loss called on its own."""
    smoothed = losses.create("cross_entropy", label_smoothing=0.1)(output["logits"], target["label"], weight=weight)
    squared = losses.create("mse")(output["image"], target["image"], weight=weight)
    triplets = losses.create("triplet")(output["embedding"], target["label"], weight=weight)
    return smoothed - 0.5 * squared + 2 * triplets


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_sum_of_its_terms_in_value_and_gradient(weighted: bool) -> None:
    output, target = batch()
    weight = torch.linspace(0, 1, 8, dtype=torch.float64) if weighted else None
    loss = losses.create("weighted_sum", terms=TERMS)
    value, expected = loss(output, target, weight=weight), by_hand(output, target, weight)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(loss.total(output, target, weight=weight).mean(), expected, rtol=1e-14, atol=0)
    leaves = list(output.values())
    for ours, theirs in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)


class Outcome(NamedTuple):
    logits: Tensor
    image: Tensor


def test_parts_are_picked_by_key_field_and_position() -> None:
    output, target = batch()
    parts = Outcome(output["logits"], output["image"])
    terms = [{"loss": "cross_entropy", "target": "label"}, {"loss": "mse", "target": "image"}]
    values = [
        losses.create("weighted_sum", terms=[term | {"output": key} for term, key in zip(terms, keys, strict=True)])(
            whole, target
        )
        for whole, keys in (
            (output, ("logits", "image")),
            (parts, ("logits", "image")),
            (parts, (0, 1)),
            ([*parts], (0, -1)),
        )
    ]
    assert len({value.item() for value in values}) == 1


@pytest.mark.parametrize(
    ("terms", "seed"), [(["mse", {"loss": "mae", "weight": 0.5}], 0), (["triplet", {"loss": "circle", "weight": 2}], 1)]
)
def test_losses_of_one_kind_keep_the_whole_contract(terms: list[Any], seed: int) -> None:
    losses.check_loss(losses.create("weighted_sum", terms=terms))


def test_items_are_added_up_where_there_are_equally_many() -> None:
    loss = losses.create("weighted_sum", terms=["mse", {"loss": "mae", "weight": 0.5}], reduction="none")
    assert loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])).tolist() == [0.0, 5.0]
    unlike = losses.create("weighted_sum", terms=TERMS, reduction="none")
    with pytest.raises(InputError, match="reduction is 'none', and the terms have not one item each"):
        unlike(*batch())


def test_sums_are_added_up() -> None:
    output, target = batch()
    loss = losses.create("weighted_sum", terms=TERMS[:2], reduction="sum")
    smoothed = losses.create("cross_entropy", label_smoothing=0.1, reduction="sum")(output["logits"], target["label"])
    squared = losses.create("mse", reduction="sum")(output["image"], target["image"])
    torch.testing.assert_close(loss(output, target), smoothed - 0.5 * squared)


def test_totals_of_parts_add_up_to_the_whole() -> None:
    output, target = batch()
    model = nn.Linear(2, 2).double()
    terms = [
        *TERMS[:2],
        {"loss": "l2_penalty"},
        {"loss": "mae", "output": "image", "target": "image", "weight": "uncertainty"},
    ]
    loss = losses.create("weighted_sum", terms=terms).double()
    loss.log_variances["mae"].data.fill_(0.3)
    parts = [
        loss.total(*({name: part[rows] for name, part in side.items()} for side in (output, target)), model=model)
        for rows in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(sum(parts).mean(), loss(output, target, model=model), rtol=1e-13, atol=0)


def test_a_normalizer_replaces_the_denominator_of_every_mean() -> None:
    loss = losses.create("weighted_sum", terms=["mse", {"loss": "mae", "weight": 0.5}])
    prediction, target = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])
    assert float(loss(prediction, target, normalizer=4)) == 1.25
    penalised = losses.create("weighted_sum", terms=["mse", "l2_penalty"])
    with pytest.raises(InputError, match=r"penalties and learned weights have none; add up loss\.total"):
        penalised(prediction, target, normalizer=4, model=nn.Linear(1, 1))


def test_a_weight_that_is_learned_comes_to_the_loss_it_leaves() -> None:
    """The least of exp(-s) L + s / 2 is at s = log(2 L)."""
    loss = losses.create("weighted_sum", terms=[{"loss": "mse", "weight": "uncertainty"}])
    prediction, target = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        loss(prediction, target).backward()
        optimiser.step()
    torch.testing.assert_close(loss.log_variances["mse"].detach(), torch.tensor(4.0).log())
    torch.testing.assert_close(torch.as_tensor(loss.weights()["mse"]), torch.tensor(0.25))


def test_schedules_move_in_training_only_and_go_on_from_a_checkpoint() -> None:
    terms = [{"loss": "mse"}, {"loss": "mae", "weight": {"schedule": "linear", "start": 1, "end": 0, "steps": 4}}]
    loss = losses.create("weighted_sum", terms=terms)
    prediction, target = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])
    assert [float(loss(prediction, target)) for _ in range(3)] == [3.0, 2.75, 2.5]
    assert float(loss.eval()(prediction, target)) == 2.0
    again = losses.create(json.loads(json.dumps(loss.config())))
    again.load_state_dict(loss.state_dict())
    assert [float(again(prediction, target)) for _ in range(3)] == [2.25, 2.0, 2.0]
    assert again.weights() == {"mse": 1.0, "mae": 0.0}


def test_terms_are_told_before_they_are_weighted_without_a_graph() -> None:
    output, target = batch()
    model = nn.Linear(2, 2)
    loss = losses.create("weighted_sum", terms=[*TERMS, {"loss": {"name": "l1_penalty", "strength": 1}, "weight": 0.1}])
    terms = loss.terms(output, target, model=model)
    assert list(terms) == ["cross_entropy", "reconstruction", "triplet", "l1_penalty"]
    assert not any(value.requires_grad for value in terms.values())
    whole = sum(weight * terms[name] for name, weight in loss.weights().items())
    torch.testing.assert_close(whole, loss(output, target, model=model).detach())
    torch.testing.assert_close(terms["l1_penalty"], sum(p.detach().abs().sum() for p in model.parameters()))


def test_weighted_sums_nest() -> None:
    output, target = batch()
    model = nn.Linear(2, 2)
    inner = {"name": "weighted_sum", "terms": [*TERMS[1:], "l2_penalty"]}
    nested = losses.create("weighted_sum", terms=[TERMS[0], {"loss": inner, "weight": 3.0}])
    flat = losses.create(
        "weighted_sum",
        terms=[
            TERMS[0],
            *({**term, "weight": 3 * term["weight"]} for term in TERMS[1:]),
            {"loss": "l2_penalty", "weight": 3},
        ],
    )
    torch.testing.assert_close(nested(output, target, model=model), flat(output, target, model=model))


def test_a_loss_that_takes_no_target_is_given_none() -> None:
    logits, labels = torch.randn(6, 4), torch.arange(6) % 4
    views = losses.Pairs(torch.randn(6, 3), torch.randn(6, 3))
    terms = [
        {"loss": "cross_entropy", "output": "logits"},
        {"loss": "entropy", "output": "logits", "weight": -0.1},
        {"loss": "info_nce", "output": "views"},
    ]
    loss = losses.create("weighted_sum", terms=terms)
    expected = losses.create("cross_entropy")(logits, labels) - 0.1 * losses.create("entropy")(logits)
    expected = expected + losses.create("info_nce")(views)
    torch.testing.assert_close(loss({"logits": logits, "views": views}, labels), expected)
    with pytest.raises(InputError, match="entropy looks at the output alone: leave the target out"):
        losses.create("weighted_sum", terms=[{"loss": "entropy", "target": 0}])(logits, [labels])


def test_a_distillation_is_a_weighted_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator) for _ in range(2))
    labels = torch.arange(6) % 4
    loss = losses.create(
        "weighted_sum",
        terms=[
            {"loss": "cross_entropy", "weight": 0.3, "target": "label"},
            {
                "loss": {"name": "kl_divergence", "target_form": "logits", "temperature": 4.0},
                "weight": 0.7,
                "target": "teacher",
            },
        ],
    )
    softened = nn.functional.kl_div(
        (student / 4).log_softmax(-1), (teacher / 4).log_softmax(-1), reduction="batchmean", log_target=True
    )
    expected = 0.3 * nn.functional.cross_entropy(student, labels) + 0.7 * 16 * softened
    torch.testing.assert_close(loss(student, {"label": labels, "teacher": teacher}), expected)


def test_copies_and_pickles_are_the_same_loss() -> None:
    output, target = batch()
    loss = losses.create("weighted_sum", terms=TERMS)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), losses.create(loss.config())):
        assert other.config() == loss.config()
        assert other(output, target) == loss(output, target)


@without_torchs_own_remarks
def test_compiled_it_is_the_same_and_follows_its_schedule() -> None:
    terms = [*TERMS[:2], {"loss": "l2_penalty", "weight": {"schedule": "steps", "values": [0, 1], "at": [2]}}]
    loss = losses.create("weighted_sum", terms=terms)
    again = losses.create("weighted_sum", terms=terms)
    compiled = torch.compile(again, fullgraph=True)
    model = nn.Linear(2, 2)
    for step in range(4):
        output, target = batch(seed=step)
        torch.testing.assert_close(compiled(output, target, model=model), loss(output, target, model=model))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([], "terms: got an empty list, and nothing would be minimised"),
        ("mse", r"terms: got 'mse', expected a list of terms such as"),
        (["mse", "mse"], r"terms\[1\].name: 'mse' is the name of term 0 too"),
        (["mse", "msee"], r"terms\[1\].loss.name: unknown loss 'msee'.*Did you mean 'mse'"),
        ([{"loss": {"name": "huber", "delta": -1}}], r"terms\[0\].loss.delta: got -1, expected"),
        ([{"name": "mse"}], r"terms\[0\]: a term has a loss, got the name 'mse' without one; write"),
        ([{"loss": "mse", "wieght": 1}], r"terms\[0\].wieght: unknown key.*Did you mean 'weight'"),
        ([{"loss": "mse", "weight": "heavy"}], r"terms\[0\].weight: got 'heavy', expected a finite number"),
        ([{"loss": "mse", "name": "a b"}], r"terms\[0\].name: got 'a b', expected letters"),
        ([{"loss": {"name": "mse", "reduction": "sum"}}], r"terms\[0\].loss.reduction: got 'sum'; set reduction on"),
        ([{"loss": "l2_penalty", "weight": "uncertainty"}], r"terms\[0\].weight: 'uncertainty' is that of a loss"),
        ([{"loss": "l2_penalty", "target": "label"}], r"terms\[0\].target: l2_penalty looks at the parameters"),
        ([{"loss": "mse", "weight": {"schedule": "linear", "steps": 0}}], r"terms\[0\].weight.steps: got 0"),
    ],
)
def test_wrong_terms_are_refused(terms: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        losses.create("weighted_sum", terms=terms)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        losses.create("weighted_sum", terms=[{"loss": "msee"}, {"loss": "mse", "weight": "x"}], reduction="meen")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"logit": 1}, "cross_entropy: the output has no part 'logits', there are logit. Did you mean 'logit'?"),
        ((1, 2), "cross_entropy: the output has no part 'logits', there are 0, 1."),
        (Outcome(torch.ones(1), torch.ones(1))[:0], "cross_entropy: the output has no part 'logits', there are none."),
        (torch.ones(2), "cross_entropy: output='logits' is a part of a mapping or tuple, the output is a Tensor"),
    ],
)
def test_a_missing_part_is_told_with_the_parts_there_are(output: Any, said: str) -> None:
    loss = losses.create("weighted_sum", terms=TERMS[:1])
    with pytest.raises(InputError) as caught:
        loss(output, {"label": torch.zeros(2)})
    assert said in str(caught.value)


def test_a_penalty_without_a_network_is_told() -> None:
    with pytest.raises(InputError, match=r"l2_penalty penalises the parameters .* call loss\(output, target, model="):
        losses.create("weighted_sum", terms=["mse", "l2_penalty"])(torch.ones(2), torch.ones(2))


@pytest.mark.parametrize(
    ("terms", "accepted"),
    [
        (["mse", {"loss": {"name": "huber", "delta": 2}, "weight": -1, "output": 0, "name": "far"}], True),
        ([{"loss": "l2_penalty", "weight": {"schedule": "steps", "values": [0, 1], "at": [5]}}], True),
        ([{"loss": "mse", "weight": "uncertainty"}], True),
        ([{"loss": {"name": "weighted_sum", "terms": ["mse"]}}], True),
        ([], False),
        (["msee"], False),
        ([{"name": "mse"}], False),
        ([{"loss": {"name": "huber", "delta": -2}}], False),
        ([{"loss": {"name": "l2_penalty", "strength": -2}}], False),
        ([{"loss": "mse", "weight": {"schedule": "linear"}}], False),
        ([{"loss": "mse", "weight": "heavy"}], False),
        ([{"loss": "mse", "wieght": 1}], False),
    ],
)
def test_the_schema_accepts_what_is_accepted(terms: list[Any], accepted: bool) -> None:
    config = {"name": "weighted_sum", "terms": terms}
    schema = jsonschema.Draft202012Validator(losses.schema())
    assert schema.is_valid(config) == accepted
    if accepted:
        losses.create(config)
    else:
        with pytest.raises(ConfigError):
            losses.create(config)


def test_terms_of_nested_sums_are_what_they_come_to() -> None:
    logits, labels = torch.randn(8, 4), torch.tensor([0, -100, 1, 2, 3, -100, 1, 1])
    twice = {"name": "weighted_sum", "terms": ["cross_entropy", {"loss": "cross_entropy", "name": "again"}]}
    loss = losses.create("weighted_sum", terms=[{"loss": twice}])
    torch.testing.assert_close(loss.terms(logits, labels)["weighted_sum"], loss(logits, labels))
    output, target = batch()
    model = nn.Linear(2, 2)
    nested = {"name": "weighted_sum", "terms": [*TERMS, "l2_penalty"]}
    loss = losses.create("weighted_sum", terms=[{"loss": nested}])
    torch.testing.assert_close(
        loss.terms(output, target, model=model)["weighted_sum"], loss(output, target, model=model).detach()
    )


def test_looking_at_terms_moves_nothing() -> None:
    moving = {"loss": "mae", "weight": {"schedule": "linear", "steps": 4}}
    loss = losses.create("weighted_sum", terms=[{"loss": {"name": "weighted_sum", "terms": [moving]}}, moving])
    before = copy.deepcopy(loss.state_dict())
    loss.terms(torch.ones(2), torch.zeros(2))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


@pytest.mark.parametrize("inner", [["mse", "l2_penalty"], [{"loss": "mse", "weight": "uncertainty"}]])
def test_a_normalizer_is_refused_for_what_nested_sums_add_too(inner: list[Any]) -> None:
    loss = losses.create("weighted_sum", terms=[{"loss": {"name": "weighted_sum", "terms": inner}}, "mae"])
    with pytest.raises(InputError, match="penalties and learned weights have none"):
        loss(torch.ones(3), torch.zeros(3), normalizer=24, model=nn.Linear(1, 1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_that_move_go_on_within_a_sum(reduction: str) -> None:
    output = losses.VAEOutput(*torch.randn(3, 4, 2))
    alone = losses.create("elbo", warmup_steps=4, reduction=reduction)
    loss = losses.create("weighted_sum", terms=[{"loss": {"name": "elbo", "warmup_steps": 4}}], reduction=reduction)
    for _ in range(3):
        torch.testing.assert_close(loss(output, torch.ones(4, 2) / 2), alone(output, torch.ones(4, 2) / 2))


@pytest.mark.parametrize("weight", [0, {"schedule": "steps", "values": [0, 1], "at": [5]}])
def test_a_term_of_weight_0_changes_nothing_even_where_it_is_not_finite(weight: Any) -> None:
    loss = losses.create(
        "weighted_sum", terms=["mae", {"loss": "mse", "weight": weight, "target": None, "output": None}]
    )
    prediction = torch.tensor([1e30, 2.0], requires_grad=True)  # whose square is infinite
    value = loss(prediction, torch.zeros(2))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(5e29))
    assert prediction.grad is not None and prediction.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("weight", [0, {"schedule": "steps", "values": [0, 1], "at": [5]}])
def test_a_term_of_weight_0_adds_0_where_it_is_nan(weight: Any) -> None:
    terms = [{"loss": "mae", "output": 0, "target": 0}, {"loss": "mse", "output": 1, "target": 1, "weight": weight}]
    loss, parts = losses.create("weighted_sum", terms=terms), [torch.ones(2), torch.ones(2)]
    loss(parts, [torch.zeros(2), torch.zeros(2)])  # the first batch is looked at, and NaN refused in it
    assert loss([parts[0], torch.full((2,), torch.nan)], [torch.zeros(2), torch.zeros(2)]) == 1


class MadeOnAccess(Mapping):  # type: ignore[type-arg]  # of anything
    """Parts that are made when they are asked for."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole

    def __getitem__(self, key: str) -> Tensor:
        return self.whole[:, int(key)]

    def __iter__(self) -> Any:
        return iter("012")

    def __len__(self) -> int:
        return 3


def test_parts_that_are_made_on_access_are_not_mixed_up() -> None:
    whole, target = torch.randn(8, 3).bfloat16(), dict(zip("012", torch.randn(3, 8), strict=True))
    terms = [{"loss": "mse", "output": key, "target": key, "name": f"of_{key}"} for key in "012"]
    loss = losses.create("weighted_sum", terms=terms)
    kept = {key: whole[:, int(key)] for key in "012"}
    with torch.no_grad():
        assert loss(MadeOnAccess(whole), target) == loss(kept, target)


@pytest.mark.parametrize("name", ["training", "forward", "keys", "float", "register_parameter"])
def test_a_name_that_every_module_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"terms\[0\].name: got '{name}', which every module has already"):
        losses.create("weighted_sum", terms=[{"loss": "mse", "name": name}])


@pytest.mark.parametrize(
    ("whole", "key", "hint"),
    [([torch.ones(2)], "0", "Write output: 0."), ({"0": torch.ones(2)}, 0, "Write output: '0'.")],
)
def test_a_position_as_text_and_text_as_a_position_are_told(whole: Any, key: Any, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        losses.create("weighted_sum", terms=[{"loss": "mse", "output": key}])(whole, torch.ones(2))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "elbo", "warmup_steps": 10},
        {"name": "weighted_sum", "terms": ["mse", {"loss": "mae", "weight": {"schedule": "linear", "steps": 5}}]},
    ],
)
def test_a_loss_that_moves_is_checked_where_it_rests(config: dict[str, Any]) -> None:
    losses.check_loss(losses.create(config)).raise_for_failures()
    assert losses.create(config).remembers
