"""The one file that takes anything from pytorch-metric-learning: version 2 as it is, version 3 as its documents say."""

import ast
import json
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor

import losses
from losses.adapters import pytorch_metric_learning as pml
from losses.core.registry import find
from tests.gradients import backward

ROOT = Path(__file__).parents[2]
ROOMS = ("losses", "examples", "benchmarks", "tools", "tests")
HERE = {Path(pml.__file__), Path(__file__)}
LABELS = torch.arange(6).repeat_interleave(5)


class PairIndices(NamedTuple):
    """What pair miners of version 3 return."""

    pos_anchors: Tensor
    positives: Tensor
    neg_anchors: Tensor
    negatives: Tensor


class TripletIndices(NamedTuple):
    """What triplet miners of version 3 return."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def drawn(
    order: Callable[[int], Any], labels: Tensor, m: int, batch_size: int, num_batches: int
) -> Iterator[list[int]]:
    """Yield whole batches as version 3 does, shuffling by ``order``."""
    for _ in range(num_batches):
        classes = [int(label) for label in order(len(labels.unique()))[: batch_size // m]]
        yield [int((labels == label).nonzero()[int(place)]) for label in classes for place in order(5)[:m]]


def of_numpy(labels: Tensor, m: int, batch_size: int, num_batches: int | None = None) -> Iterator[list[int]]:
    return drawn(numpy.random.permutation, labels, m, batch_size, num_batches)


def of_torch(labels: Tensor, m: int, batch_size: int, num_batches: int | None = None) -> Iterator[list[int]]:
    return drawn(torch.randperm, labels, m, batch_size, num_batches)


def of_python(labels: Tensor, m: int, batch_size: int, num_batches: int | None = None) -> Iterator[list[int]]:
    return drawn(lambda size: random.sample(range(size), size), labels, m, batch_size, num_batches)


def of_a_generator(
    labels: Tensor, m: int, batch_size: int, num_batches: int | None = None, generator: Any = None
) -> Iterator[list[int]]:
    return drawn(lambda size: torch.randperm(size, generator=generator), labels, m, batch_size, num_batches)


SAMPLERS = [pml.MPerClassSampler, of_numpy, of_torch, of_python, of_a_generator]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_batches_of_either_sampler_follow_from_the_seed_alone(sampler: Any) -> None:
    before = torch.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate()
    batches = pml.grouped_batches(LABELS, 2, 8, 3, (4, 7), sampler=sampler)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == numpy.random.get_state()[1]).all()
    assert before[2] == random.getstate()
    assert batches.shape == (3, 8)
    assert batches.dtype == torch.int64
    for batch in LABELS[batches]:
        assert torch.equal(batch[0::2], batch[1::2]), "class after class"
        assert len(batch.unique()) == 4
    torch.rand(3), numpy.random.rand(3), random.random()
    assert torch.equal(pml.grouped_batches(LABELS, 2, 8, 3, (4, 7), sampler=sampler), batches)
    for seed in ((4, 8), (5, 7), (7, 4)):
        assert not torch.equal(pml.grouped_batches(LABELS, 2, 8, 3, seed, sampler=sampler), batches)


def test_batches_of_version_2_are_those_that_results_were_measured_on() -> None:
    """A run is resumed, and a benchmark repeated, on the same batches as ever."""
    numbers = numpy.random.RandomState([4, 7])
    expected, names = [], list(range(6))
    for _ in range(3):
        numbers.shuffle(names)
        expected.append([5 * name + place for name in names[:4] for place in numbers.choice(5, size=2, replace=False)])
    assert pml.grouped_batches(LABELS, 2, 8, 3, (4, 7)).tolist() == expected


def test_the_accuracy_calculator_is_found_where_version_3_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class AccuracyCalculator:
        def __init__(self, include: Any, k: Any, knn_func: Any = None) -> None:
            self.settings = (include, k, knn_func)

    evaluation = ModuleType("pytorch_metric_learning.evaluation")
    evaluation.AccuracyCalculator, evaluation.CustomKNN = AccuracyCalculator, lambda distance: ("knn", distance)
    monkeypatch.setitem(sys.modules, evaluation.__name__, evaluation)
    calculator = pml.accuracy_calculator("cosine", ["r_precision"])
    assert calculator.settings == (("r_precision",), "max_bin_count", ("knn", "cosine"))
    monkeypatch.undo()
    assert (
        "pytorch_metric_learning.utils"
        in type(pml.accuracy_calculator(pml.distances.CosineSimilarity(), [])).__module__
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("kind", [PairIndices, TripletIndices], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", losses.available("metric"))
def test_named_tuples_of_miners_are_indices(name: str, kind: Any, dtype: torch.dtype) -> None:
    embeddings, labels = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    miner = pml.miners.MultiSimilarityMiner(epsilon=0.5) if kind is PairIndices else pml.miners.BatchHardMiner()
    plain = miner(embeddings, labels)
    assert len(plain) == len(kind._fields)
    loss = find(name).cls()
    for indices in (plain, tuple(column[:0] for column in plain)):
        expected = backward(loss, embeddings, labels, indices=indices)
        named = kind(*(column.to(dtype) for column in indices))
        torch.testing.assert_close(backward(loss, embeddings, labels, indices=named), expected, rtol=0, atol=0)
    assert backward(loss, embeddings, labels, indices=plain)[1].any()


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_nothing_else_imports_it() -> None:
    for path, tree in sources():
        modules = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
        }
        found = {name for name in modules if str(name).split(".")[0] == "pytorch_metric_learning"}
        assert not found or path in HERE, (
            f"{path} imports {found}; take it from losses.adapters.pytorch_metric_learning"
        )


@pytest.mark.parametrize(
    ("called", "parameter"), [("TripletMarginLoss", "margin"), ("DotProductSimilarity", "normalize_embeddings")]
)
def test_parameters_whose_default_depends_on_the_version_are_passed(called: str, parameter: str) -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == called:
                of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "nn"
                passed = {keyword.arg for keyword in node.keywords}
                assert of_torch or parameter in passed, f"{path}:{node.lineno}: {called} without {parameter}="


def test_it_is_capped_below_what_was_not_tried_and_claims_name_what_was() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "pytorch-metric-learning>=2.9,<3" in project["dependencies"]
    assert "pytorch-metric-learning==2.9.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name in ("metric", "training"):
        numbers = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        measured = numbers["versions"]["pytorch-metric-learning"]
        assert f"pytorch-metric-learning {measured}" in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    ["README.md", "docs/performance.md", "docs/peers.md", "docs/migration.md", "docs/pytorch_metric_learning.md"],
)
def test_a_page_that_compares_names_the_version(path: str) -> None:
    text = " ".join((ROOT / path).read_text(encoding="utf-8").split())
    for claim in re.findall(r"(?:of|with|\||from) pytorch-metric-learning(?! miner)\S*(?: \S+)?", text):
        assert re.search(r"pytorch-metric-learning(?:'s)? \(?2\.9", claim), claim


@pytest.mark.parametrize("name", losses.available("metric"))
def test_a_loss_that_equals_one_of_theirs_says_in_which_version(name: str) -> None:
    text = " ".join((find(name).cls.__doc__ or "").split())
    for claim in re.findall(r"`` in pytorch-metric-learning\S*(?: \S+)?", text):
        assert "pytorch-metric-learning 2.9" in claim, claim
