"""Open the store: its engines, its connections, and the threads that read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TextIO, TypeAlias, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from app.errors import ConfigError, StoreLocked, Unavailable, describe_error, mask_secrets, secrets_in

__all__ = ["Connection", "Database", "Engine", "check_reachable", "open_database", "open_readers", "parse_url"]

BUSY_TIMEOUT_S = 5
"""How long SQLite waits for a lock that somebody else holds."""
STATEMENT_TIMEOUT_S = 10
"""How long PostgreSQL may take for one statement."""
SAFE_SQLITE = (3, 51, 3)
"""The first SQLite without the WAL-reset bug (sqlite.org/wal.html#walresetbug)."""
WAL_BYTES = 16 * 2**20
"""Size to which SQLite's log shrinks again after a long read has kept it from being reused."""
READERS = 4
READER_CACHE_KIB = 256
"""What a reader of SQLite keeps of the file: any commit of the writer empties it, and the system keeps the file too."""


@dataclass(frozen=True, slots=True)
class Database:
    """Hold the writer's engine, the readers' engine and the lock against other writers.

    The writer's engine has one connection. The lock keeps other processes from writing to the same SQLite file.
    """

    writer: Engine
    readers: Engine
    lock: TextIO | None
    sqlite_version: tuple[int, ...] | None

    @property
    def corruptible(self) -> bool:
        """Tell whether this SQLite has the WAL-reset bug.

        The bug needs two connections that checkpoint. Here only the writer checkpoints, so the risk is small.
        """
        return self.sqlite_version is not None and self.sqlite_version < SAFE_SQLITE

    def close(self) -> None:
        """Close the readers, then the writer.

        The last connection that closes checkpoints the log, and only the writer may do that.
        """
        self.readers.dispose()
        self.writer.dispose()
        if self.lock:
            self.lock.close()


def open_database(url: str, *, setting: str = "store.url") -> Database:
    """Open a database for writing; ``setting`` is what errors name.

    Raises:
        ConfigError: the URL is wrong, or no database answers there.
        StoreLocked: another process writes to this SQLite file.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "").resolve()
        if not path.parent.is_dir():
            raise ConfigError(f"{setting}: the folder {path.parent} does not exist")
        lock = _lock(path, setting)
        _close_to_others(path)
        module = sqlite_module()
        writer, readers = sqlite_engine(parsed, module, writer=True), sqlite_engine(parsed, module)
        return Database(writer, readers, lock, module.sqlite_version_info)
    return Database(_postgres(parsed, 1, writer=True), _postgres(parsed, READERS), None, None)


def open_readers(url: str, *, snapshots: bool = True) -> Engine:
    """Connections that cannot write, for another process.

    Args:
        snapshots: False lets each statement see the store as it is then, with no transaction around it. While a reader
            of SQLite holds a snapshot, the log grows, and the writer pays for it at its end.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(parsed, sqlite_module(), snapshots=snapshots)
    engine = _postgres(parsed, 1)
    return engine if snapshots else engine.execution_options(isolation_level="AUTOCOMMIT")


def parse_url(url: str) -> URL:
    """The parsed URL, on our drivers; ``postgresql://`` means psycopg 3.

    Raises:
        ConfigError: the text is no database URL, or SQLite is asked to keep the store in memory.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number
        raise ConfigError("store.url: is not a database URL such as sqlite:///plumbline.db") from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError("store.url: names no file; a store in memory would forget its predictions")
        return parsed
    return parsed.set(drivername="postgresql+psycopg")


def sqlite_module() -> ModuleType:
    """The newest SQLite at hand: the packaged one where there is a wheel, else Python's own."""
    with suppress(ImportError):
        return import_module("pysqlite3.dbapi2")
    return import_module("sqlite3")


def sqlite_engine(url: URL, module: ModuleType, *, writer: bool = False, snapshots: bool = True) -> Engine:
    """Make an engine on a SQLite file, for the one writer or for readers.

    Only the writer checkpoints the log. The readers' connections cannot write.
    """
    pool = {"pool_size": 1, "max_overflow": 0} if writer else {"pool_size": READERS, "max_overflow": 0}
    engine = create_engine(
        url,
        module=module,
        poolclass=QueuePool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own transactions would not BEGIN before a SELECT
        pragmas = ["query_only=ON", "wal_autocheckpoint=0", f"cache_size=-{READER_CACHE_KIB}"]
        if writer:
            pragmas = ["journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_BYTES}"]
        for pragma in (*pragmas, f"busy_timeout={BUSY_TIMEOUT_S * 1000}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writing one fails at once when somebody wrote in between.
        if snapshots:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    @event.listens_for(engine, "handle_error", retval=True)
    def _unusable(context: ExceptionContext) -> BaseException | None:
        # A file that a failing disk has damaged is a store out of reach, like the failure itself: no fault of the rows.
        error = context.original_exception
        unusable = type(error) is module.DatabaseError
        return OperationalError(context.statement, context.parameters, error) if unusable else None

    return engine


def check_reachable(database: Database, *, setting: str = "store.url") -> None:
    """Ask the database for a sign of life; ``setting`` is what errors name.

    Raises:
        ConfigError: it does not answer, in one line without its password; or it cannot hold any text.
    """
    try:
        with database.writer.connect() as connection:
            postgres = connection.dialect.name == "postgresql"
            encoding = connection.execute(text("SHOW server_encoding" if postgres else "SELECT 'UTF8'")).scalar()
    except DBAPIError as error:
        shown = database.writer.url.render_as_string(hide_password=False)
        reason = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise ConfigError(
            f"{setting}: {mask_secrets(shown)} cannot be opened: {mask_secrets(reason, secrets_in(shown))}"
        ) from None
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise ConfigError(
            f"{setting}: the database stores text as {encoding}, which lacks most characters: "
            "make one with ENCODING 'UTF8' TEMPLATE template0"
        )


SESSION = (
    "-c timezone=UTC -c extra_float_digits=3 -c standard_conforming_strings=on"
    " -c default_transaction_isolation=read\\ committed"
)
"""What a role, a database or the environment may have set otherwise, and the store relies on."""


def _postgres(url: URL, size: int, *, writer: bool = False) -> Engine:
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} {SESSION}"
    if not writer:
        options += " -c default_transaction_read_only=on"
    return create_engine(
        url,
        hide_parameters=True,
        paramstyle="format",  # rows as tuples, on both databases
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=STATEMENT_TIMEOUT_S,
        connect_args={
            "connect_timeout": 5,
            "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,  # a network that swallows packets is an outage, not a wait
            "options": options,
            "client_encoding": "UTF8",
            "application_name": "plumbline",
        },
    )


PRIVATE = 0o600
"""The mode of the store's files: rows are for the account of the service alone."""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE)


def _close_to_others(path: Path) -> None:
    """Make the file before SQLite does, readable by its owner alone; close one that is there.

    SQLite gives its log and its index the mode of the file.
    """
    with suppress(OSError):  # what is wrong with the place is said by the database that is opened
        os.close(_open_private(str(path), os.O_RDWR | os.O_CREAT))
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            with suppress(FileNotFoundError):
                file.chmod(PRIVATE)


def _lock(path: Path, setting: str) -> TextIO:
    """Lock the file for this process as its only writer.

    The kernel drops the lock when the process ends, also after a crash.
    """
    file = path.with_name(path.name + ".lock")
    try:
        lock = open(file, "a+", encoding="ascii", opener=_open_private)  # noqa: SIM115 - Path.open takes no opener
        file.chmod(PRIVATE)
    except OSError as error:
        raise ConfigError(f"{setting}: {path}.lock cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StoreLocked(
            f"{path} is in use by another plumbline process (pid {holder}): stop it, or give each its own {setting}; "
            "several replicas need PostgreSQL"
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


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
            self._log.warning("store_unreachable", error=describe_error(error))
            raise Unavailable("the store cannot be reached") from None

    def close(self) -> None:
        """Let the threads end after their reads."""
        self._threads.shutdown(wait=True, cancel_futures=True)


PAUSE_PER_WAIT = 4.0
"""Seconds of pause for each second that the check was ready to run and had to wait."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.001, 0.25
MAX_PAUSES_PER_CPU_S = 2.0
"""Seconds of pause for each second of processor time: a machine that is always busy must not keep a check for long."""
MAX_PAUSES_S = 3.0
"""Seconds of pause in one check."""

Pause: TypeAlias = Callable[[], None]
"""What a check calls between two of its steps, each of which takes some milliseconds."""


def no_pause() -> None:
    """Go on at once: for a check that nobody is disturbed by."""


class Throttle:
    """Decides after each step of a check how long the check pauses.

    A low priority alone lets a check take every moment in which the service waits for its disk. The service then finds
    its caches cold, and has no moment left to catch up in. On an idle processor a check does not wait, and so it does
    not pause.

    A pause is a plain sleep that the code of the check asks for, with no transaction open: while a reader holds a
    snapshot, SQLite's log cannot start anew, and the writer pays for its length.

    Attributes:
        paused_s: length of all pauses since the check began.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._sleep = sleep
        self.start()

    def start(self) -> None:
        """Begin a check, which may pause as long as any other."""
        self.paused_s = 0.0
        self._check_cpu_s = self._cpu_clock()
        self._start_step()

    def pause(self) -> None:
        """End a step: sleep in proportion to the time that it waited for the processor."""
        cpu_s = self._cpu_clock()
        waited_s = self._clock() - self._step_began_s - (cpu_s - self._step_cpu_s)
        most_s = min(MAX_PAUSES_PER_CPU_S * (cpu_s - self._check_cpu_s), MAX_PAUSES_S)
        seconds = min(PAUSE_PER_WAIT * waited_s, MAX_PAUSE_S, most_s - self.paused_s)
        if seconds >= MIN_PAUSE_S:
            self._sleep(seconds)
            self.paused_s += seconds
            self._start_step()

    def pause_between_statements(self, engine: Engine) -> None:
        """Pause before each statement on this engine.

        Its connections must hold no transaction between two statements.
        """
        event.listen(engine, "before_cursor_execute", self._before_statement)

    def _before_statement(self, *_: object) -> None:
        self.pause()

    def _start_step(self) -> None:
        self._step_began_s, self._step_cpu_s = self._clock(), self._cpu_clock()
