"""The webhook against a real web server."""

from __future__ import annotations

import pytest

from app.alerting.channels.base import ChannelFailed
from app.alerting.retraining import Webhook
from app.config.settings import Retrain
from tests.support.deadlines import DEADLINE_S
from tests.support.receivers import webhook

BODY = {"key": "retrain-r1", "request": {"why": "it drifts"}}


def channel(port: int, **headers: str) -> Webhook:
    """The channel of a web server."""
    settings = {"url": f"http://127.0.0.1:{port}/hook?token=hush", "headers": headers}
    return Webhook(Retrain.model_validate(settings))


def test_the_request_arrives_with_its_headers() -> None:
    """The rendered body is posted alone, with the configured headers and an idempotency key."""
    with webhook() as receiver:
        channel(receiver.port, Authorization="Bearer hush").send(BODY, timeout_s=DEADLINE_S)

    assert receiver.taken == [{"why": "it drifts"}]
    assert receiver.headers[0]["authorization"] == "Bearer hush"
    assert receiver.headers[0]["idempotency-key"] == "retrain-r1"
    assert receiver.headers[0]["content-type"] == "application/json"


def test_a_request_that_is_there_already_has_arrived() -> None:
    """A pipeline that knows the key answers 409: an earlier try came through and its answer was lost."""
    with webhook() as receiver:
        receiver.answers = [409]
        channel(receiver.port).send(BODY, timeout_s=DEADLINE_S)

    assert receiver.tried == 1


@pytest.mark.parametrize("status", [302, 401, 500])
def test_what_is_not_taken_is_a_failure(status: int) -> None:
    """A redirect is not followed; whatever is no success is tried again, and says nothing of the URL."""
    with webhook() as receiver:
        receiver.answers = [status]
        with pytest.raises(ChannelFailed, match=f"^answered {status}$"):
            channel(receiver.port).send(BODY, timeout_s=DEADLINE_S)

    assert receiver.tried == 1


def test_a_webhook_that_is_down() -> None:
    """The failure names its kind alone: neither URL nor header."""
    with webhook() as receiver:
        port = receiver.port

    with pytest.raises(ChannelFailed, match=r"^not reached: ConnectError$"):
        channel(port, Authorization="Bearer hush").send(BODY, timeout_s=DEADLINE_S)
