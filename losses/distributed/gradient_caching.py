"""Gradient caching: the exact gradient of a batch whose network would not fit into memory (Gao et al. 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from losses.core.checks import shown
from losses.core.errors import ConfigError, InputError, quoted
from losses.core.outputs import map_tensors, tensors_in


class GradientCaching(nn.Module):
    """An encoder that goes through a batch in chunks, and keeps the graph of one chunk at a time.

    A loss that compares the samples of a batch needs the embeddings of all of them at once, but not the network's
    graph. The forward pass embeds chunk by chunk without one; the loss makes a gradient for every embedding, which is
    what is cached; the backward pass embeds each chunk again, with a graph, and sends its part of the gradient through.
    Memory is that of a chunk, time that of one more forward pass, and values and gradients are those of the whole batch
    to rounding, whatever the loss. This is what exact accumulation means where samples are compared with one another.

    Random numbers, as of dropout, are drawn again as they were, and buffers, as the running statistics of batch
    normalisation, change in the first pass only and are replayed from copies in the second. Batch normalisation in
    training mode normalises by the chunk, not by the batch: with it the gradient is exact for what was computed, but
    that is not what the whole batch in one piece would have made.

    Everything around it stays as it is: autocast, ``torch.amp.GradScaler``, several encoders or calls before one
    backward, and under ``torch.no_grad()`` it embeds in chunks. A parameter gets its gradient once, when all chunks
    have made their part, so that ``DistributedDataParallel(GradientCaching(encoder, chunk_size=256))`` exchanges it
    once, and :class:`losses.distributed.GlobalBatch` makes the loss of all ranks of it. It cannot be differentiated
    twice.

    Args:
        encoder: a module that makes of ``N`` samples a tensor of ``N`` rows, or a tuple of such, as ``losses.Pairs``.
            Each sample has to be embedded by itself.
        chunk_size: how many samples go through the encoder at once.

    Shapes:
        Every tensor that it is called with, by position or by name, has the samples first: ``(N, ...)``. Other
        arguments go to each chunk as they are.

    Raises:
        ConfigError: the encoder is no module or is distributed already, or the size is no positive integer.
        InputError: the tensors differ in length, or the encoder makes other rows than it was given.

    >>> import losses
    >>> encoder = GradientCaching(torch.nn.Linear(3, 2), chunk_size=4)
    >>> embeddings = encoder(torch.randn(10, 3))  # 4, 4 and 2 samples
    >>> losses.create("triplet")(embeddings, torch.arange(10) // 2).backward()
    >>> encoder.encoder.weight.grad.shape
    torch.Size([2, 3])
    """

    def __init__(self, encoder: nn.Module, *, chunk_size: int) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise ConfigError(
                f"GradientCaching takes a torch.nn.Module, got {quoted(encoder)}: its parameters get the gradient"
            )
        if any(isinstance(module, DistributedDataParallel) for module in encoder.modules()):
            raise ConfigError(
                "the encoder is wrapped in DistributedDataParallel, which would exchange gradients for every chunk; "
                "write DistributedDataParallel(GradientCaching(encoder, chunk_size=...))"
            )
        if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
            raise ConfigError(f"chunk_size: got {quoted(chunk_size)}, expected an integer of at least 1")
        self.encoder = encoder
        self.chunk_size = chunk_size

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]  # torch leaves it untyped
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the encoder makes of all samples."""
        arguments = (inputs, tuple(named.values()))
        tensors = tensors_in(arguments)
        require_samples(tensors)
        chunks = Chunks(self.encoder, self.chunk_size, arguments, tuple(named), len(tensors))
        parameters = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        made = InChunks.apply(chunks, *tensors, *parameters)  # type: ignore[no-untyped-call, unused-ignore]  # torch leaves it untyped
        return filled(chunks.output, made)

    def extra_repr(self) -> str:
        return f"chunk_size={self.chunk_size}"


class Chunks:
    """One pass of an encoder over a batch in chunks, and all that it takes to do the same again.

    Args:
        encoder: what makes rows of samples.
        size: how many samples go through it at once.
        arguments: by position and by name, of which only the tensors are cut.
        names: of the arguments by name.
        inputs: how many tensors there are among the arguments.
    """

    def __init__(self, encoder: nn.Module, size: int, arguments: Any, names: tuple[str, ...], inputs: int) -> None:
        self.encoder, self.size, self.names, self.inputs = encoder, size, names, inputs
        self._arguments = emptied(arguments)
        keeps_state = encoder.training and torch.is_grad_enabled()
        self._buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()} if keeps_state else {}
        self._random: list[RandomState] = []
        self.output: Any = None

    def first(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return all rows, made without a graph."""
        self._devices = {tensor.device for tensor in (*tensors, *self.encoder.parameters())}
        self._autocast = [autocast_of(kind) for kind in {device.type for device in self._devices}]
        parts = []
        for chunk in self._cut(tensors):
            self._random.append(random_state(self._devices))
            # what autocast keeps of weights without a graph must not serve those who need one
            with self._as_before(cache=False):
                output = self._called(chunk, {})
            require_rows(output, len(chunk[0]))
            parts.append(tensors_in(output))
        self.output = emptied(output)
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def again(self, tensors: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Yield, chunk by chunk, the rows with their graph, and the leaves of the samples that it begins with."""
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        with contextlib.ExitStack() as stack:
            for device in self._devices:
                if device.type != "cpu":
                    stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
            stack.enter_context(torch.random.fork_rng([]))
            for state, chunk in zip(self._random, self._cut(tensors), strict=True):
                leaves = [part.detach().requires_grad_(part.requires_grad) for part in chunk]
                state.restore()
                with torch.enable_grad(), self._as_before():
                    rows = tensors_in(self._called(leaves, buffers))
                yield rows, leaves

    def _called(self, chunk: Sequence[Tensor], buffers: dict[str, Tensor]) -> Any:
        inputs, named = filled(self._arguments, chunk)
        keywords = dict(zip(self.names, named, strict=True))
        if buffers:
            return functional_call(self.encoder, buffers, inputs, keywords)
        return self.encoder(*inputs, **keywords)

    def _cut(self, tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(torch.split(tensor, self.size) for tensor in tensors), strict=True)

    @contextlib.contextmanager
    def _as_before(self, *, cache: bool = True) -> Iterator[None]:
        """Put autocast into the state that it had when the batch came."""
        with contextlib.ExitStack() as stack:
            for autocast in self._autocast:
                stack.enter_context(torch.autocast(**autocast, cache_enabled=cache))
            yield


class InChunks(torch.autograd.Function):
    """The rows of all samples: parameters and samples are its inputs, so that each gets its gradient once."""

    @staticmethod
    def forward(ctx: Any, chunks: Chunks, *tensors: Tensor) -> tuple[Tensor, ...]:
        rows = chunks.first(tensors[: chunks.inputs])
        ctx.chunks = chunks
        ctx.save_for_backward(*tensors)  # which finds out if one is changed in between
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(part for part in rows if not part.is_floating_point()))
        return rows

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]  # torch leaves it untyped
    def backward(ctx: Any, *cached: Tensor | None) -> tuple[Tensor | None, ...]:
        count = ctx.chunks.inputs
        tensors, parameters = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        needed = ctx.needs_input_grad[1:]
        asked = [parameter for parameter, wants in zip(parameters, needed[count:], strict=True) if wants]
        sums: list[Tensor | None] = [None] * len(asked)
        of_samples: list[list[Tensor]] = [[] for _ in tensors]
        start = 0
        for rows, leaves in ctx.chunks.again(tensors):
            begun = [leaf for leaf in leaves if leaf.requires_grad]
            made = gradients_of_chunk(rows, cached, start, [*asked, *begun])
            sums = [added(total, part) for total, part in zip(sums, made[: len(asked)], strict=True)]
            parts = iter(made[len(asked) :])
            for leaf, collected in zip(leaves, of_samples, strict=True):
                if leaf.requires_grad:
                    part = next(parts)
                    collected.append(torch.zeros_like(leaf) if part is None else part)
            start += len(rows[0])
        remaining = iter(sums)
        of_parameters = (next(remaining) if wants else None for wants in needed[count:])
        return None, *(torch.cat(parts) if parts else None for parts in of_samples), *of_parameters


def gradients_of_chunk(
    rows: Sequence[Tensor], cached: Sequence[Tensor | None], start: int, leaves: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Return what the rows of a chunk send back to its leaves, by the cached gradient of all rows."""
    pairs = [
        (part, whole[start : start + len(part)])
        for part, whole in zip(rows, cached, strict=True)
        if whole is not None and part.requires_grad
    ]
    if not pairs or not leaves:
        return [None] * len(leaves)
    made, gradients = zip(*pairs, strict=True)
    return torch.autograd.grad(made, leaves, gradients, allow_unused=True)


def added(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total + part


class RandomState(NamedTuple):
    """The state of the generators of torch, by device."""

    of_cpu: Tensor
    of_devices: list[tuple[torch.device, Tensor]]

    def restore(self) -> None:
        """Draw from here on what was drawn then."""
        torch.set_rng_state(self.of_cpu)
        for device, state in self.of_devices:
            torch.get_device_module(device).set_rng_state(state, device)


def random_state(devices: set[torch.device]) -> RandomState:
    others = [device for device in devices if device.type not in ("cpu", "meta")]
    states = [(device, torch.get_device_module(device).get_rng_state(device)) for device in others]
    return RandomState(torch.get_rng_state(), states)


def autocast_of(device: str) -> dict[str, Any]:
    """Return how autocast is set for a type of device, as arguments of ``torch.autocast``."""
    return {
        "device_type": device,
        "enabled": torch.is_autocast_enabled(device),
        "dtype": torch.get_autocast_dtype(device),
    }


def emptied(part: Any) -> Any:
    """Return arguments or outputs without what their tensors hold: how they are put together."""
    return map_tensors(part, lambda tensor: tensor.new_empty(0))


def filled(part: Any, tensors: Sequence[Tensor]) -> Any:
    """Return arguments or outputs with tensors in place of those that they are put together of."""
    remaining = iter(tensors)
    return map_tensors(part, lambda _: next(remaining))


def require_samples(tensors: Sequence[Tensor]) -> None:
    """Raise unless there is something to cut into chunks, and all of it has the same length."""
    if not tensors:
        raise InputError("GradientCaching cuts tensors (N, ...) into chunks, and got none; pass them as arguments")
    if any(not tensor.ndim for tensor in tensors) or len({len(tensor) for tensor in tensors}) > 1:
        raise InputError(
            f"tensors of one batch must have its samples first, got {', '.join(shown(tensor) for tensor in tensors)}; "
            "what is no sample belongs to the encoder, as a number or an attribute of it"
        )


def require_rows(output: Any, count: int) -> None:
    """Raise unless an encoder has made a row of every sample."""
    rows = tensors_in(output)
    if not rows:
        raise InputError(f"the encoder must return a tensor or a tuple of tensors, got {shown(output)}")
    for part in rows:
        if not part.ndim or len(part) != count:
            raise InputError(
                f"the encoder was given {count} samples and returned {shown(part)}; it must make one row of each, and "
                "of several views a tuple such as losses.Pairs(first, second)"
            )
