"""Every expected failure, with the HTTP status and exit code it stands for.

::

    PlumblineError
    ├── ConfigError            exit 2: the configuration is wrong
    ├── BundleError            exit 3: a model bundle is refused
    ├── StoreLocked            exit 3: another process owns the SQLite file
    └── RequestError           answered over HTTP
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

from collections.abc import Sequence
from dataclasses import dataclass


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


class RequestError(PlumblineError):
    """A request is refused; ``status`` is the HTTP answer."""

    status = 400
    retry_after: int | None = None


class Invalid(RequestError):
    """The request is not what the model or endpoint takes.

    Attributes:
        fields: every wrong field.
        place: where the fields are: the body, the query or the path.
    """

    status = 422

    def __init__(self, fields: Sequence[FieldError], place: str = "body") -> None:
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in fields))
        self.fields = tuple(fields)
        self.place = place


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


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
