"""Jensen-Shannon: two relative entropies by a loop, and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from torch import Tensor

from tests.oracles.case import Answer, OracleCase, numpied
from tests.oracles.divergence.distributions import FORMS, against_zeros, as_probs, distributions, relative_entropy_loop


def js_loop(output: str = "logits", target: str = "probs", mixture: float = 0.5) -> Answer:
    """Lin 1991, eq. 4.1: the entropy of the mixture above the mixture of the entropies, as two divergences."""

    def items(first: Tensor, second: Tensor) -> Tensor:
        o, t = as_probs(first, output), as_probs(second, target)
        middle = (1 - mixture) * o + mixture * t
        return (1 - mixture) * relative_entropy_loop(o, middle) + mixture * relative_entropy_loop(t, middle)

    return items


def js_by_entropies(logits: np.ndarray, target: np.ndarray, mixture: float = 0.3) -> np.ndarray:
    probs = scipy.special.softmax(logits, axis=-1)
    entropy = [scipy.stats.entropy(p, axis=-1) for p in ((1 - mixture) * probs + mixture * target, probs, target)]
    return entropy[0] - (1 - mixture) * entropy[1] - mixture * entropy[2]


def scipy_js(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return scipy.spatial.distance.jensenshannon(scipy.special.softmax(logits, axis=-1), target, axis=-1) ** 2


JS_DIVERGENCE = [
    *(
        OracleCase(
            f"{output}_against_{target}_mixture_{mixture}",
            distributions(output, target),
            {"output_form": output, "target_form": target, "mixture": mixture},
            items=js_loop(output, target, mixture),
        )
        for output, target in itertools.product(FORMS, FORMS)
        for mixture in (0.5, 0.2)
    ),
    OracleCase("leading_dimensions", distributions("logits", "probs", 2, 3, 4), items=js_loop()),
    OracleCase("scipy", distributions("logits", "probs"), items=numpied(scipy_js), differentiable=False, tangent=True),
    OracleCase("scipy_zeros", against_zeros, items=numpied(scipy_js), differentiable=False),
    OracleCase(
        "scipy_entropies",
        distributions("logits", "probs"),
        {"mixture": 0.3},
        items=numpied(js_by_entropies),
        differentiable=False,
        tangent=True,
    ),
]
