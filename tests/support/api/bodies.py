"""Bodies of ``POST /predict`` for the bundle ``mixed``."""

from __future__ import annotations

GOOD = b'{"age": 30, "income": 1.5, "channel": "web", "member": true}'


def body_with(value: bytes, field: bytes = b"income") -> bytes:
    """A request whose one feature has this text as its value."""
    row = {b"age": b"30", b"income": b"1.5", b"channel": b'"web"', b"member": b"true", field: value}
    return b'{"features": {' + b", ".join(b'"' + name + b'": ' + text for name, text in row.items()) + b"}}"
