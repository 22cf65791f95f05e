"""Losses of other packages, installed for real: a folder and its metadata on the path, and a fresh interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import losses

ROOT = Path(__file__).parents[2]
OURS = losses.available()
GOOD = '''
import torch.nn.functional as F
from torch import Tensor

from losses.extend import POINTWISE, ElementwiseLoss, Positive, Reduction, checked, register


@register("our_cosh", aliases=("lc",), inputs=POINTWISE, suits="regression", source="folklore", family="plugged")
class OurCoshLoss(ElementwiseLoss):
    """Logarithm of the hyperbolic cosine of the residual.

    Args:
        width: residual at which it turns from quadratic to linear.
        reduction: how the elements are put together.
    """

    @checked
    def __init__(self, *, width: Positive = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.width = width
        self.reduction = reduction

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = (prediction - target) / self.width
        return residual + F.softplus(-2 * residual) - 0.6931471805599453
'''
SILENT = (
    GOOD.replace('"""Logarithm', '""" """\n    text = """Logarithm')
    .replace("our_cosh", "silent")
    .replace('("lc",)', "()")
)
BAD = {
    "raising": ("raise ImportError('it needs a library that is not there')", "ImportError: it needs a library"),
    "exiting": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "silent": (SILENT, "ConfigError: cannot register 'silent': OurCoshLoss has no documentation"),
    "absent": (None, "No module named 'plugin_absent'"),
    "speechless": (
        "class Speechless(Exception):\n    def __str__(self): raise self\nraise Speechless",
        "could not be loaded: Speechless",
    ),
    "taken": (GOOD.replace("our_cosh", "mse"), "cannot register 'mse': it already means losses.regression.mse.MSELoss"),
}


def install(folder: Path, name: str, code: str | None, entry_points: str = "[losses]\n{0} = plugin_{0}\n") -> None:
    """Make what pip would make of a package with one module and one entry point."""
    if code is not None:
        (folder / f"plugin_{name}").mkdir()
        (folder / f"plugin_{name}" / "__init__.py").write_text(code, encoding="utf-8")
    metadata = folder / f"plugin_{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(entry_points.format(name), encoding="utf-8")


def ran(folder: Path, *arguments: str) -> tuple[str, str]:
    """Return what a fresh interpreter, with the packages of a folder installed, says and warns of."""
    path = os.pathsep.join((str(ROOT), str(folder)))
    outcome = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout, outcome.stderr


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    install(folder, "good", GOOD)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good package among all the bad ones."""
    folder = tmp_path_factory.mktemp("mixed")
    install(folder, "good", GOOD)
    for name, (code, _) in BAD.items():
        install(folder, name, code)
    return folder


USE = """
import json, losses, torch
print(json.dumps([
    losses.available(), losses.available("plugged"), repr(losses.create("lc", width=2)), str(losses.describe("lc")),
    losses.schema()["$defs"]["our_cosh"]["properties"]["width"]["description"],
    float(losses.create("our_cosh")(torch.tensor([30.0]), torch.tensor([0.0]))),
    losses.create({"name": "elbo", "reconstruction": {"name": "our_cosh"}}).config()["reconstruction"],
    float(losses.create("mse")(torch.tensor([3.0]), torch.tensor([1.0]))),
]))
"""


def test_a_good_package_is_listed_built_described_and_nested_without_a_word(good: Path) -> None:
    shown, warned = ran(good, "-c", USE)
    names, plugged, built, description, meaning, value, nested, ours = json.loads(shown)
    assert names == sorted([*OURS, "our_cosh"])
    assert plugged == ["our_cosh"]
    assert built == "OurCoshLoss(width=2.0, reduction='mean')"
    assert "width=1.0: a finite number greater than 0" in description
    assert meaning == "residual at which it turns from quadratic to linear."
    assert value == pytest.approx(30 - 0.693147)
    assert nested == {"name": "our_cosh", "width": 1.0, "reduction": "mean"}
    assert ours == 4
    assert warned == ""


def test_a_good_package_is_in_the_list_of_python_dash_m_losses(good: Path) -> None:
    shown, warned = ran(good, "-m", "losses")
    assert "plugged\n  our_cosh" in shown
    assert "Logarithm of the hyperbolic cosine of the residual. (lc)" in shown
    assert warned == ""


def test_a_good_package_keeps_the_contract_by_its_name(good: Path) -> None:
    script = "import losses, torch; torch.set_num_threads(1); print(losses.check_loss('our_cosh'))"
    shown, _ = ran(good, "-c", script)
    assert shown.startswith("our_cosh\n")
    assert "kept" in shown
    assert "broken" not in shown


def test_a_name_that_is_not_ours_is_looked_for_once_in_what_is_installed(good: Path) -> None:
    script = """
import sys, losses
losses.create("mse")
print("plugin_good" in sys.modules)
losses.create("lc")
print("plugin_good" in sys.modules)
"""
    assert ran(good, "-c", script)[0].split() == ["False", "True"]


def test_bad_packages_give_a_warning_each_and_harm_nothing_else(mixed: Path) -> None:
    _, quiet = ran(mixed, "-c", "import losses; losses.create('mse'); losses.describe('l1')")
    assert quiet == "", "nothing is loaded until it is needed"
    shown, warned = ran(mixed, "-c", f"{USE}\nlosses.available(); losses.schema()")
    assert "our_cosh" in shown
    assert "30.0" not in shown
    for name, (_, reason) in BAD.items():
        lines = [line for line in warned.splitlines() if f"'{name}', 'plugin_{name}'" in line]
        assert len(lines) == 1, f"one warning names {name}: {warned}"
        assert reason in lines[0]
        assert "UserWarning" in lines[0]
    assert warned.count("UserWarning") == len(BAD)


def test_bad_packages_leave_the_list_and_the_contract_of_the_good_one_alone(mixed: Path) -> None:
    shown, warned = ran(mixed, "-m", "losses")
    for name in [*OURS, "our_cosh"]:
        assert f"  {name}" in shown
    assert "silent" not in shown
    assert warned.count("UserWarning") == len(BAD)
    script = "import losses; print(losses.check_loss('our_cosh', clauses=['copies', 'config_round_trip', 'one_item']))"
    assert "broken" not in ran(mixed, "-c", script)[0]


def test_where_warnings_are_errors_the_good_packages_are_loaded_all_the_same(mixed: Path) -> None:
    script = """
import losses
try:
    losses.available()
except UserWarning as warning:
    print("refused", warning)
print("our_cosh" in losses.available(), losses.create("lc"))
"""
    shown, _ = ran(mixed, "-W", "error::UserWarning", "-c", script)
    assert shown.startswith("refused the losses of ")
    assert shown.splitlines()[-1] == "True OurCoshLoss(width=1.0, reduction='mean')"


def test_an_entry_point_that_names_no_module_gives_a_warning(tmp_path: Path) -> None:
    install(tmp_path, "garbled", GOOD, "[losses]\ngarbled = no module: at all\n")
    shown, warned = ran(tmp_path, "-c", "import losses; print(losses.available()); print(losses.create('mse'))")
    assert str(OURS) in shown
    assert "'garbled', 'no module: at all', could not be loaded" in warned


def test_two_packages_of_one_name_leave_the_first_and_warn_of_the_second(tmp_path: Path) -> None:
    install(tmp_path, "one", GOOD)
    install(tmp_path, "two", GOOD.replace("class OurCoshLoss", "class OtherLoss"))
    shown, warned = ran(tmp_path, "-c", "import losses; print(losses.create('our_cosh'))")
    assert shown.startswith(("OurCoshLoss", "OtherLoss"))
    assert warned.count("UserWarning") == 1
    assert "cannot register 'our_cosh': it already means plugin_" in warned


def test_a_package_may_look_for_losses_while_it_is_loaded(tmp_path: Path) -> None:
    install(tmp_path, "curious", f"import losses\nlosses.available()\nlosses.create('mse')\n{GOOD}")
    shown, warned = ran(tmp_path, "-c", "import losses; print(losses.create('our_cosh'))")
    assert shown.startswith("OurCoshLoss")
    assert warned == ""


def test_without_documentation_in_the_interpreter_everything_still_works(good: Path) -> None:
    shown, warned = ran(good, "-OO", "-m", "losses")
    for name in [*OURS, "our_cosh"]:
        assert f"  {name}" in shown
    assert warned == ""
