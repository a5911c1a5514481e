"""Read and write ``bundle.yaml``, strictly typed; check names that stand in a path."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.config.loader import PlainLoader, explain_yaml
from app.errors import BundleError, one_line
from app.serving.runtimes.base import KNOWN_DTYPE
from app.serving.runtimes.formats import FORMATS
from app.serving.runtimes.sklearn import Layout
from app.types import MAX_TEXT, Feature, FeatureType, Json, Label, ModelSchema, Task

MANIFEST = "bundle.yaml"
REFERENCE = "reference.npz"
PROFILE = "profile.json"
BUNDLE_FORMAT = 1
"""The form of ``bundle.yaml`` that this version writes; newer ones are refused."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A model's name or version: one harmless path segment."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Dtype = Annotated[str, Field(pattern=rf"^({KNOWN_DTYPE.pattern})$")]
"""The dtype of a column of the training data, where it is not float64, int64, bool or text as CSV files give them."""
MAX_NAME = 1000
"""Longest name of a feature, in characters."""

MAX_YAML_BYTES = 8 * 2**20
"""Largest manifest, or description of features."""
MAX_EDGES = 1000
"""Most bounds of bins of one column; each is a series of the metrics."""
MAX_FINDINGS = 20
"""Most findings of one file that are told."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FeatureEntry(_Strict):
    """One feature, as in :class:`app.types.Feature`."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    type: Annotated[FeatureType, Field(strict=False)]
    nullable: bool = False
    categories: Annotated[tuple[str | int, ...], Field(strict=False)] = ()
    low: float | None = None
    high: float | None = None
    allowed: Annotated[tuple[str | int | float | bool, ...], Field(strict=False)] = ()
    max_length: Annotated[int, Field(ge=1)] = MAX_TEXT

    @classmethod
    def of(cls, feature: Feature) -> FeatureEntry:
        """The entry that describes a feature."""
        return cls(**{name: getattr(feature, name) for name in cls.model_fields})

    def feature(self) -> Feature:
        """The feature that the entry describes."""
        return Feature(**{name: getattr(self, name) for name in type(self).model_fields})


class LevelsEntry(_Strict):
    """All categories of a pandas category column of the training data, in their order."""

    values: Annotated[tuple[str | int | float | bool, ...], Field(strict=False)]
    ordered: bool = False
    dtype: str = ""


class ProofEntry(_Strict):
    """Describe what the model answered as expected before it was bundled, and in which company.

    Attributes:
        rows, source: how many rows, and of what: the reference, the training data, or the user's own file.
        pairs: how many of them stood beside a row of extremes; each of the others was alone and with all.
    """

    source: str
    rows: int
    pairs: int = 0


class OnnxEntry(_Strict):
    """The ONNX graph of a scikit-learn model: its file, or why there is none.

    Attributes:
        rows: the number of rows that both answered alike: the whole reference, and variations of it.
        difference: the largest one between probabilities, or relative one between numbers.
    """

    file: FileName | None = None
    rows: int | None = None
    difference: float | None = None
    reason: str | None = None


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"expected one of {', '.join(FORMATS)}")
    return name


class Manifest(_Strict):
    """Hold the content of ``bundle.yaml``.

    ``files`` pins every other file of the bundle by its sha256.
    """

    bundle_format: Literal[1]
    name: Name
    version: Name
    task: Annotated[Task, Field(strict=False)]
    created_at: str
    format: Annotated[str, AfterValidator(_known_format)]
    model_file: FileName
    input: Layout
    features: Annotated[tuple[FeatureEntry, ...], Field(min_length=1, strict=False)]
    dtypes: dict[str, Dtype] = {}
    levels: dict[str, LevelsEntry] = {}
    single_rows: bool = False
    classes: Annotated[tuple[Label, ...], Field(strict=False)] = ()
    positive_class: Label | None = None
    threshold: Annotated[float | None, Field(ge=0, le=1)] = None
    onnx: OnnxEntry | None = None
    made_by: str | None = None
    proof: ProofEntry | None = None
    warnings: Annotated[tuple[str, ...], Field(strict=False)] = ()
    libraries: dict[str, str] = {}
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        converted = {self.onnx.file} if self.onnx and self.onnx.file else set()
        if missing := {self.model_file, REFERENCE, PROFILE, *converted} - self.files.keys():
            raise ValueError(f"files lists no sha256 for {', '.join(sorted(missing))}")
        names = [feature.name for feature in self.features]
        if len(set(names)) < len(names):
            raise ValueError("features: two have the same name")
        kinds = {Task.REGRESSION: self.classes == (), Task.BINARY: len(self.classes) == 2}  # noqa: PLR2004 - binary
        if not kinds.get(self.task, len(self.classes) > 1):
            raise ValueError(f"classes: {len(self.classes)} of them do not make a {self.task.value} task")
        if self.positive_class is not None and self.positive_class not in self.classes:
            raise ValueError("positive_class is none of the classes")
        if self.threshold is not None and (self.task is not Task.BINARY or self.positive_class is None):
            raise ValueError("threshold needs a binary task with a positive_class")
        return self

    def schema_of(self) -> ModelSchema:
        """The model's schema."""
        features = tuple(entry.feature() for entry in self.features)
        return ModelSchema(
            self.name, self.version, self.task, features, self.classes, self.positive_class, self.threshold
        )

    def to_yaml(self) -> str:
        """The file's text."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


class _Known(BaseModel):
    """Part of a profile: of its type, and finite; newer versions may write more."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Summary(_Known):
    """The reference's values of one column, as the profile has them."""

    edges: Annotated[tuple[float, ...], Field(max_length=MAX_EDGES, strict=False)] = ()
    categories: Annotated[tuple[Label, ...], Field(strict=False)] = ()
    counts: Annotated[tuple[int, ...], Field(strict=False)] = ()
    mean: float | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Summary:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges do not ascend")
        return self


class Inflation(_Known):
    """The variation of one column between blocks of the reference, beyond chance."""

    inflation: Annotated[float, Field(ge=1)]
    blocks: Annotated[int, Field(ge=0)]


class Qualification(_Known):
    """The variation of the reference over time."""

    reason: str = ""
    rows: Annotated[int, Field(ge=0)] = 0
    features: dict[str, Inflation] = {}
    answers: dict[str, Inflation] = {}

    @model_validator(mode="after")
    def _has_rows(self) -> Qualification:
        if not self.rows and (self.features or self.answers):
            raise ValueError("blocks without rows")
        return self


class Profile(_Known):
    """The content of ``profile.json`` that is read."""

    rows: Annotated[int, Field(ge=1)]
    created_at: str
    in_sample: bool
    features: dict[str, Summary]
    prediction: Summary = Summary()
    baseline: dict[str, float | None]
    dependence: dict[str, float] = {}
    qualification: Qualification = Qualification()


def parse_profile(data: bytes, where: str) -> Json:
    """Read ``profile.json``.

    Raises:
        BundleError: one line that starts with ``where`` and names what is wrong.
    """
    try:
        profile: Json = read_json(data)
        Profile.model_validate(profile)
    except ValidationError as error:
        raise BundleError(f"{where}: is not a bundle's profile ({explain(error)}); bundle the model again") from None
    except ValueError as error:
        raise BundleError(f"{where}: is not a bundle's profile ({one_line(error)}); bundle the model again") from None
    return profile


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read ``bundle.yaml``.

    Raises:
        BundleError: one line that starts with ``where`` and names what is wrong.
    """
    data = read_yaml(text, where)
    if not isinstance(data, Mapping):
        raise BundleError(f"{where}: is not a bundle's manifest; bundle the model again")
    made = data.get("bundle_format")
    if isinstance(made, int) and made > BUNDLE_FORMAT:
        raise BundleError(
            f"{where}: bundle_format {made} comes from a newer Plumbline; this one reads up to {BUNDLE_FORMAT}"
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise BundleError(f"{where}: {explain(error)}") from None


def make_manifest(
    schema: ModelSchema,
    folder: Path,
    *,
    file: str,
    libraries: Mapping[str, str],
    created_at: str,
    **found: Any,
) -> Manifest:
    """Describe the files in a folder, one of which is ``model.<file>``, as a bundle of a schema.

    Args:
        found: further keys of the manifest, as the proof of the model gave them.
    """
    described = {
        "bundle_format": BUNDLE_FORMAT,
        "name": schema.name,
        "version": schema.version,
        "task": schema.task,
        "created_at": created_at,
        "format": file,
        "model_file": f"model.{file}",
        "features": [FeatureEntry.of(feature) for feature in schema.features],
        "classes": schema.classes,
        "positive_class": schema.positive,
        "threshold": schema.threshold,
        "libraries": libraries,
        **found,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
    }
    try:
        return Manifest.model_validate(described)
    except ValidationError as error:
        raise BundleError(f"{folder}: {explain(error)}") from None


def entries(features: Sequence[Feature]) -> list[Json]:
    """Give features in the form of ``bundle.yaml``."""
    return [FeatureEntry.of(feature).model_dump(mode="json", exclude_defaults=True) for feature in features]


def read_yaml(text: bytes, where: str) -> Any:
    """Plain data of a YAML file.

    Raises:
        BundleError: it is none, it is too large, or it has aliases, a repeated key or too much depth.
    """
    if len(text) > MAX_YAML_BYTES:
        raise BundleError(f"{where}: is larger than {MAX_YAML_BYTES} bytes")
    try:
        data = yaml.load(text.decode("utf-8"), Loader=PlainLoader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, TypeError) as error:
        line, reason = explain_yaml(error, text)
        raise BundleError(f"{where}:{line}: is not plain YAML: {' '.join(reason.split())[:160]}") from None
    try:
        _check_speakable(data)
    except ValueError as error:
        raise BundleError(f"{where}: holds what no answer can: {error}") from None
    return data


def _check_speakable(data: Any) -> None:
    """Raise ValueError for text that is no Unicode, and for integers of over 64 bits."""
    try:
        orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise ValueError(str(error)) from None


def read_json(data: bytes) -> Any:
    """Plain data of a JSON file.

    Raises:
        ValueError: it is none, an object has a key twice, it is nested too deep, or no answer can hold what it does.
    """

    def build(pairs: list[tuple[str, Any]]) -> Json:
        built = dict(pairs)
        if len(built) < len(pairs):
            raise ValueError("a key is written twice")
        return built

    try:
        plain = json.loads(data, object_pairs_hook=build)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check_speakable(plain)
    return plain


def explain(error: ValidationError) -> str:
    """The findings of a validation in one line."""
    items = error.errors()
    findings = [
        (".".join(map(str, item["loc"]))[:200], item["msg"].removeprefix("Value error, "))
        for item in items[:MAX_FINDINGS]
    ]
    told = "; ".join(f"{path}: {message}" if path else message for path, message in findings)
    return f"{told}; and {len(items) - MAX_FINDINGS} more" if len(items) > MAX_FINDINGS else told


def check_name(name: str, what: str) -> str:
    """A name that may stand in a path, given back; BundleError for any other."""
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"{what} {name[:80]!r}: up to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        )
    return name


def find_versions(models: Path, name: str) -> list[str]:
    """List the versions of a model on disk, lowest first.

    Numbers inside a version count as numbers, so that 10 follows 9.

    Raises BundleError for a name that may not stand in a path.
    """
    folder = models / check_name(name, "model name")
    if not folder.is_dir():
        return []
    found = [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file()]
    return sorted(found, key=_natural)


def _natural(version: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|[^\d]+", version)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
