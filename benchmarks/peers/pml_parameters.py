"""Parameters without which losses of pytorch-metric-learning cannot be built, or tell little of a small batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES, DIMENSION = 5, 6
PROXIES = {"num_classes": CLASSES, "embedding_size": DIMENSION}
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "ArcFaceLoss": PROXIES,
    "CircleLoss": {"gamma": 8},
    "CosFaceLoss": PROXIES,
    "DynamicSoftMarginLoss": {"min_val": -3.0},  # some differences have no bin by default
    "InstanceLoss": {"gamma": 4},
    "LargeMarginSoftmaxLoss": PROXIES,
    "ManifoldLoss": {"l": DIMENSION, "K": CLASSES},
    "NTXentLoss": {"temperature": 0.5},
    "NormalizedSoftmaxLoss": PROXIES,
    "P2SGradLoss": {"num_classes": CLASSES, "descriptors_dim": DIMENSION},
    "ProxyAnchorLoss": PROXIES,
    "ProxyNCALoss": PROXIES,
    "RankedListLoss": {"margin": 0.4, "Tn": 1},
    "SmoothAPLoss": {"temperature": 0.1},
    "SoftTripleLoss": PROXIES,
    "SphereFaceLoss": PROXIES,
    "SubCenterArcFaceLoss": PROXIES,
    "TripletMarginLoss": {"margin": 0.2},
    "TupletMarginLoss": {"scale": 8},
}
