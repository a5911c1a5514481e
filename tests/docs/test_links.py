"""Links of the documentation: each leads to a file and a heading that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
"""A link in Markdown: the path, and the heading."""


def prose(path: Path) -> str:
    """The text of a page without its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def headings(path: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ +(.+)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A file or a heading that was renamed takes no reader to nothing."""
    broken = []
    for path, heading in LINK.findall(prose(page)):
        target = page if not path else (page.parent / path).resolve()
        if not target.exists() or (heading and target.suffix == ".md" and heading not in headings(target)):
            broken.append(f"{path}#{heading}")

    assert broken == []


def test_every_page_of_operations_is_reached() -> None:
    """Each page of docs/operations stands in the table of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert {path.name for path in (ROOT / "docs" / "operations").iterdir()} == set(
        re.findall(r"\(operations/([a-z]+\.md)\) ?[,|]", text)
    )
