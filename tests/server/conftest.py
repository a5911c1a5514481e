"""A running application without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.application import make_config
from tests.support.connections import Scene, scene_of
from tests.support.models.tasks import Fitted


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Scene]:
    """An application over three numbers."""
    with scene_of(make_config(tmp_path_factory.mktemp("scene"), small_models[0], "text")) as made:
        yield made
