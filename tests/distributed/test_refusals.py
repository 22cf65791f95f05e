"""What goes wrong on one rank is an error on all of them, and nobody waits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import losses
from losses.distributed import GlobalBatch
from tests.distributed.ranks import RankError, Ranks

EMBEDDINGS = torch.linspace(-1, 1, 24).reshape(6, 4) + torch.eye(6, 4)
LABELS = torch.tensor([0, 1, 0, 1, 2, 2])


def called(rank: int, group: dist.ProcessGroup, name: str, everything: list[dict[str, Any]]) -> float:
    """Call a loss with what is meant for this rank; afterwards a good batch has to work."""
    given = dict(everything[rank])
    parameters, output = given.pop("parameters", {}), given.pop("output", EMBEDDINGS)
    if given.pop("requires_grad", True) and isinstance(output, Tensor):
        output = output.clone().requires_grad_()
    target = given.pop("target", LABELS)
    try:
        value: Tensor = GlobalBatch(losses.create(name, **parameters), group)(output, target, **given)
    finally:
        good = GlobalBatch(losses.create("circle"), group)
        good(EMBEDDINGS, LABELS)
    return float(value.detach())


def outcomes(ranks: Ranks, name: str, *everything: dict[str, Any]) -> list[Any]:
    return ranks.run(len(everything), called, name, list(everything))


INDICES = torch.tensor([0]), torch.tensor([2]), torch.tensor([1])
PARTS = {"terms": [{"loss": "circle", "output": "embedding"}]}
PENALISED = {"terms": ["circle", "l2_penalty"]}
SMOOTH = {"terms": ["gradient_norm", "circle"]}
CASES: dict[str, tuple[str, list[dict[str, Any]], list[str]]] = {
    "labels of another length": (
        "triplet",
        [{}, {"target": LABELS[:4]}],
        ["rank 1 of the group refused its batch", "labels"],
    ),
    "embeddings that are not finite": (
        "triplet",
        [{"output": EMBEDDINGS.clone().fill_(torch.nan)}, {}, {}],
        ["finite", "rank 0 of the group refused", "rank 0 of the group refused"],
    ),
    "a part that is missing": (
        "weighted_sum",
        [{"parameters": PARTS, "output": {"embedding": EMBEDDINGS}}, {"parameters": PARTS, "output": {}}],
        ["rank 1 of the group refused its batch", "the output has no part 'embedding'"],
    ),
    "a penalty whose network one rank lacks": (
        "weighted_sum",
        [{"parameters": PENALISED}, {"parameters": PENALISED, "model": torch.nn.Linear(1, 1)}],
        ["model= was not given; call", "rank 0 of the group refused its batch"],
    ),
    "inputs that one rank does not pass": (
        "weighted_sum",
        [{"parameters": SMOOTH}, {"parameters": SMOOTH, "inputs": EMBEDDINGS.clone().requires_grad_()}],
        ["inputs= was not given; call", "rank 0 of the group refused its batch"],
    ),
    "inputs without gradient on one rank": (
        "weighted_sum",
        [{"parameters": SMOOTH, "inputs": EMBEDDINGS}, {"parameters": SMOOTH, "inputs": EMBEDDINGS.clone()}],
        ["inputs does not require grad", "inputs does not require grad"],
    ),
    "another dimension": (
        "circle",
        [{}, {"output": EMBEDDINGS[:, :3]}],
        ["embeddings: the shape of a row differs between rank 0 and rank 1"] * 2,
    ),
    "another dtype": (
        "circle",
        [{}, {"output": EMBEDDINGS.double()}, {}],
        ["embeddings: the dtype differs between rank 0, 2 and rank 1"] * 3,
    ),
    "another configuration": (
        "circle",
        [{}, {"parameters": {"margin": 0.3}}],
        ["rank 1 computes something else than rank 0", "rank 0 computes something else than rank 1"],
    ),
    "weights on one rank": (
        "circle",
        [{"weight": torch.ones(6)}, {}],
        ["weight: rank 0 has it and rank 1 has not"] * 2,
    ),
    "a reference on one rank": (
        "contrastive",
        [{"reference": (EMBEDDINGS, LABELS)}, {}],
        ["reference embeddings: rank 0 has it and rank 1 has not"] * 2,
    ),
    "a gradient on one rank": (
        "contrastive",
        [{}, {"requires_grad": False}],
        ["embeddings: the requires_grad differs between rank 0 and rank 1"] * 2,
    ),
    "pairs on one rank": (
        "contrastive",
        [{}, {"output": losses.Pairs(EMBEDDINGS, EMBEDDINGS), "target": LABELS > 0}],
        ["rank 1 computes something else", "rank 0 computes something else"],
    ),
    "indices outside of all rows": (
        "triplet",
        [{"indices": INDICES}, {"indices": (torch.tensor([6]), torch.tensor([8]), torch.tensor([12]))}],
        ["rank 1 of the group refused", "all ranks together hold 12 rows"],
    ),
    "indices of anchors of others": (
        "triplet",
        [{"indices": (torch.tensor([6]), torch.tensor([8]), torch.tensor([7]))}, {"indices": INDICES}],
        ["indices: rank 0, 1 names anchors of other ranks"] * 2,
    ),
    "indices of two kinds": (
        "triplet",
        [{"indices": INDICES}, {"indices": (torch.tensor([6]), torch.tensor([8]), *[torch.tensor([6])] * 2)}],
        ["some ranks pass three tensors and some four"] * 2,
    ),
    "indices on one rank": (
        "triplet",
        [{"indices": INDICES}, {}],
        ["rank 1 computes something else than rank 0, which has TripletLoss", "of Tensor without indices"],
    ),
    "a normalizer on one rank": (
        "circle",
        [{"normalizer": 3.0}, {}],
        ["rank 1 computes something else than rank 0", "rank 0 computes something else than rank 1"],
    ),
    "weights of items on one rank": (
        "mse",
        [{"target": EMBEDDINGS, "weight": torch.ones(6)}, {"target": EMBEDDINGS}, {"target": EMBEDDINGS}],
        ["rank 1, 2 computes something else", "rank 0 computes something else", "rank 0 computes something else"],
    ),
    "a normalizer of a sum": (
        "mse",
        [{"parameters": {"reduction": "sum"}, "normalizer": 3.0, "target": EMBEDDINGS}] * 2,
        ["normalizer replaces the denominator of a mean"] * 2,
    ),
    "no tensor": ("mse", [{"output": None}, {"target": EMBEDDINGS}], ["mse takes", "rank 0 of the group refused"]),
    "items of another dtype": (
        "mse",
        [{"target": EMBEDDINGS}, {"output": EMBEDDINGS.double(), "target": EMBEDDINGS.double()}],
        ["sum: the dtype differs between rank 0 and rank 1"] * 2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_on_one_rank_is_an_error_on_all(case: str, ranks: Ranks) -> None:
    name, everything, expected = CASES[case]
    for found, words in zip(outcomes(ranks, name, *everything), expected, strict=True):
        assert isinstance(found, RankError), found
        assert words in str(found)
        assert "InputError" in str(found).splitlines()[0]


def test_without_any_positive_pair_all_ranks_go_on(ranks: Ranks) -> None:
    apart = [{"target": LABELS}, {"target": torch.arange(6) + 10}]
    for name in ("triplet", "circle", "contrastive", "supervised_contrastive", "info_nce", "multi_similarity"):
        values = outcomes(ranks, name, *apart)
        assert values[0] == values[1]


def test_the_same_indices_may_be_passed_on_all_ranks(ranks: Ranks) -> None:
    indices = torch.tensor([0, 7]), torch.tensor([8, 1]), torch.tensor([1, 2])
    both = losses.create("triplet")(EMBEDDINGS.repeat(2, 1), LABELS.repeat(2), indices)
    values = outcomes(ranks, "triplet", {"indices": indices}, {"indices": indices})
    assert values == pytest.approx([float(both)] * 2)


@pytest.mark.parametrize("name", ["triplet", "mse"])
def test_a_normalizer_is_that_of_all_ranks(name: str, ranks: Ranks) -> None:
    target = LABELS if name == "triplet" else EMBEDDINGS.flip(0)
    given = {"target": target, "normalizer": 7.0}
    expected = losses.create(name)(EMBEDDINGS.repeat(2, 1), target.repeat(2, *[1] * (target.ndim - 1)), normalizer=7)
    assert outcomes(ranks, name, given, given) == pytest.approx([float(expected)] * 2)


def test_nothing_is_made_of_a_loss_without_reduction() -> None:
    with pytest.raises(losses.ConfigError, match="nothing to add up"):
        GlobalBatch(losses.create("triplet", reduction="none"))
    with pytest.raises(losses.ConfigError, match=r"losses\.create"):
        GlobalBatch("triplet")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("name", ["triplet", "mse"])
def test_without_a_group_it_is_the_loss(name: str) -> None:
    loss = losses.create(name)
    target = LABELS if name == "triplet" else EMBEDDINGS.flip(0)
    assert GlobalBatch(loss)(EMBEDDINGS, target).equal(loss(EMBEDDINGS, target))
    weighted = GlobalBatch(loss)(EMBEDDINGS, target, weight=torch.arange(6.0), normalizer=3)
    assert weighted.equal(loss(EMBEDDINGS, target, weight=torch.arange(6.0), normalizer=3))


def of_another_group(rank: int, group: dist.ProcessGroup) -> str:
    """Call a loss of a group that this process is not in."""
    first = dist.new_group([0])
    try:
        GlobalBatch(losses.create("circle"), first)(EMBEDDINGS, LABELS)
    except losses.InputError as error:
        return str(error)
    return "a loss"


def test_a_process_that_is_not_in_the_group_is_told(ranks: Ranks) -> None:
    found = ranks.run(4, of_another_group)  # all of them make a group
    assert found[0] == "a loss"
    assert all("this process is not in the group of GlobalBatch" in one for one in found[1:])
