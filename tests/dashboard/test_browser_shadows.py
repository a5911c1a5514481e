"""Champion and challenger on the page, as a browser shows it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.browser import dump
from tests.support.deadlines import wait_until
from tests.support.models.versions import NAME, ROW, build_versions
from tests.support.processes import Service, serving

ROWS = 300
SETTINGS = {
    "SERVING__ACTIVE": f"{NAME}/1",
    "SERVING__SHADOWS": '["2"]',
    "DRIFT__EVERY": "1d",
    "PERFORMANCE__EVERY": "1d",
}


def compare(service: Service) -> None:
    """Have rows answered, most of which the shadow gets right, and both versions checked."""
    _, answer = service.call("POST", "/predict", {"instances": [ROW] * ROWS})
    ids = [given["prediction_id"] for given in answer["predictions"]]
    outcomes = [{"prediction_id": each, "outcome": "no" if place % 4 else "yes"} for place, each in enumerate(ids)]
    service.call("POST", "/outcome", {"outcomes": outcomes})

    def shadow_is_checked() -> bool:
        for version in "12":
            service.call("POST", f"/checks?model_version={version}")
        rows: int = service.call("GET", "/performance?model_version=2")[1]["window"]["rows"]
        return rows == ROWS

    wait_until(shadow_is_checked)


def cells(html: str) -> list[list[str]]:
    """The texts of the table's lines."""
    table = re.search(r'<section class="challengers">.*?<table>(.*?)</table>', html, flags=re.DOTALL)
    assert table is not None
    return [re.findall(r"<t[hd]>([^<]*)<", line) for line in table[1].split("</tr>")[:-1]]


def test_both_stand_side_by_side(tmp_path: Path) -> None:
    """The page compares who was right and how often they agree; without a shadow there is no such part."""
    models = tmp_path / "models"
    build_versions(models)
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        compare(service)
        _, champion, shadow = cells(dump(f"http://127.0.0.1:{service.port}/dashboard", tmp_path / "profile"))
    with serving(tmp_path, models=models, settings=SETTINGS | {"SERVING__SHADOWS": "[]"}) as service:
        html = dump(f"http://127.0.0.1:{service.port}/dashboard", tmp_path / "profile")

    assert [champion[0], *champion[1:3], champion[4], *champion[6:]] == [
        "1 (champion)", "accuracy", "0.25", "100 % of 300", "", "",
    ]  # fmt: skip
    assert [shadow[0], *shadow[1:3], shadow[4]] == ["2 (shadow)", "accuracy", "0.75", "100 % of 300"]
    assert re.fullmatch(r"\[0\.\d+, 0\.\d+\]", shadow[3])
    assert shadow[6] == "0 % of 300 rows"
    assert shadow[7].startswith("0.5 ")
    assert '<section class="challengers" hidden="">' in html
