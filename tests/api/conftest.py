"""Running applications over the small bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from app.serving import registry
from app.serving.batcher import Cost
from tests.support.application import Client, client_of, make_config
from tests.support.connections import Scene, scene_of
from tests.support.models.faulty import build_moody
from tests.support.models.tasks import Fitted
from tests.support.models.versions import NAME, build_versions

Start: TypeAlias = Callable[..., Client]
Run: TypeAlias = Callable[..., Scene]


@pytest.fixture
def start(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Start]:
    """Starts an application: ``start("mixed", outcomes={"unknown": "hold"})``; it stops with the test."""
    with ExitStack() as stack:
        yield lambda name, **sections: stack.enter_context(
            client_of(make_config(tmp_path, small_models[0], name, **sections))
        )


@pytest.fixture(scope="session")
def fitted(small_models: tuple[Path, dict[str, Fitted]]) -> dict[str, Fitted]:
    """The models behind the bundles, by name."""
    return small_models[1]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """One application for a whole module, over features of every type."""
    config: Any = make_config(tmp_path_factory.mktemp("mixed"), small_models[0], "mixed")
    with client_of(config) as client:
        yield client


@pytest.fixture(scope="session")
def switch_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``switch/1`` to ``switch/3``, and ``moody/1``, which raises on some rows."""
    folder = tmp_path_factory.mktemp("switch")
    build_versions(folder)
    build_moody(folder, "moody", "1")
    return folder


@pytest.fixture
def gather(tmp_path: Path, switch_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts an application for callers that come together; it stops with the test.

    Its model counts as quick on every machine, so that callers are answered in the event loop.
    """
    monkeypatch.setattr(registry, "warm_up", lambda *_: Cost(0.0, 0.0))
    with ExitStack() as stack:
        yield lambda name=f"{NAME}/1", **sections: stack.enter_context(
            scene_of(make_config(tmp_path, switch_models, name, **sections))
        )
