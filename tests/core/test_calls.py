"""How a loss is called: what goes by position, what by name, and what calls that other libraries take are told."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Loss, Pairs, Triplets, VAEOutput
from losses.adapters.pytorch_metric_learning import miners
from losses.core.inputs import EMBEDDINGS
from losses.core.registry import find
from tests.refusals import refused

NAMES = losses.available()
OF_EMBEDDINGS = [name for name in NAMES if EMBEDDINGS in find(name).inputs]
POINTS = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
LABELS = torch.arange(12) // 3
MINERS = [miners.TripletMarginMiner(margin=0.5), miners.MultiSimilarityMiner()]


def drawn(loss: Loss) -> tuple[Any, Any]:
    return loss.inputs[0].draw(loss, 6, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("miner", MINERS, ids=["triplets", "pairs"])
@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_the_tuple_of_a_miner_is_the_third_argument_or_indices(name: str, miner: Any) -> None:
    indices, loss = miner(POINTS, LABELS), losses.create(name).eval()  # in which a memory stands still
    expected = loss(POINTS, LABELS, indices=indices)
    assert torch.equal(loss(POINTS, LABELS, indices), expected)
    assert loss.total(POINTS, LABELS, indices).mean() == loss.total(POINTS, LABELS, indices=indices).mean()
    assert loss.readings(POINTS, LABELS, indices).keys() == loss.readings(POINTS, LABELS).keys()
    (by_position,) = torch.autograd.grad(loss(POINTS, LABELS, indices), POINTS)
    (by_name,) = torch.autograd.grad(expected, POINTS)
    assert torch.equal(by_position, by_name)
    assert torch.equal(loss(POINTS, LABELS, None), loss(POINTS, LABELS))


def test_a_miner_by_position_is_compiled_traced_and_transformed_like_one_by_name() -> None:
    indices, loss = MINERS[0](POINTS, LABELS), losses.create("contrastive")
    expected = loss(POINTS, LABELS, indices=indices)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(POINTS, LABELS, indices), expected)
    gradient = torch.func.grad(lambda points: loss(points, LABELS, indices))(POINTS.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, POINTS)[0])
    exported = torch.export.export(loss, (POINTS, LABELS, indices)).module()
    torch.testing.assert_close(exported(POINTS, LABELS, indices), expected)


def test_sizes_of_an_export_are_named_as_before() -> None:
    rows = torch.export.Dim("rows", min=2)
    sizes = {"output": {0: rows}, "target": {0: rows}}
    program = torch.export.export(losses.create("mse"), (torch.rand(3, 2), torch.rand(3, 2)), dynamic_shapes=sizes)
    longer = torch.rand(7, 2), torch.rand(7, 2)
    torch.testing.assert_close(program.module()(*longer), losses.create("mse")(*longer))


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_by_position_is_refused_with_its_name(name: str) -> None:
    loss: Any = find(name).instance()
    output, target = drawn(loss)
    for call in (loss, loss.total):
        with refused(["(6,) float32", "by name", "weight=..."]):
            call(output, target, torch.ones(6))


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_a_reference_by_position_is_refused_with_its_name(name: str) -> None:
    loss: Any = find(name).instance()
    for call in (loss, loss.total):
        with refused(["(12, 4) float64", "by name", "reference=(embeddings, labels)"]):
            call(POINTS, LABELS, None, POINTS, LABELS)


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("contrastive", Pairs(POINTS, POINTS), LABELS > 0),
        ("info_nce", Pairs(POINTS, POINTS), None),
        ("triplet", Triplets(POINTS, POINTS, POINTS), None),
        ("elbo", VAEOutput(POINTS, POINTS, POINTS), POINTS.sigmoid()),
        ("kl_divergence", torch.distributions.Bernoulli(logits=POINTS), torch.distributions.Bernoulli(logits=POINTS)),
    ],
    ids=str,
)
def test_every_kind_of_output_refuses_a_weight_by_position(name: str, output: Any, target: Any) -> None:
    with refused(["(12,) float32", "weight=..."]):
        losses.create(name)(output, target, torch.ones(12))


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
@pytest.mark.parametrize(
    ("shape", "labels", "fix"),
    [
        ((4, 2, 8), torch.arange(4), "labels.repeat_interleave(2)"),
        ((5, 3, 8), torch.arange(5), "labels.repeat_interleave(3)"),
        ((4, 2, 8), torch.arange(8).reshape(4, 2), "labels.flatten()"),
        ((4, 2, 8), None, "torch.arange(4).repeat_interleave(2)"),
    ],
    ids=str,
)
def test_views_of_each_sample_are_told_how_to_become_rows(
    name: str, shape: tuple[int, ...], labels: Tensor | None, fix: str
) -> None:
    embeddings = torch.rand(shape)
    with refused(["(N, D)", f"got {shape}", f"embeddings.flatten(0, 1), {fix}"]):
        losses.create(name)(embeddings, labels)
    scope = {"embeddings": embeddings, "labels": labels, "torch": torch}
    value = losses.create(name)(*eval(f"embeddings.flatten(0, 1), {fix}", scope))
    assert value.isfinite()


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_embeddings_without_labels_are_told_what_goes_without(name: str) -> None:
    loss = find(name).instance()
    unlabelled = {"info_nce": "losses.Pairs(first, second)", "triplet": "losses.Triplets(anchor, positive, negative)"}
    stacked = "torch.cat([first, second]), have the labels torch.arange(len(first)).repeat(2)"
    fix = unlabelled.get(name, stacked)
    with refused([f"{name} on embeddings (12, 4) needs integer labels (N,), got None", "pass them as target", fix]):
        loss(POINTS)
    first, second = POINTS[:6], POINTS[6:]
    assert loss(torch.cat([first, second]), torch.arange(len(first)).repeat(2)).isfinite()
