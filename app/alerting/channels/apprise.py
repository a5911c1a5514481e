"""Chat, mail, pagers and webhooks: everything that apprise knows by a URL."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from app.alerting.channels.base import ChannelFailed
from app.types import Json

RATE_LIMIT_PAUSE_S = 60.0
"""Pause after a 429; apprise does not pass on the ``Retry-After`` beside it."""
MAP = "map"
"""For pagers: a failure opens an incident, and a success closes it."""
_STATUS = re.compile(r"\berror=(\d{3})\b")


class AppriseChannel:
    """One URL of apprise's.

    The library sends in the calling thread, so that nothing of it outlives ours; a failure is a value, and the
    texts it logs may hold parts of the URL: of these, only an HTTP status goes any further. A URL is one target: of
    several, those that took a message would get it again for as long as one of them fails.

    Raises:
        ValueError: apprise does not take the URL, or it has several targets.
    """

    schemes: ClassVar = ("",)
    """Every scheme that no other channel takes."""

    @classmethod
    def open(cls, name: str, url: str) -> AppriseChannel:
        """Open the channel of an apprise URL."""
        return cls(name, url)

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        apprise = _import_apprise()
        asset = apprise.AppriseAsset(
            app_id="Plumbline", app_desc="Plumbline", app_url="", async_mode=False, service_timeout=0
        )
        asset.http_redirects = False
        self.service = apprise.Apprise.instantiate(url, asset=asset)
        if self.service is None:
            raise ValueError("apprise does not take this URL")
        if len(self.service) > 1:
            raise ValueError("names several targets; each is an item of its own")
        self._sender = apprise.Apprise(asset=asset)
        self._sender.add(self.service)
        self.takes_key = getattr(self.service, "dedup", "") is None  # PagerDuty and its like: one incident for a key
        if self.takes_key and "action" not in parse_qs(urlsplit(url).query):
            self.service.action = MAP

    def send(self, body: Json, *, timeout_s: float) -> None:  # noqa: ARG002 - apprise's own time-outs are shorter
        """Send ``title`` and ``text`` as a message of this ``kind``.

        Kinds are failure, warning, info and success.
        """
        if self.takes_key:
            self.service.dedup = body["key"]
        result = self._sender.notify(body["text"], title=body["title"], notify_type=body["kind"], body_format="text")
        if result:
            return
        status = _status(log.message for service in result for attempt in service for log in attempt)
        if status is None:
            raise ChannelFailed("not taken, or not reached")
        raise ChannelFailed(f"answered {status}", RATE_LIMIT_PAUSE_S if status == "429" else None)


def _status(messages: Iterable[str]) -> str | None:
    """The HTTP status that apprise logged."""
    return next((found[1] for message in messages if (found := _STATUS.search(message))), None)


def _import_apprise() -> ModuleType:
    """Import apprise where a channel needs it; this takes a second and 35 MiB.

    Its log texts may hold URLs, so they are silenced.
    """
    import apprise

    apprise_log = logging.getLogger("apprise")
    apprise_log.setLevel(logging.WARNING)  # what it captures for its results, and nobody else reads
    apprise_log.propagate = False
    apprise_log.addHandler(logging.NullHandler())
    _bound_answers()
    for name in ("urllib3", "requests", "requests_oauthlib", "oauthlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return apprise


MAX_ANSWER_BYTES = 64 * 1024
MAX_ANSWER_S = 20.0


def _bound_answers() -> None:
    """Let the library behind apprise follow no redirect, and read only so much of an answer.

    A receiver could send a message, and its secrets, on to an address inside the network, or never end its answer.
    """
    sessions: Any = import_module("requests.sessions")  # apprise brings it
    plain: type = sessions.HTTPAdapter
    refused: type[Exception] = import_module("requests.exceptions").ConnectionError
    if plain.__name__ == "BoundedAdapter":
        return

    class BoundedAdapter(plain):  # type: ignore[misc]  # known when it is imported
        """Sends a request and reads its answer, up to the limits."""

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            """Give the answer."""
            answer = super().send(request, *args, **{**options, "stream": True})
            if answer.is_redirect or answer.is_permanent_redirect:
                answer.close()
                raise refused("answered with a redirect, which is not followed")
            body, until = b"", time.monotonic() + MAX_ANSWER_S
            for part in answer.iter_content(1):
                body += part
                if len(body) > MAX_ANSWER_BYTES or time.monotonic() > until:
                    answer.close()
                    raise refused("the answer does not end")
            answer._content, answer._content_consumed = body, True  # noqa: SLF001 - as reading all of it does
            return answer

    sessions.HTTPAdapter = BoundedAdapter
