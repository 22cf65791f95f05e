"""What authors of losses import: the classes to build on, the declaration, and the words it is made of.

>>> from losses.extend import POINTWISE, ElementwiseLoss, Reduction, checked, register

The losses of this package are written on it too. Mathematics that several losses share is in :mod:`losses.ops`.
"""

from losses.abstract.anchor import AnchorLoss, AnchorRows, has_both
from losses.abstract.elementwise import ElementwiseLoss
from losses.abstract.embedding import EmbeddingLoss, ListedPairs
from losses.core.building import NestedLoss
from losses.core.checks import (
    require_finite,
    require_floating,
    require_integer,
    require_rank,
    require_same_length,
    require_same_shape,
    require_tensor,
)
from losses.core.errors import ConfigError, InputError, Problem
from losses.core.inputs import (
    BINARY,
    CLASS_INDICES,
    CLASS_MASKS,
    DISTRIBUTION_OBJECTS,
    DISTRIBUTIONS,
    EMBEDDINGS,
    LINEAR_LOGITS,
    LOGITS,
    MASKS,
    MATCHES,
    PAIRS,
    POINTWISE,
    SCORES,
    TRANSPORT,
    TRIPLETS,
    VAE_OUTPUT,
    Asked,
    Batch,
    Kind,
)
from losses.core.labelled import LabelledBatch, views_of
from losses.core.laws import (
    NON_NEGATIVE,
    SCALE_INVARIANT,
    SHIFT_INVARIANT_LOGITS,
    SYMMETRIC,
    SYMMETRIC_IN_PAIRS,
    TRANSLATION_INVARIANT,
    ZERO_AT_TARGET,
    Law,
    bounded,
    scales,
)
from losses.core.loss import Loss
from losses.core.outputs import LinearLogits, Pairs, Samples, Triplets, VAEOutput
from losses.core.parameters import (
    AtLeastOne,
    Average,
    Count,
    Distance,
    DistributionForm,
    InnerProbability,
    Integer,
    NonNegative,
    NonNegativeVector,
    Number,
    Positive,
    Probability,
    Reduction,
    Vector,
    checked,
    register_values,
)
from losses.core.precision import accumulated, widened
from losses.core.reduction import Total, total_of, weighted
from losses.core.registry import register
from losses.core.schedules import Schedule, Scheduled, ScheduledNonNegative, value_at
from losses.ops.tiles.whole_batch import Tiling

Problem.__module__ = __name__  # what pickles of a ConfigError call it

__all__ = [
    "BINARY",
    "CLASS_INDICES",
    "CLASS_MASKS",
    "DISTRIBUTIONS",
    "DISTRIBUTION_OBJECTS",
    "EMBEDDINGS",
    "LINEAR_LOGITS",
    "LOGITS",
    "MASKS",
    "MATCHES",
    "NON_NEGATIVE",
    "PAIRS",
    "POINTWISE",
    "SCALE_INVARIANT",
    "SCORES",
    "SHIFT_INVARIANT_LOGITS",
    "SYMMETRIC",
    "SYMMETRIC_IN_PAIRS",
    "TRANSLATION_INVARIANT",
    "TRANSPORT",
    "TRIPLETS",
    "VAE_OUTPUT",
    "ZERO_AT_TARGET",
    "AnchorLoss",
    "AnchorRows",
    "Asked",
    "AtLeastOne",
    "Average",
    "Batch",
    "ConfigError",
    "Count",
    "Distance",
    "DistributionForm",
    "ElementwiseLoss",
    "EmbeddingLoss",
    "InnerProbability",
    "InputError",
    "Integer",
    "Kind",
    "LabelledBatch",
    "Law",
    "LinearLogits",
    "ListedPairs",
    "Loss",
    "NestedLoss",
    "NonNegative",
    "NonNegativeVector",
    "Number",
    "Pairs",
    "Positive",
    "Probability",
    "Problem",
    "Reduction",
    "Samples",
    "Schedule",
    "Scheduled",
    "ScheduledNonNegative",
    "Tiling",
    "Total",
    "Triplets",
    "VAEOutput",
    "Vector",
    "accumulated",
    "bounded",
    "checked",
    "has_both",
    "register",
    "register_values",
    "require_finite",
    "require_floating",
    "require_integer",
    "require_rank",
    "require_same_length",
    "require_same_shape",
    "require_tensor",
    "scales",
    "total_of",
    "value_at",
    "views_of",
    "weighted",
    "widened",
]
