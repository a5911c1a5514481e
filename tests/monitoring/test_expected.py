"""Expected metrics are the realised ones where the outcomes are certain, and their mean where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from app.monitoring.expected import Expected
from app.monitoring.metrics import metrics
from app.monitoring.scored import Scored
from app.types import ModelSchema
from tests.monitoring.judged import binary, draw, multiclass

SCHEMAS = [binary(), binary(("a", "b"), "a"), multiclass(3), multiclass(5)]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("unsaid", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_certain_outcomes_give_the_realised_metrics(schema: ModelSchema, tied: bool, unsaid: bool) -> None:
    """For outcomes that are known, every metric equals the realised one, ties included."""
    classes = len(schema.classes)
    outcomes, said, shares = draw(classes, 400, seed=1)
    if tied:
        shares = np.random.default_rng(2).multinomial(64, shares) / 64
    if unsaid:
        said = np.minimum(said, classes - 2)
    answers = Scored(schema, outcomes, said, shares)
    found, realised = Expected(answers).metrics(np.eye(classes)[outcomes]), metrics(schema, outcomes, said, shares)

    undefined = {name for name, value in found.items() if np.isnan(value)}

    assert undefined == {name for name in found if realised[name] is None}
    assert {name: found[name] for name in found.keys() - undefined} == pytest.approx(
        {name: realised[name] for name in found.keys() - undefined}, abs=1e-9
    )
    assert realised.keys() - found.keys() == {"calibration_error"}


@pytest.mark.parametrize("schema", SCHEMAS[1:3])
def test_uncertain_outcomes_give_the_mean(schema: ModelSchema) -> None:
    """For a belief, each metric is close to the mean over outcomes drawn from it."""
    classes = len(schema.classes)
    _, said, shares = draw(classes, 600, seed=2)
    expected = Expected(Scored(schema, np.full(600, -1), said, shares))
    rng = np.random.default_rng(3)
    drawn = [
        expected.metrics(np.eye(classes)[(shares.cumsum(axis=1) < rng.random((600, 1))).sum(axis=1)])
        for _ in range(200)
    ]
    means = {name: np.mean([each[name] for each in drawn]) for name in drawn[0]}

    assert expected.metrics(shares) == pytest.approx(means, abs=0.01)


def test_counts_repeat_rows() -> None:
    """A row that counts twice is the same as that row twice."""
    outcomes, said, shares = draw(2, 50, seed=4)
    belief, counts = shares, np.arange(50) % 3
    again = np.repeat(np.arange(50), counts)
    repeated = Expected(Scored(binary(), outcomes[again], said[again], shares[again])).metrics(belief[again])

    assert Expected(Scored(binary(), outcomes, said, shares)).metrics(
        belief, counts.astype(np.float64)
    ) == pytest.approx(repeated)


def test_what_is_undefined_is_not_a_number() -> None:
    """Without a positive answer there is no precision, and without a negative outcome no ROC AUC; the rest stays."""
    answers = Scored(binary(), np.array([1, 1]), np.array([0, 0]), np.array([[0.6, 0.4], [0.7, 0.3]]))
    found = Expected(answers).metrics(np.array([[0.0, 1.0], [0.0, 1.0]]))
    undefined = {name for name, value in found.items() if np.isnan(value)}

    assert undefined == {"precision", "specificity", "roc_auc"}
