"""What is registered in a test is forgotten after it."""

from collections.abc import Iterator

import pytest

from losses.core.registry import ALIASES, SPECS


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    specs, aliases = dict(SPECS), dict(ALIASES)
    yield
    for table, before in ((SPECS, specs), (ALIASES, aliases)):
        table.clear()
        table.update(before)
