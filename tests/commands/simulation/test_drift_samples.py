"""Reading the simulator's CSV: types come from the model, and mistakes are named with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.commands.simulation.drift import Extra, Sample, read_feature, read_samples
from app.commands.tables.dialect import Dialect
from app.errors import PlumblineError
from app.types import Feature, FeatureType, Label

FEATURES = tuple(
    read_feature(entry)
    for entry in (
        {"name": "age", "type": "integer", "nullable": True},
        {"name": "income", "type": "numeric"},
        {"name": "member", "type": "boolean"},
        {"name": "zone", "type": "categorical", "categories": [1, 2]},
        {"name": "code", "type": "categorical", "categories": ["01", "02"]},
    )
)
HEADER = "code,zone,member,income,age,comment,outcome\n"


def read(folder: Path, text: str, classes: tuple[Label, ...] = (0, 1)) -> list[Sample]:
    """The samples of a file with this text."""
    file = folder / "data.csv"
    file.write_text(text, encoding="utf-8")
    return read_samples(file, FEATURES, classes, "outcome", Dialect())[0]


def test_values_take_the_types_of_the_schema(tmp_path: Path) -> None:
    """Cells become what the schema says; an empty cell is a missing value; other columns are left out."""
    samples = read(tmp_path, HEADER + "01,2,True,3,41,x,1\n02,1,0,2.5,,y,0\n")

    assert samples == [
        Sample({"age": 41, "income": 3.0, "member": True, "zone": 2, "code": "01"}, 1),
        Sample({"age": None, "income": 2.5, "member": False, "zone": 1, "code": "02"}, 0),
    ]


def test_context_and_value_are_columns_of_the_data(tmp_path: Path) -> None:
    """Named columns that are no features go along: as the row's context, and as the business value of its outcome."""
    file = tmp_path / "data.csv"
    file.write_text(HEADER.replace("outcome", "paid,outcome") + "01,2,True,3,41,EU,-1.5,1\n02,1,0,2.5,,,,0\n")

    samples = read_samples(file, FEATURES, (0, 1), "outcome", Dialect(), Extra(("comment",), "paid"))[0]

    assert [(sample.context, sample.value) for sample in samples] == [
        ({"comment": "EU"}, -1.5),
        ({"comment": None}, None),
    ]


@pytest.mark.parametrize(
    ("classes", "cell", "expected"),
    [
        ((0, 1), "0", 0),
        ((False, True), "False", False),
        (("", "x"), "", ""),
        (("a", "b"), "b", "b"),
        ((), "0", 0.0),
        ((0, 1), "", None),
    ],
)
def test_labels_take_the_classes_own_type(
    tmp_path: Path, classes: tuple[Label, ...], cell: str, expected: Label | None
) -> None:
    """A truth of 0, False or "" is a truth; only an empty cell that names no class is none."""
    sample = read(tmp_path, f"{HEADER}01,2,True,3,41,x,{cell}\n", classes)[0]

    assert sample.outcome == expected
    assert type(sample.outcome) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,outcome\n", "lacks the column(s) 'age', 'income', 'member', 'zone'; it has 'code', 'outcome'"),
        ("", "data.csv: is empty: it has no line of names"),
        (HEADER, "has no rows"),
        (HEADER + "01,2,True,much,41,x,1\n", "data.csv: column 'income': 1 cell is no number (row 1: 'much')"),
        (HEADER + "01,2,maybe,3,41,x,1\n", "data.csv: column 'member': 1 cell is no boolean (row 1: 'maybe')"),
        (HEADER + "01,2,True,3,41,x,5\n", "data.csv: row 1: outcome is '5', and not one of 0, 1"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """A wrong file is refused with what is wrong and where."""
    with pytest.raises(PlumblineError) as refusal:
        read(tmp_path, text)

    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named() -> None:
    """A file that is not there is an error about that file."""
    with pytest.raises(PlumblineError, match=r"^nowhere\.csv: cannot be read: No such file"):
        read_samples(Path("nowhere.csv"), (Feature("a", FeatureType.NUMERIC),), (), "outcome", Dialect())
