"""The user's own modules in a bundle: packed once, imported under a name of their own.

A model of the user's own classes needs their code where it is loaded. The modules go into the bundle as one archive.
They are imported below a package whose name has the archive's hash: two bundles whose modules have one name, or one
that is called like a package of this program, never meet. Inside them, ``import features`` still finds the archive's.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from app.errors import BundleError, one_line
from app.serving.runtimes.skops import own_code

CODE = "code.zip"
"""The archive's file in a bundle."""
MAX_CODE_BYTES = 16 * 2**20
"""Largest archive, and largest sum of the files in it."""
_PREFIX = "plumbline_code_"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(paths: Sequence[Path]) -> bytes:
    """Pack modules and packages into an archive, whose bytes depend on their content alone.

    Args:
        paths: ``.py`` files; packages, which are folders with ``__init__.py``; or folders of such files and packages.

    Raises:
        BundleError: a path is none of these, two of them have one name, or they are too large.
    """
    files: dict[str, bytes] = {}
    for path in paths:
        for part in _parts(path):
            for file in [part] if part.is_file() else _files(part):
                name = file.relative_to(part.parent).as_posix()
                if name in files:
                    raise BundleError(f"--code-path {path}: {name} was given before")
                files[name] = _read(file)
    if sum(map(len, files.values())) > MAX_CODE_BYTES:
        raise BundleError(f"--code-path: the code has more than {MAX_CODE_BYTES} bytes; give the modules alone")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _parts(path: Path) -> list[Path]:
    """The modules and packages that a path stands for."""
    path = path.resolve()
    if path.suffix == ".py" and path.is_file():
        return [path]
    if (path / "__init__.py").is_file():
        return [path]
    found = sorted(path.iterdir()) if path.is_dir() else []
    parts = [each for each in found if each.suffix == ".py" or (each / "__init__.py").is_file()]
    if not parts:
        raise BundleError(f"--code-path {path}: expected a .py file, a package, or a folder with some of these")
    return parts


def _files(package: Path) -> Iterator[Path]:
    for file in sorted(package.rglob("*")):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(package).parts)
        if file.is_file() and not hidden:
            yield file


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class UserCode:
    """The modules of an archive.

    Attributes:
        archive: its bytes, which the caller has verified.
    """

    archive: bytes

    @cached_property
    def package(self) -> str:
        """The package below which the modules are imported."""
        return _PREFIX + hashlib.sha256(self.archive).hexdigest()[:16]

    @cached_property
    def modules(self) -> Mapping[str, tuple[str, bytes]]:
        """Path and source of each module by its dotted name; of a package, its ``__init__.py``."""
        found = {}
        for path, content in self.files.items():
            if path.endswith(".py"):
                name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                found[name] = (path, content)
        return found

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """All files by their path.

        Raises:
            BundleError: the archive is damaged, or too large.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
                if sum(item.file_size for item in archive.infolist()) > MAX_CODE_BYTES:
                    raise BundleError(f"{CODE}: unpacks to more than {MAX_CODE_BYTES} bytes")
                return {item.filename: archive.read(item) for item in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise BundleError(f"{CODE}: cannot be read ({one_line(error)}); bundle the model again") from error

    @cached_property
    def names(self) -> frozenset[str]:
        """The first parts of the modules' names."""
        return frozenset(name.partition(".")[0] for name in self.modules)

    def owns(self, name: str) -> bool:
        """Whether a type, by its dotted name, is of these modules."""
        return name.startswith(f"{self.package}.")

    def install(self) -> None:
        """Let this process import the modules below their package."""
        if self.package not in sys.modules:
            sys.meta_path.append(_Finder(self))
            importlib.import_module(self.package)

    @contextmanager
    def under_own_names(self) -> Iterator[None]:
        """Let ``features`` stand for the archive's module while a file that names it so is loaded.

        Modules of this name that are there already are back afterwards. Use it where one thread imports.
        """
        self.install()
        aliases, before = _Aliases(self), {name: sys.modules[name] for name in self._imported()}
        for name in before:
            del sys.modules[name]
        sys.meta_path.insert(0, aliases)
        try:
            yield
        finally:
            sys.meta_path.remove(aliases)
            for name in self._imported():
                del sys.modules[name]
            sys.modules.update(before)

    def _imported(self) -> list[str]:
        """The modules of this process that have a name of the archive's."""
        names = self.names
        return [name for name in list(sys.modules) if name.partition(".")[0] in names]

    def bind(self, model: Any) -> Any:
        """Give a model whose classes of the same names are the archive's.

        Raises:
            BundleError: the model cannot be copied, or the modules cannot be imported.
        """
        try:
            content = pickle.dumps(model)
            with self.under_own_names():
                return pickle.loads(content)  # noqa: S301 - written one line above
        except ModuleNotFoundError as error:
            raise BundleError(f"--code-path: {own_code(error.name or '')}") from error
        except Exception as error:  # whatever the user's own code raises
            raise BundleError(
                f"--code-path: the model's own code fails when it is loaded ({one_line(error)})"
            ) from error


class _Finder(MetaPathFinder):
    """Finds the modules of an archive below their package."""

    def __init__(self, code: UserCode) -> None:
        self._code = code

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """The spec of the package, or of a module below it."""
        code = self._code
        if fullname == code.package:
            return ModuleSpec(fullname, _Source(code, None), is_package=True)
        name = fullname.removeprefix(f"{code.package}.")
        if name == fullname or not (name in code.modules or _is_folder(code, name)):
            return None
        found = code.modules.get(name)
        is_package = found is None or found[0].endswith("/__init__.py")
        return ModuleSpec(fullname, _Source(code, name if found else None), is_package=is_package)


def _is_folder(code: UserCode, name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in code.modules)


class _Source(Loader):
    """Runs a module's source, with an ``import`` that looks into its archive first."""

    def __init__(self, code: UserCode, name: str | None) -> None:
        self._code = code
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module."""
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import_of(self._code)}
        if self._name is not None:
            path, source = self._code.modules[self._name]
            module.__file__ = f"{CODE}/{path}"
            exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102 - permitted by the operator

    def get_data(self, path: str) -> bytes:
        """A file of the archive, for ``pkgutil.get_data``."""
        try:
            return self._code.files[path.removeprefix(f"{CODE}/")]
        except KeyError:
            raise FileNotFoundError(path) from None


def _import_of(code: UserCode) -> Callable[..., ModuleType]:
    """The ``__import__`` of an archive's modules."""

    def find(
        name: str,
        variables: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        wanted: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if level or name.partition(".")[0] not in code.names:
            return builtins.__import__(name, variables, local, wanted or (), level)
        whole = importlib.import_module(f"{code.package}.{name}")
        if not wanted:
            return importlib.import_module(f"{code.package}.{name.partition('.')[0]}")
        for part in wanted:
            if not hasattr(whole, part) and f"{name}.{part}" in code.modules:
                importlib.import_module(f"{code.package}.{name}.{part}")
        return whole

    return find


class _Aliases(MetaPathFinder, Loader):
    """Finds the modules of an archive under their own names: the same modules, not copies."""

    def __init__(self, code: UserCode) -> None:
        self._code = code
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """The spec of a module of the archive."""
        known = fullname in self._code.modules or _is_folder(self._code, fullname)
        return ModuleSpec(fullname, self) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module below its package."""
        module = importlib.import_module(f"{self._code.package}.{spec.name}")
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; only its own description comes back."""
        name = module.__name__.removeprefix(f"{self._code.package}.")
        module.__spec__ = self._specs.pop(name)
