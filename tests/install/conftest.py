"""A small checkout for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.install.checkouts import Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout that nothing was installed in."""
    return make_checkout(tmp_path)
