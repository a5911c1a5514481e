"""Every expected failure, with the HTTP status and exit code it stands for.

::

    PlumblineError
    ├── ConfigError            exit 2: the configuration is wrong
    ├── BundleError            exit 3: a model bundle is refused
    ├── StoreLocked            exit 3: another process owns the SQLite file
    └── RequestError           answered over HTTP
        ├── UntrustedHost      400: the request is for a host that is not ours
        ├── Invalid            422: the body is no JSON, or not what is taken
        ├── NotFound           404
        ├── Conflict           409: the id is known with other content, or the act does not fit what is
        ├── TooLarge           413
        ├── WrongMediaType     415
        ├── Unauthenticated    401
        ├── Forbidden          403
        ├── TooManyRequests    429: wrong keys, or too many requests, from one address or key
        ├── ModelFailed        500: the model raised on a valid row
        ├── Unavailable        503: full, draining, or without a store
        └── DeadlineExceeded   504
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import unquote


class PlumblineError(Exception):
    """Base of all failures that Plumbline expects; its text is meant for the reader."""

    exit_code = 1


class ConfigError(PlumblineError):
    """The configuration is wrong; one line for each finding."""

    exit_code = 2


class BundleError(PlumblineError):
    """A model bundle is refused; the text says what to do."""

    exit_code = 3


class StoreLocked(PlumblineError):
    """Another process owns the SQLite file."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class FieldError:
    """Hold one wrong field: its place, what was expected, and why it was refused.

    The value itself is never shown.
    """

    field: str
    expected: str
    reason: str


MAX_FIELDS = 100
"""Wrong fields that one answer names."""
MAX_NAME = 200
"""Characters of a caller's own text, a field's name, that an answer repeats."""


class RequestError(PlumblineError):
    """A request is refused; ``status`` is the HTTP answer."""

    status = 400
    retry_after: int | None = None


class Invalid(RequestError):
    """The request is not what the model or endpoint takes.

    Attributes:
        fields: every wrong field, up to a bound, and one more that says how many others there are.
        place: where the fields are: the body, the query or the path.
    """

    status = 422

    def __init__(self, fields: Iterable[FieldError], place: str = "body") -> None:
        source = iter(fields)
        listed = [replace(error, field=_shortened(error.field)) for error in islice(source, MAX_FIELDS)]
        if more := sum(1 for _ in source):
            listed.append(FieldError(place, "fewer wrong fields", f"and {more} more"))
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in listed))
        self.fields = tuple(listed)
        self.place = place


class NoAnswer(ValueError):
    """The answer of a model is no number: the row is refused, as nothing can be stored."""


class NotFound(RequestError):
    """No such prediction, model or report."""

    status = 404


class Conflict(RequestError):
    """The request conflicts with what is stored or loaded.

    Examples: an id with other content, a refused bundle, no version to roll back to.
    """

    status = 409


class TooLarge(RequestError):
    """The body is too large: more bytes than allowed, or more rows than the queue holds."""

    status = 413


class WrongMediaType(RequestError):
    """The body's content type is not JSON."""

    status = 415


class Unauthenticated(RequestError):
    """No valid API key was sent."""

    status = 401


class Forbidden(RequestError):
    """The API key lacks the scope."""

    status = 403


class UntrustedHost(RequestError):
    """The ``Host`` of the request is none of ours."""

    status = 400


class TooManyRequests(RequestError):
    """Too many requests or wrong keys; ``retry_after`` says how many seconds to wait."""

    status = 429

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = max(1, retry_after)


class ModelFailed(RequestError):
    """The model raised on a valid row; the caller sees an error id only."""

    status = 500


class Unavailable(RequestError):
    """Full, draining, or without a store: repeat the request, with the same id, a little later."""

    status = 503
    retry_after = 1


class DeadlineExceeded(RequestError):
    """The answer took longer than ``server.deadline``.

    Whether the row was stored is unknown, repeating the id is safe.
    """

    status = 504


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


_SPOKEN = (OSError, ImportError, MemoryError)
"""Errors whose texts are about the machine, not about rows."""
_STORE_AWAY = frozenset({"OperationalError", "InterfaceError", "InternalError"})


def describe_error(error: BaseException) -> str:
    """The type of an error, with its text only where that cannot hold a value of a row.

    A library puts the value into its text that it cannot take: ``could not convert string to float: 'Alice'``.

    >>> describe_error(ValueError("could not convert string to float: 'Alice'")), describe_error(OSError("disk full"))
    ('ValueError', 'OSError: disk full')
    """
    name = type(error).__name__
    original = getattr(error, "orig", None)
    if name in _STORE_AWAY and original is not None:
        error = original
    elif not (type(error).__module__.startswith("app.") or isinstance(error, _SPOKEN)):
        return name
    text = mask_secrets((str(error).splitlines() or [""])[0][:300])
    return f"{name}: {text}" if text else name


def describe_traceback(error: BaseException) -> str:
    """The way to an error and to its causes: places in the code and types, no values."""
    return "\nwhich led to\n".join(reversed(list(_tracebacks(error))))


def _tracebacks(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        parts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        place = "".join(traceback.format_tb(cause.__traceback__))
        yield "\n".join([place + describe_error(cause), *(f"- {describe_error(part)}" for part in parts)])
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


_SHOWN_SCHEMES = ("http", "https", "postgresql", "postgres", "sqlite", "file")
_SHOWN_PARAMETERS = (
    "sslmode|application_name|connect_timeout|target_session_attrs|host|port|dbname|from|to|limit|format"
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9.-]*(?:\+[A-Za-z0-9.-]+)*)://([^\s\"'<>]*)")
_PARAMETER = re.compile(rf"([?&;])(?!(?:{_SHOWN_PARAMETERS})=)([^=&\s]+)=[^&\s\"']*")
_NAMED = re.compile(
    r"(?i)\b(\w*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)\w*"
    r"[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&)\"']+)"
)
_HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_KEY = re.compile(r"plumb_[A-Za-z0-9_-]{8,}")
MASK = "***"


def mask_secrets(text: str, known: Iterable[str] = ()) -> str:
    """The text without secrets.

    These are passwords and parameters of URLs, channel URLs, keys, and what is named a secret.

    Args:
        known: secrets that are masked wherever they stand.

    >>> mask_secrets("postgresql://me:p@ss@h/db?password=x&sslmode=require")
    'postgresql://me:***@h/db?password=***&sslmode=require'
    >>> mask_secrets("slack://T1/B2/x3 failed with token=abc, Bearer abcdefgh")
    'slack://*** failed with token=***, Bearer ***'
    """
    for secret in known:
        text = text.replace(secret, MASK)
    text = _URL.sub(lambda found: _mask_url(found[1], found[2]), text)
    text = _NAMED.sub(lambda found: found[1] + MASK, text)
    return _KEY.sub(f"plumb_{MASK}", _HEADER.sub(rf"\1 {MASK}", text))


def _mask_url(scheme: str, rest: str) -> str:
    if scheme.split("+", maxsplit=1)[0] not in _SHOWN_SCHEMES:
        return f"{scheme}://{MASK}"
    place, mark, query = rest.partition("?")
    if "@" in query and "/" not in place:  # a password with a question mark
        place, mark, query = rest, "", ""
    if "@" in place:
        user, host = place.rsplit("@", 1)
        name, colon, _ = user.partition(":")
        shown = f"{name}:{MASK}" if colon else (MASK if scheme.startswith("http") else name)
        place = f"{shown}@{host}"
    parameters = _PARAMETER.sub(rf"\1\2={MASK}", mark + query)
    return f"{scheme}://{place}{parameters}"


_FOLDERS = re.compile(r"(?<![\w/.:*])/(?:[^/\s:,;'\"]+/)+")


def without_folders(text: str, folder: str = "") -> str:
    """The text with the names of files alone, for a caller who need not know where they are.

    Args:
        folder: from which on a path is shown.

    >>> without_folders("/srv/models/credit/2: [Errno 2] '/usr/lib/x.so'", "/srv/models")
    "credit/2: [Errno 2] 'x.so'"
    """
    return _FOLDERS.sub("", text.replace(f"{folder}/", "") if folder else text)


MIN_SECRET_CHARACTERS = 6


def secrets_in(url: str) -> set[str]:
    """The parts of a URL that may be secret, as written and unquoted.

    Each is long enough to be looked for in a text. Of a database this is its password and its parameters; of a channel
    everything behind the scheme.

    >>> sorted(secrets_in("postgresql://me:pass%21word@h/db?sslpassword=hidden1&sslmode=require"))
    ['hidden1', 'pass!word', 'pass%21word']
    >>> sorted(secrets_in("https://hooks.example/services/T0000001/abcdef"))
    ['T0000001', 'abcdef', 'services']
    """
    scheme, _, rest = url.partition("://")
    place, mark, query = rest.partition("?")
    user, at, address = place.rpartition("@")
    shown = re.compile(rf"(?:{_SHOWN_PARAMETERS})=")
    found = {part.partition("=")[2] for part in re.split("[&;]", query) if mark and not shown.match(part)}
    found |= {user.partition(":")[2]} if at else set()
    if not scheme.startswith(("postgres", "sqlite")):
        found |= {*address.split("/")[1:], *(user.split(":") if at else ())}
    found |= {unquote(part) for part in found}
    return {part for part in found if len(part) >= MIN_SECRET_CHARACTERS}
