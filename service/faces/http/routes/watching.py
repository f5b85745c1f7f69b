"""``/v1/sessions/{id}/events``: what a session does, as it does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from service.core import PlanningService
from service.faces.envelope import name_session
from service.faces.http.bodies import sent_headers
from service.faces.http.contract import documented
from service.faces.http.routes.common import service_of
from service.operations.drawing import picture_uri
from service.protocol import media
from service.protocol.errors import ProblemError, invalid
from service.protocol.events import encode_event
from service.sessions.session import Session
from service.sessions.watching import ACT, Happened

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
BEAT_S = 15.0
"""a comment is sent after so long without an event, so that nothing on the way takes the connection for dead, s"""

_draws = ThreadPoolExecutor(1, "watched")
"""one thread: pictures wait for each other, acts do not wait for many of them"""


@router.get(
    "/{session_id}/events",
    **documented(
        summary="What a session does, as it does it (server-sent events)",
        problems=[403, 404, 410, 422],
        also={media.EVENT_STREAM: {"type": "string"}},
    ),
)
async def watch(request: Request, session_id: str) -> Response:
    name_session(session_id)
    service = service_of(request)
    if not service.watching.enabled:
        raise ProblemError(
            "watching_disabled", "start the server with --watch-sessions, and whoever has a key may watch"
        )
    last = sent_headers(request).get("last-event-id", "").strip() or None  # empty: no event was seen yet
    if last is not None and not (last.isascii() and last.isdigit() and len(last) < 20):
        raise invalid("Last-Event-ID", f"expected the id of an event, got {last[:40]!r}")
    session = await service.journal.find(session_id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    stream = _events(service, session, None if last is None else int(last))
    return StreamingResponse(stream, media_type=media.EVENT_STREAM, headers=headers)


async def _events(service: PlanningService, session: Session, after: int | None) -> AsyncIterator[bytes]:
    """The events of a session; starlette stops asking for them when the watcher goes away."""
    followed = service.watching.follow(session.session_id, after, alive=lambda: not session.ended)
    yield b": watching\n\n"
    following: asyncio.Task[Happened] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(followed))
            done, _ = await asyncio.wait({following}, timeout=BEAT_S)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                happened = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield await _drawn_once(session, happened)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await followed.aclose()  # type: ignore[attr-defined]


async def _drawn_once(session: Session, happened: Happened) -> bytes:
    """One event as it is sent: whoever gets it first has it drawn, the others get the same bytes."""
    if happened.drawn is None:
        loop = asyncio.get_running_loop()
        happened.drawn = loop.run_in_executor(_draws, _shown, session, happened)
    return await asyncio.shield(happened.drawn)


def _shown(session: Session, happened: Happened) -> bytes:
    """One event as it is sent, with pictures in place of arrays."""
    data = dict(happened.data)
    if happened.name == ACT:
        hosted = session.hosted
        space = None if hosted is None or hosted.manifest is None else hosted.manifest.observation_space
        plan, observation = data["plan"], data.pop("observation")
        if plan is not None:
            data["gates"] = {"open": plan["gates_open"], "changed": plan["context_changed"]}
            data["plan"] = _drawn(plan, space, subgoal=observation is not None)
        else:
            data["gates"] = None
        data["image"] = None if observation is None or space is None else picture_uri(observation, space)
    return encode_event(happened.name, data, number=happened.number)


def _drawn(plan: Mapping[str, Any], space: Any, *, subgoal: bool) -> dict[str, Any]:
    """A plan whose subgoal is a picture, where it may be shown: it looks much like what the agent sees."""
    high = plan.get("high")
    if high is not None and high.get("subgoal") is not None:
        shown = None if space is None or not subgoal else picture_uri(high["subgoal"], space)
        high = {**high, "subgoal": shown}
    return {**{name: value for name, value in plan.items() if name != "levels"}, "high": high}
