"""``act``: the request that the service is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.core import ActAnswer, Clock
from service.faces.envelope import name_session
from service.faces.http.bodies import body_type, respond
from service.faces.http.contract import documented
from service.faces.http.prefix import local_path
from service.faces.http.routes.common import body_of, service_of, while_connected
from service.protocol import media
from service.protocol.requests import Act, ActOnce
from service.protocol.responses import ActResponse

router = APIRouter(prefix="/v1", tags=["act"])
_PROBLEMS = (404, 406, 408, 409, 410, 413, 415, 422, 429, 504)


@router.post(
    "/sessions/{session_id}/act",
    **documented(
        summary="Observe, plan, act: exactly once a step", body=Act, answer=ActResponse, problems=_PROBLEMS
    ),
)
async def act(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    return await _answer(request, partial(service.act, session_id))


@router.post(
    "/act",
    **documented(
        summary="Act in one call; creates the session where none is named",
        body=ActOnce,
        answer=ActResponse,
        problems=_PROBLEMS,
    ),
)
async def act_once(request: Request) -> Response:
    service = service_of(request)
    return await _answer(request, service.act_once)


_PREFIX, _SUFFIX = "/v1/sessions/", "/act"
_ROUTE = next(route for route in router.routes if getattr(route, "endpoint", None) is act)


def is_act(scope: Scope) -> bool:
    """Whether a request is an act of a session."""
    path = local_path(scope)
    return (
        path.endswith(_SUFFIX)
        and path.startswith(_PREFIX)
        and scope["method"] == "POST"
        and "/" not in path[len(_PREFIX) : -len(_SUFFIX)]
        and len(path) > len(_PREFIX) + len(_SUFFIX)
    )


async def direct(scope: Scope, receive: Receive, send: Send) -> None:
    """The endpoint of such a request, without the router. Problems are the caller's to answer."""
    scope["route"] = _ROUTE
    response = await act(Request(scope, receive, send), local_path(scope)[len(_PREFIX) : -len(_SUFFIX)])
    await response(scope, receive, send)


async def _answer(request: Request, act: Callable[[Any, Clock], Coroutine[Any, Any, ActAnswer]]) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        body = await body_of(request)
        clock = Clock(request.scope["state"]["arrived"], body.decode_s, large=body.large)
        answer = await while_connected(request, act(body.tree, clock))
        began = time.perf_counter()
        if kind == media.MSGPACK:
            response = Response(answer.packed, media_type=kind)  # as it is stored
        else:
            response = respond(answer, kind)
        request.app.state.envelope.acted(answer, clock, time.perf_counter() - began)
        return response
