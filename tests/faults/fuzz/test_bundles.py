"""Damaged bundles are refused with a line, or answer as before; none ends, hangs or fills a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from app.serving.bundle.reader import read_bundle
from app.types import Json
from tests.support.http.fuzz import examples
from tests.support.models import damage
from tests.support.models.tasks import Fitted
from tests.support.models.trial import Trials, trials
from tests.support.processes import ROOT

pytestmark = pytest.mark.fault
Small = tuple[Path, dict[str, Fitted]]
NAMES = ("mixed", "text", "price")
USUAL = 80
MOST_BYTES = 2**30


@pytest.fixture(scope="module")
def tried() -> Iterator[Trials]:
    """A process that tries bundles."""
    with trials() as made:
        yield made


def wrong_with(found: Json, sound: Json, folder: Path) -> str:
    """What a trial shows that may not be; empty where the bundle was refused well, or is served as the sound one."""
    if "refused" in found:
        line = found["refused"].replace(f"{folder}", "FOLDER")
        is_told = line.startswith("FOLDER") and "\n" not in line and "Traceback" not in line and len(line) < 2000
        return "" if is_told else line
    if "failed" in found or found["bytes"] > MOST_BYTES:
        return f"{found}"
    odd = [f"{path}: {status}" for path, status in found["paths"].items() if status != 200]
    for answer, before in zip(found["answers"], sound["answers"], strict=True):
        if answer["status"] != 422 and _core(answer) != _core(before):
            odd.append(f"{answer} was {before}")
    return "; ".join(odd)


def _core(answer: Json) -> tuple[object, ...]:
    shares = answer.get("probabilities") or {}
    number = answer.get("prediction")
    told = round(number, 6) if isinstance(number, float) else number
    return answer["status"], told, sorted((label, round(share, 4)) for label, share in shares.items())


def test_a_damaged_bundle_is_refused_or_served_as_before(tmp_path: Path, small_models: Small, tried: Trials) -> None:
    """Whatever is damaged: wrong bytes, values of another kind, arrays of another shape; pinned or not."""
    rows = {name: read_bundle(small_models[0] / name / "1").golden_rows[:3] for name in NAMES}
    sound = {name: tried.of(small_models[0] / name / "1", rows[name]) for name in NAMES}
    number = count()
    served: list[bool] = []
    wrong: list[str] = []

    @settings(
        max_examples=examples(USUAL), derandomize=examples(USUAL) == USUAL, suppress_health_check=list(HealthCheck)
    )
    @given(
        some.sampled_from(NAMES),
        some.sampled_from(("auto", "sklearn")),
        damage.of_bytes() | damage.of_values() | damage.of_values() | damage.of_arrays(),
    )
    def holds(name: str, runtime: str, harm: damage.Damage) -> None:
        folder = tmp_path / str(next(number)) / name / "1"
        shutil.copytree(small_models[0] / name / "1", folder)
        harm.to(folder)
        found = tried.of(folder, rows[name], runtime)
        served.append("answers" in found)
        if odd := wrong_with(found, sound[name], folder):
            wrong.append(f"{name} by {runtime}: {harm.told}: {odd}")
        shutil.rmtree(folder.parents[1])

    assert [wrong_with(sound[name], sound[name], tmp_path) for name in NAMES] == [""] * len(NAMES)
    holds()
    assert wrong == []
    assert 0 < sum(served) < len(served)


@pytest.mark.parametrize("name", damage.FILES)
def test_serve_ends_with_one_line(tmp_path: Path, small_models: Small, name: str) -> None:
    """`serve` of a bundle with a damaged file says so in one line, and exits with 3."""
    folder = tmp_path / "models" / "text" / "1"
    shutil.copytree(small_models[0] / "text" / "1", folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    config = tmp_path / "config.yaml"
    config.write_text(
        f"serving: {{models: {tmp_path / 'models'}, active: text}}\nstore: {{url: 'sqlite:///{tmp_path / 'p.db'}'}}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ended.stderr.splitlines() if line]

    assert ended.returncode == 3
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {folder / name}:")
