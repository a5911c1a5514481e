"""The drift report names what moved, and keeps quiet about what did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import Feature, FeatureType, ModelSchema, Row, Task
from tests.support.calls import count_calls
from tests.support.monitoring.schemas import numeric_schema

Draw = Callable[..., list[Row]]
MakeReference = Callable[..., Reference]
MakeWindow = Callable[..., Window]
LIMITS = Limits(alpha=1e-4)


@pytest.fixture
def reference(draw: Draw, make_reference: MakeReference) -> Reference:
    """Draw five thousand rows of a quiet world."""
    return make_reference(draw(5000, seed=1))


def _report(schema: ModelSchema, reference: Reference, window: Window, limits: Limits) -> Any:
    """Make a report without one before it."""
    return drift_report(schema, reference, window, limits, None)


def verdict(report: Any, *path: str) -> Any:
    """Walk into a report."""
    found: Any = report
    for step in path:
        found = found[step]
    return found


def test_a_quiet_window_is_stable(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow
) -> None:
    """Rows from the reference's own law raise nothing, and the report has all the contract's fields as strict JSON."""
    report: Any = drift_report(schema, reference, make_window(draw(1000, seed=2)), LIMITS, None)

    assert report["status"] == "stable"
    assert (report["drift_share"], report["drifted_features"], report["errors"]) == (0.0, [], [])
    assert report["data_quality"] == {"status": "ok", "findings": []}
    assert report["window"]["rows"] == 1000
    assert report["reference"]["rows"] == 5000
    assert set(report["features"]["income"]) >= {
        "type", "status", "severity", "p_value", "adjusted_p_value", "test", "psi", "psi_noise_floor",
        "ks_statistic", "wasserstein", "js_distance", "impact", "current", "reference",
    }  # fmt: skip
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    ("move", "feature"),
    [
        ({"shift": 1.0}, "income"),
        ({"missing": 0.1}, "income"),
        ({"unseen": 0.05}, "channel"),
        ({"member": 0.5}, "member"),
    ],
)
def test_what_moved_is_named_alone(
    schema: ModelSchema,
    reference: Reference,
    draw: Draw,
    make_window: MakeWindow,
    move: dict[str, float],
    feature: str,
) -> None:
    """A shift, missing values, an unseen category and a changed share are each found in their feature alone."""
    report: Any = drift_report(schema, reference, make_window(draw(1000, seed=3, **move)), LIMITS, None)

    assert report["status"] == "drift"
    assert report["drifted_features"] == [feature]
    assert report["drift_share"] == 0.25
    assert report["features"][feature]["severity"] in ("minor", "moderate", "severe")


def test_one_of_twenty_features(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """A one-sigma shift in one of twenty features names it, severe, and nothing else."""
    schema = numeric_schema(20)
    rng = np.random.default_rng(5)
    moved = rng.normal(size=(1000, 20))
    moved[:, 7] += 1.0
    reference = make_reference(rng.normal(size=(5000, 20)).tolist(), schema)
    report: Any = drift_report(schema, reference, make_window(moved.tolist(), predictions=[0.0] * 1000), LIMITS, None)

    assert report["drifted_features"] == ["x7"]
    assert report["features"]["x7"]["severity"] == "severe"


def test_insignificant_or_immaterial_is_no_drift(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow
) -> None:
    """A significant shift below the material effect is reported with its p-value, and is no drift."""
    window = make_window(draw(1000, seed=3, shift=0.3))
    report: Any = drift_report(schema, reference, window, Limits(alpha=1e-4, material_psi=0.5), None)

    assert report["features"]["income"]["adjusted_p_value"] < 1e-4
    assert report["status"] == "stable"


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_one_absurd_value_changes_no_verdict(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow, shift: float
) -> None:
    """A single 1e9 neither raises a drift nor hides one, and barely moves a statistic."""
    rows = draw(1000, seed=4, shift=shift)
    absurd = [(1e9, *rows[0][1:]), *rows[1:]]
    plain, odd = (_report(schema, reference, make_window(each), LIMITS) for each in (rows, absurd))

    assert plain["drifted_features"] == odd["drifted_features"]
    assert plain["features"]["income"]["wasserstein"] == pytest.approx(
        odd["features"]["income"]["wasserstein"], abs=0.01
    )


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_do_not_matter(make_reference: MakeReference, make_window: MakeWindow, unit: float) -> None:
    """Measured in another unit, a feature has the same statistics and verdict."""
    schema = numeric_schema(1)
    rng = np.random.default_rng(8)
    ours, theirs = rng.normal(3.0, 1.0, (3000, 1)), rng.normal(3.3, 1.0, (800, 1))

    def look(scale: float) -> Any:
        window = make_window((theirs * scale).tolist(), predictions=[0.0] * 800)
        report = drift_report(schema, make_reference((ours * scale).tolist(), schema), window, LIMITS, None)
        found: Any = report["features"]["x0"]
        return found

    base, other = look(1.0), look(unit)

    assert base["status"] == other["status"] == "drift"
    for statistic in ("psi", "ks_statistic", "wasserstein", "p_value"):
        assert base[statistic] == pytest.approx(other[statistic], rel=1e-6)


@pytest.mark.parametrize("value", [None, 7.0])
def test_dead_columns_stop_nothing(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow, value: float | None
) -> None:
    """A column that went missing or stands still is drift and a finding; the others are judged as ever."""
    rows = [(value, *row[1:]) for row in draw(1000, seed=6)]
    report: Any = drift_report(schema, reference, make_window(rows), LIMITS, None)

    assert report["drifted_features"] == ["income"]
    assert report["features"]["visits"]["status"] == "stable"
    assert {finding["kind"] for finding in report["data_quality"]["findings"]} >= {
        "missing_share" if value is None else "constant"
    }
    json.dumps(report, allow_nan=False)


def test_columns_without_information_are_listed(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """Columns that are constant or missing in the reference are named with the reason, and are stable."""
    schema = numeric_schema(3)
    rng = np.random.default_rng(9)

    def rows(count: int) -> list[Row]:
        return [(1.0, None, value) for value in rng.normal(size=count).tolist()]

    window = make_window(rows(500), predictions=rng.normal(size=500).tolist())
    report: Any = drift_report(schema, make_reference(rows(2000), schema), window, LIMITS, None)
    errors = {error["feature"]: error["reason"] for error in report["errors"]}

    assert {name: entry["status"] for name, entry in report["features"].items()} == dict.fromkeys(
        ("x0", "x1", "x2"), "stable"
    )
    assert "constant" in errors["x0"]
    assert "missing" in errors["x1"]
    assert "x2" not in errors


def test_a_change_of_a_constant_is_drift(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """A column that never varied drifts when it takes another value."""
    schema = numeric_schema(1)
    window = make_window([(2.0,)] * 100, predictions=[0.0] * 100)
    report: Any = drift_report(schema, make_reference([(1.0,)] * 1000, schema), window, LIMITS, None)

    assert report["drifted_features"] == ["x0"]


def test_a_broken_column_is_an_error(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow
) -> None:
    """A reference column that cannot be read is an entry in errors; all others are judged."""
    broken = [np.array(["?"] * 5000), *reference.columns[1:]]
    damaged = Reference(schema, broken, reference.predictions)
    report: Any = drift_report(schema, damaged, make_window(draw(1000, seed=3, unseen=0.05)), LIMITS, None)

    assert report["features"]["income"]["status"] == "error"
    assert [error["feature"] for error in report["errors"]] == ["income"]
    assert report["drifted_features"] == ["channel"]
    assert report["drift_share"] == pytest.approx(1 / 3)


def test_too_few_rows(schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow) -> None:
    """Below fifty rows, and without any, there is no verdict, and the report says how many are needed."""
    for count in (0, 49):
        report = drift_report(schema, reference, make_window(draw(count, seed=2, shift=5.0)), LIMITS, None)

        assert report["status"] == "insufficient_data"
        assert "50" in report["message"]


def test_no_reference(schema: ModelSchema, draw: Draw, make_window: MakeWindow) -> None:
    """Without a reference the status says so."""
    report: Any = drift_report(schema, None, make_window(draw(100, seed=2)), LIMITS, None)

    assert (report["status"], report["reference"]) == ("no_reference", None)


def test_prediction_drift(schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow) -> None:
    """When the model answers otherwise, the prediction drifts while no feature does."""
    window = make_window(draw(1000, seed=2), predictions=["good"] * 900 + ["bad"] * 100)
    report: Any = drift_report(schema, reference, window, LIMITS, None)

    assert report["prediction"]["status"] == "drift"
    assert (report["status"], report["drifted_features"]) == ("drift", [])


def test_probability_drift(
    schema: ModelSchema, draw: Draw, make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """The positive class's probability is watched beside the predicted label."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.beta(2, 2, 5000), rng.beta(3, 2, 1000)
    reference = make_reference(draw(5000, seed=1), probabilities=np.column_stack([1 - ours, ours]))
    pairs = [(1 - share, share) for share in theirs.tolist()]
    report: Any = drift_report(schema, reference, make_window(draw(1000, seed=2), probabilities=pairs), LIMITS, None)

    assert report["prediction"]["status"] == "stable"
    assert report["prediction"]["probability"]["status"] == "drift"
    assert report["status"] == "drift"


def test_in_sample_answers_are_withheld(
    schema: ModelSchema, draw: Draw, make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """Against data that the model was fitted on, its answers are shown and not judged, with the reason."""
    reference = make_reference(draw(5000, seed=1), in_sample=True)
    report: Any = drift_report(
        schema, reference, make_window(draw(1000, seed=2), predictions=["good"] * 1000), LIMITS, None
    )

    assert report["prediction"]["status"] == "withheld"
    assert "fitted" in report["prediction"]["reason"]
    assert report["status"] == "stable"


def looks(schema: ModelSchema, reference: Reference, windows: Sequence[Window]) -> list[Any]:
    """Look at windows in turn, each with the report before."""
    reports: list[Any] = []
    for window in windows:
        reports.append(drift_report(schema, reference, window, LIMITS, reports[-1] if reports else None))
    return reports


def test_a_drift_stays_open_for_a_window(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow
) -> None:
    """One significant look opens a drift; it closes with the first clear window that shares no row with that look."""
    shifted, clear = make_window(draw(500, seed=3, shift=1.0)), draw(500, seed=4)
    windows = [shifted, make_window(clear, start=300), make_window(clear, start=499), make_window(clear, start=500)]
    states = [report["features"]["income"] for report in looks(schema, reference, windows)]

    assert [state["status"] for state in states] == ["drift", "drift", "drift", "stable"]
    assert [state["significant"] for state in states] == [True, False, False, False]
    assert {state["since"] for state in states[:3]} == {"1970-01-01T00:08:19.000000Z"}


def test_another_reference_starts_afresh(
    schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow
) -> None:
    """A drift that was found against another reference does not stay open."""
    before: Any = drift_report(schema, reference, make_window(draw(500, seed=3, shift=1.0)), LIMITS, None)
    before["reference"]["sha256"] = "another"
    report: Any = drift_report(schema, reference, make_window(draw(500, seed=4), start=100), LIMITS, before)

    assert (before["status"], report["status"]) == ("drift", "stable")


def test_the_same_input_gives_the_same_report(
    schema: ModelSchema, reference: Reference, draw: Draw, make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """Two replicas that see the same rows and the same reference write the same report, byte for byte."""
    window = make_window(draw(1000, seed=3, shift=0.2))
    ours = drift_report(schema, reference, window, LIMITS, None)
    theirs = drift_report(schema, make_reference(draw(5000, seed=1)), window, LIMITS, None)

    assert json.dumps(ours) == json.dumps(theirs)


def test_many_categories_are_pooled(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """Of two hundred categories the report tells the twenty most frequent apart."""
    names = tuple(f"c{position}" for position in range(200))
    schema = ModelSchema("m", "1", Task.REGRESSION, (Feature("city", FeatureType.CATEGORICAL, categories=names),))
    rng = np.random.default_rng(4)
    weights = np.arange(200, 0, -1) / np.arange(200, 0, -1).sum()

    def rows(count: int) -> list[Row]:
        return [(name,) for name in rng.choice(names, count, p=weights).tolist()]

    window = make_window(rows(300), predictions=[0.0] * 300)
    report: Any = drift_report(schema, make_reference(rows(5000), schema), window, Limits(alpha=0.001), None)

    assert report["status"] == "stable"
    assert len(verdict(report, "features", "city", "current", "histogram", "counts")) == 20


def test_the_promise_is_stated(schema: ModelSchema, reference: Reference, draw: Draw, make_window: MakeWindow) -> None:
    """Limits say how alpha is divided, and whether the reference is large enough for the promise to hold."""
    small, large = (
        _report(schema, reference, make_window(draw(count, seed=2)), LIMITS)["limits"] for count in (500, 1000)
    )

    assert (small["calibrated"], small["reason"]) == (True, None)
    assert not large["calibrated"]
    assert "10000 are needed" in large["reason"]
    assert sum(small["parts_of_alpha"].values()) == pytest.approx(1.0)


def test_a_wide_report_is_small(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """The report on a hundred features, with the window before, stays below 300 kB."""
    schema = numeric_schema(100)
    rng = np.random.default_rng(1)
    reference = make_reference(rng.normal(size=(2000, 100)).tolist(), schema)
    window, earlier = (make_window(rng.normal(size=(200, 100)).tolist(), predictions=[0.0] * 200) for _ in range(2))
    report: Any = drift_report(schema, reference, window, LIMITS, None, earlier=earlier)

    assert len(json.dumps(report).encode()) < 300_000


def test_a_wide_window_is_quick(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """Ten times the rows of a hundred features are little more work in Python, once the reference is sorted."""
    schema = numeric_schema(100)
    rng = np.random.default_rng(1)
    reference = make_reference(rng.normal(size=(10_000, 100)).tolist(), schema)

    def look(rows: int) -> int:
        window = make_window(rng.normal(size=(rows, 100)).tolist(), predictions=[0.0] * rows)
        drift_report(schema, reference, window, LIMITS, None)
        return count_calls(lambda: drift_report(schema, reference, window, LIMITS, None))

    assert look(10_000) < 2 * look(1000)
