"""The page of a service report says the worst first."""

from __future__ import annotations

from typing import Any

import pytest

from app.dashboard.report_page import render_report
from tests.dashboard.test_report_page import headline
from tests.support.alerting.reports import service_body, step

BUSY = service_body([step(at, ok=95, failed=5, slow=0.7) for at in range(10)])
DUE = {"drift": {"overdue_s": 600.0, "limit_s": 180.0}}
BACK = {"version": "2", "to": "1", "reason": "50.0% of 200 rows failed", "value": 0.5, "limit": 0.01}
AWAY = {"seconds": 312.0, "limit_s": 10.0, "reason": "connection <refused>"}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (BUSY, "ok", "The service is well"),
        (BUSY, "warning", "5.0 % of the rows failed; 99 % of the answers came within 0.995 s"),
        (BUSY | {"checks": DUE}, "warning", "The drift check does not run"),
        (BUSY | {"rolled_back": BACK}, "warning", "Version 2 was rolled back to 1"),
        ({"outage": AWAY, "errors": []}, "warning", "The store was away for 5 min"),
        ({"outage": None, "errors": []}, "ok", "The service is well"),
    ],
)
def test_every_service_report_is_a_page(body: Any, status: str, says: str) -> None:
    """Whatever it speaks of, the headline names it, and text from elsewhere stays text."""
    head = {"report_id": "r", "kind": "service", "model_name": "m", "model_version": "1", "status": status}
    page = render_report(head | {"checked_at": "2026-11-20T10:00:00.000000Z"} | body)

    assert headline(page) == says
    assert "<refused>" not in page
    assert ("50 failed" in page) == ("service" in body)
