"""The shadows of the version that answers, behind its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from app.config import Serving
from app.metrics import ServingMetrics
from app.serving.challengers import mismatch
from app.serving.model import Model
from app.serving.registry import Registry
from app.serving.shadow import Shadow
from app.store.journal import Journal
from app.types import ModelSchema, Prediction

STOP_S = 5.0
"""How long the end of the service may wait for shadows."""


class Shadows:
    """Hands what the active version has answered to every shadow that takes such rows."""

    def __init__(self, registry: Registry, settings: Serving, journal: Journal, metrics: ServingMetrics) -> None:
        self._registry = registry
        self._shadows = [
            Shadow(challenger, settings, journal, metrics.for_shadow(challenger.schema))
            for challenger in registry.challengers
        ]
        self._champion: Model | None = None
        self._fitting: list[Shadow] = []
        self._log = structlog.get_logger("shadow")

    def start(self) -> None:
        """Load the shadows, each in its own time."""
        for shadow in self._shadows:
            shadow.start()

    def offer(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Take rows that a version has answered; only those of the active one are repeated."""
        if model is not self._registry.active:
            return
        if model is not self._champion:
            self._champion, self._fitting = model, self._fit(model.schema)
        for shadow in self._fitting:
            shadow.offer(rows)

    async def stop(self) -> None:
        """Store what waits, as far as the time allows."""
        await asyncio.gather(*(shadow.stop(STOP_S) for shadow in self._shadows))

    def _fit(self, champion: ModelSchema) -> list[Shadow]:
        """The shadows of a version: not itself, and none that takes other rows, which is said once."""
        others = [shadow for shadow in self._shadows if shadow.schema.version != champion.version]
        reasons = {shadow.schema.version: mismatch(shadow.schema, champion) for shadow in others}
        for version, reason in reasons.items():
            if reason:
                self._log.error("shadow_sits_out", version=version, champion=champion.version, reason=reason)
        return [shadow for shadow in others if not reasons[shadow.schema.version]]
