"""``/models``: versions with role, schema, reference and baseline; activation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from app.api.dependencies import ServicesDep, page, require
from app.api.documentation import answers
from app.api.examples import CHECKED_AT
from app.api.http import json_response
from app.errors import NotFound
from app.reports.service import RollbackEvidence
from app.store.queries.versions import Activation, read_activation
from app.types import Label

router = APIRouter(prefix="/models", tags=["models"])
Caller = Annotated[str | None, Depends(require("admin"))]


class ActivateBody(BaseModel):
    """Name the version to activate."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: str = Field(min_length=1, max_length=128, description="A version on disk, as `GET /models/{name}` lists.")


class FeatureSchema(TypedDict):
    """One input of the model."""

    name: str
    type: Literal["numeric", "integer", "boolean", "categorical"]
    nullable: bool
    categories: list[str | int]
    low: float | None
    high: float | None


class AvailableVersion(TypedDict):
    """A version on disk that is not loaded."""

    version: str
    role: Literal["active", "shadow", "available"]


class DescribedVersion(AvailableVersion):
    """A version whose schema is known."""

    task: Literal["binary", "multiclass", "regression"]
    features: list[FeatureSchema]
    classes: list[Label]
    positive_class: Label | None
    threshold: float | None
    sha256: str


class BundleReference(TypedDict):
    """The reference that a version was bundled with."""

    rows: int | None
    created_at: str | None
    in_sample: bool | None


class LoadedVersion(DescribedVersion):
    """A version that is loaded."""

    baseline: Mapping[str, float | None]
    reference: BundleReference
    format: str
    runtime: str
    libraries: dict[str, str]


class Model(TypedDict):
    """A model with its versions on disk."""

    name: str
    versions: list[LoadedVersion | DescribedVersion | AvailableVersion]


class ModelPage(TypedDict):
    """The models that are served."""

    items: list[Model]
    next: str | None


class Activated(TypedDict):
    """The version that answers now, and those before it, the latest last."""

    name: str
    version: str
    earlier: list[str]


class ActivationAct(TypedDict):
    """A change of the version that answers."""

    act: Literal["activate", "rollback"]
    version: str
    by: str | None
    """The name of the key; null without keys, and where the service itself rolled back."""
    at: str
    evidence: NotRequired[RollbackEvidence]
    """Why the service itself rolled back."""


class ActivationPage(TypedDict):
    """The latest changes of the version that answers, by time."""

    items: list[ActivationAct]


_LOADED: LoadedVersion = {
    "version": "1",
    "role": "active",
    "task": "binary",
    "features": [
        {"name": "age", "type": "integer", "nullable": False, "categories": [], "low": 18.0, "high": 95.0},
        {
            "name": "channel",
            "type": "categorical",
            "nullable": True,
            "categories": ["web", "app"],
            "low": None,
            "high": None,
        },
    ],
    "classes": ["bad", "good"],
    "positive_class": "good",
    "threshold": 0.5,
    "sha256": "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a",
    "baseline": {"accuracy": 0.95, "roc_auc": 0.98},
    "reference": {"rows": 10_000, "created_at": "2026-11-01T00:00:00.000000Z", "in_sample": False},
    "format": "skops",
    "runtime": "onnx",
    "libraries": {"scikit-learn": "1.8.0", "numpy": "2.4.0"},
}
_AVAILABLE: AvailableVersion = {"version": "2", "role": "available"}
MODEL: Model = {"name": "credit", "versions": [_LOADED, _AVAILABLE]}
ACTIVATED: Activated = {"name": "credit", "version": "2", "earlier": ["1"]}


@router.get("", dependencies=[Depends(require("read"))])
@answers(ModelPage, {"items": [MODEL], "next": None}, scope="read")
async def models(services: ServicesDep) -> Response:
    """The served model with its versions."""
    model = await asyncio.to_thread(services.registry.describe, services.registry.active.schema.name)
    return json_response(page([model], 1, lambda item: item, lambda item: str(item["name"])))


@router.get("/{name}", dependencies=[Depends(require("read"))])
@answers(Model, MODEL, scope="read", errors=(404,))
async def model(name: str, services: ServicesDep) -> Response:
    """One model with its versions; loaded ones in full."""
    return json_response(await asyncio.to_thread(services.registry.describe, name))


@router.get("/{name}/activations", dependencies=[Depends(require("read"))])
@answers(
    ActivationPage,
    {"items": [{"act": "activate", "version": "2", "by": "ops", "at": CHECKED_AT}]},
    scope="read",
    errors=(404, 503),
)
async def activations(name: str, services: ServicesDep) -> Response:
    """The latest hundred activations, with who made them, the latest last."""
    _check(name, services.registry.active.schema.name)
    found = await services.readers.run(lambda connection: read_activation(connection, name))
    return json_response({"items": list(found.history) if found else []})


@router.post("/{name}/activate")
@answers(Activated, ACTIVATED, scope="admin", errors=(404, 409, 422, 503))
async def activate(name: str, body: ActivateBody, services: ServicesDep, caller: Caller) -> Response:
    """Load, verify and warm a version, then let it answer on every replica.

    Where this fails, nothing changes.

    409 when the bundle is refused, with the reason.
    """
    _check(name, services.registry.active.schema.name)
    return json_response(_told(name, await services.activator.activate(body.version, by=caller)))


@router.post("/{name}/rollback")
@answers(Activated, ACTIVATED | {"version": "1", "earlier": []}, scope="admin", errors=(404, 409, 503))
async def rollback(name: str, services: ServicesDep, caller: Caller) -> Response:
    """Activate the version again that answered before the active one; 409 if there is none."""
    _check(name, services.registry.active.schema.name)
    return json_response(_told(name, await services.activator.rollback(by=caller)))


def _check(name: str, served: str) -> None:
    if name != served:
        raise NotFound("no model of this name is served")


def _told(name: str, activation: Activation) -> Activated:
    return {
        "name": name,
        "version": activation.version,
        "earlier": list(activation.earlier),
    }
