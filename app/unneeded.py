"""Libraries that others load wherever they are installed, and that are of no use here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder


class Hidden(MetaPathFinder):
    """Says of some libraries that they are not installed; what is loaded already stays."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Refuse what is hidden; leave every other module to the finders behind."""
        del path, target
        if fullname in self._names:
            raise ModuleNotFoundError(f"{fullname} is hidden: nothing here needs it", name=fullname)


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Hide libraries from what is imported in the block."""
    finder = Hidden(*names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
