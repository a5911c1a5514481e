"""The project's frame: versions, locks, commands and paths agree with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from scripts.environment import supported

ROOT = Path(__file__).parents[1]
OWN = {"app", "benchmarks", "deploy", "docs", "models", "scripts", "tests"}
LOCKS = ("requirements.lock", "requirements-dev.lock")
TEXTS = (".css", ".html", ".ini", ".js", ".lock", ".lua", ".md", ".py", ".toml", ".yaml", ".yml", "")
BUILT = {"__pycache__", "build", "dist", "htmlcov"}


def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def name_of(requirement: str) -> str:
    """The normalised name of a requirement: ``psycopg`` for ``psycopg[binary]>=3.3``."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def locked(file: str) -> dict[str, set[str]]:
    """Every name in a lock file with its versions."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
        versions.setdefault(name, set()).add(version)
    return versions


def locked_lines(file: str) -> list[str]:
    """The first line of every pin of a lock file, with its marker."""
    return re.findall(r"^[a-z0-9-]+==.*", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def imported(folder: str) -> set[str]:
    """The top-level names that a folder's modules import, inside functions too, without Python's and our own."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - OWN


def texts() -> list[Path]:
    """The files of the repository that people wrote; environments, caches and built bundles are left out."""
    found = []
    for entry in ROOT.iterdir():
        if entry.is_file() and not entry.name.startswith(".coverage"):
            found.append(entry)
        elif entry.is_dir() and (entry.name == ".ci" or not entry.name.startswith(".")):
            found += [path for path in entry.rglob("*") if path.is_file() and not BUILT & set(path.parts)]
    bundles = {file.parent for file in (ROOT / "models").rglob("bundle.yaml")}
    return [path for path in found if path.suffix in TEXTS and path.parent not in bundles]


def test_the_changelog_speaks_of_this_version() -> None:
    """The newest entry of the changelog is the package's version."""
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert versions[0] == project()["version"]


@pytest.mark.parametrize("file", LOCKS)
def test_locks_name_no_place(file: str) -> None:
    """A lock holds names, versions and hashes, so that it works with any registry."""
    text = (ROOT / file).read_text(encoding="utf-8")

    assert "://" not in text
    assert not re.search(r"--(index-url|extra-index-url|find-links|trusted-host)|^file:| @ ", text, re.MULTILINE)


@pytest.mark.parametrize("file", LOCKS)
def test_locks_pin_every_line_by_hash(file: str) -> None:
    """Every package of a lock carries at least one SHA-256."""
    entries = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("app", ["otel", "parquet"])]
    + [(folder, list(project()["optional-dependencies"])) for folder in ("benchmarks", "models", "scripts", "tests")],
)
def test_imports_are_declared(folder: str, extras: list[str]) -> None:
    """What is imported is asked for by pyproject.toml, not only by one of its dependencies."""
    described = project()
    items = [*described["dependencies"], "pip"]  # which every environment has
    items += [item for extra in extras for item in described["optional-dependencies"][extra]]
    providers = packages_distributions()
    names = imported(folder)
    undeclared = {
        name for name in names if not {name_of(item) for item in providers.get(name, [name])} & set(map(name_of, items))
    }

    assert "numpy" in names or folder in ("models", "scripts")
    assert undeclared == set()


def test_the_versions_of_python_agree() -> None:
    """pyproject.toml, the Makefile, README.md and the image name the same versions of Python."""
    described = project()
    oldest, newest = supported()
    minors = range(oldest, newest + 1)
    classifiers = [item.rpartition(" ")[2] for item in described["classifiers"] if "Python ::" in item]
    makefile, readme, image = ((ROOT / name).read_text() for name in ("Makefile", "README.md", "Dockerfile"))

    assert described["requires-python"] == f">=3.{oldest},<3.{newest + 1}"
    assert classifiers == [f"3.{minor}" for minor in minors]
    assert f"$(BIN)/python python3 {' '.join(f'python3.{minor}' for minor in reversed(minors))}; do" in makefile
    assert f"(3, {oldest}) <= sys.version_info[:2] <= (3, {newest})" in makefile
    assert makefile.count(f"Python 3.{oldest} to 3.{newest} is needed") == 1
    assert f"Python 3.{oldest} to 3.{newest}" in readme
    assert {int(minor) for minor in re.findall(r"^FROM python:3\.(\d+)-", image, re.MULTILINE)} <= set(minors)


def test_no_pin_is_for_windows() -> None:
    """Nothing is locked for a system that is not supported."""
    found = [
        item for items in (*map(locked_lines, LOCKS), project()["dependencies"]) for item in items if "win32" in item
    ]

    assert found == []


def test_locks_cover_the_dependencies() -> None:
    """What pyproject.toml asks for is locked: the runtime in one file, everything in the other."""
    described = project()
    runtime = {name_of(item) for item in described["dependencies"]}
    extras = {name_of(item) for items in described["optional-dependencies"].values() for item in items}

    assert runtime - locked("requirements.lock").keys() == set()
    assert (runtime | extras) - locked("requirements-dev.lock").keys() == set()


def test_the_locks_agree() -> None:
    """The suite runs on the very versions that are served."""
    development = locked("requirements-dev.lock")

    assert {name: development.get(name) for name in locked("requirements.lock")} == locked("requirements.lock")


def test_make_has_a_target_for_each_intent() -> None:
    """The commands that the documentation names are there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert {"run", "test", "coverage", "test-faults", "test-interpreters", "fuzz", "lint", "bench", "clean"} <= targets
    assert {"examples", "lock", "sbom"} <= targets


def test_make_help_names_the_commands() -> None:
    """Without a word, make lists what it can do, and needs no environment."""
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "make run" in listed
    assert "make test" in listed


def test_no_file_names_a_machine() -> None:
    """Nothing in the repository depends on where one person keeps it, or on one package registry."""
    places = re.compile(rf"{re.escape(str(ROOT))}/|(?<![\w.])/(home|root|Users)/\w|pypi\.org|pythonhosted\.org")
    found = [str(path.relative_to(ROOT)) for path in texts() if places.search(path.read_text(encoding="utf-8"))]

    assert found == []
