"""What an Alertmanager is sent, out of a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.alerting.alert_store import MINUTE, Desk, feeding, finding
from tests.support.receivers import Webhook, webhook


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An empty store."""
    opened = Desk(tmp_path)
    yield opened
    opened.database.close()


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    """A web server that takes everything."""
    with webhook() as running:
        yield running


def test_what_fires_is_sent_again_and_its_end_for_five_minutes(desk: Desk, receiver: Webhook) -> None:
    """A firing alert lasts four minutes beyond each message; a resolved one is sent with its end, then forgotten."""
    with feeding(desk, receiver) as feed:
        assert feed.sent() == []
        desk.record(finding())
        [first] = feed.sent()
        desk.clock.forward(MINUTE)
        [again] = feed.sent()
        desk.record(None)
        desk.clock.forward(3 * MINUTE)
        [over] = feed.sent()
        desk.clock.forward(2 * MINUTE)
        later = feed.sent()

    assert [each["endsAt"][14:19] for each in (first, again, over)] == ["18:20", "19:20", "15:20"]
    assert over["startsAt"] == first["startsAt"]
    assert over["labels"] == first["labels"]
    assert later == []


def test_what_it_is_not_meant_for_is_not_sent(desk: Desk, receiver: Webhook) -> None:
    """Neither an alert of another severity, nor one of which nobody was told, since it began under a silence."""
    desk.silence(3)
    desk.record(finding())
    with feeding(desk, receiver) as feed, feeding(desk, receiver, ["high", "low"]) as other:
        silenced = feed.sent()
        desk.clock.forward(3 * MINUTE)
        desk.record(finding())
        after = feed.severities()
        others = other.sent()

    assert (silenced, after, others) == ([], ["critical"], [])


def test_a_silence_ends_nothing(desk: Desk, receiver: Webhook) -> None:
    """What was told before a silence is sent on as it was, worse or not: unsent, it would end there."""
    desk.record(finding("medium"))
    with feeding(desk, receiver) as feed, feeding(desk, receiver, ["critical"]) as pager:
        told = [feed.severities()]
        assert pager.sent() == []
        desk.silence(10)
        for severity in ("medium", "critical"):
            desk.record(finding(severity))
            told.append(feed.severities())
            assert pager.sent() == []
        desk.clock.forward(10 * MINUTE)
        told.append(feed.severities())
        woken = pager.severities()

    assert told == [["medium"], ["medium"], ["medium"], ["critical"]]
    assert woken == ["critical"]


def test_what_fires_lasts_while_the_store_is_away(desk: Desk, receiver: Webhook) -> None:
    """Without a store to read, what was known last is sent on, each time with a later end."""
    desk.record(finding())
    aside = desk.file.with_suffix(".aside")
    with feeding(desk, receiver) as feed:
        feed.sent()
        desk.database.close()
        desk.file.rename(aside)
        ends = []
        for _ in range(6):
            desk.clock.forward(MINUTE)
            ends += [alert["endsAt"][14:19] for alert in feed.sent()]
        desk.database.close()
        aside.rename(desk.file)
        desk.clock.forward(MINUTE)
        [back] = feed.sent()

    assert ends == ["19:20", "20:20", "21:20", "22:20", "23:20", "24:20"]
    assert back["endsAt"][14:19] == "25:20"


def test_an_alert_that_fires_again_is_one(desk: Desk, receiver: Webhook) -> None:
    """Of alerts with the same labels, one that has ended and one that has begun since, the latter is sent alone."""
    with feeding(desk, receiver) as feed:
        desk.record(finding(), None, finding())
        [alert] = feed.sent()

    assert alert["startsAt"][14:19] == "15:20"
    assert alert["endsAt"][14:19] == "20:20"


def test_it_is_told_at_once_and_else_each_minute(desk: Desk, receiver: Webhook) -> None:
    """A turn sends what has changed; where nothing has, it sends again after a minute, however often it is woken."""
    sent = []
    with feeding(desk, receiver) as feed:
        desk.record(finding("medium"))
        for seconds in (0, 2, 2, 54, 4):
            desk.clock.forward(seconds)
            sent.append(feed.severities())
        desk.record(finding("critical"))
        sent.append(feed.severities())

    assert sent == [["medium"], [], [], [], ["medium"], ["critical"]]


def test_a_failure_is_logged_once_and_tried_again_soon(desk: Desk, receiver: Webhook) -> None:
    """Of an Alertmanager that refuses for a while the log holds the first refusal and that it takes them again."""
    desk.record(finding())
    receiver.answers = [503, 503]
    with capture_logs() as logs, feeding(desk, receiver) as feed:
        tried = []
        for _ in range(12):
            feed.sent()
            tried.append(receiver.tried)
            desk.clock.forward(2)

    assert tried == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]
    assert [entry["event"] for entry in logs] == ["alertmanager_failed", "alertmanager_recovered"]
