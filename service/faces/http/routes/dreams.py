"""``/v1/dreams``: a served model stepped as an environment."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.faces.http.bodies import body_type, respond
from service.faces.http.contract import documented
from service.faces.http.routes.common import body_of, service_of
from service.operations.drawing import gif
from service.protocol import media
from service.protocol.requests import CreateDream, DreamStep, Film, Fork, ResetDream, parse
from service.protocol.responses import Dream, DreamList, DreamStepResponse

router = APIRouter(prefix="/v1", tags=["dreams"])
_BODY = (406, 408, 413, 415, 422)


@router.post(
    "/dreams",
    **documented(
        summary="Begin a dream: from an observation, a session, another dream, or the model's own start",
        body=CreateDream,
        answer=Dream,
        status=201,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def create_dream(request: Request) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        view = await service.dreaming.create((await body_of(request)).tree)
    return respond(view, kind, status=201, headers=_location(request, view))


@router.get("/dreams", **documented(summary="Live dreams", answer=DreamList, problems=[406]))
async def list_dreams(request: Request) -> Response:
    return respond(await service_of(request).dreaming.listed(), body_type(request))


@router.get(
    "/dreams/{dream_id}",
    **documented(summary="A dream as it is now", answer=Dream, problems=[404, 406, 409, 410, 429]),
)
async def get_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    with service.working():
        return respond(await service.dreaming.get(dream_id), body_type(request))


@router.delete(
    "/dreams/{dream_id}", **documented(summary="End a dream", status=204, problems=[404, 410, 429])
)
async def delete_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    with service.working():
        await service.dreaming.delete(dream_id)
    return Response(status_code=204)


@router.post(
    "/dreams/{dream_id}/step",
    **documented(
        summary="Act in every environment of a dream: exactly once a step",
        body=DreamStep,
        answer=DreamStepResponse,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def step_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        answer = await service.dreaming.step(dream_id, (await body_of(request)).tree)
        if kind == media.MSGPACK:
            return Response(answer.packed, media_type=kind)  # as it is stored
        return respond(answer, kind)


@router.post(
    "/dreams/{dream_id}/reset",
    **documented(
        summary="Begin anew: the whole dream and step 0, or some of its environments",
        body=ResetDream,
        body_required=False,
        answer=Dream,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def reset_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        body = await body_of(request, optional=True)
        return respond(await service.dreaming.reset(dream_id, body.tree), kind)


@router.post(
    "/dreams/{dream_id}/fork",
    **documented(
        summary="A second dream in the same state",
        body=Fork,
        body_required=False,
        answer=Dream,
        status=201,
        problems=[404, 409, 410, 429, *_BODY],
    ),
)
async def fork_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    with service.working():
        kind = body_type(request)
        body = await body_of(request, optional=True)
        view = await service.dreaming.fork(dream_id, body.tree)
    return respond(view, kind, status=201, headers=_location(request, view))


@router.post(
    "/film",
    **documented(
        summary="Pictures one after the other, as a GIF",
        body=Film,
        problems=_BODY,
        also={media.GIF: {"type": "string", "format": "binary"}},
    ),
)
async def film(request: Request) -> Response:
    service = service_of(request)
    with service.working():
        body = parse(Film, (await body_of(request)).tree)
        moving = await asyncio.to_thread(gif, body.frames, body.ms, service.limits)
        return Response(moving, media_type=media.GIF)


def _location(request: Request, view: dict[str, Any]) -> dict[str, str]:
    """Where a new dream is, as the client reaches it."""
    return {"location": f"{request.scope.get('root_path', '')}/v1/dreams/{view['dream_id']}"}
