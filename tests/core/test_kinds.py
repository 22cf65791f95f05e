"""Kinds of input carry losses of other authors, which have nothing that a kind may ask of a loss, or something else."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import losses
from losses import ConfigError, InputError
from losses.checking import CLAUSES
from losses.core.inputs import Pointwise
from losses.core.inputs import kind as kinds_of
from losses.core.outputs import map_samples
from losses.core.registry import SPECS, find
from losses.extend import DISTRIBUTION_OBJECTS, Batch, ElementwiseLoss, Kind, Loss, Samples, VAEOutput, register
from tests.core import third_party
from tests.core.third_party import THIRD_PARTY
from tests.refusals import refused

KINDS = {kind for kind in vars(losses.extend).values() if isinstance(kind, Kind)}


@pytest.fixture(autouse=True)
def known() -> None:
    """Make the losses of other authors known, until the registry is as it was."""
    SPECS.update({cls.spec.name: cls.spec for cls in THIRD_PARTY})


def drawn(loss: Loss, size: int = 8) -> Any:
    return loss.spec.inputs[0].draw(loss, size, torch.Generator().manual_seed(0))


def test_there_is_a_loss_of_another_author_on_every_kind_of_input() -> None:
    assert {cls.spec.inputs[0] for cls in THIRD_PARTY} == KINDS


def test_none_has_what_a_kind_may_ask_but_those_that_say_so() -> None:
    having = {cls.__name__: name for cls in THIRD_PARTY for name in cls.spec.inputs[0].asks if hasattr(cls(), name)}
    assert having == {
        "QuadraticScore": "output_form",
        "Cramer": "form",
        "NamedLikelihood": "reconstruction",
        "NestedLikelihood": "reconstruction",
        "ModuleLikelihood": "reconstruction",
    }


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.integration)])
@pytest.mark.parametrize("cls", THIRD_PARTY, ids=lambda cls: cls.__name__)
def test_a_correct_loss_of_another_author_breaks_no_clause(cls: type[Loss], compiled: bool) -> None:
    some = THIRD_PARTY.index(cls) % 4 == 0 or compiled  # what is compiled takes most of the time
    clauses = [clause for clause in CLAUSES if some or not clause.startswith(("compiles", "exports"))]
    report = losses.check_loss(cls, clauses=clauses)
    report.raise_for_failures()
    assert report.loss == cls.spec.name
    kept = {verdict.clause for verdict in report.verdicts if verdict.outcome == "kept"}
    assert (cls.spec.inputs[0] is DISTRIBUTION_OBJECTS) == (not kept)
    if kept:
        assert {"reductions_agree", "one_item", "config_round_trip", "keeps_its_laws"} <= kept
        assert ("compiles" in kept) == some


@pytest.mark.parametrize("cls", THIRD_PARTY, ids=lambda cls: cls.__name__)
def test_every_step_of_a_kind_works(cls: type[Loss]) -> None:
    loss = cls()
    kind = loss.spec.inputs[0]
    batch = drawn(loss)
    assert kind.claims(batch.output)
    with losses.checks("always"):
        whole = loss(*batch)
        assert whole.isfinite()
        assert loss(*batch, weight=torch.ones(8)).item() == pytest.approx(whole.item())
        weight = torch.ones(8).index_fill(0, torch.tensor([2]), 0)
        assert loss(*batch, weight=weight).isfinite()
    for edge in kind.edges(loss, batch).values():
        for output, target in edge:
            assert cls(reduction="none")(output, target).isfinite().all()
    assert loss.readings(*batch) == {}


@pytest.mark.parametrize(
    "cls",
    [cls for cls in THIRD_PARTY if cls.__name__ not in {"Spread", "Alignment", "MeanOfObjects"}],
    ids=lambda cls: cls.__name__,
)
def test_what_is_nan_under_a_weight_of_0_changes_nothing(cls: type[Loss]) -> None:
    loss = cls()
    output, target = drawn(loss)
    rest = torch.arange(8) != 2

    def spoilt(tensor: Tensor) -> Tensor:
        return tensor.index_fill(0, torch.tensor([2]), torch.nan) if tensor.dtype.is_floating_point else tensor

    expected = loss(*(map_samples(part, lambda tensor: tensor[rest]) for part in (output, target)))
    got = loss(map_samples(output, spoilt), map_samples(target, spoilt), weight=rest.float())
    assert got.item() == pytest.approx(expected.item())


def test_logits_against_probabilities_is_what_distributions_are_where_a_loss_does_not_say() -> None:
    loss = third_party.SoftCrossEntropy()
    probs = torch.tensor([[0.25, 0.75]])
    assert loss(torch.zeros(1, 2), probs) == pytest.approx(0.693147)
    with refused(["output is declared as logits but holds probabilities", "output_form='probs'"]):
        third_party.SoftCrossEntropy()(probs, probs)
    with refused(["target must be probabilities"]):
        third_party.SoftCrossEntropy()(torch.zeros(1, 2), 3 * probs)


@pytest.mark.parametrize("value", ["nonsense", None, 3, ["probs"], torch.zeros(2)], ids=str)
@pytest.mark.parametrize(
    ("cls", "name", "options"),
    [
        (third_party.QuadraticScore, "output_form", "logits, log_probs, probs"),
        (third_party.SoftCrossEntropy, "target_form", "logits, log_probs, probs"),
        (third_party.MeanShift, "form", "samples, probs, logits"),
    ],
)
def test_an_attribute_that_a_kind_asks_for_and_does_not_understand_is_refused_in_words(
    cls: type[Loss], name: str, options: str, value: Any
) -> None:
    loss = cls()
    batch = drawn(loss)
    setattr(loss, name, value)
    words = [f"{cls.__name__}.{name} is ", f"{loss.spec.inputs[0]} reads it", f"one of {options}", "another name"]
    with refused(words, ConfigError):
        loss(*batch)


@pytest.mark.parametrize("value", ["none", (0, 255), 2.5], ids=str)
def test_an_index_to_ignore_that_is_no_integer_is_refused_in_words(value: Any) -> None:
    loss = third_party.BrierOfClasses()
    loss.ignore_index = value
    with refused([f"BrierOfClasses.ignore_index is {value!r}", "one of int, None", "another name"], ConfigError):
        loss(torch.randn(2, 3), torch.tensor([0, 7]))


def test_an_index_to_ignore_is_spared_where_a_loss_has_one_and_not_where_it_has_none() -> None:
    logits, target = torch.zeros(2, 3), torch.tensor([0, -100])
    with refused(["target holds class -100, logits have 3 classes", "from 0 to 2"]):
        third_party.BrierOfClasses()(logits, target)

    class Sparing(third_party.BrierOfClasses):
        """Does not count one index."""

        ignore_index = -100

        def items(self, logits: Tensor, target: Tensor) -> Tensor:
            return super().items(logits, target.clamp(min=0)) * (target != -100)

    register("sparing", inputs=Sparing.spec.inputs, suits="tests", source="2026")(Sparing)
    assert Sparing()(logits, target).isfinite()
    with refused(["target holds class 3", "(or ignore_index=-100)"]):
        Sparing()(logits, torch.tensor([-100, 3]))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (torch.eye(4, 5), ["need class indices of shape (4,)", "not probabilities", "write target.argmax(1)"]),
        (torch.eye(4, 5).long(), ["need class indices of shape (4,)", "one-hot", "target.argmax(1)"]),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), ["not probabilities", "(4,) float32", "write target.long()"]),
        (torch.tensor([0, 1, 2, 5]), ["target holds class 5, logits have 5 classes", "from 0 to 4"]),
        (torch.tensor([0, 1, 2, -1]), ["target holds class -1"]),
        (torch.tensor([[0], [1], [2], [3]]), ["need class indices of shape (4,)", "write target.squeeze(-1)"]),
        (torch.tensor([0, 1]), ["need class indices of shape (4,)", "(2,) int64", "one index per position"]),
        (torch.tensor([0j, 1j, 2j, 3j]), ["target must be real", "complex"]),
    ],
    ids=lambda part: "" if isinstance(part, list) else str(tuple(part.shape)) + str(part.dtype),
)
def test_class_indices_alone_are_taken_and_anything_else_is_refused_with_the_fix(target: Any, words: list[str]) -> None:
    with refused(words):
        third_party.Miss()(torch.randn(4, 5), target)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
def test_class_indices_are_taken_in_every_integer_type_and_at_every_position(dtype: torch.dtype) -> None:
    assert third_party.Miss()(torch.zeros(4, 5), torch.arange(4).to(dtype)) == pytest.approx(0.8)
    logits, target = torch.zeros(2, 5, 3), torch.zeros(2, 3, dtype=dtype)
    assert third_party.Miss(reduction="none")(logits, target).shape == (2, 3)


def test_a_reconstruction_is_inspected_by_the_kind_of_the_loss_that_is_asked_about_it() -> None:
    latent = torch.zeros(2, 1)
    data = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    with refused(["target must lie in [0, 1], got 2"]):
        third_party.NestedLikelihood(reconstruction="bce")(VAEOutput(torch.zeros(2, 2), latent, latent), data)
    third_party.NestedLikelihood(reconstruction="mse")(VAEOutput(torch.zeros(2, 2), latent, latent), data)
    third_party.NamedLikelihood()(VAEOutput(torch.zeros(2, 2), latent, latent), data)


def test_a_nested_loss_of_any_kind_is_given_what_its_kind_accepts_or_refuses_in_words() -> None:
    output = VAEOutput(torch.rand(4, 3), torch.zeros(4, 1), torch.zeros(4, 1))
    target = torch.rand(4, 3)
    for name in losses.available():
        loss = third_party.NestedLikelihood(reconstruction=find(name).instance())
        try:
            loss.spec.inputs[0].inspect(loss, *loss.spec.inputs[0].accept(loss, output, target))
        except InputError as error:
            assert " got " in str(error) or ";" in str(error)


def test_objects_of_torch_distributions_are_taken_and_nothing_else() -> None:
    loss = third_party.MeanOfObjects()
    output, target = Normal(torch.tensor([1.0, 2.0]), 1.0), Normal(torch.tensor([0.0, 0.0]), 1.0)
    assert loss(output, target) == 2.5
    assert loss(output, target, weight=torch.tensor([1.0, 0.0])) == 1
    with refused(["mean_of_objects takes a torch.distributions.Distribution", "got (2,)"]):
        loss(torch.zeros(2), target)
    report = losses.check_loss(loss)
    assert {verdict.outcome for verdict in report.verdicts} == {"not applicable"}
    assert "no batch of it can be drawn as tensors" in str(report)


def test_samples_come_with_weights_or_without_where_a_loss_does_not_say_its_form() -> None:
    points = torch.tensor([[0.0, 4.0]])
    weighted = Samples(points, torch.tensor([[3.0, 1.0]]))
    assert third_party.MeanShift()(points, weighted) == 1
    assert third_party.MeanShift()((points, None), weighted) == 1
    with refused(["output.points", "output.weights"]):
        third_party.MeanShift()(Samples(points, torch.ones(2, 2)), weighted)


def test_a_kind_asks_only_what_it_declares() -> None:
    class Watched:
        def __init__(self, loss: Loss) -> None:
            self.loss, self.read = loss, set[str]()

        def __getattr__(self, name: str) -> Any:
            self.read.add(name)
            return getattr(self.loss, name)

    for cls in THIRD_PARTY:
        loss = Watched(cls())
        kind = loss.loss.spec.inputs[0]
        batch = kind.draw(loss, 8, torch.Generator().manual_seed(0))
        kind.edges(loss, copy.copy(batch))
        accepted = kind.accept(loss, *batch)
        kind.inspect(loss, *accepted)
        kind.mask(loss, *accepted, torch.ones(8))
        assert loss.read <= set(kind.asks), f"{kind} reads {loss.read}"
    assert kinds_of.Asked("anything").types == (object,)


class PositiveTargets(Pointwise):
    """Targets above 0, for which 1 stands where they are hidden."""

    name = "POSITIVE_TARGETS"

    def mask(self, loss: Any, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> Batch:
        return Batch(*(part.masked_fill(weight == 0, 1) for part in (output, target)))


class LogRatio(losses.MSELoss):
    """Squared logarithm of a ratio, which 0 has none of."""

    spec = replace(losses.MSELoss.spec, inputs=(PositiveTargets(),))
    fused, block_formula = ElementwiseLoss.fused, ElementwiseLoss.block_formula

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def items(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.scale * (prediction / target).log().square()


def test_what_a_kind_puts_in_place_of_hidden_elements_is_what_a_loss_of_elements_sees() -> None:
    prediction = torch.tensor([2.0, 3.0, torch.nan], requires_grad=True)
    loss = LogRatio()
    with losses.checks("never"):
        value = loss(prediction, torch.tensor([1.0, 1.0, 5.0]), weight=torch.tensor([1.0, 1.0, 0.0]))
    gradient, of_scale = torch.autograd.grad(value, [prediction, loss.scale])
    assert of_scale.item() == pytest.approx(value.item())
    assert value.item() == pytest.approx((math.log(2) ** 2 + math.log(3) ** 2) / 2)
    assert gradient.isfinite().all() and gradient[2] == 0
