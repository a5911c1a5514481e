"""The contract of the API as it is published: whether an answer is what the description says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import httpx
from jsonschema import Draft202012Validator

from app.types import Json


class Contract:
    """A published description, and what it says of one answer."""

    def __init__(self, described: Json) -> None:
        self.described = described

    @cached_property
    def operations(self) -> dict[str, Json]:
        """Every operation by method and path: ``GET /drift``."""
        return {
            f"{method.upper()} {path}": operation
            for path, item in self.described["paths"].items()
            for method, operation in item.items()
        }

    @property
    def statuses(self) -> set[tuple[str, int]]:
        """Every status of every operation."""
        return {(name, int(status)) for name, operation in self.operations.items() for status in operation["responses"]}

    def violations(self, operation: str, answer: httpx.Response) -> list[str]:
        """What an answer has that the description does not say, or the other way round."""
        response = self.operations[operation]["responses"].get(str(answer.status_code))
        if response is None:
            return [f"status {answer.status_code} is not described: {answer.text}"]
        missing = [f"no header {name}" for name in response["headers"] if name not in answer.headers]
        media = answer.headers["content-type"].split(";")[0]
        if media not in response["content"]:
            return [*missing, f"content type {media} is not described"]
        if media != "application/json":
            return missing
        return missing + self.mistakes(response["content"][media]["schema"], answer.json())

    def mistakes(self, schema: Json, body: object) -> list[str]:
        """Where a body is not what a schema of the description says."""
        whole = {**schema, "components": self.described["components"]}
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in Draft202012Validator(whole).iter_errors(body)
        ]

    def examples(self) -> Iterator[tuple[str, Json, object]]:
        """Every example of an answer, with where it stands and its schema."""
        for name, operation in self.operations.items():
            for status, response in operation["responses"].items():
                content = response["content"].get("application/json")
                if content is None:
                    continue
                shown = [content["example"]] if "example" in content else []
                shown += [example["value"] for example in content.get("examples", {}).values()]
                yield from ((f"{name} {status}", content["schema"], example) for example in shown)
