"""The environment that make installs: the lock's pins and nothing else, complete or not counted as installed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from scripts.environment import RUNTIME
from scripts.steps import INTERRUPTED
from tests.support.install.checkouts import MORE_PINS, PINS, Checkout, held, read_until
from tests.support.install.interpreters import SUPPORTED, find_interpreter, interpreter
from tests.support.install.wheels import write_wheel

pytestmark = pytest.mark.fault

STEPS = ["environment", "packages", "project"]
BUSY = "waiting for another install"


def steps(output: str) -> list[str]:
    """The names of the steps that a command printed."""
    return [line.split()[0] for line in output.splitlines() if line and line.split()[0] in STEPS]


@pytest.mark.parametrize("minor", SUPPORTED)
def test_newer_releases_are_not_taken(checkout: Checkout, minor: int) -> None:
    """With each Python's own pip the pins are installed though the index has newer ones, also behind an extra."""
    done = checkout.make("development", python=interpreter(minor))

    assert (done.returncode, done.stderr) == (0, "")
    assert checkout.installed() == PINS | MORE_PINS


def test_the_index_is_not_asked_for_what_the_lock_lacks(checkout: Checkout) -> None:
    """A dependency that the lock forgot is not added from the index."""
    checkout.lock(RUNTIME, {"asker": "1.0"})

    assert checkout.make("runtime").returncode == 0
    assert checkout.installed() == {"asker": "1.0"}


def test_what_is_installed_is_not_installed_again(checkout: Checkout) -> None:
    """A second time does nothing; the development lock adds its packages; a changed project is built again, alone."""
    assert steps(checkout.make("runtime").stdout) == STEPS
    assert steps(checkout.make("development").stdout) == STEPS[1:]
    again = [checkout.make(target).stdout for target in ("runtime", "development")]
    with (checkout.folder / "pyproject.toml").open("a") as project:
        project.write("\n[tool.other]\n")
    changed = [steps(checkout.make(target).stdout) for target in ("runtime", "development")]

    assert again == ["", ""]
    assert changed == [["project"], []]
    assert checkout.installed() == PINS | MORE_PINS


def test_a_changed_lock_is_installed_anew(checkout: Checkout) -> None:
    """A package that left the lock leaves the environment."""
    checkout.make("runtime")
    checkout.lock(RUNTIME, {"asker": "2.0", "coverage": "8.0"})
    done = checkout.make("runtime")

    assert "anew: the lock has changed" in done.stdout
    assert checkout.installed() == {"asker": "2.0", "coverage": "8.0"}


def test_another_python_gets_an_environment_of_its_own(checkout: Checkout) -> None:
    """The environment has the Python that was asked for last; who asks for none keeps the one that is there."""
    others = [minor for minor in SUPPORTED if minor != sys.version_info.minor and find_interpreter(minor)]
    if not others:
        pytest.skip("not tried with two Pythons, as this machine has one")
    checkout.make("runtime")
    other = checkout.make("runtime", python=interpreter(others[0]))
    unnamed = checkout.make("runtime", python="")

    assert "anew: it had Python 3." in other.stdout
    assert unnamed.stdout == ""
    assert list(checkout.environment.glob("lib/python*")) == [checkout.environment / "lib" / f"python3.{others[0]}"]


def test_a_moved_checkout_is_installed_anew(checkout: Checkout) -> None:
    """The commands of an environment name its place, so that they end where the checkout is moved."""
    checkout.make("runtime")
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("moved")), checkout.index)
    done = moved.make("runtime", python="")

    assert "anew: it was made in another place" in done.stdout
    assert (moved.environment / "bin" / "pip").read_text().startswith(f"#!{moved.environment}")


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_install_is_not_counted(checkout: Checkout, step: str) -> None:
    """Killed in any step, with packages half copied, the same command makes it complete."""
    with checkout.start("make", "runtime", f"PYTHON={sys.executable}") as process:
        read_until(process, step)
        os.killpg(process.pid, signal.SIGKILL)
    for module in checkout.environment.glob("lib/python*/site-packages/*.py"):
        module.unlink()
    counted = checkout.finished
    done = checkout.make("runtime")

    assert not counted
    assert steps(done.stdout) == STEPS
    assert list(checkout.environment.glob("lib/python*/site-packages/coverage.py"))
    assert checkout.installed() == PINS


def test_an_interrupted_install_goes_on_at_the_next_command(checkout: Checkout) -> None:
    """Ctrl-C ends it with one line, and the same command makes it complete."""
    slow = checkout.folder / "slow"
    os.mkfifo(slow)
    with checkout.start(sys.executable, "-m", "scripts.environment", RUNTIME) as process, held(slow):
        os.killpg(process.pid, signal.SIGINT)
        rest = read_until(process, "never printed")
    slow.unlink()

    assert process.returncode == INTERRUPTED
    assert "interrupted" in rest.splitlines()[-1]
    assert not checkout.finished
    assert checkout.make("runtime").returncode == 0
    assert checkout.installed() == PINS


def test_a_pip_that_outlives_its_install_is_waited_for(checkout: Checkout) -> None:
    """Two never write into one environment, also where the first lost its parent."""
    slow = checkout.folder / "slow"
    os.mkfifo(slow)
    with checkout.start(sys.executable, "-m", "scripts.environment", RUNTIME) as first, held(slow):
        first.kill()
        slow.unlink()
        second = checkout.start(sys.executable, "-m", "scripts.environment", RUNTIME)
        waited = read_until(second, BUSY)
    with second:
        rest = read_until(second, "never printed")

    assert BUSY in waited
    assert (second.returncode, steps(rest)) == (0, STEPS)
    assert checkout.installed() == PINS


def test_both_targets_at_once(checkout: Checkout) -> None:
    """Targets that make runs side by side install one after the other."""
    done = checkout.make("-j4", "runtime", "development")

    assert (done.returncode, done.stderr) == (0, "")
    assert checkout.installed() == PINS | MORE_PINS


def test_a_wrong_hash_is_refused(checkout: Checkout) -> None:
    """A wheel other than the locked one stops the install; the last line says why and where all output is."""
    write_wheel(checkout.index, "asker", "1.0", requires=["something-else"])
    done = checkout.make("runtime")
    cause = done.stderr.splitlines()[0]

    assert "packages" in done.stdout.splitlines()[-1]
    assert cause.startswith("error: THESE PACKAGES DO NOT MATCH THE HASHES")
    assert cause.endswith("(all output: .cache/install.log)")
    assert "Traceback" not in done.stderr
    assert not checkout.finished


def test_an_unsupported_python_is_refused(checkout: Checkout) -> None:
    """It is named together with those that would do, before anything is installed."""
    project = checkout.folder / "pyproject.toml"
    project.write_text(project.read_text().replace(">=3.11,<3.15", ">=3.97,<3.99"))
    done = checkout.make("runtime")

    assert done.stderr.startswith("error: Python 3.97 to 3.98 is needed, this is 3.")
    assert not checkout.environment.exists()


def test_a_python_that_does_not_run_is_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    """The first Python that runs is taken, as pyenv has names of versions that are switched off."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        (place / name).write_text("#!/bin/sh\nexit 127\n")
        (place / name).chmod(0o755)
    none = checkout.make("runtime", python="", path=f"{place}:{os.defpath}")
    name = f"python3.{sys.version_info.minor}"
    (place / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    done = checkout.make("runtime", python="", path=f"{place}:{os.defpath}")

    assert "Python 3.11 to 3.14 is needed, and none is on the PATH" in none.stderr
    assert done.returncode == 0
    assert checkout.installed() == PINS
