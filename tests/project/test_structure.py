"""The shape of the package: layers, names, exports, and pages that are current."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib
import pytest
import torch

import losses
from losses.core.parameters import declared_parameters
from losses.core.registry import FAMILIES, SPECS, find
from losses.extend import AnchorLoss, ElementwiseLoss, EmbeddingLoss, Loss, OverlapLoss
from tools import pages

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "losses"
LAYERS = {
    "core": 0,
    "ops": 1,
    "abstract": 2,
    "extend": 3,
    **dict.fromkeys(FAMILIES, 4),
    "objective": 5,
    "networks": 5,
    "diagnostics": 5,
    "configuration": 5,
    "choosing": 5,
    "adapters": 5,
    "distributed": 5,
    "checking": 6,
}
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = losses.available()


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(str(node.module))
    return [name for name in found if name.split(".")[0] == "losses"]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent != PACKAGE or path.stem in LAYERS], ids=lambda p: p.stem
)
def test_imports_only_point_downwards_and_never_to_a_sibling_loss(path: Path) -> None:
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        other = name.split(".")[1]
        assert LAYERS[other] <= LAYERS[place], f"{place} imports {name}"
        if place in FAMILIES:
            assert other not in FAMILIES, f"{path.stem} imports the loss {name}"
            assert other not in ("core", "abstract"), f"{path.stem} imports {name}: authors import losses.extend"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_names_and_texts_of_modules(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc", "base"}
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} says not what it is"


def test_the_package_imports_on_top_of_torch_in_under_100_ms_and_without_heavy_libraries(tmp_path: Path) -> None:
    script = """
import gc, sys, time, torch
gc.freeze()  # torch's own objects, through which a collection may go at any time
start = time.process_time()  # of this process, however busy the machine is
import losses
print(time.process_time() - start)
heavy = ("pytorch_metric_learning", "pydantic", "yaml", "sklearn", "rich")
print([name for name in heavy if name in sys.modules])
"""
    # as where a package is installed: its modules are compiled once, and not again by every process
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    command = [sys.executable, "-c", script]
    outcomes = [
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=compiled) for _ in range(4)
    ]
    seconds, heavy = zip(*(outcome.stdout.splitlines() for outcome in outcomes), strict=True)
    assert min(map(float, seconds)) < 0.1
    assert set(heavy) == {"[]"}


def test_exports_are_what_all_says() -> None:
    assert sorted(losses.__all__) == sorted(set(losses.__all__))
    for name in losses.__all__:
        assert hasattr(losses, name), name
    assert {spec.cls.__name__ for spec in SPECS.values() if spec.cls.__module__.startswith("losses.")} <= set(
        losses.__all__
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_has_one_name_from_file_to_class(name: str) -> None:
    cls = find(name).cls
    assert cls.__module__.rpartition(".")[2] == name
    assert cls.__name__.lower() == name.replace("_", "") + "loss"
    assert cls.spec.family == cls.__module__.split(".")[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_documents_itself(name: str) -> None:
    cls = find(name).cls
    text = inspect.getdoc(cls) or ""
    for section in (".. math::", "Args:", "Shapes:", "Units:", "Raises:", ">>> "):
        assert section in text, f"{name} has no {section}"
    description = losses.describe(name)
    for parameter in declared_parameters(cls.__init__):
        assert description.meanings.get(parameter.name), f"{name} does not say what {parameter.name} is"
        assert parameter.default is not inspect.Parameter.empty or parameter.name in cls.spec.example
    assert name in str(description)
    assert re.search(r"\d{4}", description.source), "a source has a year"


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_keyword_only(name: str) -> None:
    with pytest.raises(losses.ConfigError, match="by keyword"):
        find(name).cls("mean")  # type: ignore[arg-type]  # wrong on purpose


def test_a_class_is_abstract_or_final() -> None:
    abstract = {Loss, ElementwiseLoss, EmbeddingLoss, AnchorLoss, OverlapLoss}
    assert all(map(inspect.isabstract, abstract))
    for cls in abstract:
        for child in cls.__subclasses__():
            assert child in abstract or child.__module__.startswith("tests.") or not inspect.isabstract(child)
    for name in NAMES:
        of_ours = [child for child in find(name).cls.__subclasses__() if child.__module__.startswith("losses.")]
        assert not of_ours, f"{name} is derived from"


@pytest.mark.parametrize("path", [path for path in pages.PAGES if path.name != "support.md"], ids=lambda p: p.name)
def test_generated_parts_are_current(path: Path) -> None:
    """All but the support page, which ``tests/contract`` compares with what it sees anyhow."""
    text = path.read_text(encoding="utf-8")
    made = re.search(r"Made by `make pages`, with torch (\S+) and", text)
    if made and made[1] != torch.__version__.partition("+")[0]:
        pytest.skip(f"{path.name} tells what torch {made[1]} does")  # its second derivatives differ by version
    drawn = re.search(r"Matplotlib v([\d.]+\d)", text)
    if drawn and drawn[1] != matplotlib.__version__:
        pytest.skip(f"{path.name} was drawn by matplotlib {drawn[1]}, whose lines and digits are its own")
    assert text == pages.written(path), f"{path.name} is stale: run make pages"


README = """
import doctest, sys
flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
results = doctest.testfile(sys.argv[1], module_relative=False, optionflags=flags)
print(results.attempted, results.failed)
"""


def test_the_readme_does_what_it_shows() -> None:
    """In a process of its own, since it registers a loss."""
    command = [sys.executable, "-c", README, str(ROOT / "README.md")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, cwd=ROOT).stdout
    attempted, failed = map(int, shown.splitlines()[-1].split())
    assert attempted > 30
    assert failed == 0, shown


def test_nothing_that_the_readme_shows_scrolls() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE))
    assert [line for line in code.splitlines() if len(line) > 88] == []


def test_every_file_that_the_documents_name_exists() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        to_write = set(re.findall(r"`([\w/.]+)`:\n\n```python", text))  # files that the page shows to be copied
        for name in re.findall(r"`((?:losses|examples|tests|docs|tools|benchmarks)/[\w/.]*)`", text):
            assert (ROOT / name).exists() or "<" in name or name in to_write, f"{document} names {name}"


def test_python_dash_m_losses_lists_everything_and_says_where_it_lies() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "losses"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert str(PACKAGE) in shown
    for name in NAMES:
        assert name in shown


def test_the_changelog_names_every_loss_and_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## {version}" in text
    for name in NAMES:
        assert f"`{name}`" in text, f"the changelog does not mention {name}"


def test_the_benchmarks_compare_equal_things(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.cases import overhead

    monkeypatch.setattr(overhead, "compare", lambda ours, peer: overhead.Ratio(1.0, 1.0, 1.0))
    assert set(overhead.run()) == {"mse", "mae", "huber", "binary_cross_entropy", "cross_entropy"}
