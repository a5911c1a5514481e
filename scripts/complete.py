"""Say what an installed distribution lacks, extras included: ``python -m scripts.complete plumbline EXTRA...``.

``pip check`` reads ``coverage[toml]`` as ``coverage``, so that a lock without what the extra adds passes it.
Here each requirement is followed with its extras. Only the distributions of this Python are looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

from pip._vendor.packaging.requirements import Requirement  # what pip itself reads them by, wherever pip is


def lacking(name: str, extras: Iterable[str]) -> list[str]:
    """Each requirement, of the distribution or of what it requires, that nothing installed meets."""
    found: list[str] = []
    queue, seen = [(name, extra) for extra in ("", *extras)], set()
    while queue:
        asking = queue.pop()
        if asking in seen:
            continue
        seen.add(asking)
        for requirement in _requirements(*asking):
            try:
                version = distribution(requirement.name).version
            except PackageNotFoundError:
                found.append(f"{asking[0]} requires {requirement}, which is not installed")
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{asking[0]} requires {requirement}, and {version} is installed")
            queue += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return sorted(set(found))


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    """What a distribution requires on this Python and machine, with one of its extras or none."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


if __name__ == "__main__":
    lines = lacking(sys.argv[1], sys.argv[2:])
    print(*lines, sep="\n")
    sys.exit(bool(lines))
