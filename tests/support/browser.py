"""A headless Chromium, where one is installed; in CI there must be one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.deadlines import DEADLINE_S
from tests.support.programs import require_tool

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1440,900"
)
PATIENCE_MS = 5000
"""Virtual time that the page has to load; it passes as fast as the page is done with its work."""


def dump(url: str, profile: Path) -> str:
    """The page's elements as HTML after its scripts ran."""
    chromium = require_tool("chromium", "chromium-browser", "google-chrome")
    options = [*FLAGS.split(), f"--user-data-dir={profile}", f"--virtual-time-budget={PATIENCE_MS}"]
    ran = subprocess.run([chromium, *options, "--dump-dom", url], capture_output=True, timeout=DEADLINE_S, check=True)
    return ran.stdout.decode()
