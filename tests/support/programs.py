"""Programs that the tests run: ``plumbline`` in the test's own process, and others where they are installed."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple
from unittest.mock import patch

import pytest

from app.cli import main
from tests.support.processes import ROOT


def require_tool(*names: str) -> str:
    """The path of the first of these programs that is installed; without one the test is skipped, and fails in CI."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        absent = f"{' or '.join(names)} is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(absent)
    return found


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*words: object, **settings: str) -> Done:
    """Run ``plumbline`` as in a terminal in the repository's folder, without the second that its imports take.

    Args:
        words: the words behind ``plumbline``.
        settings: variables of the environment without their ``PLUMBLINE__``.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE__")}
    environ |= {f"PLUMBLINE__{name}": value for name, value in settings.items()}
    out, err = StringIO(), StringIO()
    with (
        patch.dict(os.environ, environ, clear=True),
        patch.object(sys, "argv", ["plumbline", *map(str, words)]),
        chdir(ROOT),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            return Done(int(ended.code or 0), out.getvalue(), err.getvalue())
    return Done(0, out.getvalue(), err.getvalue())
