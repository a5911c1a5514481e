"""The reference survives the disk, and says clearly when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.errors import BundleError
from app.monitoring.reference.reference import Reference, encode, load_reference, save_reference
from app.monitoring.reference_profile import profile
from app.types import Micros, ModelSchema, to_rfc3339


@pytest.fixture
def folder(tmp_path: Path, schema: ModelSchema, draw: Callable[..., list[tuple[object, ...]]]) -> Path:
    """Give a bundle's folder with a reference of 300 rows."""
    columns = encode(schema, draw(300, seed=1))  # type: ignore[arg-type]
    answers = np.arange(300, dtype=np.int32) % 2
    reference = Reference(
        schema,
        columns,
        answers,
        np.full((300, 2), 0.5),
        answers,
        created_at=to_rfc3339(Micros(0)),
        baseline={"accuracy": 1.0},
        dependence={"income": 1.0},
    )
    save_reference(tmp_path, reference)
    (tmp_path / "profile.json").write_text(json.dumps(profile(reference), allow_nan=False))
    return tmp_path


def test_what_was_saved_is_loaded(folder: Path, schema: ModelSchema) -> None:
    """All arrays, the baseline and the file's hash come back; what was not saved is None."""
    reference = load_reference(folder, schema)

    assert reference.rows == 300
    assert len(reference.columns) == 4
    assert reference.probabilities is not None
    assert reference.times is None
    assert reference.baseline == {"accuracy": 1.0}
    assert (reference.created_at, reference.in_sample) == ("1970-01-01T00:00:00.000000Z", False)
    assert len(reference.sha256) == 64


def test_an_older_bundle_is_loaded(folder: Path, schema: ModelSchema) -> None:
    """A profile without dependence and qualification gives a reference that widens nothing."""
    about = json.loads((folder / "profile.json").read_bytes())
    (folder / "profile.json").write_text(
        json.dumps({key: value for key, value in about.items() if key not in ("dependence", "qualification")})
    )

    reference = load_reference(folder, schema)

    assert reference.dependence == {}
    assert reference.inflations(1000) == [1.0] * 6
    assert about["dependence"] == {"income": 1.0}
    assert about["qualification"]["reason"] == "not qualified: no timestamps"


def test_times_put_rows_in_order(schema: ModelSchema) -> None:
    """Only a reference with times tells how much its rows depend on their neighbours, and what follows the hour."""
    columns, answers = encode(schema, [(1.0, 1, True, "web")] * 2), np.array([0, 1])

    timed = Reference(schema, columns, answers, times=np.array([0, 1]))
    untimed = Reference(schema, columns, answers)

    assert {column.ordered for column in (*timed.features, *timed.answers)} == {True}
    assert {column.ordered for column in (*untimed.features, *untimed.answers)} == {False}
    assert set(timed.cycles) == set(untimed.cycles) == {(False, False)}


def test_profile_describes_every_feature(folder: Path) -> None:
    """The profile has bins, mean and share of missing values of each feature."""
    about = json.loads((folder / "profile.json").read_bytes())

    assert list(about["features"]) == ["income", "visits", "member", "channel"]
    assert len(about["features"]["income"]["edges"]) == 9
    assert about["features"]["income"]["mean"] == pytest.approx(0.0, abs=0.2)
    assert about["features"]["channel"]["categories"] == ["web", "shop", "phone"]
    assert about["prediction"]["categories"] == ["bad", "good"]
    assert about["rows"] == 300


@pytest.mark.parametrize("name", ["reference.npz", "profile.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]"])
def test_a_damaged_file_is_refused(folder: Path, schema: ModelSchema, name: str, content: bytes | None) -> None:
    """A file that is missing, empty or something else is refused as a bundle, with the folder's name."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)

    with pytest.raises(BundleError, match=folder.name):
        load_reference(folder, schema)


def test_arrays_of_different_length_are_refused(folder: Path, schema: ModelSchema) -> None:
    """A reference whose columns do not line up is refused."""
    columns = [np.zeros(rows) for rows in (5, 5, 5, 4)]
    save_reference(folder, Reference(schema, columns, np.zeros(5, dtype=np.int32)))

    with pytest.raises(BundleError, match="differ in length"):
        load_reference(folder, schema)


def test_a_pickle_is_never_read(folder: Path, schema: ModelSchema) -> None:
    """An array of Python objects, which only a pickle can hold, is refused."""
    np.savez(folder / "reference.npz", prediction=np.array([object()]), allow_pickle=True)

    with pytest.raises(BundleError, match="cannot be read"):
        load_reference(folder, schema)


def test_answers_include_the_positive_probability(schema: ModelSchema) -> None:
    """Where the reference has probabilities, the positive class's is watched beside the prediction."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    columns = encode(schema, [(1.0, 1, True, "web")] * 2)
    reference = Reference(schema, columns, np.array([0, 1]), probabilities)

    assert [column.subject.name for column in reference.answers] == ["prediction", "probability"]
    assert reference.answers[1].values.tolist() == [0.1, 0.8]
