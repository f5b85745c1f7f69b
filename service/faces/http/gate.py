"""What every HTTP request passes through: its envelope, its key, and problems in place of exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.faces.envelope import Envelope, Exchange, identify
from service.faces.http.prefix import headers_of, local_path
from service.faces.problems import http_response, internal
from service.operations.keys import Keys
from service.protocol.errors import FieldError, ProblemError, invalid_fields

log = structlog.get_logger("thick.http")

_OPEN = ("/health/", "/v2/health/", "/docs", "/openapi.json", "/ui")
"""beginnings of the paths that need no key"""


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
    """Around every request; no traceback ever reaches a client.

    Args:
        public_metrics: ``/metrics`` needs no key.
        replica: which of several processes this is.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        envelope: Envelope,
        keys: Keys,
        public_metrics: bool,
        replica: str | None = None,
    ) -> None:
        self._app = app
        self._envelope = envelope
        self._keys = keys
        self._replica = None if replica is None else replica.encode()
        self._open = (*_OPEN, "/metrics") if public_metrics else _OPEN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, method = headers_of(scope), scope["method"]
        request_id = identify(headers.get("x-request-id"))
        attributes = {"http.request.method": method, "url.path": scope["path"]}
        exchange = Exchange(method, scope["path"], "unmatched", method, headers, attributes)
        scope.setdefault("state", {}).update(arrived=exchange.arrived, request_id=request_id, headers=headers)

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
                if self._replica is not None:
                    message["headers"].append((b"thick-replica", self._replica))
            await send(message)

        async def answer(problem: ProblemError) -> None:
            if exchange.status is None:
                response = http_response(problem, scope["path"], request_id=request_id)
                await response(scope, receive, reply)

        try:
            with self._envelope.around(exchange, _status_of):
                try:
                    scope["state"]["role"] = self._role(scope, headers)
                    await self._app(scope, receive, reply)
                except ProblemError as problem:
                    await answer(problem)
                finally:
                    exchange.route = str(getattr(scope.get("route"), "path", exchange.route))
                if isinstance(exchange.status, int):
                    self._envelope.tracing.answered(f"{method} {exchange.route}", exchange.status)
        except Exception as error:
            if not _is_disconnect(error):
                log.exception("request failed", path=scope["path"])
                await answer(internal(request_id))

    def _role(self, scope: Scope, headers: Mapping[str, str]) -> Any:
        if local_path(scope).startswith(self._open):
            return self._keys.anonymous
        return self._keys.role(headers.get("authorization"))


def _status_of(failure: BaseException | None) -> int:
    """The status of a request to which nothing was answered."""
    return 500 if isinstance(failure, Exception) and not _is_disconnect(failure) else 499


def _is_disconnect(error: Exception) -> bool:
    """Whether the client went away while it was being answered: not our failure."""
    return type(error).__name__ in ("ClientDisconnect", "ClientDisconnected") or isinstance(
        error, ConnectionError
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """A problem that a route found."""
    assert isinstance(error, ProblemError)
    return http_response(error, request.url.path, request_id=request.state.request_id)


def _allowed(request: Request) -> str:
    """What the resource answers. (The router's own header names the methods of the first route of several.)"""
    routes, scope = request.app.routes, request.scope
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(found).replace("GET", "GET, HEAD")


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.scope.get("asked_method", request.method)
    if error.status_code == 405:
        allow = _allowed(request)
        problem = ProblemError("method_not_allowed", f"{method} {path}: allowed are {allow}", allow=allow)
    elif error.status_code == 404:
        problem = ProblemError(
            "not_found",
            f"{method} {path}: there is no such path; see {request.scope.get('root_path', '')}/docs",
        )
    else:
        problem = ProblemError("invalid_request", str(error.detail))
    return http_response(problem, path)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Wrong path or query parameters."""
    assert isinstance(error, RequestValidationError)
    fields = [
        FieldError(".".join(str(part) for part in item["loc"][1:]), str(item["msg"]))
        for item in error.errors()
    ]
    return http_response(invalid_fields(fields), request.url.path)
