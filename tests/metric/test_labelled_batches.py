"""What the losses of labelled embeddings share: labels, indices, references, and weights per anchor."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import InputError, Pairs, Samples
from tests.drawing import pointing
from tests.refusals import refused

NAMES = ["contrastive", "triplet", "circle"]
each_loss = pytest.mark.parametrize("name", NAMES)
each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def backward(value: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True))


@each_loss
@each_reduction
@pytest.mark.parametrize(
    "indices",
    [(torch.zeros(0, dtype=torch.long),) * 3, (torch.zeros(0, dtype=torch.long),) * 4],
    ids=["triplets", "pairs"],
)
def test_a_miner_that_found_nothing_gives_zero_with_zero_gradient(name: str, reduction: str, indices: Any) -> None:
    embeddings = torch.randn(4, 2, requires_grad=True)
    value = losses.create(name, reduction=reduction)(embeddings, torch.tensor([0, 0, 1, 1]), indices=indices)
    assert not value.any()
    assert not backward(value, embeddings)[0].any()


@each_loss
def test_a_reference_set_receives_gradient(name: str) -> None:
    embeddings, others = torch.randn(4, 3, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    value = losses.create(name)(
        embeddings, torch.tensor([0, 0, 1, 1]), reference=(others, torch.tensor([0, 1, 0, 1, 2, 2]))
    )
    assert all(gradient.any() for gradient in backward(value, embeddings, others))


@each_loss
def test_an_embedding_is_compared_with_its_own_copy_in_a_reference(name: str) -> None:
    """A reference set is another set: an equal row in it is a positive at distance 0."""
    embeddings, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    assert losses.create(name, reduction="sum")(embeddings, labels) == 0
    count = {"contrastive": 4, "triplet": 2, "circle": 2}[name]
    assert losses.create(name, reduction="none")(embeddings, labels, reference=(embeddings, labels)).numel() == count


@each_loss
def test_negative_and_boolean_labels_are_classes_like_any_other(name: str) -> None:
    embeddings = torch.randn(4, 3)
    expected = losses.create(name)(embeddings, torch.tensor([0, 0, 1, 1]))
    for labels in (
        torch.tensor([-7, -7, -100, -100]),
        torch.tensor([True, True, False, False]),
        torch.tensor([1, 1, 2, 2], dtype=torch.uint8),
    ):
        torch.testing.assert_close(losses.create(name)(embeddings, labels), expected)


@each_loss
def test_scaling_all_weights_changes_nothing(name: str) -> None:
    embeddings, labels, weight = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), torch.rand(6)
    loss = losses.create(name)
    torch.testing.assert_close(loss(embeddings, labels, weight=weight * 8), loss(embeddings, labels, weight=weight))
    torch.testing.assert_close(loss(embeddings, labels, weight=torch.full((6,), 3.0)), loss(embeddings, labels))


@each_loss
@each_reduction
def test_a_boolean_mask_is_a_weight_of_zero_and_one(name: str, reduction: str) -> None:
    embeddings, labels, mask = (
        torch.randn(5, 3),
        torch.tensor([0, 0, 1, 1, 0]),
        torch.tensor([True, True, True, False, True]),
    )
    loss = losses.create(name, reduction=reduction)
    torch.testing.assert_close(loss(embeddings, labels, weight=mask), loss(embeddings, labels, weight=mask.float()))


@each_loss
def test_the_mean_is_the_sum_over_the_weight_of_the_total(name: str) -> None:
    embeddings, labels, weight = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), torch.rand(6)
    loss = losses.create(name)
    total = loss.total(embeddings, labels, weight=weight)
    torch.testing.assert_close(total.sum / total.denominator, loss(embeddings, labels, weight=weight))
    torch.testing.assert_close(total.sum / 7, loss(embeddings, labels, weight=weight, normalizer=7))


@each_loss
@pytest.mark.parametrize(
    ("embeddings", "labels", "options", "words"),
    [
        (torch.randn(4), torch.arange(4), {}, ["embeddings", "2 dimensions", "(N, D)", "(4,)", "unsqueeze(-1)"]),
        (torch.randn(4, 2, 2), torch.arange(4), {}, ["embeddings", "(N, D)", "(4, 2, 2)"]),
        (torch.randn(4, 2), torch.arange(3), {}, ["4 rows", "3"]),
        (torch.randn(4, 2), torch.arange(4).unsqueeze(1), {}, ["labels", "1 dimension", "(4, 1)"]),
        (torch.randn(4, 2), torch.arange(4.0), {}, ["labels", "integers", "labels.long()"]),
        (torch.ones(4, 2, dtype=torch.long), torch.arange(4), {}, ["embeddings", "floating point", "int64"]),
        (torch.full((4, 2), torch.nan), torch.arange(4), {}, ["embeddings", "NaN", "8 of 8"]),
        (torch.randn(4, 2), None, {}, ["labels", "None"]),
        (torch.randn(4, 2), torch.arange(4), {"reference": torch.randn(4, 2)}, ["reference", "(embeddings, labels)"]),
        (
            torch.randn(4, 2),
            torch.arange(4),
            {"reference": (torch.randn(4, 3), torch.arange(4))},
            ["3 dimensions", "embeddings 2"],
        ),
        (torch.randn(4, 2), torch.arange(4), {"reference": (torch.randn(4, 2), torch.arange(3))}, ["4 rows", "3"]),
        (
            torch.randn(4, 2),
            torch.arange(4),
            {"reference": (torch.randn(4, 2), torch.arange(4.0))},
            ["labels", "integers"],
        ),
        (
            torch.randn(4, 2),
            torch.arange(4),
            {"reference": (torch.full((1, 2), torch.nan), torch.arange(1))},
            ["reference", "NaN"],
        ),
        (
            torch.randn(4, 2),
            torch.arange(4),
            pointing([0], [4], [1]),
            ["positive", "4", "holds 4"],
        ),
        (torch.randn(4, 2), torch.arange(4), pointing([-1], [1], [1]), ["anchor", "-1"]),
        (
            torch.randn(4, 2),
            torch.arange(4),
            pointing([0], [1]),
            ["indices", "(anchor, positive, negative)"],
        ),
        (torch.randn(4, 2), torch.arange(4), pointing([0.0], [0.0], [0.0]), ["anchor", "integers"]),
        (
            torch.randn(4, 2),
            torch.arange(4),
            pointing([0], [1, 2], [1]),
            ["anchor", "positive"],
        ),
        (torch.randn(4, 2), torch.arange(4), {"indices": ([0], [1], [2])}, ["anchor", "a list"]),
        (torch.randn(4, 2), torch.arange(4), {"weight": torch.ones(3)}, ["weight", "(3,)", "(4,)"]),
        (Samples(torch.rand(3), torch.rand(3))._asdict(), torch.arange(4), {}, ["embeddings", "dict"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(
    name: str, embeddings: Any, labels: Any, options: Any, words: Any
) -> None:
    with refused(words):
        losses.create(name)(embeddings, labels, **options)


@each_loss
def test_indices_point_into_the_reference_where_there_is_one(name: str) -> None:
    indices = torch.tensor([0]), torch.tensor([6]), torch.tensor([5])
    reference = torch.randn(7, 2), torch.arange(7)
    losses.create(name)(torch.randn(2, 2), torch.arange(2), indices=indices, reference=reference)
    with pytest.raises(InputError, match=r"positive runs from 6 to 6.*holds 2"):
        losses.create(name)(torch.randn(2, 2), torch.arange(2), indices=indices)


@pytest.mark.parametrize("name", ["contrastive", "circle"])
@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (Pairs(torch.randn(3, 2), torch.randn(4, 2)), torch.ones(3), ["first", "(3, 2)", "second", "(4, 2)"]),
        (Pairs(torch.randn(3, 2), torch.randn(3, 2)), torch.ones(4), ["3 rows", "4"]),
        (Pairs(torch.randn(3, 2), torch.randn(3, 2)), torch.ones(3, 1), ["target", "1 dimension", "(3, 1)"]),
        (
            Pairs(torch.randn(3, 2), torch.randn(3, 2)),
            torch.tensor([1, 2, 0]),
            ["same", "2", "first_labels == second_labels"],
        ),
        (Pairs(torch.randn(3), torch.randn(3)), torch.ones(3), ["first", "(N, D)", "(3,)"]),
        (Pairs(torch.ones(1, 2), torch.tensor([[torch.nan, 1]])), torch.ones(1), ["second", "NaN", "1 of 2"]),
        (Pairs(torch.randn(3, 2), torch.randn(3, 2)), None, ["target", "None"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_pairs_are_refused_with_what_came_and_the_fix(
    name: str, output: Any, target: Any, words: list[str]
) -> None:
    with refused(words):
        losses.create(name)(output, target)


@pytest.mark.parametrize("name", ["contrastive", "circle"])
def test_pairs_take_zero_one_and_signs_and_booleans(name: str) -> None:
    pairs, same = Pairs(torch.randn(6, 2), torch.randn(6, 2)), torch.tensor([True, False, True, False, False, True])
    expected = losses.create(name)(pairs, same)
    for target in (same.long(), same.float(), same.long() * 2 - 1):
        torch.testing.assert_close(losses.create(name)(pairs, target), expected)
    torch.testing.assert_close(losses.create(name)(tuple(pairs), same), expected)
