"""Damage to the files of a bundle: to bytes anywhere, and to what a file means."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from hypothesis import strategies as some
from numpy.typing import NDArray

from tests.support.models.bundles import pin

FILES = ("bundle.yaml", "reference.npz", "profile.json", "model.onnx", "model.skops")
ODD: tuple[Any, ...] = (
    None, True, [], {}, [[]], {"a": 1}, "", "x", "\0", "\ud800", "x" * 5000, 0, -1, 1, 10**30, 0.5, 1e308, -1e308,
    float("inf"), float("nan"),
)  # fmt: skip
PLACES = some.floats(0, 1, exclude_max=True)


class Damage(NamedTuple):
    """One act on the folder of a bundle, and what is told of it."""

    told: str
    to: Callable[[Path], None]


@some.composite
def of_bytes(draw: some.DrawFn) -> Damage:
    """A file with wrong bytes, lost ones or more; as it came, or pinned by its own SHA-256 like an attacker's."""
    name = draw(some.sampled_from(FILES))
    kinds = draw(
        some.lists(some.sampled_from(("flip", "cut", "drop", "repeat", "zero", "insert")), min_size=1, max_size=4)
    )
    places = [draw(PLACES) for _ in kinds]
    size = draw(some.sampled_from((1, 8, 500)))
    is_pinned = draw(some.booleans()) and name != "bundle.yaml"

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        for kind, place in zip(kinds, places, strict=True):
            data = _with_wrong_bytes(data, kind, int(place * len(data)), size)
        _put(folder, name, data, is_pinned=is_pinned)

    return Damage(f"{name}: {kinds} of {size} bytes at {places}, pinned: {is_pinned}", damage)


def _with_wrong_bytes(data: bytes, kind: str, place: int, size: int) -> bytes:
    before, part, after = data[:place], data[place : place + size], data[place + size :]
    made = {
        "flip": bytes(byte ^ 0x55 for byte in part),
        "drop": b"",
        "repeat": part * 3,
        "zero": bytes(len(part)),
        "insert": part + b"\xff" * size,
    }
    return before if kind == "cut" else before + made[kind] + after


@some.composite
def of_values(draw: some.DrawFn) -> Damage:
    """A manifest or profile that is read, and in which a value is odd, missing, or under another name."""
    name = draw(some.sampled_from(("bundle.yaml", "profile.json")))
    way = [draw(PLACES) for _ in range(6)]
    depth, odd = draw(some.integers(1, 6)), draw(some.sampled_from(ODD))
    kind = draw(some.sampled_from(("set", "set", "set", "remove", "rename", "double")))

    def damage(folder: Path) -> None:
        load, dump = (yaml.safe_load, yaml.safe_dump) if name == "bundle.yaml" else (json.loads, json.dumps)
        data = load((folder / name).read_text(encoding="utf-8"))
        _change(data, way[:depth], kind, odd)
        _put(folder, name, dump(data).encode(), is_pinned=name != "bundle.yaml")

    return Damage(f"{name}: {kind} {odd!r:.80} at {way[:depth]}", damage)


def _change(data: Any, way: list[float], kind: str, odd: Any) -> None:
    """Go down by these places as far as there is something, and change what is there."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not keys:
            return
        key = keys[int(way[0] * len(keys))]
        if len(way) == 1 or not isinstance(data[key], dict | list):
            break
        data, way = data[key], way[1:]
    if kind == "set":
        data[key] = odd
    elif kind == "remove":
        del data[key]
    elif isinstance(data, dict):
        data[f"{odd}"[:80]] = data[key] if kind == "double" else data.pop(key)
    else:
        data.insert(key, copy.deepcopy(data[key]) if kind == "double" else odd)


@some.composite
def of_arrays(draw: some.DrawFn) -> Damage:
    """A reference whose archive is whole, and in which an array has another type, shape, length or value."""
    place, change = draw(PLACES), draw(some.sampled_from(list(ARRAYS)))

    def damage(folder: Path) -> None:
        with np.load(folder / "reference.npz") as stored:
            arrays = dict(stored)
        name = sorted(arrays)[int(place * len(arrays))]
        if change == "remove":
            del arrays[name]
        elif change == "rename":
            arrays["x99"] = arrays.pop(name)
        else:
            arrays[name] = ARRAYS[change](arrays[name])
        written = io.BytesIO()
        np.savez(written, allow_pickle=False, **arrays)
        pin(folder, "reference.npz", written.getvalue())

    return Damage(f"reference.npz: {change} at {place}", damage)


ARRAYS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "remove": lambda array: array,
    "rename": lambda array: array,
    "text": lambda array: array.astype("U8"),
    "half": lambda array: array[: len(array) // 2],
    "empty": lambda array: array[:0],
    "flat": lambda array: array.reshape(-1, 1),
    "scalar": lambda array: array.ravel()[0],
    "narrow": lambda array: array.astype(np.float32),
    "whole": lambda array: np.nan_to_num(array).astype(np.int64),
    "complex": lambda array: array.astype(np.complex128),
    "infinite": lambda array: np.full_like(array, np.inf, dtype=np.float64),
    "huge": lambda array: np.full_like(array, 1e308 if array.dtype.kind == "f" else 2**31 - 1),
    "negative": lambda array: np.full_like(array, -7),
    "missing": lambda array: np.full_like(array, np.nan if array.dtype.kind == "f" else -1),
    "reversed": lambda array: array[::-1],
    "dates": lambda array: np.nan_to_num(array).astype(np.int64).astype("datetime64[us]"),
}


def _put(folder: Path, name: str, data: bytes, *, is_pinned: bool) -> None:
    if is_pinned:
        pin(folder, name, data)
    else:
        (folder / name).write_bytes(data)
