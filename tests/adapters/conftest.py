"""The processes, for the losses of pytorch-metric-learning too."""

from tests.distributed.conftest import ranks

__all__ = ["ranks"]
