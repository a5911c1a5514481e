"""Reads, off the event loop and never behind the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import Unavailable
from app.store.engine import READERS

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Readers:
    """A few threads, each with a connection that cannot write.

    Attributes:
        failures: reads that found the store away.
    """

    def __init__(self, engine: Engine) -> None:
        self.failures = 0
        self._engine = engine
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="plumbline-reader")
        self._log = structlog.get_logger("readers")

    async def run(
        self,
        read: Callable[Concatenate[Connection, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """The result of ``read(connection, …)``.

        Raises:
            Unavailable: the store cannot be reached.
        """

        def reading() -> Result:
            with self._engine.connect() as connection:
                return read(connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, reading)
        except (DBAPIError, PoolTimeout) as error:
            self.failures += 1
            self._log.warning("store_unreachable", error=str(error).splitlines()[0])
            raise Unavailable("the store cannot be reached") from None

    def close(self) -> None:
        """Let the threads end after their reads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
