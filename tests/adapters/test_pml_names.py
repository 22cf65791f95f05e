"""``pml.`` names in a configuration: found, checked, read from files and nested, and imported when asked for alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import losses
from benchmarks.peers.pml_parameters import PARAMETERS, PROXIES
from losses import ConfigError
from losses.adapters import pml
from losses.adapters.pml.parameters import signature_of
from losses.adapters.pytorch_metric_learning import losses as theirs
from losses.core.parameters import declared_parameters
from losses.core.registry import find
from losses.networks import SiameseNetwork
from tests.adapters.pml_cases import CASES, abstract_classes, batch, call_ours
from tests.refusals import refused

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),
]


def test_the_library_is_imported_when_a_name_of_it_is_asked_for_and_not_before() -> None:
    script = """
import sys, losses
losses.create("mse"), losses.available(), losses.schema(), losses.describe("triplet")
for name in ("ArcFaceLoss", "nonsense"):
    try:
        losses.create(name)
    except losses.ConfigError as error:
        print("pml.ArcFaceLoss" in str(error))
print("pytorch_metric_learning" in sys.modules)
losses.create("pml.ArcFaceLoss", num_classes=10, embedding_size=64)
print("pytorch_metric_learning" in sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert shown.stdout.split() == ["True", "False", "False", "True"]


def test_they_are_a_family_of_their_own_and_not_among_all_losses() -> None:
    assert losses.available("pml") == [f"pml.{name}" for name in sorted(CASES)]
    assert not [name for name in losses.available() if name.startswith("pml.")]
    with refused(["unknown family 'pmll'", "Did you mean 'pml'?"], ConfigError):
        losses.available("pmll")


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_round_trips_through_yaml_and_the_schema(name: str, tmp_path: Path) -> None:
    import yaml

    loss = losses.create(f"pml.{name}", **PARAMETERS.get(name, {}))
    config = loss.config()
    assert list(config) == ["name", *signature_of(getattr(theirs, name)), "reduction"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"run": 1, "loss": config}))
    assert losses.load(file, key="loss").config() == config
    assert losses.create(config).config() == config
    for schema in (SCHEMA, LOOSE):
        assert schema.is_valid(config)
    assert not SCHEMA.is_valid({**config, "margni": 1})
    shown = repr(loss)
    assert "\n" not in shown
    assert shown.startswith(f"pml.{name}(")
    description = losses.describe(f"pml.{name}")
    assert description.cls is type(loss) is getattr(pml, name)
    assert f"#{name.lower()}" in str(description)


SCHEMA = jsonschema.Draft202012Validator(losses.schema("pml"))
LOOSE = jsonschema.Draft202012Validator(losses.schema())


def test_the_schema_says_what_is_required() -> None:
    SCHEMA.check_schema(SCHEMA.schema)
    assert SCHEMA.is_valid({"name": "pml.ArcFaceLoss", **PROXIES})
    assert not SCHEMA.is_valid({"name": "pml.ArcFaceLoss", "num_classes": 5})
    assert not SCHEMA.is_valid({"name": "pml.ArcFaceLoss", "num_classes": 0, "embedding_size": 6})
    assert not SCHEMA.is_valid({"name": "pml.ArcFaceLoss", **PROXIES, "distance": "Cosine"})
    assert SCHEMA.is_valid({"name": "pml.ArcFaceLoss", **PROXIES, "distance": {"name": "CosineSimilarity"}})
    assert SCHEMA.is_valid("pml.TripletMarginLoss")
    assert LOOSE.is_valid({"name": "pml.ArcFaceLoss"})
    assert not LOOSE.is_valid({"name": "pmlArcFaceLoss"})


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_of_its_signature_is_taken_and_no_other(name: str) -> None:
    parameters = [parameter.name for parameter in declared_parameters(find(f"pml.{name}").cls.__init__)]
    for each in {"reducer", "embedding_regularizer", "embedding_reg_weight"}:
        assert each in parameters
    with refused(["nonsense: unknown key, accepted are", ", ".join(parameters)], ConfigError):
        losses.create(f"pml.{name}", **PARAMETERS.get(name, {}), nonsense=1)


def wrong(**parameters: Any) -> dict[str, Any]:
    return {"name": "pml.ArcFaceLoss", **PROXIES, **parameters}


REFUSED: dict[str, tuple[Any, list[str]]] = {
    "missing": (
        {"name": "pml.ArcFaceLoss"},
        ["num_classes: is missing, expected a whole number of at least 1", "embedding_size: is missing"],
    ),
    "misspelt": (wrong(margni=3), ["margni: unknown key", "Did you mean 'margin'?"]),
    "text": (wrong(margin="wide"), ["margin: got 'wide', expected a finite number"]),
    "infinite": (wrong(margin=float("inf")), ["margin: got inf, expected a finite number"]),
    "a boolean": (wrong(margin=True), ["margin: got True, expected a finite number"]),
    "no size": (wrong(num_classes=2.5), ["num_classes: got 2.5, expected a whole number of at least 1"]),
    "no switch": (
        {"name": "pml.TripletMarginLoss", "swap": 1},
        ["swap: got 1, expected true or false"],
    ),
    "a distance misspelt": (
        wrong(distance={"name": "CosineSimilarty"}),
        ["distance.name: unknown distance 'CosineSimilarty'", "Did you mean 'CosineSimilarity'?"],
    ),
    "a distance without a name": (wrong(distance={"p": 2}), ["distance.name: is missing, available are"]),
    "a parameter of a distance": (
        wrong(distance={"name": "CosineSimilarity", "pp": 1}),
        ["distance.pp: unknown key, accepted are normalize_embeddings, p, power"],
    ),
    "a distance that is fixed": (
        wrong(distance={"name": "CosineSimilarity", "normalize_embeddings": False}),
        ["distance: CosineSimilarity of pytorch-metric-learning refuses these parameters", "normalize_embeddings"],
    ),
    "a distance that it does not take": (
        wrong(distance="LpDistance"),
        ["ArcFaceLoss of pytorch-metric-learning refuses these parameters", "CosineSimilarity"],
    ),
    "a number for a distance": (wrong(distance=3), ["distance: got 3, expected the name of a distance"]),
    "deep": (
        wrong(weight_regularizer={"name": "LpRegularizer", "reducer": {"name": "MeanReducr"}}),
        ["weight_regularizer.reducer.name: unknown reducer 'MeanReducr'", "Did you mean 'MeanReducer'?"],
    ),
    "no list": (
        wrong(reducer={"name": "ClassWeightedReducer", "weights": "all"}),
        ["reducer.weights: got 'all', expected a list of finite numbers"],
    ),
    "no reducers": (
        wrong(reducer={"name": "MultipleReducers", "reducers": "MeanReducer"}),
        ["reducer.reducers: got 'MeanReducer', expected a mapping"],
    ),
    "no function": (wrong(weight_init_func="normal_"), ["weight_init_func: got 'normal_', expected a function"]),
    "an assertion without a message": (
        {"name": "pml.SoftTripleLoss", **PROXIES, "distance": "LpDistance"},
        ["SoftTripleLoss of pytorch-metric-learning refuses", "assert self.distance.is_inverted"],
    ),
    "what a loss refuses": (
        {"name": "pml.PNPLoss", "variant": "X"},
        ["PNPLoss of pytorch-metric-learning refuses", "variant=X but must be one of"],
    ),
    "a reduction": (wrong(reduction="average"), ["reduction: got 'average', expected 'mean', 'sum' or 'none'"]),
    "a name without its end": ("pml.ArcFace", ["unknown loss 'pml.ArcFace'", "Did you mean 'pml.ArcFaceLoss'?"]),
    "a name in snake case": ("pml.arc_face_loss", ["Did you mean 'pml.ArcFaceLoss'?"]),
    "a name misspelt": ("pml.TripletMarginLos", ["Did you mean 'pml.TripletMarginLoss'?"]),
    "no name": ("pml.", ["unknown loss 'pml.'"]),
    "what is no class": ("pml.angular_loss", ["unknown loss 'pml.angular_loss'"]),
    "a memory": ("pml.CrossBatchMemory", ["is not built by its name", "as_pml(loss)"]),
    "several": ("pml.MultipleLosses", ["is not built by its name", "add what they return"]),
    "two views": ("pml.SelfSupervisedLoss", ["is not built by its name", "torch.arange(len(first)).repeat(2)"]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_wrong_is_said_with_its_place(why: str) -> None:
    config, words = REFUSED[why]
    with refused(words, ConfigError):
        losses.create(config)


@pytest.mark.parametrize("name", abstract_classes())
def test_what_is_no_loss_is_refused(name: str) -> None:
    with refused([f"name: 'pml.{name}' is not built by its name: "], ConfigError):
        losses.create(f"pml.{name}")
    with pytest.raises(AttributeError, match="is not built by its name"):
        getattr(pml, name)


def test_parameters_come_by_keyword_and_stay_what_they_are() -> None:
    with refused(["ArcFaceLoss takes its parameters by keyword"], ConfigError):
        pml.ArcFaceLoss(5, 6)  # type: ignore[arg-type, call-arg]  # wrong on purpose
    loss: Any = losses.create("pml.ArcFaceLoss", **PROXIES)
    assert loss.margin == 28.6
    with pytest.raises(AttributeError, match=r"margin of pml.ArcFaceLoss is what it was built with; build another"):
        loss.margin = 1
    loss.reduction = "sum"
    assert loss.config()["reduction"] == "sum"


def test_a_name_alone_is_told_how_it_is_built_here() -> None:
    with refused(["has no equal here", "As it is there: 'pml.ArcFaceLoss'."], ConfigError):
        losses.create("ArcFaceLoss")


def test_a_loss_of_theirs_is_a_part_of_a_network_and_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "optimizer: sgd\nloss: {name: pml.ContrastiveLoss, pos_margin: 0.1, distance: {name: SNRDistance}}\n"
    )
    loss = losses.load(file, key="loss")
    assert loss.config()["pos_margin"] == 0.1
    with refused(['write load(path, key="loss")'], ConfigError):
        losses.load(file)
    with refused(["pml.ContrastiveLoss"], ValueError):  # which takes no pairs
        network = SiameseNetwork(encoder=torch.nn.Linear(4, 2), loss=loss)
        network.loss(network(torch.randn(3, 4), torch.randn(3, 4)), torch.ones(3))


def test_functions_and_tensors_are_taken_from_python() -> None:
    start: Callable[[Any], Any] = torch.nn.init.zeros_
    loss = losses.create("pml.ArcFaceLoss", **PROXIES, weight_init_func=start)
    assert not any(parameter.any() for parameter in loss.parameters())
    reducer = {"name": "ClassWeightedReducer", "weights": torch.ones(5)}
    embeddings, labels = batch()
    assert call_ours(losses.create("pml.TripletMarginLoss", reducer=reducer), embeddings, labels) > 0
