"""Declarations of an endpoint's answers and errors for OpenAPI.

The types describe: nothing is validated while a request is answered, and a test holds every answer against its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from app.config.settings import Scope
from app.types import Json

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_SCHEMAS = "#/components/schemas/"


class Error(TypedDict):
    """A refusal, or a failure; that of a 500 is an id to look for in the log."""

    detail: str


class WrongField(TypedDict):
    """One field that was refused; its value is not repeated."""

    loc: list[str]
    field: str
    """Where it is, with dots: ``features.age``."""
    expected: str
    msg: str
    """Why it was refused."""
    type: Literal["invalid"]


class WrongFields(TypedDict):
    """Every field of the request that was refused."""

    detail: list[WrongField]


WRONG_FIELD: WrongField = {
    "loc": ["body", "features", "age"],
    "field": "features.age",
    "expected": "a number",
    "msg": "got text",
    "type": "invalid",
}
_REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("The `Host` is not one that is served here", "this host is not served here: add it to server.trusted_hosts"),
    401: ("No valid API key", "send an API key as X-API-Key or Authorization: Bearer"),
    403: ("The key lacks the scope, or a page of another origin asks", "this key lacks the scope read"),
    404: ("Unknown id, name or version", "no prediction has this id"),
    408: ("The body did not arrive in time", "the body did not arrive in time"),
    409: (
        "The id has other content, or the act does not fit",
        "prediction_id a1 is stored with other features",
    ),
    413: ("Too large", "the body is larger than 8388608 bytes (server.max_body_bytes)"),
    415: ("Not JSON, or compressed by something else than gzip", "send content-type: application/json"),
    429: ("Too many requests, or wrong keys, of one caller", "too many wrong API keys from this address"),
    500: ("Internal error, with an id to look for in the log", "internal error; error id 018bcfe5-6800-7000-8000-0"),
    503: ("Full, draining or without a store: repeat with the same id", "too many rows are waiting to be stored"),
    504: ("Past the deadline: repeat with the same id", "not answered in time; repeating the same id is safe"),
}
REQUEST_ID = {"X-Request-ID": {"schema": {"type": "string"}, "description": "The caller's id, or ours; in the log too"}}
_MORE_HEADERS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}, "description": "How a key is sent"}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait"}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait"}},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an endpoint.

    Attributes:
        type: of its JSON; None where it answers none.
        name: of the schema.
        scope: what a key must have; 401, 403 and 429 follow from it.
        errors: further statuses of refusals.
        also: other statuses: a description, the type of the JSON and an example each.
        media: content that is no JSON: a schema by media type.
    """

    type: Any
    name: str
    example: object
    scope: Scope | None
    errors: tuple[int, ...]
    also: Mapping[int, tuple[str, Any, object]] = field(default_factory=dict)
    media: Mapping[str, Json] = field(default_factory=dict)

    @property
    def types(self) -> dict[str, Any]:
        """The types of all its JSON, by the names of their schemas."""
        own = {} if self.type is None else {self.name: self.type}
        return own | {type_.__name__: type_ for _, type_, _ in self.also.values()}

    def describe(self) -> Json:
        """The ``responses`` and the ``security`` of an operation."""
        reference = {"$ref": _SCHEMAS + self.name}
        content = {} if self.type is None else {"application/json": {"schema": reference, "example": self.example}}
        content |= {media: {"schema": schema} for media, schema in self.media.items()}
        more = {
            str(status): respond(text, {"$ref": _SCHEMAS + type_.__name__}, example)
            for status, (text, type_, example) in self.also.items()
        }
        guarded = (401, 403, 429) if self.scope else ()
        return {
            "responses": {
                "200": {"description": "Success", "headers": REQUEST_ID, "content": content},
                **refusals({400, 422, 500, *guarded, *self.errors}),  # 422: an unknown query parameter
                **more,
            },
            "security": security(self.scope),
        }


def answers(
    type_: Any,
    example: object,
    *,
    name: str = "",
    scope: Scope | None = None,
    errors: Iterable[int] = (),
    also: Mapping[int, tuple[str, Any, object]] | None = None,
    media: Mapping[str, Json] | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Declare what an endpoint answers, see :class:`Answer`.

    The name is by default that of the type.
    """

    def declare(endpoint: Endpoint) -> Endpoint:
        named = name or ("" if type_ is None else type_.__name__)
        answer = Answer(type_, named, example, scope, tuple(errors), also or {}, media or {})
        endpoint.__answer__ = answer  # type: ignore[attr-defined]  # functions take attributes
        return endpoint

    return declare


def answer_of(endpoint: object) -> Answer | None:
    """The declaration of an endpoint; None where there is none."""
    return getattr(endpoint, "__answer__", None)


def schemas(types: Mapping[str, Any]) -> dict[str, Json]:
    """The schemas of types and of all their parts, by name.

    A field that a type does not name is refused.
    """
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True)  # a TypedDict takes it from what it is in
    lists_of: dict[str, Any] = {name: list.__class_getitem__(each) for name, each in types.items()}
    adapters: list[Any] = [(name, "serialization", TypeAdapter(each, config=config)) for name, each in lists_of.items()]
    lists, definitions = TypeAdapter.json_schemas(adapters, ref_template=_SCHEMAS + "{model}")
    whole: dict[str, Json] = definitions["$defs"]
    for (name, _), schema in lists.items():
        whole.setdefault(str(name), schema["items"])
    return whole


def respond(description: str, schema: Json, example: object, status: int = 200) -> Json:
    """One response of an operation."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "headers": REQUEST_ID | _MORE_HEADERS.get(status, {}), "content": content}


def refusals(statuses: Iterable[int]) -> dict[str, Json]:
    """The responses of refusals and failures, by their status."""
    return {str(status): _refusal(status) for status in sorted(statuses)}


def _refusal(status: int) -> Json:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        description = "Every wrong field, what was expected, and why it was refused"
        return respond(description, {"$ref": f"{_SCHEMAS}WrongFields"}, {"detail": [WRONG_FIELD]})
    description, detail = _REFUSALS[status]
    return respond(description, {"$ref": f"{_SCHEMAS}Error"}, {"detail": detail}, status)


SECURITY_SCHEMES: Mapping[str, Json] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key made by `plumbline keys`."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, as `Authorization: Bearer`."},
}


def security(scope: Scope | None) -> list[Json]:
    """Either way to send a key, with the scope that it must have."""
    return [{scheme: [scope]} for scheme in SECURITY_SCHEMES] if scope else []
