"""CONTRIBUTING is a path that can be walked: its files keep the contract, and its tables are complete."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import losses
from losses.core.registry import find
from losses.extend import AnchorLoss, ElementwiseLoss, EmbeddingLoss, Loss

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(losses/\w+/\w+\.py)`:\n\n```python\n(.*?)```", TEXT, re.DOTALL))
CHECK = """
import doctest, sys, torch
torch.set_num_threads(1)
import losses, losses.checking
LONG = ("compiles", "exports")
module = __import__(sys.argv[1])
names = {"tensor": torch.tensor}
print(doctest.testmod(module, extraglobs=names))
clauses = [name for name in losses.checking.CLAUSES if sys.argv[2] == "whole" or not name.startswith(LONG)]
losses.check_loss(sys.argv[1], clauses=clauses).raise_for_failures()
print(sys.argv[1] in losses.available(), losses.describe(sys.argv[1]).name)
"""


def test_there_is_a_file_for_each_way() -> None:
    bases = [re.search(r"^class \w+\((\w+)\)", text, re.MULTILINE)[1] for text in FILES.values()]
    assert bases == ["ElementwiseLoss", "AnchorLoss", "Loss"]
    assert not any((ROOT / path).exists() for path in FILES)


@pytest.mark.parametrize("clauses", ["short", pytest.param("whole", marks=pytest.mark.integration)])
@pytest.mark.parametrize("path", FILES)
def test_a_file_to_copy_keeps_the_contract(path: str, clauses: str, tmp_path: Path) -> None:
    name = Path(path).stem
    (tmp_path / f"{name}.py").write_text(FILES[path], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", CHECK, name, clauses],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "failed=0, attempted=0" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"True {name}"


@pytest.mark.parametrize("path", FILES)
def test_a_file_to_copy_is_formatted_as_ours_are(path: str, tmp_path: Path) -> None:
    file = tmp_path / Path(path).name
    file.write_text(FILES[path], encoding="utf-8")
    config = ["--config", str(ROOT / "pyproject.toml")]
    subprocess.run([sys.executable, "-m", "ruff", "check", *config, file], check=True, timeout=60)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--check", *config, file], check=True, timeout=60)


def rows(text: str) -> set[tuple[str, str]]:
    """Return the rows of a decision table, from a docstring or a page, in plain words."""
    found = re.findall(r"^    (\S.*?)\s{2,}(:\w+:`.*|\S.*)$", text, re.MULTILINE) or []
    found += re.findall(r"^\| ([^|`]+?) \| (`?[^|]+?) \|$", text, re.MULTILINE)
    return {(what, re.sub(r":\w+:`(?:losses\.extend\.)?(\w+)`", r"`\1`", how)) for what, how in found}


@pytest.mark.parametrize("cls", [Loss, EmbeddingLoss])
def test_the_page_shows_the_table_of_the_class(cls: type[Loss]) -> None:
    of_class = rows(re.split(r"={20,}  ={20,}", cls.__doc__ or "")[2])
    assert len(of_class) > 5
    assert of_class <= rows(TEXT)


def hooks(cls: type[Loss]) -> set[str]:
    """Return what a class lets a loss say: its own public methods and properties that are not called by users."""
    called = {"forward", "total", "readings", "config", "extra_repr", "terms", "definition_total"}
    own = {name for name, value in vars(cls).items() if inspect.isfunction(value) or isinstance(value, property)}
    return {name for name in own if not name.startswith("_")} - called


def test_the_table_of_loss_is_complete() -> None:
    told = set(re.findall(r":(?:meth|attr):`(\w+)`", Loss.__doc__ or ""))
    assert told == hooks(Loss) | {"exemptions", "remembers"}


def test_the_tables_of_the_middle_classes_are_complete() -> None:
    inherited = hooks(Loss)
    told = set(re.findall(r":(?:meth|attr):`(\w+)`", EmbeddingLoss.__doc__ or ""))
    helpers = {"pair_weights", "distance_measure", "measured_at"}  # to call, not to write
    assert told - inherited == hooks(EmbeddingLoss) - inherited - helpers | {"each_pair_once"}
    to_ask = {"sums_elements"}
    assert hooks(ElementwiseLoss) - inherited - to_ask == {"fused", "block_formula", "array_formula"}
    assert hooks(AnchorLoss) - inherited - hooks(EmbeddingLoss) == {"of_anchors", "counted", "costs_of_named"}


@pytest.mark.parametrize("name", losses.available())
def test_a_loss_overrides_nothing_but_hooks(name: str) -> None:
    """What users call is the same for all; the exceptions are two whose calls leave something, the progress of
    the lower bound's warm-up and a memory, and the one that is made of others."""
    cls = type(find(name).instance())
    public = {"forward", "total", "readings", "config", "extra_repr", "definition_total"}
    allowed = {"elbo": {"total"}, "memory_bank": {"total"}, "weighted_sum": {"forward", "total", "readings"}}
    assert public & set(vars(cls)) <= allowed.get(name, set())


def test_everything_there_is_to_declare_with_is_named() -> None:
    from losses import extend
    from losses.core.inputs import Kind
    from losses.core.laws import Law
    from losses.core.parameters import accepted

    for name in extend.__all__:
        value = getattr(extend, name)
        if isinstance(value, Kind | Law) or name in ("bounded", "scales"):
            assert re.search(rf"`{name}[`(]", TEXT), name
        elif hasattr(value, "__metadata__") and name != "NestedLoss":
            assert f"`{name}` ({accepted(value)})" in " ".join(TEXT.split()), name
