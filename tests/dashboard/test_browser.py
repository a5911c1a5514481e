"""The dashboard as a browser shows it, over a running service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.bundling import build_bundle
from tests.support.browser import dump
from tests.support.processes import Service, serving

HOSTILE = (
    "<img src=x onerror=document.title='stolen'>",
    "</script><script>document.title='stolen'</script>",
    "c & <b>",
)
"""Names of features and of categories, all of which reach the page."""
ROWS = 300
SLOW = {"DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over a model whose features and categories have hostile names."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(7)
    data = pd.DataFrame({name: rng.choice(HOSTILE, ROWS) for name in HOSTILE[:2]})
    data["y"] = np.where(data[HOSTILE[0]] == HOSTILE[0], "yes", "no")
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(data[list(HOSTILE[:2])], data["y"])
    holdout = data.sample(ROWS, replace=True, random_state=7)
    build_bundle(model, data=data, holdout=holdout, target="y", name="hostile", models=folder)
    with serving(folder, models=folder, settings=SLOW | {"SERVING__ACTIVE": "hostile"}) as service:
        yield service


def show(service: Service, profile: Path) -> str:
    """The dashboard's elements."""
    return dump(f"http://127.0.0.1:{service.port}/dashboard", profile)


def tile(html: str, name: str) -> str:
    """The headline of one of the page's answers."""
    found = re.search(rf'id="{name}".*?class="headline">([^<]*)<', html, flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def alarmed(service: Service) -> Service:
    """The service after drifted rows, each with an outcome that contradicts its answer, and a check."""
    rows = [dict.fromkeys(HOSTILE[:2], HOSTILE[0])] * ROWS
    _, answer = service.call("POST", "/predict", {"instances": rows})
    flip = {"yes": "no", "no": "yes"}
    outcomes = [
        {"prediction_id": given["prediction_id"], "outcome": flip[given["prediction"]]}
        for given in answer["predictions"]
    ]
    service.call("POST", "/outcome", {"outcomes": outcomes})
    service.call("POST", "/checks")
    return service


def test_before_the_first_check(service: Service, tmp_path: Path) -> None:
    """A fresh service shows that it serves, and says that nothing has been checked instead of showing empty charts."""
    html = show(service, tmp_path)

    assert re.search(r"<title>serving; no check yet · Plumbline</title>", html)
    assert tile(html, "serving") == "Yes"
    assert tile(html, "right") == "Not known yet"
    assert "no check has run yet" in html


def test_a_check_that_found_drift(alarmed: Service, tmp_path: Path) -> None:
    """After drifted, wrongly answered rows the page says so, and hostile names are text and nothing else."""
    html = show(alarmed, tmp_path)

    assert re.search(r"<title>critical: accuracy dropped · Plumbline</title>", html)
    assert tile(html, "serving") == "Yes"
    assert tile(html, "right") == "No: degraded"
    assert tile(html, "drift") == "Yes: 100 % of features"
    assert f"{ROWS} rows" in html
    assert "&lt;img src=x onerror=" in html
    assert not re.search(r"<(img|b)[ >]", html)
    assert re.search(r"<svg[^>]*>.*<rect class=.now.", html)
    assert re.search(r"<text[^>]*>&lt;img", html)


def test_silences_are_shown_before_and_while_they_last(alarmed: Service, tmp_path: Path) -> None:
    """A planned maintenance window and a running silence say what they cover and why; their words are text."""
    ends = []
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for reason, starts in (("a <b>release</b>", tomorrow), ("a test", None)):
        body = {"matcher": {"severity": "low"}, "duration": "1h", "reason": reason, "starts_at": starts}
        ends.append(alarmed.call("POST", "/alerts/silences", body)[1]["silence_id"])

    html = show(alarmed, tmp_path)
    for silence_id in ends:
        alarmed.call("DELETE", f"/alerts/silences/{silence_id}")

    assert re.search(r"Silence planned</strong> . severity low from .* to .*: a &lt;b&gt;release&lt;/b&gt;<", html)
    assert re.search(r"<strong>Silence</strong> . severity low until .*: a test<", html)


def test_who_is_on_an_alert_is_shown(alarmed: Service, tmp_path: Path) -> None:
    """An acknowledged alert stays in the headline, a silenced one leaves it; both say what they are."""
    _, answer = alarmed.call("GET", "/alerts")
    first, *others = answer["alerts"]
    assert others
    alarmed.call("POST", f"/alerts/{first['alert_id']}/acknowledge")
    for alert in others:
        silence = {"matcher": {"rule": alert["rule"]}, "duration": "1h", "reason": "a test"}
        alarmed.call("POST", "/alerts/silences", silence)

    html = show(alarmed, tmp_path)

    assert re.search(r"<title>critical: accuracy dropped · Plumbline</title>", html)
    assert html.count(">acknowledged</p>") == 1
    assert html.count('<span class="tag">silenced</span>') == len(others)
    assert html.count(">silenced until ") == len(others)


def test_the_documentation_is_shown_under_its_policy(service: Service, tmp_path: Path) -> None:
    """A browser runs the page's own scripts, and shows every operation."""
    shown = dump(f"http://127.0.0.1:{service.port}/docs", tmp_path)

    assert "Predict one row or many" in shown
    assert "Report the truth" in shown
