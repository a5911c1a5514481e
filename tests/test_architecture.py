"""The structure of the code: who may import whom, how large things may be, and what may run at import."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS: dict[str, tuple[str, ...]] = {
    "app": (
        "errors types statistics figures reports",
        "config logging metrics background telemetry",
        "store",
        "serving monitoring alerting dashboard",
        "api bundling",
        "server main",
        "commands",
        "cli",
        "__main__",
    ),
    "app.serving": ("runtimes validation batcher value_histograms", "bundle", "model", "*"),
    "app.monitoring": (
        "check_request reference",
        "performance quality",
        "drift estimation",
        "*",
    ),
    "app.alerting": ("rules", "messages channels", "retraining evaluation", "service delivery"),
    "app.store": ("database sql tables migrate sampling throttle", "queries", "privacy", "journal", "*"),
    "app.api": (
        "http dependencies middleware request_guards documentation examples",
        "coalescing",
        "endpoints",
        "openapi",
        "app",
    ),
    "app.commands": ("tables", "simulation", "*"),
}
"""For a package, its parts from the lowest floor up; a part imports from its own floor or below. ``*``: all others."""
NEIGHBOURS = ("serving", "monitoring", "alerting", "dashboard")
"""Packages on one floor that never import each other."""
SQL = {"sqlalchemy", "alembic", "psycopg", "sqlite3", "pysqlite3"}
DECLARATIONS = """
    frozenset tuple range Path timedelta datetime re.compile NewType TypeVar ParamSpec MappingProxyType nullcontext
    MetaData Table Column Index ForeignKey UniqueConstraint CheckConstraint TypeAdapter AfterValidator BeforeValidator
    ContextVar WrapValidator Field Meta text sa.text Decoder
    DriftStatistic DriftSummary PerformanceMetric QualityCheck HistogramDistance ValueDistance
    ModelFormat Library
    TypedDict APIRouter Depends Query Security require typer.Option typer.Argument
"""
"""Calls that may run at import: they make constants, types, and tables of columns or routes, and touch nothing."""
RUN_AS_SCRIPTS = {"app.store.migrations.env"}
"""Alembic runs this file rather than importing it."""
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_FILES, MAX_MODULES = 400, 50, 12, 160
MAX_FIRST_LINE_CHARACTERS = 90
QUESTION_WORDS = {"Who", "Whoever", "What", "Whatever", "Which", "Whose", "Where", "When", "How"}
MIN_LINES_OF_ONE_IMPORTER = 60
SMALL_WITH_ONE_IMPORTER = {
    "app.__main__": "python -m app",
}
"""Modules that stay small, with the reason."""
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "app").rglob("*.py"))
}
OWN = {
    module: path for module, path in MODULES.items() if path.name != "__init__.py" and "migrations" not in path.parts
}
"""The modules that hold code of their own: neither a package's docstring nor a migration."""


@cache
def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def lines_of(module: str) -> int:
    """How many lines a module has."""
    return len(MODULES[module].read_text(encoding="utf-8").splitlines())


@cache
def imports(module: str) -> tuple[str, ...]:
    """The dotted name of everything that a module imports, inside its functions too."""
    names: list[str] = []
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                names.append(name if name in MODULES else source)
    return tuple(names)


def room(module: str) -> str:
    """The part of app/ that a module is in: ``store`` for ``app.store.database``."""
    return part_of("app", module)


def part_of(package: str, module: str) -> str:
    """The part of a package that a module is in: its sub-package or the module itself."""
    return ([*module.removeprefix(package).removeprefix(".").split("."), "__init__"])[0] or "__init__"


def floor(package: str, part: str) -> int:
    """The index of the floor on which a part of a package lies."""
    floors = [names.split() for names in FLOORS[package]]
    return next(index for index, names in enumerate(floors) if part in names or "*" in names)


def calls_at_import(module: str) -> Iterator[str]:
    """The calls, apart from declarations, that run when a module is imported."""
    for statement in tree(module).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            continue
        for node in run_at_import(statement):
            if isinstance(node, ast.Call) and ast.unparse(node.func) not in DECLARATIONS.split():
                yield f"{module}:{node.lineno}: {ast.unparse(node)[:80]}"


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes without the bodies of its lambdas, which run when they are called."""
    yield node
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, ast.Lambda):
            yield from run_at_import(inner)


@cache
def edges() -> tuple[tuple[str, str], ...]:
    """Every import of one module of the application by another."""
    return tuple((module, name) for module in MODULES for name in imports(module) if name in MODULES and name != "app")


def edges_within(package: str) -> set[tuple[str, str]]:
    """The imports between the parts of a package."""
    within = [
        (part_of(package, source), part_of(package, target))
        for source, target in edges()
        if source.startswith(f"{package}.") and target.startswith(f"{package}.")
    ]
    return {(source, target) for source, target in within if source != target}


def test_every_module_has_a_floor() -> None:
    """A new file at the top of app/ is given a floor here, or it does not pass."""
    known = {name for names in FLOORS["app"] for name in names.split()} | {"__init__"}

    assert {room(module) for module in MODULES} <= known


@pytest.mark.parametrize("package", FLOORS)
def test_imports_point_down(package: str) -> None:
    """A part of a package imports from its own floor or a lower one, never from above."""
    upwards = [
        f"{source} imports {target}"
        for source, target in edges_within(package)
        if floor(package, target) > floor(package, source)
    ]

    assert upwards == []


@pytest.mark.parametrize("package", sorted(module for module, path in MODULES.items() if path.name == "__init__.py"))
def test_no_cycles_between_the_parts_of_a_package(package: str) -> None:
    """The files and sub-packages of a package can be read in an order in which each uses only those before it."""
    graph: dict[str, set[str]] = {}
    for source, target in edges_within(package):
        graph.setdefault(source, set()).add(target)

    TopologicalSorter(graph).prepare()


def test_neighbours_do_not_import_each_other() -> None:
    """Serving, monitoring, alerting and dashboard know nothing of one another."""
    across = [
        f"{source} imports {target}"
        for source, target in edges()
        if room(source) in NEIGHBOURS and room(target) in NEIGHBOURS and room(source) != room(target)
    ]

    assert across == []


def test_no_import_cycles() -> None:
    """The modules can be read in an order in which each uses only those before it."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for source, target in edges():
        graph[source].add(target)

    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_only_the_store_speaks_sql() -> None:
    """No package but the store imports a database library."""
    speakers = [
        f"{module} imports {name}"
        for module in MODULES
        if room(module) != "store"
        for name in imports(module)
        if name.split(".")[0] in SQL
    ]

    assert speakers == []


def test_statistics_stand_on_numpy_and_scipy_alone() -> None:
    """The statistics can be lifted out and checked without any other part of Plumbline."""
    package = "app.statistics"
    used = {name for module in MODULES if module.startswith(package) for name in imports(module)}
    packages = {name.split(".")[0] for name in used if not name.startswith(package)}

    assert packages - sys.stdlib_module_names <= {"numpy", "scipy"}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - RUN_AS_SCRIPTS))
def test_nothing_is_built_at_import(module: str) -> None:
    """Importing a module makes constants and declarations: no application, registry, connection or thread."""
    assert list(calls_at_import(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_readable(module: str) -> None:
    """A file has at most 400 lines, and a function at most 50."""
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [
        f"{each.name}: {(each.end_lineno or 0) - each.lineno + 1} lines"
        for each in functions
        if (each.end_lineno or 0) - each.lineno + 1 > MAX_FUNCTION_LINES and "migrations" not in module
    ]

    assert lines_of(module) <= MAX_FILE_LINES
    assert long == []


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_begin_with_one_plain_line(module: str) -> None:
    """The first line says what the thing is or does, in at most 90 characters, and no question word is its subject."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [text for node in ast.walk(tree(module)) if isinstance(node, kinds) and (text := ast.get_docstring(node))]
    first = [text.splitlines()[0] for text in texts]

    assert [line for line in first if len(line) > MAX_FIRST_LINE_CHARACTERS] == []
    assert [line for line in first if line.split()[0] in QUESTION_WORDS] == []


def test_no_fragments() -> None:
    """A module that one other module imports is a file of its own for its size, or for a reason that is listed."""
    importers = Counter(target for _, target in set(edges()))
    small = {module for module in OWN if lines_of(module) < MIN_LINES_OF_ONE_IMPORTER and importers[module] <= 1}

    assert small == set(SMALL_WITH_ONE_IMPORTER)


@pytest.mark.parametrize("top", ["app", "tests", "benchmarks"])
def test_no_crowded_folders(top: str) -> None:
    """A folder has at most 12 files of code; a larger one is divided."""
    counts = Counter(
        path.parent for path in (ROOT / top).rglob("*.py") if path.name not in ("__init__.py", "conftest.py")
    )

    assert {str(folder): count for folder, count in counts.items() if count > MAX_FOLDER_FILES} == {}


def test_few_modules_with_most_lines_in_files_worth_opening() -> None:
    """There are at most 160 modules, and 60 % of the lines are in files of 150 lines or more."""
    lengths = [lines_of(module) for module in OWN]

    assert len(OWN) <= MAX_MODULES
    assert sum(length for length in lengths if length >= 150) >= 0.6 * sum(lengths)
