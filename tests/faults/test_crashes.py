"""A bundle whose compiled code crashes: the process that tries it ends, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.load import quick_settings
from tests.support.models.faulty import CRASHES, build_moody, set_golden_row
from tests.support.models.versions import ANSWERS, NAME, ROW, build_versions
from tests.support.processes import launch, serving

pytestmark = pytest.mark.fault
CRASHING = "9"


@pytest.fixture(params=CRASHES, ids=[signal.name for signal in CRASHES.values()])
def crash(request: pytest.FixtureRequest) -> float:
    """The value of a feature at which the process of the model ends by a signal."""
    value: float = request.param
    return value


@pytest.fixture
def models(tmp_path: Path, crash: float) -> Path:
    """Versions of a model, one of which crashes on its golden row."""
    folder = tmp_path / "models"
    build_versions(folder)
    build_moody(folder, NAME, CRASHING)
    set_golden_row(folder / NAME / CRASHING, crash)
    return folder


def settings(active: str, **more: str) -> dict[str, str]:
    """Settings with an active version."""
    return quick_settings(SERVING__ACTIVE=f"{NAME}/{active}", SERVING__ALLOW_PICKLE="true", **more)


def test_a_service_does_not_start_with_it(tmp_path: Path, models: Path) -> None:
    """The service ends with exit code 3 and one line that says why."""
    service = launch(tmp_path, models=models, settings=settings(CRASHING))
    code = service.process.wait(timeout=DEADLINE_S)
    told = [line for line in service.log.read_text(encoding="utf-8").splitlines() if "Tried" not in line]

    assert (code, len(told)) == (3, 1)
    assert "tried in a process of its own, and the process died" in told[0]


def test_it_crashes_neither_an_activation_nor_a_shadow(tmp_path: Path, models: Path, crash: float) -> None:
    """An activation is a 409, a row that crashes the shadow is answered, and the active version goes on."""
    with serving(tmp_path, models=models, settings=settings("1", SERVING__SHADOWS=f'["{CRASHING}"]')) as service:
        refused = service.call("POST", f"/models/{NAME}/activate", {"version": CRASHING})
        first = service.call("POST", "/predict", {"features": {**ROW, "a": crash}})
        wait_until(lambda: "shadow_failed" in service.log.read_text(encoding="utf-8"))
        last = service.call("POST", "/predict", {"features": ROW})
        ready = service.call("GET", "/health/ready")

    assert refused[0] == 409
    assert "the process died" in refused[1]["detail"]
    assert (first[0], last[0], ready[0]) == (200, 200, 200)
    assert (last[1]["model_version"], last[1]["prediction"]) == ("1", ANSWERS["1"])
