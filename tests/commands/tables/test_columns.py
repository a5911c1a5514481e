"""Tables with typed columns: whatever the dialect, the same content gives the same columns."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal as DecimalNumber
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from app.commands.outcomes import OutcomeReader
from app.commands.tables.columns import Columns, Labels, read_columns
from app.commands.tables.dialect import Dialect
from app.errors import BundleError, PlumblineError
from app.types import Feature, FeatureType, Label
from tests.commands.tables.mutation import write_damaged

ROWS = 60
KNOWN = {
    "age": Feature("age", FeatureType.INTEGER),
    "income": Feature("income", FeatureType.NUMERIC, nullable=True),
    "member": Feature("member", FeatureType.BOOLEAN),
    "channel": Feature("channel", FeatureType.CATEGORICAL, categories=("web", "shop")),
}


def content() -> pd.DataFrame:
    """Columns of every type, with holes; codes with leading zeros, and text with marks in it."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "income": rng.normal(1_500, 300, ROWS).round(2),
            "zip": rng.choice(["01067", "10115"], ROWS),
            "note": rng.choice(["a, b", 'said "no"', "x; y", "plain"], ROWS),
            "member": rng.random(ROWS) < 0.5,
        }
    )
    frame.loc[::7, ["income", "note"]] = None
    return frame


def read(
    folder: Path, written: str | bytes, suffix: str = ".csv", *, missing: str | None = "?", **known: Any
) -> Columns:
    """The columns of a file with this content."""
    file = folder / f"table{suffix}"
    file.write_bytes(written.encode() if isinstance(written, str) else written)
    return read_columns(file, Dialect(missing=() if missing is None else (missing,)), **known)


def column_of(cells: Sequence[str]) -> str:
    """CSV with the cells in its first column, ``x``."""
    return "x,y\n" + "".join(f"{cell},1\n" for cell in cells)


def values_of(columns: Columns) -> list[Any]:
    """The first column's values; None for a missing one."""
    found = columns.frame["x"].astype(object)
    return found.where(found.notna(), None).tolist()


def grouped(frame: pd.DataFrame, mark: str, decimal: str) -> pd.DataFrame:
    """The incomes as text with thousands divided."""
    told = frame["income"].map("{:,.2f}".format).str.translate({ord(","): mark, ord("."): decimal})
    return frame.assign(income=told.where(frame["income"].notna(), None))


def as_parquet(frame: pd.DataFrame) -> bytes:
    """The bytes of a Parquet file."""
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


FORMS: dict[str, Any] = {
    "comma": lambda frame: frame.to_csv(index=False),
    "semicolon and decimal comma": lambda frame: frame.to_csv(index=False, sep=";", decimal=","),
    "tab": lambda frame: frame.to_csv(index=False, sep="\t"),
    "pipe": lambda frame: frame.to_csv(index=False, sep="|"),
    "mark and quotes": lambda frame: b"\xef\xbb\xbf" + frame.to_csv(index=False, quoting=1).encode(),
    "carriage returns": lambda frame: frame.to_csv(index=False, lineterminator="\r"),
    "both line ends": lambda frame: frame.to_csv(index=False, lineterminator="\r\n"),
    "16 bits": lambda frame: frame.to_csv(index=False, sep="\t").encode("utf-16"),
    "index": lambda frame: frame.sample(frac=1, random_state=1).sort_index().to_csv(),
    "index without a name": lambda frame: frame.to_csv().removeprefix(","),
    "delimiter at line ends": lambda frame: frame.to_csv(index=False, lineterminator=",\n").replace("r,\n", "r\n"),
    "delimiter at all line ends": lambda frame: frame.to_csv(index=False, lineterminator=",\n"),
    "delimiter in the first line": lambda frame: "sep=;\n" + frame.to_csv(index=False, sep=";"),
    "blanks around names": lambda frame: frame.rename(columns="  {} ".format).to_csv(index=False),
    "empty rows": lambda frame: frame.to_csv(index=False) + "\n,,,,\n,,,,\n",
    "a column twice": lambda frame: pd.concat([frame, frame[["age"]]], axis=1).to_csv(index=False),
    "thousands with points": lambda frame: grouped(frame, ".", ",").to_csv(index=False, sep=";"),
    "thousands with commas": lambda frame: grouped(frame, ",", ".").to_csv(index=False),
    "thousands with blanks": lambda frame: grouped(frame, "\u202f", ",").to_csv(index=False, sep=";"),
    "flags in other words": lambda frame: frame.to_csv(index=False).replace("True", "TRUE").replace("False", "false"),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_content_in_many_dialects(tmp_path: Path, form: str) -> None:
    """Delimiters, marks, quotes, line ends, an index, blanks and thousands change nothing."""
    assert_frame_equal(read(tmp_path, FORMS[form](content())).frame, content(), check_dtype=False)


@pytest.mark.parametrize(
    ("cells", "other", "given", "numbers"),
    [
        (["27.679", "44.210", "900"], "1,5", None, [27_679, 44_210, 900]),
        (["1.234.567", "-2.000"], "1,5", None, [1_234_567, -2_000]),
        (["27.679", "44.210"], "1", ",", [27_679, 44_210]),
        (["27.679", "44.210"], "1.5", None, [27.679, 44.21]),
        (["27.679", "0.210"], "1", None, [27.679, 0.21]),
        (["27.679", "44.21"], "1", ",", [27.679, 44.21]),
    ],
)
def test_points_divide_thousands_where_the_file_has_a_decimal_comma(
    cells: list[str], other: str, given: str | None, numbers: list[float], tmp_path: Path
) -> None:
    """A column of whole numbers in groups is read by the mark that another column, or the option, shows."""
    (file := tmp_path / "rows.csv").write_text("x;y\n" + "".join(f"{cell};{other}\n" for cell in cells))

    columns = read_columns(file, Dialect.of(None, given, None))

    assert columns.frame["x"].tolist() == numbers
    assert ("points divide thousands in x" in columns.assumptions()) == (max(numbers) >= 1000)


@pytest.mark.parametrize(("suffix", "form"), [(".parquet", as_parquet), (".jsonl", None)])
def test_one_content_in_typed_formats(tmp_path: Path, suffix: str, form: Any) -> None:
    """Parquet and JSON lines hold what CSV holds."""
    written = form(content()) if form else content().to_json(orient="records", lines=True, double_precision=15)

    assert_frame_equal(read(tmp_path, written, suffix).frame, content(), check_dtype=False)


def test_blanks_after_the_delimiter(tmp_path: Path) -> None:
    """They belong to it, also before quotes; a model that was fitted with them in its names finds these."""
    text = 'age, income, shop\n41, 1.5, "a, b"\n42, 2.5, c\n'

    assert read(tmp_path, text).frame.to_dict("list") == {"age": [41, 42], "income": [1.5, 2.5], "shop": ["a, b", "c"]}
    assert list(read(tmp_path, text, names=[" income"]).frame) == [" income"]


@pytest.mark.parametrize(
    ("cells", "feature", "expected"),
    [
        (["NA", "DE", ""], Feature("x", FeatureType.CATEGORICAL, True, ("DE", "NA")), ["NA", "DE", None]),
        (["NA", "DE", ""], Feature("x", FeatureType.CATEGORICAL, True, ("DE", "FR")), [None, "DE", None]),
        (["NA", "DE", ""], Feature("x", FeatureType.CATEGORICAL, False, ("DE", "FR")), ["NA", "DE", None]),
        (["nan", "None", ""], None, ["nan", "None", None]),
        (["?", "DE", "x"], None, [None, "DE", "x"]),
        (["01067", "1", "2"], None, ["01067", "1", "2"]),
        (["01067", "1", "2"], Feature("x", FeatureType.NUMERIC), [1067, 1, 2]),
        (["1.0", "2.0", "7"], Feature("x", FeatureType.CATEGORICAL, True, ("1", "2")), ["1", "2", "7"]),
        (["1.0", "2", "9"], Feature("x", FeatureType.CATEGORICAL, True, (1, 2)), [1, 2, 9]),
        ([" web", "web ", "shop"], Feature("x", FeatureType.CATEGORICAL, True, ("web",)), ["web", "web", "shop"]),
        (["web", "x", "web"], Feature("x", FeatureType.CATEGORICAL, True, (" web",)), [" web", "x", " web"]),
        (["1", "nan", "?"], None, [1, None, None]),
        (["1", "true", "0.0"], Feature("x", FeatureType.BOOLEAN), [True, True, False]),
        (["9223372036854775808", "1", "2"], None, ["9223372036854775808", "1", "2"]),
        (["1e3", "-.5", "+7"], None, [1000, -0.5, 7]),
    ],
    ids=str,
)
def test_cells_become_what_is_known(
    tmp_path: Path, cells: Sequence[str], feature: Feature | None, expected: list[Any]
) -> None:
    """A category that the model knows is never missing; text stays text; words for a hole are holes among numbers."""
    known = {} if feature is None else {"x": feature}

    assert values_of(read(tmp_path, column_of(cells), known=known)) == expected


def test_every_type_of_parquet(tmp_path: Path) -> None:
    """Decimals, nullable types, dates, lists, bytes and categories are read, whether their type is known or not."""
    frame = pd.DataFrame(
        {
            "decimal": [DecimalNumber("1.50"), None],
            "integer": pd.array([1, None], dtype="Int64"),
            "flag": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["01", None], dtype="string"),
            "date": [date(2026, 1, 5), None],
            "list": [[1, 2], None],
            "bytes": [b"x", None],
            "category": pd.Categorical(["b", None], categories=["b", "a"]),
            "single": np.array([1.5, np.nan], dtype="float32"),
        }
    )
    kinds = {"text": FeatureType.CATEGORICAL, "integer": FeatureType.NUMERIC, "decimal": FeatureType.NUMERIC}
    known = {name: Feature(name, kind, nullable=True) for name, kind in kinds.items()}
    plain, typed = (
        read(tmp_path, as_parquet(frame), ".parquet", missing=None, known=each).frame for each in ({}, known)
    )

    for found in (plain, typed):
        assert found.iloc[1].isna().all()
        names = ["decimal", "integer", "flag", "text", "category", "single"]
        assert [found[name][0] for name in names] == [1.5, 1, True, "01", "b", 1.5]
        assert (found["list"][0], found["date"][0]) == ("[1, 2]", "2026-01-05")
        assert (str(found["category"].dtype), str(found["single"].dtype)) == ("category", "float32")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_number_may_stand_for_a_hole(tmp_path: Path, suffix: str) -> None:
    """-999 is missing where the caller says so, as a whole number and as a float, in every format."""
    frame = pd.DataFrame({"x": [-999, 1, 2], "size": [-999.0, 0.5, 1.5]})
    forms = {".csv": frame.to_csv(index=False), ".jsonl": frame.to_json(orient="records", lines=True)}
    file = tmp_path / f"table{suffix}"
    file.write_bytes(as_parquet(frame) if suffix == ".parquet" else forms[suffix].encode())

    found = read_columns(file, Dialect.of(None, None, ["-999"])).frame

    assert found.isna().to_numpy().tolist() == [[True, True], [False, False], [False, False]]


def test_whole_numbers_of_a_column_with_holes(tmp_path: Path) -> None:
    """Classes, codes, flags and holes that a decimal comma made 1,0 are what they are in other files."""
    frame = pd.DataFrame(
        {"y": [1.0, 0.0, np.nan], "zone": [3.0, np.nan, 9.0], "flag": [1.0, 0.0, 1.0], "x": [-999.0, 1, 2]}
    )
    known = {
        "zone": Feature("zone", FeatureType.CATEGORICAL, categories=(1, 3), nullable=True),
        "flag": Feature("flag", FeatureType.BOOLEAN),
    }
    found = []
    for form in (frame.to_csv(index=False), frame.to_csv(index=False, sep=";", decimal=",")):
        (file := tmp_path / "table.csv").write_text(form)
        columns = read_columns(file, Dialect.of(None, None, ["-999"]), known=known, classes={"y": (0, 1)})
        found.append(
            [columns.frame[name].astype(object).where(columns.frame[name].notna(), None).tolist() for name in frame]
        )

    assert found[0] == found[1] == [[1, 0, None], [3, None, 9], [True, False, True], [None, 1, 2]]


def test_words_for_a_hole_are_told(tmp_path: Path) -> None:
    """One line says how NA was taken, in each column."""
    columns = read(tmp_path, "country;size\nNA;NA\nDE;3\n")

    assert columns.assumptions() == (
        f"{tmp_path / 'table.csv'}: delimiter ';'; 'NA' is text in country; 'NA' counts as missing in size"
    )
    assert read(tmp_path, "country,size\nDE,3\n").assumptions() == ""


@pytest.mark.parametrize("known", [None, {"x": Feature("x", FeatureType.NUMERIC)}])
def test_one_bad_cell_does_not_turn_its_column(tmp_path: Path, known: Mapping[str, Feature] | None) -> None:
    """It is named by row and column, counted, and missing."""
    cells = [f"{number}.5" for number in range(100)]
    cells[7] = "err"
    columns = read(tmp_path, column_of(cells), known=known)

    assert str(columns.misfits["x"]) == "column 'x': 1 cell is no number (row 8: 'err')"
    assert columns.frame["x"].isna().sum() == 1
    assert columns.frame["x"].sum() == sum(float(cell) for cell in cells if cell != "err")
    columns.refuse_misfits()


def test_sizes_are_no_numbers_with_misfits(tmp_path: Path) -> None:
    """Few different numbers beside a word that comes again are codes."""
    cells = ["36", "38", "40"] * 20 + ["XL"] * 3

    assert read(tmp_path, column_of(cells)).frame["x"].tolist() == cells


def test_a_column_of_misfits_is_refused(tmp_path: Path) -> None:
    """Where most cells are not of the type that is known, the caller can refuse the table."""
    columns = read(tmp_path, "x,y\nweb,1\nshop,2\n3,3\n", known={"x": Feature("x", FeatureType.NUMERIC)})

    with pytest.raises(BundleError, match=r"column 'x': 2 of 3 cells are no number \(row 1: 'web'\)"):
        columns.refuse_misfits()


@pytest.mark.parametrize(
    ("classes", "cells", "expected"),
    [
        ((False, True), ["True", "true", "1", "1.0", "FALSE", "0"], [True, True, True, True, False, False]),
        ((0, 1), ["True", "1", "1.0", "false", "0"], [1, 1, 1, 0, 0]),
        (("false", "true"), ["True", "false"], ["true", "false"]),
        (("None", "NA"), ["None", "NA", "nan", ""], ["None", "NA", None, None]),
        (("0", "1"), ["0", "1.0"], ["0", "1"]),
        (("01", "1"), ["01", "1"], ["01", "1"]),
        (("", "x"), ["", "x"], ["", "x"]),
        ((0.5, 1.5), ["0.50", "1.5"], [0.5, 1.5]),
        ((0.5, 1.5), ['"0,50"', '"1,5"'], [0.5, 1.5]),
        ((False, True), ['"1,0"', '"0,0"'], [True, False]),
        ((0, 1), ['"1,0"', '"0,0"', '"0,5"'], [1, 0, "0,5"]),
        (("0", "1"), ['"1,0"'], ["1"]),
        ((1, 1000), ['"1,000"'], ["1,000"]),
        (("good", "bad"), ["good", "odd"], ["good", "odd"]),
    ],
    ids=str,
)
def test_labels_are_classes(
    tmp_path: Path, classes: Sequence[Label], cells: Sequence[str], expected: list[Any]
) -> None:
    """A truth is the class that its cell means; what is no class stays as it is, for the command to refuse."""
    values = values_of(read(tmp_path, column_of(cells), classes={"x": classes}))

    assert [(value, type(value)) for value in values] == [(value, type(value)) for value in expected]


def test_labels_do_not_guess() -> None:
    """Neither another case nor another number is the class."""
    labels = Labels(("Good", 1))

    assert [labels(cell) for cell in ("good", "2", "", "x")] == [None] * 4


def refusal(act: Any) -> str:
    """The text with which a reader refuses a file; empty where it reads it. Another error is the test's."""
    try:
        act()
    except PlumblineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("files", [300, pytest.param(10_000, marks=pytest.mark.fault)])
def test_damaged_files_are_data_or_one_line(tmp_path: Path, files: int) -> None:
    """Random damage in CSV, TSV, JSON lines, Parquet and compressed files never ends in another error."""
    ways: list[dict[str, Any]] = [
        {},
        {"known": KNOWN, "classes": {"outcome": ("good", "bad")}},
        {"names": ["age", "income", "outcome"], "known": KNOWN, "as_written": ["observed_at"]},
    ]
    lines: list[str] = []
    for seed in range(files):
        file, way = write_damaged(tmp_path, seed), random.Random(seed).choice(ways)
        lines += [
            refusal(lambda file=file, way=way: read_columns(file, Dialect(), **way)),
            refusal(lambda file=file: list(OutcomeReader(file, ("good", "bad")).lines())),
        ]
        file.unlink()

    assert [line for line in lines if "\n" in line or len(line) > 1_000] == []
    assert files / 5 < sum(map(bool, lines)) < files * 9 / 5
