"""The times of a column: text, numbers since 1970 or datetimes, with a zone that is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError

if TYPE_CHECKING:
    import pandas as pd

MIN_YEAR, MAX_YEAR = 1980, 2100
"""A time outside these years is a sign of a wrong unit, such as milliseconds that are read as seconds."""
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EXCEL_DAYS = (29_220, 73_415)
"""Excel's day numbers of 1980 and 2100."""
_ZONE = re.compile(r"(?:Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)$", re.IGNORECASE)
_YEAR_FIRST = re.compile(r"\d{4}[-/.]?\d")
_DATE = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d\d)(?!\d)")
"""A date that ends in its year, of four digits or two."""
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?!\d)")
_FRACTION = re.compile(r"(:\d\d),(?=\d)")
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
_WORD = re.compile(r"[^\W\d_]+")
_MONTHS = frozenset({"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"})
_OTHER_WORDS = frozenset({"am", "pm", "t", "z", "mon", "tue", "wed", "thu", "fri", "sat", "sun"})
_UTC = re.compile(r"\s*(?:UTC|GMT)$", re.IGNORECASE)
_TIME_OF_DAY = re.compile(r"\d:\d\d|\dT\d{4}", re.IGNORECASE)


def read_times(column: pd.Series[Any], *, zone: str | None = None, day_first: bool | None = None) -> NDArray[np.int64]:
    """Read the times of a column as microseconds since 1970, UTC.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, by their size.

    Args:
        zone: the zone of times that are written without one, such as ``Europe/Berlin``.
        day_first: how dates such as 01/02/2026 are meant; None refuses them.

    Raises:
        BundleError: a row has no time, the zone is not known, or the unit makes no sense; the text says which.

    >>> import pandas as pd
    >>> read_times(pd.Series(["2026-01-05T09:00:00Z", "2026-01-05T10:00:00+01:00"])).tolist()
    [1767603600000000, 1767603600000000]
    """
    import pandas as pd

    name = f"column {column.name!r}"
    cells = column.reset_index(drop=True)
    if not len(cells):
        return np.empty(0, dtype=np.int64)
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        cells = _plain(cells)
    _require_all(cells.isna() | (cells == ""), name, "has no time")
    if pd.api.types.is_numeric_dtype(cells.dtype):
        moments = _from_numbers(cells, name)
    elif pd.api.types.is_datetime64_any_dtype(cells.dtype):
        moments = _in_zone(cells, zone, name)
    else:
        moments = _from_text(cells.astype(str).str.strip(), zone, day_first, name)
    years = moments.dt.year
    _require_all((years < MIN_YEAR) | (years > MAX_YEAR), name, f"is not between {MIN_YEAR} and {MAX_YEAR}", moments)
    return np.asarray(moments.dt.as_unit("us").astype(np.int64), dtype=np.int64)


def times_of(cells: Sequence[str], *, zone: str | None = None, day_first: bool | None = None) -> list[int]:
    """Read the times of texts; see :func:`read_times`."""
    import pandas as pd

    column = pd.Series(list(cells), name="observed_at")
    return [int(moment) for moment in read_times(column, zone=zone, day_first=day_first)]


def _plain(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers where every cell is one, also as text."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(cells.dtype):
        return cells.astype(str)
    numbers = pd.to_numeric(cells, errors="coerce")
    return numbers if len(cells) and bool(numbers.notna().all()) else cells


def _require_all(wrong: pd.Series[bool], name: str, problem: str, cells: Sequence[Any] | pd.Series[Any] = ()) -> None:
    count = int(wrong.sum())
    if not count:
        return
    row = int(np.flatnonzero(wrong.to_numpy())[0])
    shown = f" ({str(cells[row])[:40]})" if len(cells) else ""
    raise BundleError(f"{name}: row {row + 1}{shown} {problem}" + (f", and {count - 1} more" if count > 1 else ""))


def _from_numbers(cells: pd.Series[Any], name: str) -> pd.Series[Any]:
    import pandas as pd

    low, high = float(cells.min()), float(cells.max())
    first, last = (pd.Timestamp(year, 1, 1).timestamp() for year in (MIN_YEAR, MAX_YEAR + 1))
    for unit, parts in _UNITS.items():
        if first * parts <= low and high < last * parts:
            return _as_utc(cells, unit)
    if low.is_integer() and high.is_integer() and low > MIN_YEAR * 10_000 and high < (MAX_YEAR + 1) * 10_000:
        hint = "they look like dates without marks: write 2026-01-31, not 20260131"
    elif _EXCEL_DAYS[0] <= low and high <= _EXCEL_DAYS[1]:
        hint = "they look like a spreadsheet's day numbers: format the column as a date before it is saved"
    else:
        hint = "write times as text (2026-01-31T09:00:00Z) or as seconds since 1970"
    raise BundleError(
        f"{name}: {low:.15g} to {high:.15g} are no seconds, milliseconds, microseconds or nanoseconds since 1970 "
        f"between {MIN_YEAR} and {MAX_YEAR}; {hint}"
    )


def _as_utc(cells: pd.Series[Any], unit: str) -> pd.Series[Any]:
    """Numbers of a unit as times, to the microsecond; whole numbers exactly."""
    import pandas as pd

    if pd.api.types.is_integer_dtype(cells.dtype):
        micros = cells.astype(np.int64) * (10**6 // _UNITS[unit]) if unit != "ns" else cells.astype(np.int64) // 1000
    else:
        micros = (cells.astype(float) * (10**6 / _UNITS[unit])).round().astype(np.int64)
    return pd.Series(pd.to_datetime(micros.to_numpy(), unit="us", utc=True))


def _from_text(texts: pd.Series[Any], zone: str | None, day_first: bool | None, name: str) -> pd.Series[Any]:

    iso = texts.str.match(_YEAR_FIRST)
    if day_first is None:
        _require_all(
            ~iso, name, "does not begin with the year; say --day-first or --month-first if it is a date", texts
        )
    zoned = texts.str.contains(_ZONE) & texts.str.contains(_TIME_OF_DAY)
    if zoned.any():
        _require_all(~zoned, name, "has no zone, and other rows have one", texts)
    moments = _parsed(texts.where(iso))
    if (odd := moments.isna()).any():
        written = texts[odd].map(partial(_year_first, day_first=bool(day_first)))
        moments = moments.fillna(_parsed(written))
        clear = written[moments[odd].isna() & written.map(_is_clear)]
        moments = moments.fillna(_parsed(clear, "mixed"))
    _require_all(moments.isna(), name, "is no time", texts)
    return moments if zoned.any() else _in_zone(moments.dt.tz_localize(None), zone, name)


def _parsed(texts: pd.Series[Any], form: str = "ISO8601") -> pd.Series[Any]:
    import pandas as pd

    moments = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    return pd.Series(moments.dt.as_unit("us"))


def _year_first(text: str, *, day_first: bool) -> str:
    """A text with its date as ISO 8601 has it.

    >>> _year_first("5.1.26 10:00:00,5", day_first=True)
    '2026-01-05 10:00:00.5'
    """
    found = _ISO_DATE.search(text) or _DATE.search(text)
    if found:
        first, second, third = found.groups()
        if found.re is _DATE:
            short = len(third) == 2  # noqa: PLR2004 - two digits of a year
            year = f"{'19' if third >= str(MIN_YEAR)[2:] else '20'}{third}" if short else third
            first, second, third = (year, second, first) if day_first else (year, first, second)
        text = f"{text[: found.start()]}{first}-{second:0>2}-{third:0>2}{text[found.end() :]}"
    return _FRACTION.sub(r"\1.", _UTC.sub("Z", text), count=1)


def _is_clear(text: str) -> bool:
    """Whether a text that is not ISO 8601 has one reading alone.

    It has a date with its year, or a month's English name and a year, and no word such as a zone's name.
    """
    words = {word.lower() for word in _WORD.findall(text)}
    months = {word for word in words if word[:3] in _MONTHS}
    if any(word not in _OTHER_WORDS and word[:3] not in _OTHER_WORDS for word in words - months):
        return False
    date = _ISO_DATE.search(text)
    return int(date[2]) <= 12 if date else bool(months and _YEAR.search(text))  # noqa: PLR2004 - months


def _in_zone(moments: pd.Series[Any], zone: str | None, name: str) -> pd.Series[Any]:
    """Times in UTC; those without a zone are of ``zone``.

    An hour that a clock change repeats counts as its first, one that it leaves out as the next.
    """
    import pandas as pd

    if moments.dt.tz is not None:
        return pd.Series(moments.dt.tz_convert("UTC"))
    if zone is None:
        raise BundleError(f"{name}: its times have no zone; say --time-zone UTC, or the zone that they were noted in")
    first = np.ones(len(moments), dtype=bool)
    local = moments.dt.tz_localize(_zone(zone), ambiguous=first, nonexistent="shift_forward")
    return pd.Series(local.dt.tz_convert("UTC"))


def _zone(name: str) -> tzinfo:
    """A zone by its name, or by its distance from UTC."""
    try:
        if re.fullmatch(r"[+-]\d\d:\d\d", name):
            return datetime.strptime(name, "%z").tzinfo or UTC
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BundleError(f"--time-zone {name!r}: is no time zone; examples: UTC, Europe/Berlin, +01:00") from None


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The column of the rows' times, if there is one.

    It says how times without a zone and dates are meant.

    See :func:`read_times`.
    """

    name: str | None = None
    zone: str | None = None
    day_first: bool | None = None

    @classmethod
    def of(cls, time: str | TimeColumn | None) -> TimeColumn:
        """The column that a name stands for."""
        return time if isinstance(time, TimeColumn) else cls(time)

    def read(self, frame: pd.DataFrame) -> NDArray[np.int64] | None:
        """Read the times in microseconds."""
        return None if self.name is None else read_times(frame[self.name], zone=self.zone, day_first=self.day_first)
