"""Channels: opened by their URLs, which nobody ever sees, and tried by hand."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from pkgutil import iter_modules
from typing import Any

import pytest

from app.alerting import channels
from app.alerting.channels.base import ChannelFailed
from app.alerting.channels.routes import CHANNELS, open_channels
from app.alerting.messages import sample_message
from app.config.fields import ChannelUrl
from app.config.settings import Alerts
from app.errors import ConfigError
from app.types import Micros
from tests.support.deadlines import DEADLINE_S
from tests.support.processes import ROOT, free_port
from tests.support.programs import run_command
from tests.support.receivers import mailbox, webhook

SECRET = "hunter2token"  # noqa: S105 - the tests look for it where it must not be
MESSAGE = sample_message("http://service", now=Micros(0))


def opened(*items: object) -> Any:
    """The channels of ``alerts.notify``."""
    return open_channels(Alerts.model_validate({"notify": list(items)}).notify)


def classes_by_scheme() -> set[object]:
    """Every class of the package's modules that names the schemes of its URLs."""
    modules = [import_module(f"{channels.__name__}.{module.name}") for module in iter_modules(channels.__path__)]
    classes = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    return {each for each in classes if isinstance(vars(each).get("schemes"), tuple)}


def test_every_channel_is_in_the_table_and_described() -> None:
    """A class that names its schemes is opened by them, the one that takes all comes last, and the page names each."""
    described = (ROOT / "docs" / "alerting.md").read_text(encoding="utf-8")
    *special, last = CHANNELS

    assert {*CHANNELS} == classes_by_scheme()
    assert last.schemes == ("",)
    for channel in special:
        assert channel.schemes
        assert all(scheme in described for scheme in channel.schemes)


@pytest.fixture
def root_log() -> Iterator[StringIO]:
    """All that reaches the root logger, where the service's log begins; pytest's own capture listens elsewhere too."""
    text = StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_mail_arrives() -> None:
    """A message reaches a mail server with its title as the subject."""
    port = free_port()
    [route] = opened(
        f"mailto://localhost:{port}?smtp=localhost&from=alerts@example.com&to=team@example.com&mode=insecure"
    )
    with mailbox(port) as box:
        route.channel.send(MESSAGE, timeout_s=DEADLINE_S)

    assert box.mails == [("[TEST] Plumbline", f"{MESSAGE['text']}\r\n")]


def test_a_wrong_url_is_refused_without_being_shown() -> None:
    """Each wrong item is named by its place; nothing of a URL but the scheme is."""
    with pytest.raises(ConfigError) as refused:
        opened(
            f"slack://{SECRET}",
            f"nobody://{SECRET}",
            "json://localhost/x",
            f"alertmanager+ftp://{SECRET}/",
            "json://localhost/x",
        )

    text = str(refused.value)
    assert SECRET not in text
    assert [line.split(" ")[0] for line in text.splitlines()] == [f"alerts.notify.{place}:" for place in (0, 1, 3, 4)]
    assert "slack://***" in text
    assert refused.value.exit_code == 2


def test_names_last_and_reveal_nothing() -> None:
    """A channel's name is the same each time, differs between URLs, and holds the scheme alone."""
    url = f"json://user:{SECRET}@localhost/a"
    first, other = (opened(item)[0].channel.name for item in (url, url + "b"))

    assert first == opened(url)[0].channel.name != other
    assert first.startswith("json-")
    assert SECRET not in first
    assert ChannelUrl(url).masked == "json://***"
    assert SECRET not in f"{ChannelUrl(url)!r} {ChannelUrl(url)}"


@pytest.mark.parametrize("scheme", ["json", "alertmanager+http"])
@pytest.mark.parametrize(("status", "reason"), [(500, "answered 500"), (429, "answered 429"), (None, "not ")])
def test_a_failure_names_no_address(scheme: str, status: int | None, reason: str, root_log: StringIO) -> None:
    """What a refused or unreachable channel leaves behind, in the failure or a log, holds neither host nor token."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as the service sets it
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    with webhook() as receiver:
        receiver.answers = [status] if status else []
        port = receiver.port
        host = "127.0.0.1" if status else f"{SECRET}.invalid"
        [route] = opened(f"{scheme}://user:{SECRET}@{host}:{port}/{SECRET}")
        with pytest.raises(ChannelFailed) as failed:
            route.channel.send(MESSAGE, timeout_s=DEADLINE_S)

    assert str(failed.value).startswith(reason)
    assert failed.value.retry_after_s == (60 if status == 429 and scheme == "json" else None)
    for text in (str(failed.value), root_log.getvalue()):
        assert SECRET not in text
        assert str(port) not in text


def test_the_test_command_tries_every_channel() -> None:
    """One message to each, all at once; a line for each, and exit code 1 where one failed, without its URL."""
    with webhook() as receiver, webhook() as manager:
        manager.answers = [503]
        urls = f"['{receiver.url}?token={SECRET}', 'alertmanager+http://u:{SECRET}@127.0.0.1:{manager.port}']"
        done = run_command("alerts", "test", ALERTS__NOTIFY=urls)
        again = run_command("alerts", "test", ALERTS__NOTIFY=urls)

    assert receiver.titles == ["[TEST] Plumbline"] * 2
    assert [alert["labels"]["alertname"] for alert in manager.taken[0]] == ["plumbline_test"]
    lines = sorted(done.stdout.splitlines())
    assert [line.split(":", 1)[1] for line in lines] == [" failed: answered 503", " sent"]
    assert (done.returncode, again.returncode) == (1, 0)
    assert SECRET not in done.stdout + done.stderr


def test_a_bad_url_fails_the_start() -> None:
    """``serve`` and ``check`` end with code 2 and name the item; a variable that is not set does so too."""
    for words in (("serve",), ("check",)):
        done = run_command(*words, "--config", str(ROOT / "config.yaml"), ALERTS__NOTIFY=f"['slack://{SECRET}']")
        assert (done.returncode, done.stderr.count("alerts.notify.0: slack://***")) == (2, 1)
        assert SECRET not in done.stdout + done.stderr
    missing = run_command(
        "check", "--config", str(ROOT / "config.yaml"), ALERTS__NOTIFY="['json://h/${NOT_SET_ANYWHERE}']"
    )
    assert missing.returncode == 2
    assert "alerts.notify.0.url: the variable NOT_SET_ANYWHERE is not set" in missing.stderr


def test_without_channels_nothing_heavy_is_loaded() -> None:
    """The library costs a second and 35 MiB, which a service without channels does not pay."""
    code = "import sys, app.main; app.main.open_channels(()); print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_a_url_is_one_target() -> None:
    """A URL with two targets is refused with what to do: else one that fails makes the other hear all again."""
    tokens = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    with pytest.raises(ConfigError) as refused:
        opened(f"slack://{tokens}/#one/#two", f"slack://{tokens}/#one")

    assert str(refused.value) == "alerts.notify.0: slack://***: names several targets; each is an item of its own"


@pytest.mark.parametrize(
    ("query", "action"),
    [("", "map"), ("?region=eu", "map"), ("?action=trigger", "trigger"), ("?dedup=mine", "trigger")],
)
def test_a_pager_closes_what_it_opened(query: str, action: str) -> None:
    """Where its URL says nothing else, an end closes the incident of the alert instead of opening another."""
    url = f"pagerduty://0123456789abcdef0123456789abcdef@0123456789abcdef{query}"

    assert opened(url)[0].channel.service.action == action


def test_a_pager_gets_the_key_of_the_alert() -> None:
    """A pager that can tell incidents apart is told which one a message is about, unless its URL says so itself."""
    url = "pagerduty://0123456789abcdef0123456789abcdef@0123456789abcdef?action=map"

    assert [opened(text)[0].channel.takes_key for text in (url, f"{url}&dedup=mine", "json://localhost")] == [
        True,
        False,
        False,
    ]
