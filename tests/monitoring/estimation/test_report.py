"""The estimated block: a verdict before the outcomes come, the truth beside it later, and what it cannot know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.monitoring.estimation.report import estimated
from app.monitoring.estimation.samples import Sample
from app.monitoring.performance.degradation import Degradation
from app.types import ModelSchema
from tests.support.monitoring.unlabelled_windows import BINARY, REGRESSION, SCHEMAS, reference, sample, window

LIMITS = Degradation(alpha=0.01)


def block(schema: ModelSchema, drawn: Sample, mature: Sample | None = None, **others: Any) -> Any:
    """Estimate a window without outcomes, against a reference of two thousand rows."""
    latest = window(schema, drawn)
    proof = latest if mature is None else window(schema, mature, labelled=True)
    return estimated(schema, reference(schema, 2000, **others), latest, proof, LIMITS)


@pytest.mark.parametrize("task", SCHEMAS)
def test_a_harmful_shift_is_degraded_before_any_outcome(task: str) -> None:
    """Without a single outcome, a shift into the region where the model is bad is found, and a still window is not."""
    schema = SCHEMAS[task]
    still, shifted = (block(schema, sample(schema, 1500, 2, shift)) for shift in (0.0, 1.5))

    assert (still["status"], shifted["status"]) == ("ok", "degraded")
    assert (still["shift"]["shifted"], shifted["shift"]["shifted"]) == (False, True)
    assert shifted["rows"] == 1500
    assert shifted["shift"]["effective_reference_rows"] < shifted["shift"]["reference_rows"] == 2000
    json.dumps([still, shifted], allow_nan=False)


@pytest.mark.parametrize("task", SCHEMAS)
def test_the_estimate_stands_beside_the_truth(task: str) -> None:
    """Once outcomes are there, both stand side by side for the same rows, with the usual distance."""
    schema = SCHEMAS[task]
    found = block(schema, sample(schema, 300, 2), sample(schema, 800, 3, 0.5))
    compared, record = found["comparison"], found["track_record"]
    main = "mae" if schema is REGRESSION else "accuracy"

    assert compared["rows"] == 800
    assert compared["metrics"][main]["within"]
    assert (record["chunks"], record["rows_per_chunk"]) == (8, 100)
    assert record["mean_absolute_error"].keys() == compared["metrics"].keys()
    assert record["mean_absolute_error"][main] < 0.15


def test_concept_drift_is_seen_beside_the_truth_alone() -> None:
    """An estimate cannot see that the truth has changed, and says so; beside the outcomes it stands corrected."""
    mature = sample(BINARY, 800, 3)
    mature.answers.outcomes[:] = 1 - mature.answers.outcomes
    found = block(BINARY, sample(BINARY, 300, 2), mature)

    assert "concept drift" in found["caveats"][0]
    assert not found["comparison"]["metrics"]["accuracy"]["within"]


def test_an_unseen_region_is_named() -> None:
    """Where the reference has no rows the estimate is a guess, and the share of such rows stands there."""
    strange = sample(BINARY, 500, 2)
    strange.inputs[:100] += 30.0
    found = block(BINARY, strange)

    assert found["unseen_region_share"] == pytest.approx(0.2, abs=0.03)
    assert any("20%" in caveat or "guess" in caveat for caveat in found["caveats"])


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"in_sample": True}, "fitted"),
        ({"outcomes": None}, "no outcomes"),
        ({"outcomes": np.full(2000, -1)}, "no outcomes"),
        ({"outcomes": np.zeros(2000, dtype=np.int64)}, "some class"),
        ({"probabilities": None}, "no probabilities"),
        ({"outcomes": np.array([0, 1] + [-1] * 1998)}, "2 rows"),
    ],
)
def test_what_is_missing_is_said(others: dict[str, Any], reason: str) -> None:
    """Where nothing can be estimated the block is empty, and the reason stands there."""
    found = block(BINARY, sample(BINARY, 300, 2), **others)

    assert (found["rows"], found["method"], found["metrics"], found["status"]) == (0, None, {}, "insufficient_data")
    assert reason in found["reason"]


@pytest.mark.parametrize("rows", [0, 1, 49])
def test_small_windows_are_not_estimated(rows: int) -> None:
    """Below fifty rows there is no estimate."""
    assert f"window has {rows} rows" in block(BINARY, sample(BINARY, rows, 2))["reason"]


def test_a_broken_reference_is_a_reason() -> None:
    """An estimate that fails is a reason in the report, and nothing else fails with it."""
    found = block(BINARY, sample(BINARY, 300, 2), outcomes=np.full(2000, 7))

    assert found["metrics"] == {}
    assert found["reason"]


def test_few_outcomes_prove_nothing() -> None:
    """Below fifty outcomes there is nothing beside the estimate yet."""
    found = block(BINARY, sample(BINARY, 300, 2), sample(BINARY, 49, 3))

    assert (found["comparison"], found["track_record"]) == (None, None)
    assert found["metrics"]["accuracy"]["value"] is not None


def test_an_open_degradation_stays_open() -> None:
    """A degradation stays open until the window has none of the rows left that last showed it."""
    bad, ours = window(BINARY, sample(BINARY, 3000, 2, 1.2)), reference(BINARY, 5000)
    first = estimated(BINARY, ours, bad, bad, LIMITS)
    good = window(BINARY, sample(BINARY, 1500, 3))
    before: Any = {"baseline": {"sha256": "abc"}, "estimated": first}
    second = estimated(BINARY, ours, good, good, LIMITS, previous=before)

    opened = {name: entry["since"] for name, entry in first["metrics"].items() if entry["status"] == "degraded"}

    assert opened
    assert all(second["metrics"][name]["status"] == "degraded" for name in opened)
    assert {name: second["metrics"][name]["since"] for name in opened} == opened


def test_same_window_same_block() -> None:
    """The block is a function of its arguments."""
    found = [block(BINARY, sample(BINARY, 300, 2, 1.0), sample(BINARY, 200, 3)) for _ in range(2)]

    assert json.dumps(found[0]) == json.dumps(found[1])


def test_a_changed_relation_is_learned_from_outcomes() -> None:
    """Where outcomes show that the estimate was far off, it is corrected from then on, and the caveats say why."""
    known = reference(BINARY, 3000)
    fresh, older = sample(BINARY, 1500, 21), sample(BINARY, 1500, 22)
    swapped = replace(older, answers=replace(older.answers, outcomes=1 - older.answers.outcomes))
    truth = float(np.mean(fresh.answers.outcomes != fresh.answers.predictions))
    held, caveats = [], []
    for mature in (older, swapped):
        found = estimated(
            BINARY, known, window(BINARY, fresh), window(BINARY, mature, labelled=True), Degradation(alpha=1e-4)
        )
        accuracy = found["metrics"]["accuracy"]
        held.append((accuracy["low"] or 0.0) < truth < (accuracy["high"] or 0.0))
        caveats.append(any("relation has changed" in caveat for caveat in found["caveats"]))

    assert caveats == [False, True]
    assert held == [False, True]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(truth, abs=0.05)
