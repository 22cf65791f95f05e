"""Regression with outliers: some of the targets that are trained on are wrong, those that are tested on are right."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy
import torch
from annotated_types import Gt
from pictures import draw_outlier_fit
from settings import Fraction
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torchmetrics.functional.regression import mean_absolute_error, r2_score

from losses.core.inputs import POINTWISE, QUANTILES
from losses.core.parameters import Wording
from tasks.task import Metrics, Samples, SplitTask, answers

BODY_MASS_INDEX = 2  # the column that tells most about the target: the picture is drawn along it


class Outliers(SplitTask):
    """Progression of diabetes a year on, by 10 measurements of 442 patients; ships with scikit-learn.

    A fraction of the targets, in training and in validation, is too large by ``factor``, as if a decimal point had
    slipped. Networks see targets less their median, in units of their interquartile range: two measures that outliers
    hardly move.
    """

    question = "How far has diabetes progressed, learnt from targets some of which are wrong? (MAE in its points)"
    feeds = (POINTWISE, QUANTILES)
    better: ClassVar = {"MAE": "lower", "R2": "higher"}
    picture = "fit.png"

    name: Literal["outliers"]
    outliers: Fraction = 0.1
    factor: Annotated[float, Gt(0), Wording("a finite number greater than 0")] = 10.0

    @cached_property
    def recorded(self) -> dict[str, Samples]:
        """The data in the target's own unit."""
        measured, progression = load_diabetes(return_X_y=True)
        rows_of = self.parted(len(progression))
        seen = measured[rows_of["training"]]
        inputs = (measured - seen.mean(0)) / seen.std(0)
        targets = {
            part: progression[rows] * (1 if part == "testing" else self.slips(len(rows)))
            for part, rows in rows_of.items()
        }
        return {
            part: Samples(torch.from_numpy(inputs[rows]).float(), torch.from_numpy(targets[part]))
            for part, rows in rows_of.items()
        }

    def slips(self, count: int) -> numpy.ndarray:
        """Return the factor that each of ``count`` targets is wrong by; most are right."""
        order = numpy.random.default_rng(self.split_seed).permutation(count)
        return numpy.where(order < round(self.outliers * count), self.factor, 1.0)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The median and the interquartile range of the targets that are trained on."""
        low, median, high = numpy.quantile(self.recorded["training"].target, [0.25, 0.5, 0.75])
        return float(median), float(high - low)

    @cached_property
    def parts(self) -> dict[str, Samples]:
        median, width = self.scale
        return {
            part: samples._replace(target=((samples.target - median) / width).float())
            for part, samples in self.recorded.items()
        }

    def predicted(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return a network's predictions in the target's own unit."""
        median, width = self.scale
        return answers(network, inputs).double() * width + median

    def metrics(self, network: nn.Module) -> Metrics:
        inputs, progression = self.recorded["testing"]
        predicted = self.predicted(network, inputs)
        return {
            "MAE": mean_absolute_error(predicted, progression).item(),
            "R2": r2_score(predicted, progression).item(),
        }

    def references(self) -> dict[str, Metrics]:
        progression = self.recorded["testing"].target
        median = torch.full_like(progression, self.scale[0])
        return {
            "always the median": {
                "MAE": mean_absolute_error(median, progression).item(),
                "R2": r2_score(median, progression).item(),
            }
        }

    def draw(self, network: nn.Module, path: Path) -> None:
        trained, tested = self.recorded["training"], self.recorded["testing"]
        along = torch.linspace(*trained.inputs[:, BODY_MASS_INDEX].aminmax(), 50)
        patients = torch.zeros(len(along), trained.inputs.shape[1])  # average in every other respect
        patients[:, BODY_MASS_INDEX] = along
        draw_outlier_fit(
            seen=(trained.inputs[:, BODY_MASS_INDEX], trained.target),
            wrong=torch.from_numpy(self.slips(len(trained.target)) != 1),
            line=(along, self.predicted(network, patients)),
            tested=(self.predicted(network, tested.inputs), tested.target),
            path=path,
        )
