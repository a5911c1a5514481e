"""Runs a history: a service in this process takes its predictions and outcomes, and makes its checks."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from app.config.settings import Config
from app.types import SECOND, Json, Micros
from tests.support.application import Client, client_of, watch_elsewhere
from tests.support.receivers import webhook
from tests.support.release.fixed_clock import FixedClock
from tests.support.release.histories import STEP, History
from tests.support.release.release_store import RECEIVER_PORT

LEASES = ("monitor", "watch")
"""What another replica holds, so that checks and judgements of the service run only when they are asked for."""
ROWS_PER_REQUEST = 4
LABELLED, EARLY, WRONG_AT_FIRST = 0.92, 0.01, 0.03
"""Shares of rows that get an outcome, that get it before their prediction, and whose first outcome is revised."""
MEAN_DELAY = 900 * SECOND
LOST_OUTCOMES = 5
"""Outcomes whose prediction never comes."""
QUIET_S, WAIT_S = 0.6, 60.0


class Request(NamedTuple):
    """A request, and when it comes."""

    moment: Micros
    path: str
    body: Json | None = None


def run_history(history: History, config: Config, clock: FixedClock) -> None:
    """Run a service through a history; at the end everything is in the store of ``config``."""
    clock.now = history.start
    url = config.store.url.get_secret_value()
    watch_elsewhere(url)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as store:
        _hold_leases(store)
        with client_of(config) as client:
            _post(client, Request(history.start, f"/models/{history.name}/activate", {"version": "1"}))
            operated = False
            requests = plan(history)
            last_look = max(request.moment for request in requests if request.path == "/checks")
            for request in requests:
                clock.now = request.moment
                with _receiver(request, last_look):
                    _post(client, request)
                    if request.path.startswith("/checks"):
                        _wait_until_quiet(store)
                        operated = operated or _operate(client)
                if request.path == "/outcome":
                    _wait_for_shadows(store, history)


def plan(history: History) -> Sequence[Request]:
    """List all requests of a history in the order of their times."""
    rng = np.random.default_rng(23)
    requests: list[Request] = []
    outcomes = list(_lost(history))
    steps = [stretch for stretch in history.stretches for _ in range(stretch.steps)]
    for step, stretch in enumerate(steps):
        begin = history.start + step * STEP
        times = begin + (np.arange(stretch.rows) + 0.5) * STEP // max(stretch.rows, 1)
        rows = history.draw(rng, times.astype(np.int64), **stretch.changes)
        ids = [f"{history.name}-{step:02d}-{place:02d}" for place in range(len(rows))]
        requests += _predictions(rng, ids, times, rows)
        outcomes += _outcomes(rng, history, ids, times, rows)
    for step in range(1, len(steps) + 1):
        end = history.start + step * STEP
        due = [item for moment, item in outcomes if end - STEP <= moment + SECOND < end]
        if due:
            requests.append(Request(Micros(end - SECOND), "/outcome", {"outcomes": due}))
        if step in history.looks:
            requests.append(Request(Micros(end), "/checks"))
        if step in history.shadow_looks:
            requests.append(Request(Micros(end), "/checks?model_version=2"))
    return sorted(requests, key=lambda request: (request.moment, request.path))


def _predictions(rng: np.random.Generator, ids: Sequence[str], times: Any, rows: pd.DataFrame) -> Iterator[Request]:
    features = rows.drop(columns="y").astype(object)
    bodies = features.where(features.notna(), None).to_dict("records")
    contexts = [{"region": region} for region in rng.choice(["EU", "US"], len(rows), p=[0.7, 0.3]).tolist()]
    for start in range(0, len(rows), ROWS_PER_REQUEST):
        part = slice(start, start + ROWS_PER_REQUEST)
        body = {"instances": bodies[part], "prediction_ids": ids[part], "contexts": contexts[part]}
        yield Request(Micros(int(times[part][-1])), "/predict", body)


def _outcomes(
    rng: np.random.Generator, history: History, ids: Sequence[str], times: Any, rows: pd.DataFrame
) -> Iterator[tuple[int, Json]]:
    """Draw when each outcome comes, what it says, and what it is worth."""
    holds = "outcomes" in history.settings
    delays = rng.exponential(MEAN_DELAY, len(rows))
    chance, truth = rng.random((3, len(rows))), rows["y"].tolist()
    others = np.roll(rows["y"].to_numpy(), 1).tolist()
    for place, prediction_id in enumerate(ids):
        item = {"prediction_id": prediction_id, "outcome": truth[place], "value": round(float(delays[place] / 1e8), 2)}
        moment = int(times[place] + delays[place])
        if chance[0, place] > LABELLED:
            continue
        if holds and chance[1, place] < EARLY:
            moment = int(times[place]) - STEP
        if chance[2, place] < WRONG_AT_FIRST:
            yield moment, item | {"outcome": others[place]}
            yield moment + STEP, item | {"revise": True}
        else:
            yield moment, item


def _lost(history: History) -> Iterator[tuple[int, Json]]:
    if "outcomes" in history.settings:
        for place in range(LOST_OUTCOMES):
            yield history.start + 2 * STEP, {"prediction_id": f"{history.name}-lost-{place}", "outcome": "good"}


def _post(client: Client, request: Request) -> Json:
    answer = client.post(request.path, request.body, headers={"x-request-id": f"request-{request.moment}"})
    answer.raise_for_status()
    body: Json = answer.json()
    if unexpected := {"unknown", "conflict", "invalid"} & body.get("counts", {}).keys():
        raise RuntimeError(f"{request.moment}: outcomes are {', '.join(unexpected)}: {answer.text}")
    return body


def _operate(client: Client) -> bool:
    """Acknowledge the worst alert and silence the next one, once two fire; False while they do not."""
    firing = [alert for alert in client.get("/alerts").json()["alerts"] if alert["state"] == "firing"]
    if len(firing) < 2:
        return False
    client.post(f"/alerts/{firing[0]['alert_id']}/acknowledge").raise_for_status()
    silence = {"matcher": {"rule": firing[1]["rule"]}, "duration": "2h", "reason": "we know"}
    client.post("/alerts/silences", silence).raise_for_status()
    return True


@contextmanager
def _receiver(request: Request, last_look: Micros) -> Iterator[None]:
    """Take the messages of every look but the last, whose messages wait, and have been tried."""
    if not request.path.startswith("/checks") or request.moment >= last_look:
        yield
        return
    with webhook(RECEIVER_PORT):
        yield


def _hold_leases(store: sqlite3.Connection) -> None:
    for name in LEASES:
        store.execute("INSERT OR REPLACE INTO leases VALUES (?, 'elsewhere', ?, 1)", (name, 2**62))


def _wait_for_shadows(store: sqlite3.Connection, history: History) -> None:
    """Wait until the shadow has answered every row."""
    if not history.shadow_looks:
        return
    until = time.monotonic() + WAIT_S
    shadows = "SELECT prediction_id FROM shadow_predictions"
    left = f"SELECT count(*) FROM predictions WHERE model_name = ? AND prediction_id NOT IN ({shadows})"  # noqa: S608 - a constant
    while store.execute(left, (history.name,)).fetchone()[0]:
        if time.monotonic() > until:
            raise TimeoutError("the shadow has not answered")
        time.sleep(0.05)


def _wait_until_quiet(store: sqlite3.Connection) -> None:
    """Wait until nothing more becomes of the messages."""
    state, since = None, time.monotonic()
    until = since + WAIT_S
    while time.monotonic() - since < QUIET_S:
        found = store.execute("SELECT outbox_id, tries, delivered_at, failed_at, error FROM outbox").fetchall()
        if found != state:
            state, since = found, time.monotonic()
        if time.monotonic() > until:
            raise TimeoutError("messages are still on their way")
        time.sleep(0.05)
