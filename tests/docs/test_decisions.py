"""The decisions are numbered: each number once, none left out, and the same in name and title."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"


def test_every_number_is_given_once() -> None:
    """A decision can be cited by its number alone."""
    numbers = sorted(int(file.name[:4]) for file in FOLDER.glob("*.md"))

    assert numbers == list(range(1, len(numbers) + 1))


def test_the_title_has_the_number_of_the_file() -> None:
    """The first line is ``# 31. …`` in the file ``0031-….md``."""
    titles = {file.name: file.read_text(encoding="utf-8").partition("\n")[0] for file in FOLDER.glob("*.md")}

    assert [name for name, title in titles.items() if not re.match(rf"# {int(name[:4])}\. \S", title)] == []
