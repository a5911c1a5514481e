"""Structured logs: JSON lines, or lines for people on a terminal.

Feature values are never logged.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.errors import ConfigError, describe_error, describe_traceback, mask_secrets


def configure_logging(
    *, level: str = "info", json: bool | None = None, file: Path | None = None, secrets: Collection[str] = ()
) -> None:
    """Send our own and foreign log records through one format.

    Args:
        level: the least level of a line.
        json: JSON lines, or lines for people; by default these on a terminal only.
        file: gets every line too, as JSON.
        secrets: texts that are masked in every line.

    Raises:
        ConfigError: the file cannot be written.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        describe_exception,
        partial(_mask, secrets),
    ]
    handlers: list[LineOutput] = [StandardOutput(for_people=not (json or (json is None and not sys.stdout.isatty())))]
    if file is not None:
        handlers.append(_open_file(file))
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    for handler in handlers:
        last = _line_for_people(colours=handler.colours) if handler.for_people else _render_json
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, last]))
    root = logging.getLogger()
    root.handlers = list(handlers)
    root.setLevel(least)
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # On a terminal a person reads the banner instead of uvicorn's lines about its start.
    has_banner = handlers[0].for_people and sys.stdout.isatty()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING if has_banner else logging.NOTSET)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class StandardOutput(logging.StreamHandler[Any]):
    """Lines on standard output.

    Attributes:
        for_people: whether its lines are for people; else they are JSON.
        colours: whether it takes colours.
    """

    def __init__(self, *, for_people: bool) -> None:
        super().__init__(sys.stdout)
        self.for_people = for_people
        self.colours = for_people and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def reopen(self) -> None:
        """It stays open."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a name of Python's
        """Write nothing in the place of a line for which there is no room."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class LogFile(WatchedFileHandler):
    """JSON lines in a file, which is opened anew once somebody has moved it away."""

    for_people = False
    colours = False

    def reopen(self) -> None:
        """Open it anew if it was moved away."""
        self.reopenIfNeeded()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a file that cannot be opened anew fails no act that is logged."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a name of Python's
        """Write nothing in the place of a line for which there is no room."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def _open(self) -> TextIOWrapper:
        """Open it for its owner alone, like the store."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return open(descriptor, "a", encoding="utf-8")  # noqa: PTH123 - the handler closes it


LineOutput = StandardOutput | LogFile


def _open_file(file: Path) -> LogFile:
    try:
        return LogFile(file, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"logging.file: {file}: cannot be written: {error.strerror}") from None


def line_outputs() -> Sequence[LineOutput]:
    """The places that the log is written to; standard output before it is configured."""
    found = [each for each in logging.getLogger().handlers if isinstance(each, LineOutput)]
    return found or [StandardOutput(for_people=False)]


def write_lines(output: LineOutput, lines: str) -> None:
    """Write lines that are rendered already; a full disk stops no request."""
    output.acquire()
    try:
        output.reopen()
        if output.stream is not None:
            output.stream.write(lines)
            output.flush()
    except (OSError, ValueError):
        pass
    finally:
        output.release()


def describe_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace an exception by its traceback.

    The texts of libraries are left out: they may hold values of rows.
    """
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = describe_traceback(error)
    return event


_TASK = re.compile(r"exception=(\w+)\(.*\)>")
"""How asyncio writes a task that failed."""


def _mask(secrets: Collection[str], _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Mask secrets in every text of an event; uvicorn's second text, with colours, is left out."""
    event.pop("color_message", None)
    for name, value in event.items():
        if isinstance(value, str) and name not in ("time", "level", "logger"):
            event[name] = mask_secrets(_TASK.sub(r"exception=\1>", value), secrets)
        elif isinstance(value, BaseException):
            event[name] = describe_error(value)
    return event


def _render_json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    return orjson.dumps(event, default=str).decode()


COLOURS = {"debug": 90, "info": 32, "warning": 33, "error": 31, "critical": 31}


def line_for_people(event: EventDict, *, colours: bool = False) -> str:
    """A line for people: the time in UTC, the level, the event, and the rest as ``name=value``.

    >>> line_for_people({"time": "2026-12-01T10:03:22.5+00:00", "level": "info", "event": "key_created", "by": "ann"})
    '2026-12-01 10:03:22Z info     key created  by=ann'
    """
    known = ("time", "level", "event", "logger", "exception")
    rest = " ".join(f"{name}={_plain(value)}" for name, value in event.items() if name not in known)
    level = str(event.get("level", "info"))
    shown = f"\x1b[{COLOURS.get(level, 0)}m{level:8}\x1b[0m" if colours else f"{level:8}"
    moment = str(event.get("time", ""))[:19].replace("T", " ")
    text = str(event.get("event", ""))
    head = f"{moment}Z {shown} {text.replace('_', ' ') if text.isidentifier() else printable(text)}"
    trace = f"\n{event['exception']}" if event.get("exception") else ""
    return f"{head}  {rest}{trace}" if rest else f"{head}{trace}"


def _line_for_people(*, colours: bool) -> Processor:
    return lambda _logger, _name, event: line_for_people(event, colours=colours)


def _plain(value: object) -> str:
    """A value in one word, or in quotes."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if text.isprintable() and " " not in text and text else orjson.dumps(text).decode()


def printable(text: str) -> str:
    """Text without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


RequestLine: TypeAlias = tuple[str, str, str, int, float, Any, str | None]
"""Request id, method, route, status, seconds, notes, and the name of the key."""


def _level(status: int) -> str:
    return "error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "info"


def request_event(now: str, line: RequestLine) -> dict[str, Any]:
    """A request as an event for people."""
    request_id, method, route, status, seconds, notes, key_name = line
    text = f"{method} {route} {status} in {seconds * 1000:.1f} ms"
    key = {} if key_name is None else {"key": key_name}
    return {"time": now, "level": _level(status), "event": text, **(notes or {}), **key, "request_id": request_id}


def request_json(
    now: str, request_id: str, method: str, route: str, status: int, seconds: float, notes: Any, key_name: str | None
) -> str:
    """A request as a line of JSON; none of these texts needs escaping, the notes may."""
    more = f",{orjson.dumps(notes).decode()[1:-1]}" if notes else ""
    if key_name is not None:
        more += f',"key":"{key_name}"'
    return (
        f'{{"time":"{now}","level":"{_level(status)}","logger":"access","event":"request"'
        f',"request_id":"{request_id}","method":"{method}","route":"{route}",'
        f'"status":{status},"duration_ms":{seconds * 1000:.3f}{more}}}\n'
    )
