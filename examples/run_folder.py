"""The folder of a run: no run is lost in it to another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from losses import ConfigError
from losses.core.errors import Problem

CONFIG, CHECKPOINT, METRICS = "config.yaml", "checkpoint.pt", "metrics.json"


def holds_a_run(folder: Path) -> bool:
    """Return whether a folder has something that would be lost: a checkpoint, or what came of a run."""
    return (folder / CHECKPOINT).exists() or (folder / METRICS).exists()


def require_free(folders: Iterable[Path], *, resumable: bool = True) -> None:
    """Raise unless a run in any of the folders would overwrite nothing.

    Args:
        folders: of the runs.
        resumable: whether there is an option to go on with a run.

    Raises:
        ConfigError: naming every folder that holds a run.
    """
    taken = [folder for folder in folders if holds_a_run(folder)]
    if taken:
        resume = "--resume goes on with it, " if resumable else ""
        raise ConfigError(
            *(
                Problem(
                    (),
                    f"{folder} holds a run already: {resume}--overwrite replaces it, --output writes elsewhere",
                )
                for folder in taken
            )
        )


def require_resumable(folders: Iterable[Path]) -> None:
    """Raise unless there is a checkpoint in one of the folders; of several runs, others then start anew.

    Raises:
        ConfigError: there is none at all.
    """
    folders = list(folders)
    if not any((folder / CHECKPOINT).exists() for folder in folders):
        raise ConfigError(
            f"{', '.join(map(str, folders))}: there is no checkpoint to resume from; start without --resume"
        )


def clear(folder: Path) -> None:
    """Delete what runs leave in a folder, so that nothing of one is taken for another's; whatever else is there
    stays."""
    for file in [folder / CONFIG, folder / CHECKPOINT, folder / METRICS, *folder.glob("*.png")]:
        file.unlink(missing_ok=True)
