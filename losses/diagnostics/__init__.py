"""What a loss cannot tell: how well embeddings retrieve and verify, whether they have collapsed, and whether a network
over-fits."""

from losses.diagnostics.collapse_metrics import collapse
from losses.diagnostics.generalization import EarlyStopping, GeneralizationGap
from losses.diagnostics.neighbours import nearest
from losses.diagnostics.retrieval_metrics import retrieval
from losses.diagnostics.verification_metrics import all_pairs, verification

__all__ = ["EarlyStopping", "GeneralizationGap", "all_pairs", "collapse", "nearest", "retrieval", "verification"]
