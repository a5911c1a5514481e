"""The process of a shadow survives what its model does, and says why a row has no answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.background import ChildFailed
from app.config.settings import Serving
from app.serving.shadow import ShadowProcess, ShadowRefused
from tests.support.deadlines import DEADLINE_S
from tests.support.models.faulty import DIES, HANGS, RAISES, SKIPS, build_moody

GOOD = (2.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the misbehaving model."""
    models = tmp_path_factory.mktemp("moody")
    build_moody(models, "moody", "1")
    return models


@pytest.fixture
def process(models: Path) -> Iterator[ShadowProcess]:
    """The process of the model."""
    opened = ShadowProcess("1", models / "moody" / "1", Serving(allow_pickle=True), longest_call_s=DEADLINE_S)
    yield opened
    opened.kill()
    opened.close()


@pytest.mark.parametrize("value", [RAISES, SKIPS])
def test_only_the_guilty_row_has_no_answer(process: ShadowProcess, value: float) -> None:
    """Where the model fails on a batch or answers too few rows, the rows are tried singly."""
    first, second, third = process.predict([GOOD, (value, 1.0, 0.0), GOOD])

    assert first == third
    assert not isinstance(first, str)
    assert first.prediction == "no"
    assert isinstance(second, str)
    assert "ValueError" in second


@pytest.mark.parametrize(("value", "reason"), [(DIES, "died"), (HANGS, "longer than 0.5 s")])
def test_after_the_end_of_a_process_comes_another(
    process: ShadowProcess, value: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that ends its process or hangs costs the call, and the next call is answered."""
    process.predict([GOOD])
    with monkeypatch.context() as patch:
        patch.setattr(process, "longest_call_s", 0.5 if value == HANGS else DEADLINE_S)
        with pytest.raises(ChildFailed, match=reason):
            process.predict([(value, 1.0, 0.0)])

    assert not isinstance(process.predict([GOOD])[0], str)


def test_a_bundle_that_does_not_load_is_refused(models: Path) -> None:
    """A joblib file without permission is not loaded; the reason reaches the parent."""
    process = ShadowProcess("1", models / "moody" / "1", Serving())

    with pytest.raises(ShadowRefused, match="allow_pickle"):
        process.predict([GOOD])
    process.close()
