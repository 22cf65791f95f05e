"""Clauses about what goes on around a call: settings, modes, other modules, devices."""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from losses.checking.case import SINGLE, Broken, Case, gradients_of, leaves_of, require_same
from losses.checking.clauses.refusals import wrong_batches
from losses.checking.clauses.state import attributes_of, require_same_results
from losses.checking.contract import clause
from losses.core import checks as value_checks
from losses.core.outputs import map_tensors


class Setting(NamedTuple):
    """Something that is set for a whole process or thread."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def set_autocast(state: tuple[bool, torch.dtype, bool]) -> None:
    enabled, dtype, cached = state
    torch.set_autocast_enabled("cpu", enabled)
    torch.set_autocast_dtype("cpu", dtype)
    torch.set_autocast_cache_enabled(cached)


def set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


SETTINGS = {
    "grad mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "autocast": Setting(
        lambda: (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        set_autocast,
    ),
    "default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": Setting(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "anomaly detection": Setting(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "precision of matrix products": Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "flushing of denormal numbers": Setting(
        lambda: not bool(torch.tensor(1e-310, dtype=torch.float64) * 1), torch.set_flush_denormal
    ),
    "checks of values": Setting(lambda: value_checks._mode, value_checks.checks),
    "warning filters": Setting(lambda: list(warnings.filters), lambda filters: None),  # a context manager restores them
    "environment": Setting(lambda: dict(os.environ), set_environment),
}
UNUSUAL = {
    "default dtype": torch.float64,
    "deterministic algorithms": "error",
    "precision of matrix products": "medium",
    "checks of values": "always",
}
"""What is rarely set, so that an assignment of the usual value is seen."""


def settings() -> dict[str, Any]:
    return {name: setting.read() for name, setting in SETTINGS.items()}


@contextlib.contextmanager
def settings_restored() -> Iterator[None]:
    """Put every setting back at the end, whatever was called in between."""
    before = settings()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name, value in settings().items():
            if value != before[name]:
                SETTINGS[name].write(before[name])


@contextlib.contextmanager
def unusual_settings() -> Iterator[None]:
    with settings_restored():
        for name, value in UNUSUAL.items():
            SETTINGS[name].write(value)
        yield


@clause()
def settings_stay(case: Case) -> None:
    """a call leaves grad mode, autocast, torch's settings, warning filters and environment as they were, and so does a
    call that refuses its batch"""
    batch = case.batch()
    bad = wrong_batches(batch)
    around: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
        "a call": contextlib.nullcontext,
        "a call with no_grad": torch.no_grad,
        "a call with unusual settings": unusual_settings,
        "a call under autocast": lambda: torch.autocast("cpu", dtype=torch.float16, cache_enabled=False),
    }
    with settings_restored():
        for name, context in around.items():
            with context():
                before = settings()
                value = case.loss(*batch)
                require_settings(before, name)
                if value.requires_grad:
                    value.sum().backward()
                    require_settings(before, f"the backward of {name}")
        for name, refused in bad.items():
            before = settings()
            with contextlib.suppress(Exception):  # whatever it is, it ends the call
                copy.deepcopy(case.loss)(*refused)
            require_settings(before, f"a batch that is refused ({name})")


def require_settings(before: Mapping[str, object], what: str) -> None:
    for name, value in settings().items():
        if value != before[name]:
            raise Broken(f"{name} changed by {what}")


@clause()
def settings_do_not_matter(case: Case) -> None:
    """the default dtype, deterministic algorithms (which fill new memory with NaN) and the precision of matrix products
    change neither value nor gradient"""
    single = Case(copy.deepcopy(case.loss).float(), case.kind)
    batch = case.batch(precision=SINGLE)
    expected = single.run(batch)
    with unusual_settings():
        results = Case(copy.deepcopy(single.loss), case.kind).run(batch)
    if results[0].dtype is not expected[0].dtype:
        raise Broken(f"with float64 as the default dtype the result is {results[0].dtype}")
    require_same_results("with unusual settings", results, expected, 1e-5)


@clause()
def works_as_a_module(case: Case) -> None:
    """behind a network, in a container and by functional_call it works as alone; hooks run once; .to(dtype),
    requires_grad_(False) and zero_grad() change nothing"""
    batch, loss, calls = case.batch(), copy.deepcopy(case.loss), []
    expected = case.run(batch)
    loss.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs)))
    loss.register_forward_hook(lambda module, inputs, result: 2 * result)
    require_same("value through a hook that doubles it", loss(*batch), 2 * expected[0])
    if calls != [2]:
        raise Broken(f"a hook ran {len(calls)} times")
    leaves, rebuild = leaves_of(batch.output)
    behind = case.loss(rebuild([1 * leaf for leaf in leaves]), batch.target)
    require_same_results("behind a network", (behind, gradients_of(behind, leaves)), expected)
    state = {**dict(case.loss.named_parameters()), **dict(case.loss.named_buffers())}
    require_same("torch.func.functional_call", torch.func.functional_call(case.loss, state, tuple(batch)), expected[0])
    holder = nn.ModuleDict({"loss": copy.deepcopy(case.loss)}).double().requires_grad_(False)
    holder.load_state_dict(holder.state_dict())
    holder.zero_grad()
    require_same_results("as a part of another module", Case(holder["loss"], case.kind).run(batch), expected)
    holder.float()
    results = Case(holder["loss"], case.kind).run(case.batch(precision=SINGLE))
    require_same_results("after .float()", results, expected, 1e-4)


@clause()
def moves_with_its_tensors(case: Case) -> None:
    """moved to another device with .to(), none of the tensors that the loss holds stays behind"""
    batch, loss = case.batch(precision=SINGLE), copy.deepcopy(case.loss).float()
    loss(*batch)  # which may make some
    leaves, rebuild = leaves_of(batch.output)
    elsewhere = [leaf.detach().to("meta").requires_grad_() for leaf in leaves]
    target = map_tensors(batch.target, lambda tensor: tensor.to("meta"))
    loss.to("meta")  # a device without values shows where tensors are, on a machine without a GPU too
    held = {name: value for name, value in attributes_of(loss).items() if isinstance(value, Tensor)}
    behind = [name for name, value in held.items() if not value.is_meta]
    try:
        if behind:
            loss(rebuild(elsewhere), target).sum().backward()
    except RuntimeError as error:
        if "same device" in str(error) or "expected device" in str(error):
            raise Broken(f"{', '.join(behind[:3])} stays behind: {error}") from None
    except Exception:  # what cannot be done without values is no matter of devices
        return
