"""Registration: what is refused, with which words, and that nothing is known of what was refused."""

from typing import TYPE_CHECKING, Any

import pytest
from torch import Tensor

import losses
from losses import ConfigError
from losses.core.registry import ALIASES, SPECS, find, register
from losses.extend import (
    NON_NEGATIVE,
    POINTWISE,
    SCORES,
    Batch,
    ElementwiseLoss,
    Kind,
    NonNegative,
    Pairs,
    Positive,
    Reduction,
    checked,
)
from tests.refusals import refused

if TYPE_CHECKING:
    from fractions import Fraction

RIGHT: dict[str, Any] = {"inputs": POINTWISE, "suits": "tests", "source": "this file, 2026"}


class Power(ElementwiseLoss):
    """Absolute residual to a power."""

    @checked
    def __init__(self, *, power: Positive = 3.0, reduction: Reduction = "mean") -> None:
        ElementwiseLoss.__init__(self)  # of any class that borrows this constructor
        self.power = power
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs() ** self.power


class Wordless(Kind):
    """A kind that can be used and not described."""

    name = "WORDLESS"

    def accept(self, loss: Any, output: Any, target: Any) -> Batch:
        return Batch(output, target)

    def draw(self, loss: Any, size: int, generator: Any) -> Batch:
        raise NotImplementedError


def a_class(init: Any = Power.__init__, **namespace: Any) -> Any:
    """Return a class like Power, with another constructor or other attributes."""
    like = {"__doc__": "Like power.", "__module__": __name__, "__init__": init, "items": Power.items}
    return type("Like", (ElementwiseLoss,), like | namespace)


def refuse_to_register(cls: Any, words: list[str], name: Any = "power", **arguments: Any) -> None:
    """Check that a class is refused in these words and that nothing is known of it."""
    specs, aliases = dict(SPECS), dict(ALIASES)
    with refused(words, ConfigError):
        register(name, **RIGHT | arguments)(cls)
    assert specs == SPECS
    assert aliases == ALIASES
    assert "spec" not in vars(cls) or cls is losses.HuberLoss


def test_what_is_registered_is_found_listed_described_and_built() -> None:
    cls = register("power", aliases=("pw",), laws=[NON_NEGATIVE], family="tests", **RIGHT)(a_class())
    assert find("pw") is find("power") is cls.spec
    assert cls.spec.aliases == ("pw",)
    assert cls.spec.laws == (NON_NEGATIVE,)
    assert cls.spec.inputs == (POINTWISE,)
    assert losses.available("tests") == ["power"]
    assert losses.create("pw", power=2).config() == {"name": "power", "power": 2.0, "reduction": "mean"}
    assert "Like power." in str(losses.describe("pw"))
    assert losses.schema()["$defs"]["power"]["properties"]["name"] == {"enum": ["power", "pw"]}


def test_the_family_is_the_folder_of_the_module_unless_it_is_said() -> None:
    assert register("power", **RIGHT)(a_class()).spec.family == "core"
    assert register("power_of_main", **RIGHT)(a_class(__module__="__main__")).spec.family == "custom"
    assert register("power_of_tests", family="tests", **RIGHT)(a_class()).spec.family == "tests"


@pytest.mark.parametrize(
    "name", ["My Loss", "", "3d", "Power", "power-2", "_power", 3, None, ["power"], "päwer"], ids=repr
)
def test_a_name_is_snake_case(name: Any) -> None:
    refuse_to_register(a_class(), [f"cannot register {name!r}", "snake_case", "like 'binary_cross_entropy'"], name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": "pointwise"}, ["inputs must be a kind", "got 'pointwise'", "Did you mean POINTWISE?"]),
        ({"inputs": "nothing"}, ["inputs must be a kind", "of BINARY, CATEGORICAL", "got 'nothing'"]),
        ({"inputs": ()}, ["inputs must be a kind", "got ()"]),
        ({"inputs": []}, ["inputs must be a kind", "got []"]),
        ({"inputs": [POINTWISE, "scores"]}, ["inputs must be a kind", "got [POINTWISE, 'scores']"]),
        ({"inputs": {POINTWISE}}, ["inputs must be a kind", "got {POINTWISE}"]),
        ({"inputs": Pairs}, ["inputs must be a kind", "PAIRS", "Pairs"]),
        ({"inputs": None}, ["inputs must be a kind", "got None"]),
        ({"inputs": Wordless()}, ["kind of input Wordless", "give it returns, output_text, target_text"]),
        ({"suits": ""}, ["suits must be what the loss is good for", "got ''", "add suits='...'"]),
        ({"suits": "  \n"}, ["suits must be", "add suits='...'"]),
        ({"suits": 3}, ["suits must be", "got 3", "add suits='...'"]),
        ({"suits": None}, ["suits must be", "got None"]),
        ({"source": ""}, ["source must be the paper or book", "got ''", "add source='...'"]),
        ({"source": b"Gauss"}, ["source must be", "got b'Gauss'"]),
        ({"aliases": "pw"}, ["aliases must be a tuple of names", "got 'pw'", "write ('pw',)"]),
        ({"aliases": {"pw"}}, ["aliases must be a tuple of names", "got {'pw'}"]),
        ({"aliases": 3}, ["aliases must be a tuple of names", "got 3"]),
        ({"aliases": ("pw", "P W")}, ["cannot register 'P W'", "snake_case"]),
        ({"aliases": ("pw", 3)}, ["cannot register 3", "snake_case"]),
        ({"aliases": ("l2",)}, ["'l2'", "already means losses.regression.mse.MSELoss", "choose another"]),
        ({"aliases": ("mse",)}, ["'mse'", "already means losses.regression.mse.MSELoss"]),
        ({"aliases": ("power",)}, ["twice", "got aliases ('power',)", "leave one out"]),
        ({"aliases": ("pw", "pw")}, ["twice", "leave one out"]),
        ({"aliases": ("loss",)}, ["'loss'", "any loss", "choose another name"]),
        ({"laws": NON_NEGATIVE}, ["laws must be a tuple", "such as (NON_NEGATIVE,)", "got NON_NEGATIVE"]),
        ({"laws": ("NON_NEGATIVE",)}, ["laws must be a tuple", "got ('NON_NEGATIVE',)", "losses.extend"]),
        ({"laws": ""}, ["laws must be a tuple", "got ''"]),
        ({"laws": None}, ["laws must be a tuple", "got None"]),
        ({"family": 3}, ["family must be the name of a group", "got 3", "leave it out"]),
        ({"family": " "}, ["family must be", "got ' '"]),
    ],
)
def test_a_wrong_argument_is_refused_in_words_that_help(arguments: dict[str, Any], words: list[str]) -> None:
    refuse_to_register(a_class(), ["cannot register", *words], **arguments)


@pytest.mark.parametrize("missing", ["suits", "source"])
def test_what_a_loss_is_for_and_where_it_is_from_cannot_be_left_out(missing: str) -> None:
    with refused([f"{missing} must be", "got ''", f"add {missing}='...'"], ConfigError):
        register("power", **{key: value for key, value in RIGHT.items() if key != missing})(a_class())
    assert "power" not in SPECS


def test_a_name_or_alias_that_is_taken_is_refused_also_by_a_loss_registered_later() -> None:
    register("power", aliases=("pw",), **RIGHT)(a_class())
    taken = f"already means {__name__}.Like"
    for name in ("power", "pw"):
        refuse_to_register(a_class(), [f"{name!r}", taken], name)
        refuse_to_register(a_class(), [f"{name!r}", taken], "other", aliases=("free", name))
    refuse_to_register(a_class(), ["any loss"], "loss")
    assert "free" not in ALIASES


def test_a_class_has_one_name_and_may_have_aliases() -> None:
    refuse_to_register(losses.HuberLoss, ["HuberLoss is 'huber' already", "make 'power' an alias"])
    assert losses.HuberLoss.spec.name == "huber"
    assert register("power", **RIGHT)(a_class(spec="an attribute of its own")).spec.name == "power"


def test_what_is_derived_from_a_registered_loss_is_registered_under_a_name_of_its_own() -> None:
    class Mild(losses.HuberLoss):
        """Huber's loss of another name."""

    register("mild", **RIGHT)(Mild)
    assert losses.create("mild").config()["name"] == "mild"
    assert losses.create("huber").config()["name"] == "huber"


@pytest.mark.parametrize(
    "what",
    [3, "Power", None, Power.items, int, Pairs],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_only_a_class_of_loss_is_registered(what: Any) -> None:
    with refused(
        ["cannot register 'power'", "must be a class of losses.Loss, got", "derive it from Loss"], ConfigError
    ):
        register("power", **RIGHT)(what)
    assert "power" not in SPECS


def test_an_abstract_class_is_told_which_methods_to_define() -> None:
    class Nothing(losses.Loss):
        """No definition."""

    refuse_to_register(Nothing, ["Nothing is abstract", "define items"])
    refuse_to_register(losses.Loss, ["Loss is abstract", "define items"])
    refuse_to_register(losses.extend.EmbeddingLoss, ["EmbeddingLoss is abstract", "define items"])


@pytest.mark.parametrize("text", [None, "", "  \n ", 3], ids=repr)
def test_a_class_without_documentation_is_refused(text: Any) -> None:
    refuse_to_register(a_class(__doc__=text), ["Like has no documentation", "write some"])


def test_documentation_is_not_inherited() -> None:
    class Silent(losses.HuberLoss):
        pass

    refuse_to_register(Silent, ["Silent has no documentation"])


def of_no_parameters(self: Any) -> None: ...
def of_any_keywords(self: Any, *, reduction: Reduction = "mean", **more: float) -> None: ...
def of_any_positions(self: Any, *more: float, reduction: Reduction = "mean") -> None: ...
def of_position_only(self: Any, power: Positive = 1.0, /, *, reduction: Reduction = "mean") -> None: ...
def of_no_annotation(self: Any, *, power=1.0, reduction: Reduction = "mean") -> None: ...  # type: ignore[no-untyped-def]  # wrong on purpose
def of_unknown_names(self: Any, *, power: "Fraction" = 1.0, reduction: Reduction = "mean") -> None: ...  # type: ignore[assignment]  # wrong on purpose
def of_a_name(self: Any, *, name: Positive = 1.0, reduction: Reduction = "mean") -> None: ...
def of_a_method(self: Any, *, items: Positive = 1.0, reduction: Reduction = "mean") -> None: ...
def of_a_record(self: Any, *, spec: Positive = 1.0, reduction: Reduction = "mean") -> None: ...
def of_a_private_name(self: Any, *, _power: Positive = 1.0, reduction: Reduction = "mean") -> None: ...


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (of_no_parameters, ["no parameter reduction", "add reduction: Reduction = 'mean'"]),
        (of_any_keywords, ["takes **more", "name each parameter"]),
        (of_any_positions, ["takes *more", "name each parameter"]),
        (of_position_only, ["takes 'power' by position only", "remove the /"]),
        (of_no_annotation, ["does not say what 'power' may be", "annotate it, as in power: Positive = 1.0"]),
        (of_unknown_names, ["annotations that cannot be read", "name 'Fraction' is not defined", "imported"]),
        (of_a_name, ["parameter 'name'", "choose another"]),
        (of_a_method, ["parameter 'items'", "choose another"]),
        (of_a_record, ["parameter 'spec'", "choose another"]),
        (of_a_private_name, ["parameter '_power'", "private", "choose another"]),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_constructor_that_declares_no_parameters_is_refused(init: Any, words: list[str]) -> None:
    refuse_to_register(a_class(checked(init)), ["cannot register 'power'", "Like.__init__", *words])
    refuse_to_register(a_class(init), ["decorate Like.__init__ with @checked"])


def test_a_constructor_that_is_inherited_undecorated_is_refused() -> None:
    class Bare(ElementwiseLoss):
        """No constructor."""

        items = Power.items

    refuse_to_register(Bare, ["decorate Bare.__init__ with @checked"])


def test_a_parameter_may_be_required_and_says_so_wherever_it_is_shown() -> None:
    def init(self: Any, *, power: NonNegative, reduction: Reduction = "mean") -> None:
        ElementwiseLoss.__init__(self)
        self.power, self.reduction = power, reduction

    register("power", **RIGHT | {"inputs": (POINTWISE, SCORES)})(a_class(checked(init)))
    assert "power, required: a finite number of at least 0" in str(losses.describe("power"))
    assert losses.schema()["$defs"]["power"]["required"] == ["name", "power"]
    assert losses.create("power", power=2).config() == {"name": "power", "power": 2.0, "reduction": "mean"}
    with refused(["power: is missing", "expected a finite number of at least 0"], ConfigError):
        losses.create("power")
    losses.check_loss(losses.create("power", power=2), clauses=["config_round_trip"]).raise_for_failures()


def test_a_loss_that_was_never_registered_says_so_when_it_is_built() -> None:
    with refused(["Like does not say what it takes", "@losses.register"], ConfigError):
        a_class()()
