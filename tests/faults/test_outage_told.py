"""The store goes away under a running service: somebody hears of it without the store, once, and of its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.load import batch, quick_settings
from tests.support.processes import Postgres, serving
from tests.support.receivers import webhook

pytestmark = pytest.mark.fault
HEARD_WITHIN_S = 40.0
FIRING, RESOLVED = "[CRITICAL] breast_cancer 1: store_unreachable", "[RESOLVED] breast_cancer 1: store_unreachable"


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop."""
    server = Postgres()
    yield server
    server.stop()


@pytest.mark.parametrize(("on_outage", "answered"), [("reject", 503), ("spool", 200)])
def test_an_outage_is_heard_of(
    tmp_path: Path, example_models: Path, mortal: Postgres, on_outage: str, answered: int
) -> None:
    """Critical whether rows are refused or spooled; a short outage before it is not told, and no row is an error."""
    url = mortal.create_database("store")
    with webhook() as receiver:
        notify = json.dumps([{"url": receiver.url, "severities": ["critical"]}])
        settings = quick_settings(ALERTS__NOTIFY=notify, STORE__ON_OUTAGE=on_outage)
        with serving(tmp_path, models=example_models, store=url, settings=settings) as service:
            with mortal.away():
                service.call("POST", "/predict", batch(example_models, "short", 1))
            with mortal.away():
                statuses = {service.call("POST", "/predict", batch(example_models, "long", 200))[0] for _ in range(3)}
                receiver.wait_for(1, seconds=HEARD_WITHIN_S)
            receiver.wait_for(2, seconds=HEARD_WITHIN_S)
            time.sleep(3.0)
            about = ("store_unreachable", "error_rate")
            shown = [alert for alert in service.call("GET", "/alerts")[1]["alerts"] if alert["rule"] in about]
            page = service.call("GET", f"/reports/{shown[0]['report_id']}")

    assert statuses == {answered}
    assert receiver.titles == [FIRING, RESOLVED]
    assert [(alert["rule"], alert["state"]) for alert in shown] == [("store_unreachable", "resolved")]
    assert page[1]["outage"]["seconds"] >= 10
