"""Whatever is thrown at it: a configuration becomes a loss or a ConfigError, a batch a finite number or an InputError.

``pytest`` runs a few hundred derandomized examples of each; ``FUZZ_EXAMPLES=20000`` runs that many new ones.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution

import losses
from losses import ConfigError, InputError
from tests.fuzzing.batches import FuzzCase, cases
from tests.fuzzing.calls import Call, call_of
from tests.fuzzing.configurations import configurations
from tests.fuzzing.files import json_texts, yaml_texts
from tests.fuzzing.values import NAMES, valid_losses
from tests.gradients import gradients_of, tensors_in

SLACK = 1e3  # sums on the way are larger than the mean that comes of them
LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """Return the settings of a fuzz test: ``count`` examples that are the same each time, or as many new ones as asked
    for."""
    return settings(
        max_examples=LONG or count,
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(0)
@examples(1000)
@given(configurations())
def test_any_mapping_builds_a_loss_or_raises_config_error(config: Any) -> None:
    builds_or_refuses(lambda: losses.create(config))


@pytest.mark.timeout(0)
@examples(300)
@given(
    st.sampled_from([".yaml", ".json", ".yml"]),
    st.one_of(yaml_texts, json_texts),
    st.sampled_from([None, None, "a", "name", "a..b", ""]),
)
def test_any_file_builds_a_loss_or_raises_config_error(suffix: str, text: str, key: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"config{suffix}")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        builds_or_refuses(lambda: losses.load(file, key))


def builds_or_refuses(make: Any) -> None:
    try:
        loss = make()
    except ConfigError as error:
        assert str(error)
        return
    config = loss.config()
    again = losses.create(json.loads(json.dumps(config)))
    assert losses.create(config).config() == again.config() == config
    assert repr(again) == repr(loss)


def finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.double().isfinite().all()) for tensor in tensors)


def excuse(loss: losses.Loss, case: FuzzCase, call: Call, value: Tensor) -> str | None:
    """Return why a result may be infinite or NaN; ``None`` where nothing excuses it.

    This list is all that the losses do not promise a finite result for.
    """
    floats = [t for t in tensors_in([call.arguments, list(call.options.values())]) if t.is_floating_point()]
    if any(bool(t.double().isinf().any()) for t in floats) or call.options.get("normalizer") in (math.inf, -math.inf):
        return "an infinite input: the true value is infinite, or has no meaning"
    if any(t.numel() and float(t.detach().abs().max()) > 1e100 for t in floats if t.dtype is torch.float64):
        return "float64 beyond 1e100, whose powers overflow float64 itself"
    if isinstance(call.arguments[0], Distribution) and not bool(value.isnan().any()):
        return "the divergence of two distributions of different support is infinite"
    weight = call.options.get("weight")
    if isinstance(weight, Tensor) and weight.numel() and float(weight.detach().double().abs().max()) > 1e4:
        return "a weight so large that the weighted gradient may not fit into half precision"
    exact, gradients = exact_result(loss, case)
    dtypes = [t.dtype for t in call.sources if t.is_floating_point()]
    limits = [torch.finfo(torch.float32 if dtype.itemsize < 4 else dtype).max for dtype in (*dtypes, torch.float64)]
    if exact.numel() and not float(exact.detach().abs().max()) <= min(limits) / SLACK:
        return "the true value is too large for the dtype"
    for source, gradient in zip((t for t in call.sources if t.requires_grad), gradients, strict=True):
        if gradient.numel() and not float(gradient.abs().max()) <= torch.finfo(source.dtype).max / SLACK:
            return "the true gradient is too large for the dtype"
    return None


def exact_result(loss: losses.Loss, case: FuzzCase) -> tuple[Tensor, list[Tensor]]:
    """Return value and gradients of the same numbers in float64."""
    call = call_of(case, loss, exact=True)
    value = loss(*call.arguments, **call.options)
    return value, gradients_of(value, [t for t in call.sources if t.requires_grad])


def described(call: Call) -> str:
    def words(value: Any) -> str:
        if isinstance(value, Tensor):
            grad = ", requires_grad=True" if value.requires_grad else ""
            return f"tensor({value.tolist()}, dtype={value.dtype}{grad})[{tuple(value.shape)}]"
        if isinstance(value, tuple | list):
            return f"{type(value).__name__}({', '.join(words(item) for item in value)})"
        return repr(value)

    return "; ".join([*map(words, call.arguments), *(f"{name}={words(value)}" for name, value in call.options.items())])


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_any_batch_gives_a_finite_loss_or_raises_input_error(name: str) -> None:
    @examples(max(20, 1600 // len(NAMES)))
    @given(valid_losses(name).flatmap(lambda loss: st.tuples(st.just(loss), cases(loss.inputs))))
    def run(drawn: tuple[losses.Loss, FuzzCase]) -> None:
        loss, case = losses.create(drawn[0].config()), drawn[1]
        loss.train(not loss.remembers)  # what remembers is another loss at every call
        call = call_of(case, loss)
        note(f"{loss!r} on {described(call)}")
        gives_a_finite_loss_or_refuses(loss, case, call)

    run()


def gives_a_finite_loss_or_refuses(loss: losses.Loss, case: FuzzCase, call: Call) -> None:
    half = torch.autocast("cpu", dtype=torch.bfloat16) if case.autocast else contextlib.nullcontext()
    with losses.checks(case.mode), half, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="all .* logits lie in")  # advice, given on purpose
        try:
            value = loss(*call.arguments, **call.options)
        except InputError as error:
            assert str(error)
            return
        except TypeError as error:  # of Python itself, for an argument that the call does not have
            unknown = call.options.keys() - inspect.signature(type(loss).forward).parameters.keys()
            assert any(f"unexpected keyword argument '{name}'" in str(error) for name in unknown), error
            return
        options = {key: option for key, option in call.options.items() if key != "normalizer"}
        total = loss.total(*call.arguments, **options)
        tensors = list(tensors_in([call.arguments, list(call.options.values())]))
        leaves = [t for t in call.sources if t.requires_grad]
        gradients = gradients_of(value, leaves)
        weight = call.options.get("weight")
        if not (isinstance(weight, Tensor) and bool((weight == 0).any())):
            assert not any(bool(t.isnan().any()) for t in tensors), "a NaN went through the checks"
        assert not any(t.is_complex() for t in (value, *tensors)), "complex went through"
        if loss.reduction != "none":
            assert value.shape == ()
        if any(t.requires_grad for t in tensors_in(call.arguments[0])):
            assert value.requires_grad, "no graph to go backward through"
        if not finite(value, total.sum, torch.as_tensor(total.denominator), *gradients):
            reason = excuse(loss, case, call, value)
            assert reason is not None, f"value {value}, total {total}, gradients {gradients}"
