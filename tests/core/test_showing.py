"""What a loss shows of itself, wherever its buffers are: repr always, its configuration where it can be read."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import losses
from losses import ConfigError
from losses.core.registry import find, register
from losses.extend import POINTWISE, ElementwiseLoss, Positive, Reduction, checked
from tests.refusals import refused

WITH_LISTS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"class_weight": [0.1, 1.0, 3.0]},
    "binary_cross_entropy": {"positive_weight": [0.1, 1.0, 3.0]},
    "wasserstein": {"form": "probs", "positions": [0.1, 1.0, 3.0]},
    "elbo": {"reconstruction": {"name": "bce", "positive_weight": [0.1, 1.0, 3.0]}},
}
PATHS = {
    "cross_entropy": "class_weight",
    "binary_cross_entropy": "positive_weight",
    "wasserstein": "positions",
    "elbo": "reconstruction.positive_weight",
}


@pytest.mark.parametrize("name", losses.available())
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_loss_is_printed_on_any_device(name: str, device: str) -> None:
    loss = find(name).instance(**WITH_LISTS.get(name, {})).to(device)
    assert repr(loss).startswith(f"{type(loss).__name__}(")
    assert "reduction='mean'" in repr(loss)
    assert str(torch.nn.ModuleDict({"loss": loss}))


@pytest.mark.parametrize("name", WITH_LISTS)
def test_on_the_meta_device_repr_tells_shapes_and_config_tells_why_it_cannot(name: str) -> None:
    loss = losses.create(name, **WITH_LISTS[name])
    before = loss.config()
    loss.to("meta")
    assert "tensor(..., device='meta', size=(3,), dtype=torch.float64)" in repr(loss)
    with refused([f"{PATHS[name]}: its 3 numbers cannot be read", "on meta", "before the loss is there"], ConfigError):
        loss.config()
    loss.to_empty(device="cpu").load_state_dict(losses.create(before).state_dict())
    assert loss.config() == before


def test_a_loss_is_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        loss = losses.create("cross_entropy", class_weight=[1, 2])
    assert "device='meta'" in repr(loss)


@pytest.mark.parametrize("name", WITH_LISTS)
def test_fake_and_transformed_buffers_are_printed(name: str) -> None:
    with FakeTensorMode():
        loss = losses.create(name, **WITH_LISTS[name])
        assert "FakeTensor(..., size=(3,), dtype=torch.float64)" in repr(loss)
        with refused([f"{PATHS[name]}: its 3 numbers cannot be read from a FakeTensor on cpu"], ConfigError):
            loss.config()
    shown = []

    def printed(buffer: Tensor) -> Tensor:
        loss = losses.create("cross_entropy", class_weight=[1.0, 2.0])
        loss.class_weight = buffer
        shown.append(repr(loss))
        return buffer.sum()

    torch.func.vmap(printed)(torch.rand(3, 2))
    torch.func.grad(printed)(torch.rand(2))
    assert len(shown) == 2
    assert all(text.startswith("CrossEntropyLoss(") for text in shown)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_configuration_reads_back_the_same_in_every_precision(dtype: torch.dtype) -> None:
    loss = losses.create("cross_entropy", class_weight=[0.1, 1.0, 3.0]).to(dtype)
    again = losses.create(loss.config()).to(dtype)
    assert torch.equal(again.class_weight, loss.class_weight)
    if dtype is not torch.bfloat16:
        assert loss.config()["class_weight"][1:] == [1.0, 3.0]
        assert loss.config()["class_weight"][0] == pytest.approx(0.1, abs=1e-8)
    assert repr(again) == repr(loss)


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_a_parameter_that_is_not_kept_or_cannot_be_shown_does_not_stop_repr() -> None:
    @register("forgetful", inputs=POINTWISE, suits="tests", source="this file, 2026")
    class ForgetfulLoss(ElementwiseLoss):
        """Forgets its power."""

        @checked
        def __init__(self, *, power: Positive = 2.0, kept: object = None, reduction: Reduction = "mean") -> None:
            super().__init__()
            self.kept = kept
            self.reduction = reduction

        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target).square()

    loss = ForgetfulLoss(kept=Unshown())
    assert repr(loss) == "ForgetfulLoss(power=<not kept>, kept=a Unshown that cannot be shown, reduction='mean')"
    with refused(["power: ForgetfulLoss does not keep this parameter", "self.power = power"], ConfigError):
        loss.config()


class QuietHuberLoss(losses.HuberLoss):
    """Costs a half. It has no name, as what someone tries out in a script."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target) / 2

    fused = ElementwiseLoss.fused


def test_a_class_derived_from_a_registered_one_works_and_has_no_configuration_until_it_has_a_name() -> None:
    loss = QuietHuberLoss(delta=2.0)
    assert loss(torch.tensor([3.0]), torch.zeros(1)) == 2
    assert repr(loss) == "QuietHuberLoss(delta=2.0, reduction='mean')"
    with refused(["QuietHuberLoss has no name", "'huber' builds is HuberLoss", "@losses.register"], ConfigError):
        loss.config()

    @register("quiet_huber", inputs=POINTWISE, suits="tests", source="this file, 2026")
    class Named(QuietHuberLoss):
        """Has a name."""

    named = Named(delta=2.0)
    assert named.config() == {"name": "quiet_huber", "delta": 2.0, "reduction": "mean"}
    assert type(losses.create(named.config())) is Named


def test_a_nameless_part_of_a_loss_is_named_where_it_stands() -> None:
    loss = losses.ELBOLoss(reconstruction=QuietHuberLoss())
    assert "QuietHuberLoss(" in repr(loss)
    with refused(["reconstruction: QuietHuberLoss has no name"], ConfigError):
        loss.config()
