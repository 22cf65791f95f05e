"""Every loss as a program: exported with a dynamic batch by torch.export, and run as an ONNX model by onnxruntime."""

import doctest
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.onnx._internal.exporter._registration import ONNXRegistry

import losses
from losses.checking.case import SINGLE, Case, cases_of, in_precision, require_same
from losses.core.inputs import EMBEDDINGS, Batch
from losses.core.outputs import map_samples, tensors_in
from losses.core.registry import find

PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"
SIZES = (0, 1, 2, 3, 7, 13)
MORE: dict[str, list[dict[str, Any]]] = {
    "binary_cross_entropy": [{"label_smoothing": 0.1, "positive_weight": [2.0, 1.0, 0.5]}],
    "cross_entropy": [{"class_weight": [1.0, 2.0, 0.5, 1.0, 3.0], "label_smoothing": 0.1}, {"z_loss": 0.1}],
    "kl_divergence": [{"temperature": 2.0}],
    "multi_similarity": [{"mining_epsilon": 0.1}],
    "triplet": [{"margin": "soft"}, {"margin": "soft", "swap": True}],
    "wasserstein": [{"p": 2.0}, {"p": 3.0, "form": "probs"}],
}
"""Parameters that choose another formula without being an option by name."""
NOT_IN_ONNX = {("cross_entropy", 0): "its `SoftmaxCrossEntropyLoss` cannot reshape an empty tensor"}
"""What onnxruntime does not run, by loss and batch size."""


@pytest.fixture(scope="module", autouse=True)
def one_registry() -> Iterator[None]:
    """Parse the converter's library of operations once, and not for every program: a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


def cases(name: str) -> Iterator[Case]:
    yield from cases_of(name)
    cls: Any = find(name).cls
    for parameters in MORE.get(name, []):
        for case in cases_of(cls(**parameters)):
            yield Case(case.loss, case.kind, is_default=False)


def batches(case: Case) -> Iterator[Batch]:
    """Return batches of many sizes, and labelled ones of every class structure."""
    for size in SIZES:
        yield case.batch(size, SINGLE, seed=size)
    if case.kind is EMBEDDINGS:
        embeddings = torch.randn(6, case.batch().output.shape[1], generator=torch.Generator().manual_seed(6))
        for labels in ([3] * 6, [0, 1, 2, 3, 4, 5], [-7, 2**40, -7, -7, 0, 2**40], [1, 1, 1, 1, 1, 0]):
            yield in_precision(Batch(embeddings, torch.tensor(labels)), SINGLE)
        yield in_precision(Batch(embeddings[:1].expand(6, -1).clone(), torch.tensor([0, 0, 1, 1, 2, 2])), SINGLE)


def program_of(loss: Any, batch: Batch) -> torch.export.ExportedProgram:
    size = torch.export.Dim("batch")

    def of_any_size(tensor: Tensor) -> Any:
        return {0: size}

    dynamic = tuple(map_samples(part, of_any_size, lambda _: {}) for part in batch)
    return torch.export.export(loss, tuple(batch), dynamic_shapes=dynamic)


def session_of(program: torch.export.ExportedProgram) -> onnxruntime.InferenceSession:
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a failure is raised, so it need not be printed
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def result(session: onnxruntime.InferenceSession, batch: Batch) -> Tensor:
    names = [given.name for given in session.get_inputs()]
    tensors = [tensor.detach().numpy() for part in batch for tensor in tensors_in(part)]
    return torch.from_numpy(session.run(None, dict(zip(names, tensors, strict=True)))[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the converter's own code
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", losses.available())
def test_a_program_equals_the_loss_at_every_batch_size_in_torch_and_in_onnxruntime(name: str, reduction: str) -> None:
    for case in cases(name):
        if case.is_default:  # items are the same function, then averaged
            require_same_programs(name, case, reduction, in_onnx=reduction == "mean")


@pytest.mark.integration  # minutes, most of them the converter's
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", losses.available())
def test_with_every_option_it_does_in_onnxruntime_too(name: str) -> None:
    for case in cases(name):
        require_same_programs(name, case, "none" if case.is_default else "mean", in_onnx=True)


def require_same_programs(name: str, case: Case, reduction: str, *, in_onnx: bool) -> None:
    """Raise unless a loss and what is exported of it come to the same at every size of the batch."""
    loss = case.with_reduction(reduction)
    program = program_of(loss, case.batch(precision=SINGLE))
    module, session = program.module(), session_of(program) if in_onnx else None
    for batch in batches(case):
        expected, size = loss(*batch), tensors_in(batch.output)[0].shape[0]
        require_same(f"{case}, program, at {size}", module(*batch), expected, 1e-5)
        if session is not None and (name, size) not in NOT_IN_ONNX:
            require_same(f"{case}, ONNX, at {size}", result(session, batch), expected, 1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("name", "size"), NOT_IN_ONNX)
def test_what_is_said_not_to_run_does_not(name: str, size: int) -> None:
    case = next(cases(name))
    session = session_of(program_of(case.loss, case.batch(precision=SINGLE)))
    with pytest.raises(Exception, match="reshape"):
        result(session, case.batch(size, SINGLE))


def test_the_example_of_the_page_runs() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False) == doctest.TestResults(failed=0, attempted=6)


def test_the_page_names_what_does_not_run_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)`.*\|(.*)\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(NOT_IN_ONNX)
    for (name, place, why), ((expected, size), reason) in zip(rows, NOT_IN_ONNX.items(), strict=True):
        assert name == expected
        assert size == 0
        assert "empty batch in onnxruntime" in place
        assert reason in why
