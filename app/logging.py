"""Structured logs: JSON lines, or lines for people on a terminal.

Feature values are never logged, unless `logging.predictions` asks for them.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from io import TextIOWrapper
from json import dumps as dump_json
from logging.handlers import WatchedFileHandler
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.errors import ConfigError, describe_error, describe_traceback, mask_secrets
from app.types import ModelSchema, Prediction, named, to_rfc3339

_TRACEPARENT = re.compile(
    rb"(?!ff)(?!00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.{0,400})?"
)
"""A later version than 00 may have more parts."""
MAX_NAMED_REQUESTS = 32
"""Requests that a line of a whole group names."""


class LoggedRequest(Protocol):
    """A request as a line names it."""

    @property
    def request_id(self) -> str: ...  # noqa: D102

    @property
    def trace_id(self) -> str | None: ...  # noqa: D102


class RequestIds(NamedTuple):
    """The ids of a request, where no more is known of it."""

    request_id: str
    trace_id: str | None


REQUESTS: ContextVar[Sequence[LoggedRequest]] = ContextVar("requests", default=())
"""The requests for which the running task works; each line of the task names them."""


def trace_id_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The trace of a request, by its `traceparent`; None without one that is valid.

    >>> trace_id_of({b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    '0af7651916cd43dd8448eb211c80319c'
    """
    sent = headers.get(b"traceparent")
    found = None if sent is None else _TRACEPARENT.fullmatch(sent)
    return found[1].decode() if found else None


def ids_of(request: LoggedRequest) -> dict[str, str]:
    """The ids of a request, as the fields of its lines."""
    trace_id = request.trace_id
    return {"request_id": request.request_id} | ({} if trace_id is None else {"trace_id": trace_id})


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
        name_requests,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        describe_exception,
        partial(_mask, secrets),
    ]
    handlers: list[LineHandler] = [StandardOutput(for_people=not (json or (json is None and not sys.stdout.isatty())))]
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


class LineHandler(logging.StreamHandler[Any]):
    """A place of lines that counts those that it cannot write, and fails no act that is logged.

    Attributes:
        for_people: whether its lines are for people; else they are JSON.
        colours: whether it takes colours.
        lost: lines that were not written, by reason.
    """

    for_people = False
    colours = False

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.lost: Counter[str] = Counter()

    def reopen(self) -> None:
        """Open it anew if it was moved away."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - whatever a line holds; its text may hold values, so none is shown
            self.lost["content"] += 1
        else:
            self._write(line + self.terminator, 1)

    def write_events(self, events: Sequence[EventDict]) -> None:
        """Write events that need no processor any more."""
        render = partial(line_for_people, colours=self.colours) if self.for_people else line_as_json
        lines = "".join([f"{render(event)}\n" for event in events])
        self.acquire()
        try:
            self._write(lines, len(events))
        finally:
            self.release()

    def _write(self, text: str, number: int) -> None:
        try:
            self.reopen()
            try:
                self.stream.write(text)
            except UnicodeError:  # the output takes fewer characters than a text has
                self.stream.write(escape_characters(text))
            self.flush()
        except (OSError, ValueError, AttributeError):  # a full disk, a closed pipe, a closed stream, none at all
            self.lost["output"] += number


class StandardOutput(LineHandler):
    """Lines on standard output."""

    def __init__(self, *, for_people: bool) -> None:
        super().__init__(sys.stdout)
        self.for_people = for_people
        self.colours = for_people and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


class LogFile(LineHandler, WatchedFileHandler):
    """JSON lines in a file, which is opened anew once somebody has moved it away."""

    def __init__(self, file: Path) -> None:
        WatchedFileHandler.__init__(self, file, encoding="utf-8")
        self.lost = Counter()

    def reopen(self) -> None:
        """Open it anew if it was moved away."""
        self.reopenIfNeeded()
        if self.stream is None:
            self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        """Open it for its owner alone, like the store."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return open(descriptor, "a", encoding="utf-8")  # noqa: PTH123 - the handler closes it


def _open_file(file: Path) -> LogFile:
    try:
        return LogFile(file)
    except OSError as error:
        raise ConfigError(f"logging.file: {file}: cannot be written: {error.strerror}") from None


def line_outputs() -> Sequence[LineHandler]:
    """The places that the log is written to; standard output before it is configured."""
    found = [each for each in logging.getLogger().handlers if isinstance(each, LineHandler)]
    return found or [StandardOutput(for_people=False)]


def lost_lines() -> Counter[str]:
    """The lines that were not written, by reason."""
    return sum((each.lost for each in line_outputs()), Counter[str]())


def name_requests(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Add the ids of the request that a line belongs to, or those of a whole group."""
    requests = REQUESTS.get()
    if "request_id" in event:
        return event
    if len(requests) == 1:
        event.update(ids_of(requests[0]))
    elif requests:
        named = [ids_of(request) for request in requests[:MAX_NAMED_REQUESTS]]
        event.setdefault("request_ids", [ids["request_id"] for ids in named])
        if traces := [ids["trace_id"] for ids in named if "trace_id" in ids]:
            event.setdefault("trace_ids", traces)
    return event


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
    return line_as_json(event)


def line_as_json(event: EventDict) -> str:
    """A line of JSON."""
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # half a character, or a number of more than 64 bits
        return dump_json(event, default=str, skipkeys=True)


def escape_characters(text: str) -> str:
    r"""Text in ASCII, other characters as JSON escapes them.

    >>> escape_characters("é and 😀")
    '\\u00e9 and \\ud83d\\ude00'
    """
    return re.sub(r"[^\x00-\x7f]", lambda found: dump_json(found[0])[1:-1], text)


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


LoggedRow: TypeAlias = tuple[ModelSchema, str | None, Prediction]
"""A stored row with the schema of its version and its trace."""
MAX_LOG_ROWS = 10_000
"""Predictions that wait for their lines; more are counted as lost."""
LOG_STOP_S = 5.0


class PredictionLog:
    """Writes a line for each stored prediction, in a thread of its own.

    Args:
        has_values: whether a line has the features, as they are stored, and the answer.

    Attributes:
        lost: lines that were not written, by reason.
    """

    def __init__(self, *, has_values: bool, max_rows: int = MAX_LOG_ROWS) -> None:
        self.lost: Counter[str] = Counter()
        self._has_values = has_values
        self._max_rows = max_rows
        self._waiting = 0
        self._lock = Lock()
        self._queue: SimpleQueue[Sequence[LoggedRow] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="plumbline-predictions", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting; an output that takes nothing is waited for a few seconds only."""
        self._queue.put(None)
        self._thread.join(LOG_STOP_S)

    def offer(
        self, schema: ModelSchema, traces: Sequence[str | None], rows: Sequence[Prediction], stored: Sequence[object]
    ) -> None:
        """Take rows in their stored form, with their traces; one with a result is a replay."""
        places = [place for place, result in enumerate(stored) if result is None]
        new = [(schema, traces[place], rows[place]) for place in places]
        with self._lock:
            has_room = self._waiting + len(new) <= self._max_rows
            if has_room:
                self._waiting += len(new)
            else:
                self.lost["queue"] += len(new)
        if has_room and new:
            self._queue.put(new)

    def _run(self) -> None:
        while (rows := self._queue.get()) is not None:
            try:
                events = [self._event(*row) for row in rows]
                for output in line_outputs():
                    output.write_events(events)
            except Exception:  # noqa: BLE001 - whatever a row holds, the lines of the others follow
                self.lost["content"] += len(rows)
            with self._lock:
                self._waiting -= len(rows)

    def _event(self, schema: ModelSchema, trace_id: str | None, row: Prediction) -> EventDict:
        """The line of a prediction: never more than is stored."""
        event: dict[str, Any] = {
            "time": to_rfc3339(row.predicted_at),
            "level": "info",
            "logger": "predictions",
            "event": "prediction",
            "prediction_id": row.prediction_id,
            "model_name": row.model_name,
            "model_version": row.model_version,
            **ids_of(RequestIds(row.request_id, trace_id)),
            "latency_ms": row.latency_us / 1000,
        }
        if self._has_values:
            event["features"] = dict(zip(schema.feature_names, row.features, strict=True))
            event["prediction"] = row.answer.prediction
            if row.answer.probabilities is not None:
                event["probabilities"] = named(schema.classes, row.answer.probabilities)
        return event
