"""What is peculiar to the multi-similarity loss: every anchor counts, and which of its pairs mining takes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Pairs
from losses.adapters.pytorch_metric_learning import losses as pml_losses
from losses.adapters.pytorch_metric_learning import miners as pml_miners
from tests.drawing import pointing, with_singletons_and_duplicates
from tests.gradients import backward
from tests.metric.few_points import POINTS, assert_few_points_are_finite
from tests.ops.tile_cases import without_torchs_own_remarks
from tests.oracles.metric.multi_similarity import multi_similarity_loop
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
EPSILONS = [None, 0.1]
THREE = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
"""Points whose cosines are 0.6, 0 and 0.8."""
each_epsilon = pytest.mark.parametrize("epsilon", EPSILONS)


def by_hand(near: list[float], far: list[float], alpha: float = 2.0, beta: float = 4.0, base: float = 0.5) -> float:
    return (
        math.log(1 + sum(math.exp(-alpha * (s - base)) for s in near)) / alpha
        + math.log(1 + sum(math.exp(beta * (s - base)) for s in far)) / beta
    )


@pytest.mark.parametrize(
    ("labels", "epsilon", "expected"),
    [
        ([0, 0, 1], None, [by_hand([0.6], [0.0]), by_hand([0.6], [0.8]), by_hand([], [0.0, 0.8])]),
        # 0.6 < 0 + 0.1 is false, 0.6 < 0.8 + 0.1 is true, and the last has no positive to compare negatives with
        ([0, 0, 1], 0.1, [0, by_hand([0.6], [0.8]), 0]),
        ([0, 0, 1], 0.59, [0, by_hand([0.6], [0.8]), 0]),
        ([0, 0, 1], 0.61, [by_hand([0.6], [0.0]), by_hand([0.6], [0.8]), 0]),
        # a positive less similar than a negative is mined at any epsilon
        ([0, 1, 0], 0.0, [by_hand([0.0], [0.6]), 0, by_hand([0.0], [0.8])]),
        ([0, 0, 0], None, [by_hand([0.6, 0.0], []), by_hand([0.6, 0.8], []), by_hand([0.0, 0.8], [])]),
        ([0, 0, 0], 9.0, [0, 0, 0]),
        ([0, 1, 2], None, [by_hand([], [0.6, 0.0]), by_hand([], [0.6, 0.8]), by_hand([], [0.0, 0.8])]),
        ([0, 1, 2], 9.0, [0, 0, 0]),
    ],
    ids=str,
)
def test_three_points_cost_what_a_calculator_says(
    labels: list[int], epsilon: float | None, expected: list[float]
) -> None:
    settings = {"beta": 4.0, "mining_epsilon": epsilon}
    items = losses.create("multi_similarity", **settings, reduction="none")(THREE, torch.tensor(labels))
    assert items.tolist() == pytest.approx(expected)
    mean = losses.create("multi_similarity", **settings).total(THREE, torch.tensor(labels))
    assert mean.denominator == 3  # who costs nothing counts as well
    assert mean.sum.item() == pytest.approx(sum(expected))


@pytest.mark.parametrize(
    ("labels", "at", "above"),
    [
        ([0, 0, 0, 1], by_hand([0.0], [0.0]), by_hand([1.0, 0.0], [0.0])),
        ([0, 0, 1, 1], 0.0, by_hand([1.0], [0.0, 0.0])),
        ([0, 1, 0, 0], by_hand([0.0, 0.0], [1.0]), by_hand([0.0, 0.0], [1.0])),
        ([0, 1, 1, 0], by_hand([0.0], [1.0, 0.0]), by_hand([0.0], [1.0, 0.0])),
    ],
    ids=str,
)
def test_a_pair_exactly_epsilon_away_is_not_mined(labels: list[int], at: float, above: float) -> None:
    """On axes similarities are exact; those of the first point are 1, 0 and 0."""
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for epsilon, expected in ((1.0, at), (1.0 + 1e-6, above)):
        loss = losses.create("ms", beta=4.0, mining_epsilon=epsilon, reduction="none")
        assert loss(points, torch.tensor(labels))[0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("epsilon", [0.05, 0.3, 3.0])
def test_mined_pairs_are_those_of_the_miner_and_their_choice_has_no_gradient(epsilon: float, seed: int) -> None:
    embeddings, labels = with_singletons_and_duplicates(seed)
    indices = pml_miners.MultiSimilarityMiner(epsilon=epsilon)(embeddings, labels)
    expected = backward(losses.create("ms"), embeddings, labels, indices=indices)
    found = backward(losses.create("ms", mining_epsilon=epsilon), embeddings, labels)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(backward(pml_losses.MultiSimilarityLoss(), embeddings, labels, indices), found, **CLOSE)


def test_a_large_epsilon_mines_everything_of_whoever_has_both_kinds() -> None:
    embeddings, labels = with_singletons_and_duplicates(1)
    both = (labels.unsqueeze(1) == labels).sum(1) > 1
    plain, mined = (
        losses.create("ms", mining_epsilon=epsilon, reduction="none")(embeddings, labels) for epsilon in (None, 2.5)
    )
    assert 0 < both.sum() < len(labels)
    torch.testing.assert_close(mined, plain * both)


def test_mining_chooses_among_the_pairs_of_the_indices() -> None:
    indices = pointing([0, 1], [1, 0], [0, 1], [2, 2])["indices"]
    items = losses.create("ms", beta=4.0, mining_epsilon=0.1, reduction="none")
    labels = torch.tensor([0, 0, 1])
    assert items(THREE, labels, indices=indices).tolist() == pytest.approx([0, by_hand([0.6], [0.8]), 0])
    without_negatives = pointing([0, 1], [1, 0], [], [], dtype=torch.long)["indices"]
    assert not items(THREE, labels, indices=without_negatives).any()


@each_epsilon
def test_a_pair_that_is_listed_twice_counts_once(epsilon: float | None) -> None:
    once = tuple(torch.tensor(column) for column in ([0, 1], [1, 0], [0, 1], [2, 2]))
    twice = tuple(torch.cat([column, column[:1]]) for column in once)
    loss, labels = losses.create("ms", mining_epsilon=epsilon, reduction="none"), torch.tensor([0, 0, 1])
    assert torch.equal(loss(THREE, labels, indices=twice), loss(THREE, labels, indices=once))


def test_one_pair_alone_costs_something_which_it_does_not_in_pytorch_metric_learning() -> None:
    indices = pointing([0], [1], [0], [2])["indices"]
    value = losses.create("ms", beta=4.0)(THREE, torch.tensor([0, 0, 1]), indices=indices)
    assert value.item() == pytest.approx(by_hand([0.6], [0.0]) / 3)
    theirs = pml_losses.MultiSimilarityLoss(beta=4.0)(THREE, torch.tensor([0, 0, 1]), indices)
    assert theirs == 0


@pytest.mark.parametrize("settings", [{}, {"alpha": 1e3, "beta": 1e4}, {"alpha": 1e-3, "beta": 1e-3, "base": -2.0}])
@each_epsilon
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_points_are_finite_and_nothing_to_compare_costs_nothing(
    dtype: torch.dtype, epsilon: float | None, settings: dict[str, float]
) -> None:
    more = {
        "far apart": (POINTS * 1e3, [0, 0, 1, 1]),
        "on an axis": (torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]]), [0, 0, 1, 1]),
        "no dimensions": (POINTS[:, :0], [0, 0, 1, 1]),
    }
    nothing = {"none", "one"} if epsilon is None else {"none", "one", "one class", "all different"}
    assert_few_points_are_finite(
        "multi_similarity", {**settings, "mining_epsilon": epsilon}, dtype, nothing=nothing, more=more
    )


@each_epsilon
def test_an_empty_reference_costs_nothing(epsilon: float | None) -> None:
    nobody = torch.randn(0, 3), torch.zeros(0, dtype=torch.long)
    value, gradient = backward(
        losses.create("ms", mining_epsilon=epsilon), torch.randn(4, 3), torch.arange(4) % 2, reference=nobody
    )
    assert value == 0
    assert not gradient.any()


def test_vectors_of_zeros_have_the_cosine_zero_to_everyone() -> None:
    embeddings = torch.zeros(3, 2, dtype=torch.float64)
    loss = losses.create("ms", beta=4.0, reduction="none")
    assert loss(embeddings, torch.tensor([0, 0, 1])).tolist() == pytest.approx(
        [by_hand([0.0], [0.0])] * 2 + [by_hand([], [0.0, 0.0])]
    )
    some = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some[1] = 0
    value, _ = backward(losses.create("ms"), some, torch.arange(5) % 2)
    torch.testing.assert_close(value, pml_losses.MultiSimilarityLoss()(some, torch.arange(5) % 2), **CLOSE)


@each_epsilon
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_what_its_numbers_do(dtype: torch.dtype, epsilon: float | None) -> None:
    """Everything between the numbers as they come and the result is computed in single precision."""
    embeddings = torch.randn(24, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(24) % 5
    loss = losses.create("ms", mining_epsilon=epsilon)
    value, gradient = backward(loss, embeddings, labels)
    exact, slope = backward(loss, embeddings.double(), labels)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), slope, rtol=torch.finfo(dtype).eps, atol=1e-6)


@each_epsilon
@pytest.mark.parametrize("reference", [False, True])
def test_a_weight_is_that_of_an_anchor(reference: bool, epsilon: float | None) -> None:
    random = torch.Generator().manual_seed(2)
    embeddings, others = (torch.randn(size, 3, generator=random, dtype=torch.float64) for size in (6, 5))
    labels, weight = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0, 9.0]).double()
    options = {"reference": (others, torch.arange(5) % 3)} if reference else {}
    items = multi_similarity_loop(mining_epsilon=epsilon)
    found = backward(losses.create("ms", mining_epsilon=epsilon), embeddings, labels, weight=weight, **options)
    expected = backward(lambda *batch, **o: (weight * items(*batch, **o)).sum() / 12.5, embeddings, labels, **options)
    torch.testing.assert_close(found, expected, **CLOSE)
    unreduced = losses.create("ms", mining_epsilon=epsilon, reduction="none")
    torch.testing.assert_close(
        unreduced(embeddings, labels, weight=weight, **options), weight * items(embeddings, labels, **options), **CLOSE
    )


@each_epsilon
def test_without_any_weight_the_loss_and_its_gradient_are_zero(epsilon: float | None) -> None:
    value, gradient = backward(
        losses.create("ms", mining_epsilon=epsilon), torch.randn(4, 3), torch.arange(4) % 2, weight=torch.zeros(4)
    )
    assert value == 0
    assert not gradient.any()


@each_epsilon
def test_no_nan_arises_on_the_way_back_from_anchors_with_nothing_to_compare(epsilon: float | None) -> None:
    """A NaN that is masked later still stops whoever trains with torch.autograd.set_detect_anomaly(True)."""
    embeddings, labels = torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 2])
    indices = pointing([0, 2], [1, 3], [0], [2])["indices"]
    loss = losses.create("ms", mining_epsilon=epsilon)
    with torch.autograd.set_detect_anomaly(True):
        for options in ({}, {"indices": indices}):
            backward(loss, embeddings, labels, **options)
        backward(loss, embeddings, torch.arange(5))


def contexts(dtype: torch.dtype = torch.float32) -> list[dict[str, Any]]:
    reference = torch.randn(5, 3, generator=torch.Generator().manual_seed(5), dtype=dtype), torch.arange(5) % 2
    triplets, pairs = (
        pointing([0, 1, 1], [2, 3, 3], [1, 4, 0])["indices"],
        pointing([0, 1], [2, 3], [0, 1, 1], [1, 0, 4])["indices"],
    )
    return [
        {"indices": triplets},
        {"indices": pairs},
        {"reference": reference},
        {"indices": pairs, "reference": reference},
    ]


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.integration)])
@each_epsilon
def test_compiled_with_indices_and_a_reference_it_is_the_same(epsilon: float | None, dynamic: bool) -> None:
    torch.compiler.reset()
    embeddings, labels = torch.randn(6, 3), torch.arange(6) % 2
    loss = losses.create("ms", mining_epsilon=epsilon)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for options in ({}, *contexts()):
        found, expected = (backward(each, embeddings, labels, **options) for each in (compiled, loss))
        torch.testing.assert_close(found, expected)


@without_torchs_own_remarks
@each_epsilon
def test_transforms_take_indices_and_a_reference(epsilon: float | None) -> None:
    random = torch.Generator().manual_seed(6)
    several, labels = torch.randn(3, 6, 3, generator=random, dtype=torch.float64), torch.arange(6) % 2
    loss = losses.create("ms", beta=10.0, mining_epsilon=epsilon)
    for options in contexts(torch.float64):

        def of_points(points: Tensor, options: dict[str, Any] = options) -> Tensor:
            return loss(points, labels, **options)

        expected = [backward(loss, points, labels, **options) for points in several]
        slopes, values = torch.func.vmap(torch.func.grad_and_value(of_points))(several)
        torch.testing.assert_close(values, torch.stack([value for value, _ in expected]), **CLOSE)
        torch.testing.assert_close(slopes, torch.stack([slope for _, slope in expected]), **CLOSE)
        leaf = several[0].clone().requires_grad_()
        assert torch.autograd.gradcheck(of_points, leaf)
        assert torch.autograd.gradgradcheck(of_points, leaf)


@pytest.mark.parametrize(
    ("output", "target", "options", "words"),
    [
        (
            Pairs(torch.randn(2, 3), torch.randn(2, 3)),
            torch.ones(2),
            {},
            ["multi_similarity takes embeddings", "Pairs"],
        ),
        (torch.randn(3, 2), torch.arange(3), {"weight": torch.ones(4)}, ["weight", "(4,)", "(3,)"]),
        (
            torch.randn(3, 2),
            torch.arange(3),
            {"weight": torch.ones(3, 3)},
            ["weight", "(3, 3)", "one weight per anchor"],
        ),
        (
            torch.randn(3, 2),
            torch.arange(3),
            {"weight": torch.ones(3, 1)},
            ["weight", "(3, 1)", "one weight per anchor"],
        ),
        (torch.randn(3, 2), torch.arange(3), pointing([0], [3], [1]), ["positive", "holds 3"]),
    ],
    ids=["pairs", "weight-too-long", "weight-of-pairs", "weight-column", "indices"],
)
def test_a_wrong_batch_is_refused(output: Any, target: Any, options: dict[str, Any], words: list[str]) -> None:
    with refused(words):
        losses.create("ms")(output, target, **options)
