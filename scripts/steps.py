"""Run commands as one step: a line with its name and its time; the output goes to a log file.

``python -m scripts.steps LOG NAME WORDS... -- COMMAND...`` does so for one command.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NAME_WIDTH = 13
TEXT_WIDTH = 60
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""


class StepFailed(Exception):
    """A command of a step failed; the text is its cause, in one line."""


def run_step(
    name: str, text: str, commands: Sequence[Sequence[str | Path]], log: Path, *, keep_open: Sequence[int] = ()
) -> None:
    """Run the commands one after the other and print one line about them.

    Args:
        log: the file to which their output is added.
        keep_open: file descriptors that the commands inherit.

    Raises:
        StepFailed: one of them failed; those after it have not run.
    """
    print(f"{name:{NAME_WIDTH}}{text:{TEXT_WIDTH}}", end=" ", flush=True)
    started = time.monotonic()
    for command in commands:
        status = _run(command, log, keep_open)
        if status:
            print(f"failed after {time.monotonic() - started:.1f} s", flush=True)
            raise StepFailed(f"{_cause(log, status)} (all output: {_shown(log)})")
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def finish(main: Callable[[], None]) -> None:
    """Run a command's main function; a failure and Ctrl-C end the program with one line."""
    try:
        main()
    except StepFailed as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        print("\ninterrupted: the same command begins again where it has to", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _run(command: Sequence[str | Path], log: Path, keep_open: Sequence[int]) -> int:
    """The exit status of a command whose output is added to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(map(str, command))}\n".encode())
        sink.flush()
        return subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=keep_open
        ).returncode


def _cause(log: Path, status: int) -> str:
    """What went wrong, in one line: pip's last error where there is one, else the last line of the log."""
    if status < 0:
        return f"the command was ended by signal {-status}"
    output = log.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
    lines = [line.strip() for line in output.splitlines()[1:] if line.strip()]
    errors = [line[len("error: ") :] for line in lines if line.lower().startswith("error: ")]
    if errors and any("connection broken by" in line for line in lines):
        return f"the package index did not answer: {errors[-1]}"
    return (errors or lines or [f"the command ended with status {status}"])[-1]


def _shown(path: Path) -> Path:
    """A path as it is typed in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    """Run the command after ``--``."""
    split = sys.argv.index("--")
    log, name, *words = sys.argv[1:split]
    run_step(name, " ".join(words), [sys.argv[split + 1 :]], Path(log))


if __name__ == "__main__":
    finish(main)
