"""Retraining: when it is recommended, and the request for it, posted to a webhook."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup
from typing_extensions import TypedDict

from app.alerting.channels.base import ChannelFailed
from app.alerting.rules.drift import MAIN_METRIC, MAX_CAUSES, held, not_accepted, quality_key, ranked
from app.config.settings import Retrain
from app.errors import ConfigError
from app.reports.drift import DriftReport, FailedCheck, QualityFinding
from app.store.database import Connection
from app.store.queries import alerts, outbox, reports
from app.store.queries.alerts import Alert
from app.types import SECOND, Json, Micros, Report, Task, to_rfc3339


class BadTemplate(ValueError):
    """The template cannot be filled, or what comes out is no JSON object."""


def fill(template: str, values: Mapping[str, Any]) -> Json:
    """Fill a Jinja template of a JSON object, in a sandbox.

    Text goes between quotes, all else stands by itself; ``tojson`` brings its own quotes.

    >>> fill('{"why": "{{ why }}", "all": {{ all }}}', {"why": 'it says "no"', "all": ["a"]})
    {'why': 'it says "no"', 'all': ['a']}

    Raises:
        BadTemplate: it cannot be filled.
    """
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_as_json)
    try:
        found = json.loads(environment.from_string(template).render(values), parse_constant=_refuse)
    except TemplateError as error:
        raise BadTemplate(f"line {getattr(error, 'lineno', None) or '?'}: {error.message}") from None
    except (ArithmeticError, LookupError, TypeError) as error:
        raise BadTemplate(f"{type(error).__name__}: {error}") from None
    except ValueError as error:
        raise BadTemplate(f"does not give JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadTemplate("gives JSON that is no object")
    return found


def _as_json(value: object) -> object:
    if isinstance(value, (Markup, Undefined)):  # which says its name when it is written
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text[1:-1] if isinstance(value, str) else text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


NAME = "retrain"
"""Of the channel in the outbox, and of the event."""
ALREADY_THERE = 409
"""The status of a pipeline that has got the request before, where its answer was lost."""


class Webhook:
    """POSTs a stored request as JSON; redirects are not followed, since headers are secret."""

    name = NAME

    def __init__(self, settings: Retrain) -> None:
        self._settings = settings

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Post ``request``, under ``key`` as its idempotency key; the answer's body is not read."""
        import httpx

        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        url = self._settings.url.get_secret_value()
        try:
            with httpx.stream(
                "POST",
                url,
                json=body["request"],
                headers={"Idempotency-Key": body["key"], **headers},
                timeout=timeout_s,
            ) as answer:
                asked = answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ChannelFailed(f"not reached: {type(error).__name__}") from None
        if not (answer.is_success or answer.status_code == ALREADY_THERE):
            seconds = float(asked) if asked.isascii() and asked.isdigit() else None
            raise ChannelFailed(f"answered {answer.status_code}", seconds)


class Evidence(TypedDict):
    """A figure behind an advice, named as in configured rules, with its limit and report."""

    figure: str
    value: float | None
    limit: float | None
    report_id: str
    checked_at: str


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommended action.

    Attributes:
        evidence: the figures behind it.
        pressing: whether a pipeline may act on it: the model fails, or most of its features have drifted.
    """

    action: Literal["fix_input", "retrain"]
    because: str
    evidence: tuple[Evidence, ...]
    pressing: bool


def recommend(
    task: Task, latest: Mapping[str, Report], firing: Sequence[Alert], *, retrain_share: float
) -> list[Advice]:
    """Recommend actions from the latest reports and the firing alerts.

    Repairing the input comes first, since a new model would learn from broken input.
    """
    reasons = [
        *_fallen_behind(task, latest.get("performance")),
        *_firing(firing),
        *_drifted(latest.get("drift"), retrain_share),
    ]
    return [*_broken(latest.get("drift")), *([_joined(reasons)] if reasons else [])]


def _joined(reasons: Sequence[Advice]) -> Advice:
    """Join all reasons to retrain in one advice."""
    because = " and ".join(reason.because for reason in reasons)
    evidence = tuple(each for reason in reasons for each in reason.evidence)
    return Advice("retrain", because, evidence, any(reason.pressing for reason in reasons))


def _findings(drift: DriftReport | None) -> Sequence[QualityFinding]:
    """The findings of data quality that nobody accepted."""
    findings = drift.get("data_quality", {}).get("findings", []) if drift else []
    return [finding for finding in findings if quality_key(finding) not in held(drift)]


def _broken(drift: Report | None) -> list[Advice]:
    findings = _findings(drift.drift if drift else None)
    if drift is None or not findings:
        return []
    kinds = ", ".join(dict.fromkeys(finding["kind"].replace("_", " ") for finding in findings))
    evidence = _evidence(drift, "data_quality.findings", len(findings), 0)
    return [Advice("fix_input", f"the input is broken: {kinds}", (evidence,), pressing=False)]


def _fallen_behind(task: Task, performance: Report | None) -> list[Advice]:
    if performance is None or performance.performance is None:
        return []
    metrics = performance.performance.get("realised", {}).get("metrics", {})
    known = held(performance.performance)
    worse = {
        name: metric
        for name, metric in metrics.items()
        if metric["status"] == "degraded" and f"realised:{name}" not in known
    }
    if not worse:
        return []
    more = f" and {len(worse) - 1} more of its metrics" if len(worse) > 1 else ""
    evidence = tuple(
        _evidence(performance, f"performance.realised.{name}", metric["value"], metric["limit"])
        for name, metric in worse.items()
    )
    because = f"the model's {next(iter(worse))}{more} fell behind the baseline"
    return [Advice("retrain", because, evidence, pressing=MAIN_METRIC[task] in worse)]


def _firing(firing: Sequence[Alert]) -> list[Advice]:
    """The reasons from firing alerts: they need several reports, or concern some rows only."""
    return [
        Advice("retrain", alert.finding.message, (_of_alert(alert),), pressing=_is_pressing(alert))
        for alert in firing
        if alert.rule in ("estimated_drop", "segment_drop")
    ]


def _is_pressing(alert: Alert) -> bool:
    severity = alert.finding.severity
    return severity == "critical" or (alert.rule == "estimated_drop" and severity == "high")


def _drifted(drift: Report | None, retrain_share: float) -> list[Advice]:
    share = drift.drift.get("drift_share") if drift and drift.drift else None
    if drift is None or drift.drift is None or not share:
        return []
    found = not_accepted(drift.drift)
    share *= len(found) / len(drift.drift["drifted_features"])
    if share < retrain_share:
        return []
    names = ", ".join(found[:MAX_CAUSES])
    because = f"{share:.0%} of the features drifted (limit {retrain_share:.0%}), {names} most of all"
    return [Advice("retrain", because, (_evidence(drift, "drift.share", share, retrain_share),), pressing=True)]


def _evidence(report: Report, figure: str, value: float | None, limit: float | None) -> Evidence:
    return {
        "figure": figure,
        "value": value,
        "limit": limit,
        "report_id": report.report_id,
        "checked_at": to_rfc3339(report.checked_at),
    }


def _of_alert(alert: Alert) -> Evidence:
    finding = alert.finding
    return {
        "figure": alert.rule,
        "value": finding.value,
        "limit": finding.limit,
        "report_id": alert.report_id,
        "checked_at": to_rfc3339(alert.changed_at),
    }


EXPORT_DAYS = 30
"""How far back the labelled rows reach that the request offers."""
BROKEN = {"missing_share", "type_change", "constant", "frozen", "duplicates", "unreadable"}
"""Findings that are defects of the input, and no change that a new model should learn."""


class Retraining:
    """Stores requests for a new model; without settings it stores none."""

    def __init__(self, settings: Retrain | None, address: str, retrain_share: float) -> None:
        """Check the template with and without drifted features.

        Raises:
            ConfigError: it cannot be filled.
        """
        self._settings = settings
        self._address = address
        self._retrain_share = retrain_share
        self._log = structlog.get_logger("retraining")
        failed: FailedCheck = {"status": "error", "errors": []}
        sample = Report("sample", "drift", 'a "name"', "1", Micros(0), "error", failed)
        for drifted in ([], ['a "feature"']):
            try:
                self._request(sample, 'why: "quoted" \\ \n', drifted, "key")
            except BadTemplate as error:
                raise ConfigError(f"alerts.retrain.body: {error}") from None

    @property
    def channels(self) -> Sequence[Webhook]:
        """The channels of the requests."""
        return [Webhook(self._settings)] if self._settings else []

    def request_if_needed(self, connection: Connection, report: Report, task: Task) -> None:
        """Request a new model if reports press for one, the input is sound and no request is recent."""
        if self._settings is None:
            return
        version = (report.model_name, report.model_version)
        latest = reports.latest_of_each(connection, *version)
        advice = recommend(task, latest, alerts.firing(connection, *version), retrain_share=self._retrain_share)
        pressing = next((each for each in advice if each.action == "retrain" and each.pressing), None)
        if pressing is None:
            return
        drift = latest["drift"].drift if "drift" in latest else None
        broken = sorted({found["kind"] for found in _findings(drift)} & BROKEN)
        if broken:
            self._log.info("retraining_withheld", reason=f"the input is broken: {', '.join(broken)}")
        elif self._take_turn(connection, report, self._settings.cooldown):
            self._ask(connection, report, pressing, ranked(drift))

    def _take_turn(self, connection: Connection, report: Report, pause_s: float) -> bool:
        """Whether it is time for another request; it is not while the last one is undelivered."""
        asked = outbox.asked(connection, NAME)
        last = next((action for action in asked if action.body["model_name"] == report.model_name), None)
        if last and (last.state == "waiting" or report.checked_at - (last.delivered_at or 0) < pause_s * SECOND):
            return False
        return outbox.take_turn(connection, f"{NAME}/{report.model_name}", now=report.checked_at, pause_s=pause_s)

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
