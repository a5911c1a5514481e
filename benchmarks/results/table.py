"""Results in Markdown: tables, the machine that they speak of, and their place in README.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

PAGE = Path(__file__).parents[1] / "README.md"
Cells: TypeAlias = tuple[object, ...]
PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "scikit-learn", "onnxruntime", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: what was measured, the target, and whether it is met (None: there is no target)."""

    what: str
    measured: str
    target: str
    met: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as cells."""
        return (self.what, self.measured, self.target, {True: "met", False: "**missed**", None: ""}[self.met])


def promises(lines: Iterable[Line]) -> str:
    """The table of promises."""
    return table(("scenario", "measured", "target", "verdict"), (line.cells for line in lines), left=4)


def table(head: Sequence[str], rows: Iterable[Cells], *, left: int = 1) -> str:
    """A table whose first ``left`` columns are words and whose others are numbers.

    >>> print(table(("server", "rate"), [("floor", 7)]), end="")
    | server | rate |
    | --- | ---: |
    | floor | 7 |
    """
    rules = ["---" if column < left else "---:" for column in range(len(head))]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in (head, rules, *rows))


def environment(command: str, method: str, *, now: datetime | None = None) -> str:
    """When, by which command, how, and on what."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{now or datetime.now(UTC):%Y-%m-%d}, `{command}`: {method}.\n"
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {packages}.\n\n"
    )


def publish(section: str, text: str, *, write: bool, page: Path = PAGE) -> None:
    """Print results and, if they are to be kept, put them between the marks of their section of a page."""
    print(text)
    if write:
        begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
        head, rest = page.read_text(encoding="utf-8").split(begin)
        page.write_text(head + begin + text + end + rest.split(end)[1], encoding="utf-8")


def _processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    file = Path("/proc/cpuinfo")
    names = [line for line in file.read_text().splitlines() if line.startswith("model name")] if file.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.machine()
