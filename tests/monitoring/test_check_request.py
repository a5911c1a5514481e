"""The budget over time."""

from __future__ import annotations

import pytest

from app.monitoring.check_request import alpha_per_look


def test_alpha_is_the_share_of_the_period() -> None:
    """A look may spend the part of the budget that its time is of the period, and never more than one in a hundred."""
    assert alpha_per_look(60, 30 * 86_400) == pytest.approx(60 / (30 * 86_400))
    assert alpha_per_look(1e9, 86_400) == 0.01
