"""What random input has found, each as a test of its own."""

from __future__ import annotations

import contextlib
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import losses
from losses import ConfigError, InputError, Pairs, Samples, Triplets, VAEOutput
from tests.fuzzing.values import in_itself, nested


class Silent:
    """Something that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words for it")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: {"name": "huber", "delta": in_itself(list)}, id="a list in itself"),
        pytest.param(lambda: in_itself(dict), id="a mapping in itself"),
        pytest.param(lambda: nested(3000), id="nested 3000 deep"),
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
@pytest.mark.parametrize("name", ["triplet", "contrastive", "circle", "multi_similarity", "supcon", "info_nce"])
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
