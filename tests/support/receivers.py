"""Where messages arrive in the tests: a web server and a mail server, real ones, that may be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from tests.support.deadlines import wait_until
from tests.support.processes import free_port


class Webhook:
    """A web server that keeps the JSON bodies that it took, and the headers of each by name in lower case.

    Attributes:
        answers: statuses to answer with, one after the other; then 200.
        hangs: while it is set, nothing is answered.
        asked: set once somebody has tried, answered or not.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.taken: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.tried = 0
        self.answers: list[int] = []
        self.hangs = threading.Event()
        self.released = threading.Event()
        self.asked = threading.Event()

    @property
    def titles(self) -> list[str]:
        """The titles of the messages that arrived."""
        return [body["title"] for body in self.taken]

    def wait_for(self, count: int) -> None:
        """Return when so many messages have arrived."""
        wait_until(lambda: len(self.taken) >= count, lambda: f"{len(self.taken)} of {count} messages arrived")

    @property
    def url(self) -> str:
        """Its URL, as apprise takes it."""
        return f"json://127.0.0.1:{self.port}/hook"


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    """A running web server."""
    receiver = Webhook(port or free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            receiver.tried += 1
            receiver.asked.set()
            if receiver.hangs.is_set():
                receiver.released.wait()
            status = receiver.answers.pop(0) if receiver.answers else 200
            if status < 300:
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.taken.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mailbox:
    """Keeps the subject and the text of each mail that arrives."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - its name in aiosmtpd
        """Take one mail."""
        mail = message_from_bytes(envelope.content, policy=default)
        text = mail.get_body(("plain",))
        self.mails.append((str(mail["subject"]), text.get_content() if text else ""))
        return "250 OK"


@contextmanager
def mailbox(port: int) -> Iterator[Mailbox]:
    """A running mail server."""
    kept = Mailbox()
    controller = Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The address of a web server that answers everything with one status and an empty object."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET  # noqa: N815 - its name in http.server
        do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
