"""What a measurement depends on: versions, machine, and the state of our sources."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

import losses


def environment(device: str = "cpu") -> dict[str, object]:
    """Return what a measurement depends on; nothing here tells whose machine it is."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("pytorch-metric-learning", "numpy")},
        },
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "architecture": platform.machine()},
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }


def fingerprint() -> str:
    """Return what tells one state of our sources from another.

    Fresh processes load what is on the disk by then, so a run during which the sources change measures two packages in
    one.
    """
    root = Path(losses.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the model name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def summary(device: str = "cpu") -> str:
    """Return the environment in one line."""
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if device == "cuda" else f"{processor()} ({platform.machine()})"
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"torch {torch.__version__}, Python {platform.python_version()}, {where}, {count}"
