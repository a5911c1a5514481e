"""The examples in the docstrings of the whole application."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "app").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every example in a docstring gives the result that stands below it."""
    ran = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert ran.attempted > 0
    assert ran.failed == 0
