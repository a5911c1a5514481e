"""Examples in the description of the API: short reports, and rows that are nobody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice, product
from typing import Any

from app.alerting.service.summary import RequestsStep, Summary
from app.figures.drift import EXAMPLE_OF_CATEGORIES, EXAMPLE_OF_NUMBERS
from app.reports.drift import ColumnSummary, JudgedColumn, JudgedPrediction
from app.reports.performance import Metric
from app.reports.service import ShownDrift, ShownPerformance
from app.types import Feature, FeatureType, Json, ModelSchema, Row, Scalar

REPORT_ID = "018bcfe5-6800-7000-8000-000000000002"
CHECKED_AT = "2026-11-20T10:00:00.000000Z"
_FROM = "2026-11-20T09:00:00.000000Z"
_SHA256 = "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"
_NOW: ColumnSummary = {
    "mean": 52_000.0,
    "std": 9_000.0,
    "missing_share": 0.0,
    "histogram": {"edges": [40_000.0, 60_000.0], "counts": [90, 560, 350], "missing": 0},
}
_REFERENCE: ColumnSummary = {
    "mean": 48_000.0,
    "std": 9_000.0,
    "missing_share": 0.0,
    "histogram": {"edges": [40_000.0, 60_000.0], "counts": [1_900, 6_200, 1_900], "missing": 0},
}
_INCOME: JudgedColumn = {
    "type": "numeric",
    "status": "drift",
    "severity": "severe",
    "significant": True,
    "reason": "significant: anderson-darling, adjusted p-value 1.0e-08 at a limit of 1.4e-04; material: PSI 0.298",
    "since": CHECKED_AT,
    "last_significant_at": CHECKED_AT,
    "p_value": 1e-9,
    "adjusted_p_value": 1e-8,
    "test": "anderson-darling+mood",
    "tests": {"anderson-darling": 1e-9, "mood": 0.4, "largest-share": 1.0},
    **EXAMPLE_OF_NUMBERS,
    "impact": 0.22,
    "effective_rows": 940,
    "inflation": 1.1,
    "current": _NOW,
    "reference": _REFERENCE,
    "effect": 0.298,
}
_PREDICTION: JudgedPrediction = {
    "type": "categorical",
    "status": "stable",
    "severity": None,
    "significant": False,
    "reason": None,
    "since": None,
    "last_significant_at": None,
    "p_value": 0.4,
    "adjusted_p_value": 0.6,
    "test": "chi-square+largest-share",
    "tests": {"share": 0.4},
    **EXAMPLE_OF_CATEGORIES,  # type: ignore[typeddict-item]  # mypy asks whether it could hold "effect"
    "impact": 0.0,
    "effective_rows": 1_000,
    "inflation": 1.0,
    "current": {
        "missing_share": 0.0,
        "histogram": {"categories": ["bad", "good"], "counts": [80, 920], "other": 0, "unseen": 0, "missing": 0},
    },
    "reference": {
        "missing_share": 0.0,
        "histogram": {"categories": ["bad", "good"], "counts": [900, 9_100], "other": 0, "unseen": 0, "missing": 0},
    },
    "probability": None,
}
DRIFT: ShownDrift = {
    "report_id": REPORT_ID,
    "kind": "drift",
    "model_name": "credit",
    "model_version": "1",
    "checked_at": CHECKED_AT,
    "status": "drift",
    "role": "active",
    "judged_share": 0.5,
    "unjudged": [
        {
            "feature": "step",
            "because": "rows depend on each other: worth 9 of 1,000; 50 are needed for a verdict",
            "since": CHECKED_AT,
        }
    ],
    "window": {
        "rows": 1_000,
        "hours": 1.0,
        "sampled_from": 36_000,
        "from": _FROM,
        "to": CHECKED_AT,
        "effective_rows": 940,
    },
    "reference": {"rows": 10_000, "created_at": _FROM, "sha256": _SHA256, "in_sample": False},
    "drift_share": 1.0,
    "drifted_features": ["income"],
    "limits": {
        "false_alarm_every": "P30D",
        "alpha_per_look": 0.00014,
        "material_psi": 0.01,
        "correction": "benjamini-hochberg",
        "parts_of_alpha": {"shape": 0.7, "single_shares": 0.3},
        "min_rows": 50,
        "calibrated": True,
        "reason": None,
    },
    "features": {"income": _INCOME},
    "prediction": _PREDICTION,
    "multivariate": {
        "test": "domain-classifier",
        "auc": 0.71,
        "p_value": 0.00001,
        "status": "drift",
        "reason": "by chance, an AUC of 0.710 has probability 1e-05, limit 0.00007; it matters from 0.550 on",
        "significant": True,
        "since": CHECKED_AT,
        "last_significant_at": CHECKED_AT,
        "material_auc": 0.55,
        "alpha": 0.00007,
        "features": [{"feature": "income", "share": 0.9}],
    },
    "unusual_rows": {
        "status": "judged",
        "reason": None,
        "rate": 0.001,
        "expected_rows": 1.0,
        "count": 1,
        "rows": [
            {
                "prediction_id": "order-7781",
                "p_value": 0.0001,
                "score": 9.2,
                "features": [{"feature": "income", "score": 9.2}],
            }
        ],
    },
    "seasonal": {"status": "none", "reason": "no seasonal reference: the reference has no times"},
    "data_quality": {
        "status": "warning",
        "findings": [
            {
                "feature": "age",
                "kind": "missing_share",
                "value": 0.2,
                "limit": 0.03,
                "message": "20.00% of rows have no value; in the reference 1.00%, limit 3.00%",
            }
        ],
    },
    "previous_window": None,
    "segments": {},
    "errors": [],
}
_ACCURACY: Metric = {
    "value": 0.91,
    "low": 0.89,
    "high": 0.93,
    "baseline": 0.95,
    "limit": 0.90,
    "status": "ok",
}
PERFORMANCE: ShownPerformance = {
    "report_id": REPORT_ID,
    "kind": "performance",
    "model_name": "credit",
    "model_version": "1",
    "checked_at": CHECKED_AT,
    "status": "ok",
    "basis": "realised",
    "role": "active",
    "message": None,
    "window": {"rows": 1_000, "sampled_from": 1_000, "from": _FROM, "to": CHECKED_AT},
    "limits": {"alpha_per_look": 0.00014, "degradation": 0.05, "correction": "bonferroni"},
    "baseline": {"rows": 10_000, "sha256": _SHA256},
    "realised": {
        "labelled": 830,
        "coverage": 0.83,
        "mature": True,
        "label_delay_seconds": {"p50": 3_600.0, "p95": 86_400.0},
        "metrics": {"accuracy": _ACCURACY},
        "confusion_matrix": {"labels": ["bad", "good"], "counts": [[40, 35], [40, 715]]},
        "classes": {
            "bad": {
                "support": 75,
                "precision": {"value": 0.5, "low": 0.39, "high": 0.61},
                "recall": {"value": 0.53, "low": 0.42, "high": 0.64},
            }
        },
    },
    "estimated": {
        "rows": 1_000,
        "method": "calibrated-confidence",
        "reason": None,
        "status": "ok",
        "metrics": {"accuracy": _ACCURACY},
        "shift": {"auc": 0.52, "shifted": False, "reference_rows": 10_000, "effective_reference_rows": 10_000.0},
        "unseen_region_share": 0.01,
        "caveats": [
            "a change in what the outcome of the same input is (concept drift) cannot be seen without outcomes"
        ],
        "comparison": {
            "rows": 830,
            "metrics": {
                "accuracy": {
                    "estimated": 0.92,
                    "low": 0.90,
                    "high": 0.94,
                    "realised": 0.91,
                    "difference": 0.01,
                    "within": True,
                }
            },
        },
        "track_record": {"chunks": 8, "rows_per_chunk": 103, "mean_absolute_error": {"accuracy": 0.02}},
    },
    "segments": {
        "channel": {"web": {"rows": 600, "labelled": 500, "status": "ok", "metrics": {"accuracy": _ACCURACY}}}
    },
    "business": {
        "value_count": 830,
        "value_sum": -130.5,
        "value_mean": -0.16,
        "value_mean_low": -0.4,
        "value_mean_high": 0.1,
        "by_prediction": {},
    },
    "concept_drift": {
        "method": "adwin",
        "change_at": None,
        "direction": None,
        "error_before": None,
        "error_now": 0.09,
        "rows": 5_000,
        "from": _FROM,
    },
    "errors": [],
}

SILENCE: Json = {
    "silence_id": "018bcfe5-6800-7000-8000-000000000000",
    "matcher": {"rule": "feature_drift", "severity": None, "feature": "income"},
    "starts_at": "2026-11-20T10:00:00.000000Z",
    "ends_at": "2026-11-20T12:00:00.000000Z",
    "reason": "the campaign is known",
    "created_by": "ops",
    "created_at": "2026-11-20T10:00:00.000000Z",
}
ALERT: Json = {
    "alert_id": "018bcfe5-6800-7000-8000-000000000001",
    "rule": "accuracy_drop",
    "severity": "critical",
    "state": "firing",
    "value": 0.84,
    "limit": 0.90,
    "since": "2026-11-20T10:00:00.000000Z",
    "resolved_at": None,
    "acknowledged_at": None,
    "acknowledged_by": None,
    "silenced_until": None,
    "accepted_at": None,
    "accepted_by": None,
    "accepted_reason": None,
    "message": "accuracy 0.84 [0.81, 0.87] is below its limit 0.9, baseline 0.95, over 830 labelled rows",
    "causes": ["income", "channel"],
    "playbook": "docs/playbook.md#accuracy-drop",
    "report_id": "018bcfe5-6800-7000-8000-000000000002",
}
EVIDENCE: Json = {
    "figure": "performance.realised.accuracy",
    "value": 0.84,
    "limit": 0.90,
    "report_id": "018bcfe5-6800-7000-8000-000000000002",
    "checked_at": "2026-11-20T10:00:00.000000Z",
}
ADVICE: Json = {
    "action": "retrain",
    "because": "the model's accuracy fell behind the baseline",
    "evidence": [EVIDENCE],
}
ACTION: Json = {
    "action": "retrain",
    "model_version": "1",
    "because": "the model's accuracy fell behind the baseline",
    "evidence": [EVIDENCE],
    "report_id": "018bcfe5-6800-7000-8000-000000000002",
    "asked_at": "2026-11-20T10:00:00.000000Z",
    "state": "delivered",
    "delivered_at": "2026-11-20T10:00:01.000000Z",
    "tries": 1,
    "error": None,
}
SUMMARY: Summary = {
    "model_name": "credit",
    "model_version": "1",
    "from": _FROM,
    "to": CHECKED_AT,
    "requests": 36_000,
    "refused": 12,
    "failed": 0,
    "success_share": 0.9997,
    "latency_seconds": {"p50": 0.0016, "p95": 0.0042, "p99": 0.0088, "max": 0.061},
    "latency_target_seconds": 0.5,
    "share_under_target": 1.0,
    "metrics": {"accuracy": {"average": 0.92, "min": 0.9, "max": 0.95, "last": 0.91}},
    "estimated_metrics": {"accuracy": {"average": 0.93, "min": 0.92, "max": 0.95, "last": 0.92}},
    "alerts": {"feature_drift": 1},
    "drifted_features": ["income"],
    "missing": [],
}
REQUESTS_STEP: RequestsStep = {
    "from": _FROM,
    "to": CHECKED_AT,
    "requests": 36_000,
    "refused": 12,
    "failed": 0,
    "latency_seconds": {"p50": 0.0016, "p95": 0.0042, "p99": 0.0088, "max": 0.061},
    "share_under_target": 1.0,
}
MAX_TRIES = 200
"""Rows that are looked at for one that the reference does not have."""


def synthetic_rows(schema: ModelSchema, profile: Mapping[str, Any], is_stored: Callable[[Row], bool]) -> Iterator[Row]:
    """Give rows of averages and most frequent categories that the reference does not have.

    Where it has every such row (two features of two values each), one more is given: it says nothing of anybody.

    Args:
        profile: what is known of each feature of the reference.
    """
    choices = [_values(feature, profile.get(feature.name, {})) for feature in schema.features]
    # The last features vary first; so the first row is the plainest one.
    rows = [tuple(row) for row in islice(product(*choices), MAX_TRIES)]
    yield from (row for row in rows if not is_stored(row))
    yield rows[0]


def _values(feature: Feature, known: Mapping[str, Any]) -> list[Scalar]:
    """Plain values of a feature, the plainest first."""
    if feature.type is FeatureType.CATEGORICAL or feature.allowed:
        return _frequent(feature, known)
    mean = known.get("mean")
    low, high = (0.0 if bound is None else bound for bound in (feature.low, feature.high))
    middle = (low + high) / 2 if mean is None else mean
    if feature.type is FeatureType.BOOLEAN:
        return [middle >= 0.5, middle < 0.5]  # noqa: PLR2004 - the more frequent one first
    if feature.type is FeatureType.INTEGER:
        return [round(middle), round(middle) + 1]
    return [float(f"{middle:.3g}"), float(f"{middle:.2g}"), float(f"{middle:.4g}")]


def _frequent(feature: Feature, known: Mapping[str, Any]) -> list[Scalar]:
    counts = dict(zip(map(str, known.get("categories", ())), known.get("counts", ()), strict=False))
    values: list[Scalar] = [
        value for value in feature.categories or feature.allowed if value in (feature.allowed or (value,))
    ]
    values = values or list(feature.allowed) or ["text"]
    return sorted(values, key=lambda value: -counts.get(str(value), 0))[:3]
