"""A small checkout with the Makefile and the scripts of this one, and an index that is a folder of small wheels."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

from scripts.environment import DEVELOPMENT, RUNTIME, STAMP
from tests.support.install import wheels
from tests.support.install.wheels import write_wheel
from tests.support.processes import ROOT

PINS = {"asker": "1.0", "coverage": "7.0", "tomlreader": "1.0"}
"""The runtime lock: asker requires coverage[toml], and that extra requires tomlreader."""
MORE_PINS = {"checker": "1.0"}
"""What the development lock has besides."""
LOOK_EVERY_S = 0.02
PROJECT = """
[build-system]
requires = ["builder-that-no-index-has"]
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "0.1"
requires-python = ">=3.11,<3.15"
dependencies = ["asker"]

[project.optional-dependencies]
build = []
dev = ["checker"]
"""
DROPPED = ("PIP_", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV")


def _heed_interrupts() -> None:
    """Undo that a shell lets its background jobs, and so a test run among them, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout and its index."""

    folder: Path
    index: Path

    @property
    def environment(self) -> Path:
        """Where its environment is, once it is made."""
        return self.folder / ".venv"

    @property
    def finished(self) -> bool:
        """Whether its environment counts as installed."""
        return (self.environment / STAMP).exists()

    def environ(self) -> dict[str, str]:
        """An environment in which pip knows this index alone, whatever the machine's configuration is."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
        pip = {"NO_INDEX": "1", "FIND_LINKS": str(self.index), "CONFIG_FILE": os.devnull, "NO_CACHE_DIR": "1"}
        return kept | {f"PIP_{name}": value for name, value in pip.items()}

    def make(
        self, *words: str, python: str | Path = sys.executable, path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What ``make`` prints with this Python, or with the one that it finds where that is empty."""
        command = ["make", "--no-print-directory", *words, *([f"PYTHON={python}"] if python else [])]
        environ = self.environ() | ({"PATH": path} if path else {})
        return subprocess.run(
            command, cwd=self.folder, env=environ, check=False, capture_output=True, text=True, timeout=300
        )

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that a signal to all of it spares the test."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it changes one signal, and no thread holds a lock that it needs
        )

    def installed(self) -> dict[str, str]:
        """Names and versions in the environment, without what an empty one has."""
        command = (self.environment / "bin" / "python", "-m", "pip", "list", "--format=freeze", "--exclude-editable")
        listed = subprocess.run(command, check=True, capture_output=True, text=True, env=self.environ()).stdout
        versions = dict(line.split("==") for line in listed.splitlines())
        return {name: version for name, version in versions.items() if name not in ("pip", "setuptools")}

    def lock(self, name: str, pins: Mapping[str, str]) -> None:
        """Write a lock of these pins, with the hashes of their wheels in the index."""
        lines = []
        for package, version in pins.items():
            (wheel,) = self.index.glob(f"{package}-{version}-*.whl")
            lines.append(
                f"{package}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
            )
        (self.folder / name).write_text("".join(lines), encoding="utf-8")


def make_checkout(folder: Path) -> Checkout:
    """A checkout whose index also has newer releases of all that it locks."""
    checkout = Checkout(folder / "checkout", folder / "index")
    shutil.copytree(ROOT / "scripts", checkout.folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", checkout.folder)
    shutil.copy(wheels.__file__, checkout.folder / "backend.py")
    (checkout.folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    checkout.index.mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(checkout.index, "asker", version, requires=["coverage[toml]"])
        write_wheel(checkout.index, "tomlreader", version)
        write_wheel(checkout.index, "checker", version, requires=["asker"])
    for version in ("7.0", "8.0"):
        write_wheel(checkout.index, "coverage", version, requires=['tomlreader; extra == "toml"'], extras=["toml"])
    checkout.lock(RUNTIME, PINS)
    checkout.lock(DEVELOPMENT, PINS | MORE_PINS)
    return checkout


def read_until(process: subprocess.Popen[bytes], word: str, silence_s: float = 120) -> str:
    """What a process prints until a word has come; all of it where the word does not come.

    Raises:
        TimeoutError: it printed nothing for ``silence_s``.
    """
    assert process.stdout is not None
    printed = b""
    while word.encode() not in printed:
        if not select([process.stdout], [], [], silence_s)[0]:
            raise TimeoutError(f"{word!r} did not come after:\n{printed.decode()}")
        more = os.read(process.stdout.fileno(), 4096)
        if not more:
            break
        printed += more
    return printed.decode()


@contextmanager
def held(pipe: Path, seconds: float = 120) -> Iterator[None]:
    """Keep the reader of a named pipe waiting while the block runs, which begins once there is a reader.

    Raises:
        TimeoutError: nobody has come to read.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError):  # nobody reads yet
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        select([], [], [], LOOK_EVERY_S)
    else:
        raise TimeoutError(f"{pipe}: nobody has come to read")
    try:
        yield
    finally:
        os.close(end)
