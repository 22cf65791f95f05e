"""The page of what was seen on a GPU: the contract there, and times beside the peers', from what
``python -m tools.contract_on_gpu`` and ``python -m benchmarks --device cuda --json`` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tools.performance_page import RESULTS, results

FAMILIES = ("regression", "classification", "divergence", "generative", "metric")
WAYS = """
Nothing is written for one kind of GPU. Where no CPU computes, an operation is a launch, of some 10 us with autograd,
and a value that is read has to be waited for; so what is chosen there differs in a few places
(`losses/core/device.py`):

- No value is read after the first batch, by which it is inspected, but of a miner's `indices=`, which are looked at on
  every call. A test has every loss run with `torch.cuda.set_sync_debug_mode("error")`.
- Batches of up to 4096 embeddings (2^24 pairs) are looked at in one piece, with the gradient by hand, as those of up to
  128 are on a CPU: at 4096 it took about as much memory as blocks did, and half to a fifth of their time. Distances are
  made in float64, so that near points are told apart without looking, and kept in float32 where they are more than
  2^20. Points in float64 themselves are compared by the plain composition.
- All triplets: of up to 128 the cube of them; beyond, what an anchor is compared with is sorted, and the hinge of its
  triplets counted, since how many positives it has may not be read. With a soft margin or with `swap` it is the cube
  again, in pieces of 2^26 elements.
- Larger batches go in blocks of 2^23 elements, and not of 2^17 to 2^20: 32 MiB for each buffer of a block.
- Sums over elements and rows are made in one piece, value and slope together, where a CPU takes blocks that stay in its
  cache. `LinearLogits` takes 2^24 logits at a time (256 rows at least), and fewer as the two lines one writes do.
- Semi-hard triplets are summed in more operations than on a CPU, and in blocks.

What falls short: the rows below 1. Up to a million numbers a step's time is the host's, of its launches, which
`tests/accelerator/test_launches.py` counts beside the peer's, and of the Python before them: checks, and weights of 0
that hide NaN. Beyond 4096 embeddings nobody knows how many positives an anchor has, as that may not be read, and they
are gathered among all.

`tests/accelerator` counts launches on any machine, and compares values, gradients and waiting where there is a GPU.
"""


def on_a_gpu() -> str:
    """Return the page."""
    lines = ["# On a GPU", "", "Written by `make pages` from what was measured on one; no test here needs it."]
    lines += [WAYS.rstrip(), "", *contract()]
    measured = [name for name in FAMILIES if (RESULTS / f"{name}-cuda.json").exists()]
    if measured:
        lines += ["", *times(measured)]
    return "\n".join([*lines, ""])


def contract() -> Iterator[str]:
    """Yield what became of the contract."""
    found = results("contract-cuda")
    outcomes, broken = found["outcomes"], found["broken"]
    only_here = [each for each in broken if each["on_the_cpu"] != "broken"]
    yield "## The contract"
    yield ""
    yield (
        f"{len(found['losses'])} losses on {where(found)}, in the precisions of [support.md](support.md): "
        f"{outcomes.get('kept', 0)} kept, {outcomes.get('declared', 0)} declared, {len(only_here)} broken there alone, "
        f"{len(broken) - len(only_here)} broken by that version of torch on the CPU of the same machine too "
        "(the package asks for torch 2.13). Left out are the clauses on `torch.compile` and `torch.export`: what they "
        "trace is the plain composition."
    )
    yield ""
    yield "Run again with `python -m tools.contract_on_gpu`. Broken there alone:"
    yield ""
    for clause in dict.fromkeys(each["clause"] for each in only_here):
        seen = [f"`{each['loss']}` ({seen_of(each)})" for each in only_here if each["clause"] == clause]
        yield f"- `{clause}`: {', '.join(seen)}{REASONS.get(clause, '')}"
    if not only_here:
        yield "- nothing."


REASONS = {
    "settings_do_not_matter": ". The clause sets `torch.set_float32_matmul_precision`, by which the caller has "
    "products in TF32 on a GPU: those of similarities and of the linear layer of `LinearLogits`, not distances.",
    "no_synchronisation": ". The copy of the loss that the check put on the GPU looked at its batch anew, which was "
    "mended since; the test that asks CUDA itself found nothing that waits.",
}
"""Why something is so, where it is known."""


def seen_of(broken: dict[str, Any]) -> str:
    """Return what was seen of a broken clause, without what it promises."""
    seen: str = broken["seen"]
    return seen.rpartition(": ")[2]


def times(names: Sequence[str]) -> Iterator[str]:
    """Yield a table of all rows that were measured."""
    yield "## Times"
    yield ""
    yield (
        f"On {where(results(f'{names[0]}-cuda'))}, one host thread, forward and backward, between two events; MiB: "
        "`torch.cuda.max_memory_allocated` of a step. More than 1 is faster than the peer. Each loss was equal to its "
        "peer, in value and gradient, before it was timed; most rows below a millisecond are the host's time to launch."
    )
    yield ""
    yield "| case | peer | ours, ms | peer, ms | peer / ours | ours, MiB | peer, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        for row in results(f"{name}-cuda")["rows"]:
            if row["peer_over_ours"] is not None:
                yield row_of(row)


def row_of(row: dict[str, Any]) -> str:
    """Return a measured case as a row of the table."""
    milliseconds, memory = row["milliseconds"], row["memory"]
    numbers = [f"{milliseconds[side]:.3g}" for side in ("ours", "peer")]
    extra = [f"{memory[side] / 2**20:.3g}" if side in memory else "" for side in ("ours", "peer")]
    ratio = f"{row['peer_over_ours']['median']:.2f}"
    return f"| {row['name']} | {row['peer']} | {' | '.join([*numbers, ratio, *extra])} |"


def where(found: dict[str, Any]) -> str:
    """Return the device and the version of torch of a measurement."""
    return f"one {found['device']} with torch {found['versions']['torch']}"
