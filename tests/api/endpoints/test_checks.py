"""``POST /checks``: the reports of checks that end in time, and the ids of those that come later."""

from __future__ import annotations

from functools import partial

from tests.api.conftest import Start
from tests.support.deadlines import DEADLINE_S


def test_checks_that_end_in_time_are_reports(start: Start) -> None:
    """The answer names a report of each kind, which is there."""
    client = start("mixed")
    answer = client.post("/checks")

    assert answer.status_code == 200
    assert [named["kind"] for named in answer.json()["reports"]] == ["drift", "performance"]
    assert {client.get(f"/reports/{named['report_id']}").status_code for named in answer.json()["reports"]} == {200}


def test_checks_past_the_deadline_are_named_and_go_on(start: Start) -> None:
    """No check starts its process within a millisecond: the answer is 504 with the ids of the reports to come."""
    client = start("mixed", server={"deadline": "1ms"})
    answer = client.post("/checks")
    client.wait_for(partial(client.services.monitoring.check_now, "1", DEADLINE_S))
    pending = answer.json()["pending"]
    found = [client.get(f"/reports/{named['report_id']}").json() for named in pending]

    assert answer.status_code == 504
    assert answer.json()["reports"] == []
    assert [named["kind"] for named in pending] == ["drift", "performance"]
    assert [report["kind"] for report in found] == ["drift", "performance"]
