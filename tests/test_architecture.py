"""The rooms of the code: who may import whom, and what may run while a module is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("types", "errors", "ids"),
    ("config", "configalerts", "configtypes", "configfile", "logging", "metrics", "child", "unneeded"),
    ("store",),
    ("serving", "monitoring", "alerting", "dashboard"),
    ("api",),
    ("main", "watching", "cli", "__main__", "commands", "bundling", "server", "protocol", "exchange", "heads"),
)
"""Rooms from the lowest floor up; a room imports from its own floor or below."""
NEIGHBOURS = ("serving", "monitoring", "alerting", "dashboard")
"""Rooms on one floor that never import each other."""
SQL = {"sqlalchemy", "alembic", "psycopg", "sqlite3", "pysqlite3"}
DECLARATIONS = """
    frozenset tuple range Path timedelta datetime re.compile NewType TypeVar ParamSpec MappingProxyType nullcontext
    MetaData Table Column Index ForeignKey UniqueConstraint CheckConstraint TypeAdapter BeforeValidator Field Meta
    text sa.text Decoder
    APIRouter Depends Query Security require typer.Option typer.Argument
"""
"""Calls that may run at import: they make constants, types, and tables of columns or routes, and touch nothing."""
RUN_AS_SCRIPTS = {"app.store.migrations.env"}
"""Alembic runs this file rather than importing it."""
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "app").rglob("*.py"))
}


def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """The dotted name of everything that a module imports, inside its functions too."""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES else source


def room(module: str) -> str:
    """The room of a module: ``store`` for ``app.store.engine``."""
    return ([*module.split("."), "__init__"])[1]


def floor(module: str) -> int:
    """The index of the floor on which a module's room lies."""
    return next(index for index, rooms in enumerate(FLOORS) if room(module) in rooms)


def calls_at_import(module: str) -> Iterator[str]:
    """The calls, apart from declarations, that run when a module is imported."""
    for statement in tree(module).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and ast.unparse(node.func) not in DECLARATIONS.split():
                yield f"{module}:{node.lineno}: {ast.unparse(node)[:80]}"


def edges() -> Iterator[tuple[str, str]]:
    """Every import of one module of the application by another."""
    for module in MODULES:
        yield from ((module, name) for name in imports(module) if room(name) != "__init__" and name in MODULES)


def test_every_module_has_a_room() -> None:
    """A new file at the top of app/ is given a floor here, or it does not pass."""
    known = {name for rooms in FLOORS for name in rooms} | {"__init__"}

    assert {room(module) for module in MODULES} <= known


def test_imports_point_down() -> None:
    """A room imports from its own floor or a lower one, never from above."""
    upwards = [f"{source} imports {target}" for source, target in edges() if floor(target) > floor(source)]

    assert upwards == []


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
    """No room but the store imports a database library."""
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
    room = "app.monitoring.statistics"
    used = {name for module in MODULES if module.startswith(room) for name in imports(module)}
    packages = {name.split(".")[0] for name in used if not name.startswith(room)}

    assert packages - sys.stdlib_module_names <= {"numpy", "scipy"}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - RUN_AS_SCRIPTS))
def test_nothing_is_built_at_import(module: str) -> None:
    """Importing a module makes constants and declarations: no application, registry, connection or thread."""
    assert list(calls_at_import(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_small(module: str) -> None:
    """A file of more than 250 lines holds two ideas."""
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 250
