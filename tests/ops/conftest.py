"""What tests of losses in blocks share by name."""

from typing import Any

import pytest

from losses.ops.tiles.blocks import Tiles


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Tiles]:
    """Collect the tiles that are made: a test that compares two routes must see that they are two."""
    found: list[Tiles] = []
    make = Tiles.__init__

    def collect(self: Tiles, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(Tiles, "__init__", collect)
    return found
