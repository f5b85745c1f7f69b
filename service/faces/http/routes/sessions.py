"""``/v1/sessions``"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.faces.envelope import name_session
from service.faces.http.bodies import body_type, read_raw, respond
from service.faces.http.contract import documented
from service.faces.http.routes.common import body_of, service_of
from service.protocol import media
from service.protocol.requests import CreateSession, Fork, Reset, parse
from service.protocol.responses import Session, SessionList

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
_BINARY = {"type": "string", "format": "binary"}
_BODY = (406, 408, 413, 415, 422)


@router.post(
    "",
    **documented(
        summary="Create a session, or restore one from an exported belief",
        body=CreateSession,
        answer=Session,
        status=201,
        problems=[404, 429, *_BODY],
        also_body={media.OCTET_STREAM: _BINARY},
    ),
)
async def create_session(request: Request) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        if media.essence(request.headers.get("content-type")) == media.OCTET_STREAM:
            raw = await read_raw(
                request, most=service.limits.belief_bytes, timeout_s=service.settings.body_timeout_s
            )
            view = await service.lifecycle.restore(raw)
        else:
            view = await service.lifecycle.create((await body_of(request)).tree)
    return respond(view, kind, status=201, headers=_location(request, view))


@router.get("", **documented(summary="Live sessions", answer=SessionList, problems=[406]))
async def list_sessions(request: Request) -> Response:
    return respond(await service_of(request).lifecycle.listed(), body_type(request))


@router.get("/{session_id}", **documented(summary="One session", answer=Session, problems=[404, 406, 410]))
async def get_session(request: Request, session_id: str) -> Response:
    name_session(session_id)
    return respond(await service_of(request).lifecycle.get(session_id), body_type(request))


@router.delete("/{session_id}", **documented(summary="End a session", status=204, problems=[404, 410, 429]))
async def delete_session(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    with service.working():
        await service.lifecycle.delete(session_id)
    return Response(status_code=204)


@router.post(
    "/{session_id}/reset",
    **documented(
        summary="The next act starts a new episode, step 0",
        body=Reset,
        body_required=False,
        answer=Session,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def reset_session(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        parse(Reset, (await body_of(request, optional=True)).tree)
        return respond(await service.lifecycle.reset(session_id), kind)


@router.post(
    "/{session_id}/fork",
    **documented(
        summary="A second session with the same belief",
        body=Fork,
        body_required=False,
        answer=Session,
        status=201,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def fork_session(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        body = await body_of(request, optional=True)
        view = await service.lifecycle.fork(session_id, body.tree)
    return respond(view, kind, status=201, headers=_location(request, view))


@router.get(
    "/{session_id}/belief",
    **documented(
        summary="The belief as a safetensors file, to restore elsewhere",
        problems=[404, 409, 410, 429],
        also={media.OCTET_STREAM: _BINARY},
    ),
)
async def export_belief(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    with service.working():
        return Response(await service.lifecycle.export(session_id), media_type=media.OCTET_STREAM)


def _location(request: Request, view: dict[str, Any]) -> dict[str, str]:
    """Where a new session is, as the client reaches it."""
    return {"location": f"{request.scope.get('root_path', '')}/v1/sessions/{view['session_id']}"}
