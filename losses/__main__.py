"""``python -m losses``: what there is, and where this package lies (a local ``losses.py`` would stand in front of
it)."""

import io
import sys
from pathlib import Path

import losses
from losses.core.registry import find


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what someone documents may not fit into the terminal's set
    print(f"losses, from {Path(losses.__file__).parent}\n")
    names = losses.available()
    width = max(map(len, names))
    for family in sorted({find(name).family for name in names}):
        print(family)
        for name in losses.available(family):
            spec = find(name)
            aliases = f" ({', '.join(spec.aliases)})" if spec.aliases else ""
            print(f"  {name:<{width}}  {spec.summary}{aliases}")
    print('\nlosses.describe("triplet") tells more of one; losses.create("triplet", margin=0.3) builds it.')


if __name__ == "__main__":
    main()
