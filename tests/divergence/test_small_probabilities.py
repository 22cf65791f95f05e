"""Probabilities from a softmax, down to where it rounds them to 0: gradients of its logits are finite, and right as
long as the probability has its digits."""

from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from tests.ops.tile_cases import without_torchs_own_remarks

LARGEST_GAP = {torch.float64: 800, torch.float32: 200, torch.bfloat16: 200, torch.float16: 40}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
TARGETS = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
WAYS = [
    *(
        ("kl", {"output_form": "probs", "direction": direction, "temperature": temperature})
        for direction in ("forward", "reverse")
        for temperature in (0.5, 1.0, 4.0, 20.0)
    ),
    ("js", {"output_form": "probs"}),
    ("js", {"output_form": "probs", "mixture": 0.01}),
    *(("wasserstein", {"form": "probs", "p": p}) for p in (1.0, 2.0)),
]
each_way = pytest.mark.parametrize(("name", "parameters"), WAYS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", LARGEST_GAP, ids=str)


def logits_of(gap: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor([[gap, 0.0, gap / 2]], dtype=dtype, requires_grad=True)


def all_gaps(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return logits ``(N, 3)`` of every gap with every target."""
    gaps = [0, *range(5, LARGEST_GAP[dtype], 1 if dtype is torch.float16 else 3)]
    logits = torch.cat([logits_of(gap, dtype) for gap in gaps for _ in TARGETS]).detach().requires_grad_()
    return logits, torch.tensor(TARGETS, dtype=dtype).repeat(len(gaps), 1)


@each_way
@each_dtype
def test_logits_behind_a_softmax_get_finite_first_and_second_derivatives(
    name: str, parameters: dict[str, Any], dtype: torch.dtype
) -> None:
    forms: list[dict[str, str]] = [{}]
    if name != "wasserstein":
        forms = [{"target_form": form} for form in ("probs", "log_probs")]
    for form in forms:
        logits, target = all_gaps(dtype)
        target = (target.log() if form.get("target_form") == "log_probs" else target).requires_grad_()
        value = losses.create(name, **parameters, **form, reduction="none")(logits.softmax(-1), target)
        gradients = torch.autograd.grad(value.sum(), (logits, target), create_graph=True)
        change = (gradients[0] * torch.tensor([1.0, -0.5, 2.0], dtype=dtype)).sum()
        (second,) = torch.autograd.grad(change, logits)
        for result in (value, *gradients, second):
            assert result.isfinite().all(), logits[~result.reshape(len(logits), -1).isfinite().all(1)]


@pytest.mark.parametrize(("name", "parameters"), [way for way in WAYS if way[0] != "wasserstein"], ids=str)
@each_dtype
def test_the_gradient_is_that_of_the_logits_as_long_as_probabilities_are_normal_numbers(
    name: str, parameters: dict[str, Any], dtype: torch.dtype
) -> None:
    parameters = {**parameters, "reduction": "sum"}
    of_logits = losses.create(name, **{**parameters, "output_form": "logits"})
    smallest = torch.finfo(dtype).tiny
    logits, target = all_gaps(dtype)
    output = logits.softmax(-1)
    of_probs, found = torch.autograd.grad(losses.create(name, **parameters)(output, target), (output, logits))
    (expected,) = torch.autograd.grad(of_logits(logits, target), logits)
    normal = output.amin(1) >= smallest
    held = of_probs.abs().amax(1) >= 1 / smallest  # temperature multiplies gradients
    assert normal.sum() >= len(TARGETS) * 5
    assert not held[normal & ~torch.tensor(parameters.get("temperature", 1) > 1)].any()
    # which the softmax multiplies by the probabilities and takes the mean off: of this much, digits remain
    size = (output * of_probs).double().abs().sum(1, keepdim=True).clamp(min=1)
    kept = normal & ~held
    torch.testing.assert_close((found / size)[kept], (expected / size)[kept], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_second_derivatives_are_those_of_the_logits_where_one_over_p_squared_overflows(temperature: float) -> None:
    """1 / p^2 leaves float32 at a gap of 44."""
    for gap in (20.0, 44.0, 60.0, 80.0):
        of_each = []
        for form in ("probs", "logits"):
            logits = logits_of(gap, torch.float32)
            loss = losses.create("kl", output_form=form, temperature=temperature)
            value = loss(logits.softmax(-1) if form == "probs" else logits, torch.tensor([[0.25, 0.25, 0.5]]))
            (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
            of_each.append(torch.autograd.grad((gradient * torch.tensor([1.0, -0.5, 2.0])).sum(), logits)[0])
        torch.testing.assert_close(*of_each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_gap_that_was_reported_is_finite_and_points_the_right_way(dtype: torch.dtype) -> None:
    logits = torch.tensor([[95.0 if dtype is torch.float32 else 12.0, 0.0]], dtype=dtype, requires_grad=True)
    losses.create("kl", output_form="probs")(logits.softmax(-1), torch.tensor([[0.5, 0.5]], dtype=dtype)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]


@each_dtype
def test_a_probability_gets_the_steepest_gradient_that_its_dtype_holds_and_a_zero_none(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).tiny
    output = torch.tensor([[1.0, smallest / 8], [1.0, smallest], [1.0, 0.0]], dtype=dtype, requires_grad=True)
    target = torch.tensor([[0.5, 0.5]] * 3, dtype=dtype)
    losses.create("kl", output_form="probs", reduction="sum")(output, target).backward()
    assert output.grad is not None
    assert output.grad[:, 1].tolist() == [-1 / smallest, -0.5 / smallest, 0]


@each_dtype
def test_what_overflows_from_above_is_infinite_where_the_probability_is_not_small(dtype: torch.dtype) -> None:
    """Whoever scales a loss looks for infinities to find that the scale was too large."""
    output = torch.tensor([[0.25, 0.75]], dtype=dtype, requires_grad=True)
    value = losses.create("kl", output_form="probs")(output, torch.tensor([[0.5, 0.5]], dtype=dtype))
    (gradient,) = torch.autograd.grad(value, output, value.new_tensor(torch.finfo(dtype).max))
    assert gradient[0, 0] == -torch.inf


def test_under_autocast_a_softmax_of_half_precision_is_in_single() -> None:
    logits = torch.tensor([[60.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = losses.create("kl", output_form="probs")(logits.softmax(-1), torch.tensor([[0.5, 0.5]]))
    value.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.5, -0.5], rel=1e-2)


@without_torchs_own_remarks
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_transforms_and_compilers_get_finite_gradients_too(dtype: torch.dtype) -> None:
    loss = losses.create("kl", output_form="probs")
    target = torch.tensor([[0.25, 0.25, 0.5]], dtype=dtype)

    def of_logits(logits: Tensor) -> Tensor:
        return loss(logits.softmax(-1), target)

    with losses.checks("never"):
        compiled = torch.compile(of_logits, fullgraph=True, backend="aot_eager")
        for gap in (5.0, 8.0, 12.0, 16.0, 20.0, 80.0, 95.0):
            logits = logits_of(gap, dtype)
            (expected,) = torch.autograd.grad(of_logits(logits), logits)
            transformed = torch.func.grad(of_logits)(logits.detach())
            torch.testing.assert_close(transformed, expected, rtol=0, atol=0)
            assert torch.func.jacrev(torch.func.jacrev(of_logits))(logits.detach()).isfinite().all()
            (found,) = torch.autograd.grad(compiled(logits), logits)
            assert found.isfinite().all()
            if logits.softmax(-1).amin() >= torch.finfo(dtype).tiny:
                torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["probs", "log_probs", "logits"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_temperature_is_applied_after_the_floor(direction: str, form: str, dtype: torch.dtype) -> None:
    """By hand: the 0 counts as the smallest normal number, to the power 1 / T; a 0 of the one that weighs stays 0."""
    zero, some = torch.tensor([[0.75, 0.25, 0.0, 0.0]], dtype=dtype), torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=dtype)
    weighing, other = (some, zero) if direction == "forward" else (zero, some)
    output, target = (zero, some) if form == "probs" else (zero.log(), some.log())
    for temperature in (1.0, 2.0, 20.0):
        loss = losses.create("kl", output_form=form, target_form=form, direction=direction, temperature=temperature)
        t = weighing.double() ** (1 / temperature)
        floor = torch.finfo(dtype).tiny ** (1 / temperature)
        o = torch.where((other == 0) & (weighing > 0), floor, other.double() ** (1 / temperature))
        t, o = t / t.sum(), (o / o.sum() if temperature != 1 else o)
        expected = temperature**2 * torch.where(t > 0, t * (t / o.masked_fill(o == 0, 1)).log(), 0).sum()
        assert loss(output, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_at_any_temperature_a_probability_rounded_to_zero_lies_near_its_neighbours() -> None:
    """A softmax in float32 gives 1e-45 at a gap of 103, and 0 at 104."""
    for temperature in (1.0, 2.0, 20.0):
        loss = losses.create("kl", output_form="probs", temperature=temperature)
        kept, lost = (
            loss(torch.tensor([[gap, 0.0]]).softmax(-1), torch.tensor([[0.5, 0.5]])).item() for gap in (103.0, 105.0)
        )
        assert lost == pytest.approx(kept, rel=0.25)
