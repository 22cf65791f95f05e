"""The contract of a loss as clauses that run: on every loss of this package, and on yours.

A clause is a small function whose documentation is the promise. It takes a :class:`Case`, one loss with batches drawn by
one of its kinds of input, and raises :class:`Broken` with what it saw. ``check_loss`` runs every clause on every case:
each kind of input, with the default parameters and with each option of each parameter.
"""

from __future__ import annotations

import copy
import inspect
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from losses.core.checks import checks
from losses.core.errors import ConfigError, InputError, suggestion
from losses.core.inputs import DISTRIBUTION_OBJECTS, EMBEDDINGS, Batch, Kind
from losses.core.laws import on_tensors
from losses.core.loss import Loss
from losses.core.parameters import Parameter, declared_once
from losses.core.reduction import mean_of, total_of
from losses.core.registry import build

SIZE = 8
WORKING_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Broken(AssertionError):  # noqa: N818  (a verdict, not a fault of the program)
    """A clause does not hold; the message is what was seen."""


class Verdict(NamedTuple):
    """What became of one clause."""

    clause: str
    outcome: Literal["kept", "broken", "declared"]
    seen: str


@dataclass(frozen=True)
class Report:
    """The verdicts of all clauses on one loss; ``str()`` of it is a table."""

    loss: str
    verdicts: tuple[Verdict, ...]

    @property
    def failures(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "broken")

    def raise_for_failures(self) -> None:
        """Raise an AssertionError that lists every broken clause, if there is one."""
        if self.failures:
            raise AssertionError(f"{self.loss} breaks {len(self.failures)} clauses:\n" + _table(self.failures))

    def __str__(self) -> str:
        return f"{self.loss}\n{_table(self.verdicts)}"


@dataclass(frozen=True)
class Case:
    """One loss, with one set of parameters, fed by one kind of input."""

    loss: Loss
    kind: Kind

    def batch(self, size: int = SIZE, dtype: torch.dtype = torch.float64, seed: int = 0) -> Batch:
        """Return a valid batch whose output requires grad; the values are the same in every dtype, up to rounding."""
        drawn = self.kind.draw(self.loss, size, torch.Generator().manual_seed(seed))
        return Batch(
            on_tensors(drawn.output, lambda t: t.detach().to(dtype).requires_grad_()),
            on_tensors(drawn.target, lambda t: t.detach().to(dtype)),
        )

    def with_reduction(self, reduction: str) -> Loss:
        loss = copy.deepcopy(self.loss)
        loss.reduction = reduction
        return loss

    def __str__(self) -> str:
        return f"{self.loss} on {self.kind}"


CLAUSES: dict[str, Callable[[Case], None]] = {}


def clause(check: Callable[[Case], None]) -> Callable[[Case], None]:
    """Register a clause under the name of its function."""
    CLAUSES[check.__name__] = check
    return check


def check_loss(loss: Loss | type[Loss] | str, *, clauses: Sequence[str] | None = None) -> Report:
    """Run the contract on a loss.

    Args:
        loss: a loss, its class or its name. A class or name is checked with every option of every parameter, an instance
            with its own parameters.
        clauses: names of the clauses to run, from ``losses.checking.CLAUSES``; by default all.

    Raises:
        ConfigError: a clause does not exist.

    >>> print(check_loss("mse", clauses=["config_round_trip", "empty_batch"]))
    mse
    config_round_trip  kept  create(loss.config()) is the same loss
    empty_batch        kept  an empty batch costs 0, with a graph and zero gradient
    """
    for name in clauses or ():
        if name not in CLAUSES:
            raise ConfigError(f"there is no clause {name!r}.{suggestion(name, CLAUSES)}")
    cases = list(cases_of(loss))
    verdicts = tuple(_verdict(CLAUSES[name], name, cases) for name in clauses or CLAUSES)
    return Report(cases[0].loss.spec.name, verdicts)


def cases_of(loss: Loss | type[Loss] | str) -> Iterator[Case]:
    """Return the cases a loss is checked on."""
    if isinstance(loss, Loss):
        variants = [loss]
    else:
        cls = type(build(loss)) if isinstance(loss, str) else loss
        variants = [cls(**options) for options in options_of(declared_once(cls.__init__))]
    for variant in variants:
        for kind in variant.spec.inputs:
            if kind is not DISTRIBUTION_OBJECTS:  # objects of torch.distributions are no tensors to cast, permute or compile
                yield Case(variant, kind)


def options_of(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Return the default parameters, and one set for each option of each parameter that has named options."""
    yield {}
    for parameter in parameters:
        literal = get_origin(parameter.annotation) is Literal
        options = get_args(parameter.annotation) if literal else (True, False) if parameter.annotation is bool else ()
        for option in options:
            if option != parameter.default and parameter.name != "reduction":
                yield {parameter.name: option}


# --- averaging -----------------------------------------------------------------------------------------------------------


@clause
def reductions_agree(case: Case) -> None:
    """the three reductions, total and normalizer agree"""
    batch = case.batch()
    total = case.loss.total(*batch)
    items = case.with_reduction("none")(*batch)
    _same("sum of 'none' against 'sum'", items.sum(), case.with_reduction("sum")(*batch))
    _same("'sum' against total", total.sum.sum(), case.with_reduction("sum")(*batch))
    _same("'mean' against total", mean_of(total), case.with_reduction("mean")(*batch))
    _same("normalizer=2 against half the sum", case.with_reduction("mean")(*batch, normalizer=2), total.sum.sum() / 2)
    _same("normalizer=0", case.with_reduction("mean")(*batch, normalizer=0), torch.zeros(()))


@clause
def weight_of_one_changes_nothing(case: Case) -> None:
    """a weight of 1 for everything is no weight, a weight of 2 is twice the sum"""
    batch = case.batch()
    weight = _weight_for(case, torch.ones(SIZE, dtype=torch.float64))
    if weight is not None:
        _same("weight=1", case.loss(*batch, weight=weight), case.loss(*batch))
        _same("weight=2, mean", case.loss(*batch, weight=2 * weight), case.loss(*batch))
        summed = case.with_reduction("sum")
        _same("weight=2, sum", summed(*batch, weight=2 * weight), 2 * summed(*batch))


@clause
def weights_agree(case: Case) -> None:
    """with weights too, the three reductions and total agree"""
    batch = case.batch()
    weight = _weight_for(case, torch.linspace(0, 2, SIZE, dtype=torch.float64))
    if weight is not None:
        total = case.loss.total(*batch, weight=weight)
        items = case.with_reduction("none")(*batch, weight=weight)
        _same("sum of 'none' against 'sum'", items.sum(), case.with_reduction("sum")(*batch, weight=weight))
        _same("'sum' against total", total.sum.sum(), case.with_reduction("sum")(*batch, weight=weight))
        _same("'mean' against total", mean_of(total), case.with_reduction("mean")(*batch, weight=weight))


@clause
def zero_weight_hides(case: Case) -> None:
    """what has weight 0 changes nothing, in value or gradient, even where it is NaN"""
    weight = _weight_for(case, (torch.arange(SIZE) != 2).double())
    if weight is None or case.kind is EMBEDDINGS:  # there a sample is also its neighbours' positive or negative
        return
    batch = case.batch()
    poisoned = Batch(*(on_tensors(part, _poison) for part in batch))
    value, gradients = _value_and_gradients(case.loss, batch, weight=weight)
    other, others = _value_and_gradients(case.loss, poisoned, weight=weight)
    _same("value with NaN at weight 0", other, value)
    for gradient, expected in zip(others, gradients, strict=True):
        _same("gradient with NaN at weight 0", gradient, expected)
        _same("gradient of what has weight 0", gradient[2], torch.zeros_like(gradient[2]))


@clause
def all_weights_zero(case: Case) -> None:
    """where everything has weight 0 the loss is 0, with zero gradient"""
    weight = _weight_for(case, torch.zeros(SIZE, dtype=torch.float64))
    if weight is not None:
        _is_zero(case.loss, case.batch(), weight=weight)


@clause
def halves_make_the_whole(case: Case) -> None:
    """with normalizer= two half batches give the value and gradient of the whole batch"""
    if case.kind is EMBEDDINGS or case.loss.spec.name == "circle":  # their items are made from the whole batch
        return
    batch = case.batch()
    whole, gradients = _value_and_gradients(case.loss, batch)
    weight = case.loss.total(*batch).weight
    halves = [rows_of(batch, slice(0, 3)), rows_of(batch, slice(3, None))]
    parts = [_value_and_gradients(case.loss, half, normalizer=weight) for half in halves]
    _same("sum over halves", parts[0][0] + parts[1][0], whole)
    for first, second, expected in zip(parts[0][1], parts[1][1], gradients, strict=True):
        _same("gradients of halves", torch.cat([first, second]), expected)


@clause
def definition_equals_fast_path(case: Case) -> None:
    """the sum over items, the definition, is the total that is computed"""
    batch = case.batch()
    accepted = case.kind.accept(case.loss, *batch)
    items = case.loss.items(*accepted)
    by_definition = total_of(items, None, case.loss.mass(items, *accepted))
    total = case.loss.total(*batch)
    _same("sum", total.sum.sum(), by_definition.sum)
    if not isinstance(total.weight, Tensor) or not total.weight.ndim:  # a sum of several means has several weights
        _same("mean", mean_of(total), mean_of(by_definition))


# --- edges ---------------------------------------------------------------------------------------------------------------


@clause
def empty_batch(case: Case) -> None:
    """an empty batch costs 0, with a graph and zero gradient"""
    for dtype in WORKING_DTYPES:
        _is_zero(case.loss, case.batch(0, dtype))


@clause
def one_item(case: Case) -> None:
    """a batch of one has a finite value and gradient"""
    for dtype in WORKING_DTYPES:
        _is_finite(case.loss, case.batch(1, dtype))


@clause
def equal_points(case: Case) -> None:
    """where all samples are equal, value and gradient are finite"""
    for dtype in WORKING_DTYPES:
        batch = case.batch(dtype=dtype)
        _is_finite(case.loss, Batch(on_tensors(batch.output, lambda t: t.detach()[:1].expand_as(t).clone().requires_grad_()), batch.target))


@clause
def half_precision(case: Case) -> None:
    """half precision is accumulated in float32: the result is float32, and as exact as its inputs allow"""
    for dtype in (torch.bfloat16, torch.float16):
        batch = case.batch(dtype=dtype)
        exact = case.loss(*(on_tensors(part, lambda t: t.double()) for part in batch))
        value, gradients = _value_and_gradients(case.loss, batch)
        if value.dtype is not torch.float32:
            raise Broken(f"{dtype} gives a {value.dtype}")
        if not torch.allclose(value.double(), exact, rtol=1e-4, atol=1e-5):
            raise Broken(f"{value.item()} in {dtype}, {exact.item()} in float64 on the same numbers")
        for gradient in gradients:
            if gradient.dtype is not dtype or not bool(gradient.isfinite().all()):
                raise Broken(f"gradient in {gradient.dtype}, finite: {bool(gradient.isfinite().all())}")


@clause
def autocast(case: Case) -> None:
    """under autocast the loss is computed in float32"""
    batch = case.batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.loss(*batch)
    if inside.dtype is not torch.float32:
        raise Broken(f"{inside.dtype} under autocast")
    _same("under autocast", inside, case.loss(*batch))


# --- derivatives ---------------------------------------------------------------------------------------------------------


@clause
def first_derivative(case: Case) -> None:
    """gradients equal finite differences in float64"""
    _differentiate(case, torch.autograd.gradcheck)


@clause
def second_derivative(case: Case) -> None:
    """second derivatives equal finite differences in float64"""
    _differentiate(case, torch.autograd.gradgradcheck)


# --- transforms ----------------------------------------------------------------------------------------------------------


@clause
def compiles(case: Case) -> None:
    """torch.compile(fullgraph=True) gives the value and gradient of eager mode"""
    torch.compiler.reset()
    batch = case.batch(dtype=torch.float32)
    value, gradients = _value_and_gradients(case.loss, batch)
    compiled = torch.compile(case.loss, fullgraph=True, backend="aot_eager", dynamic=False)
    other, others = _value_and_gradients(compiled, batch)
    _same("compiled", other, value, 1e-5)
    for gradient, expected in zip(others, gradients, strict=True):
        _same("compiled gradient", gradient, expected, 1e-5)


@clause
def func_grad(case: Case) -> None:
    """torch.func.grad gives the gradient of autograd"""
    batch = case.batch()
    _, gradients = _value_and_gradients(case.loss, batch)
    leaves, rebuild = _leaves(batch.output)
    results = torch.func.grad(lambda tensors: case.loss(rebuild(tensors), batch.target))(leaves)
    for gradient, expected in zip(results, gradients, strict=True):
        _same("torch.func.grad", gradient, expected)


@clause
def func_vmap(case: Case) -> None:
    """torch.func.vmap over a batch of problems gives each problem's value"""
    problems = [case.batch(seed=seed) for seed in range(3)]
    split = [_leaves(problem.output) for problem in problems]
    rebuild = split[0][1]
    stacked = [torch.stack(column) for column in zip(*(leaves for leaves, _ in split), strict=True)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # sorting has no rule of its own in torch
        values = torch.func.vmap(lambda *tensors: case.loss(rebuild(list(tensors)), problems[0].target))(*stacked)
    expected = torch.stack([case.loss(problem.output, problems[0].target) for problem in problems])
    _same("torch.func.vmap", values, expected)


# --- invariances ---------------------------------------------------------------------------------------------------------


@clause
def order_of_the_batch(case: Case) -> None:
    """the order of the samples does not matter"""
    batch = case.batch()
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    turned = Batch(*(on_any_tensor(part, lambda t: t[order]) for part in batch))
    _same("permuted", case.loss(*turned), case.loss(*batch))


@clause
def memory_layout(case: Case) -> None:
    """tensors that are not contiguous give the same loss"""
    batch = case.batch()

    def strided(tensor: Tensor) -> Tensor:
        apart = torch.stack([tensor, tensor], -1)[..., 0]
        return apart.mT.contiguous().mT if tensor.ndim > 1 else apart

    _same("not contiguous", case.loss(*(on_any_tensor(part, strided) for part in batch)), case.loss(*batch))


@clause
def inputs_stay_untouched(case: Case) -> None:
    """inputs are never modified"""
    batch = case.batch()
    before = [tensor.clone() for part in batch for tensor in _tensors(part)]
    case.loss(*batch).backward()
    for tensor, copied in zip([tensor for part in batch for tensor in _tensors(part)], before, strict=True):
        if not torch.equal(tensor, copied):
            raise Broken("an input changed")


@clause
def no_synchronisation(case: Case) -> None:
    """after the first batch no value of a tensor is read, which would make a GPU wait"""
    batch = case.batch()
    case.loss(*batch)
    with _Synchronisations() as seen:
        case.loss(*batch).backward()
    if seen.calls:
        raise Broken(f"reads values with {', '.join(sorted(set(seen.calls)))}")


# --- state and configuration ---------------------------------------------------------------------------------------------


@clause
def config_round_trip(case: Case) -> None:
    """create(loss.config()) is the same loss"""
    again = build(case.loss.config())
    if type(again) is not type(case.loss) or again.config() != case.loss.config():
        raise Broken(f"{case.loss.config()} became {again.config()}")
    batch = case.batch()
    _same("value", again(*batch), case.loss(*batch), 0)


@clause
def copies(case: Case) -> None:
    """deepcopy, pickle and state_dict keep the loss"""
    batch, file = case.batch(), io.BytesIO()
    value = case.loss(*batch)
    torch.save(case.loss.state_dict(), file)
    file.seek(0)
    loaded = build(case.loss.config())
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for again in (copy.deepcopy(case.loss), pickle.loads(pickle.dumps(case.loss)), loaded):
        _same("value of a copy", again(*batch), value, 0)


@clause
def bad_parameters(case: Case) -> None:
    """a parameter that is not what its annotation says, or unknown, raises a ConfigError that names it"""
    cls = type(case.loss)
    names = [parameter.name for parameter in declared_once(cls.__init__)]
    for name in [*names, "no_such_parameter"]:
        for value in (math.nan, object(), {"no": "such"}, "no such option", -math.inf):
            try:
                cls(**{name: value})
            except ConfigError as error:
                if name not in str(error):
                    raise Broken(f"{name}={value!r}: the message does not name it: {error}") from None
            else:
                raise Broken(f"{name}={value!r} is accepted")


@clause
def bad_batches(case: Case) -> None:
    """NaN on the first batch, integers, a missing target or something else than tensors raise an InputError"""
    batch = case.batch()
    wrong = {
        "NaN": Batch(on_tensors(batch.output, _poison), batch.target),
        "integers": Batch(on_tensors(batch.output, lambda t: t.detach().long()), batch.target),
        "a string": Batch("output", batch.target),
        "one dimension more": Batch(on_tensors(batch.output, lambda t: t[None]), batch.target),
    }
    for name, bad in wrong.items():
        fresh = build(case.loss.config())
        try:
            with checks("first"):
                fresh(*bad)
        except InputError:
            continue
        raise Broken(f"{name} instead of the output is accepted")


# --- what the clauses are written with -----------------------------------------------------------------------------------


class _Synchronisations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Record the operations that need a tensor's values on the host."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING or (name.startswith("index") and any(_is_mask(arg) for arg in args)):
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


def _is_mask(arg: object) -> bool:
    return isinstance(arg, list | tuple) and any(isinstance(index, Tensor) and index.dtype is torch.bool for index in arg)


def _verdict(check: Callable[[Case], None], name: str, cases: Sequence[Case]) -> Verdict:
    sentence = (inspect.getdoc(check) or "").strip()
    if name in cases[0].loss.exceptions:
        return Verdict(name, "declared", f"{sentence}: not so, {cases[0].loss.exceptions[name]}")
    for case in cases:
        try:
            check(Case(copy.deepcopy(case.loss), case.kind))
        except Exception as error:  # whatever a loss does wrong is a verdict, not the end of the report
            text = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            return Verdict(name, "broken", f"{sentence}: not so for {case}: {' '.join(text.split())[:400]}")
    return Verdict(name, "kept", sentence)


def _table(verdicts: Sequence[Verdict]) -> str:
    names, outcomes = (max(len(verdict[column]) for verdict in verdicts) for column in (0, 1))
    return "\n".join(f"{verdict.clause:<{names}}  {verdict.outcome:<{outcomes}}  {verdict.seen}" for verdict in verdicts)


def _same(what: str, got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    got, expected = got.detach().double(), expected.detach().double()
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        raise Broken(f"{what}: {got.tolist()}, expected {expected.tolist()}")


def on_any_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a change to every tensor of an output or target, labels included."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, tuple):
        make: Any = type(part)
        return make(*(on_any_tensor(inner, change) for inner in part))
    return part


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some samples of a batch."""
    return Batch(*(on_any_tensor(part, lambda tensor: tensor[rows]) for part in batch))


def _tensors(part: Any) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part]
    return [tensor for inner in part for tensor in _tensors(inner)] if isinstance(part, tuple) else []


def _leaves(output: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any]]:
    """Return an output's tensors as fresh leaves, and how to put tensors in their place."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in _tensors(output)]

    def rebuild(tensors: Sequence[Tensor]) -> Any:
        remaining = iter(tensors)
        return on_any_tensor(output, lambda _: next(remaining))

    return leaves, rebuild


def _value_and_gradients(loss: Callable[..., Tensor], batch: Batch, **options: Any) -> tuple[Tensor, list[Tensor]]:
    leaves, rebuild = _leaves(batch.output)
    value = loss(rebuild(leaves), batch.target, **options)
    if not value.requires_grad:
        raise Broken("the result has no graph")
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    return value, [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, gradients, strict=True)]


def _is_finite(loss: Loss, batch: Batch, **options: Any) -> None:
    value, gradients = _value_and_gradients(loss, batch, **options)
    if not all(bool(tensor.isfinite().all()) for tensor in (value, *gradients)):
        raise Broken(f"value {value.tolist()}, gradients {[gradient.tolist() for gradient in gradients]} in {gradients[0].dtype}")


def _is_zero(loss: Loss, batch: Batch, **options: Any) -> None:
    value, gradients = _value_and_gradients(loss, batch, **options)
    for tensor in (value, *gradients):
        _same("value and gradients", tensor, torch.zeros_like(tensor), 0)


def _poison(tensor: Tensor) -> Tensor:
    changed = tensor.detach().clone()
    if changed.ndim:
        changed[2 % len(changed)] = math.nan
    return changed


def _weight_for(case: Case, weight: Tensor) -> Tensor | None:
    """Return one weight per sample, or None where a loss makes a single item of the whole batch."""
    items = case.with_reduction("none")(*case.batch())
    return None if items.shape == (1,) else weight


def _differentiate(case: Case, check: Callable[..., bool]) -> None:
    for seed in range(2):
        batch = case.batch(5, seed=seed)
        leaves, rebuild = _leaves(batch.output)
        with checks("never"):  # finite differences leave the simplex that probabilities are checked to lie in
            check(lambda *tensors: case.loss(rebuild(tensors), batch.target), tuple(leaves), atol=1e-5)  # noqa: B023
