"""A compiled loss asks again, before every call, what it asked while it was traced: so it asks little, and only what a
short way to the mean may leave out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import Loss
from tests.refusals import refused


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch.compiler.reset()


def compiled(loss: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    return torch.compile(loss, fullgraph=True, backend="eager", **options)


def questions(loss: Loss, *batch: Tensor) -> int:
    """Return how many things a compiled loss asks before it runs on a batch."""
    asked: list[Any] = []

    def keep(guards: list[Any]) -> list[bool]:
        asked.extend(guards)
        return [True] * len(guards)

    compiled(loss, options={"guard_filter_fn": keep})(*batch)
    return len(asked)


PREDICTED, WANTED = torch.linspace(-2, 2, 12), torch.linspace(-1, 2, 12).cos()
LOGITS, CLASSES = torch.linspace(-3, 3, 24).reshape(6, 4).sin(), torch.arange(6) % 4
FEW = {
    "mse": (losses.MSELoss(), PREDICTED, WANTED, 24),
    "huber": (losses.HuberLoss(), PREDICTED, WANTED, 29),
    "binary_cross_entropy": (losses.BinaryCrossEntropyLoss(), PREDICTED, WANTED.square(), 31),
    "cross_entropy": (losses.CrossEntropyLoss(), LOGITS, CLASSES, 32),
}


@pytest.mark.parametrize("name", FEW)
def test_a_plain_mean_asks_little_before_every_call(name: str) -> None:
    """torch's function of mse in a module asks 11 things, and the whole way into a loss 60 to 70."""
    loss, output, target, most = FEW[name]
    assert 11 <= questions(loss, output, target) <= most


@pytest.mark.parametrize("name", FEW)
def test_what_a_parameter_becomes_later_is_asked(name: str) -> None:
    changes = {
        "mse": {"reduction": "sum"},
        "huber": {"delta": 0.25},
        "binary_cross_entropy": {"label_smoothing": 0.5, "positive_weight": torch.full((12,), 3.0)},
        "cross_entropy": {
            "ignore_index": 2,
            "label_smoothing": 0.5,
            "z_loss": 0.5,
            "class_weight": torch.tensor([1.0, 0.0, 2.0, 3.0]),
        },
    }
    like, output, target, _ = FEW[name]
    loss = losses.create(like.config())
    called = compiled(loss)
    torch.testing.assert_close(called(output, target), loss(output, target))
    for parameter, value in changes[name].items():
        before = loss(output, target)
        setattr(loss, parameter, value)
        torch.testing.assert_close(called(output, target), loss(output, target))
        assert not torch.isclose(loss(output, target), before)


class OneMore(losses.MSELoss):
    """A loss with a mean of its own."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor:
        return self.items(output, target).mean() + 1


class InHalves(losses.MSELoss):
    """A loss whose elements count half."""

    def denominators(self, items: Tensor, output: Tensor, target: Tensor) -> Tensor:
        return torch.full_like(items, 0.5)


class TwiceAsMuch(losses.CrossEntropyLoss):
    """A loss with items of its own, and nothing faster."""

    def items(self, output: Any, target: Tensor) -> Tensor:
        return 2 * super().items(output, target)

    def fast_total(self, output: Any, target: Tensor, weight: Tensor | None) -> None:
        return None

    def fast_mean(self, output: Any, target: Tensor) -> None:
        return None

    def fast_weighted_mean(self, output: Any, target: Tensor, weight: Tensor) -> None:
        return None


class TripletsAndOne(losses.TripletLoss):
    """A loss of embeddings with a mean of its own."""

    def fast_mean(self, output: Any, target: Any) -> Tensor | None:
        mean = super().fast_mean(output, target)
        return None if mean is None else mean + 1


CHANGED: dict[type[Loss], tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]] = {
    OneMore: (PREDICTED, WANTED, lambda output, target: losses.MSELoss()(output, target) + 1),
    InHalves: (PREDICTED, WANTED, lambda output, target: losses.MSELoss()(output, target) * 2),
    TwiceAsMuch: (LOGITS, CLASSES, lambda output, target: losses.CrossEntropyLoss()(output, target) * 2),
    TripletsAndOne: (LOGITS, CLASSES % 2, lambda output, target: losses.TripletLoss()(output, target) + 1),
}


@pytest.mark.parametrize("cls", CHANGED)
@pytest.mark.parametrize("way", ["as it is", "compiled"])
def test_what_a_subclass_changes_is_not_left_out(cls: type[Loss], way: str) -> None:
    output, target, right = CHANGED[cls]
    loss, output = cls(), output.clone().requires_grad_()
    if way == "compiled" and cls is TripletsAndOne:
        pytest.skip("what is traced is the plain composition, not a mean of its own")
    called = compiled(loss) if way == "compiled" else loss
    for _ in range(2):  # the first batch is looked at
        torch.testing.assert_close(called(output, target), right(output, target))


DTYPES = [
    (torch.float64, torch.float64),
    (torch.float64, torch.float32),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16),
]


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("dtypes", DTYPES)
def test_whatever_is_not_taken_as_it_is_goes_the_whole_way(name: str, dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    loss, output, target, _ = FEW[name]
    output = output.to(dtypes[0]).requires_grad_()
    target = target.to(dtypes[1]) if target.is_floating_point() else target
    for called in (compiled(loss), compiled(loss, dynamic=True)):
        value, expected = called(output, target), loss(output, target)
        assert value.dtype is expected.dtype
        torch.testing.assert_close(value, expected)
        slopes = [torch.autograd.grad(each, output)[0] for each in (value, expected)]
        torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("name", FEW)
def test_the_empty_batch_is_0(name: str) -> None:
    loss, output, target, _ = FEW[name]
    assert compiled(loss)(output[:0], target[:0]) == 0


@pytest.mark.parametrize("name", FEW)
def test_a_weight_a_normalizer_and_autocast_are_not_left_out(name: str) -> None:
    loss, output, target, _ = FEW[name]
    called, weight = compiled(loss), torch.arange(len(target)) % 3.0
    torch.testing.assert_close(called(output, target, weight=weight), loss(output, target, weight=weight))
    torch.testing.assert_close(called(output, target, normalizer=5.0), loss(output, target, normalizer=5.0))
    with torch.autocast("cpu"):
        value = called(output.half(), target)
    torch.testing.assert_close(value, loss(output.half(), target))


def test_a_batch_that_does_not_fit_is_refused_as_ever() -> None:
    called = torch.compile(losses.MSELoss(), backend="eager")
    with refused(["(12,)", "(11,)"]):
        called(PREDICTED, WANTED[1:])
    with refused(["class indices", "(5,)"]):
        torch.compile(losses.CrossEntropyLoss(), backend="eager")(LOGITS, CLASSES[1:])
