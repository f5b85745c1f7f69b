"""``act``: the request that the service is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.core import ActAnswer, Clock
from service.faces.envelope import name_session
from service.faces.http.bodies import Incoming, body_type
from service.faces.http.contract import documented
from service.faces.http.prefix import local_path
from service.faces.http.routes.common import body_of, service_of, while_connected
from service.protocol import media
from service.protocol.bodies import encode_body
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
    return _response(await _of_session(request, session_id))


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
    return _response(await _answer(request, service_of(request).act_once))


_PREFIX, _SUFFIX = "/v1/sessions/", "/act"
_ROUTE = next(route for route in router.routes if getattr(route, "endpoint", None) is act)


def session_of(scope: Scope) -> str | None:
    """Whose act a request is; None where it is none."""
    path = local_path(scope)
    if not (path.endswith(_SUFFIX) and path.startswith(_PREFIX) and scope["method"] == "POST"):
        return None
    session_id = path[len(_PREFIX) : -len(_SUFFIX)]
    return session_id if session_id and "/" not in session_id else None


class _Asked(NamedTuple):
    """An act as ASGI has it."""

    scope: Scope
    receive: Receive


async def direct(scope: Scope, receive: Receive, send: Send) -> None:
    """The endpoint of such a request, without the router. Problems are the caller's to answer."""
    scope["route"] = _ROUTE
    answered = await _of_session(_Asked(scope, receive), scope["path_params"]["session_id"])
    length, kind = b"%d" % len(answered.body), answered.kind.encode()
    headers = [(b"content-length", length), (b"content-type", kind)]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answered.body})
    finally:
        answered.account()  # the client has its answer by now


class _Answered(NamedTuple):
    """An act's answer as it is sent."""

    body: bytes
    kind: str
    """its media type"""
    account: Callable[[], None]
    """adds it to the metrics and the trace"""


def _response(answered: _Answered) -> Response:
    answered.account()
    return Response(answered.body, media_type=answered.kind)


async def _of_session(request: Incoming, session_id: str) -> _Answered:
    name_session(session_id)
    return await _answer(request, partial(service_of(request).act, session_id))


async def _answer(
    request: Incoming, act: Callable[[Any, Clock], Coroutine[Any, Any, ActAnswer]]
) -> _Answered:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        body = await body_of(request)
        clock = Clock(request.scope["state"]["arrived"], body.decode_s, large=body.large)
        answer = await while_connected(request, act(body.tree, clock))
        began = time.perf_counter()
        # msgpack as it is stored
        packed = answer.packed if kind == media.MSGPACK else encode_body(answer, kind)
        encode_s = time.perf_counter() - began
        envelope = request.scope["app"].state.envelope
        return _Answered(packed, kind, partial(envelope.acted, answer, clock, encode_s))
