"""A process beside the service, and the two threads that may end it."""

from __future__ import annotations

from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from app.background import Child
from tests.support.deadlines import DEADLINE_S


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
