"""What readings tell of collapse, and what taking them must never do."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import InputError, Pairs, Triplets
from losses.abstract import readings as module
from losses.checking.clauses.invariances import HostReads, Synchronisations
from losses.core.registry import find
from losses.extend import EmbeddingLoss
from tests.largest_tensor import Largest
from tests.metric.reading_loops import NAMES, OF_BATCHES, assert_same, each_loss, measure_of, read


def all_outputs(parameters: dict[str, Any], size: int = 8) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Yield a batch of every kind that a loss takes, in float32."""
    random = torch.Generator().manual_seed(4)
    first, second, third = (torch.randn(size, 5, generator=random) for _ in range(3))
    labels = torch.arange(size) % 3
    yield first, labels, {}
    yield first, labels, {"reference": (second, labels.flip(0))}
    match parameters["name"]:
        case "contrastive" | "circle":
            yield Pairs(first, second), torch.arange(size) % 2, {}
        case "info_nce":
            yield Pairs(first, second), None, {}
        case "triplet":
            yield Triplets(first, second, third), None, {}


def filled(output: Any, value: float) -> Any:
    return (
        torch.full_like(output, value)
        if isinstance(output, Tensor)
        else type(output)(*(torch.full_like(part, value) for part in output))
    )


@each_loss
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e4])
def test_embeddings_at_one_point_have_collapsed(parameters: dict[str, Any], value: float) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        if "reference" in context:
            context = {"reference": (torch.full_like(output, value), context["reference"][1])}
        taken = read(loss, filled(output, value), target, **context)
        # the cosine of zeros is 0, and that of anything else with itself 1
        if value or measure_of(loss) != "cosine":
            assert taken["relative_loss"] == pytest.approx(1)
            assert taken["positive_distance"] == taken["negative_distance"] == 0
        assert taken["effective_rank"] == 0


@pytest.mark.parametrize("margin", [0.2, 1.0, "soft"])
@pytest.mark.parametrize("average", ["all", "active"])
def test_hard_mining_stuck_at_the_margin_is_told_from_one_that_learns(margin: Any, average: str) -> None:
    loss = losses.create("triplet", margin=margin, mining="hard", average=average)
    labels = torch.arange(4).repeat_interleave(3)
    point = torch.nn.functional.normalize(torch.ones(12, 6), dim=1)
    stuck = read(loss, point, labels)
    assert float(loss(point, labels)) == pytest.approx(math.log(2) if margin == "soft" else margin)
    assert stuck == {
        **dict.fromkeys(NAMES, 0.0),
        "active_fraction": 1.0,
        "margin_violations": 1.0,
        "relative_loss": pytest.approx(1),
    }
    nearly = read(loss, point + 1e-5 * torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), labels)
    assert nearly["relative_loss"] == pytest.approx(1, abs=1e-2)
    learnt = read(loss, 3 * torch.eye(6)[labels], labels)
    assert learnt["relative_loss"] < 0.05
    assert learnt["margin_violations"] == 0


@each_loss
def test_nothing_is_differentiated_and_nothing_changes(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        leaves = [output] if isinstance(output, Tensor) else list(output)
        for leaf in leaves:
            leaf.requires_grad_()
        before, random, setting = [leaf.detach().clone() for leaf in leaves], torch.get_rng_state(), loss.config()
        first = read(loss, output, target, **context)
        with torch.inference_mode():
            assert read(loss, output, target, **context) == first
        assert all(leaf.grad is None for leaf in leaves)
        assert all(torch.equal(leaf, former) for leaf, former in zip(leaves, before, strict=True))
        assert torch.equal(torch.get_rng_state(), random)
        assert loss.config() == setting


@each_loss
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_reduction_does_not_matter(parameters: dict[str, Any], reduction: str) -> None:
    for output, target, context in all_outputs(parameters):
        taken, other = (
            read(losses.create({**parameters, "reduction": way}), output, target, **context)
            for way in ("mean", reduction)
        )
        assert taken == other


@each_loss
def test_no_value_is_read_after_the_first_batch(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        first = loss.readings(output, target, **context)
        with Synchronisations() as seen, HostReads() as brought:
            again = loss.readings(output, target, **context)
        assert not seen.calls
        assert not brought.calls
        # where nothing is read there is no dense path, and float64 takes its place
        torch.testing.assert_close(again, first, rtol=1e-6, atol=1e-6)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 1e4])
def test_readings_are_never_nan(parameters: dict[str, Any], dtype: torch.dtype, scale: float) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        scaled = (
            (output * scale).to(dtype)
            if isinstance(output, Tensor)
            else type(output)(*((part * scale).to(dtype) for part in output))
        )
        read(loss, scaled, target, **context)  # which asks for finite numbers


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read_in_single(parameters: dict[str, Any], dtype: torch.dtype) -> None:
    loss = losses.create(parameters)
    for output, target, context in all_outputs(parameters):
        half = output.to(dtype) if isinstance(output, Tensor) else type(output)(*(part.to(dtype) for part in output))
        single = half.float() if isinstance(half, Tensor) else type(half)(*(part.float() for part in half))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            taken = read(loss, half, target, **context)
        assert_same(taken, read(loss, single, target, **context), 1e-6)


@each_loss
@pytest.mark.parametrize("size", [300, 520])  # in one block, and in three
def test_blocks_equal_the_plain_composition(
    parameters: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = losses.create(parameters)
    random = torch.Generator().manual_seed(5)
    embeddings = torch.randn(size, 8, generator=random, dtype=torch.float64)
    labels = (torch.rand(size, generator=random) ** 2 * 40).long()
    contexts: list[dict[str, Any]] = [{}, {"reference": (embeddings[:200] + 0.1, labels[:200])}]
    blockwise = [read(loss, embeddings, labels, **context) for context in contexts]
    monkeypatch.setattr(module, "tileable", lambda *_: False)
    for context, taken in zip(contexts, blockwise, strict=True):
        assert_same(taken, read(loss, embeddings, labels, **context), 1e-9)


@pytest.mark.parametrize(
    "parameters",
    # where nothing may be read, as under this mode, triplets that are soft or swapped are not summed in blocks
    [p for p in OF_BATCHES if not p.get("swap") and (p.get("margin") != "soft" or "mining" in p)],
    ids=lambda p: "-".join(map(str, p.values())),
)
def test_no_matrix_of_all_pairs_is_made(parameters: dict[str, Any]) -> None:
    size = 2048
    loss = losses.create(parameters)
    embeddings = torch.randn(size, 4, generator=torch.Generator().manual_seed(6))
    with Largest() as largest:
        loss.readings(embeddings, torch.arange(size) // 4)
    assert largest.elements < size * size / 2


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in losses.available()
        if not issubclass(find(name).cls, EmbeddingLoss) and find(name).family != "objective"
    ],
)
def test_losses_of_anything_but_embeddings_have_no_readings(name: str) -> None:
    loss = find(name).instance()
    kind = loss.inputs[0]
    assert loss.readings(*kind.draw(loss, 4, torch.Generator().manual_seed(0))) == {}


@each_loss
def test_a_batch_that_the_loss_refuses_is_refused(parameters: dict[str, Any]) -> None:
    loss = losses.create(parameters)
    with pytest.raises(InputError, match="labels"):
        loss.readings(torch.randn(4, 2), torch.arange(3))
    with pytest.raises(TypeError, match="anchors"):
        loss.readings(torch.randn(4, 2), torch.arange(4), anchors=3)
