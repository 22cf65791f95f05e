"""What every test shares: one thread, and names that doctests may use without importing them."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what tests start too, and of scikit-learn

import pytest
import torch
from torch import tensor

import losses

pytest.register_assert_rewrite("tests")  # an assertion in a module that tests share says as much as one in a test
torch.set_num_threads(1)  # with two, small steps are 10 to 100 times slower at random on a busy machine


LONGEST = ("test_generated_parts_are_current", "test_a_program_equals_the_loss", "test_forty_losses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the few tests that take a minute, so that no process waits for another at the end."""
    items.sort(key=lambda item: not item.name.startswith(LONGEST))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through thousands of tests, and through what torch.compile makes, again
    and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def doctest_names(doctest_namespace: dict[str, object]) -> None:
    outputs = {cls.__name__: cls for cls in (losses.Gaussian, losses.Pairs, losses.VAEOutput)}
    doctest_namespace.update({"torch": torch, "tensor": tensor, **outputs})


# torch.manual_seed writes down the call stack for each kind of accelerator that is not there, half a millisecond in all
SEED = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test that draws without a seed of its own sees the same numbers in every run, alone or among others."""
    SEED(2026)
