"""Which parts add up to a whole batch, which do not, and the way that is exact for those."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import losses
from losses import Pairs, Triplets
from losses.checking.case import rows_of
from losses.core.inputs import DISTRIBUTION_OBJECTS, EMBEDDINGS, MATCHES, PAIRS, TRIPLETS, Batch
from losses.core.registry import find

METRIC = [name for name in losses.available("metric") if not find(name).cls.remembers]  # no past in the parts
ADD_UP = {("contrastive", PAIRS), ("cosine_embedding", PAIRS), ("triplet", TRIPLETS)}
DO_NOT = {(name, EMBEDDINGS) for name in METRIC} | {("circle", PAIRS), ("info_nce", MATCHES)}
OURS = [
    name
    for name in losses.available()
    if find(name).cls.__module__.startswith("losses.") and not find(name).cls.remembers
]
EVERY = {(name, kind) for name in OURS for kind in find(name).instance().inputs}
PARTS = (slice(0, 3), slice(3, 4), slice(4, 12))
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "contrastive": [{}, {"average": "all"}, {"average": "balanced"}],
    "triplet": [{}, {"average": "all"}, {"mining": "hard"}, {"margin": "soft"}],
    "info_nce": [{}, {"negatives": "both"}],
    "multi_similarity": [{}, {"mining_epsilon": 0.1}],
}


def leaves_of(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [part for part in output if part is not None]


def gradients(value: Tensor, output: Any) -> list[Tensor]:
    return list(
        torch.autograd.grad(value, leaves_of(output), retain_graph=True, materialize_grads=True, allow_unused=True)
    )


def both_ways(loss: Any, batch: Batch, **context: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the whole, and what its parts come to by ``normalizer=`` and as totals."""
    denominator = loss.total(*batch, **context).denominator
    parts = [rows_of(batch, rows) for rows in PARTS]
    by_normalizer = sum(loss(*part, normalizer=denominator, **context) for part in parts)
    by_totals = sum(loss.total(*part, **context) for part in parts).mean()
    return loss(*batch, **context), [by_normalizer, by_totals]


CASES = [
    (name, kind, settings)
    for name, kind in sorted(EVERY - {("kl_divergence", DISTRIBUTION_OBJECTS)}, key=str)
    for settings in OPTIONS.get(name, [{}])
]


@pytest.mark.parametrize(("name", "kind", "settings"), CASES, ids=str)
def test_which_parts_add_up_to_the_whole(name: str, kind: Any, settings: dict[str, Any]) -> None:
    loss = find(name).instance(**settings)
    batch = kind.draw(loss, 12, torch.Generator().manual_seed(1))
    whole, sums = both_ways(loss, batch)
    expected = gradients(whole, batch.output)
    for value in sums:
        same = torch.allclose(value, whole) and all(
            torch.allclose(one, other) for one, other in zip(gradients(value, batch.output), expected, strict=True)
        )
        assert same == ((name, kind) not in DO_NOT), f"{value.item()} for {whole.item()}"


def test_each_way_that_losses_of_embeddings_take_is_told() -> None:
    taken = {(name, kind) for name in METRIC for kind in find(name).inputs}
    assert taken == ADD_UP | DO_NOT


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", METRIC)
def test_anchors_against_one_reference_add_up(name: str, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(2)
    embeddings = torch.randn(12, 4, generator=random, dtype=dtype, requires_grad=True)
    reference = torch.randn(20, 4, generator=random, dtype=dtype), torch.arange(20) % 4
    for settings in OPTIONS.get(name, [{}]):
        loss = losses.create(name, **settings)
        whole, sums = both_ways(loss, Batch(embeddings, torch.arange(12) % 4), reference=reference)
        for value in sums:
            torch.testing.assert_close(value, whole)
            torch.testing.assert_close(gradients(value, embeddings), gradients(whole, embeddings))


def embedded_by_parts(network: nn.Module, samples: Tensor, size: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Accumulate the gradient of a loss of all embeddings while the graph of only one part is alive, as README does."""
    chunks = samples.split(size)
    with torch.no_grad():
        embeddings = torch.cat([network(chunk) for chunk in chunks]).requires_grad_()
    value = loss(embeddings)
    value.backward()
    for chunk, gradient in zip(chunks, embeddings.grad.split(size), strict=True):
        network(chunk).backward(gradient)
    return value.detach()


@pytest.mark.parametrize("size", [1, 5, 8, 24])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", METRIC)
def test_a_whole_batch_is_exact_when_it_is_embedded_by_parts(name: str, dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)
    samples, labels = torch.randn(24, 6, dtype=dtype), torch.arange(24) % 5
    for settings in OPTIONS.get(name, [{}]):
        loss = losses.create(name, **settings)
        network.zero_grad()
        whole = loss(network(samples), labels)
        whole.backward()
        expected = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad()
        value = embedded_by_parts(network, samples, size, lambda embeddings, loss=loss: loss(embeddings, labels))
        rounding = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 12 * torch.finfo(dtype).eps)
        torch.testing.assert_close(value, whole.detach(), rtol=rounding, atol=rounding)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            largest = float(gradient.abs().max())
            torch.testing.assert_close(parameter.grad, gradient, rtol=rounding, atol=rounding * max(largest, 1))


@pytest.mark.parametrize("negatives", ["second", "both"])
def test_views_are_exact_when_they_are_embedded_by_parts(negatives: str) -> None:
    network, loss = nn.Linear(6, 4).double(), losses.create("info_nce", negatives=negatives)
    samples = torch.randn(16, 6, dtype=torch.float64)

    def of_views(embeddings: Tensor) -> Tensor:
        return loss(Pairs(embeddings[:8], embeddings[8:]))

    (expected,) = torch.autograd.grad(of_views(network(samples)), network.weight)
    embedded_by_parts(network, samples, 3, of_views)
    torch.testing.assert_close(network.weight.grad, expected)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=["batch-norm", "dropout"])
def test_what_sees_more_than_a_sample_or_draws_anew_is_not_the_same_by_parts(layer: nn.Module) -> None:
    """The limits that the README names."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 4), layer).double()
    samples, labels = torch.randn(16, 6, dtype=torch.float64), torch.arange(16) % 4
    loss = losses.create("supcon")
    (expected,) = torch.autograd.grad(loss(network(samples), labels), network[0].weight)
    embedded_by_parts(network, samples, 4, lambda embeddings: loss(embeddings, labels))
    assert not torch.allclose(network[0].weight.grad, expected)


def test_explicit_triplets_count_what_is_active_over_all_parts() -> None:
    """Of which no part knows: the denominator of the whole is that of the sum of the totals."""
    parts = [Triplets(*torch.randn(3, 4, 5).unbind()) for _ in range(3)]
    loss = losses.create("triplet", margin=1.0)
    counts = [loss.total(part).denominator for part in parts]
    whole = Triplets(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    assert sum(counts) == loss.total(whole).denominator
    torch.testing.assert_close(sum(loss(part, normalizer=sum(counts)) for part in parts), loss(whole))
