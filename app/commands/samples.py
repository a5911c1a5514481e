"""Rows of a CSV file as the model of a running service takes them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.commands.drifting import Sample
from app.errors import PlumblineError
from app.types import Feature, FeatureType, Json, Label, Scalar

_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def read_feature(entry: Json) -> Feature:
    """One feature as `GET /models/{name}` describes it."""
    return Feature(
        name=entry["name"],
        type=FeatureType(entry["type"]),
        nullable=bool(entry.get("nullable")),
        categories=tuple(entry.get("categories") or ()),
    )


def read_samples(file: Path, features: Sequence[Feature], classes: Sequence[Label], target: str) -> list[Sample]:
    """Every row of a CSV file with a header; columns that are neither a feature nor the target are left out.

    Raises:
        PlumblineError: the file cannot be read, lacks a column, has no rows, or holds a value of another type.
    """
    labels = {str(label): label for label in classes}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            absent = {target, *(feature.name for feature in features)} - set(reader.fieldnames or ())
            if absent:
                raise PlumblineError(f"{file}: lacks the column(s) {', '.join(sorted(absent))}")
            samples = [_sample(row, features, labels, target, f"{file}:{reader.line_num}") for row in reader]
    except OSError as error:
        raise PlumblineError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PlumblineError(f"{file}: is not UTF-8 text") from None
    if not samples:
        raise PlumblineError(f"{file}: has no rows")
    return samples


def _sample(
    row: Mapping[str, str | None], features: Sequence[Feature], labels: Mapping[str, Label], target: str, where: str
) -> Sample:
    values = {feature.name: _value(row[feature.name] or "", feature, where) for feature in features}
    return Sample(values, _label(row[target] or "", labels, where))


def _value(text: str, feature: Feature, where: str) -> Scalar:
    """A cell as JSON will carry it; an empty cell is a missing value."""
    if text == "":
        return None
    try:
        match feature.type:
            case FeatureType.NUMERIC:
                return float(text)
            case FeatureType.INTEGER:
                number = float(text)
                return int(number) if number.is_integer() else number
            case FeatureType.BOOLEAN:
                return _FLAGS[text.lower()]
    except (ValueError, KeyError):
        raise PlumblineError(f"{where}: {feature.name}: is not {feature.type}") from None
    coded = any(isinstance(category, int) for category in feature.categories)
    return int(text) if coded and text.lstrip("-").isdigit() else text


def _label(text: str, labels: Mapping[str, Label], where: str) -> Label | None:
    """A class of the model, or in regression a number; an empty cell is a truth that nobody knows."""
    if text == "" and "" not in labels:
        return None
    try:
        return labels[text] if labels else float(text)
    except (KeyError, ValueError):
        expected = f"one of {', '.join(labels)}" if labels else "a number"
        raise PlumblineError(f"{where}: the outcome is not {expected}") from None
