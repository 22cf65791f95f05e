"""Independent answers: what every loss should be, from another library, a closed form or a loop written from its paper.

A case draws a batch in float64 and says what the loss should make of it. Nothing here comes from the package's own
mathematics: only the containers that its losses take. An oracle in torch also gives the expected gradient; one in numpy
gives values, whose central differences are the expected gradient.
"""

from tests.oracles.case import OracleBatch, OracleCase, drawn
from tests.oracles.classification.binary_cross_entropy import BINARY_CROSS_ENTROPY
from tests.oracles.classification.cross_entropy import CROSS_ENTROPY
from tests.oracles.classification.focal import FOCAL
from tests.oracles.classification.generalized_cross_entropy import GENERALIZED_CROSS_ENTROPY
from tests.oracles.classification.hinge import HINGE
from tests.oracles.classification.multiclass_hinge import MULTICLASS_HINGE
from tests.oracles.classification.overlap import DICE, TVERSKY
from tests.oracles.divergence.entropy import ENTROPY
from tests.oracles.divergence.js_divergence import JS_DIVERGENCE
from tests.oracles.divergence.kl_divergence import KL_DIVERGENCE
from tests.oracles.divergence.wasserstein import WASSERSTEIN
from tests.oracles.generative import ELBO
from tests.oracles.metric.circle import CIRCLE
from tests.oracles.metric.contrastive import CONTRASTIVE
from tests.oracles.metric.cosine_embedding import COSINE_EMBEDDING
from tests.oracles.metric.info_nce import INFO_NCE
from tests.oracles.metric.memory_bank import MEMORY_BANK
from tests.oracles.metric.multi_similarity import MULTI_SIMILARITY
from tests.oracles.metric.supervised_contrastive import SUPERVISED_CONTRASTIVE
from tests.oracles.metric.triplet import TRIPLET
from tests.oracles.objective import WEIGHTED_SUM
from tests.oracles.ordinal import ORDINAL
from tests.oracles.regression import GAUSSIAN_NLL, HUBER, LOG_COSH, MAE, MSE, POISSON_NLL, QUANTILE

__all__ = ["ORACLES", "OracleBatch", "OracleCase", "drawn"]

ORACLES: dict[str, list[OracleCase]] = {
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "dice": DICE,
    "focal": FOCAL,
    "generalized_cross_entropy": GENERALIZED_CROSS_ENTROPY,
    "hinge": HINGE,
    "multiclass_hinge": MULTICLASS_HINGE,
    "tversky": TVERSKY,
    "ordinal": ORDINAL,
    "mse": MSE,
    "mae": MAE,
    "huber": HUBER,
    "log_cosh": LOG_COSH,
    "quantile": QUANTILE,
    "gaussian_nll": GAUSSIAN_NLL,
    "poisson_nll": POISSON_NLL,
    "contrastive": CONTRASTIVE,
    "cosine_embedding": COSINE_EMBEDDING,
    "triplet": TRIPLET,
    "circle": CIRCLE,
    "multi_similarity": MULTI_SIMILARITY,
    "supervised_contrastive": SUPERVISED_CONTRASTIVE,
    "info_nce": INFO_NCE,
    "memory_bank": MEMORY_BANK,
    "kl_divergence": KL_DIVERGENCE,
    "js_divergence": JS_DIVERGENCE,
    "wasserstein": WASSERSTEIN,
    "entropy": ENTROPY,
    "elbo": ELBO,
    "weighted_sum": WEIGHTED_SUM,
}
