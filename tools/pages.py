"""Write what is derived from the registry and from the contract: tables in the README, typed exports, the pages of
``docs/``.

``make pages`` runs this as ``python -m tools.pages``; ``tests/project/test_structure.py`` fails where a page is stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from losses.choosing import heading
from losses.configuration import available
from losses.core.fits import TASKS
from losses.core.registry import Spec, find
from tools import concepts_pictures
from tools.choosing_page import choosing, made_for, measured_order, titled
from tools.contract_pages import peers, support
from tools.gpu_page import on_a_gpu
from tools.performance_page import families, performance, picture_of, picture_path, results
from tools.performance_pictures import memory_picture
from tools.ranks_page import gradients_over_ranks
from tools.scaling_page import scaling

ROOT = Path(__file__).parent.parent


def table_of_losses() -> str:
    """Return the README's tables: every loss under the first task it is made for, what it takes and what it is for."""
    lines = []
    for task in TASKS:
        specs = [spec for spec, fits in made_for(task) if fits.task[0] == task]
        if specs:
            lines += [f"### [{titled(task)}](docs/choosing.md#{heading(task)})", ""]
            lines += ["| name (aliases) | class | takes | for |", "|---|---|---|---|", *map(row_of, specs), ""]
    return "\n".join(lines[:-1])


def row_of(spec: Spec) -> str:
    """Return the row of a loss, whose name leads to its place on the page about choosing."""
    name = f"[`{spec.name}`](docs/choosing.md#{spec.name})"
    aliases = f" ({', '.join(f'`{alias}`' for alias in spec.aliases)})" if spec.aliases else ""
    takes = "; or ".join(f"{kind.output_text} · {kind.target_text}" for kind in spec.inputs)
    literal = takes.replace("*", r"\*")  # a shape, and no emphasis
    return f"| {name}{aliases} | `{spec.cls.__name__}` | {literal} | {spec.suits} |"


def exports() -> str:
    """Return the import lines that editors and type checkers read."""
    classes = sorted((find(name).cls for name in available()), key=lambda cls: (cls.__module__, cls.__name__))
    # "as" makes each a re-export under strict typing; the last, empty line is the formatter's
    lines = [exported(cls) for cls in classes if cls.__module__.startswith("losses.")]
    return "\n".join([*lines, ""])


def exported(cls: type) -> str:
    """Return the import line of a class, as the formatter breaks it."""
    line = f"    from {cls.__module__} import {cls.__name__} as {cls.__name__}"
    if len(line) <= 120:
        return line
    return f"    from {cls.__module__} import (\n        {cls.__name__} as {cls.__name__},\n    )"


def between(begin: str, derived: Callable[[], str], end: str) -> Callable[[str], str]:
    """Return a function that renews what stands between two marks of a text."""
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    return lambda text: pattern.sub(lambda match: f"{match[1]}{derived()}\n{match[2]}", text)


def concept(name: str) -> Callable[[str], str]:
    """Return a function that draws a picture of the page of concepts."""
    return lambda _: concepts_pictures.picture(name)


PAGES: dict[Path, Callable[[str], str]] = {
    ROOT / "README.md": between("<!-- begin losses -->", table_of_losses, "<!-- end losses -->"),
    ROOT / "losses" / "__init__.py": between("    # begin exports", exports, "    # end exports"),
    ROOT / "losses" / "choosing.py": between("    # begin measured", measured_order, "    # end measured"),
    ROOT / "docs" / "choosing.md": lambda _: choosing(),
    ROOT / "docs" / "support.md": lambda _: support(),
    ROOT / "docs" / "peers.md": lambda _: peers(),
    ROOT / "docs" / "performance.md": lambda _: performance(),
    ROOT / "docs" / "gpu.md": lambda _: on_a_gpu(),
    ROOT / "docs" / "scaling.md": lambda _: scaling(),
    ROOT / "docs" / "gradients_over_ranks.md": lambda _: gradients_over_ranks(),
    **{picture_path(name): partial(picture_of, name) for name in families()},
    ROOT / "docs" / "pictures" / "memory.svg": lambda _: memory_picture(results("metric")),
    **{concepts_pictures.picture_path(name): concept(name) for name in concepts_pictures.PICTURES},
}


def written(page: Path) -> str:
    """Return a page as it should be."""
    return PAGES[page](page.read_text(encoding="utf-8") if page.exists() else "")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for path in PAGES:
        path.parent.mkdir(exist_ok=True)
        path.write_text(written(path), encoding="utf-8")
