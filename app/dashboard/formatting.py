"""Format numbers, shares and names for people; a missing figure is a dash."""

from __future__ import annotations

NONE = "-"


def number(value: float | None) -> str:
    """Three significant digits.

    >>> number(0.04567), number(1234567.8), number(12345), number(2e-9), number(None)
    ('0.0457', '1.2e+06', '12,345', '2.0e-09', '-')
    """
    if not isinstance(value, int | float):
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:  # noqa: PLR2004 - whole numbers that floats hold exactly
        return f"{value:,.0f}"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:  # noqa: PLR2004 - beyond these, an exponent is shorter
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - whole from here on


def share(value: float | None) -> str:
    """A share in per cent.

    >>> share(0.123), share(0.0123), share(1), share(None)
    ('12 %', '1.2 %', '100 %', '-')
    """
    return f"{100 * value:.{1 if 0 < value < 0.1 else 0}f} %" if isinstance(value, int | float) else NONE  # noqa: PLR2004 - small ones


def duration(seconds: float | None) -> str:
    """A duration in the unit in which it is a small number.

    >>> duration(90), duration(7200), duration(259200), duration(None)
    ('90 s', '2 h', '3 days', '-')
    """
    if not isinstance(seconds, int | float):
        return NONE
    for unit, length, end in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < end:
            return f"{number(round(seconds / length, 1 if seconds < length else 0))} {unit}"
    return f"{number(round(seconds / 86400))} days"


def period(text: str | None) -> str:
    """A period of ISO 8601 in days or seconds, as the reports write them.

    >>> period("P30D"), period("PT5400S")
    ('30 days', '90 min')
    """
    if not text:
        return NONE
    amount = float(text.strip("PTDS"))
    return duration(amount * 86400 if text.endswith("D") else amount)


def moment(text: str | None) -> str:
    """A time of RFC 3339, to the second.

    >>> moment("2026-11-20T10:00:00.123456Z")
    '2026-11-20 10:00:00 UTC'
    """
    return NONE if not text else f"{text[:10]} {text[11:19]} UTC"


def words(name: str) -> str:
    """A word of the reports as text.

    >>> words("insufficient_data")
    'insufficient data'
    """
    return name.replace("_", " ")


def listed(names: list[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
