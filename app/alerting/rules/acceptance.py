"""Acceptance: a steady state becomes the new normal, until it grows, changes, or goes.

Accepting an alert measures the state that the latest report shows: histograms of drifted columns, shares of findings,
values of metrics. Each later report is compared with that. What is no worse than the accepted state by more than
noise is *held*: the rules leave it out. What is worse is *exceeded*, and alarms as ever. What has surely gone is
*over*: where it comes again, it alarms again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple, cast

from app.alerting.rules.drift import TRAFFIC, lasting_unjudged, quality_key
from app.reports.drift import Column, DriftReport, Histogram, Prediction
from app.reports.performance import Metric, PerformanceReport
from app.types import Json, Report

_PERFORMANCE = ("realised:", "segment:", "estimated:", "unknown_class")
ACCEPTABLE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "data_quality": ("drift", ("quality:",)),
    "feature_drift": ("drift", ("feature:", "joint")),
    "drift_many": ("drift", ("feature:", "joint")),
    "joint_drift": ("drift", ("joint",)),
    "prediction_drift": ("drift", ("prediction", "probability", "quality:all rows:class_imbalance")),
    "unjudged_features": ("drift", ("unjudged:",)),
    "accuracy_drop": ("performance", _PERFORMANCE),
    "mae_drop": ("performance", _PERFORMANCE),
    "metrics_drop": ("performance", _PERFORMANCE),
    "segment_drop": ("performance", ("segment:",)),
    "estimated_drop": ("performance", ("estimated:",)),
    "unknown_class": ("performance", ("unknown_class",)),
}
"""Rule -> the kind of report that shows its state, and the keys of what belongs to it: one cause shows in several."""
NEAR_P_VALUE = 1e-3
"""A column that is not called drifted yet below this belongs to the accepted state."""
MATERIAL_SHARE = 0.005
"""Smallest further rise of a share that matters, as in data quality."""
MATERIAL_PART = 0.2
"""Part of the allowed drop of a metric by which a further one must be larger to matter."""
SURELY_GONE = 1e-3
"""Probability at which an accepted state that were still there would stay unseen for so long."""
MAX_CLEAR_WINDOWS = 30


class Item(NamedTuple):
    """One thing that a report measures.

    Attributes:
        key: its key, such as ``feature:age``.
        found: whether the report calls it a finding.
        near: whether it nearly does, and so belongs to a state that is accepted.
        state: the measured state as JSON.
    """

    key: str
    found: bool
    near: bool
    state: Json


@dataclass(frozen=True, slots=True)
class Look:
    """The window of a report and its limits.

    Attributes:
        alpha: the false-alarm probability of this look for its family of tests.
        material: PSI from which on a change matters.
    """

    start: str
    end: str
    reference: str | None
    alpha: float
    material: float

    @classmethod
    def of(cls, report: Report) -> Look | None:
        """Give the look of a report; None where it looked at no rows."""
        body = report.drift or report.performance
        if not body or body["window"]["from"] is None or body["window"]["to"] is None:
            return None
        start, end, alpha = body["window"]["from"], body["window"]["to"], body["limits"]["alpha_per_look"]
        if drift := report.drift:
            about = drift["reference"]
            return cls(start, end, about and about["sha256"], alpha, drift["limits"]["material_psi"])
        performance = cast("PerformanceReport", body)
        return cls(start, end, performance["baseline"]["sha256"], alpha, 0.0)


def compare(key: str, part: Json, items: Mapping[str, Item], look: Look) -> Json | None:
    """Compare one accepted part with a report; None where it is over.

    An exceeded part stays so until the window shares no row with the one that last showed it, as a drift does. A part
    is over once it was not there in as many windows, none of which shares a row with another, as the accepted state
    would not have been missed in.
    """
    item = items.get(key)
    if item is None and not (key.startswith(_LISTED) and "listed" in items):
        return part  # the report does not speak of it
    if item is not None and item.found:
        seen = {**part, "seen": look.end, "clear": 0}
        return seen | ({"exceeded": look.end} if exceeds(part["state"], item.state, look) else {})
    if look.start <= part["seen"] or (item is not None and not differs(part["state"], item.state)):
        return part
    clear = part.get("clear", 0) + 1
    return None if clear >= part["needed"] else {**part, "seen": look.end, "clear": clear}


_LISTED = ("quality:", "unjudged:", "unknown_class")
"""Keys of what a report names only where it is a finding."""


def clear_windows(item: Item) -> int:
    """Count the windows without a share's finding that the same share would hardly ever give.

    A share near its limit is found in one window and not in the next, though nothing has changed; and the one that was
    accepted is a high one by choice, so its lower bound of 95 % is asked.

    >>> state = {"measure": "share", "value": 0.02, "limit": 0.02, "rows": 1000}
    >>> clear_windows(Item("quality:age:missing_share", True, False, state))
    30
    >>> clear_windows(Item("quality:age:missing_share", True, False, {**state, "value": 0.2}))
    1
    """
    state = item.state
    if state["measure"] != "share" or state["value"] is None or not 0 < state["value"] < 1:
        return 1
    error = math.sqrt(state["value"] * (1 - state["value"]) / state["rows"])
    unseen = NormalDist().cdf((state["limit"] - state["value"]) / error + NormalDist().inv_cdf(0.95))
    if unseen <= SURELY_GONE:
        return 1
    return min(math.ceil(math.log(SURELY_GONE) / math.log(min(unseen, 0.999))), MAX_CLEAR_WINDOWS)


def items_of(report: Report) -> Iterator[Item]:
    """Yield all that a report measures and that can be accepted."""
    if body := report.drift:
        yield from _drift_items(body)
    elif performance := report.performance:
        yield from _performance_items(performance)


def _drift_items(body: DriftReport) -> Iterator[Item]:
    for name, entry in body["features"].items():
        yield from _column(f"feature:{name}", entry)
    if prediction := body["prediction"]:
        yield from _column("prediction", prediction)
        yield from _column("probability", prediction["probability"])
    joint = body["multivariate"]
    if joint["status"] in ("stable", "drift") and joint["auc"] is not None:
        names = [each["feature"] for each in joint["features"]]
        state = {"measure": "joint", "value": joint["auc"], "rows": body["window"]["effective_rows"], "features": names}
        yield Item("joint", joint["status"] == "drift", False, state)
    if body["data_quality"]["status"] == "insufficient_data":
        return
    yield Item("listed", False, False, {})
    for finding in body["data_quality"]["findings"]:
        if finding["kind"] not in TRAFFIC:
            entry = body["features"].get(finding["feature"] or "", {"status": "error", "type": ""})
            rows = body["window"]["rows"] / (1.0 if entry["status"] == "error" else entry["inflation"])
            state = {"measure": "share", "value": finding["value"], "limit": finding["limit"], "rows": rows}
            yield Item(quality_key(finding), True, False, state)
    for each in lasting_unjudged(body):
        yield Item(f"unjudged:{each['feature']}", True, False, {"measure": "member", "value": None})


def _column(key: str, entry: Column | Prediction | None) -> Iterator[Item]:
    if entry is None or entry["status"] == "error":
        return
    current, reference = entry["current"], entry["reference"]
    state = {
        "measure": "column",
        "value": entry["psi"],
        "bins": current["histogram"].get("edges") or current["histogram"].get("categories"),
        "cells": _cells(current["histogram"]),
        "reference": _cells(reference["histogram"]),
        "inflation": entry["inflation"],
        "mean": current.get("mean"),
        "std": current.get("std"),
        "reference_mean": reference.get("mean"),
    }
    found = entry["status"] == "drift"
    yield Item(key, found, not found and entry["p_value"] <= NEAR_P_VALUE, state)


def _cells(histogram: Histogram) -> list[int]:
    return [*histogram["counts"], histogram.get("other", 0), histogram.get("unseen", 0), histogram["missing"]]


def _performance_items(body: PerformanceReport) -> Iterator[Item]:
    realised, estimated = body["realised"], body["estimated"]
    for name, metric in realised["metrics"].items():
        yield from _metric(f"realised:{name}", metric)
    if any(metric["status"] != "insufficient_data" for metric in realised["metrics"].values()):
        yield Item("listed", False, False, {})
        if unknown := realised.get("unknown_classes"):
            rows = max(sum(unknown["classes"].values()) / unknown["share"], 1.0) if unknown["share"] else 1.0
            state = {"measure": "share", "value": unknown["share"], "limit": 0.0, "rows": rows}
            yield Item("unknown_class", True, False, state)
    for name, metric in estimated["metrics"].items():
        yield from _metric(f"estimated:{name}", metric)
    for basis, segments in (("segment", body["segments"]), ("estimated", estimated.get("segments", {}))):
        for feature, values in segments.items():
            for value, entry in values.items():
                for name, metric in entry["metrics"].items():
                    yield from _metric(f"{basis}:{feature}={value}:{name}", metric)


def _metric(key: str, metric: Metric) -> Iterator[Item]:
    if metric["status"] == "insufficient_data" or metric["value"] is None:
        return
    state = {"measure": "metric", **{name: metric[name] for name in ("value", "low", "high", "baseline", "limit")}}
    yield Item(key, metric["status"] == "degraded", True, state)


def exceeds(accepted: Json, now: Json, look: Look) -> bool:
    """Tell whether a state is worse than the accepted one by more than noise."""
    quantile = NormalDist().inv_cdf(1 - max(look.alpha, 1e-12))
    match accepted["measure"]:
        case "column":
            return column_exceeds(accepted, now, quantile, look.material)
        case "metric":
            return _metric_exceeds(accepted, now, quantile)
        case "share":
            return _share_exceeds(accepted, now, quantile)
        case "joint":
            error = math.sqrt(1 / (6 * max(accepted["rows"], 1)) + 1 / (6 * max(now["rows"], 1)))
            others = accepted["features"] and not {*accepted["features"][:3]} & {*now["features"][:3]}
            return bool(others) or now["value"] - accepted["value"] > max(quantile * error, 0.02)
    return False


def differs(accepted: Json, now: Json) -> bool:
    """Tell whether a state that is no finding is surely not the accepted one any more."""
    quantile = NormalDist().inv_cdf(1 - SURELY_GONE)
    match accepted["measure"]:
        case "column":
            if accepted["bins"] != now["bins"]:
                return bool(now["value"] < accepted["value"] / 2)
            return _beyond(_distance(accepted, now, 1.0), len(accepted["cells"]) - 1, quantile)
        case "metric":
            return _metric_exceeds(now, accepted, quantile, material=0.0)
        case "joint":
            return bool(now["value"] < accepted["value"] - 2 / math.sqrt(max(now["rows"], 1)))
    return True


def _share_exceeds(accepted: Json, now: Json, quantile: float) -> bool:
    before, value = accepted["value"], now["value"]
    if before is None or value is None:
        return False
    pooled = (before * accepted["rows"] + value * now["rows"]) / (accepted["rows"] + now["rows"])
    error = math.sqrt(max(pooled * (1 - pooled), 0.0) * (1 / accepted["rows"] + 1 / now["rows"]))
    return bool(value - before >= MATERIAL_SHARE and value - before > quantile * error)


def _metric_exceeds(accepted: Json, now: Json, quantile: float, material: float = MATERIAL_PART) -> bool:
    """Compare two values by the reach of both intervals, which are of 95 %."""
    if now["limit"] is None or now["baseline"] is None:
        return False
    sign = 1 if now["limit"] > now["baseline"] else -1
    worse = sign * (now["value"] - accepted["value"])
    reach = math.hypot(*(_reach(state) for state in (accepted, now))) * quantile / NormalDist().inv_cdf(0.975)
    return bool(worse > reach and worse > material * abs(now["limit"] - now["baseline"]))


def _reach(state: Json) -> float:
    bounds = [abs(state[side] - state["value"]) for side in ("low", "high") if state[side] is not None]
    return max(bounds, default=0.0)


MIXTURES = 40
"""Steps between the reference and the accepted state that are tried."""


def column_exceeds(accepted: Json, now: Json, quantile: float, material: float) -> bool:
    """Tell whether a column is neither as accepted nor between that and the reference.

    A window that fills with the accepted rows, or empties of them, is a mixture of both. The mixture that fits best is
    compared with the window. A histogram says nothing of how far its outer bins reach, so the mean is asked as well.
    """
    if accepted["bins"] != now["bins"] or len(accepted["cells"]) != len(now["cells"]):
        return bool(now["value"] > 2 * accepted["value"] + material)
    closest = min((_distance(accepted, now, step / MIXTURES) for step in range(MIXTURES + 1)), key=lambda each: each[0])
    if _beyond(closest, len(accepted["cells"]) - 1, quantile) and closest[1] >= material:
        return True
    return _mean_exceeds(accepted, now, quantile, material)


def _mean_exceeds(accepted: Json, now: Json, quantile: float, material: float) -> bool:
    needed = ("mean", "std")
    if any(state[name] is None for state in (accepted, now) for name in needed) or now["reference_mean"] is None:
        return False
    low, high = sorted((accepted["mean"], now["reference_mean"]))
    outside = max(low - now["mean"], now["mean"] - high, 0.0)
    rows = [max(sum(state["cells"]) - state["cells"][-1], 1) for state in (accepted, now)]
    inflation = max(accepted["inflation"], now["inflation"])
    error = math.hypot(accepted["std"] / math.sqrt(rows[0]), now["std"] / math.sqrt(rows[1])) * math.sqrt(inflation)
    return bool(outside > quantile * error and outside > math.sqrt(material) * max(accepted["std"], now["std"]))


def _distance(accepted: Json, now: Json, part: float) -> tuple[float, float]:
    """Give chi-square, and PSI above noise, of a window against a mixture of two states.

    Args:
        part: the accepted state's part in the mixture.
    """
    ours, theirs, cells = accepted["reference"], accepted["cells"], now["cells"]
    rows = [max(sum(each), 1) for each in (ours, theirs, cells)]
    noise = 1 + rows[2] * (part**2 / rows[1] + (1 - part) ** 2 / rows[0])
    inflation = max(accepted["inflation"], now["inflation"])
    chi_square = psi = 0.0
    for before, after, count in zip(ours, theirs, cells, strict=True):
        share = (1 - part) * (before + 0.5) / rows[0] + part * (after + 0.5) / rows[1]
        expected = share * rows[2]
        chi_square += (count - expected) ** 2 / (max(expected, 5.0) * noise * inflation)
        seen = (count + 0.5) / rows[2]
        psi += (seen - share) * math.log(seen / share)
    return chi_square, psi - (len(cells) - 1) * noise * inflation / rows[2]


def _beyond(distance: tuple[float, float], freedom: int, quantile: float) -> bool:
    """Compare chi-square with its quantile.

    Its cube root is about normal: Wilson and Hilferty (1931), doi:10.1073/pnas.17.12.684.
    """
    spread = 2 / (9 * max(freedom, 1))
    return bool((distance[0] / max(freedom, 1)) ** (1 / 3) - (1 - spread) > quantile * math.sqrt(spread))
