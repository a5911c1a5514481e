"""Which version answers: activated and rolled back over HTTP, stored, and followed by every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import structlog
from prometheus_client import Gauge

from app.background import run_in_daemon_thread
from app.errors import BundleError, Conflict, NotFound, Unavailable
from app.serving.model import Model
from app.serving.registry import Registry
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries.versions import Activation, read_activation, save_activation
from app.types import Json

FOLLOW_S = 2.0
"""How long a replica may answer with the version before."""
RETRY_S = 30.0
"""After a load that failed: it costs seconds of a processor."""
Note: TypeAlias = Callable[[Connection, Model], None]
"""Notes the schema of a version in the store, before a row of it is stored."""


class Lifecycle:
    """Changes the active version, one change at a time; whatever fails, the version that answered goes on.

    Args:
        followed: says whether the stored choice is the version that answers here.
    """

    def __init__(self, registry: Registry, journal: Journal, readers: Readers, note: Note, followed: Gauge) -> None:
        self._registry = registry
        self._journal = journal
        self._readers = readers
        self._note = note
        self._followed = followed
        self._changing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("lifecycle")

    @property
    def alive(self) -> bool:
        """False once the task that follows the stored choice has ended."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Take the stored choice before the first request, then follow it."""
        pause = await self._turn()
        self._task = asyncio.create_task(self._run(pause), name="plumbline-lifecycle")

    async def stop(self) -> None:
        """Follow no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def activate(self, version: str, *, by: str | None) -> Activation:
        """Load, verify and warm a version, store the choice, then let the version answer.

        Raises:
            NotFound: the version is not on disk.
            Conflict: its bundle is refused, or another replica activated a version meanwhile.
            Unavailable: the choice cannot be stored.
        """
        async with self._changing:
            seen = await self._seen()
            model = await self._prepare(version)
            chosen = (seen or self._configured()).change(version, model.bundle.sha256)
            return await self._settle(model, chosen, seen, "activate", by)

    async def rollback(self, *, by: str | None, of: str | None = None, evidence: Json | None = None) -> Activation:
        """Go back to the version that answered before the active one was activated.

        Args:
            of: the version that must still be the active one.
            evidence: why, where nobody but the service itself decided it.

        Raises:
            Conflict: there is none, or as with :meth:`activate`.
            NotFound, Unavailable: as with :meth:`activate`.
        """
        async with self._changing:
            seen = await self._seen()
            if seen is None or not seen.earlier:
                raise Conflict("no version was active before this one; name one to activate")
            if of not in (None, seen.version):
                raise Conflict("another version was activated meanwhile")
            model = await self._prepare(seen.earlier[-1])
            return await self._settle(model, seen.back(model.bundle.sha256), seen, "rollback", by, evidence)

    async def follow(self) -> None:
        """Take the stored choice, where another replica or an earlier run has made one.

        Raises:
            NotFound, BundleError: it cannot be loaded here.
            Unavailable: the store cannot be reached.
        """
        async with self._changing:
            chosen = await self._seen()
            active = self._registry.active
            if chosen is None or (chosen.version, chosen.sha256) == (active.schema.version, active.bundle.sha256):
                return
            model = await run_in_daemon_thread(partial(self._registry.prepare, chosen.version, chosen.sha256))
            await self._journal.run(lambda connection: self._note(connection, model))
            self._registry.activate(model)
        self._log.info("activation_followed", version=chosen.version)

    async def _seen(self) -> Activation | None:
        return await self._readers.run(read_activation, self._registry.active.schema.name)

    def _configured(self) -> Activation:
        """What answers as long as nothing was activated."""
        bundle = self._registry.active.bundle
        return Activation(bundle.schema.version, bundle.sha256)

    async def _prepare(self, version: str) -> Model:
        try:
            return await run_in_daemon_thread(partial(self._registry.prepare, version))
        except BundleError as error:
            self._log.error("activation_refused", version=version, reason=str(error))
            raise Conflict(f"the bundle is refused, the active version stays: {error}") from error

    async def _settle(
        self,
        model: Model,
        chosen: Activation,
        seen: Activation | None,
        act: Literal["activate", "rollback"],
        by: str | None,
        evidence: Json | None = None,
    ) -> Activation:
        """Store the choice first: a version that answers survives a restart."""

        def save(connection: Connection) -> None:
            self._note(connection, model)
            save_activation(connection, model.schema.name, chosen, seen=seen, act=act, by=by, evidence=evidence)

        before = self._registry.active.schema.version
        await self._journal.run(save)
        self._registry.activate(model)
        self._log.info("version_activated", act=act, version=chosen.version, before=before, by=by)
        return chosen

    async def _run(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            pause = await self._turn()

    async def _turn(self) -> float:
        """Follow once; the seconds until the next time."""
        try:
            await self.follow()
        except Unavailable:
            return FOLLOW_S
        except (BundleError, NotFound) as error:
            self._log.error("activation_not_followed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the version that answers goes on, and the next turn comes
            self._log.exception("activation_not_followed", exc_info=error)
        else:
            self._followed.set(1)
            return FOLLOW_S
        self._followed.set(0)
        return RETRY_S
