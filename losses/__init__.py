"""Training objectives for PyTorch: every loss is a small module called ``loss(output, target)``, chosen by one line.

>>> loss = create("huber", delta=0.5)
>>> loss(tensor([1.0, 3.0]), tensor([1.0, 1.0]))  # (0 + 0.5 * (2 - 0.25)) / 2
tensor(0.4375)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from losses.choosing import choose
from losses.configuration import available, create, describe, load, schema
from losses.core.checks import checks
from losses.core.errors import ConfigError, InputError
from losses.core.loss import Loss
from losses.core.outputs import Gaussian, LinearLogits, Pairs, Samples, Triplets, VAEOutput
from losses.core.reduction import Total
from losses.core.registry import SPECS, register, scan

if TYPE_CHECKING:
    from losses.checking import check_loss as check_loss  # imported when it is first asked for, see __getattr__

    # what scan() exports below, spelled out for editors and type checkers by `make pages`
    # begin exports
    from losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss as BinaryCrossEntropyLoss
    from losses.classification.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
    from losses.classification.dice import DiceLoss as DiceLoss
    from losses.classification.focal import FocalLoss as FocalLoss
    from losses.classification.generalized_cross_entropy import (
        GeneralizedCrossEntropyLoss as GeneralizedCrossEntropyLoss,
    )
    from losses.classification.hinge import HingeLoss as HingeLoss
    from losses.classification.multiclass_hinge import MulticlassHingeLoss as MulticlassHingeLoss
    from losses.classification.ordinal import OrdinalLoss as OrdinalLoss
    from losses.classification.tversky import TverskyLoss as TverskyLoss
    from losses.divergence.entropy import EntropyLoss as EntropyLoss
    from losses.divergence.js_divergence import JSDivergenceLoss as JSDivergenceLoss
    from losses.divergence.kl_divergence import KLDivergenceLoss as KLDivergenceLoss
    from losses.divergence.wasserstein import WassersteinLoss as WassersteinLoss
    from losses.generative.elbo import ELBOLoss as ELBOLoss
    from losses.metric.circle import CircleLoss as CircleLoss
    from losses.metric.contrastive import ContrastiveLoss as ContrastiveLoss
    from losses.metric.cosine_embedding import CosineEmbeddingLoss as CosineEmbeddingLoss
    from losses.metric.info_nce import InfoNCELoss as InfoNCELoss
    from losses.metric.memory_bank import MemoryBankLoss as MemoryBankLoss
    from losses.metric.multi_similarity import MultiSimilarityLoss as MultiSimilarityLoss
    from losses.metric.supervised_contrastive import SupervisedContrastiveLoss as SupervisedContrastiveLoss
    from losses.metric.triplet import TripletLoss as TripletLoss
    from losses.objective.weighted_sum import WeightedSumLoss as WeightedSumLoss
    from losses.regression.gaussian_nll import GaussianNLLLoss as GaussianNLLLoss
    from losses.regression.huber import HuberLoss as HuberLoss
    from losses.regression.log_cosh import LogCoshLoss as LogCoshLoss
    from losses.regression.mae import MAELoss as MAELoss
    from losses.regression.mse import MSELoss as MSELoss
    from losses.regression.poisson_nll import PoissonNLLLoss as PoissonNLLLoss
    from losses.regression.quantile import QuantileLoss as QuantileLoss

    # end exports

for public in (ConfigError, Gaussian, InputError, LinearLogits, Loss, Pairs, Samples, Total, Triplets, VAEOutput):
    public.__module__ = __name__  # what tracebacks and pickles call it
scan(__name__, __path__)
globals().update({spec.cls.__name__: spec.cls for spec in SPECS.values()})


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "check_loss":
            from losses.checking import check_loss

            return check_loss
        if name in ("adapters", "diagnostics", "distributed", "networks"):  # imported when they are first asked for
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ConfigError",
    "Gaussian",
    "InputError",
    "LinearLogits",
    "Loss",
    "Pairs",
    "Samples",
    "Total",
    "Triplets",
    "VAEOutput",
    "available",
    "check_loss",
    "checks",
    "choose",
    "create",
    "describe",
    "load",
    "register",
    "schema",
]
__all__ += sorted(spec.cls.__name__ for spec in SPECS.values())
