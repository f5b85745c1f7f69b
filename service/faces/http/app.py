"""The HTTP face: a FastAPI application around a ``PlanningService``."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core import PlanningService
from service.faces.http.bodies import problem_response
from service.faces.http.contract import DESCRIPTION, describe
from service.faces.http.prefix import add_prefix, local_path
from service.faces.http.routes import act as acting
from service.faces.http.routes import docs, health, models, operations, sessions
from service.faces.http.routes import imagine as imagining
from service.faces.openpi import socket as openpi
from service.operations.keys import Keys
from service.operations.tracing import Tracing
from service.protocol.errors import FieldError, ProblemError, invalid_fields

log = structlog.get_logger("thick.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPEN = ("/health/", "/v2/health/", "/docs", "/openapi.json")
"""beginnings of the paths that need no key"""


class Application(FastAPI):
    """A FastAPI application that hands acts to their endpoint itself: they are nearly all of the traffic, and
    the router with its dependencies would take longer than everything else that is done for one."""

    direct: ASGIApp
    """where acts go"""
    prefix: str = ""
    """the path prefix under which a proxy shows the service"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            add_prefix(scope, self.prefix)
        if scope["type"] == "http" and acting.is_act(scope):
            scope["app"] = self
            await self.direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(service: PlanningService, *, tracing: Tracing | None = None) -> FastAPI:
    """The application. It does not start or stop the service."""
    app = Application(
        title="THICK planning service",
        description=DESCRIPTION,
        version="1",
        redirect_slashes=False,
        openapi_url=None,  # and /docs: routes of our own
    )
    app.prefix = service.settings.root_path
    app.state.service = service
    app.state.tracing = tracing or Tracing(service.settings)
    for module in (models, sessions, acting, imagining, health, operations, docs):
        app.include_router(module.router)
    openpi.add_to(app, service, app.state.tracing)
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    around: dict[str, Any] = {
        "service": service,
        "keys": Keys(service.settings),
        "tracing": app.state.tracing,
    }
    app.add_middleware(HeadAsGet)  # within the gate, which counts and logs what was asked
    app.add_middleware(Gate, **around)
    app.direct = Gate(acting.direct, **around)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


class HeadAsGet:
    """HEAD wherever GET is, as load balancers ask: the same status and headers, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = {**scope, "method": "GET", "asked_method": "HEAD"}
        try:
            await self._app(asked, receive, without_body)
        finally:
            scope["route"] = asked.get("route")


class Gate:
    """Around every request: its id, its key, its time; and no traceback ever reaches a client."""

    def __init__(self, app: ASGIApp, *, service: PlanningService, keys: Keys, tracing: Tracing) -> None:
        self._app = app
        self._service = service
        self._keys = keys
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = time.monotonic()
        headers = Headers(scope=scope)
        sent_id = headers.get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        scope.setdefault("state", {}).update(arrived=arrived, request_id=request_id)
        status = 0

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
            with self._tracing.request(scope["method"], headers, attributes):
                try:
                    scope["state"]["role"] = self._role(scope, headers)
                    await self._app(scope, receive, reply)
                except ProblemError as problem:
                    await self._answer(problem, scope, receive, reply, request_id, started=bool(status))
                self._tracing.answered(f"{scope['method']} {_route(scope)}", status)
        except Exception as error:
            if _is_disconnect(error):
                status = status or 499
            else:
                log.exception("request failed", path=scope["path"])
                failure = ProblemError(
                    "internal", "the service failed; its log has the reason under the request_id"
                )
                await self._answer(failure, scope, receive, reply, request_id, started=bool(status))
        finally:
            self._record(scope, status, time.monotonic() - arrived)

    def _role(self, scope: Scope, headers: Headers) -> Any:
        path = local_path(scope)
        if path.startswith(_OPEN) or (path == "/metrics" and self._service.settings.public_metrics):
            return self._keys.anonymous
        return self._keys.role(headers.get("authorization"))

    async def _answer(
        self,
        problem: ProblemError,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        *,
        started: bool,
    ) -> None:
        if not started:
            response = problem_response(problem, scope["path"], request_id=request_id)
            await response(scope, receive, send)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        self._service.metrics.request(_route(scope), status or 499, seconds)
        if self._service.settings.access_log:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status or 499,
                ms=round(1e3 * seconds, 2),
            )


def _route(scope: Scope) -> str:
    """The template of the path, such as ``/v1/sessions/{session_id}/act``."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def _is_disconnect(error: Exception) -> bool:
    """Whether the client went away while it was being answered: not our failure."""
    return type(error).__name__ in ("ClientDisconnect", "ClientDisconnected") or isinstance(error, OSError)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error, request.url.path, request_id=request.state.request_id)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.scope.get("asked_method", request.method)
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        if "GET" in allow and "HEAD" not in allow:
            allow = allow.replace("GET", "GET, HEAD")
        problem = ProblemError("method_not_allowed", f"{method} {path}: allowed are {allow}", allow=allow)
    elif error.status_code == 404:
        problem = ProblemError(
            "not_found",
            f"{method} {path}: there is no such path; see {request.scope.get('root_path', '')}/docs",
        )
    else:
        problem = ProblemError("invalid_request", str(error.detail))
    return problem_response(problem, path)


async def _validation_error(request: Request, error: Exception) -> Response:
    """Wrong path or query parameters."""
    assert isinstance(error, RequestValidationError)
    fields = [
        FieldError(".".join(str(part) for part in item["loc"][1:]), str(item["msg"]))
        for item in error.errors()
    ]
    return problem_response(invalid_fields(fields), request.url.path)
