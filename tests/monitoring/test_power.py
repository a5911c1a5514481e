"""The self-test finds what is there to find, and says when nothing is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from app.monitoring.check_request import Limits
from app.monitoring.power import Findings, Injection, Setting, injections, rounds
from app.monitoring.reference.columns import ReferenceColumn
from app.monitoring.reference.reference import Reference
from app.types import ModelSchema
from tests.monitoring.conftest import Draw, MakeReference


@pytest.fixture
def reference(draw: Draw, make_reference: MakeReference) -> Reference:
    """Two thousand rows of every type."""
    return make_reference(draw(2000, seed=1))


def last(reference: Reference, setting: Setting, count: int) -> Findings:
    """The findings after some rounds."""
    return next(itertools.islice(rounds(reference, setting, np.random.default_rng(2)), count - 1, None))


def test_power_delay_and_false_alarms(reference: Reference) -> None:
    """A large drift is found soon and always, a small one later and less often; quiet looks stay quiet."""
    findings = last(reference, Setting(Limits(1e-4), 500, 50), 12)
    small, middle, large = (findings.drifts[f"mean + {amount} sd"] for amount in (0.1, 0.2, 0.5))

    assert (small.features, findings.drifts["largest category - 30 %"].features) == (2, 1)
    assert small.power <= middle.power <= large.power == 1.0
    assert large.delay is not None
    assert 50 <= large.delay <= 400
    assert (findings.looks, findings.alarms) == (48, 0)
    assert findings.exam_alarms <= 4


def test_a_feature_that_varies_by_nature_is_found_later(reference: Reference, schema: ModelSchema) -> None:
    """What the reference's qualification widens, it widens here as well."""
    inflated = {"rows": 500, "features": {name: {"inflation": 5.0, "blocks": 20} for name in schema.feature_names}}
    nervous = Reference(schema, reference.columns, reference.predictions, qualification=inflated)
    setting = Setting(Limits(1e-4), 500, 50)

    quick, slow = (last(each, setting, 8).drifts["mean + 0.5 sd"] for each in (reference, nervous))

    assert quick.power > slow.power


def test_a_reference_that_cannot_drift_so(make_reference: MakeReference) -> None:
    """Constant columns have no spread and no rival category: those drifts have no streams, and the others go on."""
    constant = make_reference([(1.0, 2, True, "web")] * 200)
    findings = last(constant, Setting(Limits(1e-3), 100, 10), 2)

    assert findings.drifts["mean + 0.2 sd"].delays == []
    assert findings.drifts["largest category - 30 %"].delays == []
    assert len(findings.drifts["5 % go missing"].delays) == 2


@pytest.mark.parametrize("injection", injections(), ids=lambda injection: injection.name)
def test_each_injection_does_what_it_says(reference: Reference, injection: Injection) -> None:
    """Measured on the column that it changes: the mean, the spread, the missing and the largest share."""
    rng = np.random.default_rng(3)
    column = next(column for column in reference.features if injection.suits(column))
    moved = injection.change(column, column.values.copy(), rng)
    mean, spread, missing, largest = changes(column, moved)
    expected = {
        "mean + 0.1 sd": (0.1, 1.0, 0.0, 1.0),
        "mean + 0.2 sd": (0.2, 1.0, 0.0, 1.0),
        "mean + 0.5 sd": (0.5, 1.0, 0.0, 1.0),
        "spread x 1.2": (0.0, 1.2, 0.0, 1.0),
        "5 % go missing": (0.0, 1.0, 0.05, 1.0),
        "largest category - 30 %": (0.0, 1.0, 0.0, 0.7),
    }[injection.name]

    assert (mean, spread, missing, largest) == pytest.approx(expected, abs=0.03)
    assert len(moved) == len(column.values)


def changes(
    column: ReferenceColumn, moved: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[float, float, float, float]:
    """How mean and spread (in the reference's), missing and largest share (as a factor) have changed."""
    if column.subject.categories is not None:
        largest = int(np.bincount(column.values[column.values >= 0]).argmax())
        return 0.0, 1.0, 0.0, float((moved == largest).sum() / (column.values == largest).sum())
    before, after = column.present, moved[~np.isnan(moved)]
    missing = (len(before) - len(after)) / len(moved)
    return float((after.mean() - before.mean()) / before.std()), float(after.std() / before.std()), missing, 1.0
