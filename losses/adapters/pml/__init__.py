"""pytorch-metric-learning both ways: its losses as losses of this package, and those of this package as its own.

Its losses are built by name, ``losses.create("pml.ArcFaceLoss", num_classes=10, embedding_size=64)``, or are classes of
this module. :func:`as_pml` turns a loss of this package into one that its memory, wrappers, trainers and miners take.
"""

from losses.adapters.pml.catalogue import spec_of
from losses.adapters.pml.ours import as_pml
from losses.core.errors import ConfigError
from losses.core.loss import Loss

__all__ = ["as_pml"]


def __getattr__(name: str) -> type[Loss]:
    try:
        found = spec_of(name) if not name.startswith("_") else None
    except ConfigError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {error}") from None
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found.cls
