"""Count requests by route, method and status, and errors by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

STATUS_CLASSES = ("2xx", "4xx", "5xx")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
ERROR_REASONS: Mapping[int, str] = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_late",
    409: "conflict",
    413: "too_large",
    415: "media_type",
    422: "invalid",
    429: "rate_limit",
    500: "internal",
    503: "unavailable",
    504: "deadline",
}
"""The label ``reason`` of ``ml_request_errors_total`` by status; any other status from 400 on is ``other``."""


class RequestCounts(Collector):
    """``ml_requests_total`` and ``ml_request_errors_total``.

    The event loop alone counts, a group of requests at a time.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._routes: dict[tuple[str, str], None] = {}
        self._hot: tuple[str, ...] = ()
        registry.register(self)

    def add_routes(self, routes: Iterable[tuple[str, str]], hot: Iterable[str]) -> None:
        """Show these routes with their methods from the start, and the errors of the hot ones."""
        self._routes |= dict.fromkeys(routes)
        self._hot = tuple(hot)

    def count(self, method: str, route: str, statuses: Sequence[int]) -> None:
        """Count requests for one route, which are answered now."""
        known = method if method in METHODS else "other"
        for status in set(statuses):
            self._counts[known, route, status] += statuses.count(status)

    def collect(self) -> Iterator[Metric]:
        """The counts as they stand; called from the scrape's thread."""
        requests: dict[tuple[str, ...], int] = {
            (route, method, status): 0 for method, route in self._routes for status in STATUS_CLASSES
        }
        reasons = (*ERROR_REASONS.values(), "other")
        errors: dict[tuple[str, ...], int] = {(route, reason): 0 for route in self._hot for reason in reasons}
        for (method, route, status), count in dict(self._counts).items():
            group = (route, method, f"{status // 100}xx")
            requests[group] = requests.get(group, 0) + count
            if status >= min(ERROR_REASONS):
                error = (route, ERROR_REASONS.get(status, "other"))
                errors[error] = errors.get(error, 0) + count
        yield _table("ml_requests", "Requests answered, by class of status", ("route", "method", "status"), requests)
        yield _table("ml_request_errors", "Requests refused or failed, by reason", ("route", "reason"), errors)


def _table(
    name: str, help_text: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
