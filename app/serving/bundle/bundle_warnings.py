"""Warnings about a model and its columns, for the one who makes a bundle.

The model may have no skill, and a column may not be what its type says. Nothing is refused here. Each warning names
the column, the figure, and what to write where the type is wrong.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.statistics import middle_ranks, rank_auc
from app.types import Feature, FeatureType, Json, ModelSchema, Row, Scalar, Task

MIN_ROWS = 30
"""On fewer rows with a truth, nothing is said of a model's skill; on fewer values, nothing of a column."""
CHANCE = 2.0
"""Standard errors above chance from which a model has skill."""
MIN_UNIQUE_SHARE = 0.9
"""Share of rows with a value of their own from which a column of text or of whole numbers identifies rows."""
MAX_CODES, MIN_CODES, MIN_ROWS_PER_CODE = 1000, 10, 5
"""Different whole numbers that can be codes, and rows for each on average."""
MIN_ROUGHNESS = 0.6
"""Von Neumann's ratio from which neighbours among whole numbers have nothing in common: near 0 on a smooth curve."""
MIN_WORDS = 3
"""Words of a typical text from which it is free text."""
LEAK = 0.999
"""Area under the ROC curve, or rank correlation, of one feature alone from which it tells the target."""
_CODE_NAME = re.compile(r"(?:^|_)(?:id|code|zip|zipcode|postcode|postal|branch|store|shop|region|district|sku)(?:_|$)")
_SECONDS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6}
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_102_444_800
"""The years 1990 to 2100 in seconds since the epoch."""


class Column(NamedTuple):
    """One feature with its values that are present, beside the truth of their rows."""

    feature: Feature
    values: list[Scalar]
    truth: NDArray[np.float64]

    @property
    def distinct(self) -> int:
        """The number of different values."""
        return len(set(self.values))


def find_warnings(schema: ModelSchema, rows: Sequence[Row], outcomes: NDArray[Any], baseline: Json) -> Iterator[str]:
    """Say what makes a model look worthless, or a column look like something else.

    Args:
        rows, outcomes: the reference; an outcome that is not known is NaN, or negative for a class.
        baseline: the reference's performance.
    """
    known = np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0
    truth = outcomes[known].astype(np.float64)
    if len(truth) >= MIN_ROWS and (warning := _no_skill(schema, truth, baseline)):
        yield warning
    places = np.flatnonzero(known).tolist()
    for feature, values in zip(schema.features, zip(*rows, strict=True), strict=True):
        column = [values[place] for place in places]
        if len(truth) >= MIN_ROWS and _is_copy(column, truth.tolist(), schema):
            yield (
                f"feature {feature.name} tells the target in all of {len(truth)} rows; is it known before the truth?"
            )
        elif warning := _about(_present(feature, values, outcomes, known), schema):
            yield warning


def _present(feature: Feature, values: Sequence[Scalar], outcomes: NDArray[Any], known: NDArray[np.bool_]) -> Column:
    has = np.array([value is not None for value in values], dtype=np.bool_)
    truth = np.where(known, outcomes, np.nan).astype(np.float64)
    return Column(feature, [value for value in values if value is not None], truth[has])


def _about(column: Column, schema: ModelSchema) -> str:
    """The first thing that is odd about a column; empty where nothing is."""
    if len(column.values) < MIN_ROWS:
        return ""
    name = column.feature.name
    if column.distinct == 1:
        return f"feature {name} is {column.values[0]!r} in all of {len(column.values)} rows: it tells the model nothing"
    checks = (_identifier, _free_text, _dates, _codes)
    found = next((text for check in checks if (text := check(column))), "")
    return found or _leak(column, schema)


def _identifier(column: Column) -> str:
    """Text or consecutive whole numbers, nearly all different, identify rows."""
    feature, values = column.feature, column.values
    if column.distinct < MIN_UNIQUE_SHARE * len(values):
        return ""
    if feature.type is FeatureType.CATEGORICAL:
        is_identifier = _words(values) < MIN_WORDS
    elif feature.type is FeatureType.INTEGER:
        numbers = [value for value in values if isinstance(value, int | float)]
        is_dense = max(numbers) - min(numbers) < len(numbers) / MIN_UNIQUE_SHARE
        is_identifier = is_dense or _CODE_NAME.search(feature.name.lower()) is not None
    else:
        is_identifier = False
    return is_identifier * (
        f"feature {feature.name} looks like an identifier: {column.distinct} different values in {len(values)} rows. "
        "New rows will have values that no model has seen; fit the model without it"
    )


def _free_text(column: Column) -> str:
    """Texts of several words that rarely come again are written by people."""
    if column.feature.type is not FeatureType.CATEGORICAL:
        return ""
    is_text = _words(column.values) >= MIN_WORDS and 2 * column.distinct > len(column.values)
    return is_text * (
        f"feature {column.feature.name} looks like free text: {column.distinct} different texts in "
        f"{len(column.values)} rows. Only its frequent texts are watched for drift"
    )


def _words(values: Sequence[Scalar]) -> float:
    return float(np.median([len(str(value).split()) for value in values]))


def _dates(column: Column) -> str:
    """Whole numbers that are all dates as YYYYMMDD, or all times since the epoch."""
    if column.feature.type is not FeatureType.INTEGER or column.distinct < MIN_CODES:
        return ""
    numbers = [int(value) for value in column.values if isinstance(value, int | float)]
    form = "dates as YYYYMMDD" if all(map(_is_date, numbers)) else ""
    for unit, size in _SECONDS.items():
        if all(_FIRST_SECOND * size <= number < _LAST_SECOND * size for number in numbers):
            form = f"times in {unit} since 1970"
    return bool(form) * (
        f"feature {column.feature.name} looks like {form}: new rows lie beyond all that the model has seen. "
        "Fit the model on what the date means, such as an age, a month or a day of the week"
    )


def _is_date(number: int) -> bool:
    year, month, day = number // 10_000, number // 100 % 100, number % 100
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1900 <= year < 2100  # noqa: PLR2004 - dates that people write


def _codes(column: Column) -> str:
    """Whole numbers whose neighbours have nothing in common, or that are named as codes are."""
    feature, values = column.feature, column.values
    few = MIN_CODES <= column.distinct <= MAX_CODES and len(values) >= MIN_ROWS_PER_CODE * column.distinct
    if feature.type is not FeatureType.INTEGER or not few:
        return ""
    is_named = _CODE_NAME.search(feature.name.lower()) is not None
    return (is_named or _is_rough(column)) * (
        f"feature {feature.name} looks like a code: {column.distinct} whole numbers, compared as numbers in order. "
        f"If their order means nothing, bundle it with --categorical {feature.name}"
    )


def _is_rough(column: Column) -> bool:
    """Whether frequencies or outcomes differ between whole numbers, and most between neighbours.

    Both are measured by von Neumann's ratio of the mean squared difference of neighbours to twice the variance, which
    is 1 for values in any order (J. von Neumann, 1941, doi:10.1214/aoms/1177731677).
    """
    counts = Counter(column.values)
    order = sorted(counts, key=lambda value: float(value or 0))
    frequencies = np.array([counts[value] for value in order], dtype=np.float64)
    chance = float(frequencies.mean())
    if float(frequencies.var()) > 4 * chance and _roughness(frequencies) >= MIN_ROUGHNESS:
        return True
    truth, place = column.truth, {value: at for at, value in enumerate(order)}
    known = np.isfinite(truth)
    groups = np.array([place[value] for value in column.values])[known]
    rows = np.bincount(groups, minlength=len(order))
    if not rows.all() or not truth[known].var():
        return False
    means = np.bincount(groups, truth[known], minlength=len(order)) / rows
    by_chance = float(truth[known].var() * (1 / rows).mean())
    return float(means.var()) > 2 * by_chance and _roughness(means) >= MIN_ROUGHNESS


def _roughness(values: NDArray[np.float64]) -> float:
    return float((np.diff(values) ** 2).mean() / 2 / values.var())


def _leak(column: Column, schema: ModelSchema) -> str:
    """A number that gives the order of the truth without a mistake is known after it, as a rule."""
    known = np.isfinite(column.truth)
    if schema.task is Task.MULTICLASS or not column.feature.type.is_number or known.sum() < MIN_ROWS:
        return ""
    values = np.array([float(value) for value in column.values if value is not None])[known]
    truth, positive = column.truth[known], column.truth[known] == 1
    if len(set(truth.tolist())) == 1 or len(set(values.tolist())) == 1:
        return ""
    if schema.task is Task.BINARY:
        kind, figure = "AUC", rank_auc(middle_ranks(values), positive)
        figure = max(figure, 1 - figure)
    else:
        kind, figure = "rank correlation", abs(float(np.corrcoef(middle_ranks(values), middle_ranks(truth))[0, 1]))
    return (figure >= LEAK) * (
        f"feature {column.feature.name} alone tells the target: {kind} {figure:.4f} on {len(truth)} rows; "
        "is it known before the truth?"
    )


def _no_skill(schema: ModelSchema, truth: NDArray[Any], baseline: Json) -> str:
    """Say that a model is no better than an answer that is always the same; empty where it is."""
    if schema.task is Task.REGRESSION:
        skill = baseline.get("r2")
        if skill is None or skill > 1 / len(truth):
            return ""
        return (
            f"the model is no better than the mean of the truth: R2 {skill:.3f} on {len(truth)} rows; are the "
            "columns those that it was fitted on?"
        )
    counts = np.bincount(truth.astype(np.int64), minlength=len(schema.classes))
    majority, accuracy = counts.max() / len(truth), baseline.get("accuracy", 1.0)
    noise = math.sqrt(majority * (1 - majority) / len(truth))
    if accuracy > majority + CHANCE * noise:
        return ""
    seen = counts[counts > 0]
    area = baseline.get("roc_auc")
    if area is not None and len(seen) == 2:  # noqa: PLR2004 - binary
        skill, error = area - 0.5, math.sqrt((len(truth) + 1) / 12 / seen[0] / seen[1])
    else:
        share = 1 / len(seen)
        skill = baseline.get("balanced_accuracy", share) - share
        error = math.sqrt((share * (1 - share) / seen).sum()) / len(seen)
    if skill > CHANCE * error:
        return ""
    return (
        f"the model is no better than its most frequent class: accuracy {accuracy:.3f}, always "
        f"{schema.classes[int(counts.argmax())]} has {majority:.3f} on {len(truth)} rows; are the columns those that "
        "it was fitted on?"
    )


def _is_copy(column: Sequence[Any], truth: Sequence[Any], schema: ModelSchema) -> bool:
    """Tell whether a feature is the target.

    It has the same values, or few values that each go with one class.
    """
    if schema.task is Task.REGRESSION:
        return column == truth and len(set(truth)) > 1
    values = set(column)
    if len(values) > max(len(schema.classes), len(column) // MIN_ROWS_PER_CODE):
        return False
    return len(set(zip(column, truth, strict=True))) == len(values) and len(set(truth)) > 1
