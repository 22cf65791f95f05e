"""What was found about a case, and whether its limits are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.comparison.case import Shape
from benchmarks.harness.memory import MEBIBYTE
from benchmarks.harness.timing import Quartiles

SCATTER = 1.01  # two processes that do the same differ by some pages: seen were 64 KiB of 153 MiB


@dataclass(frozen=True)
class Settings:
    """How a run measures.

    Args:
        seconds: that timing one case takes, about.
        quick: small batches, few rounds.
        device: ``"cpu"`` or ``"cuda"``.
        fresh: whether time and memory are those of a fresh process; else of this one, as on a GPU, whose allocator
            counts exactly.
        compiled: whether ours and plain formulas are also timed under ``torch.compile``.
    """

    seconds: float = 10.0
    quick: bool = False
    device: str = "cpu"
    fresh: bool = True
    compiled: bool = False


@dataclass
class Row:
    """What was found about a case. After an error nothing else is there; a note says what was not run and why.

    Neither small batches nor a GPU are judged by the limits, which are about full ones on a CPU.
    """

    name: str
    loss: str
    shape: Shape
    peer: str | None
    limits: dict[str, float | None]
    judged: bool
    equality: dict[str, Any] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    peer_over_ours: Quartiles | None = None
    ours_over_peer: Quartiles | None = None
    ours_over_products: Quartiles | None = None
    compiled_peer_over_ours: Quartiles | None = None
    compiled_peer_over_compiled_ours: Quartiles | None = None
    compiled_module_over_compiled_ours: Quartiles | None = None
    memory: dict[str, int] = field(default_factory=dict)
    memory_method: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def time_kept(self) -> bool | None:
        """Whether the limit of time is kept; ``None`` where there is none, or nothing to judge it by."""
        if not self.judged or (self.limits["faster"] is None and self.limits["slower"] is None):
            return None
        if "ours" in self.notes:
            return False
        if self.peer_over_ours is None or self.ours_over_peer is None:
            return None
        if self.limits["faster"] is not None:
            return self.peer_over_ours.median >= self.limits["faster"]
        assert self.limits["slower"] is not None
        return self.ours_over_peer.median <= self.limits["slower"]

    @property
    def memory_kept(self) -> bool | None:
        """Whether the limit of memory is kept, likewise."""
        lighter, megabytes = self.limits["lighter"], self.limits["megabytes"]
        if not self.judged or (lighter is None and megabytes is None):
            return None
        if "ours" in self.notes:
            return False
        if "ours" not in self.memory:
            return None
        if megabytes is not None:
            return self.memory["ours"] <= megabytes * MEBIBYTE
        assert lighter is not None
        return self.memory["ours"] <= SCATTER * lighter * self.memory["peer"] if "peer" in self.memory else None

    def record(self) -> dict[str, Any]:
        """Return everything as numbers and text."""
        ratios = {name: value and value._asdict() for name, value in vars(self).items() if "_over_" in name}
        return {**vars(self), **ratios, "time_kept": self.time_kept, "memory_kept": self.memory_kept}
