"""Kinds of input: what ``output`` and ``target`` are for a family of losses.

A kind names its tensors, accepts a batch (shapes, dtypes, float32 for half precision), inspects its values, masks what
has weight 0 and can draw a valid batch. Losses declare their kinds; checks, tests, networks and examples read them.
"""

from losses.core.inputs.categorical import Categorical
from losses.core.inputs.distributions import DistributionObjects, Distributions, Transport
from losses.core.inputs.embeddings import Embeddings, MatchInput, PairInput, TripletInput
from losses.core.inputs.generative import VAE
from losses.core.inputs.kind import Asked, Batch, Form, Kind
from losses.core.inputs.linear import LinearInput
from losses.core.inputs.masks import ClassMasks, Masks
from losses.core.inputs.ordinal import OrderedClasses
from losses.core.inputs.parts import Parts
from losses.core.inputs.predictions import Binary, ClassIndices, Logits, Pointwise, Scores
from losses.core.inputs.regression import Counts, GaussianInput, QuantilesInput

POINTWISE = Pointwise()
QUANTILES = QuantilesInput()
GAUSSIAN = GaussianInput()
COUNTS = Counts()
BINARY = Binary()
SCORES = Scores()
LOGITS = Logits()
LINEAR_LOGITS = LinearInput()
CLASS_INDICES = ClassIndices()
MASKS = Masks()
CLASS_MASKS = ClassMasks()
ORDERED_CLASSES = OrderedClasses()
EMBEDDINGS = Embeddings()
PAIRS = PairInput()
MATCHES = MatchInput()
TRIPLETS = TripletInput()
CATEGORICAL = Categorical()
DISTRIBUTIONS = Distributions()
DISTRIBUTION_OBJECTS = DistributionObjects()
TRANSPORT = Transport()
VAE_OUTPUT = VAE()
PARTS = Parts()

__all__ = [
    "BINARY",
    "CATEGORICAL",
    "CLASS_INDICES",
    "CLASS_MASKS",
    "COUNTS",
    "DISTRIBUTIONS",
    "DISTRIBUTION_OBJECTS",
    "EMBEDDINGS",
    "GAUSSIAN",
    "LINEAR_LOGITS",
    "LOGITS",
    "MASKS",
    "MATCHES",
    "ORDERED_CLASSES",
    "PAIRS",
    "PARTS",
    "POINTWISE",
    "QUANTILES",
    "SCORES",
    "TRANSPORT",
    "TRIPLETS",
    "VAE_OUTPUT",
    "Asked",
    "Batch",
    "Form",
    "Kind",
]
