"""Metric losses whose weights are all tiny, or all huge: only how they relate to one another counts."""

from typing import Any

import pytest
import torch

import losses
from losses import Pairs
from tests.gradients import backward

LOSSES: list[tuple[str, dict[str, Any]]] = [
    *(("triplet", {"margin": margin, "mining": mining}) for margin in (0.2, "soft") for mining in ("all", "hard")),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"swap": True}),
    ("contrastive", {}),
    ("cosine_embedding", {}),
    ("contrastive", {"average": "balanced", "power": 1}),
    ("circle", {}),
    *(("supervised_contrastive", {"temperature": temperature}) for temperature in (0.1, 0.02, 0.01)),
    *(("info_nce", {"temperature": temperature}) for temperature in (0.1, 0.02)),
    ("multi_similarity", {}),
    ("multi_similarity", {"mining_epsilon": 0.1}),
]
MATCHES = [
    {"negatives": negatives, "direction": direction, "temperature": temperature}
    for negatives in ("second", "both")
    for direction in ("both", "forward")
    for temperature in (0.1, 0.02, 0.01)
]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9, torch.bfloat16: 1e-2, torch.float16: 2e-3}
# 2^-66 is 1.4e-20; each a power of two, so that nothing but the range can make a difference
each_factor = pytest.mark.parametrize("exponent", [-33, -66, -100, -120, 66])
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def drawn(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(size)
    embeddings = torch.nn.functional.normalize(torch.randn(size, 6, generator=random), dim=1)
    return embeddings, torch.arange(size) % 5, torch.rand(size, generator=random) + 0.5


def compare(loss: Any, output: Any, target: Any, weight: torch.Tensor, exponent: int, **options: Any) -> None:
    """Compare with the same weights of ordinary size, with the mean over them and over a given normalizer."""
    factor, dtype = 2.0**exponent, output.dtype
    call = (lambda points, *rest, **more: loss(Pairs(*points.chunk(2)), **more)) if target is None else loss
    for normalizer in (None, float(weight.sum())):
        given = ({} if normalizer is None else {"normalizer": normalizer * scale} for scale in (1, factor))
        plain, tiny = (
            backward(call, output, target, weight=weight * scale, **more, **options)
            for scale, more in zip((1, factor), given, strict=True)
        )
        torch.testing.assert_close(tiny[0], plain[0], rtol=1e-5, atol=0)
        error = (tiny[1].double() - plain[1].double()).norm()
        assert error <= TOLERANCE[dtype] * plain[1].double().norm()


@each_factor
@each_dtype
@pytest.mark.parametrize("size", [24, 100])
@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=str)
def test_tiny_weights_leave_value_and_gradient_right(
    name: str, parameters: dict[str, Any], size: int, dtype: torch.dtype, exponent: int
) -> None:
    embeddings, labels, weight = drawn(size)
    weight = weight.to(torch.bfloat16 if dtype.itemsize == 2 else dtype)  # float16 ends at 6e-8
    loss = losses.create(name, **parameters)
    compare(loss, embeddings.to(dtype), labels, weight, exponent)
    reference = embeddings.flip(0).to(dtype), labels.flip(0)
    compare(loss, embeddings.to(dtype), labels, weight, exponent, reference=reference)


@each_factor
@each_dtype
@pytest.mark.parametrize("size", [24, 200])
@pytest.mark.parametrize("parameters", MATCHES, ids=str)
def test_tiny_weights_of_matches_leave_value_and_gradient_right(
    parameters: dict[str, Any], size: int, dtype: torch.dtype, exponent: int
) -> None:
    embeddings, _, weight = drawn(size)
    weight = weight[: size // 2].to(torch.bfloat16 if dtype.itemsize == 2 else dtype)
    compare(losses.create("info_nce", **parameters), embeddings.to(dtype), None, weight, exponent)


@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=str)
def test_tiny_weights_beside_ordinary_ones_hardly_count(name: str, parameters: dict[str, Any]) -> None:
    embeddings, labels, weight = drawn(100)
    loss = losses.create(name, **parameters)
    tiny, none = ((torch.arange(100) % 2 == 0) * (weight - least) + least for least in (1e-30, 0.0))
    for one, other in zip(
        backward(loss, embeddings, labels, weight=tiny), backward(loss, embeddings, labels, weight=none), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=str)
def test_tiny_weights_leave_the_second_derivative_right(name: str, parameters: dict[str, Any]) -> None:
    embeddings, labels, weight = drawn(12)
    loss, results = losses.create(name, **parameters), []
    for scale in (1, 2.0**-66):
        points = embeddings.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(points, labels, weight=weight * scale), points, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), points)[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=str)
def test_weights_of_nothing_give_0_with_a_graph(name: str, parameters: dict[str, Any]) -> None:
    embeddings, labels, _ = drawn(100)
    value, gradient = backward(losses.create(name, **parameters), embeddings, labels, weight=torch.zeros(100))
    assert value == 0
    assert not gradient.any()
