"""The verdict on joint drift, as ``multivariate`` of the drift report shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from scipy import special

from app.monitoring.columns import ReferenceColumn
from app.monitoring.joint import separate
from app.monitoring.limits import Limits
from app.monitoring.reference import Reference
from app.store.windows import Window
from app.types import Json, to_rfc3339

_LEAST_AUC = 0.55
"""That of one feature moved by 0.18 standard deviations."""
_TEST = "domain-classifier"
_MOST_FEATURES = 10
_FOLDS = 2


def joint_drift(
    watched: Sequence[ReferenceColumn],
    window: Sequence[NDArray[Any]],
    limits: Limits,
    *,
    start: str,
    end: str,
    inflations: Sequence[float] = (),
    before: Json | None = None,
) -> Json:
    """Judge whether any combination of features gives the window away; the verdict opens and closes as a feature's.

    Args:
        start, end: times of the window's first and last row.
        inflations: how much more than chance each feature varies between blocks of the reference; the largest widens
            the null, since the classifier would find that very feature.
        before: ``multivariate`` of the report of the look before, against the same reference.
    """
    rows = min(len(window[0]), len(watched[0].values)) if window else 0
    if len(watched) < 2:  # noqa: PLR2004 - joint drift is of several features
        return not_run("a single feature has no joint drift")
    if rows < _FOLDS * limits.min_rows:
        reason = f"{_FOLDS * limits.min_rows} rows are needed on both sides, {rows} are there"
        return _empty("insufficient_data", reason)
    found = separate(
        [column.subject for column in watched],
        [column.values for column in watched],
        window,
        ordered=watched[0].ordered,
        inflation=max(inflations, default=1.0),
    )
    if found.effective_rows < limits.min_rows:
        return _empty("insufficient_data", f"the window is worth {found.effective_rows:.0f} independent rows: too few")
    material = material_auc(limits.material_psi)
    significant = found.p_value <= limits.joint_alpha and found.auc >= material
    opened = before if before is not None and before.get("status") == "drift" else None
    drifted = significant or (opened is not None and start <= opened["last_significant_at"])
    names = [column.subject.name for column in watched]
    shares = sorted(zip(found.shares.round(4).tolist(), names, strict=True), key=lambda pair: -pair[0])
    return {
        "test": _TEST,
        "auc": round(found.auc, 6),
        "p_value": float(f"{found.p_value:.6g}"),  # processors differ in the last digits of a matrix product
        "status": "drift" if drifted else "stable",
        "reason": _reason(found.auc, found.p_value, material, limits.joint_alpha),
        "significant": significant,
        "since": (opened["since"] if opened else end) if drifted else None,
        "last_significant_at": (end if significant else (opened or {}).get("last_significant_at")) if drifted else None,
        "material_auc": material,
        "alpha": limits.joint_alpha,
        "features": [{"feature": name, "share": share} for share, name in shares[:_MOST_FEATURES] if drifted and share],
    }


def material_auc(material_psi: float) -> float:
    """Give the AUC of a single normal feature whose shift has this PSI, ``Phi(sqrt(PSI / 2))``, and at least 0.55.

    >>> material_auc(0.01), round(material_auc(0.5), 3)
    (0.55, 0.691)
    """
    return max(_LEAST_AUC, float(special.ndtr(math.sqrt(material_psi / 2))))


def joint_of(
    reference: Reference,
    together: Sequence[ReferenceColumn],
    columns: Sequence[NDArray[Any]],
    window: Window,
    limits: Limits,
    previous: Json | None,
    entries: Json,
    errors: list[Json],
) -> Json:
    """Judge a window's features together; where that fails, ``errors`` gets an entry and the rest of the report stands.

    Args:
        entries: the features' own verdicts; one in error is left out.
        together: the reference's features, with the rows that the window is compared with; empty where these are few.
        previous: the report of the look before.
    """
    if not together:
        return not_run("the reference has too few rows at the window's weekday and hour")
    wider = reference.inflations(window.rows)
    sound = [place for place, entry in enumerate(entries.values()) if entry["status"] != "error"]
    same = previous is not None and (previous.get("reference") or {}).get("sha256") == reference.sha256
    try:
        return joint_drift(
            [together[place] for place in sound],
            [columns[place] for place in sound],
            limits,
            start=to_rfc3339(window.predicted_at[0]),
            end=to_rfc3339(window.predicted_at[-1]),
            inflations=[wider[place] for place in sound],
            before=previous.get("multivariate") if previous is not None and same else None,
        )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the features together, each was still judged
        reason = f"not compared: {type(error).__name__}: {error}"
        errors.append({"feature": None, "reason": f"joint drift {reason}"})
        return not_run(reason)


def not_run(reason: str) -> Json:
    """Say why nothing was tested."""
    return _empty("not_run", reason)


def _empty(status: str, reason: str) -> Json:
    return {"test": _TEST, "auc": None, "p_value": None, "status": status, "reason": reason, "features": []}


def _reason(auc: float, p_value: float, material: float, alpha: float) -> str:
    chance = f"by chance, an AUC of {auc:.3f} has probability {p_value:.2g}, limit {alpha:.2g}"
    return f"{chance}; it matters from {material:.3f} on"
