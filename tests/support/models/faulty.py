"""A model that misbehaves on chosen rows: bundled, it is a shadow that nobody would want."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from tests.support.models import bundles

RAISES, HANGS, DIES, SKIPS = 1e6, 2e6, 3e6, 4e6
"""Values of the first feature, and what the model does with a row that has it."""
CRASHES = {5e6: signal.SIGSEGV, 6e6: signal.SIGABRT, 7e6: signal.SIGKILL}
"""Further ones, and the signal that ends its process then, as a fault in compiled code or a lack of memory does."""


class Moody(LogisticRegression):  # type: ignore[misc]  # scikit-learn is untyped
    """Raises, hangs, ends its process or gives too few answers, as the first feature says; else a classifier."""

    def predict_proba(self, rows: Any) -> Any:
        """The probabilities, if it feels like it."""
        first = set(np.asarray(rows)[:, 0].tolist())
        if RAISES in first:
            raise ValueError(f"not in the mood for {rows}")
        if HANGS in first:
            Event().wait()
        if DIES in first:
            os._exit(1)
        for value in first & CRASHES.keys():
            os.kill(os.getpid(), CRASHES[value])
        return super().predict_proba(rows)[: -8 if SKIPS in first else None]


def build_moody(models: Path, name: str, version: str) -> None:
    """Write the model as a version of a name, fitted like ``switch/2`` with the labels exchanged."""
    data = bundles.numbers(("yes", "no"))
    model = Moody().fit(data[["a", "b", "c"]], data["y"])
    holdout = bundles.unseen(data)
    build_bundle(
        model, data=data, holdout=holdout, target="y", name=name, version=version, models=models, format="joblib"
    )


def set_golden_row(folder: Path, value: float) -> None:
    """Let the first golden row be one on which the model misbehaves."""
    with np.load(io.BytesIO((folder / "reference.npz").read_bytes())) as stored:
        arrays = dict(stored)
    arrays["x0"][:] = value
    written = io.BytesIO()
    np.savez(written, **arrays)
    bundles.pin(folder, "reference.npz", written.getvalue())
