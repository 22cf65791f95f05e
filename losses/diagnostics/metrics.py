"""What all metrics share: which embeddings they take, and how they print."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from torch import Tensor

from losses.core.checks import (
    require_between,
    require_dense,
    require_finite,
    require_floating,
    require_integer,
    require_rank,
    require_same_length,
    require_tensor,
)
from losses.core.errors import ConfigError, quoted, suggestion
from losses.core.parameters import LARGEST, Distance
from losses.core.precision import accumulated


def accepted_embeddings(**named: Tensor) -> tuple[Tensor, ...]:
    """Return embeddings ``(N, D)`` without their graph, in the precision to accumulate in, or raise an InputError."""
    require_tensor(**named)
    require_dense(**named)
    require_rank(2, "(N, D)", **named)
    require_floating(**named)
    require_finite(**named)
    embeddings = {name: accumulated(tensor.detach()) for name, tensor in named.items()}
    require_between(
        -LARGEST, LARGEST, "their squares would overflow, so divide all of them by a constant", **embeddings
    )
    return tuple(embeddings.values())


def accepted_labels(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return labels ``(N,)`` on the device of the embeddings, or raise an InputError."""
    require_tensor(labels=labels)
    require_rank(1, "(N,)", labels=labels)
    require_integer(labels=labels)
    require_same_length(embeddings=embeddings, labels=labels)
    return labels.to(embeddings.device).long()


def require_distance(distance: object) -> None:
    known = get_args(Distance)
    if distance not in known:
        raise ConfigError(
            f"distance: got {quoted(distance)}, expected one of {', '.join(known)}.{suggestion(distance, known)}"
        )


def printed(metrics: NamedTuple) -> str:
    """Return metrics with four digits, as tensors print; the fields hold all of them."""
    fields = ", ".join(f"{name}={rounded(value)}" for name, value in metrics._asdict().items())
    return f"{type(metrics).__name__}({fields})"


def rounded(value: Any) -> str:
    """Return one metric, or metrics by what they are at, with four digits.

    >>> rounded({1: 2 / 3, 2: 1.0})
    '{1: 0.6667, 2: 1}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {rounded(part)}" for key, part in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
