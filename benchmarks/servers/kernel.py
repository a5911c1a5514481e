"""What the kernel knows of a process (Linux): memory, files, threads, and the processor time of each thread."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds; ``checks_mib`` is the memory of its children, in which checks run.

    Resident pages that both use, such as code, count in both; in ``once_mib`` they count once, whoever else uses them.
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
        once_mib=_once_mib((pid, *_children(pid))),
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


def _once_mib(pids: Sequence[int]) -> float:
    """Resident memory of processes that share pages with each other.

    The kernel divides a page by the number of its users, and so would let this process, which has the same libraries,
    bear a part. Of a file's pages each process has its own choice, of which the largest stands for all.
    """
    anonymous, files = 0, Counter[str]()
    for pid in pids:
        anonymous += _kib(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss_Anon")
        own = Counter[str]()
        for mapping in re.split(
            r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.MULTILINE
        ):
            if mapping:
                name = mapping.partition("\n")[0].rpartition(" ")[2]
                own[name] += _kib(mapping, "Rss") - _kib(mapping, "Anonymous")
        files |= own
    return (anonymous + files.total()) * 1024 / MIB


def _kib(text: str, field: str) -> int:
    return int(text.partition(f"\n{field}:")[2].split()[0])
