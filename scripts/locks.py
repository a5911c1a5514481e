"""Check that each lock is complete by itself: installed into an empty environment, nothing is missing there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.environment import CACHE, DEVELOPMENT, PROJECT, ROOT, RUNTIME, check_python, install
from scripts.steps import finish, run_step


def check_lock(lock: str, extras: list[str], name: str, *, root: Path = ROOT) -> None:
    """Raise StepFailed where a lock lacks what the project requires with these extras.

    Args:
        name: the project's name.
    """
    CACHE.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="lock-", dir=CACHE) as folder:
        environment, log = Path(folder) / "environment", CACHE / f"{lock}.log"
        install(lock, environment, log, root=root)
        python = environment / "bin" / "python"
        broken: list[str | Path] = [python, "-m", "pip", "check"]
        lacking: list[str | Path] = [python, "-m", "scripts.complete", name, *extras]
        run_step("complete", f"{lock}, with {', '.join(extras)}", [broken, lacking], log)


def main() -> None:
    """Check both locks."""
    check_python()
    project = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))["project"]
    check_lock(RUNTIME, ["build"], project["name"])
    check_lock(DEVELOPMENT, list(project["optional-dependencies"]), project["name"])


if __name__ == "__main__":
    finish(main)
