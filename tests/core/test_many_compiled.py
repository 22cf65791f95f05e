"""Many losses compiled in one process: torch.compile counts by code object, and every loss has one of its own."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx

import losses
from losses import Loss
from losses.checking.case import Case, gradients_of, leaves_of, require_same
from losses.core.registry import find

SIZES = (6, 9)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch.compiler.reset()


class Compiler:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs: list[weakref.ref[fx.GraphModule]] = []

    def __call__(self, graph: fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.graphs.append(weakref.ref(graph))
        return graph.forward


def different_losses() -> list[Loss]:
    """Return every loss, and of three classes more than eight that differ in their parameters alone."""
    return [
        *(find(name).instance() for name in losses.available()),
        *(losses.HuberLoss(delta=0.25 * (1 + step)) for step in range(9)),
        *(losses.ELBOLoss(reconstruction=losses.MSELoss(), beta=0.5 * step) for step in range(9)),
        *(
            losses.TripletLoss(margin=margin, distance=distance)
            for margin in (0.1, 0.3)
            for distance in ("euclidean", "squared_euclidean", "cosine")
        ),
        *(losses.TripletLoss(mining=mining, average="all") for mining in ("hard", "semi_hard")),
        losses.TripletLoss(swap=True),
    ]


@pytest.mark.parametrize(
    ("dynamic", "number"),
    [
        pytest.param(True, 12, id="a dozen"),  # eight are what torch compiles of one function
        *(
            pytest.param(dynamic, 41, id=name, marks=pytest.mark.integration)
            for dynamic, name in ((False, "static"), (True, "dynamic"))
        ),
    ],
)
def test_forty_losses_are_compiled_in_one_process_and_stay_right(dynamic: bool, number: int) -> None:
    many = different_losses()[-number:] if number < 41 else different_losses()
    assert len(many) >= number
    compiler = Compiler()
    cases = [Case(loss, loss.inputs[0]) for loss in many]
    compiled = [torch.compile(loss, fullgraph=True, backend=compiler, dynamic=dynamic) for loss in many]
    for _ in range(2):
        for size in SIZES:
            for case, module in zip(cases, compiled, strict=True):
                batch = case.batch(size)
                leaves, rebuild = leaves_of(batch.output)
                value = module(rebuild(leaves), batch.target)
                expected, gradients = case.run(batch)
                require_same(str(case), value, expected)
                for gradient, right in zip(gradients_of(value, leaves), gradients, strict=True):
                    require_same(str(case), gradient, right)
    assert len(compiler.graphs) == len(many) * (1 if dynamic else len(SIZES))


def test_each_may_be_compiled_by_a_backend_of_its_own() -> None:
    """Nothing that losses call before their own code is compiled, which would be once for every backend."""
    many = [losses.ContrastiveLoss(margin=1 + step / 10) for step in range(10)]
    for case in [Case(loss, loss.inputs[0]) for loss in (*many, losses.MSELoss(), losses.ELBOLoss())]:
        batch, compiler = case.batch(), Compiler()
        value = torch.compile(case.loss, fullgraph=True, backend=compiler)(*batch)
        require_same(str(case), value, case.run(batch)[0])
        assert len(compiler.graphs) == 1


COPIED: dict[str, Callable[[Loss], Loss]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda loss: pickle.loads(pickle.dumps(loss)),
}


@pytest.mark.parametrize("way", COPIED)
def test_a_copy_is_compiled_for_itself(way: str) -> None:
    compiler, output, target = Compiler(), torch.randn(5), torch.randn(5)
    original = losses.HuberLoss()
    copies = [COPIED[way](original) for _ in range(12)]
    for step, loss in enumerate(copies):
        loss.delta = 0.1 * (1 + step)
        value = torch.compile(loss, fullgraph=True, backend=compiler)(output, target)
        torch.testing.assert_close(value, losses.HuberLoss(delta=0.1 * (1 + step))(output, target))
    assert len(compiler.graphs) == 12


WAYS: dict[str, Callable[[Loss, Compiler], Callable[..., Tensor]]] = {
    "module": lambda loss, compiler: torch.compile(loss, fullgraph=True, backend=compiler),
    "forward": lambda loss, compiler: torch.compile(loss.forward, fullgraph=True, backend=compiler),
    "in place": lambda loss, compiler: loss.compile(fullgraph=True, backend=compiler) or loss,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_compile_a_loss_compiles_twelve(way: str) -> None:
    compiler, output, target = Compiler(), torch.randn(5), torch.randn(5)
    kept = [losses.HuberLoss(delta=0.1 * (1 + step)) for step in range(12)]
    for loss in kept:
        expected = loss(output, target, normalizer=2)
        torch.testing.assert_close(WAYS[way](loss, compiler)(output, target, normalizer=2), expected)
    assert len(compiler.graphs) == 12


def test_what_was_compiled_goes_with_the_loss() -> None:
    compiler, codes = Compiler(), []
    for step in range(12):
        loss = losses.HuberLoss(delta=1.0 + step)
        codes.append(weakref.ref(loss._own_code.call.__code__))
        torch.compile(loss, fullgraph=True, backend=compiler)(torch.randn(5), torch.randn(5))
    del loss
    gc.collect()
    assert len(compiler.graphs) == 12
    assert not any(graph() for graph in compiler.graphs)
    assert not any(code() for code in codes)


def test_a_function_that_takes_a_loss_is_compiled_once_for_equal_losses() -> None:
    compiler, output, target = Compiler(), torch.randn(5), torch.randn(5)

    @torch.compile(fullgraph=True, backend=compiler)
    def doubled(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
        return 2 * loss(output, target)

    for called_before in (False, True) * 6:
        loss = losses.HuberLoss(delta=2.0)
        if called_before:
            loss(output, target)
        torch.testing.assert_close(doubled(loss, output, target), 2 * loss(output, target))
    assert len(compiler.graphs) == 1


def test_a_subclass_with_a_forward_of_its_own_is_compiled_with_it() -> None:
    class Shifted(losses.MSELoss):
        def forward(self, output: Any, target: Any = None, **options: Any) -> Tensor:
            return super().forward(output, target, **options) + 1

    compiler, loss = Compiler(), Shifted()
    value = torch.compile(loss, fullgraph=True, backend=compiler)(torch.ones(3), torch.zeros(3))
    assert value == 2 == loss(torch.ones(3), torch.zeros(3))
    assert len(compiler.graphs) == 1


def test_hooks_of_a_compiled_loss_run() -> None:
    loss = losses.MSELoss()
    loss.register_forward_hook(lambda module, batch, value: 3 * value)
    compiled = torch.compile(loss, fullgraph=True, backend=Compiler())
    assert compiled(torch.ones(3), torch.zeros(3)) == 3
