"""Try bundles one after another, each in processes of its own: ``python -m tests.support.models.trial``.

It reads requests, a line of JSON each, and writes what became of the bundle: why it was refused, or what it answered.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from app.errors import BundleError
from app.serving.bundle.verification import MAX_VERIFY_S, Verifier, memory_of
from app.types import Json
from tests.support.application import client_of, make_config
from tests.support.processes import ROOT

LOADED = ("onnxruntime", "skops.io", "sklearn.linear_model", "sklearn.pipeline", "app.monitoring.drift.report")
"""What every trial needs, imported once."""
PATHS = ("/openapi.json", "/models", "/metrics", "/drift", "/performance", "/dashboard")


class Trials:
    """The other side of :func:`main`."""

    def __init__(self) -> None:
        environ = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # no thread may stand beside a fork
        command = [sys.executable, "-W", "ignore", "-m", "tests.support.models.trial"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def of(self, folder: Path, rows: Sequence[Sequence[object]], runtime: str = "auto") -> Json:
        """What became of one bundle, and of these rows where it is served."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(folder), runtime, rows]), file=self._process.stdin, flush=True)
        found: Json = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        """End the process."""
        with self._process as process:
            process.kill()


@contextmanager
def trials() -> Iterator[Trials]:
    """A process that tries bundles."""
    made = Trials()
    try:
        yield made
    finally:
        made.end()


def main() -> None:
    """Answer until there is no more to try."""
    for module in LOADED:
        import_module(module)
    for line in sys.stdin:
        folder, runtime, rows = json.loads(line)
        sys.stdout.write(f"{json.dumps(_try(Path(folder), runtime, rows))}\n")
        sys.stdout.flush()


def _try(folder: Path, runtime: str, rows: Sequence[Sequence[object]]) -> Json:
    """What became of one bundle; a copy of this process has one thread, so that it can be copied again."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, folder, runtime, rows))
    process.start()
    theirs.close()
    try:
        found: Json = ours.recv() if ours.poll(2 * MAX_VERIFY_S) else {"failed": "took too long"}
    except EOFError:
        found = {"failed": "the process died"}
    process.kill()
    process.join()
    return found | {"bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}


def _serve(pipe: Pipe, folder: Path, runtime: str, rows: Sequence[Sequence[object]]) -> None:
    """Verify a bundle as a start does, then ask a service for all that it may say about it."""
    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as sink:  # noqa: PTH123 - no path of ours
        os.dup2(sink.fileno(), 1)
        config = make_config(Path(place), folder.parents[1], "/".join(folder.parts[-2:]), serving={"runtime": runtime})
        try:
            Verifier(config.serving, memory_of(config)).verify(folder)
            with client_of(config) as client:
                told = {path: client.get(path).status_code for path in (*PATHS, f"/models/{folder.parts[-2]}")}
                answers = [client.post("/predict", {"features": row}) for row in rows]
                told["/metrics"] = client.get("/metrics").status_code
            values = [{**answer.json(), "prediction_id": "", "status": answer.status_code} for answer in answers]
            pipe.send({"paths": told, "answers": values})
        except BundleError as error:
            pipe.send({"refused": str(error)})
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            pipe.send({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
