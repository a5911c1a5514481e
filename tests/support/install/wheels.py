"""Small wheels, and the build backend of a small project: the standard library alone, as it is copied there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import ZipFile


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    extras: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel that holds one module with its version, or the given files instead."""
    module = name.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    content = {
        **({f"{module}.py": f"VERSION = {version!r}\n"} if files is None else files),
        f"{about}/METADATA": "\n".join(metadata) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*content, f"{about}/RECORD"))
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for file, text in {**content, f"{about}/RECORD": record}.items():
            archive.writestr(file, text)
    return wheel


def build_editable(wheel_directory: str, _settings: object = None, _metadata: object = None) -> str:
    """The hook that pip calls for ``--editable``; where the project has a pipe named ``slow``, it waits for its end."""
    if Path("slow").is_fifo():
        Path("slow").read_bytes()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requires = [*project["dependencies"]]
    requires += [f"{item}; extra == {extra!r}" for extra, items in extras.items() for item in items]
    path = {f"{project['name']}.pth": f"{Path.cwd()}\n"}
    folder = Path(wheel_directory)
    return write_wheel(folder, project["name"], project["version"], requires=requires, extras=extras, files=path).name
