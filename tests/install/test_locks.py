"""Locks are complete by themselves, and a lock that is not is found out, behind an extra too."""

from __future__ import annotations

import sys
from importlib.metadata import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.complete import lacking
from scripts.environment import DEVELOPMENT, LOCKED, PIP, RUNTIME
from tests.support.install.checkouts import Checkout
from tests.support.install.wheels import write_wheel
from tests.support.processes import ROOT

pytestmark = pytest.mark.fault

CHECK = "import sys; from scripts.locks import check_lock; check_lock({lock!r}, {extras!r}, 'small')"


def check(checkout: Checkout, lock: str, extras: list[str]) -> str:
    """What the check of a lock prints."""
    script = CHECK.format(lock=lock, extras=extras)
    with checkout.start(sys.executable, "-c", script) as process:
        assert process.stdout is not None
        return process.stdout.read().decode()


def log(checkout: Checkout, lock: str) -> str:
    """The output of the commands of a check."""
    return (checkout.folder / ".cache" / f"{lock}.log").read_text()


def test_this_environment_is_complete() -> None:
    """What the tests run in has every requirement of the project and of its extras."""
    extras = metadata("plumbline").get_all("Provides-Extra") or []

    assert {"build", "dev", "examples", "parquet"} <= set(extras)
    assert lacking("plumbline", extras) == []


def test_complete_locks_pass(checkout: Checkout) -> None:
    """Each lock is installed into an environment of its own and lacks nothing there; the environments go again."""
    runtime, development = check(checkout, RUNTIME, ["build"]), check(checkout, DEVELOPMENT, ["build", "dev"])

    assert [output.splitlines()[-1].split()[0] for output in (runtime, development)] == ["complete", "complete"]
    assert sorted(path.name for path in (checkout.folder / ".cache").iterdir()) == [
        f"{DEVELOPMENT}.log",
        f"{RUNTIME}.log",
    ]


def test_a_missing_dependency_fails(checkout: Checkout) -> None:
    """`pip check` finds a lock that forgot what a package requires."""
    checkout.lock(RUNTIME, {"asker": "1.0", "tomlreader": "1.0"})
    output = check(checkout, RUNTIME, ["build"])

    assert "StepFailed" in output.splitlines()[-1]
    assert "requires coverage, which is not installed" in log(checkout, RUNTIME)


def test_what_an_extra_adds_is_missed(checkout: Checkout) -> None:
    """`pip check` takes a lock without what an extra requires for complete; the second check does not."""
    checkout.lock(RUNTIME, {"asker": "1.0", "coverage": "7.0"})
    output = check(checkout, RUNTIME, ["build"])

    assert "No broken requirements found." in log(checkout, RUNTIME)
    assert "coverage requires tomlreader" in output.splitlines()[-1]
    assert "which is not installed" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("requires", "found"),
    [
        (["whole[more]"], []),
        (["absent"], ["asking requires absent, which is not installed"]),
        (["whole>=2"], ["asking requires whole>=2, and 1.0 is installed"]),
        (['absent; python_version < "3"'], []),
        (['absent; extra == "chosen"'], ['asking requires absent; extra == "chosen", which is not installed']),
        (['absent; extra == "other"'], []),
        (["half[more]"], ['half requires absent; extra == "more", which is not installed']),
        (["half"], []),
        (["behind"], ['half requires absent; extra == "more", which is not installed']),
    ],
    ids=["met", "absent", "version", "marker", "extra", "other-extra", "extra-of-another", "no-extra", "indirect"],
)
def test_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires: list[str], found: list[str]
) -> None:
    """Every requirement is followed with its extras, to the end, where its marker holds."""
    wheels = [
        write_wheel(tmp_path, "asking", "1.0", requires=requires, extras=["chosen", "other"]),
        write_wheel(tmp_path, "whole", "1.0", requires=['half; extra == "more"'], extras=["more"]),
        write_wheel(tmp_path, "half", "1.0", requires=['absent; extra == "more"'], extras=["more"]),
        write_wheel(tmp_path, "behind", "1.0", requires=["half[more]"]),
    ]
    for wheel in wheels:
        ZipFile(wheel).extractall(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")

    assert lacking("asking", ["chosen"]) == found


def test_the_image_installs_the_lock_as_make_does() -> None:
    """The image resolves nothing either."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert f"pip install {PIP[-1]} {' '.join(LOCKED)} -r {RUNTIME}" in text
