"""Gradient caching: values and gradients are those of the whole batch, whatever stands around it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import losses
from losses.distributed import GlobalBatch, GradientCaching
from tests.distributed.ranks import Ranks

ROWS, WIDTH, DIMENSION = 22, 5, 4
LABELS = torch.arange(ROWS) // 3
METRIC = losses.available("metric")


def samples(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape or (ROWS, WIDTH), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(seed: int = 1, *between: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), *between, nn.Linear(7, DIMENSION)).double()


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def both(encoder: nn.Module, step: Callable[[nn.Module], Tensor], chunk_size: int = 8) -> None:
    """Hold a step with gradient caching to the same step of the whole batch, from the same random numbers."""
    whole, cached = copy.deepcopy(encoder), copy.deepcopy(encoder)
    results = []
    for module, called in ((whole, whole), (cached, GradientCaching(cached, chunk_size=chunk_size))):
        value = step(called)
        value.backward()
        results.append((value.detach(), gradients(module)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METRIC)
@pytest.mark.parametrize("chunk_size", [1, 5, 11, ROWS, 1000])
def test_value_and_gradient_are_those_of_the_whole_batch(name: str, chunk_size: int) -> None:
    both(network(), lambda encoder: losses.create(name)(encoder(samples()), LABELS), chunk_size)


class TwoTowers(nn.Module):
    """An encoder of several inputs with several outputs, one of which nobody differentiates by."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.texts = network(1), network(2)
        self.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, image: Tensor, scale: float, *, text: Tensor, mask: Tensor | None = None) -> losses.Pairs:
        assert mask is None
        return losses.Pairs(self.images(image) * scale, self.texts(text))


def test_encoders_of_several_inputs_return_pairs() -> None:
    loss = losses.create("info_nce")

    def step(encoder: nn.Module) -> Tensor:
        made = encoder(samples(), 1.5, text=samples(seed=3), mask=None)
        assert isinstance(made, losses.Pairs)
        return loss(made, None)

    both(TwoTowers(), step)
    encoder = TwoTowers()
    step(GradientCaching(encoder, chunk_size=4)).backward()
    assert encoder.unused.grad is None


def test_only_one_of_several_outputs_may_count() -> None:
    both(TwoTowers(), lambda encoder: encoder(samples(), 1.0, text=samples(seed=3)).second.square().sum())


def test_samples_get_their_gradient() -> None:
    given = [samples().requires_grad_() for _ in range(2)]
    encoder = network()
    for called, leaf in zip((encoder, GradientCaching(encoder, chunk_size=6)), given, strict=True):
        losses.create("circle")(called(leaf), LABELS).backward()
    torch.testing.assert_close(given[1].grad, given[0].grad, rtol=1e-12, atol=1e-12)


def test_gradients_may_be_asked_for_instead_of_accumulated() -> None:
    encoder = network()
    leaves = list(encoder.parameters())
    whole = torch.autograd.grad(losses.create("triplet")(encoder(samples()), LABELS), leaves)
    value = losses.create("triplet")(GradientCaching(encoder, chunk_size=6)(samples()), LABELS)
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(value, leaves, retain_graph=True), whole, rtol=1e-12, atol=1e-12)
    assert not gradients(encoder)


def test_some_parameters_may_be_frozen() -> None:
    encoder = network()
    encoder[0].requires_grad_(requires_grad=False)
    both(encoder, lambda module: losses.create("triplet")(module(samples()), LABELS))


def test_two_calls_before_one_backward_add_up() -> None:
    loss = losses.create("info_nce")
    both(network(), lambda encoder: loss(losses.Pairs(encoder(samples()), encoder(samples(seed=2))), None))


class RandomMask(nn.Module):
    """Dropout that draws row by row, so that a batch in chunks draws what the whole batch draws."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.stack([torch.rand(rows.shape[1]) < 0.7 for _ in rows])


def test_dropout_is_drawn_again_as_it_was() -> None:
    def step(encoder: nn.Module) -> Tensor:
        torch.manual_seed(5)
        value = losses.create("circle")(encoder(samples()), LABELS)
        torch.rand(17)  # what is drawn in between makes no difference
        return value

    both(network(1, RandomMask()), step)


def test_dropout_of_torch_is_the_same_in_both_passes() -> None:
    encoder = network(1, nn.Dropout(0.5))
    torch.manual_seed(2)
    made = GradientCaching(encoder, chunk_size=5)(samples())
    losses.create("triplet")(made, LABELS).backward()
    torch.manual_seed(2)
    by_hand = copy.deepcopy(encoder)
    by_hand.zero_grad()
    again = torch.cat([by_hand(chunk) for chunk in samples().split(5)])
    losses.create("triplet")(again, LABELS).backward()
    torch.testing.assert_close(made, again, rtol=0, atol=0)
    torch.testing.assert_close(gradients(encoder), gradients(by_hand), rtol=1e-12, atol=1e-12)


def test_backward_leaves_the_random_numbers_alone() -> None:
    value = losses.create("triplet")(GradientCaching(network(1, nn.Dropout()), chunk_size=5)(samples()), LABELS)
    before = torch.get_rng_state()
    value.backward()
    assert before.equal(torch.get_rng_state())


@pytest.mark.parametrize("spectral", [False, True])
def test_buffers_change_once_and_are_replayed(spectral: bool) -> None:
    encoder = network(1, nn.BatchNorm1d(7).double())
    if spectral:
        nn.utils.parametrizations.spectral_norm(encoder[0])
    by_hand = copy.deepcopy(encoder)
    losses.create("triplet")(GradientCaching(encoder, chunk_size=8)(samples()), LABELS).backward()
    losses.create("triplet")(torch.cat([by_hand(part) for part in samples().split(8)]), LABELS).backward()
    torch.testing.assert_close(gradients(encoder), gradients(by_hand), rtol=1e-12, atol=1e-12)
    for name, buffer in by_hand.named_buffers():
        torch.testing.assert_close(encoder.get_buffer(name), buffer, rtol=0, atol=0)


def test_batch_normalisation_in_evaluation_is_that_of_the_whole_batch() -> None:
    encoder = network(1, nn.BatchNorm1d(7).double()).eval()
    both(encoder, lambda module: losses.create("triplet")(module(samples()), LABELS))


@pytest.mark.parametrize("outer", [False, True])
def test_autocast_is_the_same_in_both_passes(outer: bool) -> None:
    """Backward may be called inside of autocast, too, where weights were cast before without a graph."""
    encoder = network().float()
    results = []
    for called in (encoder, GradientCaching(encoder, chunk_size=8)):
        encoder.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = called(samples().float())
            assert made.dtype is torch.bfloat16
            value = losses.create("triplet")(made, LABELS)
            if outer:
                value.backward()
        if not outer:
            value.backward()
        results.append((made.detach(), [gradient.clone() for gradient in gradients(encoder)]))
    torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=2e-3)


def test_a_scaler_scales_what_is_cached() -> None:
    steps = []
    for wrapped in (False, True):
        encoder = network()
        optimiser, scaler = torch.optim.SGD(encoder.parameters(), 0.1), torch.amp.GradScaler("cpu", init_scale=1024)
        called = GradientCaching(encoder, chunk_size=8) if wrapped else encoder
        scaler.scale(losses.create("triplet")(called(samples()), LABELS)).backward()
        scaler.step(optimiser)
        scaler.update()
        steps.append([parameter.detach() for parameter in encoder.parameters()])
    torch.testing.assert_close(steps[1], steps[0], rtol=1e-12, atol=1e-12)


def test_without_gradient_it_embeds_in_chunks() -> None:
    encoder, seen = network(), []
    encoder[0].register_forward_hook(lambda module, given, made: seen.append(len(made)))
    with torch.no_grad():
        made = GradientCaching(encoder, chunk_size=8)(samples())
    assert seen == [8, 8, 6]
    assert not made.requires_grad
    torch.testing.assert_close(made, encoder(samples()).detach(), rtol=1e-12, atol=1e-12)


def test_only_one_chunk_has_a_graph() -> None:
    encoder, sizes = network(), []

    def packed(tensor: Tensor) -> Tensor:
        sizes.append(len(tensor))
        return tensor

    made = GradientCaching(encoder, chunk_size=4)(samples())
    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        made.sum().backward()
    assert max(sizes) <= max(4, 7)


def test_an_empty_batch_has_no_gradient() -> None:
    encoder = network()
    losses.create("triplet")(GradientCaching(encoder, chunk_size=4)(samples(0, WIDTH)), LABELS[:0]).backward()
    assert all(not gradient.any() for gradient in gradients(encoder))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_a_compiled_caller_falls_back_to_it() -> None:
    encoder = network()
    cached = GradientCaching(encoder, chunk_size=8)
    step = torch.compile(lambda rows: F.normalize(cached(rows), dim=1).square().sum(), backend="eager")
    step(samples()).backward()
    torch.testing.assert_close(step(samples()), torch.tensor(float(ROWS), dtype=torch.float64))


def test_a_parameter_that_changed_in_between_is_an_error() -> None:
    encoder = network()
    value = losses.create("triplet")(GradientCaching(encoder, chunk_size=8)(samples()), LABELS)
    with torch.no_grad():
        encoder[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_it_is_differentiated_once() -> None:
    encoder = network()
    value = GradientCaching(encoder, chunk_size=8)(samples()).square().sum()
    (gradient,) = torch.autograd.grad(value, [encoder[0].weight], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8", None])
def test_a_chunk_is_a_positive_number_of_samples(size: Any) -> None:
    with pytest.raises(losses.ConfigError, match=r"chunk_size: got .*, expected an integer of at least 1"):
        GradientCaching(network(), chunk_size=size)


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(losses.ConfigError, match=r"torch\.nn\.Module"):
        GradientCaching(lambda rows: rows, chunk_size=4)  # type: ignore[arg-type]  # wrong on purpose


class Made(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, rows: Tensor) -> Any:
        return self.make(rows)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda rows: torch.cat([rows, rows]), r"given 8 samples and returned .*\(16, 5\).*; it must make one row"),
        (torch.mean, "given 8 samples and returned"),
        (lambda rows: [rows], "must return a tensor or a tuple"),
        (lambda rows: losses.Pairs(rows, rows[:3]), r"given 8 samples and returned .*\(3, 5\)"),
    ],
)
def test_an_encoder_makes_a_row_of_every_sample(make: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(losses.InputError, match=said):
        GradientCaching(Made(make), chunk_size=8)(samples())


def test_tensors_of_a_batch_have_one_length() -> None:
    encoder = GradientCaching(Made(lambda *rows: rows[0]), chunk_size=8)
    with pytest.raises(losses.InputError, match="its samples first"):
        encoder(samples(), samples(3, WIDTH))
    with pytest.raises(losses.InputError, match="its samples first"):
        encoder(torch.tensor(1.0))
    with pytest.raises(losses.InputError, match="got none"):
        encoder([samples()])


def trained(rank: int, group: dist.ProcessGroup, cuts: list[int], chunk_size: int) -> tuple[Tensor, list[Tensor], int]:
    """Take one step on the rows of this rank, and count how often gradients are exchanged."""
    encoder: nn.Module = network(1, nn.Identity())
    called = GradientCaching(encoder, chunk_size=chunk_size) if chunk_size else encoder
    parallel = DistributedDataParallel(called, process_group=group)
    exchanged = []

    def hook(state: object, bucket: dist.GradBucket) -> Any:
        exchanged.append(bucket.index())
        total = bucket.buffer() / dist.get_world_size(group)
        return dist.all_reduce(total, group=group, async_op=True).get_future().then(lambda done: done.value()[0])

    hook.__annotations__ = {"bucket": dist.GradBucket}  # torch compares objects, and here they are text
    parallel.register_comm_hook(None, hook)
    rows = slice(cuts[rank], cuts[rank + 1])
    loss = GlobalBatch(losses.create("supervised_contrastive"), group)
    value = loss(parallel(samples()[rows]), LABELS[rows])
    value.backward()
    return value.detach(), gradients(encoder), len(exchanged)


@pytest.mark.parametrize("cuts", [[0, 11, ROWS], [0, 5, ROWS]])
def test_inside_of_distributed_data_parallel_gradients_are_exchanged_once(cuts: list[int], ranks: Ranks) -> None:
    encoder = network(1, nn.Identity())
    value = losses.create("supervised_contrastive")(encoder(samples()), LABELS)
    value.backward()
    for chunk_size in (4, 0):
        for one in ranks.run(2, trained, cuts, chunk_size):
            assert not isinstance(one, Exception), one
            torch.testing.assert_close(one[:2], (value.detach(), gradients(encoder)), rtol=1e-10, atol=1e-10)
            assert one[2] == 1


def wrapped_inside(rank: int, group: dist.ProcessGroup) -> str:
    with pytest.raises(losses.ConfigError, match=r"DistributedDataParallel\(GradientCaching\(encoder"):
        GradientCaching(DistributedDataParallel(network(), process_group=group), chunk_size=4)
    return "refused"


def test_what_is_distributed_already_is_refused(ranks: Ranks) -> None:
    assert ranks.run(2, wrapped_inside) == ["refused"] * 2
