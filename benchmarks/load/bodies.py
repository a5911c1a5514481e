"""Request bodies from the live rows that a bundle carries."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import orjson

from tests.support.processes import ROOT

OUTCOME = b'{"prediction_id": "ID", "outcome": "benign"}'
"""A body for ``/outcome``; an id goes where ID stands."""


def example_body() -> bytes:
    """A `/predict` body with the first live row of the example; the id is left to the service."""
    return single_body(ROOT / "models" / "breast_cancer" / "1")


def single_body(bundle: Path) -> bytes:
    """A `/predict` body with a bundle's first live row."""
    return orjson.dumps({"features": live_rows(bundle, 1)[0]})


def own_id_body() -> bytes:
    """A `/predict` body with the first live row of the example by name; an id goes where ID stands."""
    return orjson.dumps({"features": live_rows(ROOT / "models" / "breast_cancer" / "1", 1)[0], "prediction_id": "ID"})


def bulk_body(rows: Sequence[dict[str, float]], ids: Sequence[str] = ()) -> bytes:
    """A `/predict` body with many rows; ids that are not given are left to the service."""
    return orjson.dumps({"instances": rows, **({"prediction_ids": ids} if ids else {})})


def live_rows(bundle: Path, number: int) -> list[dict[str, float]]:
    """So many live rows of a bundle of numbers, from the first one again where the file ends."""
    with (bundle / "live.csv").open(encoding="utf-8", newline="") as file:
        found = [
            {name: float(value) for name, value in row.items() if name != "outcome"} for row in csv.DictReader(file)
        ]
    return list(itertools.islice(itertools.cycle(found), number))
