"""Wasserstein: scipy, the north-west corner rule, linear programs and matchings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
from torch import Generator, Tensor

from losses import Samples
from tests.oracles.case import Answer, OracleBatch, OracleCase, normal, positive
from tests.oracles.divergence.distributions import distributions


def samples(first: int, second: int, *leading: int, weighted: str = "") -> Callable[[Generator], OracleBatch]:
    """Return a drawer of samples on a line; those named in ``weighted`` carry weights that do not sum to 1."""

    def draw(random: Generator) -> OracleBatch:
        sides: list[Any] = []
        for name, size in (("output", first), ("target", second)):
            points: Any = normal(random, *leading, size)
            sides.append(Samples(points, positive(random, *leading, size)) if name in weighted else points)
        return OracleBatch(*sides)

    return draw


def as_samples(value: Any) -> tuple[Tensor, Tensor]:
    points, weights = value if isinstance(value, tuple) else (value, torch.ones_like(value))
    return points, weights / weights.sum(-1, keepdim=True)


def each(function: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    """Return a function of two weighted samples on one line as one of batches of them."""

    def call(output: Any, target: Any) -> Tensor:
        parts = (*as_samples(output), *as_samples(target))
        rows = zip(*(part.reshape(-1, part.shape[-1]) for part in parts), strict=True)
        return torch.stack([torch.as_tensor(function(*row), dtype=torch.float64) for row in rows]).reshape(
            parts[0].shape[:-1]
        )

    return call


def north_west(p: float, value: str = "distance") -> Callable[..., Tensor]:
    """Return W_p by the north-west corner rule: on a line, the leftmost mass goes to the leftmost place that is
    free."""

    def cost(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> Tensor:
        order, other = first.argsort(), second.argsort()
        left, right = list(first_mass[order]), list(second_mass[other])
        i = j = 0
        total = torch.zeros((), dtype=torch.float64)
        while i < len(left) and j < len(right):
            moved = torch.minimum(left[i], right[j])
            total = total + moved * (first[order[i]] - second[other[j]]).abs() ** p
            left[i], right[j] = left[i] - moved, right[j] - moved
            if left[i] <= right[j]:
                i += 1
            else:
                j += 1
        return total if value == "cost" else total ** (1 / p)

    return cost


def linear_program(p: float) -> Callable[..., float]:
    """Return W_p as the optimum over all couplings."""

    def distance(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
        a, u, b, v = (part.detach().numpy() for part in (first, first_mass, second, second_mass))
        costs = np.abs(a[:, None] - b[None, :]) ** p
        rows = np.kron(np.eye(len(a)), np.ones(len(b)))
        columns = np.kron(np.ones(len(a)), np.eye(len(b)))
        result = scipy.optimize.linprog(
            costs.ravel(), A_eq=np.vstack([rows, columns])[:-1], b_eq=np.concatenate([u, v])[:-1]
        )
        return float(result.fun ** (1 / p))

    return distance


def assignment(p: float) -> Callable[..., float]:
    """Return W_p of equally many equal weights as the best matching."""

    def distance(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
        costs = np.abs(first.detach().numpy()[:, None] - second.detach().numpy()[None, :]) ** p
        return float(costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / p))

    return distance


def scipy_wasserstein(first: Tensor, first_mass: Tensor, second: Tensor, second_mass: Tensor) -> float:
    a, u, b, v = (part.detach().numpy() for part in (first, first_mass, second, second_mass))
    return float(scipy.stats.wasserstein_distance(a, b, u, v))


def on_support(positions: list[float] | None, form: str, function: Callable[..., Any]) -> Answer:
    """Return a function of two weighted samples as one of two histograms."""

    def items(output: Tensor, target: Tensor) -> Tensor:
        support = torch.tensor(list(range(output.shape[-1])) if positions is None else positions, dtype=torch.float64)
        sides = [(support.expand_as(part), part.exp() if form == "logits" else part) for part in (output, target)]
        return each(function)(*sides)

    return items


POSITIONS = [2.0, -1.5, 0.0, 7.25, 3.0]
WASSERSTEIN = [
    *(
        OracleCase(f"scipy_{name}", draw, items=each(scipy_wasserstein), differentiable=False)
        for name, draw in (
            ("equal_sizes", samples(5, 5)),
            ("unequal_sizes", samples(5, 3)),
            ("weights", samples(5, 4, weighted="output target")),
            ("weights_of_target", samples(4, 4, weighted="target")),
            ("batches", samples(4, 3, 2, 3)),
        )
    ),
    *(
        OracleCase(f"{name}_p_{p:g}_{value}", draw, {"p": p, "value": value}, items=each(north_west(p, value)))
        for p in (1.0, 2.0, 3.0, 1.5)
        for value in ("distance", "cost")
        for name, draw in (
            ("equal_sizes", samples(5, 5, 2)),
            ("unequal_sizes", samples(5, 3, 2)),
            ("multiple_sizes", samples(6, 3)),
            ("weights", samples(5, 4, 2, weighted="output target")),
        )
    ),
    *(
        OracleCase(f"matching_p_{p:g}", samples(6, 6, 2), {"p": p}, items=each(assignment(p)), differentiable=False)
        for p in (1.0, 2.0, 3.0)
    ),
    *(
        OracleCase(
            f"linear_program_p_{p:g}",
            samples(4, 3, weighted="output target"),
            {"p": p},
            items=each(linear_program(p)),
            differentiable=False,
        )
        for p in (1.0, 2.0, 3.0)
    ),
    *(
        OracleCase(
            f"histogram_{form}_{'positions' if positions else 'plain'}_p_{p:g}_{value}",
            distributions(form, form),
            {"form": form, "p": p, "value": value} | ({"positions": positions} if positions else {}),
            items=on_support(positions, form, north_west(p, value)),
            tangent=True,
        )
        for form in ("probs", "logits")
        for positions in (None, POSITIONS)
        for p, value in ((1.0, "distance"), (2.0, "distance"), (3.0, "cost"))
    ),
    *(
        OracleCase(
            f"scipy_histogram_{name}",
            distributions("probs", "probs", 3, 5),
            {"form": "probs"} | ({"positions": positions} if positions else {}),
            items=on_support(positions, "probs", scipy_wasserstein),
            differentiable=False,
            tangent=True,
        )
        for name, positions in (("plain", None), ("positions", POSITIONS), ("sorted_positions", sorted(POSITIONS)))
    ),
    OracleCase(
        "cumulated_differences",
        distributions("logits", "logits", 2, 3, 5),
        {"form": "logits"},
        items=lambda o, t: (o.softmax(-1).cumsum(-1) - t.softmax(-1).cumsum(-1)).abs()[..., :-1].sum(-1),
    ),
    OracleCase(
        "linear_program_histogram",
        distributions("probs", "probs", 2, 5),
        {"form": "probs", "p": 2.0, "positions": POSITIONS},
        items=on_support(POSITIONS, "probs", linear_program(2.0)),
        differentiable=False,
        tangent=True,
    ),
]
