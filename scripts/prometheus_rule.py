"""Write the rules of ``deploy/prometheus`` as a PrometheusRule: ``python -m scripts.prometheus_rule``."""

from __future__ import annotations

from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
MANIFEST = DEPLOY / "kubernetes" / "base" / "rules.yaml"
HEAD = "# Made of deploy/prometheus/recording.yml and alerts.yml by `python -m scripts.prometheus_rule`.\n"


def text() -> str:
    """The manifest."""
    groups = [
        group
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text(encoding="utf-8"))["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "plumbline", "labels": {"app.kubernetes.io/name": "plumbline"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=120)


if __name__ == "__main__":
    MANIFEST.write_text(text(), encoding="utf-8")
