"""Broken losses that do not survive what torch does to a function."""

import torch
from torch import Tensor

from tests.mutants.correct import Mutant, Square, Squares
from tests.mutants.invariances import BranchingOnAValue


class GraphBreaking(Squares):
    """Leaves the compiled graph."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().items(prediction, target)


class RowByRow(Squares):
    """Loops over the batch, so that every size is another program."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.stack([row.square() for row in prediction - target])


class OfTenRows(Squares):
    """Takes every exported batch for one of ten samples."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        rows = 10 if torch.compiler.is_exporting() else target.shape[0]
        return super().items(prediction, target) * rows / target.shape[0]


class OldFunction(Squares):
    """Has a derivative by hand in the style that torch.func does not take."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return Square.apply(prediction - target, lambda upstream, saved, kept: 2 * upstream * saved)


class AssigningData(Squares):
    """Clips outliers where autograd does not see it, and torch.func does not allow it."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        residual = prediction - target
        residual.data = residual.data.clamp(-1e3, 1e3)
        return residual.square()


class FillingABuffer(Squares):
    """Adds in place to what is not batched."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return target.neg().add_(prediction).square()


MUTANTS = [
    Mutant("compiles", GraphBreaking(), "graph_break"),
    Mutant("compiles_once_for_all_sizes", RowByRow(), "compiled 3 times"),
    Mutant("exports", BranchingOnAValue(), "data-dependent|Data-dependent|guard"),
    Mutant("exports_any_batch_size", OfTenRows(), "exported, at 6"),
    Mutant("func_grad", OldFunction(), "setup_context"),
    Mutant("func_grad", AssigningData(), r"\.data"),
    Mutant("func_vmap", FillingABuffer(), "broadcast shape"),
]
