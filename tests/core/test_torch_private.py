"""Private parts of torch: where a version lacks one, every loss has the same value and gradient without it."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from losses.core import torch_private
from tests.interpreters import ROOT, forked

PACKAGE = ROOT / "losses"
HIDE = {
    "execution": "import torch._dynamo\ndel torch._C._dynamo.eval_frame.set_code_exec_strategy",
    "reset": "import torch._dynamo\ndel torch._C._dynamo.eval_frame.reset_code",
    "autocast": "del torch._C._is_any_autocast_enabled",
    "transforms": "del torch._C._are_functorch_transforms_active",
    "modes": "del torch._C._len_torch_dispatch_stack",
    "operations": """
namespace = type(torch.ops.aten)
find = namespace.__getattr__
names = ("nll_loss_forward",)
def hidden(self, name):
    if name in names:
        raise AttributeError(name)
    return find(self, name)
namespace.__getattr__ = hidden
for name in names:
    vars(torch.ops.aten).pop(name, None)
""",
    "dispatch_mode": "import torch.utils._python_dispatch\ndel torch.utils._python_dispatch.TorchDispatchMode",
    "functions of elements": """
import types
functions, torch._C._nn = torch._C._nn, types.SimpleNamespace()
import losses.core.torch_private  # which asks for them when it is imported
losses.core.torch_private.function_of_elements = lambda name: None
torch._C._nn = functions
""",
}
MEASURE = """
import json, sys, warnings
import torch
torch.set_num_threads(1)
{hide}
import losses
from losses.checking.case import Case, options_of
from losses.core import torch_private
from losses.core.parameters import declared_parameters
from losses.core.registry import find

seen = {{}}
for name in losses.available():
    cls = find(name).cls
    for options in options_of(declared_parameters(cls.__init__)):
        loss = find(name).instance(**options)
        for kind in loss.inputs:
            if str(kind) == "DISTRIBUTION_OBJECTS":
                continue
            case = Case(loss, kind)
            for size in (1, 9):
                batch = case.batch(size)
                for weight in (None, torch.linspace(0, 2, size, dtype=torch.float64)):
                    try:
                        value, gradients = case.run(batch, weight=weight)
                    except losses.InputError:  # a loss whose pairs are one item takes no weights
                        continue
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        under_autocast = case.loss(*batch, weight=weight)
                    key = f"{{name}} {{options}} {{kind}} {{size}} {{weight is None}}"
                    numbers = [value, under_autocast, *gradients]
                    seen[key] = [number for tensor in numbers for number in tensor.detach().flatten().tolist()]
there = [torch_private._set_execution, torch_private._reset_code]
there += [getattr(torch._C, "_is_any_autocast_enabled", None)]
there += [torch_private._transforms_are_active, torch_private._modes]
there += [torch_private.operation("nll_loss_forward"), torch_private.dispatch_mode()]
there += [torch_private.function_of_elements("mse_loss")]
print(json.dumps([[part is not None for part in there], seen]))
"""


def measured(*hidden: str) -> tuple[list[bool], dict[str, list[float]]]:
    """Return which parts are there in a fresh interpreter without some, and values and gradients of every loss."""
    script = MEASURE.format(hide="\n".join(HIDE[name] for name in hidden))
    outcome = forked(script)
    assert outcome.returncode == 0, outcome.stderr
    there, seen = json.loads(outcome.stdout)
    return there, seen


@pytest.fixture(scope="module")
def complete() -> dict[str, list[float]]:
    there, seen = measured()
    assert all(there), "this version of torch has every part"
    assert len(seen) > 100
    return seen


@pytest.mark.parametrize("hidden", [*([name] for name in HIDE), list(HIDE)], ids="+".join)
def test_every_loss_has_the_same_value_and_gradient_without(hidden: list[str], complete: dict[str, Any]) -> None:
    there, seen = measured(*hidden)
    assert there == [name not in hidden for name in HIDE]
    assert seen.keys() == complete.keys()
    for key, numbers in seen.items():
        assert numbers == pytest.approx(complete[key], rel=1e-9, abs=1e-12, nan_ok=False), key


def test_without_them_nothing_is_read_and_nothing_claimed() -> None:
    script = f"""
import torch
{HIDE["autocast"]}
{HIDE["transforms"]}
{HIDE["modes"]}
import losses
from losses.core import torch_private
print(torch_private.any_autocast(), torch_private.transforms_are_active(), torch_private.is_dispatched_to_python())
print(losses.create("mse")(torch.tensor([float("nan")]), torch.zeros(1)).item())
print(losses.create("mse")(torch.zeros(1, 2), torch.zeros(1, 2), weight=torch.ones(1)).item())
"""
    outcome = forked(script)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == ["True", "True", "True", "nan", "0.0"]


def test_memory_is_in_use_until_it_is_freed_and_nobody_claims_it_where_torch_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensor = torch.zeros(3)
    in_use = torch_private.storage_reference(tensor)
    view = tensor[1:]
    del tensor
    assert in_use()
    del view
    assert not in_use()
    monkeypatch.delattr("torch.multiprocessing.reductions.StorageWeakRef")
    assert not torch_private.storage_reference(kept := torch.zeros(3))()
    assert len(kept) == 3


def test_without_them_a_loss_is_compiled_as_well() -> None:
    script = f"""
import torch
{HIDE["execution"]}
{HIDE["reset"]}
import losses
loss = losses.create("huber")
print(torch.compile(loss, fullgraph=True, backend="eager")(torch.tensor([3.0]), torch.tensor([1.0])).item())
"""
    outcome = forked(script)
    assert (outcome.stdout.strip(), outcome.stderr) == ("1.5", "")


PRIVATE = re.compile(r"\btorch(\.\w+)*\._\w+|\btorch\.ops\b|\bfunctorch\b")


def names_in(path: Path) -> set[str]:
    """Return every dotted name that the code of a file imports or reads, not what its documentation speaks of."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "import_module"):
            found.add(".".join(ast.unparse(part).strip("'") for part in node.args[:2]))
    return found


def private_names_in(path: Path) -> set[str]:
    return {name for name in names_in(path) if PRIVATE.match(name)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_names_a_private_part_of_torch(path: Path) -> None:
    if path == PACKAGE / "core" / "torch_private.py":
        assert len(private_names_in(path)) >= 5, "the search finds them where they are"
    else:
        assert not private_names_in(path)


@pytest.mark.parametrize(
    "code",
    [
        "import torch._dynamo",
        "from torch._C import _functorch",
        "from torch.utils._pytree import tree_map",
        "import torch\ntorch.ops.aten.add.Tensor(1, 2)",
        "import torch\ntorch._C._len_torch_dispatch_stack()",
        "import torch\ngetattr(torch, '_C')",
        "import torch\ngetattr(torch._C, 'anything', None)",
        "from torch import _C",
        "import functorch",
    ],
)
def test_the_search_finds_every_way_to_name_one(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f'"""Of torch.ops."""\n{code}\n', encoding="utf-8")
    assert private_names_in(tmp_path / "module.py")


def test_the_search_does_not_mind_what_is_public_or_documented(tmp_path: Path) -> None:
    code = '"""Without torch._C."""\nimport torch\ntorch.compiler.is_compiling()\n# torch._C\n'
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    assert not private_names_in(tmp_path / "module.py")


@pytest.mark.filterwarnings("ignore:.torch.jit.script.")  # of torch, where it is first asked for tangents
def test_a_tangent_may_be_there_where_torch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not torch_private.tangents_may_exist()
    with torch.autograd.forward_ad.dual_level():
        assert torch_private.tangents_may_exist()
    monkeypatch.delattr(torch.autograd.forward_ad, "_current_level")
    assert torch_private.tangents_may_exist()
