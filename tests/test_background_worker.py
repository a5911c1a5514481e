"""Processes beside the service: begun anew, or as a copy of this one that shares its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from app.background import Child
from tests.support.deadlines import DEADLINE_S

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os, time
from app.background import Child
from tests.test_background_worker import answer
child = Child("answers", answer)
child.fork()
{then}
"""


def echo(pipe: Pipe) -> None:
    """Answer what is asked with itself."""
    while True:
        try:
            pipe.send(pipe.recv())
        except EOFError:
            return


class Ending(Child):
    """A child whose asking thread gives the process up as soon as the other thread has looked at it."""

    ending = False

    def __getattribute__(self, name: str) -> object:
        """The attribute, which may be gone the next time."""
        value = super().__getattribute__(name)
        if name == "_process" and isinstance(value, BaseProcess) and self.ending:
            self._process = None
        return value


def test_a_child_is_killed_though_it_is_ending() -> None:
    """Who shuts the service down gets no error from a process that is given up at the same moment, and it is gone."""
    child = Ending("echo", echo)
    assert child.ask("a", DEADLINE_S) == "a"
    process = child.process
    assert process is not None
    child.ending = True

    child.kill()
    process.join(DEADLINE_S)
    child.end()

    assert process.exitcode == -9


def answer(pipe: Pipe) -> None:
    """Answer with this process's parent, or end in the midst of a question."""
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if question == "end":
            os._exit(1)
        pipe.send(os.getppid())


def run(then: str) -> str:
    """What a process without other threads, such as the one at the start of the service, says at its end."""
    command = [sys.executable, "-c", SCRIPT.format(then=then)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    return done.stdout.splitlines()[-1] if done.stdout else done.stderr


def test_a_forked_child_answers_and_its_successor_too() -> None:
    """The copy answers; when it dies its question fails, and the next question gets a new process."""
    then = """
from app.background import ChildFailed
found = [child.ask("", 600) == os.getpid()]
try:
    child.ask("end", 600)
except ChildFailed as error:
    found.append(str(error))
if __name__ == "__main__":
    found.append(child.ask("", 600) == os.getpid())
    child.end()
    print(found)
"""

    assert run(then) == "[True, 'the process died', True]"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process is never a copy")
def test_a_forked_child_ends_with_a_parent_that_is_killed() -> None:
    """Nothing tells the copy of a SIGKILL but the end of its pipe, of which it holds one end alone."""
    then = """
child.ask("", 600)
print("asked", flush=True)
os.kill(os.getpid(), 9)
"""

    assert run(then) == "asked"  # which is known once nobody can write to the output any more, the copy neither
