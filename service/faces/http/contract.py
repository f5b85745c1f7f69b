"""What ``/openapi.json`` says: the contract's schemas, in both media types, with every problem that may
come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.protocol import media, requests, responses
from service.protocol.errors import PROBLEMS

DESCRIPTION = """Act, plan and imagine through hierarchical world models.

Bodies are JSON or msgpack, by `Content-Type` and `Accept`. An array is nested lists, `{"dtype", "shape",
"data"}` (data base64 in JSON, binary in msgpack) or a picture `{"encoding": "png" | "jpeg" | "webp",
"data"}`. Errors are RFC 9457 problems. Acting is exactly once: a step that is sent again is answered again,
and changes nothing."""

_COMMON = (401, 403, 500, 503)

MODELS: tuple[type[BaseModel], ...] = (
    requests.ChooseVersion,
    requests.CreateSession,
    requests.Fork,
    requests.Reset,
    requests.Act,
    requests.ActOnce,
    requests.Imagine,
    requests.ImagineOnce,
    requests.Film,
    requests.ImagineDream,
    requests.CreateDream,
    requests.DreamStep,
    requests.ResetDream,
    responses.ModelList,
    responses.ModelDetail,
    responses.Session,
    responses.SessionList,
    responses.ActResponse,
    responses.Imagination,
    responses.Dream,
    responses.DreamList,
    responses.DreamStepResponse,
    responses.Problem,
)


def documented(
    *,
    summary: str,
    answer: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    body_required: bool = True,
    status: int = 200,
    problems: Iterable[int] = (),
    also: dict[str, Any] | None = None,
    also_body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Keyword arguments of a route that describe it.

    Args:
        answer, body: schemas; both travel as JSON and msgpack.
        problems: statuses beyond those that every route may answer with.
        also: further media types of the answer, with their schemas.
        also_body: further media types of the body.
    """
    described: dict[str, Any] = {"description": "success"}
    if answer is not None:
        described["content"] = {kind: {"schema": _ref(answer)} for kind in media.BODY_TYPES}
    for kind, schema in (also or {}).items():
        described.setdefault("content", {})[kind] = {"schema": schema}
    listed: dict[int | str, Any] = {status: described}
    titles: dict[int, list[str]] = {}
    for code, kind_ in PROBLEMS.items():
        titles.setdefault(kind_.status, []).append(f"`{code}`: {kind_.title}")
    for number in sorted({*problems, *_COMMON}):
        listed[number] = {
            "description": "; ".join(titles[number]),
            "content": {media.PROBLEM_JSON: {"schema": _ref(responses.Problem)}},
        }
    extra: dict[str, Any] = {}
    if body is not None:
        content = {kind: {"schema": _ref(body)} for kind in media.BODY_TYPES}
        for kind, schema in (also_body or {}).items():
            content[kind] = {"schema": schema}
        extra["requestBody"] = {"required": body_required, "content": content}
    return {
        "summary": summary,
        "status_code": status,
        "responses": listed,
        "openapi_extra": extra,
        "response_class": _NoDefault,
    }


class _NoDefault:
    """FastAPI describes an answer by its response class; ours are described above."""

    media_type = None
    charset = "utf-8"


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, definitions = models_json_schema(
            [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
        )
        components = document.setdefault("components", {})
        components["schemas"] = definitions["$defs"]
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}]
        for path in document["paths"].values():
            for operation in path.values():
                # Every path parameter is validated by the service itself: FastAPI's own 422 never comes.
                answer = operation["responses"].get("422", {})
                if media.PROBLEM_JSON not in answer.get("content", {}):
                    operation["responses"].pop("422", None)
        for resource in ("session", "dream"):
            _link(document, resource)
        app.openapi_schema = document
    return app.openapi_schema


def _link(document: dict[str, Any], resource: str) -> None:
    """Say what can be done with a session, or a dream, wherever one is made (OpenAPI links)."""
    name = f"{resource}_id"
    links = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {name: f"$response.body#/{name}"},
            "description": operation["summary"],
        }
        for path, item in document["paths"].items()
        for operation in item.values()
        if f"{{{name}}}" in path
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            answer = operation["responses"].get("201")
            if answer is not None and path.startswith(f"/v1/{resource}s"):
                answer["links"] = links


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
