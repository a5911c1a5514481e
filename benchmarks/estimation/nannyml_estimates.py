"""NannyML's estimates of windows: ``nannyml_estimates.py TASK ROWS.npz …``, where it is there."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np


def main() -> None:
    """Print a JSON array with one of each file: accuracy and ROC AUC, or MAE and RMSE."""
    task, *paths = sys.argv[1:]
    print(json.dumps([estimate(task, path) for path in paths]))


def estimate(task: str, path: str) -> list[float]:
    """Estimate the metrics of one window."""
    import pandas as pd

    nannyml = importlib.import_module("nannyml")  # this interpreter's own

    rows = np.load(path)
    reference, window = (rows[name] for name in ("reference", "window"))
    names = [f"x{place}" for place in range(reference.shape[1] - 2)]
    known = pd.DataFrame(reference, columns=[*names, "y", "said"])
    asked = pd.DataFrame(window, columns=[*names, "said"])
    if task == "regression":
        measured = ["mae", "rmse"]
        estimator = nannyml.DLE(
            feature_column_names=names, y_pred="said", y_true="y", metrics=measured, chunk_size=len(asked)
        )
    else:
        measured = ["accuracy", "roc_auc"]
        known["score"], asked["score"] = known["said"], asked["said"]
        for frame in (known, asked):
            frame["said"] = (frame["score"] >= 0.5).astype(int)
        estimator = nannyml.CBPE(
            y_pred_proba="score",
            y_pred="said",
            y_true="y",
            problem_type="classification_binary",
            metrics=measured,
            chunk_size=len(asked),
        )
    found = estimator.fit(known).estimate(asked).filter(period="analysis").to_df()
    return [float(found[(name, "value")].iloc[0]) for name in measured]


if __name__ == "__main__":
    main()
