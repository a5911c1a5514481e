"""Run both groups of tests, the second whatever the first one says, and report each: ``python -m scripts.suite``.

Words behind it go to pytest: ``python -m scripts.suite tests/store`` runs what these files have of each group.
``--coverage`` measures besides which branches of ``app/`` the quick group takes, and fails where it is too few.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from scripts.steps import finish

GROUPS = {
    "quick": ("-n", "auto", "--dist", "worksteal", "-m", "not fault"),
    "fault": ("-n", "2", "--dist", "loadfile", "-m", "fault and not interpreters"),
}
MEASURED = ("--cov", "--cov-report=", "--cov-fail-under=0")
"""Options with which a group is measured; ``pyproject.toml`` says what, and which share is enough."""
REPORTS = Path(".cache", "tests")
NO_TESTS = 5
"""Exit status of pytest that found no test."""
SHOWN = 10
"""Failed tests that are named."""


def run_group(name: str, options: Sequence[str]) -> int:
    """Exit status of pytest for one group; its results are in :data:`REPORTS`."""
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "pytest", *GROUPS[name], f"--junitxml={report}", *options])
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


def report_coverage() -> tuple[bool, str]:
    """Whether the quick group covers enough, and a line about it; what no test reaches is in a file."""
    file = REPORTS / "coverage.txt"
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--append"], check=False, capture_output=True)  # of processes that ended last
    report = [*coverage, "report", "--sort=cover", "--skip-covered", "--show-missing"]
    done = subprocess.run(report, check=False, capture_output=True, text=True)
    file.write_text(done.stdout + done.stderr, encoding="utf-8")
    shares = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("TOTAL ")]
    verdict = "enough" if done.returncode == 0 else "TOO LITTLE"
    share = shares[0] if shares else "nothing"
    return (
        done.returncode == 0,
        f"coverage: {verdict}: {share} of app/ by the quick group; the rest is listed in {file}",
    )


def main() -> None:
    """Run both groups, print what came of each and what to do next."""
    measured = "--coverage" in sys.argv[1:]
    chosen = [word for word in sys.argv[1:] if word != "--coverage"]
    options = {"quick": [*chosen, *(MEASURED if measured else ())], "fault": chosen}
    statuses = {name: run_group(name, options[name]) for name in GROUPS}
    enough, line = report_coverage() if measured else (True, "")
    print()
    for name, status in statuses.items():
        print(*summary(name, status), sep="\n")
    if measured:
        print(line)
    failed = [name for name, status in statuses.items() if status not in (0, NO_TESTS)]
    if failed:
        print(f"next: {sys.executable} -m pytest --last-failed runs only the tests that failed")
    elif set(statuses.values()) == {NO_TESTS}:
        sys.exit("error: no group has such a test")
    elif not enough:
        print("next: test the branches that are listed, or take out those that nothing can reach")
    else:
        print("next: make run serves the example, README.md shows the first requests")
    sys.exit(bool(failed) or not enough)


if __name__ == "__main__":
    finish(main)
