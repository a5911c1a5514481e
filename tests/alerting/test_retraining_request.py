"""From a bad report to a pipeline, through the whole application."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.config.loader import effective
from app.errors import ConfigError
from app.main import create_app
from tests.api.endpoints.test_alerts import send
from tests.support.application import client_of, make_config, watch_elsewhere
from tests.support.deadlines import wait_until
from tests.support.models.tasks import Fitted
from tests.support.receivers import webhook

HUSH = "hush-hush"


def test_a_failing_model_asks_for_a_new_one(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """The pipeline is asked once for two bad reports; the request is on record, and no secret is shown anywhere."""
    folder, fitted = small_models
    with webhook() as receiver, capture_logs() as log:
        retrain = {
            "url": f"http://127.0.0.1:{receiver.port}/hook?token={HUSH}",
            "headers": {"Authorization": f"Bearer {HUSH}"},
            "body": '{"why": "{{ reason }}", "rows": "{{ export_url }}"}',
        }
        config = make_config(tmp_path, folder, "text", alerts={"retrain": retrain})
        watch_elsewhere(config.store.url.get_secret_value())
        with client_of(config) as client:
            send(client, fitted["text"], shift=1.5, wrong=True)
            reports = [item["report_id"] for item in client.post("/checks").json()["reports"]]
            receiver.wait_for(1)
            client.post("/checks")
            wait_until(lambda: client.get("/alerts").json()["actions"][0]["state"] == "delivered")
            [asked] = client.get("/alerts").json()["actions"]
            rows = client.get(receiver.taken[0]["rows"].partition("8000")[2])
            shown = [client.get(path).text for path in ("/alerts", "/metrics", f"/reports/{asked['report_id']}")]

    assert len(receiver.taken) == 1
    assert receiver.headers[0]["authorization"] == f"Bearer {HUSH}"
    assert asked["report_id"] in reports
    assert (asked["action"], asked["because"], asked["tries"]) == ("retrain", receiver.taken[0]["why"], 1)
    assert (asked["state"], asked["error"]) == ("delivered", None)
    assert rows.status_code == 200
    assert len(rows.text.splitlines()) == len(fitted["text"].rows)
    assert "retraining_asked" in [entry["event"] for entry in log]
    assert HUSH not in f"{shown}{log}{effective(config)}{config!r}"


def test_a_template_that_gives_no_json_fails_the_start(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """The configuration is refused before anything is opened, and the error names the key and not the address."""
    retrain = {"url": f"https://host/{HUSH}", "body": "{{ reason }}"}

    with pytest.raises(ConfigError, match=r"^alerts\.retrain\.body: does not give JSON") as caught:
        create_app(make_config(tmp_path, small_models[0], "text", alerts={"retrain": retrain}))

    assert HUSH not in str(caught.value)
