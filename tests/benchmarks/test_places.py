"""What the benchmarks read and write: processes, disks, stores, and the pages that carry the results."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import subprocess
from pathlib import Path

import pytest

import benchmarks
from app.store.database import open_database
from app.store.migrate import upgrade
from app.store.queries.predictions import insert
from benchmarks.long import SCENARIOS
from benchmarks.results import scaling, table
from benchmarks.scenarios.disk import executemany_rate, fsync_ms, stored
from benchmarks.servers.kernel import thread_seconds, usage
from tests.support.rows import prediction

MODULES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__, "benchmarks."))


def test_a_process_is_seen_with_its_files_and_children(tmp_path: Path) -> None:
    """An open file counts, and the memory of a child does not pass for our own."""
    before = usage(os.getpid())
    with (tmp_path / "open").open("w", encoding="ascii"):
        assert usage(os.getpid()).files == before.files + 1
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        beside = usage(os.getpid())

    assert beside.checks_mib > before.checks_mib
    assert before.once_mib <= before.rss_mib + before.checks_mib


def test_the_first_thread_goes_by_the_process_id() -> None:
    """Its processor time is there, and grows no slower than nothing."""
    user, kernel = thread_seconds(os.getpid())[os.getpid()]

    assert user + kernel > 0


def test_the_bare_insert_stores_every_row(store_url: str, tmp_path: Path) -> None:
    """As many rows as are said, of the source's make, under new ids."""
    database = open_database(store_url)
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, [prediction(f"row-{number}") for number in range(10)])
    database.close()

    assert executemany_rate(store_url, tmp_path, groups=3) > 0
    assert stored(f"sqlite:///{tmp_path / 'executemany.db'}")[0] == 30
    rows, size = stored(store_url)
    assert rows == 10
    assert size > 100


def test_the_disk_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    """A sync takes time, its tail no less than its middle, and leaves no file."""
    middle, tail = fsync_ms(tmp_path, times=20)

    assert 0 < middle <= tail
    assert list(tmp_path.iterdir()) == []


def test_results_replace_their_own_section_alone(tmp_path: Path) -> None:
    """What stands before, behind and in other sections stays."""
    page = tmp_path / "page.md"
    text = "a\n<!-- one -->\nold\n<!-- end of one -->\nb\n<!-- two -->\nkept\n<!-- end of two -->\n"
    page.write_text(text, encoding="utf-8")

    table.publish("one", "new\n", write=False, page=page)
    assert page.read_text(encoding="utf-8") == text
    table.publish("one", "new\n", write=True, page=page)
    assert page.read_text(encoding="utf-8") == text.replace("old", "new")


@pytest.mark.parametrize("section", ["results", "soak", "profile", *SCENARIOS])
def test_every_result_has_its_place(section: str) -> None:
    """README.md has one section for each scenario that is published."""
    text = table.PAGE.read_text(encoding="utf-8")

    assert text.count(f"<!-- {section} -->\n") == text.count(f"<!-- end of {section} -->") == 1


def test_the_scaling_guide_follows_from_its_figures() -> None:
    """Whoever changes a figure works the table of replicas out again."""
    text = scaling.PAGE.read_text(encoding="utf-8")
    capacity = scaling.read()

    assert scaling.figures(capacity) in text
    assert scaling.replicas(capacity) in text


def test_replicas_carry_the_peak_at_half_their_rate() -> None:
    """1e9 a day is a peak of 46,296 a second: 47 replicas of 2,000, and 600 GB of 600 bytes."""
    rows = scaling.replicas(scaling.Capacity(3000, 2000, 30_000, 500, 600)).splitlines()

    assert rows[-1] == "| 1e9 | 11,574 | 46,296 | 47 | 282 | 600 GB | 54.0 TB |"
    assert rows[2] == "| 1e6 | 12 | 46 | 2 (1 on SQLite) | 12 | 0.6 GB | 54.0 GB |"


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every example in a docstring gives the result that stands below it."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
