"""The contract in the tests of another package, which is installed for real and tested by a pytest of its own."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from torch import nn

from losses import ConfigError
from losses.checking.parametrizing import parametrize_with_clauses
from losses.core.inputs import POINTWISE
from tests.project.test_plugins import GOOD, ROOT, install

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(from losses\.checking\.parametrizing .*?)```", PAGE, re.DOTALL)

PACKAGE = f'''{GOOD}

@register("corner", inputs=POINTWISE, suits="regression", source="folklore", family="plugged")
class CornerLoss(OurCoshLoss):
    """Absolute residual by a square root, whose gradient is NaN where the residual is 0."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sqrt()


class ExemptLoss(CornerLoss):
    """The same, and says so."""

    exemptions = {{"equal_points": "the root has no slope at 0", "one_item": "it is thought to have none"}}


class SilentLoss(OurCoshLoss):
    """Gives no loss."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return None
'''
TESTS = """
import json
from torch import nn
import losses
from losses.checking.parametrizing import parametrize_with_clauses
from losses.extend import POINTWISE
from plugin_tested import CornerLoss, ExemptLoss, OurCoshLoss, SilentLoss


COMPILING = ("compiles", "exports")  # which take most of the time: of one loss
OTHERS = [clause for clause in losses.checking.CLAUSES if not clause.startswith(COMPILING)]


@parametrize_with_clauses([OurCoshLoss])
def test_contract(loss, clause):
    clause(loss)


@parametrize_with_clauses([CornerLoss], clauses=OTHERS)
def test_broken(loss, clause):
    clause(loss)


@parametrize_with_clauses([OurCoshLoss()] * 2 + ["our_cosh"], clauses=["one_item", "copies"])
def test_names(loss, clause):
    clause(loss)


@parametrize_with_clauses([ExemptLoss, SilentLoss], clauses=["gives_a_loss", "equal_points", "one_item"])
def test_exemptions(loss, clause):
    clause(loss)


@parametrize_with_clauses([nn.MSELoss()], inputs=POINTWISE, oracle=lambda o, t: (o - t).square().mean(),
                          exemptions={"empty_batch": "torch gives NaN"},
                          clauses=["equals_its_oracle", "empty_batch", "config_round_trip"])
def test_module(loss, clause):
    clause(loss)


def test_failures_of_check_loss(record_property):
    broken = losses.check_loss(CornerLoss, clauses=OTHERS).failures
    record_property("broken", json.dumps([f"{b.clause}-{b.precision}".strip("-") for b in broken]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How each test of the package fared, by its name, in two processes."""
    folder = tmp_path_factory.mktemp("package")
    install(folder, "tested", PACKAGE)
    (folder / "test_tested.py").write_text(TESTS, encoding="utf-8")
    (folder / "conftest.py").write_text("import torch\ntorch.set_num_threads(1)\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--junitxml=found.xml", "test_tested.py"],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(folder)))},
        cwd=folder,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr  # some tests fail, and nothing else is wrong
    found = {}
    for case in ElementTree.parse(folder / "found.xml").iter("testcase"):
        result = next((part for part in case if part.tag in ("failure", "skipped", "error")), None)
        found[case.get("name", "")] = "passed" if result is None else f"{result.get('type')}: {result.get('message')}"
        for said in case.iter("property"):
            found[said.get("name", "")] = said.get("value", "")
    return found


def named(outcomes: dict[str, str], start: str) -> dict[str, str]:
    return {name.removeprefix(start)[:-1]: said for name, said in outcomes.items() if name.startswith(start)}


def test_a_right_loss_passes_every_clause_and_skips_with_the_reason(outcomes: dict[str, str]) -> None:
    tests = named(outcomes, "test_contract[OurCoshLoss-")
    assert {said.split(":")[0] for said in tests.values()} == {"passed", "pytest.skip"}
    assert tests["equal_points-float16"] == "passed"
    assert tests["config_round_trip"] == "passed"
    assert tests["zero_vectors-float64"] == "pytest.skip: not applicable: POINTWISE has no such edge"


def test_a_broken_loss_fails_the_tests_of_what_it_breaks_and_no_other(outcomes: dict[str, str]) -> None:
    tests = named(outcomes, "test_broken[CornerLoss-")
    failed = sorted(name for name, said in tests.items() if not said.startswith(("passed", "pytest.skip")))
    assert failed == sorted(json.loads(outcomes["broken"]))
    assert {f"equal_points-{where}" for where in ("float64", "float32", "bfloat16", "float16", "autocast")} <= {*failed}
    assert "one_item-float64" not in failed
    assert "where points are equal" in tests["equal_points-float16"]
    assert "gradient [[nan, nan" in tests["equal_points-float16"]


def test_losses_of_one_name_are_numbered_and_names_stay_as_given(outcomes: dict[str, str]) -> None:
    names = set(named(outcomes, "test_names["))
    assert {"OurCoshLoss1-copies", "OurCoshLoss2-copies", "our_cosh-copies", "our_cosh-one_item-float16"} <= names


def test_a_declared_exemption_is_expected_to_fail_and_one_that_is_not_needed_is_told(outcomes: dict[str, str]) -> None:
    tests = named(outcomes, "test_exemptions[ExemptLoss-")
    assert "pytest.xfail: the root has no slope at 0 (where points are equal" in tests["equal_points-float32"]
    assert "is exempt from one_item (it is thought to have none), and keeps it" in tests["one_item-float32"]
    assert tests["gives_a_loss"] == "passed"


def test_what_gives_no_loss_fails_one_test_and_skips_the_others(outcomes: dict[str, str]) -> None:
    tests = named(outcomes, "test_exemptions[SilentLoss-")
    assert "SilentLoss breaks gives_a_loss" in tests.pop("gives_a_loss")
    assert {said.split(";")[1] for said in tests.values()} == {" see gives_a_loss"}


def test_a_module_that_is_no_loss_of_ours(outcomes: dict[str, str]) -> None:
    tests = named(outcomes, "test_module[MSELoss-")
    assert tests.pop("equals_its_oracle") == "passed"
    assert tests.pop("config_round_trip").startswith("pytest.skip: not offered: ")
    assert all(said.startswith("pytest.xfail: torch gives NaN") for said in tests.values())


def test_the_example_of_the_page_is_a_test_module() -> None:
    code = compile(EXAMPLE.replace("from my_package.cauchy import CauchyLoss", "CauchyLoss = 'huber'"), "page", "exec")
    names: dict[str, object] = {}
    exec(code, names)
    (mark,) = names["test_contract"].pytestmark  # type: ignore[attr-defined]
    assert "huber-equal_points-float16" in [parameters.id for parameters in mark.args[1]]


@pytest.mark.parametrize(
    ("losses", "options", "words"),
    [
        (["mse"], {"clauses": ["one_itme"]}, "no clause 'one_itme'.*one_item"),
        (["mse"], {"exemptions": {"nothing": "no reason"}}, "no clause 'nothing'"),
        ([nn.MSELoss()], {}, "MSELoss does not say what it takes: pass inputs="),
        ([nn.MSELoss], {"inputs": POINTWISE}, r"give an instance: MSELoss\(\)"),
        ([None], {}, "got None; give a module"),
    ],
    ids=["clause", "exemption", "kind", "class", "nothing"],
)
def test_what_cannot_be_checked_is_refused_before_any_test_runs(
    losses: list[object], options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        parametrize_with_clauses(losses, **options)


def test_pytest_is_not_imported_by_the_package_nor_by_check_loss() -> None:
    script = "import losses, sys; losses.check_loss('mse', clauses=['one_item']); print('pytest' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout == "False\n"
