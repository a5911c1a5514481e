"""The service without its fast path: every request goes over ASGI. Run it in place of ``python -m app serve``."""

from __future__ import annotations

from app.api.app import Application
from app.cli import build_cli


def main() -> None:
    """Serve, with no route for the fast path."""
    Application.hot_routes = property(lambda _: {})  # type: ignore[assignment,method-assign]
    build_cli(only_serve=True)(["serve"])


if __name__ == "__main__":
    main()
