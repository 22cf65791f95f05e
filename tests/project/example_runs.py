"""Runs of the examples, small, and what tests look at in them."""

import importlib
import sys
from pathlib import Path

import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))  # as Python does for `python examples/train.py`
batches, distributed, glyph_data, history, networks, overfitting, pictures, report, run_config, spam_data, train = (
    importlib.import_module(name)
    for name in (
        "batches",
        "distributed",
        "glyph_data",
        "history",
        "networks",
        "overfitting",
        "pictures",
        "report",
        "run_config",
        "spam_data",
        "train",
    )
)
OF_EMBEDDINGS = ("glyphs", "siamese", "triplet_network")
SMALL = ["--set", "steps=4", "--set", "validate_every=2", "--set", "validation_batches=1", "--set", "batch_size=16"]
TINY_GLYPHS = ["--set", "network.channels=[2,2,2]", "--set", "task.verify_on=[hebrew]"]


def small(run: str, output: Path, *more: str) -> int:
    size = TINY_GLYPHS if run in OF_EMBEDDINGS else []
    return train.main([run, *SMALL, *size, "--output", str(output), *more])


def saved(folder: Path) -> dict:
    """Return a checkpoint without how long it took, which nobody can repeat."""
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert checkpoint["history"].pop("seconds") >= 0
    return checkpoint


def assert_equal(first: object, second: object) -> None:
    """Assert that two saved states are the same to the last bit."""
    if isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
