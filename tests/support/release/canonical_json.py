"""One text for one result: what two releases must agree on, and what may differ."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

RENAMES: Mapping[str, str] = {}
"""Fields that a later release has renamed: the old path -> the new name of its last part.

A path has dots between keys and places; ``*`` stands for anything. ``{"alerts": "items", "report.features.*.psi":
"population_stability"}`` renames two.
"""
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""What becomes ``<id>``, also inside a text: ``report_id``, ``alert_id``, ``key``, and the links in messages."""
RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""How far two floats may lie apart; everything else, and whether a number is an integer, must be the same.

Another processor or another BLAS adds numbers up in another order. Over seven kernels of OpenBLAS the largest relative
difference of all figures but those of joint drift was 1.5e-12. Rounding both sides would not help: two neighbours may
lie on both sides of a rounding limit.
"""
JOINT, JOINT_RELATIVE = ("*multivariate.*", "*unusual_rows.*"), 1e-3
"""Joint drift ranks scores, and scores that are equal but for rounding change their places: 2.3e-4 on one kernel.

So do unusual rows, whose scores have three decimals.
"""
_SHORT_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")


def canonical_text(document: Any) -> str:
    """Write JSON with sorted keys, ids replaced, and lists of scalars on one line.

    >>> print(canonical_text({"b": [1, 2.5], "a": "report 01a22d73-9396-76b1-a7ea-ea092e50bd4e"}), end="")
    {
     "a": "report <id>",
     "b": [1, 2.5]
    }
    """
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    lists = _SHORT_LIST.sub(lambda found: "[" + re.sub(r",\n\s+", ", ", found[1]) + "]", text)
    return ID.sub("<id>", lists) + "\n"


def rename_fields(document: Any, names: Mapping[str, str], path: str = "") -> Any:
    """Give the fields of an old document their new names.

    >>> rename_fields({"alerts": [{"rule": "a"}], "rule": 1}, {"alerts.*.rule": "name"})
    {'alerts': [{'name': 'a'}], 'rule': 1}
    """
    if isinstance(document, list):
        return [rename_fields(item, names, f"{path}{place}.") for place, item in enumerate(document)]
    if not isinstance(document, dict):
        return document
    return {
        next((new for old, new in names.items() if fnmatchcase(path + key, old)), key): rename_fields(
            value, names, f"{path}{key}."
        )
        for key, value in document.items()
    }


def ignore_rounding(found: Any, expected: Any, path: str = "") -> Any:
    """Put the expected float in the place of each float that is as good as equal.

    >>> ignore_rounding({"a": 0.1 + 0.2, "b": 0.31, "c": 3}, {"a": 0.3, "b": 0.3, "c": 3.0})
    {'a': 0.3, 'b': 0.31, 'c': 3}
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        return {key: ignore_rounding(value, expected.get(key), f"{path}{key}.") for key, value in found.items()}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [ignore_rounding(one, other, path) for one, other in zip(found, expected, strict=True)]
    if isinstance(found, float) and isinstance(expected, float):
        relative = JOINT_RELATIVE if any(fnmatchcase(path, each) for each in JOINT) else RELATIVE
        return expected if math.isclose(found, expected, rel_tol=relative, abs_tol=ABSOLUTE) else found
    return found
