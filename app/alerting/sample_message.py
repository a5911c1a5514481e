"""A message that says nothing but that messages arrive."""

from __future__ import annotations

from app.types import SECOND, Json, Micros, to_rfc3339

LASTS_S = 60.0
"""How long an Alertmanager shows it."""


def sample_message(address: str, *, now: Micros) -> Json:
    """A body that every channel takes, an Alertmanager too."""
    text = f"Alerts of the Plumbline service at {address} arrive here. There is nothing to do."
    alert = {
        "labels": {"alertname": "plumbline_test", "severity": "low", "service": "plumbline"},
        "annotations": {"summary": text},
        "startsAt": to_rfc3339(now),
        "endsAt": to_rfc3339(Micros(now + round(LASTS_S * SECOND))),
        "generatorURL": f"{address}/dashboard",
    }
    return {"title": "[TEST] Plumbline", "text": text, "kind": "info", "key": "plumbline-test", "alerts": [alert]}
