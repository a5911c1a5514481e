"""The store goes away under a running service: somebody hears of it without the store, once, and of its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadlines import wait_until
from tests.support.load import batch, quick_settings
from tests.support.processes import Postgres, Service, serving
from tests.support.receivers import webhook

pytestmark = pytest.mark.fault
FIRING, RESOLVED = "[CRITICAL] breast_cancer 1: store_unreachable", "[RESOLVED] breast_cancer 1: store_unreachable"


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop."""
    server = Postgres()
    yield server
    server.stop()


def alerts(service: Service) -> list[Any]:
    """The alerts about the outage, and about errors."""
    shown = service.call("GET", "/alerts")[1]["alerts"]
    return [alert for alert in shown if alert["rule"] in {"store_unreachable", "error_rate"}]


@pytest.mark.parametrize(("on_outage", "answered"), [("reject", 503), ("spool", 200)])
def test_an_outage_is_heard_of(
    tmp_path: Path, example_models: Path, mortal: Postgres, on_outage: str, answered: int
) -> None:
    """Critical whether rows are refused or spooled, told once and written down, and no row is an error."""
    url = mortal.create_database("store")
    with webhook() as receiver:
        notify = json.dumps([{"url": receiver.url, "severities": ["critical"]}])
        settings = quick_settings(ALERTS__NOTIFY=notify, STORE__ON_OUTAGE=on_outage)
        with serving(tmp_path, models=example_models, store=url, settings=settings) as service:
            with mortal.away():
                statuses = {service.call("POST", "/predict", batch(example_models, "long", 200))[0] for _ in range(3)}
                receiver.wait_for(1)
            receiver.wait_for(2)
            wait_until(lambda: [alert["state"] for alert in alerts(service)] == ["resolved"])
            shown = alerts(service)
            page = service.call("GET", f"/reports/{shown[0]['report_id']}")

    assert statuses == {answered}
    assert receiver.titles == [FIRING, RESOLVED]
    assert [(alert["rule"], alert["state"]) for alert in shown] == [("store_unreachable", "resolved")]
    assert page[1]["outage"]["seconds"] >= 10
