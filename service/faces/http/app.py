"""The HTTP face: a FastAPI application around a ``PlanningService``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.core import PlanningService
from service.faces.envelope import Envelope
from service.faces.http.contract import DESCRIPTION, describe
from service.faces.http.gate import Gate, HeadAsGet, on_http_error, on_problem, on_validation_error
from service.faces.http.prefix import add_prefix
from service.faces.http.routes import act as acting
from service.faces.http.routes import docs, dreams, health, models, operations, sessions, watching
from service.faces.http.routes import imagine as imagining
from service.faces.openpi import socket as openpi
from service.operations.keys import Keys
from service.operations.tracing import Tracing
from service.protocol.errors import ProblemError
from service.ui import routes as ui


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
        session_id = acting.session_of(scope) if scope["type"] == "http" else None
        if session_id is not None:
            scope["app"], scope["path_params"] = self, {"session_id": session_id}
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
    envelope, keys = Envelope(service, tracing or Tracing(service.settings)), Keys(service.settings)
    app.state.service, app.state.envelope = service, envelope
    for module in (models, sessions, watching, acting, imagining, dreams, health, operations, docs, ui):
        app.include_router(module.router)
    openpi.add_to(app, service, envelope, keys)
    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    around: dict[str, Any] = {
        "envelope": envelope,
        "keys": keys,
        "public_metrics": service.settings.public_metrics,
        "replica": service.settings.replica,
    }
    app.add_middleware(HeadAsGet)  # within the gate, which counts and logs what was asked
    app.add_middleware(Gate, **around)
    app.direct = Gate(acting.direct, **around)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app
