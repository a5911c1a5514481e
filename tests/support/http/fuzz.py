"""What every fuzz test shares: how much it tries, a service with a key, and what must hold at its end."""

from __future__ import annotations

import hashlib
import json
import os
import re
from http.client import HTTPConnection

from tests.support.deadlines import DEADLINE_S
from tests.support.load import quick_settings
from tests.support.processes import Service

KEY = "plumb_fuzz-key-that-nobody-else-has"
"""The key that the service of a fuzz test takes; it must be in no log."""
WRONG = re.compile(r'Traceback|"level":"(?:error|critical)"|"status":5\d\d|"event":"(?:task_died|turn_failed)"')
"""What no input may bring into the log."""


def examples(usual: int) -> int:
    """How many examples a test tries; ``make fuzz EXAMPLES=20000`` asks for more than a run of the suite."""
    return int(os.environ.get("FUZZ_EXAMPLES") or usual)


def keyed_settings(**more: str) -> dict[str, str]:
    """Settings of a service that takes :data:`KEY` for everything."""
    key = {"name": "fuzz", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    scopes = {"scopes": ["predict", "outcome", "read", "metrics", "admin"]}
    return quick_settings(AUTH__KEYS=json.dumps([key | scopes]), **more)


def predict(service: Service, features: object) -> int:
    """The status of an honest prediction with the key, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
    try:
        body = json.dumps({"features": features})
        connection.request("POST", "/predict", body, {"Content-Type": "application/json", "X-API-Key": KEY})
        return connection.getresponse().status
    finally:
        connection.close()


def assert_unharmed(service: Service, features: object) -> None:
    """The service runs, answers an honest client, and has logged neither a failure nor the key."""
    assert predict(service, features) == 200
    assert service.process.poll() is None
    log = service.log.read_text(encoding="utf-8")
    assert [line[:2000] for line in log.splitlines() if WRONG.search(line)] == []
    assert KEY not in log
