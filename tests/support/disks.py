"""Disks that a test may fill, or cut from their power."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deadlines import DEADLINE_S

SMALL_BYTES = 3 * 2**20
LARGE_BYTES = 64 * 2**20


def run(*command: str | Path) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)


class LoopDisk:
    """An ext4 file system in a file, mounted; only root can make one."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.mounted = folder / "disk"
        self.mounted.mkdir()
        with self._image.open("wb") as image:
            image.truncate(200 * 2**20)
        run("mkfs.ext4", "-q", self._image)
        self.mount()

    def mount(self) -> None:
        """Mount it; the file system repairs itself from its own journal, as after any power loss."""
        run("mount", "-o", "loop", self._image, self.mounted)

    def unmount(self) -> None:
        """Take it away; the processes that use it must have ended."""
        run("umount", self.mounted)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk: what was not synced is lost.

        No sync may be under way: ext4 and XFS then confirm it, and lose what it has added to a file all the same.
        """
        run("xfs_io", "-x", "-c", "shutdown", self.mounted)


@contextmanager
def small_folder(folder: Path) -> Iterator[Path]:
    """A folder on a disk of three megabytes, in memory, where root may mount one; else an ordinary folder."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield folder
        return
    run("mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "plumbline-test", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def resize(folder: Path, process: int, size: int) -> None:
    """Make room, or take it: of the mounted file system, else by the size that a file of the process may have."""
    if os.geteuid() == 0:
        run("mount", "-o", f"remount,size={size}", folder)
    else:
        _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, most))
