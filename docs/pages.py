"""Write what is derived from the registry: the README's table of losses and the package's typed exports.

``make pages`` runs this; ``tests/test_structure.py`` fails where a page is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from losses.configuration import available
from losses.core.registry import find

ROOT = Path(__file__).parent.parent


def table_of_losses() -> str:
    """Return the README's table: every loss, what it takes and what it is for."""
    lines = ["| name (aliases) | class | takes | for |", "|---|---|---|---|"]
    for name in available():
        spec = find(name)
        if spec.cls.__module__.startswith("losses."):
            aliases = f" ({', '.join(f'`{alias}`' for alias in spec.aliases)})" if spec.aliases else ""
            takes = "; or ".join(f"{kind.output} · {kind.target}" for kind in spec.inputs)
            lines.append(f"| `{name}`{aliases} | `{spec.cls.__name__}` | {takes} | {spec.suits} |")
    return "\n".join(lines)


def exports() -> str:
    """Return the import lines that editors and type checkers read."""
    classes = sorted((find(name).cls for name in available()), key=lambda cls: (cls.__module__, cls.__name__))
    # "as" makes each a re-export under strict typing; the last, empty line is the formatter's
    lines = [
        f"    from {cls.__module__} import {cls.__name__} as {cls.__name__}" for cls in classes if cls.__module__.startswith("losses.")
    ]
    return "\n".join([*lines, ""])


PAGES = {
    ROOT / "README.md": ("<!-- begin losses -->", table_of_losses, "<!-- end losses -->"),
    ROOT / "losses" / "__init__.py": ("    # begin exports", exports, "    # end exports"),
}


def written(page: Path) -> str:
    """Return a page with its derived part as it should be."""
    begin, derived, end = PAGES[page]
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{derived()}\n{match[2]}", page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path), encoding="utf-8")
