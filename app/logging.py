"""Structured logs: one JSON line an event on standard output, readable text on a terminal.

Feature values are never logged.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection
from functools import partial

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.errors import describe_error, describe_traceback, mask_secrets


def configure_logging(*, level: int = logging.INFO, json: bool | None = None, secrets: Collection[str] = ()) -> None:
    """Send our own and foreign log records through one format.

    Args:
        secrets: texts that are masked in every line.
        json: JSON lines or readable text; by default text on a terminal only.
    """
    as_json = not sys.stdout.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        describe_exception,
        partial(_mask, secrets),
    ]
    last: Processor = _render_json if as_json else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stdout)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, last]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


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
