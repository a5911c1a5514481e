"""The examples in the docstrings of the page's parts and of the commands."""

from __future__ import annotations

import doctest

import pytest

from app.commands import report
from app.dashboard import histograms, scales, words


@pytest.mark.parametrize("module", [histograms, report, scales, words], ids=lambda module: module.__name__)
def test_examples(module: object) -> None:
    """Every example in a docstring gives the result that stands below it."""
    ran = doctest.testmod(module)  # type: ignore[arg-type]  # a module, by the list above

    assert ran.attempted > 0
    assert ran.failed == 0
