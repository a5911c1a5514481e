"""`plumbline selftest`: drifts injected into the loaded model's reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.commands.configuration import describe, drift_table, read_setting, selftest
from app.config.settings import Drift
from app.monitoring.power import Findings, Record
from tests.support.models.tasks import Fitted


def test_a_table_of_drifts(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """One line for each drift, with power and delay, and what the false alarms were."""
    serving = {"models": str(small_models[0]), "active": "text"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"serving": serving, "drift": {"window": {"rows": 200}}}))
    app = typer.Typer()
    app.command()(selftest)
    options = ["--config", str(tmp_path / "config.yaml"), "--model", "mixed", "--seconds", "1"]
    result = CliRunner().invoke(app, options)

    assert result.exit_code == 0, result.exception
    assert "Self-test of mixed 1" in result.stdout
    for name in ("mean + 0.2 sd", "spread x 1.2", "5 % go missing", "largest category"):
        assert name in result.stdout
    assert "quiet looks" in result.stdout
    assert "200 rows, 20 of them new" in result.stdout


@pytest.mark.parametrize(
    ("rows_per_hour", "new", "minutes"), [(None, 100, 1), (600.0, 100, 10), (60_000.0, 1000, 1), (6_000_000.0, 1000, 1)]
)
def test_traffic_decides_how_often_there_is_a_look(rows_per_hour: float | None, new: int, minutes: float) -> None:
    """A look comes when a tenth of the window is new, and no sooner than ``drift.every``."""
    setting = read_setting(Drift(), rows_per_hour)

    assert (setting.new, setting.window) == (new, 1000)
    assert setting.limits.alpha == pytest.approx(0.5 * minutes / (30 * 24 * 60))


def test_what_no_feature_can_show_is_told() -> None:
    """A drift that befalls no feature has an empty line, one that was never found no delay; in-sample is said."""
    found = Findings({"5 % go missing": Record(), "mean + 0.2 sd": Record(2, [None, None])}, looks=100, exam_alarms=1)
    table = drift_table("credit 1", found, read_setting(Drift(), None))
    lines = list(describe(found, read_setting(Drift(), None), 5000, in_sample=True))

    assert [list(column.cells) for column in table.columns][1:5] == [["0", "2"], ["-", "2"], ["-", "0%"], ["-", "-"]]
    assert "1.0% (" in lines[0]
    assert lines[-1].startswith("the model was fitted on this reference")
