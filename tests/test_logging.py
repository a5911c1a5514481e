"""Lines of the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.logging import configure_logging


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    """The handlers and the level of before, also behind a test that configures them."""
    root = logging.getLogger()
    handlers, level, structured = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**structured)


@pytest.mark.usefixtures("_logs_as_before")
def test_a_line_has_one_text_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """Uvicorn hands over a second text for terminals; the line in JSON has the plain one alone."""
    configure_logging(json=True)

    running = {"color_message": "Uvicorn running on \x1b[1m%s://%s:%d\x1b[0m"}
    logging.getLogger("uvicorn.error").info("Uvicorn running on http://127.0.0.1:8000", extra=running)

    line = json.loads(capsys.readouterr().out)
    assert line.keys() == {"event", "level", "logger", "time"}
    assert line["event"] == "Uvicorn running on http://127.0.0.1:8000"
