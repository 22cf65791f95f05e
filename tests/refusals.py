"""What a refusal has to say: what came, what was expected, the fix."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from losses import InputError


@contextmanager
def refused(words: list[str], error: type[Exception] = InputError) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Check that what is done inside is refused in a message that holds all of these words; the error can be looked at
    afterwards."""
    with pytest.raises(error) as caught:
        yield caught
    for word in words:
        assert word in str(caught.value)
