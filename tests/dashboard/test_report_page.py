"""A report as a self-contained page: what it says first, in which order, and that it is nothing but text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from app.api.endpoints.reports import PAGE_POLICY
from app.dashboard.report_page import render_report
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted

HOSTILE = "</style><script>document.title='stolen'</script>"
ROWS = 400


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service after a check of rows that are all alike, and their outcomes."""
    models, fitted = small_models
    with client_of(make_config(tmp_path_factory.mktemp("pages"), models, "mixed")) as client:
        answers = client.post("/predict", {"instances": [fitted["mixed"].rows[0]] * ROWS}).json()["predictions"]
        outcomes = [{"prediction_id": answer["prediction_id"], "outcome": "good"} for answer in answers]
        client.post("/outcome", {"outcomes": outcomes})
        yield client


@pytest.fixture(scope="module")
def stored(client: Client) -> dict[str, Any]:
    """The reports of one check, by kind."""
    ids = {report["kind"]: report["report_id"] for report in client.post("/checks").json()["reports"]}
    return {kind: client.get(f"/reports/{report_id}").json() for kind, report_id in ids.items()}


def headline(page: str) -> str:
    """The text of the page's headline."""
    found = re.search(r"<h1>(.*?)</h1>", page, flags=re.DOTALL)
    assert found is not None
    return unescape(found[1])


@pytest.mark.parametrize("kind", ["drift", "performance"])
def test_the_page_of_a_stored_report(client: Client, stored: dict[str, Any], kind: str) -> None:
    """One file, under a policy that allows its own style and nothing else, with every figure that matters."""
    answer = client.get(f"/reports/{stored[kind]['report_id']}.html")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert PAGE_POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; ")
    assert re.findall(r"<script|https?://|src=|url\(|@import|<link(?! rel=\"icon\" href=\"data:)", answer.text) == []
    assert f"{ROWS}</dd>" in answer.text or f"{ROWS} rows</dd>" in answer.text
    assert stored[kind]["report_id"] in answer.text
    assert headline(answer.text)


def test_an_unknown_report_is_404(client: Client) -> None:
    """An id that no report has, in the form of every other error."""
    answer = client.get("/reports/nobody.html")

    assert answer.status_code == 404
    assert answer.json() == {"detail": "no report has this id"}


def test_what_drifted_stands_first(stored: dict[str, Any]) -> None:
    """The headline names the drifted features by impact, and their entries are first and open."""
    report = stored["drift"]
    page = render_report(report)
    entries = report["features"]
    drifted = sorted(report["drifted_features"], key=lambda name: -entries[name]["impact"])
    order = [unescape(name) for name in re.findall(r'<summary><span class="name">(.*?)</span>', page)]
    features = [name for name in order if name in entries]

    assert drifted
    assert headline(page).startswith(drifted[0])
    assert features[: len(drifted)] == drifted
    assert sorted(features) == sorted(entries)
    assert page.count("<details open>") >= len(drifted)
    assert page.count("<svg") == sum("current" in entry for entry in entries.values()) + 2


def test_quality_and_errors_are_told(stored: dict[str, Any]) -> None:
    """Each finding's sentence and each error's reason stand on the page."""
    report = stored["drift"]
    page = unescape(render_report(report))

    assert report["data_quality"]["findings"]
    for finding in report["data_quality"]["findings"]:
        assert finding["message"] in page
    for error in report["errors"]:
        assert error["reason"] in page


def test_hostile_names_are_text(stored: dict[str, Any]) -> None:
    """Markup in the names of features, categories and messages is shown and does not run."""
    report = stored["drift"]
    entry = next(entry for entry in report["features"].values() if "categories" in entry["current"]["histogram"])
    names = {"categories": [HOSTILE] * len(entry["current"]["histogram"]["categories"])}
    entry = entry | {
        side: entry[side] | {"histogram": entry[side]["histogram"] | names} for side in ("current", "reference")
    }
    findings = [{"feature": HOSTILE, "kind": HOSTILE, "value": 1.0, "limit": 0.5, "message": HOSTILE}]
    page = render_report(
        report
        | {"features": {HOSTILE: entry}, "drifted_features": [HOSTILE], "model_name": HOSTILE, "message": HOSTILE}
        | {
            "data_quality": {"status": "warning", "findings": findings},
            "errors": [{"feature": HOSTILE, "reason": HOSTILE}],
        }
    )

    assert "<script" not in page
    assert page.count("</style>") == 1
    assert page.count("&lt;/style&gt;&lt;script&gt;") > 10


def test_a_hundred_features_stay_below_a_megabyte(stored: dict[str, Any]) -> None:
    """A wide model's report is still a file that can be sent by mail."""
    report = stored["drift"]
    entries = list(report["features"].values())
    wide = {
        f"a feature with a rather long name, number {number}": entries[number % len(entries)] for number in range(100)
    }

    assert len(render_report(report | {"features": wide}).encode()) < 500_000


@pytest.mark.parametrize("kind", ["drift", "performance"])
@pytest.mark.parametrize(
    ("status", "rest", "says"),
    [
        ("error", {"errors": [{"feature": None, "reason": "the process died"}]}, "The check failed"),
        ("insufficient_data", {"message": "20 rows, 50 are needed", "errors": []}, "Insufficient data"),
    ],
)
def test_a_report_without_a_verdict_is_a_page_too(kind: str, status: str, rest: Any, says: str) -> None:
    """A failed check, or one with too few rows, says so and why."""
    head = {"report_id": "r", "kind": kind, "model_name": "m", "model_version": "1", "status": status}
    page = render_report(head | {"checked_at": "2026-11-20T10:00:00.000000Z"} | rest)

    assert headline(page) == says
    assert "the process died" in page or "20 rows, 50 are needed" in page


def test_segments_and_the_window_before_are_told(stored: dict[str, Any]) -> None:
    """What changed within a segment, what changed of late, and why a promise does not hold."""
    entry = {"status": "drift", "drifted_features": ["age"], "features": {}}
    others = {
        "segments": {"channel": {"reason": None, "values": {"web": entry}}},
        "previous_window": {"status": "drift", "drifted_features": ["income"]},
        "limits": stored["drift"]["limits"] | {"reason": "the reference is too small"},
    }
    page = render_report(stored["drift"] | others)

    assert '<td class="name">channel = web</td><td>age</td>' in page
    assert '<dt>against the window before</dt><dd>drift <span class="about">income</span>' in page
    assert "the reference is too small" in page
