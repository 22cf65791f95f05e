"""Whatever is thrown at it: a configuration becomes a loss or a ConfigError, a batch a finite number or an InputError.

``pytest`` runs a few hundred derandomized examples of each; ``FUZZ_EXAMPLES=20000`` runs that many new ones.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import NAMES, Call, Case, call_of, cases, configurations, json_texts, tensors_in, valid_losses, yaml_texts
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

import losses
from losses import ConfigError, InputError, Pairs, Samples, Triplets, VAEOutput

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


# Property 1: a configuration


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


# Property 2: a batch


def finite(*tensors: Tensor | None) -> bool:
    return all(bool(tensor.double().isfinite().all()) for tensor in tensors if tensor is not None)


def excuse(loss: losses.Loss, case: Case, call: Call, value: Tensor) -> str | None:
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
        if (
            gradient is not None
            and gradient.numel()
            and not float(gradient.abs().max()) <= torch.finfo(source.dtype).max / SLACK
        ):
            return "the true gradient is too large for the dtype"
    return None


def exact_result(loss: losses.Loss, case: Case) -> tuple[Tensor, list[Tensor | None]]:
    """Return value and gradients of the same numbers in float64."""
    call = call_of(case, loss, exact=True)
    value = loss(*call.arguments, **call.options)
    return value, gradients_of(value, [t for t in call.sources if t.requires_grad])


def gradients_of(value: Tensor, leaves: list[Tensor]) -> list[Tensor | None]:
    if not leaves or not value.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(value.sum(), leaves, allow_unused=True))


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
    @given(valid_losses(name).flatmap(lambda loss: st.tuples(st.just(loss), cases(loss.spec.inputs))))
    def run(drawn: tuple[losses.Loss, Case]) -> None:
        loss, case = losses.create(drawn[0].config()), drawn[1]
        call = call_of(case, loss)
        note(f"{loss!r} on {described(call)}")
        gives_a_finite_loss_or_refuses(loss, case, call)

    run()


def gives_a_finite_loss_or_refuses(loss: losses.Loss, case: Case, call: Call) -> None:
    half = torch.autocast("cpu", dtype=torch.bfloat16) if case.autocast else contextlib.nullcontext()
    with losses.checks(case.mode), half, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="all .* logits lie in")  # advice, given on purpose
        try:
            value = loss(*call.arguments, **call.options)
        except InputError as error:
            assert str(error)
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
        if not finite(value, total.sum, torch.as_tensor(total.weight), *gradients):
            reason = excuse(loss, case, call, value)
            assert reason is not None, f"value {value}, total {total}, gradients {gradients}"


# What the fuzzer found


class Silent:
    """Something that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words for it")


def in_itself(kind: type) -> Any:
    loop: Any = kind()
    if kind is dict:
        loop.update(name="elbo", reconstruction=loop)
    else:
        loop.append(loop)
    return loop


def deep(levels: int) -> dict[str, Any]:
    config: dict[str, Any] = {"name": "mse"}
    for _ in range(levels):
        config = {"name": "elbo", "reconstruction": config}
    return config


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: {"name": "huber", "delta": in_itself(list)}, id="a list in itself"),
        pytest.param(lambda: in_itself(dict), id="a mapping in itself"),
        pytest.param(lambda: deep(3000), id="nested 3000 deep"),
        pytest.param(lambda: {"name": "huber", "delta": 10**5000}, id="an integer of 5000 digits"),
        pytest.param(lambda: {"name": "huber", "\ud800": 1}, id="a key of half a character"),
        pytest.param(
            lambda: {"name": "ce", "class_weight": torch.ones(2, device="meta")}, id="a tensor without values"
        ),
        pytest.param(lambda: {"name": "ce", "class_weight": torch.ones(2).to_sparse()}, id="a sparse tensor"),
        pytest.param(lambda: {"name": "huber", "delta": Silent()}, id="a value that cannot be shown"),
        pytest.param(lambda: {"name": Silent()}, id="a name that cannot be shown"),
        pytest.param(lambda: {"name": "huber", Silent(): 1}, id="a key that cannot be shown"),
        pytest.param(lambda: Silent(), id="a configuration that cannot be shown"),
        pytest.param(lambda: {"name": "ce", "class_weight": bytearray(b"ab")}, id="bytes where numbers belong"),
    ],
)
def test_a_configuration_that_is_hard_to_even_describe_raises_config_error(make: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        losses.create(make())
    assert str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("yaml", "name: huber\ndelta: !!int ''"),
        ("yaml", "name: huber\ndelta: !!float ''"),
        ("yaml", "name: huber\ndelta: !!bool x"),
        ("yaml", "name: huber\ndelta: !!timestamp x"),
        ("yaml", "name: huber\ndelta: 0x" + "1" * 5000),
        ("yaml", 'name: "\\UFFFFFFFF"'),
        ("json", '{"name": "huber", "\\ud800": 1}'),
    ],
    ids=lambda text: text[:40],
)
def test_a_file_that_its_parser_chokes_on_raises_config_error(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"config.{suffix}"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="config"):
        losses.load(file)


@pytest.mark.parametrize("levels", range(50, 1000, 50))
def test_a_file_of_many_nested_losses_raises_config_error(tmp_path: Path, levels: int) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"name": "elbo", "reconstruction": ' * levels + '"mse"' + "}" * levels)
    with pytest.raises(ConfigError):
        losses.load(file)


@pytest.mark.parametrize("path", ["a\0b", None, 3], ids=repr)
def test_a_path_that_cannot_be_one_raises_config_error(path: Any) -> None:
    with pytest.raises(ConfigError):
        losses.load(path)


X, LABELS = torch.tensor([[0.1, -2.0], [1.5, 0.3], [-0.7, 0.4]]), torch.tensor([0, 1, 0])


NO_NUMBERS = ["2", (1.0, 2.0), [2.0], {}, nn.Linear(1, 1), 1j, torch.tensor(1j), math.nan, torch.tensor(math.nan)]


@pytest.mark.parametrize("normalizer", NO_NUMBERS, ids=repr)
def test_a_normalizer_that_is_no_number_raises_input_error(normalizer: Any) -> None:
    with pytest.raises(InputError, match="normalizer"):
        losses.create("mse")(X, X + 1, normalizer=normalizer)


def test_an_integer_normalizer_too_large_for_torch_is_a_number_or_refused() -> None:
    with contextlib.suppress(InputError):
        assert losses.create("mse")(X, X + 1, normalizer=2**70).isfinite()


def test_no_items_over_a_normalizer_that_float32_rounds_to_zero_give_zero() -> None:
    with contextlib.suppress(InputError):
        assert losses.create("mse")(X[:0], X[:0], normalizer=1e-320) == 0


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("hinge", X, torch.zeros(3, 2, dtype=torch.complex64)),
        ("bce", X, torch.zeros(3, 2, dtype=torch.complex64)),
        ("ce", X, torch.zeros(3, dtype=torch.complex64)),
        ("contrastive", Pairs(X, X), torch.zeros(3, dtype=torch.complex64)),
        ("circle", Pairs(X, X), torch.zeros(3, dtype=torch.complex64)),
        ("elbo", VAEOutput(X, X, X), torch.zeros(3, 2, dtype=torch.complex64)),
    ],
)
def test_a_complex_target_raises_input_error(name: str, output: Any, target: Tensor) -> None:
    with warnings.catch_warnings(), pytest.raises(InputError, match="complex"):
        warnings.simplefilter("ignore")  # torch warns of it once in a process
        losses.create(name)(output, target)


def test_a_complex_weight_raises_input_error() -> None:
    with warnings.catch_warnings(), pytest.raises(InputError, match="weight"):
        warnings.simplefilter("ignore")
        losses.create("mse")(X, X + 1, weight=torch.ones(3, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("name", ["contrastive", "circle"])
def test_pairs_take_or_refuse_targets_of_every_dtype(name: str, dtype: torch.dtype) -> None:
    with contextlib.suppress(InputError):
        assert losses.create(name)(Pairs(X, X + 1), LABELS.to(dtype)).isfinite()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_miner_indices_are_taken_or_refused_in_every_integer_dtype(dtype: torch.dtype) -> None:
    indices = tuple(torch.tensor(index).to(dtype) for index in ([0], [2], [1]))
    with contextlib.suppress(InputError):
        assert losses.create("triplet")(X, LABELS, indices=indices).isfinite()


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("ce", torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)),
        ("ce", torch.zeros(2, 0), torch.zeros(2, dtype=torch.long)),
        ("triplet", Triplets(*[torch.zeros(2, 0)] * 3), None),
        ("elbo", VAEOutput(*[torch.zeros(2, 0)] * 3), torch.zeros(2, 0)),
    ],
)
def test_a_weight_on_an_empty_last_dimension_is_taken_or_refused(name: str, output: Any, target: Any) -> None:
    with contextlib.suppress(InputError):
        assert losses.create(name)(
            output, target, weight=torch.ones(len(output if isinstance(output, Tensor) else output[0]))
        ).isfinite()


@pytest.mark.parametrize("options", [{"ignore_index": 1}, {"class_weight": [1.0, 0.0]}], ids=str)
def test_z_loss_of_huge_logits_that_do_not_count_is_zero(options: dict[str, Any]) -> None:
    value = losses.create("ce", z_loss=0.1, **options)(torch.tensor([[1e20, 0.0], [0.0, 0.0]]), torch.tensor([1, 0]))
    assert value.isfinite()


def test_a_nan_in_a_distribution_that_does_not_validate_raises_input_error() -> None:
    broken = Normal(torch.tensor([math.nan]), torch.ones(1), validate_args=False)
    with pytest.raises(InputError, match="NaN"):
        losses.create("kl")(broken, Normal(torch.zeros(1), torch.ones(1)))


@pytest.mark.parametrize("weight", [math.inf, 3e38])
def test_weights_whose_sum_is_infinite_are_refused_or_averaged(weight: float) -> None:
    with contextlib.suppress(InputError):
        assert losses.create("mae")(X, X + 1, weight=torch.full((3,), weight)).isfinite()


def test_infinite_weights_of_samples_are_refused() -> None:
    with pytest.raises(InputError, match="weights"):
        losses.create("wasserstein")(Samples(X, torch.full((3, 2), math.inf)), X)


@pytest.mark.parametrize("options", [{}, {"positive_weight": 2.0}], ids=str)
def test_binary_cross_entropy_of_an_infinite_logit_is_refused(options: dict[str, Any]) -> None:
    logits = torch.tensor([-math.inf, math.inf])
    with pytest.raises(InputError, match="must be finite"):
        losses.create("bce", **options)(logits, torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("mse", torch.full((2,), math.inf), torch.full((2,), math.inf)),
        ("ce", torch.tensor([[math.inf, 0.0]]), torch.tensor([0])),
        ("ce", torch.full((1, 2), -math.inf), torch.tensor([0])),
        ("kl", torch.tensor([[math.inf, 0.0]]), torch.tensor([[0.5, 0.5]])),
        ("js", torch.tensor([[math.inf, 0.0]]), torch.tensor([[0.5, 0.5]])),
        ("triplet", X * math.inf, LABELS),
        ("contrastive", X * math.inf, LABELS),
        ("circle", X * math.inf, LABELS),
        ("supcon", X * math.inf, LABELS),
        ("nt_xent", X * math.inf, LABELS),
        ("info_nce", Pairs(X, X * math.inf), None),
        ("elbo", VAEOutput(X, X * math.inf, X), X.sigmoid()),
        ("elbo", VAEOutput(X, X, X * math.inf), X.sigmoid()),
    ],
)
def test_infinite_inputs_without_a_meaning_never_give_nan_on_the_first_batch(
    name: str, output: Any, target: Any
) -> None:
    with contextlib.suppress(InputError):
        assert not losses.create(name)(output, target).isnan()


@pytest.mark.parametrize("layout", ["sparse", "meta", "nested"])
@pytest.mark.parametrize("name", ["mae", "mse", "ce", "triplet"])
def test_a_tensor_of_another_layout_is_taken_or_refused(name: str, layout: str) -> None:
    make = {
        "sparse": lambda tensor: tensor.to_sparse(),
        "meta": lambda tensor: tensor.to("meta"),
        "nested": lambda tensor: torch.nested.nested_tensor(list(tensor), layout=torch.jagged),
    }[layout]
    with contextlib.suppress(InputError):
        losses.create(name)(make(X), make(X) if name in ("mae", "mse") else LABELS)


@pytest.mark.parametrize("steps", [10**20, 10**400], ids=["10**20", "10**400"])
def test_a_warm_up_of_more_steps_than_torch_can_count_is_refused_or_runs(steps: int) -> None:
    with contextlib.suppress(ConfigError):
        assert losses.create("elbo", warmup_steps=steps)(VAEOutput(X, X, X), X.sigmoid()).isfinite()


@pytest.mark.parametrize("index", [2**63, 10**30])
def test_an_ignore_index_that_no_target_can_hold_is_refused_or_ignores_nothing(index: int) -> None:
    with contextlib.suppress(ConfigError):
        assert losses.create("ce", ignore_index=index)(X, LABELS).isfinite()


@pytest.mark.parametrize(
    ("name", "options"),
    [("kl", {"temperature": 1e300}), ("elbo", {"free_bits": 1e300})],
    ids=["temperature", "free_bits"],
)
def test_a_parameter_beyond_float32_is_refused_in_words(name: str, options: dict[str, float]) -> None:
    batch = (VAEOutput(X, X, X), X.sigmoid()) if name == "elbo" else (X, X.softmax(1))
    with contextlib.suppress(ConfigError, InputError):
        losses.create(name, **options)(*batch)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_reference_labels_are_taken_or_refused_in_every_integer_dtype(dtype: torch.dtype) -> None:
    with contextlib.suppress(InputError):
        assert losses.create("triplet")(X, LABELS, reference=(X, LABELS.to(dtype))).isfinite()


def test_pairs_whose_target_torch_cannot_mask_are_taken_or_refused() -> None:
    with contextlib.suppress(InputError):
        losses.create("contrastive")(Pairs(X, X + 1), LABELS.to(torch.uint16), weight=torch.ones(3))


@pytest.mark.parametrize("name", ["mae", "ce", "wasserstein"])
def test_the_mean_over_subnormal_weights_has_a_finite_gradient(name: str) -> None:
    output = X.clone().requires_grad_()
    losses.create(name)(output, LABELS if name == "ce" else X + 1, weight=torch.full((3,), 1e-45)).backward()
    assert output.grad.isfinite().all()


def test_a_log_variance_of_eight_bits_is_taken_or_refused() -> None:
    with contextlib.suppress(InputError):
        assert losses.create("elbo")(VAEOutput(X, X, X.to(torch.float8_e4m3fn)), X.sigmoid()).isfinite()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["triplet", "contrastive", "circle", "supcon", "info_nce"])
def test_a_single_weight_for_a_whole_labelled_batch_is_taken_or_refused(name: str, reduction: str) -> None:
    with contextlib.suppress(InputError):
        assert losses.create(name, reduction=reduction)(X, LABELS, weight=torch.tensor(1.0)).isfinite().all()


def test_samples_against_a_single_number_are_refused() -> None:
    with pytest.raises(InputError, match="last dimension"):
        losses.create("wasserstein")(torch.zeros(1), torch.tensor(1.0))


@pytest.mark.parametrize("normalizer", [0, torch.tensor(0.0)], ids=["0", "tensor(0)"])
def test_an_infinite_sum_over_no_items_is_zero(normalizer: Any) -> None:
    output = torch.full((3,), 1e20, requires_grad=True)
    value = losses.create("mse")(output, torch.zeros(3), normalizer=normalizer)
    value.backward()
    assert value == 0
    assert output.grad.tolist() == [0, 0, 0]
