"""The service report.

It has rows, errors and latency of all replicas, checks, rollbacks and outages.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, final

from typing_extensions import TypedDict

from app.reports.drift import CheckError, DriftReport, FailedCheck
from app.reports.performance import PerformanceReport


class ShareOf(TypedDict):
    """The number of bad ones among all, and of the steps that had some."""

    bad: int
    of: int
    moments: int


class Usage(TypedDict):
    """The work of the active version in the last minutes, in all replicas."""

    replicas: int
    rows: int
    failed: int
    refused: int
    error_rate: float
    requests: int
    p50_seconds: NotRequired[float | None]
    """Absent in older reports, like the next."""
    p95_seconds: NotRequired[float | None]
    p99_seconds: float | None
    failed_share: ShareOf
    slow_shares: dict[str, ShareOf]
    """Requests that took longer than so many seconds."""


class OverdueCheck(TypedDict):
    """The time for which a check has been due, and the longest allowed."""

    overdue_s: float
    limit_s: float


class Decision(TypedDict):
    """The figure that decided against a version on probation."""

    rule: str
    value: float
    limit: float
    reason: str


class RollbackEvidence(Decision):
    """A version that failed its probation, and the one that answers again."""

    version: str
    to: str


class OutageSummary(TypedDict):
    """The time for which the store was away, and the reason."""

    seconds: float
    limit_s: float
    reason: str


_ServiceWindow = TypedDict("_ServiceWindow", {"from": str, "to": str})


class ServiceWindow(_ServiceWindow):
    """The time that the figures are of."""


class ServiceFigures(TypedDict):
    """A service report without its status.

    A report of an outage or of its end has its own part alone.
    """

    window: NotRequired[ServiceWindow]
    service: NotRequired[Usage]
    checks: NotRequired[dict[str, OverdueCheck]]
    rolled_back: NotRequired[RollbackEvidence | None]
    outage: NotRequired[OutageSummary | None]
    errors: list[CheckError]


class ServiceReport(ServiceFigures):
    """The body of a service report."""

    status: str


ReportBody: TypeAlias = DriftReport | PerformanceReport | ServiceReport | FailedCheck
"""What is stored of a report, by its kind."""


class ReportHead(TypedDict):
    """The subject of a report."""

    report_id: str | None
    """Null in a comparison of two files."""
    kind: str
    model_name: str
    model_version: str
    checked_at: str


class ShownDrift(ReportHead, DriftReport):
    """A drift report as the API answers it."""


class ShownPerformance(ReportHead, PerformanceReport):
    """A performance report as the API answers it."""


class ShownService(ReportHead, ServiceReport):
    """A service report as the API answers it."""


class ShownFailure(ReportHead, FailedCheck):
    """A check that failed, as the API answers it."""


ShownReport: TypeAlias = ShownDrift | ShownPerformance | ShownService | ShownFailure


@final
class NoReport(TypedDict):
    """The answer before the first report: what is missing."""

    report_id: None
    kind: str
    model_name: str
    model_version: str
    checked_at: None
    status: Literal["insufficient_data"]
    message: str
    errors: list[CheckError]
