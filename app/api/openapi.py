"""``/docs`` and ``/openapi.json``.

They are generated from the loaded model's own schema, with a working example.

No network needed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import orjson
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from app.api.dependencies import Services, ServicesDep
from app.api.documentation import (
    REQUEST_ID,
    SECURITY_SCHEMES,
    Answer,
    Error,
    WrongFields,
    answer_of,
    refusals,
    schemas,
    security,
)
from app.api.endpoints.outcome import OutcomesTaken, OutcomeTaken
from app.api.endpoints.outcome_schema import OutcomeBody, OutcomesBody
from app.api.examples import synthetic_rows
from app.api.http import bytes_response, client_of
from app.serving.registry import Model
from app.types import PREDICTION_ID, Json, ModelSchema, Row, label_keys, named
from app.types import Answer as ModelAnswer

router = APIRouter(include_in_schema=False)
ASSETS = "/docs/assets"
HOT_ERRORS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
"""What ``/predict`` and ``/outcome`` may answer besides 200."""
PAGE_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GROUPS = {
    "predict": "Ask the model.",
    "outcome": "Report the truth, once it is known.",
    "predictions": "Read, export and erase what is stored.",
    "monitoring": "Drift, performance, reports and summaries: is the model still right?",
    "alerts": "Read, acknowledge and silence alerts.",
    "models": "Versions: list, activate, roll back.",
    "keys": "API keys: make, list, revoke.",
    "health": "Is the service alive and ready?",
    "metrics": "Series for Prometheus.",
}
"""The groups of operations, in the order in which somebody needs them."""
EXAMPLE_ID = "018bcfe5-6800-7000-8000-000000000000"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_CONVERTER = re.compile(r":\w+}")


async def _require_docs(request: Request, services: ServicesDep) -> None:
    services.keyring.authorise_docs(dict(request.scope["headers"]), client_of(request.scope))


DOCS = [Depends(_require_docs)]


@router.get("/docs", dependencies=DOCS)
async def swagger() -> HTMLResponse:
    """The interactive page."""
    page, policy = docs_page()
    return HTMLResponse(page, headers={"content-security-policy": policy, "cache-control": "no-cache"})


@cache
def docs_page() -> tuple[bytes, str]:
    """The page, and the policy that lets its one inline script run and no other."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Plumbline",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    body = bytes(page.body)
    hashes = [b64encode(sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(body)]
    scripts = " ".join(f"'sha256-{each}'" for each in hashes)
    return body, f"{PAGE_POLICY}; script-src 'self' {scripts}"


@router.get("/openapi.json", dependencies=DOCS)
async def openapi(request: Request) -> Response:
    """The description; see :meth:`Application.openapi_document`."""
    return bytes_response(await request.app.openapi_document())


def mount_assets(app: FastAPI) -> None:
    """Serve the page's scripts from the installed wheel."""
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")


def describe(app: FastAPI) -> Json:
    """The whole description; ``/predict`` in the terms of the active model."""
    services: Services = app.state.services
    described = get_openapi(
        title=app.title, version="1", routes=app.routes, description="Serve a model, and know when it stops being true."
    )
    model = services.registry.active
    types: dict[str, Any] = {each.__name__: each for each in (Error, WrongFields, OutcomeTaken, OutcomesTaken)}
    for path, method, answer in _declared(app):
        described["paths"][path][method] |= answer.describe()
        types |= answer.types
    bodies: Any = [(OutcomeBody, "validation"), (OutcomesBody, "validation")]
    _, definitions = models_json_schema(bodies, ref_template="#/components/schemas/{model}")
    described["components"]["schemas"] |= definitions["$defs"] | schemas(types)
    described["components"]["securitySchemes"] = dict(SECURITY_SCHEMES)
    hot = {"/predict": {"post": _predict(model)}, "/outcome": {"post": _outcome(model)}}
    described["paths"] = _in_order_of_use(hot | described["paths"])
    described["tags"] = [{"name": name, "description": text} for name, text in GROUPS.items()]
    return described


def _in_order_of_use(paths: Json) -> Json:
    """The paths by the groups of their operations; within a group as they are."""
    order = {name: place for place, name in enumerate(GROUPS)}

    def place(item: tuple[str, Any]) -> int:
        tags = [tag for operation in item[1].values() for tag in operation.get("tags", ())]
        return min((order[tag] for tag in tags if tag in order), default=len(order))

    return dict(sorted(paths.items(), key=place))


def _declared(app: FastAPI) -> Iterator[tuple[str, str, Answer]]:
    """Every operation of the framework that declares what it answers."""
    for route in iter_route_contexts(app.routes):
        answer = answer_of(getattr(route, "endpoint", None))
        if answer is not None:
            path = _CONVERTER.sub("}", str(route.path))
            yield from ((path, method.lower(), answer) for method in route.methods or ())


def _predict(model: Model) -> Json:
    row, answers = _answered(model)
    version = {
        "name": "model_version",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "A loaded version",
    }
    return _operation(
        "Predict one row or many",
        "predict",
        _body(model.validator.json_schemas(), {"one": {"features": row}, "many": {"instances": [row]}} if row else {}),
        _content(_answer_schemas(model.schema), answers),
        [version],
    )


def _answered(model: Model) -> tuple[Json | None, Json]:
    """An example of a row, and of the model's answers to it.

    There is none where the model takes none of the synthetic rows. A row of the reference is somebody's data.
    """
    from app.monitoring.reference.encoding import encode  # they load SciPy, which serving needs for nothing else
    from app.monitoring.reference.reference import load_reference

    reference = load_reference(model.bundle.folder, model.schema)

    def is_stored(row: Row) -> bool:
        same = (column == code for column, code in zip(reference.columns, encode(model.schema, [row]), strict=True))
        return bool(np.logical_and.reduce(list(same)).any())

    for row in synthetic_rows(model.schema, model.bundle.profile["features"], is_stored):
        named_row = dict(zip(model.schema.feature_names, row, strict=True))
        if (answer := ask_model(model, named_row)) is not None:
            return named_row, _shown_answer(model, answer)
    return None, {}


def ask_model(model: Model, row: Json) -> ModelAnswer | None:
    """The model's answer to a row; None where the model or its validation refuses it."""
    try:
        return model.bundle.estimator.predict(model.validator.parse(orjson.dumps({"features": row})).rows)[0]
    except Exception:  # noqa: BLE001 - a model may raise anything on a row that nobody has sent
        return None


def _shown_answer(model: Model, answer: ModelAnswer) -> Json:
    """The examples of the answers to one row and to many."""
    label: Json = {"prediction": answer.prediction}
    if answer.probabilities is not None:
        label["probabilities"] = named(model.schema.classes, answer.probabilities)
    about = {"model_name": model.schema.name, "model_version": model.schema.version}
    one = {"prediction_id": EXAMPLE_ID, **about, **label}
    return {"one": one, "many": {**about, "predictions": [{"prediction_id": EXAMPLE_ID, **label}]}}


def _answer_schemas(schema: ModelSchema) -> list[Json]:
    """The answers to one row and to many, in the terms of the model.

    A replay may be another version's.
    """
    identifier, text = {"type": "string", "pattern": f"^{PREDICTION_ID.pattern}$"}, {"type": "string"}
    label: Json = {"prediction": {"enum": list(schema.classes)} if schema.classes else {"type": "number"}}
    required = ["prediction_id", *label]
    if schema.classes:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        label["probabilities"] = _object(dict.fromkeys(label_keys(schema.classes), share))
    name, version = {"model_name": text}, {"model_version": text}
    one = _object({"prediction_id": identifier, **name, **version, **label}, [*required, *name, *version])
    item = _object({"prediction_id": identifier, **version, **label}, required)
    return [one, _object({**name, **version, "predictions": {"type": "array", "items": item}})]


def _object(properties: Json, required: Sequence[str] | None = None) -> Json:
    """An object with these properties and no others, by default all required."""
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _outcome(model: Model) -> Json:
    truth = model.schema.classes[0] if model.schema.classes else 1.0
    one = {"prediction_id": "order-7781", "outcome": truth, "observed_at": "2026-11-20T10:00:00Z"}
    taken: OutcomeTaken = {"prediction_id": "order-7781", "status": "matched"}
    many = {"results": [{**taken, "detail": None}], "counts": {"matched": 1}}
    return _operation(
        "Report the truth",
        "outcome",
        _body(_references(OutcomeBody, OutcomesBody), {"one": one, "many": {"outcomes": [one]}}),
        _content(_references(OutcomeTaken, OutcomesTaken), {"one": taken, "many": many}),
        [],
    )


def _references(*types: type) -> list[Json]:
    return [{"$ref": f"#/components/schemas/{each.__name__}"} for each in types]


def _body(forms: Sequence[Json], examples: Mapping[str, object]) -> Json:
    return {"required": True, "content": _content(forms, examples)}


def _content(forms: Sequence[Json], examples: Mapping[str, object]) -> Json:
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": {"oneOf": list(forms)}, "examples": shown}}


def _operation(
    summary: str, name: Literal["predict", "outcome"], body: Json, answer: Json, parameters: list[Json]
) -> Json:
    """An operation beside the framework; its name is its tag and the scope that a key must have."""
    stored = {"description": "Stored, and answered", "headers": REQUEST_ID, "content": answer}
    return {
        "summary": summary,
        "tags": [name],
        "operationId": name,
        "parameters": parameters,
        "requestBody": body,
        "responses": {"200": stored, **refusals(HOT_ERRORS)},
        "security": security(name),
    }
