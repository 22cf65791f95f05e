"""docs/concepts.md and README.ja.md: their code runs, their links lead somewhere, and no loss is left out.

That the pictures are current is asked of all generated pages, in ``test_structure.py``.
"""

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import losses
from losses.core.registry import PENALTIES, find
from tools import concepts_pictures as pictures
from tools.concepts_fits import fitted_l1, fitted_l2

ROOT = Path(__file__).parents[2]
CONCEPTS, JAPANESE = ROOT / "docs" / "concepts.md", ROOT / "README.ja.md"
TEXT = CONCEPTS.read_text(encoding="utf-8")
TABLE = [line for line in TEXT.partition("## Glossary")[2].splitlines() if line.startswith("|")]
GLOSSARY = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE[2:]]
"""Its rows: English, Japanese, losses, sections."""
OURS = {name for name in losses.available() if find(name).cls.__module__.startswith("losses.")} | set(PENALTIES)
IN_JAPANESE = re.compile("[\u3041-\u30ff\u4e00-\u9fff]")


@pytest.mark.parametrize(("page", "least"), [(CONCEPTS, 45), (JAPANESE, 5)], ids=lambda value: str(value))
def test_the_code_of_a_page_runs(page: Path, least: int) -> None:
    results = doctest.testfile(str(page), module_relative=False)
    assert results.failed == 0
    assert results.attempted >= least


def test_the_configuration_of_the_japanese_page_is_read(tmp_path: Path) -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", JAPANESE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "config.yaml"
    file.write_text(written, encoding="utf-8")
    output = {"logits": torch.zeros(4, 3), "image": torch.zeros(4, 2)}
    target = {"label": torch.tensor([0, 1, 2, 0]), "image": torch.ones(4, 2)}
    found = losses.load(file, key="loss")(output, target)
    torch.testing.assert_close(found, torch.tensor(3.0).log() + 2)


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page in links."""
    code = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    text = code.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", [CONCEPTS, JAPANESE, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert len(links) > 10
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {link}"


def test_every_picture_is_shown_and_described() -> None:
    shown = {path: text for text, path in re.findall(r"!\[(.*?)\]\(concepts/(\w+)\.svg\)", TEXT)}
    assert set(shown) == set(pictures.PICTURES) == {path.stem for path in pictures.FOLDER.iterdir()}
    assert all(len(text) > 40 for text in shown.values())


def linked(cells: str) -> dict[str, str]:
    """Return the losses that a cell links to, and where."""
    return dict(re.findall(r"\[`(\w+)`\]\(([^)]+)\)", cells))


def file_of(name: str) -> str:
    """Return the file of a loss or penalty, from the root of the repository."""
    cls = PENALTIES[name] if name in PENALTIES else find(name).cls
    return f"{cls.__module__.replace('.', '/')}.py"


def test_every_loss_is_in_the_glossary_under_a_name_of_its_own() -> None:
    rows = [linked(row[2]) for row in GLOSSARY]
    for name in sorted(OURS):
        links = [row[name] for row in rows if name in row]
        assert links, f"the glossary of docs/concepts.md has no row for {name}"
        assert set(links) == {f"../{file_of(name)}"}
        assert any(set(row) == {name} for row in rows), f"{name} has no row of its own"
    assert {name for row in rows for name in row} <= OURS


def test_every_loss_is_chosen_in_some_case_but_penalties_and_what_wraps_another() -> None:
    choosing = TEXT.partition("## 10. Choosing")[2].partition("## Glossary")[0]
    assert OURS - set(re.findall(r"`(\w+)`", choosing)) == {*PENALTIES, "memory_bank"}


def test_the_japanese_page_lists_every_loss() -> None:
    links = linked(JAPANESE.read_text(encoding="utf-8"))
    assert links == {name: file_of(name) for name in OURS}


def terms() -> Iterator[tuple[str, str]]:
    """Yield each English term of the page with each of its Japanese ones."""
    for english, in_brackets in re.findall(r"\*\*([^*]+)\*\*\s+\(([^)]*)\)", TEXT):
        for japanese in re.split(r",\s+(?:also\s+)?", in_brackets):
            if IN_JAPANESE.search(japanese):
                yield " ".join(english.split()), " ".join(japanese.split())


def test_the_glossary_is_sorted_and_holds_every_term_that_the_page_translates() -> None:
    assert [row[0] for row in GLOSSARY] == sorted((row[0] for row in GLOSSARY), key=str.lower)
    assert all(len(row) == 4 and IN_JAPANESE.search(row[1]) and row[3] for row in GLOSSARY)
    translated = {row[0].lower(): row[1].split("\u3001") for row in GLOSSARY}
    found = list(terms())
    assert len(found) > 60
    for english, japanese in found:
        row = next((name for name in (english.lower(), english.lower().removesuffix("s")) if name in translated), None)
        assert row is not None, f"{english} has no row"
        assert japanese in translated[row], f"the row of {english} does not say {japanese}"


def test_both_pages_call_things_alike() -> None:
    known = {japanese.replace(" ", "") for row in GLOSSARY for japanese in row[1].split("\u3001")}
    listed = re.findall(r"\]\(losses/\S+?\.py\)\(([^)]+)\)", JAPANESE.read_text(encoding="utf-8"))
    assert len(listed) == len(OURS)
    assert {name.replace(" ", "") for name in listed} <= known


def regression_problem() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(30, 4).double()
    return inputs, inputs @ torch.tensor([[2.0], [-1.0], [0.5], [0.0]]).double() + 0.1


@pytest.mark.parametrize("strength", [0.01, 0.3, 3.0])
def test_the_paths_are_those_of_minimisers(strength: float) -> None:
    """At a minimum the slopes of loss and penalty cancel; where a coefficient is 0, that of the loss is no steeper."""
    inputs, targets = regression_problem()
    model = nn.Linear(4, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    for fit, penalised in ((fitted_l1, torch.sign), (fitted_l2, torch.clone)):
        found = fit(model, inputs, targets, strength)
        _, slope = pictures.with_slope(losses.create("mse"), inputs @ found[:, None], targets)
        rest = (inputs.T @ slope).squeeze(1) + strength * penalised(found)
        zero = (found == 0) & (fit is fitted_l1)
        assert rest[~zero].abs().max() < 1e-3
        assert (rest[zero].abs() <= strength).all()
