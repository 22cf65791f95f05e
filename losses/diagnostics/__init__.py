"""What a loss cannot tell: how well embeddings retrieve and verify, and whether they have collapsed."""

from losses.diagnostics.collapse import collapse
from losses.diagnostics.neighbours import nearest
from losses.diagnostics.retrieval import retrieval
from losses.diagnostics.verification import all_pairs, verification

__all__ = ["all_pairs", "collapse", "nearest", "retrieval", "verification"]
