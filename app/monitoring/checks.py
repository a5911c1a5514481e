"""Run one check: read the window and compute the report.

It runs in a process of its own and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from app.config.settings import AbsentMeans
from app.monitoring.check_request import DRIFT_SHARE, PERFORMANCE_SHARE, Check, Limits, alpha_per_look
from app.monitoring.drift.report import drift_report
from app.monitoring.estimation.report import MAX_ESTIMATED_ROWS, estimated, with_estimate
from app.monitoring.performance.concept_drift import MAX_STREAM_ROWS
from app.monitoring.performance.degradation import Degradation
from app.monitoring.performance.report import beside, is_same_look, performance_report, places
from app.monitoring.reference.reference import Reference
from app.reports.drift import DriftReport
from app.reports.performance import AbsentOutcomes, Estimated, PerformanceReport
from app.store.database import Connection, Pause, no_pause
from app.store.privacy import Privacy, read_salt
from app.store.queries.labelled import (
    Labelled,
    Pair,
    fill_absent,
    label_delay,
    read_error_stream,
    read_labelled,
    read_pairs,
    stream_of,
)
from app.store.queries.windows import Window, read_arrivals, read_window
from app.types import SECOND, Micros, Task, to_rfc3339


def run_check(
    check: Check, connection: Connection, reference: Reference, pause: Pause = no_pause
) -> DriftReport | PerformanceReport:
    """Compute the body of the report.

    It depends on the window, the reference, the configuration and the report before.
    """
    if check.privacy:
        reference = _watched(check, connection, reference)
    return _CHECKS[check.kind](check, connection, reference, pause)


def _watched(check: Check, connection: Connection, reference: Reference) -> Reference:
    """The part of the reference that rows in their stored form can be compared with."""
    privacy = Privacy(check.privacy, read_salt(connection) or "")
    columns = [reference.columns[place] for place in privacy.watched(check.schema)]
    return replace(reference, schema=privacy.watched_schema(check.schema), columns=columns)


def _read_window(check: Check, connection: Connection, **options: Any) -> Window:
    """Read a window, with the features that are watched."""
    window = read_window(connection, *_version(check), role=check.role, **options)
    if not check.privacy:
        return window
    kept = Privacy(check.privacy).watched(check.schema)
    return replace(window, features=[tuple(row[place] for place in kept) for row in window.features])


def _drift(check: Check, connection: Connection, reference: Reference, pause: Pause) -> DriftReport:
    settings = check.drift
    rows, hours = settings.window.rows, settings.window.hours
    known: dict[str, Any] = {"rows": rows, "hours": hours, "truth": False, "contexts": True}
    window = _read_window(check, connection, **known)
    start = window.predicted_at[0] if window.rows else None
    earlier = _read_window(check, connection, before=start, **known)
    arrivals = read_arrivals(connection, *_version(check), check.now, role=check.role)
    _let_go(connection)
    alpha = _alpha(check, settings.every) * DRIFT_SHARE
    before = check.before.drift if check.before else None
    if before and _same_look(window, before):
        alpha = before["limits"]["alpha_per_look"]
    limits = Limits(alpha, settings.material_psi, settings.false_alarm_every.iso())
    return drift_report(
        reference.schema,
        reference,
        window,
        limits,
        before,
        earlier=earlier if window.rows else None,
        arrivals=arrivals,
        segments=_segments(check, reference),
        entity=_entity(check, reference),
        pause=pause,
    )


def _segments(check: Check, reference: Reference) -> tuple[str, ...]:
    """The segments without the features that are not watched."""
    left_out = {*check.schema.feature_names} - {*reference.schema.feature_names}
    return tuple(name for name in check.performance.segments if name not in left_out)


def _entity(check: Check, reference: Reference) -> str | None:
    """The entity, unless it is a feature that is not watched; groups are then found by the rows."""
    entity = check.drift.entity
    left_out = {*check.schema.feature_names} - {*reference.schema.feature_names}
    return None if entity in left_out else entity


def _performance(check: Check, connection: Connection, reference: Reference, pause: Pause) -> PerformanceReport:
    settings = check.performance
    delay = _label_delay(check, connection)
    end = Micros(check.now - round(delay * SECOND)) if delay else None
    window = read_labelled(
        connection,
        *_version(check),
        rows=settings.window.rows,
        hours=settings.window.hours,
        before=end,
        segments=places(check.schema, settings.segments),
        role=check.role,
    )
    stream = read_error_stream(connection, *_version(check), most=MAX_STREAM_ROWS, role=check.role)
    latest, mature = _unlabelled(check, connection, end)
    pairs = _pairs(check, connection, end)
    _let_go(connection)
    if check.absent is not None:
        window, mature = _filled(check, check.absent, window, mature)
        stream = stream_of(window)
    alpha = _alpha(check, settings.every) * PERFORMANCE_SHARE
    before = check.before.performance if check.before else None
    if before and is_same_look(window, before):
        alpha = before["limits"]["alpha_per_look"]
    limits = Degradation(settings.degradation, alpha)
    report = performance_report(
        reference.schema,
        reference,
        window,
        limits,
        now=check.now,
        stream=stream,
        label_delay_s=delay,
        previous=before,
        pause=pause,
    )
    if check.absent is not None:
        absent = {"label": check.absent.label, "after_seconds": float(check.absent.after), "rows": window.absent}
        report["realised"]["absent"] = cast("AbsentOutcomes", absent)
    report = with_estimate(report, _estimated(check, reference, latest, mature, limits, before, pause))
    return report | {"beside": beside(check.schema, pairs)} if check.role == "shadow" else report


def _estimated(
    check: Check,
    reference: Reference,
    latest: Window,
    mature: Window,
    limits: Degradation,
    before: PerformanceReport | None,
    pause: Pause,
) -> Estimated:
    """The estimate over the features that are watched, by segment too."""
    schema = reference.schema
    segments = [place for place in places(schema, _segments(check, reference)).values() if place is not None]
    return estimated(schema, reference, latest, mature, limits, segments=segments, previous=before, pause=pause)


def _filled(check: Check, absent: AbsentMeans, window: Labelled, mature: Window) -> tuple[Labelled, Window]:
    """Count rows that are old enough and have no outcome as what that means."""
    after = Micros(round(absent.after * SECOND))
    old = [check.now - at >= after for at in mature.predicted_at]
    outcomes = [
        absent.label if came is None and is_old else came for came, is_old in zip(mature.outcomes, old, strict=True)
    ]
    return fill_absent(window, absent.label, after, check.now), replace(mature, outcomes=outcomes)


def _pairs(check: Check, connection: Connection, end: Micros | None) -> Mapping[str, Sequence[Pair]]:
    """A shadow's answers with those that left the service."""
    size = check.performance.window
    if check.role != "shadow":
        return {}
    found = read_pairs(connection, *_version(check), rows=size.rows, hours=size.hours, before=end)
    if check.absent is None:
        return found
    label = check.absent.label  # all pairs are older than that
    return {
        version: [pair if pair.outcome is not None else pair._replace(outcome=label) for pair in pairs]
        for version, pairs in found.items()
    }


def _unlabelled(check: Check, connection: Connection, end: Micros | None) -> tuple[Window, Window]:
    """Read the latest rows, to estimate, and older rows with outcomes, to prove the estimate."""
    hours, rows = check.performance.window.hours, min(check.performance.window.rows, MAX_ESTIMATED_ROWS)
    latest = _read_window(check, connection, rows=rows, hours=hours)
    if end is None:
        return latest, latest
    return latest, _read_window(check, connection, rows=rows, hours=hours, before=end)


def _let_go(connection: Connection) -> None:
    """End the transaction before the computation.

    A snapshot that is held costs the writer, on either database.
    """
    connection.rollback()


def _label_delay(check: Check, connection: Connection) -> float:
    """Give the label delay in seconds.

    A delay shorter than the time between two checks counts as none.
    """
    settings, least = check.performance, 0.0 if check.absent is None else float(check.absent.after)
    if settings.label_delay != "auto":
        return max(settings.label_delay, least)
    by_class = check.schema.task is not Task.REGRESSION
    observed = label_delay(connection, *_version(check), share=0.95, role=check.role, by_class=by_class)
    return max(observed if observed is not None and observed > settings.every else 0.0, least)


def _alpha(check: Check, every_s: float) -> float:
    """Give the part of the false-alarm budget that this look may spend.

    Both families share the drift monitor's period.
    """
    elapsed_s = (check.now - check.before.checked_at) / SECOND if check.before else every_s
    return alpha_per_look(max(elapsed_s, 0.0), check.drift.false_alarm_every)


def _same_look(window: Window, before: DriftReport) -> bool:
    """Tell whether two looks are of the same window.

    Asked again about the same rows, a check says the same.
    """
    seen = before.get("window", {})
    return window.rows > 0 and (window.rows, to_rfc3339(window.predicted_at[-1])) == (seen.get("rows"), seen.get("to"))


def _version(check: Check) -> tuple[str, str]:
    return check.schema.name, check.schema.version


_CHECKS: dict[str, Callable[[Check, Connection, Reference, Pause], DriftReport | PerformanceReport]] = {
    "drift": _drift,
    "performance": _performance,
}
