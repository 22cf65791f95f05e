"""The support page as it stands, and its marks by loss, clause and precision."""

from tools.contract_pages import marks_on
from tools.pages import ROOT

PAGE = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
MARKS = marks_on(PAGE)
