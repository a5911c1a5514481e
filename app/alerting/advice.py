"""What to do about a model: advice, each with the figures and reports that it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.alerting.rules import MAIN_METRIC, ranked_causes
from app.store.alerts import Alert
from app.types import Json, Report, Task, to_rfc3339


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do.

    Attributes:
        evidence: the figures behind it, named as in rules of one's own, each with its limit and report.
        pressing: whether a machine may act on it: the model is failing, or most of its world has changed.
    """

    action: Literal["fix_input", "retrain"]
    because: str
    evidence: tuple[Json, ...]
    pressing: bool


def recommend(
    task: Task, latest: Mapping[str, Report], firing: Sequence[Alert], *, retrain_share: float
) -> list[Advice]:
    """What to do, out of the latest reports and what fires.

    Mending the input comes first, since a model learns what is broken.
    """
    reasons = [
        *_fallen_behind(task, latest.get("performance")),
        *_firing(firing),
        *_drifted(latest.get("drift"), retrain_share),
    ]
    return [*_broken(latest.get("drift")), *([_joined(reasons)] if reasons else [])]


def _joined(reasons: Sequence[Advice]) -> Advice:
    """One advice to retrain, for all its reasons."""
    because = " and ".join(reason.because for reason in reasons)
    evidence = tuple(each for reason in reasons for each in reason.evidence)
    return Advice("retrain", because, evidence, any(reason.pressing for reason in reasons))


def _broken(drift: Report | None) -> list[Advice]:
    findings: list[Json] = drift.body.get("data_quality", {}).get("findings", []) if drift else []
    if drift is None or not findings:
        return []
    kinds = ", ".join(dict.fromkeys(finding["kind"].replace("_", " ") for finding in findings))
    evidence = _evidence(drift, "data_quality.findings", len(findings), 0)
    return [Advice("fix_input", f"the input is broken: {kinds}", (evidence,), pressing=False)]


def _fallen_behind(task: Task, performance: Report | None) -> list[Advice]:
    if performance is None:
        return []
    metrics: Json = (performance.body.get("realised") or {}).get("metrics", {})
    worse = {name: metric for name, metric in metrics.items() if metric["status"] == "degraded"}
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
    """What needs more than one report to be believed, or speaks for a part of the rows."""
    return [
        Advice("retrain", alert.finding.message, (_of_alert(alert),), pressing=alert.finding.severity == "critical")
        for alert in firing
        if alert.rule in ("estimated_drop", "segment_drop")
    ]


def _drifted(drift: Report | None, retrain_share: float) -> list[Advice]:
    share = drift.body.get("drift_share") if drift else None
    if drift is None or share is None or share < retrain_share:
        return []
    names = ", ".join(ranked_causes(drift.body))
    because = f"{share:.0%} of the features drifted (limit {retrain_share:.0%}), {names} most of all"
    return [Advice("retrain", because, (_evidence(drift, "drift.share", share, retrain_share),), pressing=True)]


def _evidence(report: Report, figure: str, value: float | None, limit: float | None) -> Json:
    return {
        "figure": figure,
        "value": value,
        "limit": limit,
        "report_id": report.report_id,
        "checked_at": to_rfc3339(report.checked_at),
    }


def _of_alert(alert: Alert) -> Json:
    finding = alert.finding
    return {
        "figure": alert.rule,
        "value": finding.value,
        "limit": finding.limit,
        "report_id": alert.report_id,
        "checked_at": to_rfc3339(alert.changed_at),
    }
