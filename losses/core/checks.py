"""Checks of a batch: ``require_*`` raise an :class:`InputError` that says what came, what was expected and the fix.

Shapes and dtypes are checked on every call, at no cost worth measuring. Values (labels in range, probabilities that sum
to 1, NaN) are read on the first batch of a loss only, because reading a tensor's value makes a GPU wait.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Literal, get_args

import torch
from torch import Tensor

from losses.core.errors import ConfigError, InputError, suggestion
from losses.core.torch_private import transforms_are_active

CheckMode = Literal["first", "always", "never"]
_mode: CheckMode = "first"
ROUNDING = 1e-2  # by which probabilities and their sum may be off, as they are in half precision


class checks:  # noqa: N801  (a function to its users; a class so that it can also stand in a with statement)
    """Choose when losses read the values of a batch: on the ``"first"`` batch of each loss, ``"always"`` or
    ``"never"``.

    It takes effect at once; used in a ``with`` statement, the former choice returns at its end.

    >>> with checks("never"):
    ...     pass
    """

    def __init__(self, mode: CheckMode) -> None:
        global _mode
        if mode not in get_args(CheckMode):
            raise ConfigError(
                f"checks: got {mode!r}, expected 'first', 'always' or 'never'.{suggestion(mode, get_args(CheckMode))}"
            )
        self._former = _mode
        _mode = mode

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _mode
        _mode = self._former


def values_are_due(seen: bool) -> bool:
    """Return whether a loss that has ``seen`` a batch before reads the values of this one, outside of torch.compile."""
    if _mode == "never" or (seen and _mode == "first"):
        return False
    return not transforms_are_active()


def require_nothing_more(surplus: tuple[object, ...], keywords: str = "weight=..., normalizer=...") -> None:
    """Raise if a loss was given more by position than it takes so; ``keywords`` is what it takes by name."""
    if surplus:
        raise InputError(
            f"a loss takes the output and the target by position, got {shown(surplus[0])} after them; pass it by name: "
            f"{keywords}"
        )


def require_tensor(**tensors: object) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} must be a tensor, got {shown(value)}; pass a torch.Tensor")


def require_floating(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating_point:
            raise InputError(f"{name} must be floating point, got {shown(tensor)}; convert it with {name}.float()")


def require_integer(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            raise InputError(
                f"{name} must be integers or booleans, got {shown(tensor)}; convert them with {name}.long()"
            )


def require_same_shape(**tensors: Tensor) -> None:
    """Raise unless all tensors have one shape; nothing in this package is broadcast."""
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise InputError(
                f"{first_name} has shape {tuple(first.shape)} and {name} has shape {tuple(tensor.shape)}; they must "
                "be the same"
                f"{_reshaping(first_name, first, name, tensor)}"
            )


def require_rank(rank: int, meaning: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim != rank:
            less = f"add the missing dimension with {name}.unsqueeze(-1)"
            fix = less if tensor.ndim < rank else f"make it fewer with {name}.flatten or .squeeze"
            raise InputError(
                f"{name} must have {rank} dimension{'s' if rank != 1 else ''} {meaning}, got {shown(tensor)}; {fix}"
            )


def require_same_length(**tensors: Tensor) -> None:
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape[0] != first.shape[0]:
            raise InputError(
                f"{first_name} holds {first.shape[0]} rows and {name} holds {tensor.shape[0]}; "
                "there must be one for each, so slice or repeat one of them"
            )


def require_no_nan(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating_point and bool((missing := tensor.float().isnan()).any()):
            count = int(missing.sum())
            raise InputError(
                f"{name} must be numbers, got NaN in {count} of {tensor.numel()} elements {shown(tensor)}; "
                "mask missing values with a weight of 0, or look for the step that made them"
            )


def require_finite(**tensors: Tensor) -> None:
    require_no_nan(**tensors)
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1 and bool(tensor.isinf().any()):
            raise InputError(
                f"{name} must be finite, got {tensor[tensor.isinf()][0].item()} in {shown(tensor)}; "
                "clamp it, or look for the step that made it"
            )


def require_logits(dim: int, **tensors: Tensor) -> None:
    """Raise unless the tensors are logits: -inf says that an outcome is impossible, but some outcome must be
    possible."""
    require_no_nan(**tensors)
    for name, tensor in tensors.items():
        if tensor.numel() and not bool(tensor.amax(dim).isfinite().all()):
            worst = tensor.amax(dim)
            raise InputError(
                f"{name} must be below inf and above -inf for at least one outcome, got a largest of "
                f"{worst[~worst.isfinite()][0].item()} along dimension {dim} of {shown(tensor)}; clamp them"
            )


def require_real(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.is_complex:
            raise InputError(
                f"{name} must be real, got complex numbers in {shown(tensor)}; convert it with {name}.real or "
                f"{name}.abs()"
            )


def require_dense(**parts: object) -> None:
    """Raise for sparse and nested tensors, in a tuple too."""
    for name, part in parts.items():
        for tensor in part if isinstance(part, tuple) else (part,):
            if isinstance(tensor, Tensor) and (tensor.layout is not torch.strided or tensor.is_nested):
                raise InputError(
                    f"{name} must be a dense tensor, got the layout {tensor.layout}; convert it with {name}.to_dense()"
                )


def require_same_device(**tensors: object) -> None:
    """Raise unless all values that are tensors lie on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    (first_name, first), *others = devices.items() or [("", None)]
    for name, device in others:
        if device != first:
            raise InputError(
                f"{first_name} lies on {first} and {name} on {device}; they must be together, write "
                f"{name}.to({first_name}.device)"
            )


def beside(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """Return a tensor on the device of another, or raise where it has no values that could be moved there."""
    if tensor.is_meta and not like.is_meta:
        raise InputError(
            f"{name} lies on the meta device, which holds no values; the embeddings lie on {like.device}, make it "
            "there too"
        )
    return tensor if tensor.device == like.device else tensor.to(like.device)


def require_between(low: float, high: float, fix: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        outside = (tensor < low) | (tensor > high)
        if bool(outside.any()):
            raise InputError(f"{name} must lie in [{low:g}, {high:g}], got {tensor[outside][0].item():g}; {fix}")


def require_same_or_different(target: Tensor) -> None:
    """Raise unless every entry says that a pair is the same (1 or True) or different (0, -1 or False)."""
    if target.dtype is torch.bool:
        return
    wrong = (target != 0) & (target != 1) & (target != -1)
    if bool(wrong.any()):
        raise InputError(
            f"a pair is the same (1 or True) or different (0, -1 or False), got {target[wrong][0].item():g}; "
            "compare the labels first: first_labels == second_labels"
        )


def require_distributions(dim: int, **tensors: Tensor) -> None:
    """Raise unless the entries along ``dim`` are at least 0 and sum to 1, within what the dtype can hold."""
    for name, tensor in tensors.items():
        outside = (tensor < -ROUNDING) | (tensor > 1 + ROUNDING)
        if bool(outside.any()):
            raise InputError(
                f"{name} must be probabilities in [0, 1], got {tensor[outside][0].item():g}; apply softmax, or "
                "declare what they are"
            )
        if tensor.numel() == 0:
            continue
        sums = tensor.sum(dim)
        worst = sums.flatten()[(sums - 1).abs().argmax()].item()
        if abs(worst - 1) > ROUNDING:
            raise InputError(
                f"{name} must sum to 1 along dimension {dim}, got a sum of {worst:g} in {shown(tensor)}; "
                f"divide by {name}.sum({dim}, keepdim=True), or declare what they are"
            )


def looks_like_probabilities(logits: Tensor, dim: int) -> bool:
    """Return whether every row of what should be logits lies in [0, 1] and sums to 1: a softmax was applied already."""
    if logits.numel() == 0 or logits.shape[dim] < 2:
        return False
    inside = (logits >= 0).all() & (logits <= 1).all()
    return bool(inside & ((logits.sum(dim) - 1).abs() < 1e-3).all())


def warn_of_sigmoid(logits: Tensor) -> None:
    """Warn if many binary logits all lie in [0, 1] and some are large: only a sign of a sigmoid, so not an error."""
    if logits.numel() < 32 or not bool(
        ((logits >= 0) & (logits <= 1)).all() & (logits > 0.5).any() & (logits < 0.5).any()
    ):
        return
    warnings.warn(
        f"all {logits.numel()} logits lie in [0, 1], as if a sigmoid had been applied; remove it, this loss takes "
        "logits",
        stacklevel=5,
    )


def shown(value: object) -> str:
    """Return a short description of a value for an error message.

    >>> shown(torch.zeros(3, 1))
    '(3, 1) float32'
    """
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple):
        names = getattr(value, "_fields", [""] * len(value))
        parts = (f"{name} {shown(part)}".strip() for name, part in zip(names, value, strict=True))
        return f"{type(value).__name__}({', '.join(parts)})"
    return f"{value!r}" if value is None or isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def _reshaping(first_name: str, first: Tensor, name: str, other: Tensor) -> str:
    if first.ndim == other.ndim + 1 and first.shape[-1] == 1 and first.shape[:-1] == other.shape:
        return f"; write {first_name}.squeeze(-1)"
    if other.ndim == first.ndim + 1 and other.shape[-1] == 1 and other.shape[:-1] == first.shape:
        return f"; write {name}.squeeze(-1)"
    if first.numel() == other.numel():
        return f"; write {name}.reshape_as({first_name})"
    return " (nothing is broadcast)"
