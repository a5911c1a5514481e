"""What releases have left in their stores is judged alike by the code of today; see ``tests/fixtures/README.md``.

Compared is the text of the reports, byte for byte, but for ids, for fields on the list of renamed ones, and for floats
that differ by less than the rounding of another processor (:mod:`tests.support.release.canonical_json`).
"""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path

import pytest

from app.types import Json, Micros
from tests.support.release import canonical_json
from tests.support.release.canonical_json import RENAMES, canonical_text, ignore_rounding, rename_fields
from tests.support.release.release_store import FIXTURES, Look, Release, cut_to, make_next_look, migrate, repeat_look

RELEASES = sorted(FIXTURES.glob("store-*"))
REPORTS = [path for folder in RELEASES for path in sorted(Release(folder).reports.glob("*.json"))]
NEXT_LOOKS = [path for folder in RELEASES for path in sorted(Release(folder).next_looks.glob("*.json"))]


def name(path: Path) -> str:
    """The name of a test: the release and the file."""
    return f"{path.parents[1].name}/{path.stem}"


def same_text(found: Json, expected: Json) -> None:
    """Fail where a result is not the expected one."""
    wanted = rename_fields(expected, RENAMES)
    ours = json.loads(canonical_text(found))

    assert canonical_text(ignore_rounding(ours, wanted)) == canonical_text(wanted)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stores of all releases, unpacked and brought to the schema of today."""
    folder = tmp_path_factory.mktemp("releases")
    found = {}
    for release in RELEASES:
        found[release.name] = folder / f"{release.name}.db"
        Release(release).unpack(found[release.name])
        migrate(found[release.name])
    return found


@pytest.mark.parametrize("path", REPORTS, ids=name)
def test_the_same_window_gives_the_same_report(path: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    """A check of today says of a stored window what the check of the release has said."""
    release = Release(path.parents[1])
    expected = json.loads(path.read_bytes())
    look = Look(**expected["look"])
    store = tmp_path / "store.db"
    shutil.copy(stores[release.folder.name], store)
    cut_to(store, look.now)

    same_text(repeat_look(release, store, look), expected)


@pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)
def test_every_report_of_a_store_is_compared(folder: Path, stores: dict[str, Path]) -> None:
    """No look of a release is left out of the comparison."""
    release = Release(folder)

    assert sorted(map(release.path_of, release.looks(stores[folder.name]))) == sorted(release.reports.iterdir())


@pytest.mark.parametrize("path", NEXT_LOOKS, ids=name)
def test_the_next_check_goes_on_from_the_stored_state(path: Path, tmp_path: Path) -> None:
    """A service that starts on an old store makes the reports, alerts and messages that the release would have made."""
    release = Release(path.parents[1])
    expected = json.loads(path.read_bytes())
    store = tmp_path / "store.db"
    release.unpack(store)

    same_text(make_next_look(release, store, path.stem, Micros(expected["now"])), expected)


def test_examples() -> None:
    """Every example of the comparison gives the result that stands below it."""
    found = doctest.testmod(canonical_json)

    assert found.attempted > 0
    assert found.failed == 0
