"""A case for every loss of pytorch-metric-learning that is built by its name: what it knows and is given."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import losses
from benchmarks.peers.pml_parameters import CLASSES, DIMENSION, PARAMETERS
from losses.adapters.pytorch_metric_learning import losses as pml


class Case(NamedTuple):
    """What a loss knows.

    Args:
        weights: whether its items have anchors, which have weights.
        normalizer: whether it averages over items itself nowhere.
        indices: whether it takes those of miners.
        reference: whether it takes another set to compare with.
        terms: how many means are added.
    """

    weights: bool = True
    normalizer: bool = True
    indices: bool = True
    reference: bool = True
    terms: int = 1


OF_ITSELF = Case(weights=False, normalizer=False)
CASES: dict[str, Case] = {
    "AngularLoss": Case(),
    "ArcFaceLoss": Case(reference=False),
    "CircleLoss": Case(),
    "ContrastiveLoss": Case(terms=2),
    "CosFaceLoss": Case(reference=False),
    "DynamicSoftMarginLoss": OF_ITSELF,
    "FastAPLoss": Case(reference=False),
    "GeneralizedLiftedStructureLoss": Case(),
    "HistogramLoss": OF_ITSELF._replace(reference=False),
    "InstanceLoss": Case(indices=False, reference=False),
    "IntraPairVarianceLoss": Case(terms=2),
    "LargeMarginSoftmaxLoss": Case(reference=False),
    "LiftedStructureLoss": Case(),
    "ManifoldLoss": OF_ITSELF._replace(indices=False, reference=False),
    "MarginLoss": Case(weights=False, terms=2),
    "MultiSimilarityLoss": Case(),
    "NCALoss": Case(),
    "NPairsLoss": Case(reference=False),
    "NTXentLoss": Case(),
    "NormalizedSoftmaxLoss": Case(reference=False),
    "P2SGradLoss": OF_ITSELF._replace(indices=False, reference=False),
    "PNPLoss": OF_ITSELF._replace(indices=False, reference=False),
    "ProxyAnchorLoss": Case(weights=False, reference=False, terms=2),
    "ProxyNCALoss": Case(reference=False),
    "RankedListLoss": Case(indices=False, reference=False),
    "SignalToNoiseRatioContrastiveLoss": Case(terms=2),
    "SmoothAPLoss": Case(reference=False),
    "SoftTripleLoss": Case(reference=False),
    "SphereFaceLoss": Case(reference=False),
    "SubCenterArcFaceLoss": Case(reference=False),
    "SupConLoss": Case(),
    "ThresholdConsistentMarginLoss": OF_ITSELF._replace(reference=False),
    "TripletMarginLoss": Case(),
    "TupletMarginLoss": Case(),
    "VICRegLoss": Case(weights=False, normalizer=False, indices=False, reference=False, terms=4),
}
OF_LABELS = [name for name in CASES if name not in ("VICRegLoss", "ManifoldLoss")]
"""Those that compare embeddings by their labels."""


def ours(name: str, **parameters: Any) -> losses.Loss:
    """Return one of their losses as ours, what it learns drawn from a fixed seed."""
    torch.manual_seed(7)
    return losses.create(f"pml.{name}", **{**PARAMETERS.get(name, {}), **parameters})


def theirs(name: str, **parameters: Any) -> nn.Module:
    """Return the same loss as it is there."""
    torch.manual_seed(7)
    module: nn.Module = getattr(pml, name)(**{**PARAMETERS.get(name, {}), **parameters})
    return module


def batch(seed: int = 0, size: int = 20) -> tuple[Tensor, Tensor]:
    """Return embeddings in float64 and labels of as many samples of each class."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, DIMENSION, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(size) * CLASSES // size


def call_ours(loss: nn.Module, embeddings: Tensor, labels: Tensor, **given: Any) -> Tensor:
    """Call one of their losses as ours."""
    if type(loss).__name__ == "VICRegLoss":
        value: Tensor = loss(losses.Pairs(embeddings, second_view(embeddings)), **given)
    else:
        value = loss(embeddings, labels, **given)
    return value


def call_theirs(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Call one of their losses as it is called there."""
    name = type(loss).__name__
    if name == "VICRegLoss":
        value: Tensor = loss(embeddings, ref_emb=second_view(embeddings))
    elif name == "ManifoldLoss":
        value = loss(embeddings, indices_tuple=labels)
    else:
        value = loss(embeddings, labels)
    return value


def second_view(embeddings: Tensor) -> Tensor:
    return embeddings.detach().flip(0) + 0.1


def gradients(value: Tensor, embeddings: Tensor, loss: nn.Module) -> list[Tensor]:
    """Return the gradients by the embeddings and by what the loss learns."""
    return list(torch.autograd.grad(value, [embeddings, *loss.parameters()]))


def abstract_classes() -> list[str]:
    """Return the classes beside the losses that the module of losses holds."""
    return [name for name, item in vars(pml).items() if inspect.isclass(item) and name not in CASES]
