"""Routes of alerts: the configured channels, opened and checked at start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from app.alerting.channels.alertmanager import Alertmanager
from app.alerting.channels.apprise import AppriseChannel
from app.alerting.channels.base import Channel
from app.config.fields import ChannelUrl
from app.config.settings import Notify
from app.errors import ConfigError
from app.types import Severity


class Opener(Protocol):
    """A class of channels that is opened by the scheme of a URL."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """The beginnings of the schemes of its URLs."""

    def open(self, name: str, url: str) -> Channel:
        """Open a channel; ValueError where its URL is wrong."""


CHANNELS: tuple[Opener, ...] = (Alertmanager, AppriseChannel)
"""The first that takes a URL's scheme opens it; the last one takes all."""


@dataclass(frozen=True, slots=True)
class Route:
    """A channel, and the severities of the alerts that it gets."""

    channel: Channel
    severities: frozenset[Severity]


def open_channels(items: Sequence[Notify]) -> Sequence[Route]:
    """The channels of ``alerts.notify``.

    Raises:
        ConfigError: a URL is wrong; the text names its place, never the URL.
    """
    routes: list[Route] = []
    problems: list[str] = []
    for place, item in enumerate(items):
        try:
            channel = _open(item.url)
        except ValueError as error:
            problems.append(f"alerts.notify.{place}: {item.url.masked}: {error}")
            continue
        if any(route.channel.name == channel.name for route in routes):
            problems.append(f"alerts.notify.{place}: {item.url.masked}: is listed twice; one item takes all severities")
        routes.append(Route(channel, frozenset(item.severities)))
    if problems:
        raise ConfigError("\n".join(problems))
    return routes


def channel_name(url: ChannelUrl) -> str:
    """Give a channel's name: the scheme and a hash of the URL.

    It is the same after a restart and on every replica, and shows nothing else of the URL.
    """
    return f"{url.scheme.lower()}-{sha256(url.get_secret_value().encode()).hexdigest()[:8]}"


def alertmanagers(routes: Sequence[Route]) -> Iterator[tuple[Alertmanager, frozenset[Severity]]]:
    """The Alertmanagers among the routes; what fires is sent to them again and again."""
    return ((route.channel, route.severities) for route in routes if isinstance(route.channel, Alertmanager))


def outbox_routes(routes: Sequence[Route]) -> Sequence[Route]:
    """The routes whose channels get each message once, from the outbox."""
    return [route for route in routes if not isinstance(route.channel, Alertmanager)]


def _open(url: ChannelUrl) -> Channel:
    """One channel; ValueError where its URL is wrong."""
    opener = next(each for each in CHANNELS if url.scheme.lower().startswith(each.schemes))
    return opener.open(channel_name(url), url.get_secret_value())
