"""Windows: compared with a brute-force reading of their definition, over random histories."""

from __future__ import annotations

import random
from hashlib import blake2b
from itertools import product

import pytest

from app.store.database import Database
from app.store.queries.outcomes import Rules, Submission, record
from app.store.queries.predictions import insert, sampling_level
from app.store.queries.windows import newer_rows, read_window
from app.types import Micros, Outcome, Prediction
from tests.support.rows import prediction

HOUR = 3_600_000_000


def expected(rows: list[Prediction], *, most: int, hours: float, before: int | None) -> tuple[list[str], int]:
    """The window's ids and the estimated number behind them, by the definition read aloud."""
    there = sorted((row.predicted_at, row.prediction_id) for row in rows if before is None or row.predicted_at < before)
    if not there:
        return [], 0
    start = there[-1][0] - hours * HOUR
    for k in range(65):
        sample = [(at, name) for at, name in there if trailing_zeros(name) >= k]
        if not hours or len([at for at, _ in sample if at >= start]) <= most:
            taken = [(at, name) for at, name in sample if k == 0 or at >= start][-most:]
            return [name for _, name in taken], len(taken) * 2**k
    raise AssertionError("unreachable")


def trailing_zeros(name: str) -> int:
    """The level of an id, from the binary digits of its hash."""
    digits = "".join(f"{byte:08b}" for byte in blake2b(name.encode("utf-8"), digest_size=8).digest())
    return len(digits) - len(digits.rstrip("0"))


@pytest.mark.parametrize("span_hours", [0.01, 0.9, 3.0, 100.0])
def test_a_window_is_its_definition(database: Database, span_hours: float) -> None:
    """In quiet and busy histories, with ties in time, a window holds the rows that the definition names, in order."""
    rng = random.Random(span_hours)
    # Few different moments, so that many rows share one.
    moments = [rng.randrange(int(span_hours * HOUR)) for _ in range(150)]
    rows = [prediction(f"{rng.getrandbits(64):x}", rng.choice(moments)) for _ in range(700)]
    others = [prediction("v2", HOUR * 200, model_version="2"), prediction("s", HOUR * 200, role="shadow")]
    with database.writer.begin() as connection:
        insert(connection, [*rows, *others])
    befores = [None, moments[0], max(moments), 0]
    cases = [*product((7, 50), (0, 0.005, 1), (None,)), *product((50, 700), (1,), befores), (699, 24.0, None)]
    with database.readers.connect() as connection:
        for most, hours, before in cases:
            bound = None if before is None else Micros(before)
            window = read_window(connection, "m", "1", rows=most, hours=hours, before=bound)

            assert (window.ids, window.sampled_from) == expected(rows, most=most, hours=hours, before=before)
            assert window.predicted_at == sorted(window.predicted_at)


def test_a_window_carries_contexts_where_they_are_asked_for(database: Database) -> None:
    """The context of each request is aligned with its row, null where there was none; unasked, none is read."""
    with database.writer.begin() as connection:
        insert(connection, [prediction("a", 1, context={"user": "u1"}), prediction("b", 2, context=None)])
    with database.readers.connect() as connection:
        window = read_window(connection, "m", "1", rows=10, hours=0, contexts=True)
        unasked = read_window(connection, "m", "1", rows=10, hours=0)

    assert (window.ids, window.contexts) == (["a", "b"], [{"user": "u1"}, None])
    assert (unasked.ids, unasked.contexts) == (["a", "b"], [])


def test_the_level_is_a_function_of_the_id() -> None:
    """Every replica gives an id the same level: about half of all ids 0, a quarter 1, and so on."""
    names = [str(number) for number in range(4_000)]
    levels = [sampling_level(name) for name in names]

    assert levels == [trailing_zeros(name) for name in names]
    assert levels.count(0) == pytest.approx(2_000, rel=0.1)
    assert levels.count(1) == pytest.approx(1_000, rel=0.1)


def test_a_window_carries_the_latest_truth(database: Database) -> None:
    """Outcomes are aligned with their rows, the latest revision each; 0, false and "" are outcomes, None is none."""
    with database.writer.begin() as connection:
        insert(connection, [prediction(name, at) for at, name in enumerate("abcd")])
        outcomes = [
            Outcome("a", 0, value=1.0), Outcome("a", 0, value=2.0, revise=True), Outcome("b", False), Outcome("d", ""),
        ]  # fmt: skip
        rules = Rules(lambda _stored, label: label, hold=False)
        record(rules, connection, [Submission(outcome, Micros(9)) for outcome in outcomes])
    with database.readers.connect() as connection:
        window = read_window(connection, "m", "1", rows=10, hours=1)

    assert window.ids == ["a", "b", "c", "d"]
    assert window.outcomes == [0, False, None, ""]
    assert window.values == [2.0, None, None, None]
    assert window.recorded_at == [9, 9, None, 9]


def test_new_rows_are_counted_up_to_a_bound(database: Database) -> None:
    """The number of rows after a moment, of one version, and never more than asked for."""
    with database.writer.begin() as connection:
        insert(connection, [prediction(f"p{at}", at) for at in range(100)])
    with database.readers.connect() as connection:
        assert newer_rows(connection, "m", "1", after=Micros(79), most=1_000) == 20
        assert newer_rows(connection, "m", "1", after=Micros(79), most=5) == 5
        assert newer_rows(connection, "m", "2", after=Micros(79), most=5) == 0
