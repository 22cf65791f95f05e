"""Strange losses of other authors: whatever is registered, the others are listed, described and built as before."""

import contextlib
import dataclasses
import enum
import inspect
import io
import json
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import AfterValidator, BaseModel

import losses
from losses import ConfigError
from losses.__main__ import main
from losses.core.registry import SPECS, find, register
from losses.extend import NON_NEGATIVE, POINTWISE, ElementwiseLoss, Law, Loss, NestedLoss, Positive, Reduction, checked

OURS = losses.available()
BEFORE = {name: (str(losses.describe(name)), find(name).instance().config()) for name in OURS}
SCHEMA = losses.schema()


class Unshown:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    width: float = 1.0


MISSING = inspect.Parameter.empty


@dataclasses.dataclass
class Outer:
    inner: Inner | None = None
    depth: int = 0


def explode(value: object) -> object:
    raise RuntimeError("what a strange validator")


def loss_with(annotation: Any = Positive, default: Any = 1.0, **namespace: Any) -> type[Loss]:
    """Return a loss whose one parameter, ``power``, is declared like this."""

    def init(self: Any, *, power: Any = default, reduction: Reduction = "mean") -> None:
        ElementwiseLoss.__init__(self)
        self.power, self.reduction = power, reduction

    init.__annotations__["power"] = annotation
    body = {"__init__": checked(init), "items": lambda self, output, target: (output - target).square()}
    return type("Strange", (ElementwiseLoss,), {"__doc__": "Strange.", "__module__": __name__} | body | namespace)


def registered(cls: type[Loss], **arguments: Any) -> type[Loss]:
    return register("strange", **{"inputs": POINTWISE, "suits": "tests", "source": "2026"} | arguments)(cls)


def broken_law(loss: Loss, batch: object) -> None:
    raise ZeroDivisionError("a law that fell over")


ODD = "\x1b[31m \x00 \u202e χ² {braces} %s \n\n second paragraph"
STRANGE: dict[str, Callable[[], type[Loss]]] = {
    "no JSON schema": lambda: registered(loss_with(Callable[[float], float] | None, None)),
    "an object as default": lambda: registered(loss_with(object, object())),
    "a default that cannot be shown": lambda: registered(loss_with(Unshown, Unshown())),
    "an enum": lambda: registered(loss_with(Colour, Colour.RED)),
    "a model": lambda: registered(loss_with(Inner, Inner())),
    "a dataclass": lambda: registered(loss_with(Outer | None, None)),
    "a nested loss": lambda: registered(loss_with(list[NestedLoss], [])),
    "a validator that falls over": lambda: registered(loss_with(Annotated[float, AfterValidator(explode)], 1.0)),
    "a default of the wrong type": lambda: registered(loss_with(Positive, "one")),
    "a required parameter": lambda: registered(loss_with(Positive, ...)),
    "a name of pydantic": lambda: registered(loss_with(Positive, 1.0, model_config=3)),
    "odd characters": lambda: registered(loss_with(__doc__=ODD), source=ODD, suits=ODD, family=f"\ud800{ODD}"),
    "documentation without arguments": lambda: registered(loss_with(__doc__="Nothing more.")),
    "documentation that ends in its arguments": lambda: registered(loss_with(__doc__="One.\n\nArgs:\n    power: x")),
    "a law that falls over": lambda: registered(
        loss_with(), laws=(Law("BROKEN", "is broken", broken_law), NON_NEGATIVE)
    ),
    "a faulty repr": lambda: registered(loss_with(__repr__=Unshown.__repr__)),
    "attributes that do not exist": lambda: registered(loss_with(config=lambda self: self.nothing)),
}


@pytest.fixture(params=STRANGE.values(), ids=STRANGE)
def strange(request: pytest.FixtureRequest) -> type[Loss]:
    return request.param()


@pytest.mark.usefixtures("strange")
def test_the_others_are_listed_described_and_built_as_before() -> None:
    assert losses.available() == sorted([*OURS, "strange"])
    for name, (description, config) in BEFORE.items():
        assert str(losses.describe(name)) == description
        assert find(name).instance().config() == config


@pytest.mark.usefixtures("strange")
def test_the_schema_says_of_the_others_what_it_said_and_refers_to_nothing_that_is_missing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        schema = losses.schema()
    assert json.loads(json.dumps(schema)) == schema, "it is data"
    assert {name: schema["$defs"][name] for name in OURS} == {name: SCHEMA["$defs"][name] for name in OURS}
    if "strange" not in schema["$defs"]:
        assert any("'strange' has no schema" in str(warning.message) for warning in caught)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for name in OURS:
        assert validator.is_valid({"name": name, **find(name).example})
        assert not validator.is_valid({"name": name, **find(name).example, "no_such_parameter": 1})
    # pydantic takes ... for no default
    required = [each.name for each in losses.describe("strange").parameters if each.default in (MISSING, ...)]
    assert validator.is_valid("strange") == (not required)


@pytest.mark.usefixtures("strange")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_python_dash_m_losses_lists_everything_on_every_terminal(encoding: str) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(terminal):
        main()
    terminal.flush()
    shown = terminal.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]  # of the bytes underneath
    for name in [*OURS, "strange"]:
        assert f"  {name}" in shown


@pytest.mark.usefixtures("strange")
def test_it_is_described_itself_and_refused_or_built_in_words() -> None:
    description = losses.describe("strange")
    assert str(description).startswith("strange (Strange): ")
    assert "power" in str(description)
    try:
        losses.create("strange")
    except (ConfigError, RuntimeError) as error:
        assert "power" in str(error) or str(error) == "what a strange validator"
    with pytest.raises((ConfigError, RuntimeError), match=r"no_such_parameter: unknown key|what a strange validator"):
        losses.create("strange", no_such_parameter=1)


@pytest.mark.usefixtures("strange")
def test_what_is_unknown_is_refused_with_a_suggestion_as_before() -> None:
    with pytest.raises(ConfigError, match=r"unknown loss 'strangee', available are .*Did you mean 'strange'"):
        losses.create("strangee")
    with pytest.raises(ConfigError, match="unknown family"):
        losses.available("no such family")


@pytest.mark.parametrize("what", ["a law that falls over", "a faulty repr", "attributes that do not exist"])
def test_checking_it_ends_with_a_report(what: str) -> None:
    cls = STRANGE[what]()
    report = losses.check_loss(cls, clauses=["keeps_its_laws", "config_round_trip", "reductions_agree"])
    outcomes = {verdict.clause: verdict.outcome for verdict in report.verdicts}
    assert outcomes["reductions_agree"] == "kept"
    assert "broken" in outcomes.values()
    assert "Strange" in str(report) or "strange" in str(report)


def test_types_of_a_parameter_are_said_beside_the_loss_that_has_them() -> None:
    STRANGE["a model"]()
    validator = jsonschema.Draft202012Validator(losses.schema())
    assert validator.is_valid({"name": "strange", "power": {"width": 2}})
    assert not validator.is_valid({"name": "strange", "power": {"width": "wide"}})
    assert not validator.is_valid({"name": "strange", "power": 3})


def test_a_name_that_is_anothers_alias_is_refused_and_the_alias_stays() -> None:
    with pytest.raises(ConfigError, match=r"'l2': it already means losses\.regression\.mse\.MSELoss"):
        register("l2", inputs=POINTWISE, suits="tests", source="2026")(loss_with())
    assert type(losses.create("l2")) is losses.MSELoss
    assert "strange" not in SPECS
