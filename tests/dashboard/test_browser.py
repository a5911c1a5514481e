"""The dashboard as a browser shows it, over a running service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from app.api.endpoints.dashboard import VIEWS
from app.bundling import build_bundle
from tests.support.browser import PHONE, WIDE, chromium, reading
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault

HOSTILE = (
    "<img src=x onerror=document.title='stolen'>",
    "</script><script>document.title='stolen'</script>",
    "c & <b>",
)
"""Names of features and of categories, all of which reach the page."""
ROWS = 300
SLOW = {"DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d", "PERFORMANCE__SEGMENTS": '["region"]'}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over a model whose features and categories have hostile names."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(7)
    data = pd.DataFrame({name: rng.choice(HOSTILE, ROWS) for name in HOSTILE[:2]})
    data["y"] = np.where(data[HOSTILE[0]] == HOSTILE[0], HOSTILE[2], "no")
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(data[list(HOSTILE[:2])], data["y"])
    holdout = data.sample(ROWS, replace=True, random_state=7)
    build_bundle(model, data=data, holdout=holdout, target="y", name="hostile", models=folder)
    with serving(folder, models=folder, settings=SLOW | {"SERVING__ACTIVE": "hostile"}) as service:
        yield service


@pytest.fixture(scope="module")
def alarmed(service: Service) -> Service:
    """The service after drifted rows, each with an outcome that contradicts its answer, and checks."""
    flip = {HOSTILE[2]: "no", "no": HOSTILE[2]}
    for _ in range(2):
        rows = [dict.fromkeys(HOSTILE[:2], HOSTILE[0])] * ROWS
        _, answer = service.call("POST", "/predict", {"instances": rows, "contexts": [{"region": HOSTILE[0]}] * ROWS})
        outcomes = [
            {"prediction_id": given["prediction_id"], "outcome": flip[given["prediction"]], "value": -1.0}
            for given in answer["predictions"]
        ]
        service.call("POST", "/outcome", {"outcomes": outcomes})
        service.call("POST", "/checks")
    silence = {"matcher": {"severity": "low"}, "duration": "1h", "reason": HOSTILE[0]}
    assert service.call("POST", "/alerts/silences", silence)[0] == 200
    return service


def paths_of(service: Service) -> list[str]:
    """Every view, and those of one alert, report, pair of reports, prediction and feature."""
    alert = service.call("GET", "/alerts")[1]["items"][0]["alert_id"]
    first, *_, last = service.call("GET", "/drift/history")[1]["items"]
    prediction = service.call("GET", "/predictions?limit=1")[1]["items"][0]["prediction_id"]
    return [
        "/dashboard",
        *(f"/dashboard/{view}" for view in VIEWS),
        f"/dashboard/alerts?id={alert}",
        f"/dashboard/reports?id={first['report_id']}",
        f"/dashboard/reports?id={first['report_id']}&with={last['report_id']}",
        f"/dashboard/predictions?id={prediction}",
        "/dashboard/drift?feature=(prediction)&range=1h&zone=local",
        "/dashboard/performance?range=custom&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
    ]


def test_before_the_first_check_every_view_says_what_is_missing(browser: Browser, service: Service) -> None:
    """A fresh service shows that it serves, and says what comes instead of showing empty charts."""
    with reading(browser, service.port) as reader:
        reader.open("/dashboard")
        headline, body = reader.text("h1"), reader.text("main")
        for view in VIEWS:
            reader.open(f"/dashboard/{view}")
            assert reader.text("main")

    assert reader.faults == []
    assert headline == "Not known yet"
    assert "No check has run yet" in body


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_view_is_quiet_fits_and_keeps_names_as_text(
    browser: Browser, alarmed: Service, size: tuple[int, int]
) -> None:
    """No error, no request to elsewhere, nothing wider than the window, and markup in names is text."""
    with reading(browser, alarmed.port, size) as reader:
        for path in paths_of(alarmed):
            reader.open(path)
            assert (path, reader.overflow()) == (path, 0)
            assert (path, reader.page.locator("main img, main script, main b").count()) == (path, 0)
            assert "stolen" not in str(reader.page.title())
        reader.open("/dashboard/drift")
        shown = reader.text("main")

    assert reader.faults == []
    assert HOSTILE[0] in shown


def test_the_answer_comes_first(browser: Browser, alarmed: Service) -> None:
    """After drifted, wrongly answered rows the overview says so, with the alerts that fire."""
    with reading(browser, alarmed.port) as reader:
        reader.open("/dashboard")
        answer, shown = reader.text("h1"), reader.text("main")

    assert answer == "No"
    assert "accuracy dropped" in shown
    assert "Yes: 2 features" in shown
    assert f"{2 * ROWS} of {2 * ROWS} rows labelled" in shown


def test_figures_on_the_page_are_those_of_the_api(browser: Browser, alarmed: Service) -> None:
    """Charts have the very numbers of the history, tables those of the reports as people read them."""
    performance = alarmed.call("GET", "/performance")[1]["realised"]["metrics"]
    drift = alarmed.call("GET", "/drift")[1]["features"]
    history = alarmed.call("GET", "/performance/history")[1]["items"]
    with reading(browser, alarmed.port) as reader:
        reader.open("/dashboard/performance")
        metrics = {row[0]: row[1] for row in reader.cells("Metrics")}
        reader.page.locator("figure details.behind summary").first.click()
        behind = [row for row in reader.cells("Data of Accuracy") if row[1] == "realised"]
        reader.open("/dashboard/drift")
        ranked = {row[0]: row[2] for row in reader.cells("Features by impact")}

    assert [float(row[2]) for row in behind] == [item["values"]["accuracy"] for item in history]
    assert metrics["accuracy"] == read(performance["accuracy"]["value"])
    assert metrics["recall"] == read(performance["recall"]["value"])
    assert {name: ranked[name] for name in drift} == {name: read(entry["psi"]) for name, entry in drift.items()}


def read(value: float) -> str:
    """A number with three digits, as the page shows it."""
    return f"{value:.3g}"


def test_nothing_keeps_a_screen_reader_out(browser: Browser, alarmed: Service) -> None:
    """axe-core finds nothing serious in any view: names, roles, order, and contrast in light and dark."""
    found: dict[str, Any] = {}
    with reading(browser, alarmed.port) as reader:
        for path in paths_of(alarmed):
            for scheme in ("light", "dark"):
                reader.page.emulate_media(color_scheme=scheme)
                reader.open(path)
                violations = Axe().run(reader.page).response["violations"]
                worst = [each for each in violations if each["impact"] in ("serious", "critical")]
                for each in worst:
                    found[f"{each['id']} {scheme} {path}"] = [node["html"][:160] for node in each["nodes"][:3]]

    assert found == {}


def test_a_chart_is_read_by_keyboard_and_saved(browser: Browser, alarmed: Service) -> None:
    """Arrow keys read the values of a chart; its data are saved as CSV, its drawing as PNG."""
    with reading(browser, alarmed.port) as reader:
        reader.open("/dashboard/performance")
        chart = reader.page.locator("figure.chart").first
        chart.locator(".plot").focus()
        reader.page.keyboard.press("ArrowRight")
        told = str(chart.locator(".tip").inner_text())
        chart.locator("summary").click()
        files = []
        for button in ("Save as CSV", "Save as PNG"):
            with reader.page.expect_download() as download:
                chart.get_by_role("button", name=button).click()
            files.append(Path(download.value.path()).read_bytes())

    assert re.match(r"(realised|estimated) [\d.]+", told)
    assert files[0].startswith(b"time,series,value,low,high\r\n")
    assert files[1].startswith(b"\x89PNG")
    assert reader.faults == []


def test_a_refresh_keeps_what_the_reader_has_opened(browser: Browser, alarmed: Service) -> None:
    """New figures change the text and nothing else: an open part stays open, the focus stays where it is."""
    with reading(browser, alarmed.port) as reader:
        reader.open("/dashboard")
        reader.page.locator("figure details.behind summary").first.click()
        reader.page.locator("#controls select").first.focus()
        reader.page.evaluate("window.kept = document.querySelector('main figure'), 0")
        alarmed.call("POST", "/checks")
        checked_at = alarmed.call("GET", "/performance")[1]["checked_at"]
        reader.page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
        reader.page.get_by_text(f"{checked_at[11:19]} UTC").first.wait_for()
        same = reader.page.evaluate("window.kept === document.querySelector('main figure') && window.kept.isConnected")
        is_open = reader.page.evaluate("document.querySelector('figure details.behind').open")
        focused = reader.page.evaluate("document.activeElement.tagName")

    assert (same, is_open, focused) == (True, True, "SELECT")


def test_the_documentation_is_shown_under_its_policy(browser: Browser, service: Service) -> None:
    """A browser runs the page's own scripts, and shows every operation."""
    with reading(browser, service.port) as reader:
        reader.page.goto(f"{reader.origin}/docs")
        reader.page.get_by_text("Predict one row or many").first.wait_for()
        reader.page.get_by_text("Report the truth").first.wait_for()
