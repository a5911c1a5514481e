"""One report as a self-contained HTML page: no script, nothing loaded, its only style inside it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from app.dashboard import words
from app.dashboard.drift_view import drift_view
from app.dashboard.histograms import bars
from app.dashboard.performance_view import performance_view
from app.dashboard.scales import scale
from app.dashboard.service_view import service_view
from app.types import Json

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_VIEWS = {"drift": drift_view, "performance": performance_view, "service": service_view}
_FILTERS = (
    words.number,
    words.share,
    words.duration,
    words.period,
    words.moment,
    words.words,
    words.listed,
    bars,
    scale,
)


def render_report(report: Json) -> str:
    """Render a report as ``GET /reports/{id}`` gives it.

    A report of a failed check, or one without a verdict, is a page as well: it says what is missing.
    """
    kind = str(report["kind"])
    template = _templates().get_template(f"report_{kind}.html")
    return template.render(report=report, policy=CONTENT_SECURITY_POLICY, **_VIEWS[kind](report))


@lru_cache(maxsize=1)
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "report"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {each.__name__: each for each in _FILTERS}
    return made
