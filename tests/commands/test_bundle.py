"""`plumbline bundle`, from files to a bundle."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
import typer
import yaml
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from typer.testing import CliRunner, Result

from app.commands.bundle import bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_bundle
from app.types import FeatureType
from tests.support.models import bundles
from tests.support.processes import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, as skops and as joblib, and its data."""
    frame = bundles.mixed()
    model = bundles.pipeline().fit(frame.drop(columns="y"), frame["y"])
    skops.io.dump(model, tmp_path / "model.skops")
    joblib.dump(model, tmp_path / "model.joblib")
    frame.to_csv(tmp_path / "train.csv", index=False)
    bundles.mixed(seed=8).to_csv(tmp_path / "test.csv", index=False)
    return tmp_path


def run(folder: Path, *options: str, model: str = "model.skops") -> Result:
    """One run of the command on the folder's files."""
    app = typer.Typer()
    app.command()(bundle)
    named = [
        "--data",
        str(folder / "train.csv"),
        "--target",
        "y",
        "--name",
        "credit",
        "--models",
        str(folder / "models"),
    ]
    return CliRunner().invoke(app, [str(folder / model), *named, *options])


def refusal(result: Result) -> str:
    """The one line with which the command ended, for exit code 3."""
    assert isinstance(result.exception, BundleError)
    assert result.exception.exit_code == 3
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_bundle(folder: Path) -> None:
    """The command shows the schema, writes a bundle that loads, and says where."""
    result = run(folder, "--holdout", str(folder / "test.csv"), "--positive", "good", "--threshold", "0.4")

    made = read_bundle(folder / "models" / "credit" / "1")
    assert result.exit_code == 0
    assert (made.in_sample, made.schema.positive, made.schema.threshold) == (False, "good", 0.4)
    assert "phone, shop, web" in result.output
    assert re.search(r"^runs on onnxruntime: \d+ rows answered as by scikit-learn, to ", result.stdout, re.MULTILINE)
    assert "reference of 240 rows not qualified: no timestamps; the answer depends on income (" in result.stdout
    assert str(made.folder) in result.stdout.splitlines()


def test_the_end_says_what_was_found_and_what_is_next(folder: Path) -> None:
    """The baseline has intervals, the reference its verdicts and what would make it fit; the next command serves."""
    fit = run(folder, "--holdout", str(folder / "test.csv"), "--positive", "good").stdout
    unfit = run(folder, "--version", "2").stdout
    lines = fit.splitlines()
    value, low, high = map(float, re.findall(r"^  accuracy +(\S+) \[(\S+), (\S+)\]$", fit, re.MULTILINE)[0])

    assert 0 <= low <= value <= high <= 1
    assert "baseline over 240 rows with their outcome, with its interval of 95 %:" in lines
    assert "fit for verdicts on drift of features: yes, drift of predictions: yes, performance: yes" in lines
    assert "fit for verdicts on drift of features: yes, drift of predictions: no, performance: no" in unfit.splitlines()
    assert "--holdout" in unfit
    assert "--holdout" not in fit
    assert "--time" in fit
    assert lines[-2] == "Next:"
    assert lines[-1].startswith("  PLUMBLINE__SERVING__ACTIVE=credit/1 PLUMBLINE__SERVING__MODELS=")
    assert lines[-1].endswith("plumbline serve")


def test_the_next_command_has_what_the_model_needs(folder: Path) -> None:
    """A model that is stored as a pickle is served with the permission for it, and checked with the same words."""
    shown = run(folder, "--allow-pickle", "--format", "joblib", model="model.joblib").stdout.splitlines()[-1]
    words = [word for word in shlex.split(shown) if word.startswith("PLUMBLINE__")]
    environ = os.environ | dict(word.split("=", 1) for word in words)
    done = subprocess.run(
        [sys.executable, "-m", "app", "check"], cwd=ROOT, env=environ, capture_output=True, check=False
    )

    assert "PLUMBLINE__SERVING__ALLOW_PICKLE=true" in words
    assert done.returncode == 0, done.stderr


def test_joblib_becomes_skops(folder: Path) -> None:
    """A joblib file is loaded only with permission, and what is served then is skops."""
    line = refusal(run(folder, model="model.joblib"))
    assert (
        line
        == f"{folder / 'model.joblib'}: loading it runs the code inside it; pass --allow-pickle if you trust its source"
    )

    assert run(folder, "--allow-pickle", model="model.joblib").exit_code == 0
    assert read_bundle(folder / "models" / "credit" / "1").format == "skops"


def test_why_not_onnx(folder: Path) -> None:
    """Where scikit-learn serves, the command says what stood against ONNX."""
    frame = bundles.numbers()
    skops.io.dump(RidgeClassifier().fit(frame[["a", "b", "c"]], frame["y"]), folder / "ridge.skops")
    frame.to_csv(folder / "train.csv", index=False)

    result = run(folder, model="ridge.skops")

    assert "runs on scikit-learn, not on onnxruntime: it cannot be written in ONNX" in result.stdout


def test_onnx_file(folder: Path) -> None:
    """An ONNX file is bundled as it is."""
    frame = bundles.numbers()
    model = LogisticRegression().fit(frame[["a", "b", "c"]].to_numpy(), frame["y"])
    exported = to_onnx(model, frame[["a", "b", "c"]].to_numpy(dtype="float32")[:1], target_opset=21)
    (folder / "own.onnx").write_bytes(exported.SerializeToString())
    frame.to_csv(folder / "train.csv", index=False)

    bundles.numbers(seed=8).to_csv(folder / "test.csv", index=False)

    result = run(folder, "--holdout", str(folder / "test.csv"), model="own.onnx")

    assert result.exit_code == 0
    assert "runs on onnxruntime" in result.stdout
    made = read_bundle(folder / "models" / "credit" / "1")
    assert (made.format, made.schema.classes, made.in_sample) == ("onnx", ("no", "yes"), False)


def test_holdout_of_the_training_file(folder: Path) -> None:
    """The training file is no holdout; with --in-sample it is taken, and marked."""
    same = ["--holdout", str(folder / "train.csv")]

    assert "240 of 240 rows of the holdout (100%) are rows of the training data" in refusal(run(folder, *same))
    assert run(folder, *same, "--in-sample").exit_code == 0
    assert read_bundle(folder / "models" / "credit" / "1").in_sample


def test_the_model_decides_what_is_text(folder: Path) -> None:
    """Codes with leading zeros and the category NA stay text, as its encoder knows them; a class None is no hole."""
    frame = bundles.mixed()
    frame["channel"] = frame["channel"].map({"web": "01067", "shop": "NA", "phone": "nan"})
    frame["y"] = frame["y"].map({"good": "None", "bad": "yes"})
    skops.io.dump(bundles.pipeline().fit(frame.drop(columns="y"), frame["y"]), folder / "model.skops")
    frame.to_csv(folder / "train.csv", index=False, sep=";", decimal=",")

    result = run(folder)

    made = read_bundle(folder / "models" / "credit" / "1")
    assert "train.csv: delimiter ';'; decimal comma; 'NA' is text in channel; 'nan' is text in channel" in result.stderr
    assert made.schema.features[2].categories == ("01067", "NA", "nan")
    assert made.schema.classes == ("None", "yes")
    assert made.baseline["accuracy"] > 0.6


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_one_content_makes_one_bundle(folder: Path, form: str) -> None:
    """The format of the data has no part in the bundle."""
    run(folder, "--version", "0")
    frame, file = bundles.mixed(), folder / f"rows.{form}"
    if form == "parquet":
        frame.to_parquet(file)
    elif form == "jsonl":
        frame.to_json(file, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(file, sep="\t" if form == "tsv" else ",")

    assert run(folder, "--data", str(file)).exit_code == 0
    expected, found = (read_bundle(folder / "models" / "credit" / version) for version in ("0", "1"))
    assert found.schema.features == expected.schema.features
    assert found.baseline == expected.baseline


@pytest.mark.parametrize(
    ("times", "options", "line"),
    [
        (lambda rows: rows.strftime("%Y-%m-%d %H:%M:%S"), [], "column 'at': its times have no zone; say --time-zone"),
        (lambda rows: rows.strftime("%d.%m.%Y %H:%M"), ["--time-zone", "UTC"], "say --day-first or --month-first"),
        (lambda rows: rows.strftime("%Y%m%d"), [], "look like dates without marks"),
    ],
)
def test_times_without_sense(folder: Path, times: Any, options: list[str], line: str) -> None:
    """Times without a zone, an order of day and month, or a unit are refused; the reason says what to do."""
    frame = bundles.mixed()
    frame.assign(at=times(pd.date_range("2026-01-05", periods=len(frame), freq="h"))).to_csv(folder / "train.csv")

    assert line in refusal(run(folder, "--time", "at", *options))


def test_times_with_their_zone(folder: Path) -> None:
    """The zone and the order of day and month can be given."""
    frame = bundles.mixed()
    times = pd.date_range("2026-01-05", periods=len(frame), freq="h").strftime("%d.%m.%Y %H:%M")
    frame.assign(at=times).to_csv(folder / "train.csv")
    result = run(folder, "--time", "at", "--time-zone", "Europe/Berlin", "--day-first")

    assert result.exit_code == 0
    first = np.load(folder / "models" / "credit" / "1" / "reference.npz")["time"][0]
    assert pd.Timestamp(first, unit="us") == pd.Timestamp("2026-01-04 23:00")


def test_edited_schema(folder: Path) -> None:
    """What --show prints can be edited and given back with --schema; --show itself writes nothing."""
    shown = run(folder, "--show")
    assert not (folder / "models").exists()
    content = yaml.safe_load(shown.stdout)
    content["features"][0] |= {"low": 0, "high": 120}
    (folder / "edited.yaml").write_text(yaml.safe_dump(content))

    result = run(folder, "--schema", str(folder / "edited.yaml"))

    assert result.exit_code == 0
    age = read_bundle(folder / "models" / "credit" / "1").schema.features[0]
    assert (age.low, age.high) == (0, 120)


def test_codes_are_categories(folder: Path) -> None:
    """A column of whole numbers that --categorical names is compared by value, and the model gets numbers as before."""
    frame = bundles.numbers().assign(store=lambda rows: np.arange(len(rows)) * 7 % 12 * 100)
    skops.io.dump(LogisticRegression().fit(frame[["a", "b", "c", "store"]], frame["y"]), folder / "stores.skops")
    frame.to_csv(folder / "train.csv", index=False)

    result = run(folder, "--categorical", "store", model="stores.skops")

    assert result.exit_code == 0, result.output
    bundle = read_bundle(folder / "models" / "credit" / "1")
    assert bundle.schema.features[-1].type is FeatureType.CATEGORICAL
    assert bundle.schema.features[-1].categories == tuple(range(0, 1200, 100))
    assert [answer.prediction for answer in bundle.estimator.predict([(0.1, 0.2, 0.3, 700)])]
    assert "looks like a code" not in result.stderr


@pytest.mark.parametrize(
    "more", [["--categorical", "stre"], ["--categorical", "a", "--schema", "edited.yaml"]], ids=str
)
def test_codes_that_cannot_be_taken(folder: Path, more: list[str]) -> None:
    """A column that the data lacks, and an edited schema beside, end with exit code 2."""
    assert run(folder, *more).exit_code == 2


def test_trust(folder: Path) -> None:
    """A type beyond the reviewed list is named, and taken with --trust."""
    frame = bundles.numbers()
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(FunctionTransformer(bundles.absolute), LogisticRegression())
    skops.io.dump(model.fit(frame[["a", "b", "c"]], frame["y"]), folder / "own.skops")
    frame.to_csv(folder / "train.csv", index=False)
    refused = refusal(run(folder, model="own.skops"))
    assert "names code that would run: tests.support.models.bundles.absolute" in refused
    assert "serving.trusted_types" not in refused

    assert run(folder, "--trust", "tests.support.models.bundles.absolute", model="own.skops").exit_code == 0


@pytest.mark.parametrize(
    ("options", "content", "line"),
    [
        (["--data", "none.csv"], b"", "none.csv: cannot be read"),
        (["--schema", "edited.yaml"], b"features: 3", "edited.yaml: features: Input should be a valid list"),
        (["--schema", "edited.yaml"], b"{", "edited.yaml:1: is not plain YAML"),
        (["--schema", "edited.yaml"], b"[{name: a, type: colour}]", "edited.yaml: features: 0.type: Input should be"),
        (["--data", "table.csv"], b"", "table.csv: is empty: it has no line of names"),
    ],
)
def test_unreadable_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: Sequence[str], content: bytes, line: str
) -> None:
    """A file that cannot be read is named in one line."""
    monkeypatch.chdir(folder)
    if options[1] != "none.csv":
        Path(options[1]).write_bytes(content)

    assert refusal(run(folder, *options)).startswith(line)


@pytest.mark.parametrize("options", [["--threshold", "2"], ["--format", "onnx"], ["--nonsense"]], ids=str)
def test_wrong_usage(folder: Path, options: list[Any]) -> None:
    """A wrong option ends with exit code 2."""
    assert run(folder, *options).exit_code == 2


def test_other_files(folder: Path) -> None:
    """A model file of another kind is refused by its name."""
    assert refusal(run(folder, model="model.h5")).endswith(
        "model.h5: a model is a .skops, .joblib, .pkl, .pickle, .onnx, .ubj, .json, .txt or .cbm file"
    )


def written_by(version: str, model: Any, path: Path) -> None:
    """Store a model as that version of scikit-learn would write it."""
    present, sklearn.base.__version__ = sklearn.base.__version__, version
    try:
        (skops.io.dump if path.suffix == ".skops" else joblib.dump)(model, path)
    finally:
        sklearn.base.__version__ = present


@pytest.mark.parametrize("suffix", [".skops", ".joblib"])
def test_a_file_of_another_version(folder: Path, suffix: str) -> None:
    """A file that another scikit-learn wrote is refused with both versions, and taken with golden rows that agree."""
    frame = bundles.numbers()
    inputs = frame[["a", "b", "c"]]
    model = LogisticRegression().fit(inputs, frame["y"])
    written_by("1.3.2", model, folder / f"old{suffix}")
    frame.to_csv(folder / "train.csv", index=False)
    shares = {
        f"probability.{label}": model.predict_proba(inputs)[:, place] for place, label in enumerate(model.classes_)
    }
    inputs.assign(prediction=model.predict(inputs), **shares).to_csv(folder / "answers.csv", index=False)
    options = ["--allow-pickle", "--models", str(folder / "models")]

    line = refusal(run(folder, *options, model=f"old{suffix}"))
    assert f"was written by scikit-learn 1.3.2, but this is {sklearn.__version__}" in line
    assert "--accept-version with --golden answers.csv" in line
    assert "1.3.2" in refusal(run(folder, *options, "--accept-version", model=f"old{suffix}"))

    result = run(folder, *options, "--accept-version", "--golden", str(folder / "answers.csv"), model=f"old{suffix}")
    assert result.exit_code == 0
    assert "proved on 240 rows of the user's golden rows" in result.output
    assert "written by scikit-learn 1.3.2" in result.output


def test_doubts_are_printed(folder: Path) -> None:
    """What makes a model doubtful is printed as a warning beside the bundle's path."""
    frame = bundles.numbers()
    skops.io.dump(LogisticRegression().fit(frame[["a", "b", "c"]].to_numpy(), frame["y"]), folder / "plain.skops")
    frame.to_csv(folder / "train.csv", index=False)

    result = run(folder, model="plain.skops")

    assert result.exit_code == 0
    assert "warning: the model has no names for its 3 columns" in result.stderr
    assert "proved on 20 rows of the reference: alone, together, and in " in result.stdout


def test_single_rows(folder: Path) -> None:
    """A step that computes from the batch is refused with the way out, which is then taken."""
    frame = bundles.numbers()
    model = make_pipeline(FunctionTransformer(bundles.minus_mean), LogisticRegression()).fit(
        frame[["a", "b", "c"]], frame["y"]
    )
    skops.io.dump(model, folder / "mixing.skops")
    frame.to_csv(folder / "train.csv", index=False)
    trust = ["--trust", "tests.support.models.bundles.minus_mean"]

    assert "step functiontransformer computes from all rows" in refusal(run(folder, *trust, model="mixing.skops"))
    result = run(folder, *trust, "--single-rows", model="mixing.skops")

    assert result.exit_code == 0
    assert "not on onnxruntime: its answer to a row depends on the others" in result.stdout
