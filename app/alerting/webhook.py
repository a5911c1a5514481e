"""The webhook that is asked for a new model."""

from __future__ import annotations

from app.alerting.channels import ChannelFailed
from app.configalerts import Retrain
from app.types import Json

NAME = "retrain"
"""Of the channel in the outbox, and of the event."""
ALREADY_THERE = 409
"""What a pipeline answers that knows the request's id: an earlier try has arrived, its answer was lost."""


class Webhook:
    """POSTs a stored request as JSON. A redirect is not followed: the headers are for this address alone."""

    name = NAME

    def __init__(self, settings: Retrain) -> None:
        self._settings = settings

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Post ``request``, under ``key`` as its idempotency key; the answer's body is not read."""
        import httpx

        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        url = self._settings.url.get_secret_value()
        try:
            with httpx.stream(
                "POST",
                url,
                json=body["request"],
                headers={"Idempotency-Key": body["key"], **headers},
                timeout=timeout_s,
            ) as answer:
                asked = answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ChannelFailed(f"not reached: {type(error).__name__}") from None
        if not (answer.is_success or answer.status_code == ALREADY_THERE):
            seconds = float(asked) if asked.isascii() and asked.isdigit() else None
            raise ChannelFailed(f"answered {answer.status_code}", seconds)
