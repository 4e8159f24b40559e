"""Problems in OpenAPI: what is documented is what is sent."""

import json
from typing import Any

from fastapi import FastAPI

from fastkit.errors._problem import MEDIA_TYPE, Problem, ProblemError, phrase

__all__ = ("document_problems", "problem_responses")

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"})
_COMPONENTS = "#/components/schemas/"
# No class has a dot in its name: these refer to ours until it is known what else the app has.
_PROBLEM: dict[str, Any] = {"$ref": f"{_COMPONENTS}fastkit.Problem"}
_VALIDATION_PROBLEM: dict[str, Any] = {"$ref": f"{_COMPONENTS}fastkit.ValidationProblem"}
_FASTAPI_422 = {"application/json": {"schema": {"$ref": f"{_COMPONENTS}HTTPValidationError"}}}

_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "title": "Problem",
        "description": "An error, as RFC 9457 has it. A kind of problem may have further members.",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "description": "What kind of problem this is.",
            },
            "title": {"type": "string", "description": "The kind of problem, for a person."},
            "status": {"type": "integer", "minimum": 100, "maximum": 599},
            "detail": {"type": "string", "description": "What went wrong this time, for a person."},
            "instance": {
                "type": "string",
                "format": "uri-reference",
                "description": "This occurrence of the problem.",
            },
            "request_id": {
                "type": "string",
                "description": "With status 500: the request's id in the server's log.",
            },
        },
        "additionalProperties": True,
    },
    "ValidationProblem": {
        "title": "ValidationProblem",
        "description": "What is invalid in the request.",
        "allOf": [
            _PROBLEM,
            {
                "type": "object",
                "required": ["errors"],
                "properties": {
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "loc", "msg"],
                            "properties": {
                                "type": {"type": "string", "description": "The kind of error."},
                                "loc": {
                                    "type": "array",
                                    "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                                    "description": "Where the value is in the request.",
                                },
                                "msg": {"type": "string", "description": "Why it is invalid."},
                            },
                        },
                    },
                },
            },
        ],
    },
}


def problem_responses(*errors: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a path operation that raises `errors`.

        @app.get("/items/{item_id}", responses=problem_responses(NotFoundError))

    Each of `errors` is an example, and one with a `type` of its own a schema. Beside them stands
    any `Problem`, for an `HTTPException` may have the same status. The schema `Problem` comes with
    `install_exception_handlers`.
    """
    by_status: dict[int, list[type[ProblemError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {
            "description": " or ".join(error.title or phrase(status) for error in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": _any_of(status, same),
                    "examples": {error.__name__: {"value": _example(error)} for error in same},
                }
            },
        }
        for status, same in by_status.items()
    }


def _any_of(status: int, errors: list[type[ProblemError]]) -> dict[str, Any]:
    # "about:blank" says no more than the status (RFC 9457, section 4.2.1): a Problem, as any other.
    schemas = [_schema(error) for error in errors if error.type != "about:blank"]
    if status == 422:
        # FastAPI adds its own only where none is declared. An HTTPException(422) has no list of
        # errors; who reads a 422 tries the first schema first.
        schemas.append(_VALIDATION_PROBLEM)
    return {"anyOf": [*schemas, _PROBLEM]} if schemas else _PROBLEM


def _schema(error: type[ProblemError]) -> dict[str, Any]:
    return {
        "title": error.__name__,
        "allOf": [_PROBLEM],
        "properties": {
            "type": {"const": error.type},
            "title": {"const": error.title or phrase(error.status)},
            "status": {"const": error.status},
        },
    }


def _example(error: type[ProblemError]) -> dict[str, Any]:
    return Problem(error.status, title=error.title, type=error.type).body()


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {MEDIA_TYPE: {"schema": schema}}


def document_problems(app: FastAPI) -> None:
    """Make `app.openapi()` tell of problems, in the way FastAPI documents for extending the
    schema."""
    generate = app.openapi
    documented: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal documented
        schema = generate()
        # FastAPI hands out one cached schema until the routes change, and then a new one.
        if schema is not documented:
            _document(schema)
            documented = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _document(schema: dict[str, Any]) -> None:
    # Not webhooks and callbacks: those are answered by others.
    for item in schema.get("paths", {}).values():
        for method, operation in item.items():
            if method in _METHODS:
                _document_operation(operation)
    schemas: dict[str, Any] = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own
        if _reference(name) not in json.dumps(schema):
            schemas.pop(name, None)
    names = {name: name if name not in schemas else f"fastkit.{name}" for name in _SCHEMAS}
    for name, free in names.items():
        schemas[free] = _SCHEMAS[name]
    text = json.dumps(schema)
    for name, free in names.items():
        text = text.replace(_reference(f"fastkit.{name}"), _reference(free))
    schema.update(json.loads(text))


def _reference(name: str) -> str:
    return f'"{_COMPONENTS}{name}"'


def _document_operation(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation.setdefault("responses", {})
    if responses.get("422", {}).get("content") == _FASTAPI_422:
        responses["422"] = {"description": phrase(422), "content": _content(_any_of(422, []))}
    responses.setdefault(
        "default", {"description": "Any other error", "content": _content(_PROBLEM)}
    )
