"""The examples in the docstrings of the monitoring room, and of the words it shares with the others."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from app import monitoring

MODULES = ["app.types", *sorted(each.name for each in pkgutil.walk_packages(monitoring.__path__, "app.monitoring."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every example in a docstring gives the result that stands below it."""
    module = importlib.import_module(name)

    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
