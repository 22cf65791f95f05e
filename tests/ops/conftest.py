"""What tests of losses in blocks share by name."""

from typing import Any

import pytest

from losses.ops import tiles


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tiles.Tiles]:
    """Collect the tiles that are made: a test that compares two routes must see that they are two."""
    found: list[tiles.Tiles] = []
    make = tiles.Tiles.__init__

    def collect(self: tiles.Tiles, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(tiles.Tiles, "__init__", collect)
    return found
