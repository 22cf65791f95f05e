"""``python -m benchmarks``: which benchmarks there are."""

import sys

from benchmarks.cases import metric, overhead, training
from benchmarks.harness import command_line

BENCHMARKS = {"overhead": overhead, "metric": metric, "training": training}


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status."""
    return command_line.run(BENCHMARKS, arguments)


if __name__ == "__main__":
    sys.exit(main())
