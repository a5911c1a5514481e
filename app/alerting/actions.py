"""Retraining: a failing model asks a pipeline for a new one, in the transaction of the report that says so."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from app.alerting.advice import Advice, recommend
from app.alerting.rules import ranked
from app.alerting.template import BadTemplate, fill
from app.alerting.webhook import NAME, Webhook
from app.configalerts import Retrain
from app.errors import ConfigError
from app.store import actions, alerts, outbox, reports
from app.store.engine import Connection
from app.types import SECOND, Json, Micros, Report, Task, to_rfc3339

EXPORT_DAYS = 30
"""How far back the labelled rows reach that the request offers."""
BROKEN = {"missing_share", "type_change", "constant", "frozen", "duplicates", "unreadable"}
"""Findings that are defects of the input. Others, such as values out of range, may be the new world to learn."""


class Retraining:
    """Stores a request for a new model; without settings, none."""

    def __init__(self, settings: Retrain | None, address: str, retrain_share: float) -> None:
        """Check the template with and without drifted features.

        Raises:
            ConfigError: it cannot be filled.
        """
        self._settings = settings
        self._address = address
        self._retrain_share = retrain_share
        self._log = structlog.get_logger("retraining")
        sample = Report("sample", "drift", 'a "name"', "1", Micros(0), "drift", {})
        for drifted in ([], ['a "feature"']):
            try:
                self._request(sample, 'why: "quoted" \\ \n', drifted, "key")
            except BadTemplate as error:
                raise ConfigError(f"alerts.retrain.body: {error}") from None

    @property
    def channels(self) -> Sequence[Webhook]:
        """Where the requests go."""
        return [Webhook(self._settings)] if self._settings else []

    def __call__(self, connection: Connection, report: Report, task: Task) -> None:
        """Ask for a new model if the latest reports press for it, the input is sound, and none was asked for lately."""
        if self._settings is None:
            return
        version = (report.model_name, report.model_version)
        latest = reports.latest_of_each(connection, *version)
        advice = recommend(task, latest, alerts.firing(connection, *version), retrain_share=self._retrain_share)
        pressing = next((each for each in advice if each.action == "retrain" and each.pressing), None)
        if pressing is None:
            return
        drift = latest["drift"].body if "drift" in latest else {}
        broken = sorted({found["kind"] for found in drift.get("data_quality", {}).get("findings", [])} & BROKEN)
        if broken:
            self._log.info("retraining_withheld", reason=f"the input is broken: {', '.join(broken)}")
        elif self._take_turn(connection, report, self._settings.cooldown):
            self._ask(connection, report, pressing, ranked(drift))

    def _take_turn(self, connection: Connection, report: Report, pause_s: float) -> bool:
        """Whether it is time to ask again; a request that waits for its webhook is one that is still being made."""
        asked = actions.asked(connection, NAME)
        last = next((action for action in asked if action.body["model_name"] == report.model_name), None)
        if last and (last.state == "waiting" or report.checked_at - (last.delivered_at or 0) < pause_s * SECOND):
            return False
        return actions.take_turn(connection, f"{NAME}/{report.model_name}", now=report.checked_at, pause_s=pause_s)

    def _ask(self, connection: Connection, report: Report, advice: Advice, drifted: Sequence[str]) -> None:
        key = f"{NAME}-{report.report_id}"
        try:
            request = self._request(report, advice.because, drifted, key)
        except BadTemplate as error:
            self._log.error("retraining_not_asked", reason=str(error))
            return
        body: Json = {
            "key": key,
            "request": request,
            "because": advice.because,
            "evidence": list(advice.evidence),
            "model_name": report.model_name,
            "model_version": report.model_version,
            "report_id": report.report_id,
        }
        outbox.enqueue(connection, channel=NAME, event=NAME, key=key, body=body, now=report.checked_at)
        self._log.warning("retraining_asked", because=advice.because, report_id=report.report_id)

    def _request(self, report: Report, reason: str, drifted: Sequence[str], key: str) -> Json:
        until, since = report.checked_at, Micros(max(report.checked_at - EXPORT_DAYS * 86_400 * SECOND, 0))
        window = f"from={to_rfc3339(since)}&to={to_rfc3339(until)}"
        values = {
            "key": key,
            "model_name": report.model_name,
            "model_version": report.model_version,
            "reason": reason,
            "drifted_features": list(drifted),
            "report_id": report.report_id,
            "report_url": f"{self._address}/reports/{report.report_id}.html",
            "export_url": f"{self._address}/predictions?labelled=true&{window}&format=jsonl",
            "checked_at": to_rfc3339(until),
        }
        template = self._settings.body if self._settings else None
        return values if template is None else fill(template, values)
