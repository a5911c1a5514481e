"""Run both groups of tests, the second whatever the first one says, and report each: ``python -m scripts.suite``.

Words behind it go to pytest: ``python -m scripts.suite tests/store`` runs what these files have of each group.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from scripts.steps import finish

GROUPS = {
    "quick": ("-n", "auto", "-m", "not fault"),
    "fault": ("-m", "fault and not interpreters"),
}
REPORTS = Path(".cache", "tests")
NO_TESTS = 5
"""Exit status of pytest that found no test."""
SHOWN = 10
"""Failed tests that are named."""


def run_group(name: str, chosen: list[str]) -> int:
    """Exit status of pytest for one group; its results are in :data:`REPORTS`."""
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "pytest", *GROUPS[name], f"--junitxml={report}", *chosen])
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # pytest had it too, and ends what it started
        raise


def summary(name: str, status: int) -> list[str]:
    """One line about a group, and one for each of its first failed tests."""
    if status == NO_TESTS:
        return [f"{name}: no such test"]
    try:
        suite = next(ElementTree.parse(REPORTS / f"{name}.xml").iter("testsuite"))  # noqa: S314 - pytest's own
    except (OSError, ElementTree.ParseError):
        return [f"{name}: pytest ended with status {status} before a test ran"]
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    passed = count["tests"] - bad - count["skipped"]
    seconds = float(suite.get("time", 0))
    verdict = "passed" if status == 0 else "FAILED"
    figures = f"{passed} passed, {bad} failed, {count['skipped']} skipped in {seconds:.0f} s"
    failed = [case for case in suite.iter("testcase") if {"failure", "error"} & {child.tag for child in case}]
    names = [f"  {case.get('classname')}::{case.get('name')}" for case in failed]
    return [f"{name}: {verdict}: {figures}", *names[:SHOWN], *(["  ..."] if len(names) > SHOWN else [])]


def main() -> None:
    """Run both groups, print what came of each and what to do next."""
    chosen = sys.argv[1:]
    statuses = {name: run_group(name, chosen) for name in GROUPS}
    print()
    for name, status in statuses.items():
        print(*summary(name, status), sep="\n")
    failed = [name for name, status in statuses.items() if status not in (0, NO_TESTS)]
    if failed:
        print(f"next: {sys.executable} -m pytest --last-failed runs only the tests that failed")
    elif set(statuses.values()) == {NO_TESTS}:
        sys.exit("error: no group has such a test")
    else:
        print("next: make run serves the example, README.md shows the first requests")
    sys.exit(bool(failed))


if __name__ == "__main__":
    finish(main)
