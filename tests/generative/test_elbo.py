"""What is peculiar to the evidence lower bound: variances of any size, warm-up, its two terms, and that it is a
bound."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import losses
from losses import ConfigError, InputError, VAEOutput
from tests.refusals import refused

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def example(size: int = 4) -> tuple[VAEOutput, Tensor]:
    return VAEOutput(*torch.randn(3, size, 2, dtype=torch.float64)), torch.rand(size, 2, dtype=torch.float64)


def vae(*shapes: tuple[int, ...]) -> VAEOutput:
    return VAEOutput(*map(torch.randn, shapes))


def backward(loss: losses.Loss, output: VAEOutput, target: Tensor, **options: Any) -> tuple[Tensor, VAEOutput]:
    """Return value and gradients, all finite."""
    leaves = VAEOutput(*(part.detach().requires_grad_() for part in output))
    value = loss(leaves, target, **options)
    gradients = torch.autograd.grad(value.sum(), leaves)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    return value.detach(), VAEOutput(*gradients)


@pytest.mark.parametrize("log_variance", [-1e4, -200.0, -80.0, 80.0, 100.0, 1e4])
@pytest.mark.parametrize("parameters", [{}, {"free_bits": 0.5}, {"capacity": 3.0}, {"reconstruction": "mse"}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_log_variance_of_ten_thousand_is_finite(
    log_variance: float, parameters: dict[str, Any], dtype: torch.dtype
) -> None:
    output = VAEOutput(*(torch.full((2, 2), fill, dtype=dtype) for fill in (0.5, 1.0, log_variance)))
    _, gradient = backward(losses.create("elbo", **parameters), output, torch.ones(2, 2))
    assert torch.equal(gradient.log_variance.sign(), torch.full((2, 2), math.copysign(1, log_variance), dtype=dtype))


@pytest.mark.parametrize("log_variance", [-1e4, 10.0, 12.0, 80.0, 1e4])
def test_the_gradient_of_any_log_variance_fits_into_half_precision(log_variance: float) -> None:
    output = VAEOutput(*(torch.full((2, 2), fill, dtype=torch.float16) for fill in (0.5, 1.0, log_variance)))
    backward(losses.create("elbo"), output, torch.ones(2, 2))


@pytest.mark.parametrize("fill", [-1e4, 1e4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_and_means_of_ten_thousand_are_finite(fill: float, dtype: torch.dtype) -> None:
    output = VAEOutput(*(torch.full((2, 2), value, dtype=dtype) for value in (fill, fill, 0.0)))
    backward(losses.create("elbo"), output, torch.ones(2, 2))


def test_the_standard_normal_posterior_costs_nothing() -> None:
    output = VAEOutput(torch.zeros(3, 4), torch.zeros(3, 2), torch.zeros(3, 2))
    value, gradient = backward(losses.create("elbo"), output, torch.full((3, 4), 0.5))
    assert value.item() == pytest.approx(4 * math.log(2))
    assert not gradient.mean.any()
    assert not gradient.log_variance.any()


@pytest.mark.parametrize("log_variance", [-30.0, -5.0, 0.0, 20.0, 69.0])
def test_the_divergence_is_exact_up_to_where_it_goes_on_straight(log_variance: float) -> None:
    output = VAEOutput(torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), log_variance))
    terms = losses.create("elbo")(
        VAEOutput(*(part.double() for part in output)), torch.zeros(1, 1).double()
    ) - math.log(2)
    assert terms.item() == pytest.approx((math.exp(log_variance) + 1 - 1 - log_variance) / 2)


def test_it_bounds_the_likelihood_of_a_linear_gaussian_model_and_reaches_it() -> None:
    """x | z ~ N(z, 1/2), z ~ N(0, 1): at the posterior, N(2x/3, 1/3), the bound is the evidence log N(x; 0, 3/2)."""
    x = torch.tensor([0.7], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    evidence = Normal(0.0, math.sqrt(1.5)).log_prob(x).item()
    loss = losses.create("elbo", reconstruction="mse")
    for mean, variance, tight in ((2 * x / 3, 1 / 3, True), (x * 0, 1.0, False), (x, 0.1, False)):
        z = mean + math.sqrt(variance) * noise
        output = VAEOutput(z, mean.expand_as(z), torch.full_like(z, math.log(variance)))
        bound = -loss(output, x.expand_as(z)).item() - math.log(math.pi) / 2  # mse is that Gaussian up to a constant
        assert (bound == pytest.approx(evidence, abs=5e-3)) == tight
        assert bound < evidence + 5e-3


def test_beta_rises_in_training_and_counts_in_full_in_evaluation() -> None:
    output, target = example()
    loss = losses.create("elbo", beta=2.0, warmup_steps=4)
    parts = losses.create("elbo").terms(output, target)
    for step in range(7):
        share = min(step / 4, 1)
        expected = parts["reconstruction"] + 2 * share * parts["divergence"]
        torch.testing.assert_close(loss.train()(output, target), expected)
        torch.testing.assert_close(loss.eval()(output, target), parts["reconstruction"] + 2 * parts["divergence"])
        loss.terms(output, target)
        loss.eval().total(output, target)
    assert loss.train().total(output, target).sum.item() == pytest.approx(4 * expected.item())


def test_beta_rises_for_a_loop_that_adds_totals_too() -> None:
    output, target = example()
    loss = losses.create("elbo", warmup_steps=4)
    for _ in range(4):
        loss.total(output, target)
    torch.testing.assert_close(loss(output, target), loss.eval()(output, target))


def test_the_progress_of_the_warmup_survives_a_checkpoint() -> None:
    output, target = example()
    loss, other = (losses.create("elbo", warmup_steps=10) for _ in range(2))
    for _ in range(5):
        loss(output, target)
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other(output, target), copy.deepcopy(loss)(output, target))
    parts = loss.terms(output, target)
    torch.testing.assert_close(loss(output, target), parts["reconstruction"] + 0.5 * parts["divergence"])


def test_a_refused_batch_does_not_count_as_a_step() -> None:
    output, target = example()
    loss = losses.create("elbo", warmup_steps=10)
    with pytest.raises(InputError):
        loss(output, target[:, :1])
    parts = loss.terms(output, target)
    torch.testing.assert_close(loss(output, target), parts["reconstruction"])


def test_terms_are_detached_means_that_make_up_the_loss() -> None:
    output, target = example()
    leaves = VAEOutput(*(part.requires_grad_() for part in output))
    loss = losses.create("elbo", beta=3.0, capacity=0.5)
    terms = loss.terms(leaves, target)
    assert set(terms) == {"reconstruction", "divergence"}
    assert not any(term.requires_grad for term in terms.values())
    torch.testing.assert_close(terms["reconstruction"] + 3 * terms["divergence"], loss(leaves, target).detach())


def test_it_is_summed_over_the_event_and_averaged_over_the_batch() -> None:
    output, target = example(2)
    twice = VAEOutput(*(torch.cat([part, part], 1) for part in output))
    single, double = losses.create("elbo")(output, target), losses.create("elbo")(twice, torch.cat([target, target], 1))
    torch.testing.assert_close(double, 2 * single)
    longer = VAEOutput(*(torch.cat([part, part]) for part in output))
    torch.testing.assert_close(losses.create("elbo")(longer, torch.cat([target, target])), single)


def test_free_bits_give_no_gradient_below_their_level() -> None:
    output = VAEOutput(torch.zeros(1, 1), torch.tensor([[0.1, 3.0]]), torch.zeros(1, 2))
    value, gradient = backward(losses.create("elbo", free_bits=1.0), output, torch.ones(1, 1))
    assert value.item() == pytest.approx(math.log(2) + 1 + 4.5)
    assert gradient.mean.tolist() == [[0, 3]]


def test_capacity_pulls_from_both_sides() -> None:
    output = VAEOutput(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
    _, gradient = backward(losses.create("elbo", capacity=2.0, reduction="sum"), output, torch.ones(2, 1))
    assert gradient.mean.tolist() == [[-1], [3]]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weight_zero_hides_nan_in_every_part(reduction: str) -> None:
    output = VAEOutput(torch.zeros(2, 2), torch.tensor([[2.0], [0.0]]), torch.zeros(2, 1))
    output = VAEOutput(*(part.index_fill(0, torch.tensor([1]), torch.nan) for part in output))
    target = torch.tensor([[1.0, 0.0], [torch.nan, 0.0]])
    value, gradient = backward(
        losses.create("elbo", reduction=reduction), output, target, weight=torch.tensor([3.0, 0.0])
    )
    one = 2 * math.log(2) + 2
    torch.testing.assert_close(value, torch.tensor({"mean": one, "sum": 3 * one, "none": [3 * one, 0.0]}[reduction]))
    assert not any(part[1].any() for part in gradient)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_batch_is_zero_with_a_graph(dtype: torch.dtype) -> None:
    value, _ = backward(
        losses.create("elbo"), VAEOutput(*(torch.zeros(0, 3, dtype=dtype) for _ in range(3))), torch.zeros(0, 3)
    )
    assert value == 0


def test_weights_all_zero_is_zero_with_zero_gradient() -> None:
    output, target = example()
    value, gradient = backward(losses.create("elbo"), output, target, weight=torch.zeros(4))
    assert value == 0
    assert not any(part.any() for part in gradient)


def test_half_batches_over_their_number_give_the_whole_gradient() -> None:
    output, target = example(6)
    _, whole = backward(losses.create("elbo"), output, target)
    halves = [
        backward(losses.create("elbo"), VAEOutput(*(part[p] for part in output)), target[p], normalizer=6)[1]
        for p in (slice(0, 2), slice(2, 6))
    ]
    for parts, expected in zip(zip(*halves, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(parts), expected)


@pytest.mark.parametrize(
    ("output", "target", "words"),
    [
        (vae((2, 3), (2, 1), (2, 1)), torch.rand(2, 4), ["reconstruction", "(2, 3)", "(2, 4)"]),
        (
            vae((2, 3), (2, 1), (2, 2)),
            torch.rand(2, 3),
            ["mean", "log_variance", "(2, 1)", "(2, 2)"],
        ),
        (vae((2, 3), (3, 1), (3, 1)), torch.rand(2, 3), ["2 rows", "3"]),
        (vae((), (), ()), torch.rand(()), ["batch dimension", "unsqueeze(0)"]),
        (
            VAEOutput(torch.randn(2, 3), torch.randn(2, 1), torch.full((2, 1), torch.nan)),
            torch.rand(2, 3),
            ["log_variance", "NaN"],
        ),
        (vae((2, 3), (2, 1), (2, 1)), torch.full((2, 3), 255.0), ["target", "[0, 1]", "255"]),
        (vae((2, 3), (2, 1), (2, 1)), None, ["target", "None"]),
        (torch.randn(2, 3), torch.rand(2, 3), ["elbo", "VAEOutput", "(2, 3)"]),
        ((torch.randn(2, 3), torch.randn(2, 1)), torch.rand(2, 3), ["elbo", "VAEOutput", "tuple"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_batch_is_refused_with_what_came_and_the_fix(output: Any, target: Any, words: list[str]) -> None:
    with refused(words):
        losses.create("elbo")(output, target)


@pytest.mark.parametrize(
    ("reconstruction", "words"),
    [
        ("cross_entropy", ["reconstruction", "cross_entropy", "pointwise"]),
        ("triplet", ["reconstruction", "triplet", "pointwise"]),
        ({"name": "huber", "delt": 1.0}, ["reconstruction.delt", "delta"]),
        ({"name": "mse", "reduction": "sum"}, ["reconstruction.reduction", "sum"]),
        ("mze", ["reconstruction", "mze", "mse"]),
        (3, ["reconstruction", "3"]),
    ],
    ids=str,
)
def test_a_wrong_reconstruction_is_refused_with_its_path(reconstruction: Any, words: list[str]) -> None:
    with refused(words, ConfigError):
        losses.create("elbo", reconstruction=reconstruction)


class AsksForAutocast(losses.MSELoss):
    """Says whether autocast was on where items or their total were made."""

    def items(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.was_on = torch.is_autocast_enabled("cpu")
        return super().items(prediction, target)

    def fast_total(self, *batch: Any) -> losses.Total | None:
        self.was_on = torch.is_autocast_enabled("cpu")
        return super().fast_total(*batch)


def test_autocast_is_off_in_every_way_into_the_loss() -> None:
    nested = AsksForAutocast()
    loss = losses.ELBOLoss(reconstruction=nested)
    output = VAEOutput(torch.randn(3, 2), torch.randn(3, 2), torch.randn(3, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for way in (loss, loss.total, loss.terms):
            nested.was_on = True
            way(output, torch.rand(3, 2))
            assert not nested.was_on
