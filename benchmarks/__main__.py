"""``python -m benchmarks``: which benchmarks there are."""

import sys

from benchmarks.cases import (
    classification,
    distributed,
    divergence,
    generative,
    gradient_caching,
    gradients_over_ranks,
    metric,
    overhead,
    regression,
    training,
)
from benchmarks.harness import command_line
from benchmarks.harness.comparison.command import Family

FAMILIES = {
    cases.__name__.rpartition(".")[2]: Family(cases)
    for cases in (regression, classification, divergence, generative, metric)
}
BENCHMARKS: dict[str, command_line.Benchmark] = {
    **FAMILIES,
    "overhead": overhead,
    "training": training,
    "gradient_caching": gradient_caching,
    "distributed": distributed,
    "gradients_over_ranks": gradients_over_ranks,
}


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status."""
    return command_line.run(BENCHMARKS, sys.argv[1:] if arguments is None else arguments, families=FAMILIES)


if __name__ == "__main__":
    sys.exit(main())
