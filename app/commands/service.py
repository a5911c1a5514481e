"""Commands against a running service, such as ``status``, ``alerts`` and ``predict``.

A failure is one plain line that says what to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import orjson
import typer

from app.commands.serve import DEFAULT_URL, ConfigFile, read_config
from app.errors import ConfigError, PlumblineError
from app.logging import printable
from app.types import Json, Micros

if TYPE_CHECKING:
    import httpx

    from app.alerting.channels.base import SendingThread

ApiKey = Annotated[
    str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key of the service; the environment keeps it secret.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as it is.")]
ModelName = Annotated[str | None, typer.Option(help="Name of the model; by default the one that answers.")]
TIMEOUT_S = 120.0
"""Longest time for an answer: an activation loads and warms a model."""
MAX_DETAIL = 500
PORTS = 65_536


def check_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        ConfigError: it is none.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) < PORTS
    except ValueError:
        whole = False
    if not whole or any(each.isspace() for each in url):
        raise ConfigError(f"--url: {url!r} is no address of a service: pass one such as {DEFAULT_URL}")
    return url.rstrip("/")


Url = Annotated[str, typer.Option(envvar="PLUMBLINE_URL", callback=check_url, help="Where the service listens.")]


class ServiceClient:
    """Asks a running service; each failure is a PlumblineError of one line."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = check_url(url)
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("--api-key: no key has such characters: pass it as it was shown")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def get(self, path: str) -> Any:
        """The answer to a GET, for which a key must have the scope read."""
        return self.call("GET", path, "read")

    def post(self, path: str, body: Json, scope: str) -> Any:
        """The answer to a POST."""
        return self.call("POST", path, scope, json=body)

    def call(self, method: str, path: str, scope: str, *, accept: Sequence[int] = (), **options: Any) -> Any:
        """The decoded answer.

        Args:
            scope: what a key must have.
            accept: other statuses than 2xx that are answers too.
        """
        import httpx

        try:
            answer = httpx.request(method, self.url + path, headers=self._headers, timeout=TIMEOUT_S, **options)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise PlumblineError(explain_failure(error, self.url)) from None
        if not (answer.is_success or answer.status_code in accept):
            raise PlumblineError(explain_refusal(answer, self.url, scope))
        try:
            return answer.json()
        except ValueError:
            raise PlumblineError(f"{self.url}{path} answers no JSON: is this a Plumbline service?") from None


def explain_failure(error: Exception, url: str) -> str:
    """Say in one line why no answer came, and what to do."""
    import httpx

    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return f"{url} is no address of a service: pass --url, such as {DEFAULT_URL}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"no service answers at {url}: start one with `plumbline serve`, or name it with --url or PLUMBLINE_URL"
    if isinstance(error, httpx.TimeoutException):
        return f"{url} gave no answer in time: look at its log, or try again"
    return f"{url} broke the connection off ({type(error).__name__}): is this a Plumbline service?"


def explain_refusal(answer: httpx.Response, url: str, scope: str) -> str:
    """Say in one line why a service refused, and what to do."""
    status, detail = answer.status_code, _detail(answer)
    wanted = f"{'scopes' if ' and ' in scope else 'scope'} {scope}"
    refusals = {
        HTTPStatus.UNAUTHORIZED: f"wants an API key with the {wanted}: pass --api-key or set PLUMBLINE_API_KEY",
        HTTPStatus.FORBIDDEN: f"refuses this API key: {detail or 'it may not'}; pass one with the {wanted}",
    }
    if status in refusals:
        return f"{url} {refusals[HTTPStatus(status)]}"
    if answer.is_redirect:
        return f"{url} answers with a redirect: pass the address itself with --url"
    if not detail:
        return f"{url} answers {status}, and not as Plumbline does: is this a Plumbline service?"
    advice = "; its log says why" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        advice = f"; try again in {answer.headers.get('retry-after', 'some')} s"
    return f"{url} answers {status}: {detail}{advice}"


def _detail(answer: httpx.Response) -> str:
    """The ``detail`` of a refusal in one line, or nothing."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    if isinstance(detail, list):
        detail = "; ".join(f"{each['field']}: {each['msg']}, expected {each['expected']}" for each in detail)
    return printable(" ".join(str(detail).split()))[:MAX_DETAIL]


def echo_json(answer: object) -> None:
    """Print an answer as JSON."""
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def status(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show how a running service is: traffic of the last hour, drift, performance, alerts.

    The exit code is 1 where it is not ready.
    """
    service = ServiceClient(url, api_key)
    ready = service.call("GET", "/health/ready", "read", accept=[HTTPStatus.SERVICE_UNAVAILABLE])
    if not ready.get("ready"):
        missing = ", ".join(name for name, there in ready.get("checks", {}).items() if not there)
        raise PlumblineError(f"{service.url} is not ready: {missing or 'it does not say why'}; its log says more")
    names = ("summary", "drift", "performance", "alerts")
    found = {"ready": ready, **{name: service.get(f"/{name}") for name in names}}
    if as_json:
        echo_json(found)
        return
    for name, text in describe_status(found).items():
        typer.echo(f"{name:12} {printable(text)}")


def describe_status(found: Mapping[str, Any]) -> dict[str, str]:
    """The lines of ``plumbline status``, by name."""
    summary, drift, performance = found["summary"], found["drift"], found["performance"]
    firing = [item for item in found["alerts"]["items"] if item["state"] in ("firing", "acknowledged", "silenced")]
    rules = ", ".join(f"{item['rule']} ({item['severity']}, {item['state']})" for item in firing)
    drifted = ", ".join(drift.get("drifted_features", ()))
    status, metrics = performance_verdict(performance)
    shown = ", ".join(f"{name} {each['value']:.3f}" for name, each in metrics.items() if each["value"] is not None)
    return {
        "service": "ready",
        "model": f"{summary['model_name']} {summary['model_version']}",
        "last hour": _traffic(summary),
        "drift": f"{drift['status']}{f': {drifted}' if drifted else ''}{_checked(drift)}",
        "performance": f"{status}{f': {shown}' if shown else ''}{_checked(performance)}",
        "alerts": f"{len(firing)} firing: {rules}" if firing else "none",
    }


def performance_verdict(report: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The status of a performance report with its basis, and the metrics of that basis.

    >>> performance_verdict({"status": "degraded", "basis": "estimated", "estimated": {"metrics": {}}})
    ('degraded by the estimate, without outcomes', {})
    """
    stands = {"realised": " by the outcomes", "estimated": " by the estimate, without outcomes"}
    basis = report.get("basis", "none")
    figures = report.get("estimated" if basis == "estimated" else "realised", {})
    return f"{report['status']}{stands.get(basis, '')}", figures.get("metrics", {})


def _traffic(summary: Mapping[str, Any]) -> str:
    if not summary["requests"]:
        return "no requests"
    seconds, share = summary["latency_seconds"], summary["success_share"]
    quantiles = (f"{name} {1000 * value:.1f} ms" for name, value in seconds.items() if value is not None)
    return f"{summary['requests']:,} requests, {share:.1%} answered; {', '.join(quantiles)}"


def _checked(report: Mapping[str, Any]) -> str:
    return f" (checked {str(report['checked_at'])[:19]}Z)" if report.get("checked_at") else f": {report.get('message')}"


def list_alerts(
    context: typer.Context,
    *,
    state: Annotated[str | None, typer.Option(help="firing, pending, acknowledged, silenced or resolved.")] = None,
    rule: Annotated[str | None, typer.Option(help="Alerts of this rule.")] = None,
    severity: Annotated[str | None, typer.Option(help="critical, high, medium or low.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Alerts that began at this RFC 3339 time or later.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most alerts.")] = 100,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts of a running service, the worst first."""
    if context.invoked_subcommand is not None:
        return
    asked = {"state": state, "rule": rule, "severity": severity, "from": start, "limit": limit}
    given = {name: each for name, each in asked.items() if each is not None}
    found = ServiceClient(url, api_key).call("GET", "/alerts", "read", params=given)
    if as_json:
        echo_json(found)
        return
    if not found["items"]:
        typer.echo("no alerts")
    for item in found["items"]:
        typer.echo(f"{item['alert_id']}  {item['severity']:8}  {item['state']:12}  {item['rule']}")
        # A message may name a class that somebody sent as an outcome.
        typer.echo(f"    {printable(item['message'])}, since {item['since'][:19]}Z")


def ack(
    alert_id: Annotated[str, typer.Argument(help="Id of the alert, as `plumbline alerts` lists it.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Say that somebody is on a firing alert."""
    path = f"/alerts/{quote(alert_id, safe='')}/acknowledge"
    item = ServiceClient(url, api_key).call("POST", path, "admin")
    typer.echo(f"{item['rule']} is acknowledged")


def silence(
    reason: Annotated[str, typer.Option(help="Why, for those who wonder.")],
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 7d.")] = "2h",
    rule: Annotated[str | None, typer.Option(help="Alerts of this rule; by default all.")] = None,
    severity: Annotated[str | None, typer.Option(help="Alerts of this severity.")] = None,
    feature: Annotated[str | None, typer.Option(help="Alerts about this feature alone.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Tell nobody of the alerts that fit, for a while."""
    matcher = {"rule": rule, "severity": severity, "feature": feature}
    body: Json = {"matcher": matcher, "duration": duration, "reason": reason}
    made = ServiceClient(url, api_key).post("/alerts/silences", body, "admin")
    typer.echo(f"silence {made['silence_id']} until {made['ends_at'][:19]}Z")


def activate(
    version: Annotated[str, typer.Argument(help="Version to serve: 2, or credit/2.")],
    model: ModelName = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Load, check and warm a version; then let it answer in the place of the active one."""
    service = ServiceClient(url, api_key)
    named, _, number = version.rpartition("/")
    name = model or named or _active(service)
    service.post(f"/models/{quote(name, safe='')}/activate", {"version": number}, "admin")
    typer.echo(f"{name} {number} answers now")


def rollback(model: ModelName = None, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Go back to the version that answered before the active one."""
    service = ServiceClient(url, api_key)
    name = model or _active(service)
    version = service.call("POST", f"/models/{quote(name, safe='')}/rollback", "admin")["version"]
    typer.echo(f"{name} {version} answers now")


def _active(service: ServiceClient) -> str:
    """The name of the model that answers."""
    return str(service.get("/summary")["model_name"])


def predict(
    row: Annotated[
        str, typer.Argument(help="Features as JSON: an object or a list; @FILE reads it, - reads the input.")
    ],
    prediction_id: Annotated[str | None, typer.Option("--id", help="Your id of the prediction.")] = None,
    model_version: Annotated[str | None, typer.Option(help="A loaded version; by default the active one.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Predict one row, and print the answer."""
    try:
        text = typer.get_text_stream("stdin").read() if row == "-" else row
        features = orjson.loads(Path(row[1:]).read_bytes() if row.startswith("@") else text)
    except OSError as error:
        raise ConfigError(f"{row[1:]}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError("""the row is no JSON: pass an object such as '{"age": 41}', a list, or @FILE""") from None
    body: Json = {"features": features} | ({} if prediction_id is None else {"prediction_id": prediction_id})
    version = "" if model_version is None else f"?model_version={quote(model_version, safe='')}"
    echo_json(ServiceClient(url, api_key).post(f"/predict{version}", body, "predict"))


def try_channels(config: ConfigFile = None) -> None:
    """Send a test message to every channel of alerts.notify; exit code 1 if one failed."""
    settings = read_config(config)
    from app.alerting.channels.base import SendingThread
    from app.alerting.channels.routes import open_channels
    from app.alerting.messages import sample_message

    routes = open_channels(settings.alerts.notify)
    if not routes:
        typer.echo("alerts.notify names no channel: nobody is told of anything")
    threads = {route.channel.name: SendingThread(route.channel) for route in routes}
    message = sample_message(settings.server.address, now=Micros(time.time_ns() // 1000))

    async def send_all() -> list[bool]:
        return list(await asyncio.gather(*(_send(name, thread, message) for name, thread in threads.items())))

    if not all(asyncio.run(send_all())):
        raise typer.Exit(1)


async def _send(name: str, thread: SendingThread, message: Json) -> bool:
    from app.alerting.channels.base import ChannelFailed

    try:
        await thread.send(message)
    except ChannelFailed as failure:
        typer.echo(f"{name}: failed: {failure}")
        return False
    typer.echo(f"{name}: sent")
    return True


def alerts() -> typer.Typer:
    """The command ``alerts``, and ``alerts test`` below it."""
    group = typer.Typer(help="List the alerts of a running service, or try the channels.", invoke_without_command=True)
    group.callback()(list_alerts)
    group.command("test")(try_channels)
    return group
