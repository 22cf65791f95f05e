"""What a loss cannot tell: how well embeddings retrieve and verify, and whether they have collapsed."""

from losses.diagnostics.collapse_metrics import collapse
from losses.diagnostics.neighbours import nearest
from losses.diagnostics.retrieval_metrics import retrieval
from losses.diagnostics.verification_metrics import all_pairs, verification

__all__ = ["all_pairs", "collapse", "nearest", "retrieval", "verification"]
