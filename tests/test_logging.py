"""Lines of the log."""

from __future__ import annotations

import io
import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from app.errors import ConfigError
from app.logging import configure_logging, line_for_people, lost_lines


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    """The handlers and the level of before, also behind a test that configures them."""
    root = logging.getLogger()
    handlers, level, structured = root.handlers, root.level, structlog.get_config()
    yield
    for handler in root.handlers:
        if handler not in handlers and isinstance(handler, logging.FileHandler):
            handler.close()
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


@pytest.mark.usefixtures("_logs_as_before")
def test_lines_for_people_have_no_escape_codes_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for people begins with its time and level; in a pipe it has no colours."""
    configure_logging(json=False)
    structlog.get_logger("delivery").warning("message_put_off", channel="json-1", tries=2, reason="not reached")

    line = capsys.readouterr().out.rstrip()
    assert line[19:] == 'Z warning  message put off  channel=json-1 tries=2 reason="not reached"'


@pytest.mark.usefixtures("_logs_as_before")
def test_a_start_is_told_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The banner is for a terminal; in a pipe, lines for people tell of the start as those of JSON do."""
    configure_logging(json=False)
    logging.getLogger("uvicorn.error").info("Uvicorn running on http://127.0.0.1:8000")

    assert "Uvicorn running on http://127.0.0.1:8000" in capsys.readouterr().out


def test_a_value_cannot_break_a_line() -> None:
    """What a client wrote stands in quotes: no line break, and no code that a terminal would obey."""
    event = {"time": "2026-12-01T10:00:00", "level": "error", "event": "a\x1b[2Jb\nc", "path": "x\x1b[31m\n"}
    line = line_for_people(event)

    assert line.isprintable()
    assert "\\u001b" in line


@pytest.mark.usefixtures("_logs_as_before")
def test_the_file_has_every_line_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file gets what standard output gets, also after somebody has moved it away; only its owner may read it."""
    file = tmp_path / "service.log"
    configure_logging(json=False, file=file, level="warning")
    log = structlog.get_logger("x")
    log.warning("first", number=1)
    log.info("never")
    file.rename(tmp_path / "old.log")
    log.error("second")

    events = [json.loads((tmp_path / name).read_text())["event"] for name in ("old.log", "service.log")]
    assert events == ["first", "second"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["number=1", "second"]


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_no_flood(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output goes on, and no traceback with the texts of lines comes instead of what finds no room."""
    configure_logging(json=True, file=Path("/dev/full"))
    structlog.get_logger("x").warning("first")
    logging.getLogger("y").warning("second")

    printed = capsys.readouterr()
    assert [json.loads(line)["event"] for line in printed.out.splitlines()] == ["first", "second"]
    assert printed.err == ""
    assert lost_lines() == {"output": 2}
    with suppress(OSError):
        logging.getLogger().handlers[1].close()


@pytest.mark.usefixtures("_logs_as_before")
def test_a_closed_pipe_costs_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads standard output any more, lines are counted and nothing is raised or printed."""
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch, suppress(OSError), os.fdopen(writer, "w") as pipe:
        patch.setattr("sys.stdout", pipe)
        configure_logging(json=True)
        structlog.get_logger("x").warning("lost")

        assert lost_lines() == {"output": 1}


@pytest.mark.usefixtures("_logs_as_before")
def test_an_output_of_few_characters_gets_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output in ASCII, half a character and a huge number cost no line; what cannot be rendered is counted."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    configure_logging(json=True)
    log = structlog.get_logger("x")
    log.warning("h\u00f6he \U0001f600")
    log.warning("half \ud83d")
    log.warning("huge", number=2**70)
    logging.getLogger("y").warning("no %d", "number")

    lines = [json.loads(line) for line in written.getvalue().decode("ascii").splitlines()]
    assert [line["event"] for line in lines] == ["h\u00f6he \U0001f600", "half \ud83d", "huge"]
    assert lost_lines() == {"content": 1}


@pytest.mark.usefixtures("_logs_as_before")
def test_a_file_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    """A folder that was moved away fails no act that is logged; where it is back, the file goes on."""
    file = tmp_path / "logs" / "service.log"
    file.parent.mkdir()
    configure_logging(json=True, file=file)
    log = structlog.get_logger("x")
    log.warning("first")
    file.parent.rename(tmp_path / "old")
    log.warning("lost")
    log.warning("lost too")
    file.parent.mkdir()
    log.warning("last")

    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["last"]


@pytest.mark.usefixtures("_logs_as_before")
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The service does not start without the log that it is asked for."""
    with pytest.raises(ConfigError, match=r"logging\.file: .*cannot be written"):
        configure_logging(file=tmp_path)
