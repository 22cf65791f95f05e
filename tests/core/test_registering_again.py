"""A cell of a notebook that runs twice, a module that is loaded again, and two classes that want one name."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import losses
from losses import ConfigError
from losses.core.registry import ALIASES, SPECS, find
from tests.refusals import refused

CELL = '''
from losses.extend import POINTWISE, ElementwiseLoss, Positive, Reduction, checked, register

@register("{name}", aliases={aliases}, inputs=POINTWISE, suits="tests", source="this file, 2026")
class {cls}(ElementwiseLoss):
    """Absolute residual, {factor} times."""

    @checked
    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def items(self, prediction, target):
        return {factor} * (prediction - target).abs()
'''
ONE, ZERO = torch.ones(3), torch.zeros(3)


def cell(name: str = "scaled", aliases: tuple[str, ...] = (), cls: str = "ScaledLoss", factor: int = 2) -> str:
    return CELL.format(name=name, aliases=aliases, cls=cls, factor=factor)


@pytest.fixture
def notebook() -> dict[str, Any]:
    return {"__name__": "__main__"}


def test_a_cell_that_runs_again_replaces_its_loss(notebook: dict[str, Any]) -> None:
    exec(cell(aliases=("first", "both"), factor=2), notebook)
    former, kept = notebook["ScaledLoss"], losses.create("scaled")
    exec(cell(aliases=("both", "second"), factor=3), notebook)
    assert find("scaled").cls is notebook["ScaledLoss"] is not former
    assert losses.create("scaled")(ONE, ZERO) == 3
    assert losses.create("second")(ONE, ZERO) == losses.create("both")(ONE, ZERO) == 3
    assert "first" not in ALIASES
    assert kept(ONE, ZERO) == 2
    assert kept.config() == losses.create("scaled").config()
    assert "3 times" in str(losses.describe("scaled"))


def test_a_cell_that_is_refused_when_it_runs_again_leaves_the_former_loss(notebook: dict[str, Any]) -> None:
    exec(cell(aliases=("first",), factor=2), notebook)
    for wrong in (cell(aliases=("l2",)), cell().replace("@checked", ""), cell().replace('suits="tests"', 'suits=""')):
        with pytest.raises(ConfigError):
            exec(wrong, notebook)
        assert losses.create("first")(ONE, ZERO) == 2
        assert SPECS["scaled"].aliases == ("first",)


@pytest.mark.parametrize(
    "second",
    [cell(cls="OtherLoss"), cell(name="other", aliases=("scaled",)), cell(name="mse"), cell(name="nick")],
    ids=["another class", "as an alias", "a loss of the package", "its own alias"],
)
def test_another_class_of_a_notebook_is_refused(second: str, notebook: dict[str, Any]) -> None:
    exec(cell(aliases=("nick",)), notebook)
    former = dict(SPECS)
    with refused(["already means", "choose another name"], ConfigError):
        exec(second, notebook)
    assert former == SPECS


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "scaled_module.py").write_text(cell(factor=2))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("scaled_module")
    del sys.modules["scaled_module"]


def test_a_module_that_is_loaded_again_replaces_its_loss(module: Any) -> None:
    Path(module.__file__).write_text(cell(factor=3) + "# of another length\n")
    again = importlib.reload(module)
    assert find("scaled").cls is again.ScaledLoss
    assert losses.create("scaled")(ONE, ZERO) == 3


def test_the_same_class_of_another_module_is_refused(module: Any, notebook: dict[str, Any]) -> None:
    for elsewhere in ({"__name__": "another_module"}, notebook):
        with refused(["'scaled': it already means scaled_module.ScaledLoss"], ConfigError):
            exec(cell(), elsewhere)
    assert find("scaled").cls is module.ScaledLoss


def test_a_class_of_the_same_name_beside_the_first_is_refused(module: Any) -> None:
    """As one that a function makes, which the module does not call by that name."""
    first = module.ScaledLoss
    del module.ScaledLoss
    with refused(["already means"], ConfigError):
        exec(cell(), {"__name__": "scaled_module"})
    assert find("scaled").cls is first


@pytest.mark.parametrize("what", [3, None, "ScaledLoss"], ids=repr)
def test_what_is_no_class_is_refused_under_a_taken_name_too(what: Any, notebook: dict[str, Any]) -> None:
    exec(cell(), notebook)
    with refused(["already means"], ConfigError):
        losses.register("scaled", inputs=losses.MSELoss.spec.inputs, suits="tests", source="2026")(what)
