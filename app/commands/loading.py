"""Send outcomes to a running service, many a request, so that an interrupted load goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path

import httpx
import orjson

from app.commands.outcome_files import Line
from app.errors import PlumblineError
from app.types import Json

ROWS_A_REQUEST = 1_000
TRIES = 8
_TAKEN = frozenset({"matched", "duplicate", "revised", "pending"})
_NO_OUTCOME = "without an outcome"
_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


@dataclass(slots=True)
class Progress:
    """How far a file has been loaded, in a small file beside it that goes when the load is done.

    It counts for the file as it was: after a change of its size or its time the load begins anew.
    """

    file: Path
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, file: Path) -> Progress:
        """Read it where it is there and speaks of this file."""
        try:
            found = json.loads(cls(file).path.read_bytes())
            if found["of"] == _identity(file):
                return cls(file, found["rows"], Counter(found["counts"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(file)

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.file.with_name(f"{self.file.name}.progress")

    def save(self) -> None:
        """Write it, whole or not at all."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_bytes(orjson.dumps({"of": _identity(self.file), "rows": self.rows, "counts": self.counts}))
        part.replace(self.path)

    def forget(self) -> None:
        """Remove it: the load is done."""
        self.path.unlink(missing_ok=True)


class Loader:
    """Loads the rows of one file; those that the service does not take are listed in ``refused``."""

    def __init__(self, client: httpx.Client, progress: Progress, refused: Path, wait: Callable[[float], None]) -> None:
        self._client = client
        self._progress = progress
        self._refused = refused
        self._wait = wait

    def load(self, lines: Iterable[Line], advance: Callable[[int], None]) -> None:
        """Send every row that was not sent before; ``advance`` hears how far the file is read.

        Raises:
            PlumblineError: the service refuses, or does not answer; what was sent before is noted.
        """
        if not self._progress.rows:
            self._refused.unlink(missing_ok=True)
        for part in _chunks(line for line in lines if line.number > self._progress.rows):
            refused = self._send(part)
            if refused:
                with self._refused.open("ab") as file:
                    file.writelines(orjson.dumps(row) + b"\n" for row in refused)
            self._progress.rows = part[-1].number
            self._progress.save()
            advance(part[-1].done)

    def _send(self, part: Sequence[Line]) -> list[Json]:
        """Send the rows that can be sent; those that were not taken, with the reason."""
        counts = self._progress.counts
        refused = [_refusal(line, "invalid", line.problem) for line in part if line.problem is not None]
        sent = [line for line in part if line.item is not None]
        counts["invalid"] += len(refused)
        counts[_NO_OUTCOME] += len(part) - len(refused) - len(sent)
        if not sent:
            return refused
        answer = self._post(orjson.dumps({"outcomes": [line.item for line in sent]}))
        counts.update(answer["counts"])
        answered = zip(sent, answer["results"], strict=True)
        wrong = [(line, result) for line, result in answered if result["status"] not in _TAKEN]
        return refused + [_refusal(line, result["status"], result["detail"]) for line, result in wrong]

    def _post(self, body: bytes) -> Json:
        """The answer to one request, tried again while the service is full or away: a duplicate does no harm."""
        for attempt in range(TRIES):
            try:
                answer = self._client.post("/outcome", content=body, headers={"content-type": "application/json"})
                if answer.status_code == HTTPStatus.OK:
                    found: Json = orjson.loads(answer.content)
                    return found
                if answer.status_code not in _LATER:
                    raise PlumblineError(f"the service answers {answer.status_code}: {answer.text[:500]}")
                pause = float(answer.headers.get("retry-after") or 2**attempt / 4)
            except httpx.TransportError:
                pause = 2**attempt / 4
            self._wait(pause)
        raise PlumblineError(
            f"the service takes no outcomes after {TRIES} tries; {self._progress.rows} rows are loaded, "
            "and the same command goes on from there"
        )


def refusals(counts: Counter[str]) -> int:
    """How many rows were not taken."""
    return sum(count for status, count in counts.items() if status not in _TAKEN | {_NO_OUTCOME})


def _refusal(line: Line, status: str, detail: str | None) -> Json:
    return {"row": line.number, "status": status, "detail": detail, "outcome": line.item}


def _identity(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while part := list(islice(lines, ROWS_A_REQUEST)):
        yield part
