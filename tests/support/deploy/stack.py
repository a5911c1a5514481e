"""Real Prometheus and Alertmanager with the shipped files; addresses and lengths of time are those of a test."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.processes import ROOT, free_port
from tests.support.programs import require_tool

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


def query(address: str, expression: str) -> list[Any]:
    """The samples of an expression as they are now."""
    with urlopen(f"{address}/api/v1/query?query={quote(expression)}", timeout=DEADLINE_S) as answer:  # noqa: S310 - our own address
        return list(json.load(answer)["data"]["result"])


@contextmanager
def prometheus(folder: Path, target: int, alertmanager: str | None = None) -> Iterator[str]:
    """A Prometheus with the shipped configuration that scrapes 127.0.0.1:``target`` every second; its address.

    With an Alertmanager, alerts fire at once: their ``for`` is 0.
    """
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [_rules(folder, name, at_once=alertmanager is not None) for name in config["rule_files"]]
    [notified] = config["alerting"]["alertmanagers"]
    notified["static_configs"] = [{"targets": [alertmanager] if alertmanager else []}]
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}")
    program = require_tool("prometheus")
    with _running([program, *options, f"--web.listen-address={address}"], folder / "prometheus.log"):
        yield f"http://{address}"


def _rules(folder: Path, name: str, *, at_once: bool) -> str:
    rules = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if at_once):
        rule.pop("for", None)
    (folder / name).write_text(json.dumps(rules), encoding="utf-8")
    return str(folder / name)


@contextmanager
def alertmanager(folder: Path, hook: int, mail: int) -> Iterator[str]:
    """An Alertmanager with the shipped routes, receivers and inhibitions; its address.

    Slack and Telegram are a web server at ``hook``, the mail server is at ``mail``, and groups are told at once.
    """
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    config["global"] = {"smtp_smarthost": f"127.0.0.1:{mail}", "smtp_from": "p@example.org", "smtp_require_tls": False}
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        for slack in receiver.get("slack_configs", ()):
            del slack["api_url_file"]
            slack["api_url"] = f"http://127.0.0.1:{hook}/slack"
        for telegram in receiver.get("telegram_configs", ()):
            del telegram["bot_token_file"]
            telegram |= {"bot_token": "1:a", "api_url": f"http://127.0.0.1:{hook}"}
    (folder / "alertmanager.yml").write_text(json.dumps(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alertmanager'}")
    program = require_tool("alertmanager", "prometheus-alertmanager")
    words: Sequence[str] = [program, *options, f"--web.listen-address={address}", "--cluster.listen-address="]
    with _running(words, folder / "alertmanager.log"):
        wait_until(lambda: _is_ready(address))
        yield address


def _is_ready(address: str) -> bool:
    with suppress(OSError), urlopen(f"http://{address}/-/ready", timeout=DEADLINE_S):
        return True
    return False


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=log.parent, stdout=sink, stderr=sink)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)
