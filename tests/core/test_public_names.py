"""What users see of a class: types, tracebacks and pickles say ``losses.``, wherever its file lies."""

import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import losses
from losses import ConfigError, InputError, Pairs, Samples, Total, Triplets, VAEOutput
from losses.core.registry import find
from losses.extend import Problem
from tests.interpreters import ROOT, forked

ONE = torch.ones(2)
OBJECTS: dict[str, Any] = {
    "ConfigError": ConfigError(Problem(("loss", "margn"), "unknown key"), "another"),
    "InputError": InputError("wrong"),
    "Pairs": Pairs(ONE, ONE),
    "Samples": Samples(ONE),
    "Total": Total(ONE, 2),
    "Triplets": Triplets(ONE, ONE, ONE),
    "VAEOutput": VAEOutput(ONE, ONE, ONE),
    **{name: find(name).instance() for name in losses.available()},
}
CLASSES = sorted(name for name in losses.__all__ if inspect.isclass(getattr(losses, name)) and name != "checks")


@pytest.mark.parametrize("name", [name for name in CLASSES if not name.endswith("Loss") or name == "Loss"])
def test_a_type_is_called_what_users_import(name: str) -> None:
    cls = getattr(losses, name)
    assert repr(cls) == f"<class 'losses.{name}'>"
    assert cls.__module__ == "losses"
    assert cls.__qualname__ == name


@pytest.mark.parametrize("name", CLASSES)
def test_no_public_class_is_called_after_the_inner_folders(name: str) -> None:
    assert re.fullmatch(r"losses(\.[a-z]+\.[a-z_]+)?", getattr(losses, name).__module__)
    assert not getattr(losses, name).__module__.startswith(("losses.core", "losses.abstract"))


@pytest.mark.parametrize(
    ("script", "last"),
    [
        ("losses.create('triplett')", "losses.ConfigError: name: unknown loss 'triplett', available are"),
        ("losses.create('huber', delta=-1, x=2)", "losses.ConfigError: 2 problems:"),
        ("losses.create('mse')(torch.zeros(2), torch.zeros(3))", "losses.InputError: prediction has shape (2,)"),
        ("losses.register('mse', inputs=None)(int)", "losses.ConfigError: cannot register 'mse'"),
        ("losses.checks('alway')", "losses.ConfigError: checks: got 'alway'"),
    ],
)
def test_a_traceback_ends_in_the_public_name_of_the_error(script: str, last: str) -> None:
    outcome = forked(f"import losses, torch\n{script}")
    assert outcome.returncode == 1
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("losses.")]
    assert len(lines) == 1
    assert lines[0].startswith(last)


@pytest.mark.parametrize("protocol", [0, 2, pickle.DEFAULT_PROTOCOL, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", OBJECTS)
def test_a_pickle_names_no_inner_module(name: str, protocol: int) -> None:
    written = pickle.dumps(OBJECTS[name], protocol)
    assert b"losses" in written
    for inner in (b"losses.core", b"losses.abstract", b"losses.ops", b"losses.configuration"):
        assert inner not in written
    again = pickle.loads(written)
    assert type(again) is type(OBJECTS[name])
    assert str(again) == str(OBJECTS[name])


def test_pickles_are_read_where_nothing_but_pickle_was_imported() -> None:
    script = "import pickle, sys\nfor thing in pickle.load(sys.stdin.buffer): print(type(thing).__name__, '|', thing)"
    outcome = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(list(OBJECTS.values())),
        capture_output=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    shown = outcome.stdout.decode()
    for thing in OBJECTS.values():
        assert f"{type(thing).__name__} | {thing}\n" in shown


def test_errors_keep_their_problems_through_a_pickle() -> None:
    again = pickle.loads(pickle.dumps(OBJECTS["ConfigError"]))
    assert again.problems == OBJECTS["ConfigError"].problems
    assert again.problems[0].path == ("loss", "margn")
    assert type(again.problems[0]) is Problem


@pytest.mark.parametrize("name", ["Pairs", "Samples", "Total", "Triplets", "VAEOutput"])
def test_an_output_is_a_tuple_that_torch_saves_and_shows_its_fields(name: str, tmp_path: Path) -> None:
    thing = OBJECTS[name]
    assert repr(thing).startswith(f"{name}({type(thing)._fields[0]}=tensor(")
    with torch.serialization.safe_globals([type(thing)]):
        torch.save(thing, tmp_path / "thing.pt")
        again = torch.load(tmp_path / "thing.pt", weights_only=True)
    assert type(again) is type(thing)


def test_docstrings_of_public_classes_are_run() -> None:
    import doctest

    found = {test.name for test in doctest.DocTestFinder(exclude_empty=True).find(losses) if test.examples}
    assert {"losses.ConfigError", "losses.Total"} <= found


@pytest.mark.parametrize("room", ["adapters", "diagnostics", "distributed", "networks"])
def test_a_room_that_messages_name_is_there_without_an_import_of_its_own(room: str) -> None:
    script = f"import sys, losses; assert 'losses.{room}' not in sys.modules; losses.{room}; print('there')"
    done = forked(script)
    assert done.stdout == "there\n", done.stderr
