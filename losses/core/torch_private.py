"""The few private parts of torch that the package asks, and what it does where a version of torch lacks one.

Nothing else in the package names a private part. Where one is missing the answer is the careful one: the plain
composition in place of blocks, no values read, the public operation in place of the inner one, one function compiled
for all losses, of which torch.compile compiles eight.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from losses.core.device import on_cpu

F = TypeVar("F", bound=Callable[..., Any])

_transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active", None)
_keep_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
_is_batched = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", None)
_frames = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
_pdist_backward = getattr(torch.ops.aten, "_pdist_backward", None)
_set_execution = getattr(_frames, "set_code_exec_strategy", None)
_execution = getattr(_frames, "_FrameExecStrategy", None)
_action = getattr(_frames, "_FrameAction", None)
_reset_code = getattr(_frames, "reset_code", None)
any_autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)
"""Returns whether autocast may be on for some device; where torch does not tell, each device has to be asked."""


def transforms_are_active() -> bool:
    """Return whether ``torch.func`` is transforming what is called, or may be: then no value can be read, and only
    plain operations are understood."""
    return _transforms_are_active is None or bool(_transforms_are_active())


def functions_can_be_applied() -> bool:
    """Return whether ``torch.autograd.Function`` can be used: it asks for what is asked for here."""
    return _transforms_are_active is not None


def applied_outside_transforms(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Return ``function.apply`` without its look for transforms of ``torch.func``, where torch has it so: a tenth of
    what a function of few numbers costs. It may be called where none is active."""
    apply: Callable[..., Any] = getattr(super(torch.autograd.Function, function), "apply", function.apply)
    return apply


def graph_is_kept() -> bool:
    """Return whether the backward pass that runs may be run again, or torch does not tell: then nothing that was saved
    for it may be overwritten."""
    return _keep_graph is None or bool(_keep_graph())


def pdist_backward(gradient: Tensor, points: Tensor, distances: Tensor) -> Tensor:
    """Return the gradient of points ``(N, D)`` from one by ``torch.pdist`` of them."""
    if _pdist_backward is not None:
        of_points: Tensor = _pdist_backward.default(gradient, points, 2.0, distances)
        return of_points
    with torch.enable_grad():
        own = points.detach().requires_grad_()
        return torch.autograd.grad(torch.pdist(own), own, gradient)[0]


def is_batched_gradient(gradient: Tensor) -> bool:
    """Return whether a gradient stands, or may stand, for those of ``is_grads_batched``, which have no one value."""
    return _is_batched is None or bool(_is_batched(gradient))


def is_dispatched_to_python() -> bool:
    """Return whether somebody records or replaces the operations that are called, or may do so."""
    return _modes is None or _modes() > 0


def has_own_operations(tensor: Tensor) -> bool:
    """Return whether a tensor itself says what operations on it mean, as one without values does."""
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def may_read(tensor: Tensor) -> bool:
    """Return whether looking at values costs nothing: on a CPU where nobody traces or transforms what is done."""
    if not on_cpu(tensor) or is_compiling() or has_own_operations(tensor):
        return False
    return not (is_dispatched_to_python() or transforms_are_active())


def stepped_over(function: F) -> F:
    """Have torch.compile run a function as it is and compile what it calls, where it begins with it; what others
    compile takes the function in as ever."""
    if _set_execution is not None and _execution is not None and _action is not None:
        _set_execution(function.__code__, _execution(_action.SKIP, _action.DEFAULT))
    return function


def left_alone(function: F) -> F:
    """Have torch.compile run a function, and what it calls, as it is: ``torch.compiler.disable``, which imports the
    compiler for most of a second as soon as it is named."""
    function.__dict__["_torchdynamo_disable"] = True  # where somebody's function would take it in
    if _set_execution is not None and _execution is not None and _action is not None:
        _set_execution(function.__code__, _execution(_action.SKIP, _action.SKIP))
    return function


def forget_compiled(function: FunctionType) -> None:
    """Let go of what torch.compile made of a function, which would keep the function's code, and itself, for good."""
    if _reset_code is not None:
        _reset_code(function.__code__)


def operation(name: str, overload: str = "default") -> Callable[..., Any] | None:
    """Return the operation behind a function of ``torch.nn.functional``, without what that does before: it broadcasts,
    and hides what the operation tells beside its result."""
    return getattr(getattr(torch.ops.aten, name, None), overload, None)


def function_of_elements(name: str) -> Callable[..., Any] | None:
    """Return the function that ``torch.nn.functional`` calls after it broadcast, if torch has it: a call of
    :func:`operation` costs a little more."""
    return getattr(torch._C._nn, name, None)


def tangents_may_exist() -> bool:
    """Return whether a tensor may carry a tangent of forward-mode differentiation, or torch does not tell."""
    return bool(getattr(forward_ad, "_current_level", 0) >= 0)


def dispatch_mode() -> type[Any] | None:
    """Return the class whose ``__torch_dispatch__`` sees every operation, if torch has it."""
    try:
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        return None
    return TorchDispatchMode


def storage_reference(tensor: Tensor) -> Callable[[], bool]:
    """Return a function that tells whether the memory of a tensor is still in use, and keeps nothing alive itself;
    where torch does not tell, it never is."""
    try:
        from torch.multiprocessing.reductions import StorageWeakRef
    except ImportError:
        return lambda: False
    untyped: Any = StorageWeakRef  # as torch leaves it
    reference = untyped(tensor.untyped_storage())
    return lambda: not reference.expired()
