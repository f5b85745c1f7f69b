"""``imagine``: as one answer, as a stream of steps, as a contact sheet or as a film."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from service.core import Imagination, PlanningService
from service.faces.envelope import name_session
from service.faces.http.bodies import accepted, respond
from service.faces.http.contract import documented
from service.faces.http.routes.common import body_of, service_of, while_connected
from service.protocol import media
from service.protocol.errors import ProblemError
from service.protocol.events import END, ERROR, STEP, encode_event
from service.protocol.requests import Imagine, ImagineDream, ImagineOnce
from service.protocol.responses import Imagination as ImaginationAnswer

router = APIRouter(prefix="/v1", tags=["imagine"])

PICTURES = (media.PNG, media.GIF, media.WEBP)
OFFERED = (*media.BODY_TYPES, media.EVENT_STREAM, *PICTURES)
_PROBLEMS = (404, 406, 408, 409, 410, 413, 415, 422, 429)
_BINARY = {"type": "string", "format": "binary"}
_ALSO = {media.EVENT_STREAM: {"type": "string"}, **{kind: _BINARY for kind in PICTURES}}


@router.post(
    "/sessions/{session_id}/imagine",
    **documented(
        summary="What could happen next? Never changes the session",
        body=Imagine,
        answer=ImaginationAnswer,
        problems=_PROBLEMS,
        also=_ALSO,
    ),
)
async def imagine(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    return await _answer(request, lambda tree, _: service.imagine(session_id, tree))


@router.post(
    "/imagine",
    **documented(
        summary="Imagine from an observation, in one call",
        body=ImagineOnce,
        answer=ImaginationAnswer,
        problems=_PROBLEMS,
        also=_ALSO,
    ),
)
async def imagine_once(request: Request) -> Response:
    service = service_of(request)
    return await _answer(request, service.imagine_once)


@router.post(
    "/dreams/{dream_id}/imagine",
    **documented(
        summary="What could follow in an environment of a dream? Never changes it",
        body=ImagineDream,
        answer=ImaginationAnswer,
        problems=_PROBLEMS,
        also=_ALSO,
    ),
)
async def imagine_dream(request: Request, dream_id: str) -> Response:
    service = service_of(request)
    return await _answer(request, lambda tree, _: service.dreaming.imagine(dream_id, tree))


async def _answer(request: Request, start: Callable[[Any, bool], Awaitable[Imagination]]) -> Response:
    service = service_of(request)
    with service.working():
        kind = accepted(request, OFFERED)
        body = await body_of(request)
        tree = body.tree
        if kind in PICTURES and isinstance(tree, dict):
            # A picture needs the decoded observations as they are, whatever the body asks for.
            tree = {**tree, "image": "raw", "include": ["observation", "reward", "value", "gates"]}

        async def begin() -> Imagination:
            return await start(tree, body.large)

        imagination = await while_connected(request, begin())
        if kind == media.EVENT_STREAM:
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(_stream(service, imagination), media_type=kind, headers=headers)
        whole = await while_connected(request, imagination.whole())
        if kind not in PICTURES:
            return respond(whole, kind)
        from service.faces.http.pictures import render

        manifest = imagination.hosted.manifest
        title = f"What {manifest.name} expects next"
        picture = await asyncio.to_thread(render, whole, manifest.observation_space, kind, title=title)
        return Response(picture, media_type=kind)


async def _stream(service: PlanningService, imagination: Imagination) -> AsyncIterator[bytes]:
    """Server-sent events; starlette stops asking for them when the client goes away."""
    events = imagination.events()
    try:
        with service.working():
            try:
                async for event in events:
                    yield encode_event(STEP, event)
                yield encode_event(END, imagination.end())
            except ProblemError as problem:
                yield encode_event(ERROR, problem.to_dict())
    finally:
        await events.aclose()  # type: ignore[attr-defined]
        imagination.close()
