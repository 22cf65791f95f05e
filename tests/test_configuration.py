"""Configuration: what builds a loss, what is refused, and with which words."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import losses
from losses import ConfigError
from losses.checking import options_of
from losses.core import registry
from losses.core.inputs import POINTWISE
from losses.core.parameters import NonNegative, Reduction, checked, declared_parameters
from losses.core.registry import ALIASES, SPECS, find
from tests.refusals import refused

NAMES = losses.available()
SCHEMA = jsonschema.Draft202012Validator(losses.schema())
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-2, 2),
    st.sampled_from(["mean", "sum", "none", "soft", "hard", "probs", "active", "cosine", "forward", "mse", "", "1e-3"]),
    st.lists(st.floats(-1, 2), max_size=3),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["mse", "bce", "triplet", "nothing"])}, optional={"reduction": st.just("sum")}
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_config_of_every_option_round_trips_through_json(name: str) -> None:
    cls = find(name).cls
    for options in options_of(declared_parameters(cls.__init__)):
        loss = find(name).instance(**options)
        again = losses.create(json.loads(json.dumps(loss.config())))
        assert again.config() == loss.config()
        assert repr(again) == repr(loss)


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_is_the_same_class_and_config_says_the_canonical_name(alias: str) -> None:
    assert type(losses.create(alias)) is find(ALIASES[alias]).cls
    assert losses.create(alias).config()["name"] == ALIASES[alias]


def test_lists_become_buffers_and_read_back_as_they_were_written() -> None:
    loss = losses.create("cross_entropy", class_weight=[0.1, 1, 3])
    assert loss.config()["class_weight"] == [0.1, 1.0, 3.0]
    assert [name for name, _ in loss.named_buffers()] == ["class_weight"]
    assert loss.half().class_weight.dtype is torch.float16
    assert (
        losses.create("ce", class_weight=torch.tensor([0.5, 1, 3])).config()
        == losses.create("ce", class_weight=[0.5, 1, 3]).config()
    )


def test_overrides_replace_and_complete_a_mapping_and_leave_it_alone() -> None:
    mapping = MappingProxyType({"name": "huber", "delta": 2})
    assert losses.create(mapping, delta=3.0, reduction="sum").config() == {
        "name": "huber",
        "delta": 3.0,
        "reduction": "sum",
    }
    assert dict(mapping) == {"name": "huber", "delta": 2}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "triplett"}, ["name: unknown loss 'triplett'", "Did you mean 'triplet'?"]),
        ({"name": "triplet", "margn": 1}, ["margn: unknown key", "accepted are margin", "Did you mean 'margin'?"]),
        ({"name": "triplet", "margin": -1}, ["margin: got -1", "a finite number of at least 0 or 'soft'"]),
        ({"name": "triplet", "mining": "semihard"}, ["mining: got 'semihard'", "Did you mean 'semi_hard'?"]),
        ({"name": "triplet", "margin": True}, ["margin: got True, expected"]),
        ({"name": "triplet", "swap": 1}, ["swap: got 1, expected true or false"]),
        ({"name": "hinge", "power": 3}, ["power: got 3, expected 1 or 2"]),
        ({"name": "hinge", "power": True}, ["power: got True"]),
        ({"name": "huber", "delta": "2"}, ["delta: got '2'", "remove the quotes"]),
        ({"name": "huber", "delta": float("nan")}, ["delta: got nan"]),
        ({"name": "huber", "delta": float("inf")}, ["delta: got inf"]),
        ({"name": "huber", "delta": None}, ["delta: got None"]),
        ({"name": "ce", "class_weight": [1, -1]}, ["class_weight[1]: got -1"]),
        ({"name": "ce", "class_weight": []}, ["class_weight: got []"]),
        (
            {"name": "elbo", "reconstruction": {"name": "mse", "reductoin": "sum"}},
            ["reconstruction.reductoin: unknown key"],
        ),
        ({"name": "elbo", "reconstruction": "triplet"}, ["reconstruction: got 'triplet'", "pointwise"]),
        (
            {"name": "elbo", "reconstruction": {"name": "mse", "reduction": "sum"}},
            ["reconstruction.reduction: got 'sum'"],
        ),
        ({"name": "wasserstein", "positions": [0, 1]}, ["positions", "samples"]),
        ({"name": "smooth_l1"}, ["huber(delta=beta) / beta"]),
        ({"delta": 1}, ["name: is missing"]),
        ({"name": 3}, ["unknown loss 3"]),
        ({"name": ["mse"]}, ["unknown loss ['mse']"]),
        ({"name": "mse", 3: 4}, ["3: unknown key"]),
        (None, ["got None", "the name of a loss or a mapping"]),
        ([1], ["got [1]"]),
    ],
    ids=str,
)
def test_a_bad_configuration_is_refused_in_words_that_help(config: Any, words: list[str]) -> None:
    with refused(words, ConfigError):
        losses.create(config)


def test_several_problems_are_reported_at_once_with_their_paths() -> None:
    with pytest.raises(ConfigError) as caught:
        losses.create({"name": "elbo", "bta": 1, "beta": -1, "reconstruction": {"name": "huber", "delta": 0, "x": 1}})
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {("bta",), ("beta",), ("reconstruction", "delta"), ("reconstruction", "x")}
    assert str(caught.value).startswith("4 problems:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- mse\n", "holds list"),
        ("mse", "holds str"),
        ("name: !!python/object/apply:os.system ['touch hacked']", "is not plain YAML"),
        ("name: !!python/name:os.system", "is not plain YAML"),
        ("name: mse\nname: mae\n", "stands there twice"),
        ("a: &a [*a]\n", "in itself"),
        ("name: [\n", "is not plain YAML"),
        ("name: mse\nreductoin: sum\n", "reductoin: unknown key"),
    ],
    ids=repr,
)
def test_a_file_that_is_no_configuration_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config.yaml") as caught:
        losses.load(tmp_path / "config.yaml")
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_missing_unreadable_and_broken_json_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "broken.json").write_text('{"name": ')
    (tmp_path / "twice.json").write_text('{"name": "mse", "name": "mae"}')
    (tmp_path / "folder.yaml").mkdir()
    for name, words in {
        "absent.yaml": "there is no such file",
        "binary.yaml": "cannot be read",
        "broken.json": "broken.json",
        "twice.json": "twice",
        "folder.yaml": "cannot be read",
    }.items():
        with pytest.raises(ConfigError, match=words):
            losses.load(tmp_path / name)


def test_a_key_picks_the_loss_out_of_a_larger_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("training:\n  loss: {name: huber, delta: 1e-3}\n  steps: 3\n")
    assert losses.load(file, "training.loss").config()["delta"] == 1e-3
    with pytest.raises(ConfigError, match=r"no key 'training\.los'.*Did you mean 'loss'"):
        losses.load(file, "training.los")
    file.write_text("training:\n  loss: {name: huber, delta: no}\n")
    with pytest.raises(ConfigError, match=r"training\.loss\.delta: got 'no'"):  # text, as in YAML 1.2
        losses.load(file, "training.loss")
    (tmp_path / "run.json").write_text('{"loss": "mse"}')
    assert losses.load(tmp_path / "run.json", "loss").config()["name"] == "mse"


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("3", "3"), ("'3'", "3"), ("0x3", "3"), ("03", "3"), ("3", "0x3"), ("1e3", "1e3"), ("1000.0", "1e3"),
        ("true", "true"), ("~", "null"), ("2026-01-01", "2026-01-01"), ("1:30", "1:30"), ("no", "no"),
    ],
)  # fmt: skip
def test_a_key_that_looks_like_a_number_finds_the_number_and_the_text(entry: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"runs:\n  {entry}: {{loss: huber}}\n  else: mse\n")
    assert losses.load(file, f"runs.{part}.loss").config()["name"] == "huber"


def test_a_key_that_may_mean_two_entries_or_looks_only_equal_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("3: mse\n'3': mae\ntrue: huber\n")
    with refused(["there are 3, '3', each of which '3' may mean"], ConfigError):
        losses.load(file, "3")
    for key in ("1", "1.0", "9" * 500):
        with refused(["there is no key", "the keys there are 3, 3, True"], ConfigError):
            losses.load(file, key)
    (tmp_path / "run.json").write_text('{"3": "mse"}')
    assert losses.load(tmp_path / "run.json", "3").config()["name"] == "mse"


def test_unknown_families_and_check_modes_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'regression'"):
        losses.available("regresion")
    with pytest.raises(ConfigError, match="Did you mean 'always'"):
        losses.checks("alway")  # type: ignore[arg-type]  # wrong on purpose
    assert (
        sorted(name for family in {spec.family for spec in SPECS.values()} for name in losses.available(family))
        == NAMES
    )


def test_the_schema_is_a_valid_schema() -> None:
    SCHEMA.check_schema(SCHEMA.schema)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_schema_accepts_exactly_what_create_accepts(name: str, data: st.DataObject) -> None:
    keys = [parameter.name for parameter in declared_parameters(find(name).cls.__init__)]
    config = {"name": name, **data.draw(st.dictionaries(st.sampled_from([*keys, "nonsense"]), VALUES, max_size=2))}
    accepted = SCHEMA.is_valid(config)
    try:
        losses.create(config)
    except ConfigError as error:
        # what depends on two parameters at once, or on the kind of a nested loss, a schema of single values cannot say
        beyond = any(
            word in str(error)
            for word in (
                "samples say themselves",
                "expected a pointwise loss",
                "set reduction on the ELBO",
                "with form=",
                "or null",
                "or nothing would be wrong",
            )
        )
        assert not accepted or beyond, f"the schema accepts {config}, create says {error}"
    else:
        assert accepted, f"create accepts {config}, the schema does not"


def test_registering_a_taken_or_badly_formed_name_is_refused() -> None:
    for name, words in {
        "mse": "already means losses.regression.mse.MSELoss",
        "l1": "already means",
        "My Loss": "snake_case",
    }.items():
        with pytest.raises(ConfigError, match=words):
            losses.register(name, inputs=POINTWISE, suits="nothing", source="2026")(losses.HuberLoss)

    class Unchecked(losses.Loss):
        def items(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return output

    with pytest.raises(ConfigError, match="@checked"):
        losses.register("unchecked", inputs=POINTWISE, suits="nothing", source="2026")(Unchecked)


def test_a_loss_of_another_package_is_found_through_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value = "lp", "elsewhere:LpLoss"

        @staticmethod
        def load() -> None:
            @losses.register("lp", inputs=POINTWISE, suits="tests", source="this test, 2026", family="elsewhere")
            class LpLoss(losses.Loss):
                """Absolute residual to a power."""

                @checked
                def __init__(self, *, p: NonNegative = 3.0, reduction: Reduction = "mean") -> None:
                    super().__init__()
                    self.p = p
                    self.reduction = reduction

                def items(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                    return (prediction - target).abs() ** self.p

    class BrokenPoint:
        name, value = "broken", "broken:Loss"

        @staticmethod
        def load() -> None:
            raise ImportError("no module named broken")

    monkeypatch.setattr(registry, "SPECS", SPECS)
    monkeypatch.setattr(registry, "_pending", [lambda: [BrokenPoint, Point]])
    try:
        with pytest.warns(UserWarning, match=r"'broken', 'broken:Loss', could not be loaded"):
            loss = losses.create("lp", p=2)
        assert loss(torch.tensor([3.0]), torch.tensor([1.0])) == 4
        assert "lp" in losses.available("elsewhere")
        assert "lp" in losses.schema()["$defs"]
        losses.check_loss(loss, clauses=["reductions_agree", "empty_batch", "config_round_trip"]).raise_for_failures()
    finally:
        SPECS.pop("lp", None)


def test_checks_can_be_switched_and_return_to_what_they_were() -> None:
    good, bad = torch.zeros(2), torch.tensor([0.0, float("nan")])
    loss = losses.create("mse")
    with pytest.raises(losses.InputError, match="NaN in 1 of 2"):
        loss(bad, good)
    loss(good, good)
    loss(bad, good)  # only the first good batch was read
    with losses.checks("always"), pytest.raises(losses.InputError):
        loss(bad, good)
    with losses.checks("never"):
        losses.create("mse")(bad, good)
    with pytest.raises(losses.InputError):
        losses.create("mse")(bad, good)


def test_an_empty_batch_is_not_the_first_batch() -> None:
    loss = losses.create("mse")
    loss(torch.zeros(0), torch.zeros(0))
    with pytest.raises(losses.InputError, match="NaN"):
        loss(torch.tensor([float("nan")]), torch.zeros(1))
