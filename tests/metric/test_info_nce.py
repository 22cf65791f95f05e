"""What is peculiar to InfoNCE: rows that match, its two directions, and NT-Xent of labelled batches without a matrix of
pairs."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import losses
from losses import ConfigError, Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.adapters.pytorch_metric_learning import miners as pml_miners
from losses.networks import SiameseNetwork
from tests.drawing import with_singletons_and_duplicates
from tests.gradients import backward
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
EXTREMES = [(1e-6, dtype) for dtype in DTYPES[:3]] + [
    (temperature, dtype) for temperature in (1e-3, 0.1, 1e4) for dtype in DTYPES
]
"""Temperatures and dtypes; a gradient of one over 1e-6 does not fit into float16."""
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
each_form = pytest.mark.parametrize(
    "options",
    [{"negatives": negatives, "direction": way} for negatives in ("second", "both") for way in ("both", "forward")],
    ids=str,
)


def of_halves(loss: losses.Loss) -> Any:
    """Return a loss of pairs as one of a tensor that holds both sides."""
    return lambda both, **options: loss(Pairs(*both.chunk(2)), **options)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Matching rows


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_clip_is_the_mean_of_two_cross_entropies(size: int, temperature: float) -> None:
    def clip(both: Tensor) -> Tensor:
        first, second = F.normalize(both, dim=1).chunk(2)
        logits, match = first @ second.T / temperature, torch.arange(size)
        return (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2

    both = drawn(2 * size, 4)
    found = backward(of_halves(losses.create("info_nce", temperature=temperature)), both)
    torch.testing.assert_close(found, backward(clip, both), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("negatives", ["second", "both"])
def test_the_sides_can_change_places_where_both_are_anchors(negatives: Any) -> None:
    first, second = drawn(5, 3), drawn(5, 3, seed=1)
    items = losses.create("info_nce", negatives=negatives, reduction="none")
    one, other = items(Pairs(first, second)), items(Pairs(second, first))
    torch.testing.assert_close(one, torch.cat([other[5:], other[:5]]))
    forward = losses.create("info_nce", negatives=negatives, direction="forward", reduction="none")
    torch.testing.assert_close(one, torch.cat([forward(Pairs(first, second)), forward(Pairs(second, first))]))


def test_two_views_are_the_labelled_batch_with_one_label_for_each_sample() -> None:
    both, labels = drawn(12, 4), torch.arange(6).repeat(2)
    labelled = backward(losses.create("nt_xent"), both, labels)
    pairs = backward(of_halves(losses.create("nt_xent", negatives="both")), both)
    torch.testing.assert_close(pairs, labelled, **CLOSE)
    torch.testing.assert_close(labelled, backward(pml_losses.NTXentLoss(temperature=0.1), both, labels), **CLOSE)


@each_form
def test_a_weight_is_that_of_a_row_in_every_direction(options: dict[str, Any]) -> None:
    pairs, weight = Pairs(drawn(4, 3), drawn(4, 3, seed=1)), torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    items = losses.create("info_nce", **options, reduction="none")(pairs)
    weights = weight.repeat(len(items) // 4)
    torch.testing.assert_close(
        losses.create("info_nce", **options, reduction="none")(pairs, weight=weight), weights * items
    )
    torch.testing.assert_close(
        losses.create("info_nce", **options)(pairs, weight=weight), (weights * items).sum() / weights.sum()
    )


@each_form
@each_reduction
def test_a_single_pair_has_no_negative_and_costs_nothing(reduction: str, options: dict[str, Any]) -> None:
    loss = losses.create("info_nce", reduction=reduction, **options)
    for size in (0, 1):
        value, gradient = backward(of_halves(loss), drawn(2 * size, 3))
        assert not value.any()
        assert (gradient.abs() < 1e-14).all()  # 1 - exp(log(1)), to rounding
    assert loss.total(Pairs(drawn(1, 3), drawn(1, 3))).denominator == (2 if options["direction"] == "both" else 1)


@pytest.mark.parametrize(
    ("output", "target", "options", "words"),
    [
        (Pairs(drawn(3, 2), drawn(4, 2)), None, {}, ["first", "(3, 2)", "second", "(4, 2)"]),
        (Pairs(drawn(3, 2), drawn(3, 2)), torch.ones(3), {}, ["matching rows", "pass None", "(3,)", "contrastive"]),
        (Pairs(drawn(3), drawn(3)), None, {}, ["first", "(N, D)", "(3,)"]),
        (Pairs(drawn(3, 2), drawn(3, 2).long()), None, {}, ["second", "floating point", "int64"]),
        (Pairs(torch.ones(1, 2), torch.tensor([[torch.nan, 1]])), None, {}, ["second", "NaN", "1 of 2"]),
        (Pairs(drawn(3, 2), None), None, {}, ["second", "tensor", "None"]),
        (Pairs(drawn(3, 2), drawn(3, 2)), None, {"weight": torch.ones(6)}, ["weight", "(6,)", "(3,)"]),
        (Pairs(drawn(3, 2), drawn(3, 2)), None, {"weight": torch.tensor(1.0)}, ["weight", "one weight per row"]),
        (Pairs(drawn(3, 2), drawn(3, 2)), None, {"indices": (torch.tensor([0]),) * 3}, ["indices", "leave it out"]),
        (drawn(3, 2), None, {}, ["labels", "None"]),
        (
            drawn(3, 2),
            torch.arange(3),
            {"indices": (torch.tensor([0]), torch.tensor([3]), torch.tensor([1]))},
            ["positive", "holds 3"],
        ),
        (
            drawn(3, 2),
            torch.arange(3),
            {"indices": (torch.tensor([-1]), torch.tensor([1]), torch.tensor([1]))},
            ["anchor", "-1"],
        ),
    ],
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    output: Any, target: Any, options: dict[str, Any], words: list[str]
) -> None:
    with refused(words):
        losses.create("info_nce")(output, target, **options)


def test_a_plain_tuple_is_taken_for_pairs_and_no_target_need_be_given() -> None:
    first, second = drawn(4, 3), drawn(4, 3, seed=1)
    torch.testing.assert_close(
        losses.create("info_nce")((first, second)), losses.create("info_nce")(Pairs(first, second), None)
    )


def test_a_siamese_network_of_same_and_different_pairs_refuses_a_loss_of_matching_rows() -> None:
    with pytest.raises(ConfigError, match="fitting losses are circle, contrastive"):
        SiameseNetwork(torch.nn.Identity(), loss="info_nce")


# Labelled batches


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_batches_with_singletons_and_duplicates_equal_pytorch_metric_learning(seed: int, temperature: float) -> None:
    embeddings, labels = with_singletons_and_duplicates(seed)
    theirs = pml_losses.NTXentLoss(temperature=temperature)
    pairs, triplets = pml_miners.MultiSimilarityMiner(epsilon=0.3), pml_miners.TripletMarginMiner(margin=0.3)
    for options in ({}, {"indices": pairs(embeddings, labels)}, {"indices": triplets(embeddings, labels)}):
        expected = backward(theirs, embeddings, labels, *options.values())
        found = backward(losses.create("nt_xent", temperature=temperature), embeddings, labels, **options)
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0], [0]], ids=str)
def test_batches_of_one_class_or_of_none_cost_nothing_as_in_pytorch_metric_learning(labels: list[int]) -> None:
    embeddings, target = drawn(len(labels), 3), torch.tensor(labels)
    value, gradient = backward(losses.create("nt_xent"), embeddings, target)
    assert value == pml_losses.NTXentLoss(temperature=0.1)(embeddings, target) == 0
    assert not gradient.any()


def test_positive_pairs_of_an_anchor_without_negatives_count() -> None:
    embeddings, labels = drawn(4, 3), torch.tensor([0, 0, 1, 1])
    indices = tuple(torch.tensor(column) for column in ([0, 2], [1, 3], [0, 0], [2, 3]))
    items = losses.create("nt_xent", reduction="none")(embeddings, labels, indices=indices)
    assert items[0] > 0 == items[1]
    assert losses.create("nt_xent").total(embeddings, labels, indices=indices).denominator == 2
    expected = pml_losses.NTXentLoss(temperature=0.1)(embeddings, labels, indices)
    torch.testing.assert_close(losses.create("nt_xent")(embeddings, labels, indices=indices), expected, **CLOSE)


def test_what_is_listed_twice_counts_twice() -> None:
    embeddings, labels = torch.eye(3, dtype=torch.float64), torch.tensor([0, 0, 1])
    indices = tuple(torch.tensor(column) for column in ([0, 0], [1, 1], [0, 0, 0], [2, 2, 2]))
    items = losses.create("nt_xent", reduction="none")(embeddings, labels, indices=indices)
    assert items.tolist() == pytest.approx([math.log(4)] * 2)  # 1 + 3 negatives as similar as the positive
    assert losses.create("nt_xent", reduction="sum")(embeddings, labels, indices=indices).item() == pytest.approx(
        2 * math.log(4)
    )


@pytest.mark.parametrize("form", ["labels", "indices", "reference"])
def test_a_weight_is_that_of_an_anchor_for_all_its_pairs(form: str) -> None:
    embeddings, labels = drawn(6, 3), torch.tensor([0, 0, 1, 1, 1, 2])
    anchors, options = {
        "labels": ([0, 1, 2, 2, 3, 3, 4, 4], {}),
        "indices": (
            [3, 0, 3],
            {"indices": tuple(torch.tensor(column) for column in ([3, 0, 3], [2, 1, 2], [0, 3, 3], [5, 0, 1]))},
        ),
        "reference": ([0, 1, 5, 5], {"reference": (drawn(3, 3, seed=1), torch.tensor([0, 2, 2]))}),
    }[form]
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0, 9.0], dtype=torch.float64)
    items = losses.create("nt_xent", reduction="none")(embeddings, labels, **options)
    expected = weight[anchors] * items
    torch.testing.assert_close(
        losses.create("nt_xent", reduction="none")(embeddings, labels, weight=weight, **options), expected
    )
    found = losses.create("nt_xent")(embeddings, labels, weight=weight, **options)
    torch.testing.assert_close(found, expected.sum() / weight[anchors].sum())


def test_items_come_in_the_order_of_anchors_and_then_positives() -> None:
    embeddings, labels = drawn(5, 3), torch.tensor([0, 1, 0, 1, 0])
    listed = torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j and labels[i] == labels[j]])
    negative = torch.tensor([(i, j) for i in range(5) for j in range(5) if labels[i] != labels[j]])
    loss = losses.create("nt_xent", reduction="none")
    torch.testing.assert_close(loss(embeddings, labels), loss(embeddings, labels, indices=(*listed.T, *negative.T)))


def test_a_large_batch_needs_no_matrix_of_positive_times_negative_pairs() -> None:
    """pytorch-metric-learning#547: 1024 embeddings of 4 classes would be 260 thousand times 786 thousand."""
    embeddings, labels = drawn(1024, 4, dtype=torch.float32), torch.arange(1024) % 4
    value, _ = backward(losses.create("nt_xent"), embeddings, labels)
    assert value > 0


# Everywhere


@pytest.mark.parametrize(("temperature", "dtype"), EXTREMES, ids=str)
def test_value_and_gradient_are_finite_and_not_negative_everywhere(temperature: float, dtype: torch.dtype) -> None:
    random = drawn(4, 3, dtype=torch.float32)
    axis = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]])
    points = (random, torch.zeros(4, 3), torch.ones(4, 3), axis, random[:, :0], torch.cat([random[:2], random[:2]]))
    for reduction in ("mean", "sum", "none"):
        options = {"temperature": temperature, "reduction": reduction}
        for embeddings in (points.to(dtype) for points in points):
            for labels in ([0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, -5]):
                for size in (4, 1, 0):
                    value, _ = backward(
                        losses.create("nt_xent", **options), embeddings[:size], torch.tensor(labels[:size]).long()
                    )
                    assert (value >= 0).all()
            for negatives in ("second", "both"):
                value, _ = backward(of_halves(losses.create("nt_xent", negatives=negatives, **options)), embeddings)
                assert (value >= 0).all()


@each_reduction
def test_an_empty_reference_costs_nothing(reduction: str) -> None:
    reference = torch.randn(0, 3), torch.zeros(0, dtype=torch.long)
    value, gradient = backward(
        losses.create("nt_xent", reduction=reduction), torch.randn(4, 3), torch.arange(4), reference=reference
    )
    assert not value.any()
    assert not gradient.any()


def test_an_easy_pair_keeps_its_small_cost_in_single_precision() -> None:
    """-log(softmax) would round to 0, and with it the gradient."""
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss = losses.create("info_nce", temperature=0.1, reduction="none")
    torch.testing.assert_close(
        loss(Pairs(first, first)), torch.full((4,), math.log1p(math.exp(-20))), rtol=1e-5, atol=0
    )


def test_single_precision_at_a_low_temperature_is_as_exact_as_its_similarities() -> None:
    pairs = Pairs(drawn(64, 8, dtype=torch.float32), drawn(64, 8, seed=1, dtype=torch.float32))
    loss = losses.create("info_nce", temperature=1e-3)
    assert loss(pairs).item() == pytest.approx(loss(Pairs(*(side.double() for side in pairs))).item(), rel=1e-5)


def test_no_nan_arises_on_the_way_back_from_anchors_with_nothing_to_compare() -> None:
    """A NaN that is masked later still stops whoever trains with torch.autograd.set_detect_anomaly(True)."""
    indices = tuple(torch.tensor(column) for column in ([0, 2], [1, 3], [0], [2]))
    with torch.autograd.set_detect_anomaly(True):
        backward(losses.create("nt_xent"), torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 2]), indices=indices)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_with_indices_and_a_reference_it_is_the_same(dynamic: bool) -> None:
    torch.compiler.reset()
    embeddings, labels = torch.randn(6, 3), torch.arange(6) % 2
    reference = torch.randn(5, 3), torch.arange(5) % 2
    indices = tuple(torch.tensor(column) for column in ([0, 1, 0], [2, 3, 2], [0, 1, 1], [1, 0, 4]))
    compiled = torch.compile(losses.create("info_nce"), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for options in ({"indices": indices}, {"reference": reference}, {"indices": indices, "reference": reference}):
        found, expected = (
            backward(loss, embeddings, labels, **options) for loss in (compiled, losses.create("info_nce"))
        )
        torch.testing.assert_close(found, expected)
