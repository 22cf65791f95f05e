"""Losses of pytorch-metric-learning by name: the value and gradient that they have there, in our averages."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from benchmarks.peers.pml_parameters import PARAMETERS
from losses import InputError
from losses.adapters import pml as adapter
from losses.adapters.pytorch_metric_learning import distances, miners, reducers, regularizers
from losses.core.reduction import weighted
from tests.adapters.pml_cases import (
    CASES,
    CLASSES,
    DIMENSION,
    OF_LABELS,
    Case,
    batch,
    call_ours,
    call_theirs,
    gradients,
    ours,
    theirs,
)
from tests.refusals import refused

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),  # HistogramLoss, of lists as indices
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),  # LargeMarginSoftmaxLoss, of tensors in scipy
]
WEIGHED = [name for name, case in CASES.items() if case.weights]
ITEMISED = [name for name, case in CASES.items() if case.normalizer]
COMPARED = [name for name in OF_LABELS if CASES[name].reference]
MINED = [name for name in OF_LABELS if CASES[name].indices]


def same(found: Any, expected: Any, name: str = "") -> None:
    tolerance = 1e-7 if name == "SmoothAPLoss" else 1e-12  # which makes float32 of anything
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_every_loss_has_a_case() -> None:
    assert losses.available("pml") == sorted(f"pml.{name}" for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_that_it_has_there(name: str) -> None:
    embeddings, labels = batch()
    loss, expected = ours(name), theirs(name)
    value = call_ours(loss, embeddings, labels)
    there = call_theirs(expected, embeddings, labels)
    same(value, there.reshape(()).double(), name)
    same(gradients(value, embeddings, loss), gradients(there, embeddings, expected), name)
    assert len(loss.total(*called(name, embeddings, labels)).sum.reshape(-1)) == CASES[name].terms


def called(name: str, embeddings: Tensor, labels: Tensor) -> tuple[Any, ...]:
    if name == "VICRegLoss":
        return losses.Pairs(embeddings, embeddings.detach().flip(0) + 0.1), None
    return embeddings, labels


@pytest.mark.parametrize("name", COMPARED)
def test_a_reference_is_ref_emb_and_ref_labels(name: str) -> None:
    embeddings, labels = batch()
    others, other_labels = batch(seed=1, size=30)
    loss, expected = ours(name), theirs(name)
    value = loss(embeddings, labels, reference=(others, other_labels))
    there = expected(embeddings, labels, ref_emb=others, ref_labels=other_labels)
    same(value, there)
    same(torch.autograd.grad(value, [embeddings, others]), torch.autograd.grad(there, [embeddings, others]))


@pytest.mark.parametrize("name", [name for name in CASES if name not in COMPARED and name != "VICRegLoss"])
def test_a_loss_that_takes_no_reference_says_so(name: str) -> None:
    if name == "ManifoldLoss":
        pytest.skip("it takes no labels, of a reference or of a batch, and never sees it")
    embeddings, labels = batch()
    if name == "ThresholdConsistentMarginLoss":
        pytest.skip("it takes a reference, and indexes its own batch by it")
    with pytest.raises(InputError, match=r"refuses the batch: ref_emb is not supported"):
        ours(name)(embeddings, labels, reference=batch(seed=1))


@pytest.mark.parametrize("miner", [miners.MultiSimilarityMiner(epsilon=0.5), miners.BatchHardMiner()], ids=["4", "3"])
@pytest.mark.parametrize("name", MINED)
def test_indices_are_those_of_a_miner(name: str, miner: Any) -> None:
    embeddings, labels = batch()
    indices = miner(embeddings, labels)
    loss, expected = ours(name), theirs(name)
    value, there = loss(embeddings, labels, indices), expected(embeddings, labels, indices).double()
    same(value, there, name)
    same(gradients(value, embeddings, loss), gradients(there, embeddings, expected), name)


def terms_there(name: str, embeddings: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the items of every term, and the anchor of each, as the loss hands them to its reducer."""
    said = call_theirs(theirs(name, reducer=reducers.DoNothingReducer()), embeddings, labels)
    return [
        (
            part["losses"].flatten().double(),
            part["indices"][0] if isinstance(part["indices"], tuple) else part["indices"],
        )
        for part in said.values()  # type: ignore[operator]  # a mapping
    ]


def only_those_above_0(name: str) -> bool:
    reducer: Any = theirs(name).reducer
    while isinstance(reducer, reducers.MultipleReducers):
        reducer = next(iter(reducer.reducers.values()))
    return isinstance(reducer, reducers.AvgNonZeroReducer)


@pytest.mark.parametrize("name", WEIGHED)
def test_an_item_weighs_as_much_as_its_anchor(name: str) -> None:
    embeddings, labels = batch()
    weight = torch.linspace(0, 2, len(labels), dtype=torch.float64)
    mean, total, items = 0.0, 0.0, []
    for values, anchors in terms_there(name, embeddings, labels):
        weights = weight[anchors]
        counted = weights * (values > 0) if only_those_above_0(name) else weights
        items.append(values * weights)
        total = total + (values * weights).sum()
        mean = mean + (values * weights).sum() / counted.sum()
    loss = ours(name)
    value = loss(embeddings, labels, weight=weight)
    same(value, mean)
    same(torch.autograd.grad(value, embeddings), torch.autograd.grad(mean, embeddings))
    same(ours(name, reduction="sum")(embeddings, labels, weight=weight), total)
    same(ours(name, reduction="none")(embeddings, labels, weight=weight), torch.cat(items))
    same(loss(embeddings, labels, weight=torch.full_like(weight, 3)), loss(embeddings, labels))
    same(loss(embeddings, labels, weight=torch.zeros_like(weight)), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("name", [name for name in CASES if name not in WEIGHED])
def test_a_loss_without_items_of_anchors_takes_no_weights(name: str) -> None:
    embeddings, labels = batch()
    with refused([f"pml.{name} takes no weight: it has items that are of no anchor", "leave it out"], InputError):
        call_ours(ours(name), embeddings, labels, weight=torch.ones(len(labels)))


@pytest.mark.parametrize("name", ITEMISED)
def test_sum_items_total_and_normalizer_agree(name: str) -> None:
    embeddings, labels = batch()
    total = ours(name).total(embeddings, labels)
    same(ours(name, reduction="sum")(embeddings, labels), total.sum.sum())
    same(ours(name, reduction="none")(embeddings, labels).sum(), total.sum.sum())
    same(ours(name)(embeddings, labels), total.mean())
    same(ours(name)(embeddings, labels, normalizer=7), total.sum.sum() / 7)


@pytest.mark.parametrize("name", ["ArcFaceLoss", "CosFaceLoss", "NormalizedSoftmaxLoss", "SoftTripleLoss"])
def test_half_batches_over_the_whole_add_up_where_items_are_samples(name: str) -> None:
    embeddings, labels = batch()
    loss = ours(name)
    halves = zip(embeddings.split(10), labels.split(10), strict=True)
    value = sum(loss(*half, normalizer=len(labels)) for half in halves)
    same(value, loss(embeddings, labels))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ITEMISED])
def test_a_loss_that_reduces_itself_takes_no_normalizer(name: str) -> None:
    embeddings, labels = batch()
    with refused([f"pml.{name} takes no normalizer", "leave it out"], InputError):
        call_ours(ours(name), embeddings, labels, normalizer=7)
    same(call_ours(ours(name, reduction="sum"), embeddings, labels).ndim, 0)
    assert call_ours(ours(name, reduction="none"), embeddings, labels).ndim == 1


REDUCERS: list[Any] = [
    "MeanReducer",
    {"name": "AvgNonZeroReducer"},
    {"name": "ThresholdReducer", "low": 0.1},
    {"name": "ThresholdReducer", "low": 0.1, "high": 0.9},
    {"name": "ClassWeightedReducer", "weights": [1.0, 2.0, 0.5, 1.0, 0.0]},
    {"name": "MultipleReducers", "reducers": {"pos_loss": "MeanReducer"}, "default_reducer": "AvgNonZeroReducer"},
    {"name": "MultipleReducers", "reducers": {"neg_loss": "SumReducer"}},
    {"name": "PerAnchorReducer", "reducer": "AvgNonZeroReducer"},
    "SumReducer",
]


def built(said: Any) -> Any:
    """Build a reducer as it is built there."""
    name, *_ = [said] if isinstance(said, str) else [said["name"]]
    parameters = {} if isinstance(said, str) else {key: value for key, value in said.items() if key != "name"}
    for key in {"reducer", "default_reducer"} & parameters.keys():
        parameters[key] = built(parameters[key])
    if "reducers" in parameters:
        parameters["reducers"] = {key: built(value) for key, value in parameters["reducers"].items()}
    if "weights" in parameters:
        parameters["weights"] = torch.tensor(parameters["weights"])
    return getattr(reducers, name)(**parameters)


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
@pytest.mark.parametrize("name", ["ContrastiveLoss", "MultiSimilarityLoss"])
def test_a_reducer_says_what_the_mean_is_over(name: str, reducer: Any) -> None:
    embeddings, labels = batch()
    loss, expected = ours(name, reducer=reducer), theirs(name, reducer=built(reducer))
    value, there = loss(embeddings, labels), expected(embeddings, labels)
    same(value, there)
    same(gradients(value, embeddings, loss), gradients(there, embeddings, expected))
    assert losses.create(loss.config()).config() == loss.config()


def test_a_reducer_that_says_nothing_of_items_takes_no_weights() -> None:
    embeddings, labels = batch()
    loss = ours("ContrastiveLoss", reducer="PerAnchorReducer")
    with refused(["takes no weight: its reducer says nothing of items"], InputError):
        loss(embeddings, labels, weight=torch.ones(len(labels)))


def test_objects_are_made_of_their_configuration() -> None:
    embeddings, labels = batch()
    loss = ours(
        "TripletMarginLoss",
        distance={"name": "LpDistance", "normalize_embeddings": False, "p": 1},
        embedding_regularizer={"name": "LpRegularizer", "power": 2},
        embedding_reg_weight=0.5,
    )
    expected = theirs(
        "TripletMarginLoss",
        distance=distances.LpDistance(normalize_embeddings=False, p=1),
        embedding_regularizer=regularizers.LpRegularizer(power=2),
        embedding_reg_weight=0.5,
    )
    same(loss(embeddings, labels), expected(embeddings, labels))
    assert loss.config()["distance"] == {"name": "LpDistance", "normalize_embeddings": False, "p": 1}
    given = ours("TripletMarginLoss", distance=distances.LpDistance(normalize_embeddings=False, p=1))
    assert "distance=a LpDistance" in repr(given)
    with refused(["distance: is a LpDistance, given as an object", "{'name': 'LpDistance', ...}"], losses.ConfigError):
        given.config()


@pytest.mark.parametrize("name", CASES)
def test_copies_and_state_continue(name: str) -> None:
    embeddings, labels = batch()
    loss = ours(name)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), losses.create(loss.config())):
        assert type(other) is type(loss) is getattr(adapter, name)
        other.load_state_dict(loss.state_dict())
        assert repr(other) == repr(loss)
    torch.manual_seed(0)
    value = call_ours(copy.deepcopy(loss), embeddings, labels)
    torch.manual_seed(0)
    same(call_ours(other, embeddings, labels), value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    embeddings, labels = batch()
    loss = ours(name)
    given = embeddings.detach().to(dtype).requires_grad_()
    value = call_ours(loss, given, labels)
    assert value.dtype is torch.float32
    wide = call_ours(ours(name), given.detach().float(), labels)
    torch.testing.assert_close(value, wide, rtol=0.1, atol=1e-3)  # of the second view, rounded once more
    assert torch.autograd.grad(value, given)[0].dtype is dtype


@pytest.mark.parametrize("name", CASES)
def test_an_empty_batch_costs_nothing(name: str) -> None:
    embeddings, labels = batch()
    nothing = embeddings.detach()[:0].requires_grad_()
    value = call_ours(ours(name), nothing, labels[:0])
    assert value == 0
    assert torch.autograd.grad(value, nothing)[0].shape == (0, DIMENSION)


@pytest.mark.parametrize("name", ["AngularLoss", "CircleLoss", "FastAPLoss", "MarginLoss", "NTXentLoss", "SupConLoss"])
def test_a_batch_without_positives_costs_nothing_and_has_a_gradient(name: str) -> None:
    embeddings, _ = batch(size=CLASSES)
    value = ours(name)(embeddings, torch.arange(CLASSES))
    assert value == 0
    assert torch.autograd.grad(value, embeddings)[0].eq(0).all()


@pytest.mark.parametrize("name", [name for name, given in PARAMETERS.items() if {"num_classes", "K"} & given.keys()])
def test_labels_that_it_has_no_class_for_are_refused(name: str) -> None:
    embeddings, labels = batch()
    loss = ours(name)
    for _ in range(2):  # the second one is read too
        with refused(["labels", "the loss holds something for each class"], InputError):
            loss(embeddings, labels + 1)
    loss(embeddings, labels)


def test_what_a_loss_refuses_is_our_error_and_says_whose_it_is() -> None:
    embeddings, _ = batch()
    with refused(["pml.SmoothAPLoss refuses the batch", "same number of elements"], InputError):
        ours("SmoothAPLoss")(embeddings, torch.tensor([0] * 15 + [1] * 5))
    with refused(["embeddings", "labels"], InputError):
        ours("TripletMarginLoss")(embeddings, torch.zeros(3, dtype=torch.long))


def test_items_of_several_terms_stand_one_term_after_the_other() -> None:
    embeddings, labels = batch(size=10)
    items = ours("ContrastiveLoss", reduction="none")(embeddings, labels)
    expected = [weighted(values, None) for values, _ in terms_there("ContrastiveLoss", embeddings, labels)]
    same(items, torch.cat(expected))
    assert len(items) == 10 + 80


def test_a_case_is_what_it_says() -> None:
    assert Case().weights
    assert len(WEIGHED) >= 15
