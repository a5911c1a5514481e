"""The interface of every runtime, and rows as a matrix or as a DataFrame."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.types import Answer, Feature, FeatureType, ModelSchema, Row

if TYPE_CHECKING:
    import pandas as pd

RuntimeName: TypeAlias = Literal["onnx", "sklearn", "xgboost", "lightgbm", "catboost"]
LARGEST: Mapping[str, float] = {
    "float16": 65504.0,
    "float32": 3.4028234663852886e38,
    "int64": 2.0**63 - 1024,
    "int32": 2.0**31 - 1,
}
"""The largest double that a type holds; beyond it a number would become infinite, or another one."""
LANES = 8
# BLAS and vector instructions compute rows in blocks and the rest by another path, which rounds otherwise. With whole
# blocks only, a row's answer is the same to the last bit in any company.


class Runtime(Protocol):
    """A loaded model with its schema; a row's answer does not depend on the rows beside it."""

    schema: ModelSchema

    @property
    def bounds(self) -> Mapping[str, float]:
        """The largest size of a number that the model takes, by feature.

        A feature is absent where the model takes every double.
        """

    @property
    def tolerance(self) -> float:
        """Difference of two answers that counts as none: of probabilities, and relative of numbers."""

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order; raises whatever the model raises."""


def whole_blocks(rows: Sequence[Row]) -> list[Row]:
    """Repeat the last row until the rows fill whole blocks.

    There is at least one row.
    """
    return [*rows, *[rows[-1]] * (-len(rows) % LANES)]


def by_threshold(schema: ModelSchema, probabilities: NDArray[Any]) -> list[int]:
    """The position of each row's class where the schema's threshold decides between two."""
    positive = schema.classes.index(schema.positive) if schema.positive is not None else 1
    positions: list[int] = np.where(probabilities[:, positive] >= schema.threshold, positive, 1 - positive).tolist()
    return positions


def matrix_of(rows: Sequence[Sequence[Any]], width: int) -> NDArray[np.float64]:
    """Numbers as float64 of shape (rows, width), read-only; None becomes NaN.

    >>> matrix_of([(1, 2.5), (True, None)], 2).tolist()
    [[1.0, 2.5], [1.0, nan]]
    """
    pack = struct.Struct(f"{width}d").pack
    try:
        return np.frombuffer(b"".join([pack(*row) for row in rows]), np.float64).reshape(len(rows), width)
    except struct.error:  # something is missing
        return np.array(rows, dtype=np.float64).reshape(len(rows), width)


DEFAULT_DTYPES: Mapping[FeatureType, str] = {
    FeatureType.NUMERIC: "float64",
    FeatureType.INTEGER: "int64",
    FeatureType.BOOLEAN: "bool",
    FeatureType.CATEGORICAL: "str",
}
"""The dtypes that a CSV file gives; others are recorded in the manifest."""
OBJECT_WITH_NAN = "object[nan]"
"""Python objects with NaN for a missing value; plain ``object`` has None."""
KNOWN_DTYPE = re.compile(
    r"u?int(8|16|32|64)|float(16|32|64)|bool|str|string|object|object\[nan\]|category"
    r"|U?Int(8|16|32|64)|Float(32|64)|boolean|\w+\[pyarrow\]"
)
"""The dtypes that a column can be given in."""
_EXACT, _WHOLE, _NUMBER, _OTHER = range(4)
"""How a value fits an integer or boolean column: it does; by a wider integer; by a float; by an object."""


class Levels(NamedTuple):
    """All categories of a pandas category column, in their order.

    Attributes:
        dtype: of the categories themselves.
    """

    values: tuple[str | int | float | bool, ...]
    ordered: bool
    dtype: str


Make: TypeAlias = Callable[[Sequence[Any]], Any]


class Frames:
    """Turns rows into DataFrames.

    A value that its column's dtype cannot hold (a fraction or null among integers) is given in a wider dtype. Only that
    row's own column is widened: rows of different dtypes never share a DataFrame.

    Args:
        dtypes: where they differ from :data:`DEFAULT_DTYPES`, by feature.
        levels: of the columns of dtype ``category``.
        labels: the names of the columns, where these are not the features' names.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        dtypes: Mapping[str, str],
        levels: Mapping[str, Levels],
        labels: Sequence[Any] | None = None,
    ) -> None:
        chosen = [dtypes.get(item.name, DEFAULT_DTYPES[item.type]) for item in features]
        self._labels = list(labels or [item.name for item in features])
        self._makers = [_maker(item, dtype, levels) for item, dtype in zip(features, chosen, strict=True)]
        self._narrow = {place: dtype for place, dtype in enumerate(chosen) if _is_narrow(dtype)}

    def frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """One DataFrame of rows that go together; see :meth:`groups`."""
        import pandas as pd

        index = pd.RangeIndex(len(rows))
        made = {
            label: self._column(place, values, index)
            for place, (label, values) in enumerate(zip(self._labels, zip(*rows, strict=True), strict=True))
        }
        return pd.DataFrame(made, index=index, copy=False)

    def _column(self, place: int, values: Sequence[Any], index: pd.RangeIndex) -> Any:
        dtype = self._narrow.get(place)
        fit = _EXACT if dtype is None else int(_fits(values[:1], dtype)[0])
        column = self._makers[place](values) if fit == _EXACT else _wider(values, dtype or "", fit)
        if isinstance(column, np.ndarray) and column.dtype == object:
            import pandas as pd

            return pd.Series(column, dtype=object, index=index)  # a bare array of objects would become text
        return column

    def groups(self, rows: Sequence[Row]) -> list[list[int]] | None:
        """Divide rows into those that go together, as their positions; None where all do."""
        if not self._narrow:
            return None
        fits = [_fits([row[place] for row in rows], dtype) for place, dtype in self._narrow.items()]
        if not any(fit.any() for fit in fits):
            return None
        by_pattern: dict[tuple[int, ...], list[int]] = {}
        for place, pattern in enumerate(zip(*[fit.tolist() for fit in fits], strict=True)):
            by_pattern.setdefault(pattern, []).append(place)
        return list(by_pattern.values()) if len(by_pattern) > 1 else None


def _is_narrow(dtype: str) -> bool:
    return dtype == "bool" or dtype.lower().lstrip("u").startswith("int")


def _fits(values: Sequence[Any], dtype: str) -> NDArray[np.int8]:
    """Say of each value how it fits an integer or boolean column."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):  # text among codes
        parts = [_fits([value], dtype) if not isinstance(value, str) else [_OTHER] for value in values]
        return np.array(parts, dtype=np.int8).ravel()
    if dtype == "bool":
        return np.where((numbers == 0) | (numbers == 1), _EXACT, _NUMBER).astype(np.int8)
    limits = np.iinfo(dtype.split("[", maxsplit=1)[0].lower())
    whole = numbers == np.floor(numbers)
    exact = whole & (numbers >= limits.min) & (numbers < float(limits.max) + (limits.max < _EXACT_IN_FLOAT64))
    if dtype[0] in "IU" or "[" in dtype:  # these know a missing value
        exact |= np.isnan(numbers)
    wide = whole & (numbers >= -(2.0**63)) & (numbers < 2.0**63)
    return np.where(exact, _EXACT, np.where(wide, _WHOLE, _NUMBER)).astype(np.int8)


_EXACT_IN_FLOAT64 = 2**53


def _wider(values: Sequence[Any], dtype: str, fit: int) -> Any:
    """A column of values that its dtype cannot hold, all in the same way."""
    if fit == _OTHER:
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.int64 if fit == _WHOLE and dtype != "bool" else np.float64)


def _maker(feature: Feature, dtype: str, levels: Mapping[str, Levels]) -> Make:
    """Choose how a feature's values become a column of a dtype."""
    if dtype == "category":
        return _categories(levels.get(feature.name) or Levels(feature.categories, False, ""))
    if dtype == "object":
        return _whole_objects if feature.type is FeatureType.INTEGER else lambda values: np.array(values, dtype=object)
    if dtype == OBJECT_WITH_NAN:
        return lambda values: np.array([np.nan if value is None else value for value in values], dtype=object)
    if _is_narrow(dtype) and dtype[0] in "iub" and "[" not in dtype:
        exact = np.dtype(dtype)
        return lambda values: np.array(values, dtype=exact)
    if dtype.startswith("float") and "[" not in dtype:
        number = np.dtype(dtype)
        return lambda values: np.array(values, dtype=number)
    return _extension(dtype)


def _whole_objects(values: Sequence[Any]) -> NDArray[Any]:
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return np.array(whole, dtype=object)


def _categories(levels: Levels) -> Make:
    """Give codes for values; one that is no level counts as missing, as pandas counts it."""
    import pandas as pd

    kind = pd.CategoricalDtype(pd.Index(list(levels.values), dtype=levels.dtype or None), ordered=levels.ordered)
    codes = {value: code for code, value in enumerate(levels.values)}

    def make(values: Sequence[Any]) -> Any:
        return pd.Categorical.from_codes([codes.get(value, -1) for value in values], dtype=kind)

    return make


def _extension(dtype: str) -> Make:
    import pandas as pd

    kind: Any = pd.StringDtype(na_value=np.nan) if dtype == "str" else pd.api.types.pandas_dtype(dtype)
    make: Callable[..., Any] = kind.construct_array_type()._from_sequence  # noqa: SLF001 - pandas' own interface for extensions
    if _is_narrow(dtype):
        return lambda values: make([None if value is None else int(value) for value in values], dtype=kind)
    return lambda values: make(values, dtype=kind)
