"""`plumbline report`: two files in, a verdict and a page out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from app.commands.report import compare_tables, report
from app.errors import BundleError
from app.types import Micros


def table(rows: int, seed: int, *, shift: float = 0.0, web: float = 0.6) -> pd.DataFrame:
    """Columns of every type, of which one number and one share can move."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "income": rng.normal(shift, 1, rows),
            "channel": rng.choice(["web", "shop", "7"], rows, p=[web, 0.9 - web, 0.1]),
            "member": rng.random(rows) < 0.4,
            "y": rng.choice(["bad", "good"], rows),
        }
    )


def compare(reference: pd.DataFrame, current: pd.DataFrame, *, target: str | None = None) -> Any:
    """A comparison at one false alarm in a hundred."""
    return compare_tables(reference, current, target=target, alpha=0.01, now=Micros(0))


def run(folder: Path, *options: str, reference: pd.DataFrame, current: pd.DataFrame) -> Result:
    """One run of the command on two files."""
    reference.to_csv(folder / "reference.csv", index=False)
    current.to_csv(folder / "current.csv", index=False)
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(folder / "reference.csv"), str(folder / "current.csv"), *options])


@pytest.mark.parametrize(
    ("shift", "status", "code"), [(0.5, "drift: income (1 of 5 columns)\n", 1), (0.0, "stable\n", 0)]
)
def test_a_verdict_and_its_exit_code(tmp_path: Path, shift: float, status: str, code: int) -> None:
    """One line; a drift is exit code 1 where that is asked for, and 0 otherwise."""
    tables = {"reference": table(5000, 1), "current": table(1000, 2, shift=shift)}
    plain = run(tmp_path, **tables)
    strict = run(tmp_path, "--fail-on-drift", **tables)

    assert (plain.stdout, plain.exit_code) == (status, 0)
    assert (strict.stdout, strict.exit_code) == (status, code)


def test_the_figures_as_json_and_as_a_page(tmp_path: Path) -> None:
    """The suffix of the output says which: the report of a service without what only a service has, or its page."""
    tables = {"reference": table(5000, 1), "current": table(1000, 2, web=0.3)}
    run(tmp_path, "--target", "y", "--exclude", "age", "--output", str(tmp_path / "found.json"), **tables)
    run(tmp_path, "--target", "y", "--output", str(tmp_path / "found.html"), **tables)
    found = json.loads((tmp_path / "found.json").read_text())
    page = (tmp_path / "found.html").read_text()

    assert (found["status"], found["drifted_features"]) == ("drift", ["channel"])
    assert found["features"].keys() == {"income", "channel", "member"}
    assert found["prediction"]["current"]["histogram"]["categories"] == ["bad", "good"]
    assert found["window"].keys() == {"rows", "effective_rows"}
    assert "<h1>channel drifted</h1>" in page
    assert "1970" not in page


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    """Neither a page nor figures: nothing is written."""
    result = run(tmp_path, "--output", str(tmp_path / "found.pdf"), reference=table(100, 1), current=table(100, 2))

    assert result.exit_code == 2
    assert "neither .html nor .json" in result.stderr


def test_one_bad_column_stops_nothing() -> None:
    """Text among numbers, dates, a column that is gone and one that is new: each is told, the rest is compared."""
    reference, current = table(3000, 1), table(1000, 2)
    reference["when"] = pd.Timestamp("2026-01-01")
    current["when"] = pd.Timestamp("2026-02-01")
    current["income"] = current["income"].astype(object).where(current.index % 5 > 0, "n/a")
    current["fresh"] = 1
    reference["old"] = 1
    found = compare(reference, current)
    reasons = {error["feature"]: error["reason"] for error in found["errors"]}

    assert reasons.keys() == {"when", "income", "fresh", "old"}
    assert reasons["income"] == "200 values are no numbers, and count as missing"
    assert found["features"].keys() == {"age", "income", "channel", "member", "y"}
    assert [finding["kind"] for finding in found["data_quality"]["findings"]] == ["missing_share"]


def test_a_category_that_looks_like_a_number_is_the_same() -> None:
    """Where every value of a text column happens to be a number, CSV readers make it one."""
    reference, current = table(3000, 1), table(600, 2)
    current["channel"] = np.where(current.index % 10 > 0, "7", "7")
    expected = compare(reference, current)["features"]["channel"]["current"]
    current["channel"] = 7

    assert compare(reference, current)["features"]["channel"]["current"] == expected


def test_the_same_tables_give_the_same_report() -> None:
    """Nothing in it is random."""
    assert compare(table(3000, 1), table(600, 2)) == compare(table(3000, 1), table(600, 2))


@pytest.mark.parametrize("target", ["nobody", "y"])
def test_absent_columns_and_empty_tables_are_refused(target: str) -> None:
    """A target that is not there, or data without rows."""
    current = table(100, 2) if target == "nobody" else table(0, 2)
    with pytest.raises(BundleError, match=r"no column nobody|no rows"):
        compare(table(100, 1), current, target=target)


def test_a_handful_of_rows_is_no_verdict() -> None:
    """Below the least number of rows the status says so."""
    assert compare(table(100, 1), table(20, 2))["status"] == "insufficient_data"


def cities(rng: np.random.Generator, rows: int) -> pd.Series[Any]:
    """Names out of some hundreds, of which a sample misses many."""
    weights = 1 / np.arange(1.0, 601.0)
    return pd.Series([f"c{code}" for code in rng.choice(600, rows, p=weights / weights.sum())])


def numbered(rng: np.random.Generator, rows: int) -> pd.Series[Any]:
    """Ids, each of them new."""
    return pd.Series([f"o-{number}" for number in rng.integers(0, 2**62, rows)])


@pytest.mark.parametrize("rows", [100, 300, 2000])
def test_what_a_reference_has_not_seen_is_expected(rows: int) -> None:
    """Columns of many categories, of ids, and of amounts that are mostly zero do not drift because new values come."""
    drifted, kinds = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tables = [
            pd.DataFrame(
                {
                    "city": cities(rng, count),
                    "order": numbered(rng, count),
                    "amount": np.where(rng.random(count) < 0.8, 0, np.round(rng.exponential(20, count))),
                    "x": rng.normal(size=count),
                    "y": cities(rng, count),
                }
            )
            for count in (rows, 1500)
        ]
        found = compare(*tables, target="y")
        drifted += [found["status"]]
        kinds += [finding["kind"] for finding in found["data_quality"]["findings"]]

    assert drifted == ["stable"] * 5
    assert kinds == []


def test_new_cities_alone_are_no_constant() -> None:
    """Where every value is new, that is the finding; nothing says that they are one and the same."""
    rng = np.random.default_rng(1)
    before, after = (pd.DataFrame({"city": rng.choice(list(letters), 600)}) for letters in ("abcde", "fghij"))
    found = compare(before, after)
    (finding,) = found["data_quality"]["findings"]

    assert found["drifted_features"] == ["city"]
    assert finding["kind"] == "unseen_category"
    assert "each value is new" in finding["message"]


def test_too_small_a_reference_has_no_verdict() -> None:
    """Below thirty rows the figures are shown, and the report says how many rows a verdict takes."""
    few = compare(table(29, 1), table(1000, 2, shift=3.0))
    enough = compare(table(30, 1), table(1000, 2, shift=3.0))

    assert (few["status"], few["drifted_features"]) == ("insufficient_data", [])
    assert few["message"] == "the reference has 29 rows, 30 are needed for a verdict"
    assert few["features"]["income"]["reason"] == few["message"]
    assert few["features"]["income"]["psi"] > 0.2
    assert enough["drifted_features"] == ["income"]
