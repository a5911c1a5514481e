"""Times of a column: one reading for every command, or one line that says why not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from app.errors import BundleError
from app.serving.bundle.times import read_times

NINE = pd.Timestamp("2026-01-05T09:00:00Z")


def read(cells: list[Any], **options: Any) -> list[pd.Timestamp]:
    """The moments of a column ``at``."""
    return list(pd.to_datetime(read_times(pd.Series(cells, name="at"), **options), unit="us", utc=True))


def refusal(cells: list[Any], **options: Any) -> str:
    """The one line that refuses a column."""
    with pytest.raises(BundleError) as caught:
        read(cells, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("2026-01-05T09:00:00Z", {}),
        ("2026-01-05 10:00:00+01:00", {}),
        ("2026-01-05 09:00:00 UTC", {}),
        ("2026-01-05 10:00", {"zone": "Europe/Berlin"}),
        ("2026-01-05 10:00", {"zone": "+01:00"}),
        ("05.01.2026 09:00", {"zone": "UTC", "day_first": True}),
        ("1/5/2026 9:00 AM", {"zone": "UTC", "day_first": False}),
        ("2026/01/05 09:00", {"zone": "UTC"}),
        ("5.1.26 9:00", {"zone": "UTC", "day_first": True}),
        ("1/5/26 9:00 AM", {"zone": "UTC", "day_first": False}),
        ("5 Jan 2026 09:00", {"zone": "UTC", "day_first": True}),
        ("2026-1-5 9:00 AM", {"zone": "UTC"}),
        ("2026-01-05 09:00:00,000", {"zone": "UTC"}),
        ("2026-01-05t09:00:00z", {}),
        ("20260105T090000Z", {}),
        (NINE, {}),
        (NINE.tz_localize(None), {"zone": "UTC"}),
        (1_767_603_600, {}),
        ("1767603600", {}),
        (1_767_603_600_000, {}),
        (1_767_603_600_000_000, {}),
        (1_767_603_600_000_000_000, {}),
        (1_767_603_600.0, {}),
    ],
    ids=str,
)
def test_one_moment_in_many_forms(cell: Any, options: dict[str, Any]) -> None:
    """Text, numbers and datetimes give the moment that they stand for, whatever the unit."""
    assert read([cell, cell], **options) == [NINE, NINE]


@pytest.mark.parametrize(
    ("cells", "options", "reason"),
    [
        (["2026-01-05 09:00"], {}, "its times have no zone; say --time-zone"),
        ([NINE.tz_localize(None)], {}, "its times have no zone; say --time-zone"),
        (
            ["2026-01-05T09:00:00Z", "2026-01-05T09:00:00"],
            {},
            "row 2 (2026-01-05T09:00:00) has no zone, and other rows have one",
        ),
        (["01/02/2026"], {"zone": "UTC"}, "say --day-first or --month-first"),
        (["31/01/2026"], {"zone": "UTC", "day_first": False}, "row 1 (31/01/2026) is no time"),
        (["2026/31/01 9:00 PM"], {"zone": "UTC"}, "row 1 (2026/31/01 9:00 PM) is no time"),
        (["09:30"], {"zone": "UTC", "day_first": True}, "row 1 (09:30) is no time"),
        (["05/01/2026 09:00 CET"], {"zone": "UTC", "day_first": True}, "row 1 (05/01/2026 09:00 CET) is no time"),
        ([20260105, 20260106], {}, "look like dates without marks"),
        (["20260105"], {}, "look like dates without marks"),
        ([46_027.375], {}, "look like a spreadsheet's day numbers"),
        ([0, 1], {}, "no seconds, milliseconds, microseconds or nanoseconds since 1970"),
        ([1_767_603_600, 1_767_603_600_000], {}, "no seconds, milliseconds"),
        (["1970-01-01T00:00:20Z"], {}, "row 1 (1970-01-01 00:00:20+00:00) is not between 1980 and 2100"),
        (["57982-01-01T00:00:00Z"], {}, "is no time"),
        (["2026-01-05T09:00:00Z", None], {}, "row 2 has no time"),
        (["2026-01-05 09:00"], {"zone": "Mars/North"}, "--time-zone 'Mars/North': is no time zone"),
        ([float("inf")], {}, "no seconds, milliseconds"),
        ([True], {}, "does not begin with the year"),
        ([[1]], {}, "does not begin with the year"),
    ],
)
def test_times_without_sense_are_refused(cells: list[Any], options: dict[str, Any], reason: str) -> None:
    """No zone, no order of day and month, a wrong unit, a hole: the column is named, with what to do."""
    assert reason in refusal(cells, **options)


def test_a_short_year_keeps_the_order_of_day_and_month() -> None:
    """Days above and below 12 are read in one order; years from 80 on are of the last century."""
    cells = ["05.01.26", "31.01.26", "05.01.85"]

    assert [str(moment.date()) for moment in read(cells, zone="UTC", day_first=True)] == [
        "2026-01-05",
        "2026-01-31",
        "1985-01-05",
    ]


def test_clock_changes() -> None:
    """An hour that comes twice counts as its first, and one that does not come as the next."""
    cells = ["2026-10-25 02:30:00", "2026-03-29 02:30:00"]

    assert [str(moment) for moment in read(cells, zone="Europe/Berlin")] == [
        "2026-10-25 00:30:00+00:00",
        "2026-03-29 01:00:00+00:00",
    ]


def test_no_rows_have_no_times() -> None:
    """An empty column is no error."""
    assert read([]) == []
