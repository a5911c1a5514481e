"""Traffic that drops or ends is found, and its daily course is not."""

from __future__ import annotations

import pytest

from app.monitoring.quality.traffic import freshness_findings, is_silent, traffic_findings
from app.store.queries.windows import Arrivals, Stretch

ALPHA = 1e-7
QUIET = Stretch(0, {})


def earlier(hour: int, day: int, week: int | None = None) -> dict[str, int]:
    """Rows in the same stretch earlier."""
    found = {"an hour earlier": hour, "a day earlier": day}
    return found if week is None else found | {"a week earlier": week}


@pytest.mark.parametrize(
    ("rows", "before", "found"),
    [
        (200, earlier(1000, 900, 950), True),
        (200, earlier(1000, 900), True),
        (200, earlier(1000, 210, 950), False),
        (500, earlier(1000, 900, 950), False),
        (2, earlier(10, 9, 9), False),
        (0, earlier(500, 0, 500), False),
        (200, {"an hour earlier": 1000}, False),
        (200, {}, False),
    ],
)
def test_a_drop(rows: int, before: dict[str, int], found: bool) -> None:
    """Less than half of every earlier hour, and by more than chance; one earlier hour that was as quiet explains it."""
    findings = list(traffic_findings(Arrivals(1.0, Stretch(rows, before), QUIET), ALPHA))

    assert [finding["kind"] for finding in findings] == ["traffic"] * found
    for finding in findings:
        assert finding["value"] == pytest.approx(1 - 200 / 900)
        assert "78% fewer rows than the same hour a day earlier" in finding["message"]


@pytest.mark.parametrize(
    ("silence_s", "before", "found"),
    [
        (600.0, earlier(400, 300, 350), True),
        (200.0, earlier(400, 300, 350), False),
        (600.0, earlier(400, 300, 20), False),
        (600.0, {"an hour earlier": 400}, False),
    ],
)
def test_silence(silence_s: float, before: dict[str, int], found: bool) -> None:
    """No row for minutes in which hours and days before had many; a stretch that is quiet every week is no finding."""
    arrivals = Arrivals(silence_s, Stretch(500, earlier(900, 900)), Stretch(0, before))
    findings = list(freshness_findings(arrivals, ALPHA))

    assert is_silent(arrivals, ALPHA) is found
    assert [finding["kind"] for finding in findings] == ["freshness"] * found
    for finding in findings:
        assert finding["value"] == silence_s > (finding["limit"] or 0.0)
        assert "no row for 600 s" in finding["message"]
