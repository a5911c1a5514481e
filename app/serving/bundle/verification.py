"""Try a bundle in a process of its own, before the process that serves loads it.

The file of a model holds indices that compiled code follows without looking. A crafted or damaged one can end the
process, hang it or fill the memory: so it ends, hangs or fills another one first.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from app.background import Child, ChildFailed, stand_back
from app.config.settings import Config, Serving
from app.errors import BundleError, describe_error
from app.serving.bundle.reader import libraries, read_bundle, read_manifest
from app.types import Row

MAX_VERIFY_S = 120.0
"""Time that a bundle may take to be loaded and to answer its golden rows."""
MIN_MEMORY_BYTES = 4 * 2**30
MEMORY_PER_BYTE = 32
"""Memory that a bundle may take, by the size of its files: compressed trees unpack to twenty times their size."""
MANY_ROWS = 64
MAX_REMEMBERED = 200


def verify_bundle(folder: Path, settings: Serving, *, seconds: float = MAX_VERIFY_S) -> None:
    """Load a bundle and answer its golden rows in a child process.

    Raises:
        BundleError: the bundle is refused, or the process died or took too long.
    """
    child = Child("plumbline-verification", serve_verification, folder, settings)
    start = child.fork if _is_single_threaded() else child.spawn
    start()
    try:
        refusal: str | None = child.ask(None, seconds)
    except ChildFailed as failure:
        raise BundleError(
            f"{folder}: was tried in a process of its own, and {failure}: a file of it is damaged or crafted, or needs "
            "more time or memory than a bundle may; bundle the model again"
        ) from None
    finally:
        child.end()
    if refusal is not None:
        raise BundleError(refusal)


def serve_verification(pipe: Pipe, folder: Path, settings: Serving) -> None:
    """The child's side: try the bundle once, and send the reason for a refusal, or None."""
    stand_back(0)
    with suppress(EOFError):
        pipe.recv()
        pipe.send(_refusal(folder, settings))


def _refusal(folder: Path, settings: Serving) -> str | None:
    try:
        _limit_memory(folder)
        bundle = read_bundle(
            folder,
            allow_pickle=settings.allow_pickle,
            trusted_types=settings.trusted_types,
            runtime=settings.runtime,
        )
        rows: Sequence[Row] = (list(bundle.golden_rows) * MANY_ROWS)[:MANY_ROWS]
        bundle.estimator.predict(rows)
    except BundleError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever loading foreign code raises is the reason of the refusal
        return f"{folder}: cannot be loaded ({describe_error(error)}); bundle the model again"
    return None


def _limit_memory(folder: Path) -> None:
    """Let an allocation fail that no honest bundle of this size needs.

    A crash leaves no core behind.
    """
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    limits = {
        resource.RLIMIT_DATA: MIN_MEMORY_BYTES + MEMORY_PER_BYTE * size,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _is_single_threaded() -> bool:
    """Tell whether a copy of this process is safe.

    No other thread holds a lock that the copy would wait for.
    """
    return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1


class Verifier:
    """Tries each bundle once, and remembers in a file beside the store what passed.

    What passed is known by the SHA-256 of its manifest, which names those of all its files, by the versions of the
    libraries and by the settings: an honest start pays once.

    Args:
        memory: the file; None remembers nothing.
    """

    def __init__(self, settings: Serving, memory: Path | None) -> None:
        self._settings = settings
        self._memory = memory

    def verify(self, folder: Path) -> None:
        """Try a bundle, unless it has passed before.

        Raises:
            BundleError: see :func:`verify_bundle`.
        """
        key = self._key(folder)
        passed = self._read()
        if key in passed:
            return
        verify_bundle(folder, self._settings)
        self._write([*passed, key][-MAX_REMEMBERED:])

    def _key(self, folder: Path) -> str:
        _, sha256 = read_manifest(folder)
        settings = self._settings
        chosen = [settings.allow_pickle, list(settings.trusted_types), settings.runtime, sys.version]
        return hashlib.sha256(json.dumps([sha256, libraries(), chosen], sort_keys=True).encode()).hexdigest()

    def _read(self) -> list[str]:
        with suppress(OSError, ValueError):
            passed = json.loads(self._memory.read_text(encoding="ascii")) if self._memory else []
            return [key for key in passed if isinstance(key, str)] if isinstance(passed, list) else []
        return []

    def _write(self, passed: Sequence[str]) -> None:
        if self._memory is None:
            return
        part = self._memory.with_name(f".{self._memory.name}.part")
        with suppress(OSError):  # on a file system that cannot be written, each start tries the bundle again
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(passed, file)
            part.replace(self._memory)


def memory_of(config: Config) -> Path:
    """The file that remembers what passed: beside the store, or beside the spool."""
    url = config.store.url.get_secret_value()
    store = Path(url.removeprefix("sqlite:///").partition("?")[0]) if url.startswith("sqlite:///") else None
    file = store or config.store.spool_path
    return file.with_name(f"{file.name}.verified")
