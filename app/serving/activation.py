"""Activation of versions: over HTTP or automatic, stored, and followed by every replica."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Literal, Protocol

import structlog
from prometheus_client import Gauge

from app.background import PeriodicTask, run_in_daemon_thread
from app.errors import BundleError, Conflict, NotFound, Unavailable
from app.reports.service import RollbackEvidence
from app.serving.registry import Model, Registry
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries.versions import Activation, read_activation, save_activation

FOLLOW_S = 2.0
"""Time between two looks at the stored choice of the other replicas."""
RETRY_S = 30.0
"""Pause after a load that failed, since a load costs seconds of a processor."""


class VersionLog(Protocol):
    """Keeps the schemas of loaded versions in the store."""

    def remember(self, connection: Connection, model: Model) -> None:
        """Store the schema of a version; this comes before any row of it."""


class Activator:
    """Change the active version, one change at a time.

    If a change fails, the version before goes on answering.

    Args:
        followed: 1 while the stored choice is the version that answers here, else 0.
    """

    def __init__(
        self, registry: Registry, journal: Journal, readers: Readers, versions: VersionLog, followed: Gauge
    ) -> None:
        self._registry = registry
        self._journal = journal
        self._readers = readers
        self._versions = versions
        self._followed = followed
        self._changing = asyncio.Lock()
        self._log = structlog.get_logger("activation")
        self.task = PeriodicTask("activation", self._turn, interval_s=FOLLOW_S, store_away="wait", log=self._log)

    async def start(self) -> None:
        """Take the stored choice before the first request, then follow it."""
        try:
            pause_s = await self._turn()
        except Unavailable:
            pause_s = FOLLOW_S
        self.task.start(after_s=pause_s)

    async def stop(self) -> None:
        """Follow the stored choice no longer."""
        await self.task.stop(grace_s=0)

    async def activate(self, version: str, *, by: str | None) -> Activation:
        """Load, verify and warm a version, store the choice, and let the version answer.

        Raises:
            NotFound: the version is not on disk.
            Conflict: its bundle is refused, or another replica activated a version meanwhile.
            Unavailable: the choice cannot be stored.
        """
        async with self._changing:
            seen = await self._seen()
            model = await self._prepare(version)
            chosen = (seen or self._configured()).change(version, model.bundle.sha256)
            return await self._commit(model, chosen, seen, "activate", by)

    async def rollback(
        self, *, by: str | None, of: str | None = None, evidence: RollbackEvidence | None = None
    ) -> Activation:
        """Go back to the version that answered before the active one was activated.

        Args:
            of: the version that must still be the active one.
            evidence: the reason for an automatic rollback.

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
            return await self._commit(model, seen.back(model.bundle.sha256), seen, "rollback", by, evidence)

    async def follow(self) -> None:
        """Load and activate the stored choice of another replica or of an earlier run.

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
            await self._journal.run(lambda connection: self._versions.remember(connection, model))
            self._registry.activate(model)
        self._log.info("activation_followed", version=chosen.version)

    async def _seen(self) -> Activation | None:
        return await self._readers.run(read_activation, self._registry.active.schema.name)

    def _configured(self) -> Activation:
        """The configured version, which answers until another one is activated."""
        bundle = self._registry.active.bundle
        return Activation(bundle.schema.version, bundle.sha256)

    async def _prepare(self, version: str) -> Model:
        try:
            return await run_in_daemon_thread(partial(self._registry.prepare, version))
        except BundleError as error:
            self._log.error("activation_refused", version=version, reason=str(error))
            raise Conflict(
                f"the bundle is refused, the active version stays: {self._registry.shown(str(error))}"
            ) from error

    async def _commit(
        self,
        model: Model,
        chosen: Activation,
        seen: Activation | None,
        act: Literal["activate", "rollback"],
        by: str | None,
        evidence: RollbackEvidence | None = None,
    ) -> Activation:
        """Store the choice first: a version that answers survives a restart."""

        def save(connection: Connection) -> None:
            self._versions.remember(connection, model)
            save_activation(connection, model.schema.name, chosen, seen=seen, act=act, by=by, evidence=evidence)

        before = self._registry.active.schema.version
        await self._journal.run(save)
        self._registry.activate(model)
        self._log.info("version_activated", act=act, version=chosen.version, before=before, by=by)
        return chosen

    async def _turn(self) -> float:
        """Follow once; the seconds until the next turn.

        Raises:
            Unavailable: the store cannot be reached.
        """
        try:
            await self.follow()
        except Unavailable:
            raise
        except (BundleError, NotFound) as error:
            self._log.error("activation_not_followed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the version before goes on answering, and the next turn comes
            self._log.exception("activation_not_followed", exc_info=error)
        else:
            self._followed.set(1)
            return FOLLOW_S
        self._followed.set(0)
        return RETRY_S
