"""Answers and labels in the forms that callers know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.types import Label, label_key


def label_keys(classes: Sequence[Label]) -> tuple[str, ...]:
    """The keys of all classes, in their order."""
    return tuple(map(label_key, classes))


def named(classes: Sequence[Label], probabilities: Sequence[float]) -> dict[str, float]:
    """Probabilities by class."""
    return dict(zip(label_keys(classes), probabilities, strict=True))


def normalise_label(schema: dict[str, Any], label: Label) -> Label:
    """A reported truth in the type of the stored schema: 0, 0.0 and false are one label in a 0/1 task; "0" is not.

    Raises:
        ValueError: the label cannot be the truth of this task; the text says what is expected.
    """
    classes = schema.get("classes") or []
    if not classes:
        if isinstance(label, bool) or not isinstance(label, (int, float)):
            raise ValueError("expected a number")
        return float(label)
    for known in classes:
        if known == label and isinstance(known, str) == isinstance(label, str):
            return known  # type: ignore[no-any-return]  # classes are labels, read back from JSON
    raise ValueError(f"expected one of the classes {', '.join(map(label_key, classes))}")
