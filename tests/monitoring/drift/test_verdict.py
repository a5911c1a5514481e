"""From p-values to verdicts: one budget over all tests, and no more alarms than it allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

from app.monitoring.check_request import SHAPE_SHARE, Limits
from app.monitoring.drift.column_tests import Comparison, Evidence, compare
from app.monitoring.drift.verdict import Look, adjust, judge, list_unjudged, severity
from app.monitoring.reference.columns import ReferenceColumn, Subject
from app.statistics import benjamini_hochberg

STEP, WINDOW = 50, 500


def test_one_kind_of_test_has_all_of_alpha() -> None:
    """Where no column has a share to test, the correction is that of Benjamini and Hochberg over the columns."""
    p_values = np.array([0.001, 0.02, 0.4])
    found = adjust([Evidence(float(p_value), None, {}) for p_value in p_values])

    assert found == pytest.approx(benjamini_hochberg(p_values).tolist())


def test_kinds_divide_alpha() -> None:
    """Twenty tests of shape share their part of alpha, and the only test of a share has the other part to itself."""
    quiet = [Evidence(0.9, None, {})] * 19
    shape = adjust([Evidence(1e-6, 0.9, {}), *quiet])[0]
    share = adjust([Evidence(0.9, 1e-6, {}), *quiet])[0]

    assert shape == pytest.approx(20e-6 / SHAPE_SHARE)
    assert share == pytest.approx(1e-6 / (1 - SHAPE_SHARE))


def test_the_family_keeps_its_level() -> None:
    """When nothing has changed the smallest adjusted p-value is below one in twenty in one family of twenty at most."""
    rng = np.random.default_rng(1)
    families = rng.random((4000, 10, 2))
    smallest = [
        min(p_value or 1.0 for p_value in adjust([Evidence(shape, share, {}) for shape, share in family]))
        for family in families.tolist()
    ]

    assert 0.035 < np.mean(np.array(smallest) <= 0.05) < 0.06


def test_a_column_without_a_test_is_no_drift() -> None:
    """A column of which nothing could be evidence takes no part of alpha from the others."""
    assert adjust([Evidence(None, None, {}), Evidence(0.01, None, {}), None]) == [1.0, 0.01, None]


def compared(seed: int, shift: float = 0.0) -> Comparison:
    """Compare two drawn columns."""
    rng = np.random.default_rng(seed)
    reference = ReferenceColumn(Subject("x", "numeric"), rng.normal(size=5000))
    return compare(reference, rng.normal(shift, 1.0, WINDOW))


def test_a_drift_says_why() -> None:
    """A drifted column names the test, both limits, and what exceeded them."""
    entry: Any = judge(Look(Limits(alpha=1e-4), "a", "b"), [compared(1, shift=1.0)], [None])[0]

    assert "anderson-darling" in entry["reason"]
    assert "1.0e-04" in entry["reason"]
    assert "PSI" in entry["reason"]


@pytest.mark.parametrize(("sigma", "status"), [(0.0, "insufficient_data"), (3.0, "drift"), (10.0, "drift")])
def test_too_few_independent_rows_show_a_large_drift_alone(sigma: float, status: str) -> None:
    """A slow column has no verdict while it is quiet, and has drifted where it lies far outside of the reference."""
    noise = np.random.default_rng(3).normal(size=11_000)
    series = signal.lfilter([np.sqrt(1 - 0.98**2)], [1.0, -0.98], noise)
    reference = ReferenceColumn(Subject("x", "numeric"), series[:10_000], ordered=True)
    entry: Any = judge(Look(Limits(alpha=1e-5), "a", "b"), [compare(reference, series[10_000:] + sigma)], [None])[0]

    assert entry["status"] == status
    assert entry["effective_rows"] < 50
    assert ("depend on each other" in entry["reason"]) == (status == "insufficient_data")


def test_a_column_whose_own_blocks_differ_most_has_no_verdict() -> None:
    """Where nothing could be significant beside the reference's own variation, quiet is not called stable."""
    rng = np.random.default_rng(4)
    reference = ReferenceColumn(Subject("x", "numeric"), rng.normal(size=5000))
    found = compare(reference, rng.normal(size=WINDOW), inflation=500.0)
    entry: Any = judge(Look(Limits(alpha=1e-5), "a", "b"), [found], [None])[0]

    assert entry["status"] == "insufficient_data"
    assert "own blocks differ" in entry["reason"]


def test_a_feature_without_a_verdict_keeps_its_beginning() -> None:
    """The list of features without a verdict says why, and since when over many looks."""
    features: Any = {"a": {"status": "stable"}, "b": {"status": "insufficient_data", "reason": "few"}}

    share, first = list_unjudged(features, [], "monday")
    _, second = list_unjudged(features, first, "tuesday")

    assert (share, first) == (0.5, [{"feature": "b", "because": "few", "since": "monday"}])
    assert second == first


@pytest.mark.parametrize(("psi", "name"), [(0.02, "minor"), (0.1, "moderate"), (0.2, "severe")])
def test_severity(psi: float, name: str) -> None:
    """PSI names a drift, from its two usual marks on."""
    assert severity(psi) == name


def onsets(seed: int, looks: int, features: int, alpha: float) -> int:
    """Count the alarms of one stable stream with a fresh reference, each open until a wholly clear window."""
    rng = np.random.default_rng(seed)
    references = [ReferenceColumn(Subject("x", "numeric"), rng.normal(size=5000)) for _ in range(features)]
    stream = rng.normal(size=(features, WINDOW + STEP * (looks - 1)))
    before: list[Any | None] = [None] * features
    found, was_open = 0, False
    for start in range(0, looks * STEP, STEP):
        end = start + WINDOW
        windows = [compare(reference, rows[start:end]) for reference, rows in zip(references, stream, strict=True)]
        limits = Limits(alpha=alpha, material_psi=0.0)
        before = list(judge(Look(limits, f"{start:09}", f"{end - 1:09}"), windows, before))
        is_open = any(entry is not None and entry["status"] == "drift" for entry in before)
        found += is_open and not was_open
        was_open = is_open
    return found


def test_onsets_keep_the_budget() -> None:
    """Stable streams, looked at every tenth of a window, alarm about as often as the budget allows, rather less."""
    streams, looks, alpha = 12, 100, 0.02
    found = sum(onsets(seed, looks, features=2, alpha=alpha) for seed in range(streams))

    assert 0.2 < found / (streams * looks * alpha) < 1.2
