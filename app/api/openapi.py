"""``/docs`` and ``/openapi.json``: generated from the loaded model's own schema, with a working example.

No network needed.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from app.api.dependencies import Services
from app.api.endpoints.outcome_schema import OutcomeBody, OutcomesBody
from app.serving.model import Model
from app.types import Json, label_key

router = APIRouter(include_in_schema=False)
ASSETS = "/docs/assets"
ERRORS = {
    "401": "No valid API key",
    "403": "The key lacks the scope",
    "404": "Unknown id or version",
    "409": "The id is stored with other content",
    "413": "Too large",
    "415": "Not JSON",
    "422": "Every wrong field, what was expected, and why it was refused",
    "500": "Internal error, with an id to look for in the log",
    "503": "Full, draining or without a store: repeat with the same id",
    "504": "Past the deadline: repeat with the same id",
}


@router.get("/docs")
async def swagger() -> HTMLResponse:
    """The interactive page."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Plumbline",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )


@router.get("/openapi.json")
async def openapi(request: Request) -> dict[str, Any]:
    """The description."""
    return request.app.openapi()  # type: ignore[no-any-return]  # FastAPI's own method


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
    hot = {"/predict": {"post": _predict(model)}, "/outcome": {"post": _outcome(described, model)}}
    described["paths"] = hot | described["paths"]
    return described


def _predict(model: Model) -> Json:
    example = dict(zip(model.schema.feature_names, model.bundle.golden_rows[0], strict=True))
    answer = model.bundle.estimator.predict([model.bundle.golden_rows[0]])[0]
    label: Json = {"prediction": answer.prediction}
    if answer.probabilities is not None:
        label["probabilities"] = dict(zip(map(label_key, model.schema.classes), answer.probabilities, strict=True))
    name = {"model_name": model.schema.name, "model_version": model.schema.version}
    return _operation(
        "Predict one row or many",
        "predict",
        model.validator.json_schemas(),
        {"one": {"features": example}, "many": {"instances": [example]}},
        {"prediction_id": "018bcfe5-6800-7000-8000-000000000000", **name, **label},
        [
            {
                "name": "model_version",
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": "A loaded version",
            }
        ],
    )


def _outcome(described: Json, model: Model) -> Json:
    _, definitions = models_json_schema(
        [(OutcomeBody, "validation"), (OutcomesBody, "validation")], ref_template="#/components/schemas/{model}"
    )
    described.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    references: list[Json] = [
        {"$ref": f"#/components/schemas/{model.__name__}"} for model in (OutcomeBody, OutcomesBody)
    ]
    truth = model.schema.classes[0] if model.schema.classes else 1.0
    one = {"prediction_id": "order-7781", "outcome": truth, "observed_at": "2026-11-20T10:00:00Z"}
    examples: dict[str, Json] = {"one": one, "many": {"outcomes": [one]}}
    return _operation(
        "Report the truth", "outcome", references, examples, {"prediction_id": "order-7781", "status": "matched"}, []
    )


def _operation(
    summary: str, tag: str, schemas: list[Json], examples: dict[str, Json], answer: Json, parameters: list[Json]
) -> Json:
    body = {"schema": {"oneOf": schemas}, "examples": {name: {"value": value} for name, value in examples.items()}}
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
        for status, text in ERRORS.items()
    }
    return {
        "summary": summary,
        "tags": [tag],
        "operationId": tag,
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "Stored, and answered",
                "content": {"application/json": {"schema": {"type": "object"}, "example": answer}},
            },
            **errors,
        },
    }
