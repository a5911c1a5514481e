"""A call of every operation for every status that it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.support.models.faulty import RAISES
from tests.support.models.versions import ROW

MOODY = {**ROW, "a": RAISES}
GOOD = {"age": 41, "income": 52_000.0, "channel": "web", "member": True}
ADMIN, PREDICT_ONLY, READ_ONLY = "a" * 40, "p" * 40, "r" * 40
LARGE = 100_000
"""Most bytes of a body."""


@dataclass(frozen=True)
class Case:
    """A call in one of the worlds, and the status that it must have.

    Attributes:
        path: by default that of the operation; ``{prediction_id}`` and others are filled in.
        key: None sends none.
    """

    operation: str
    status: int
    body: object = None
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    key: str | None = ADMIN
    world: str = "filled"


ONE = {"features": GOOD}
OUTCOME = {"prediction_id": "first", "outcome": "good"}
ACCEPT = {"reason": "the new price list"}
SILENCE = {"matcher": {"rule": "feature_drift"}, "duration": "1h", "reason": "known"}
NOBODY = {"model_version": "nobody"}
FILLED = [
    Case("POST /predict", 200, ONE),
    Case("POST /predict", 200, {"instances": [GOOD, GOOD]}),
    Case("POST /predict", 404, ONE, params=NOBODY),
    Case("POST /predict", 409, {"features": {**GOOD, "age": 42}, "prediction_id": "first"}),
    Case("POST /predict", 413, content=b" " * (LARGE + 1)),
    Case("POST /predict", 415, content=b"{}", headers={"content-type": "text/plain"}),
    Case("POST /predict", 422, {"features": {**GOOD, "age": "old", "more": 1}}),
    Case("POST /outcome", 200, OUTCOME),
    Case("POST /outcome", 200, {"outcomes": [OUTCOME, {"prediction_id": "nobody", "outcome": "good"}, 1]}),
    Case("POST /outcome", 404, {"prediction_id": "nobody", "outcome": "good"}),
    Case("POST /outcome", 409, {"prediction_id": "first", "outcome": "bad"}),
    Case("POST /outcome", 413, content=b" " * (LARGE + 1)),
    Case("POST /outcome", 415, content=b"{}", headers={"content-type": "text/plain"}),
    Case("POST /outcome", 422, {"prediction_id": "first", "outcome": 7}),
    Case("GET /predictions/{prediction_id}", 200),
    Case("GET /predictions/{prediction_id}", 404, path="/predictions/nobody"),
    Case("GET /predictions", 200, params={"limit": "3"}),
    Case("GET /predictions", 200, params={"format": "jsonl"}),
    Case("GET /predictions", 200, params={"format": "csv"}),
    Case("GET /predictions", 200, params={"format": "parquet"}),
    Case("GET /predictions", 422, params={"limit": "0", "from": "yesterday"}),
    Case("DELETE /predictions", 200, params={"subject": "nobody"}),
    Case("DELETE /predictions", 409, params={"subject": "nobody"}, world="empty"),
    Case("DELETE /predictions", 422),
    Case("GET /outcomes", 200),
    Case("GET /outcomes", 422, params={"status": "done"}),
    Case("GET /drift", 200),
    Case("GET /drift", 200, world="empty"),
    Case("GET /drift", 404, params=NOBODY),
    Case("GET /performance", 200),
    Case("GET /performance", 200, world="empty"),
    Case("GET /performance", 404, params=NOBODY),
    Case("GET /drift/history", 200),
    Case("GET /drift/history", 200, params={"feature": "income"}),
    Case("GET /drift/history", 200, params={"points": "5", "detail": "true"}),
    Case("GET /drift/history", 404, params=NOBODY),
    Case("GET /drift/history", 404, params={"feature": "nobody"}),
    Case("GET /drift/history", 422, params={"limit": "many"}),
    Case("GET /performance/history", 200),
    Case("GET /performance/history", 200, params={"points": "5", "detail": "true"}),
    Case("GET /performance/history", 404, params=NOBODY),
    Case("GET /performance/history", 422, params={"cursor": "?"}),
    Case("GET /reports/{report_id}", 200, path="/reports/{drift}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{performance}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{service}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{failed}"),
    Case("GET /reports/{report_id}", 404, path="/reports/nobody"),
    Case("GET /reports/{report_id}.html", 200, path="/reports/{drift}.html"),
    Case("GET /reports/{report_id}.html", 404, path="/reports/nobody.html"),
    Case("GET /reports", 200),
    Case("GET /reports", 200, params={"kind": "service", "status": "warning"}),
    Case("GET /reports", 422, params={"kind": "nobody"}),
    Case("GET /summary", 200),
    Case("GET /summary", 200, world="empty"),
    Case("GET /summary", 404, params=NOBODY),
    Case("GET /summary", 422, params={"minutes": "5", "days": "1"}),
    Case("GET /summary/history", 200),
    Case("GET /summary/history", 200, params={"points": "3"}, world="empty"),
    Case("GET /summary/history", 404, params=NOBODY),
    Case("GET /summary/history", 422, params={"points": "0"}),
    Case("POST /checks", 200),
    Case("POST /checks", 404, params=NOBODY),
    Case("GET /alerts", 200),
    Case("GET /alerts", 200, world="empty"),
    Case("GET /alerts", 404, params=NOBODY),
    Case("GET /alerts", 422, params={"state": "done"}),
    Case("GET /alerts/silences", 200),
    Case("GET /alerts/silences", 422, params={"limit": "0"}),
    Case("POST /alerts/{alert_id}/acknowledge", 200, path="/alerts/{firing}/acknowledge"),
    Case("POST /alerts/{alert_id}/acknowledge", 404, path="/alerts/nobody/acknowledge"),
    Case("POST /alerts/{alert_id}/acknowledge", 409, path="/alerts/{pending}/acknowledge"),
    Case("POST /alerts/{alert_id}/accept", 200, ACCEPT, path="/alerts/{drop}/accept"),
    Case("POST /alerts/{alert_id}/accept", 404, ACCEPT, path="/alerts/nobody/accept"),
    Case("POST /alerts/{alert_id}/accept", 409, ACCEPT, path="/alerts/{firing}/accept"),
    Case("POST /alerts/{alert_id}/accept", 422, {"reason": ""}, path="/alerts/{firing}/accept"),
    Case("POST /alerts/silences", 200, SILENCE),
    Case("POST /alerts/silences", 404, SILENCE, params=NOBODY),
    Case("POST /alerts/silences", 422, {"matcher": {"rule": "nobody"}, "duration": "1h", "reason": "known"}),
    Case("POST /alerts/silences", 422, {"matcher": {}, "duration": "long"}),
    Case("DELETE /alerts/silences/{silence_id}", 200),
    Case("DELETE /alerts/silences/{silence_id}", 404, path="/alerts/silences/nobody"),
    Case("GET /models", 200),
    Case("GET /models", 200, world="switched"),
    Case("GET /models/{name}", 200, path="/models/mixed"),
    Case("GET /models/{name}", 404, path="/models/nobody"),
    Case("GET /models/{name}/activations", 200, path="/models/mixed/activations"),
    Case("GET /models/{name}/activations", 200, path="/models/switch/activations", world="switched"),
    Case("GET /models/{name}/activations", 404, path="/models/nobody/activations"),
    Case("POST /models/{name}/activate", 200, {"version": "3"}, path="/models/switch/activate", world="switched"),
    Case("POST /models/{name}/activate", 404, {"version": "nobody"}, path="/models/mixed/activate"),
    Case("POST /models/{name}/activate", 409, {"version": "9"}, path="/models/switch/activate", world="switched"),
    Case("POST /models/{name}/activate", 422, {"version": 1}, path="/models/mixed/activate"),
    Case("POST /models/{name}/rollback", 200, path="/models/switch/rollback", world="switched"),
    Case("POST /models/{name}/rollback", 404, path="/models/nobody/rollback"),
    Case("POST /models/{name}/rollback", 409, path="/models/mixed/rollback"),
    Case("POST /keys", 200, {"name": "new", "expires": "90d"}),
    Case("POST /keys", 409, {"name": "key0"}),
    Case("POST /keys", 422, {"name": "a b"}),
    Case("GET /keys", 200),
    Case("GET /keys", 422, params={"limit": "0"}),
    Case("DELETE /keys/{name}", 200, path="/keys/old"),
    Case("DELETE /keys/{name}", 404, path="/keys/nobody"),
    Case("DELETE /keys/{name}", 409, path="/keys/key0"),
    Case("GET /health/live", 200),
    Case("GET /health/ready", 200),
    Case("GET /metrics", 200),
    Case("GET /metrics", 200, headers={"accept": "application/openmetrics-text; version=1.0.0"}),
]
"""Calls of a service with rows, reports and alerts, one that is empty, and one with versions to choose from."""
AWAY = [
    Case("POST /predict", 503, ONE, world="away"),
    Case("POST /outcome", 503, OUTCOME, world="away"),
    Case("GET /predictions/{prediction_id}", 503, world="away"),
    Case("GET /predictions", 503, world="away"),
    Case("DELETE /predictions", 503, params={"subject": "nobody"}, world="away"),
    Case("GET /outcomes", 503, world="away"),
    Case("GET /drift", 503, world="away"),
    Case("GET /performance", 503, world="away"),
    Case("GET /drift/history", 503, world="away"),
    Case("GET /performance/history", 503, world="away"),
    Case("GET /reports/{report_id}", 503, path="/reports/some", world="away"),
    Case("GET /reports/{report_id}.html", 503, path="/reports/some.html", world="away"),
    Case("GET /reports", 503, world="away"),
    Case("GET /summary", 503, world="away"),
    Case("GET /summary/history", 503, world="away"),
    Case("GET /models/{name}/activations", 503, path="/models/mixed/activations", world="away"),
    Case("POST /checks", 503, world="away"),
    Case("GET /alerts", 503, world="away"),
    Case("GET /alerts/silences", 503, world="away"),
    Case("POST /alerts/{alert_id}/acknowledge", 503, path="/alerts/some/acknowledge", world="away"),
    Case("POST /alerts/{alert_id}/accept", 503, ACCEPT, path="/alerts/some/accept", world="away"),
    Case("POST /alerts/silences", 503, SILENCE, world="away"),
    Case("DELETE /alerts/silences/{silence_id}", 503, path="/alerts/silences/some", world="away"),
    Case("POST /models/{name}/activate", 503, {"version": "1"}, path="/models/mixed/activate", world="away"),
    Case("POST /models/{name}/rollback", 503, path="/models/mixed/rollback", world="away"),
    Case("POST /keys", 503, {"name": "new"}, world="away"),
    Case("GET /keys", 503, world="away"),
    Case("DELETE /keys/{name}", 503, path="/keys/some", world="away"),
    Case("GET /health/live", 503, world="away"),
    Case("GET /health/ready", 503, world="away"),
]
"""Calls of a service without a store."""
SLOW = [
    Case("POST /predict", 500, {"features": MOODY}, world="moody"),
    Case("POST /predict", 408, world="moody"),
    Case("POST /predict", 504, {"features": ROW}, world="moody"),
    Case("POST /outcome", 408, world="moody"),
    Case("POST /checks", 504, world="moody"),
    Case("POST /outcome", 504, {"prediction_id": "some", "outcome": "no"}, world="moody"),
]
"""Calls of a service with little patience and a model that fails on one row."""
OPEN = ("GET /health/live", "GET /health/ready")
GUARDED = sorted({case.operation for case in FILLED} - set(OPEN))
WITHOUT_KEY = [
    replace(next(case for case in FILLED if case.operation == operation), status=status, key=key, world="filled")
    for operation in GUARDED
    for status, key in ((401, None), (403, PREDICT_ONLY if operation != "POST /predict" else READ_ONLY))
]
"""The same calls without a key, and with one that lacks the scope."""
GUESSED = [replace(case, status=429, world="guessed") for case in WITHOUT_KEY if case.status == 401]
"""The same calls without a key, from an address that has sent many wrong ones."""
UNKNOWN = [
    replace(next(case for case in FILLED if case.operation == operation), status=422, params={"nonsense": "1"})
    for operation in sorted({case.operation for case in FILLED})
]
"""The same calls with a query parameter that no route takes."""
CASES = [*FILLED, *AWAY, *SLOW, *WITHOUT_KEY, *GUESSED, *UNKNOWN]
