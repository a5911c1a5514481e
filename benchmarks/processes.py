"""What the kernel knows of a process (Linux): memory, files, threads, and the processor time of each thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds; ``checks_mib`` is the memory of its children, in which checks run.

    Resident pages that both use, such as code, count in both; in ``once_mib`` they count once.
    """

    rss_mib: float
    checks_mib: float
    once_mib: float
    files: int
    threads: int


def usage(pid: int) -> Usage:
    """What a process and its children hold now."""
    place = Path(f"/proc/{pid}")
    return Usage(
        rss_mib=_rss_mib(pid),
        checks_mib=sum(map(_rss_mib, _children(pid))),
        once_mib=sum(map(_proportional_mib, (pid, *_children(pid)))),
        files=len(list((place / "fd").iterdir())),
        threads=len(list((place / "task").iterdir())),
    )


def thread_seconds(pid: int) -> dict[int, tuple[float, float]]:
    """Seconds in user and kernel mode of each thread by its id; the id of the first thread is that of the process."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) / ticks, int(fields[12]) / ticks)
    return found


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _proportional_mib(pid: int) -> float:
    """Resident memory, each page divided by the number of processes that use it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) * 1024 / MIB
