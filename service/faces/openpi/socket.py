"""A WebSocket that speaks the openpi policy protocol, so that robots with ``openpi-client`` need no new code.

The server speaks first: its metadata. Then every message is an observation, and its answer has ``actions``
``[H, A]``. One connection is one session. Errors come as text, which the client raises; they leave the
session as it was, and the connection open unless it cannot go on.

A connection that breaks off keeps its session for ``RESUME_S``, to be gone on with under
``?session_id=...`` (the metadata name it); one that is closed ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import structlog
from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.core import Clock, PlanningService
from service.faces.envelope import Envelope, Exchange, identify, name_session
from service.faces.openpi.codec import pack, unpack
from service.faces.openpi.messages import Address, chunk_of, read_address, read_message
from service.faces.problems import as_text, http_response, internal
from service.operations.keys import Keys
from service.operations.offloop import LARGE, off_loop
from service.protocol.errors import ProblemError, invalid
from thick.spaces import Space, as_space

log = structlog.get_logger("thick.openpi")

PATHS = ("/openpi", "/")
"""``openpi-client`` asks for ``/`` where it is given a host and a port only"""
RESUME_S = 60.0
"""how long a session outlives a connection that broke off"""

_CLOSED = (1000, 1001)
"""close codes of a client that is done; uvicorn says 1005 where the connection was lost"""
_ENDED = ("session_not_found", "session_expired", "draining", "internal")
"""problems after which the connection is of no more use"""
_INTERNAL, _RESTART = 1011, 1012


def add_to(app: FastAPI, service: PlanningService, envelope: Envelope, keys: Keys) -> None:
    """Answer WebSockets on :data:`PATHS`."""
    server = OpenpiServer(service, envelope, keys)
    for path in PATHS:
        app.router.add_websocket_route(path, server.connected)
    app.router.add_websocket_route("/{path:path}", server.nowhere)  # whatever is left


@dataclass
class Conversation:
    """One client, its connection and its session."""

    socket: WebSocket
    session_id: str
    observations: Space
    actions: Space
    chunk: int
    last: Any = None
    """the last action of the chunk that was answered before, where that had several"""
    total_ms: float | None = None
    """what the answer before this one took, its sending included"""


class OpenpiServer:
    """Lets clients in, and gives each a session."""

    def __init__(self, service: PlanningService, envelope: Envelope, keys: Keys) -> None:
        self._service = service
        self._envelope = envelope
        self._keys = keys
        self._left: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def connected(self, socket: WebSocket) -> None:
        """The whole life of one connection."""
        identify()
        try:
            self._check(socket)
            asked = read_address(socket.url.query)
            view = await self._session(asked)
        except ProblemError as problem:
            await self._refuse(socket, problem, "/openpi")
            return
        name_session(view["session_id"])
        talk = Conversation(
            socket,
            view["session_id"],
            as_space(view["observation_space"]),
            as_space(view["action_space"]),
            asked.chunk,
        )
        await socket.accept()
        code = 1006
        try:
            await socket.send_bytes(pack(self._metadata(view, asked)))
            code = await self._converse(talk)
        finally:
            self._leave(talk.session_id, code)

    async def nowhere(self, socket: WebSocket) -> None:
        """A WebSocket at any other path."""
        identify()
        try:
            self._check(socket)
            here = " and ".join(PATHS)
            detail = f"{socket.url.path[:200]}: there is no WebSocket at this path; they are at {here}"
            raise ProblemError("not_found", detail)
        except ProblemError as problem:
            await self._refuse(socket, problem, "unmatched")

    async def _refuse(self, socket: WebSocket, problem: ProblemError, route: str) -> None:
        """Answer whoever may not come in, and count and log it as any request."""
        path = socket.url.path
        exchange = Exchange("WS", path, route, route, socket.headers, status=problem.status)
        with self._envelope.around(exchange, _status_of):
            await socket.send_denial_response(http_response(problem, path))

    def _check(self, socket: WebSocket) -> None:
        """Who may come in.

        Raises:
            ProblemError: ``unauthenticated``, ``forbidden``.
        """
        authorization = socket.headers.get("authorization")
        if authorization and authorization.lower().startswith("api-key "):  # as openpi-client says it
            authorization = "Bearer " + authorization[len("api-key ") :]
        self._keys.role(authorization)
        # Browsers let any page open a WebSocket to this machine; robots send no origin.
        origin = socket.headers.get("origin")
        if origin and urlsplit(origin).netloc != socket.headers.get("host"):
            raise ProblemError("forbidden", f"pages of {origin[:100]} may not use this server")

    async def _session(self, asked: Address) -> dict[str, Any]:
        with self._service.working():
            if asked.session_id is None:
                model = asked.session.get("model", None) or self._only_model()
                return await self._service.lifecycle.create({**asked.session, "model": model})
            view = await self._service.lifecycle.get(asked.session_id)
        timer = self._left.pop(asked.session_id, None)
        if timer is not None:
            timer.cancel()
        return view

    def _only_model(self) -> str:
        every = self._service.repository.all()
        # One that is still loading counts, so that the choice does not depend on when a robot connects.
        usable = {hosted.name for hosted in every if hosted.state in ("ready", "loading")}
        names = sorted(usable or {hosted.name for hosted in every})
        if len(names) == 1:
            return names[0]
        raise invalid("model", f"say ?model=NAME in the address; models here: {', '.join(names) or 'none'}")

    def _metadata(self, view: dict[str, Any], asked: Address) -> dict[str, Any]:
        model = self._service.get_model(view["model"], view["version"])
        return {
            "protocol": "openpi",
            "server": "thick",
            "model": view["model"],
            "version": view["version"],
            "task": model["task"],
            "session_id": view["session_id"],
            "step": view["step"],
            "observation_space": view["observation_space"],
            "action_space": view["action_space"],
            "planner": view["planner"],
            "action_horizon": asked.chunk,
        }

    def _leave(self, session_id: str, code: int) -> None:
        """The client is gone: so is its session, now or soon; a server that stops leaves it in its store."""
        if self._service.draining:
            return
        if code in _CLOSED:
            self._end(session_id)
        else:
            loop = asyncio.get_running_loop()
            self._left[session_id] = loop.call_later(RESUME_S, self._end, session_id)

    def _end(self, session_id: str) -> None:
        async def delete() -> None:
            self._left.pop(session_id, None)
            with contextlib.suppress(ProblemError):  # it ended otherwise meanwhile
                await self._service.lifecycle.delete(session_id)

        task = asyncio.create_task(delete())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # -- messages ----------------------------------------------------------------------------------------

    async def _converse(self, talk: Conversation) -> int:
        """Answer messages until the client goes; returns its close code."""
        receiving = asyncio.ensure_future(talk.socket.receive())
        try:
            while True:
                message = await receiving
                if message["type"] == "websocket.disconnect":
                    return int(message.get("code") or 1005)
                receiving = asyncio.ensure_future(talk.socket.receive())
                # Whoever goes away while we plan, does not want the plan.
                answering = asyncio.ensure_future(self._answer(talk, message.get("bytes")))
                try:
                    await asyncio.wait({answering, receiving}, return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() and receiving.result()["type"] == "websocket.disconnect":
                        continue
                    code = await answering
                finally:
                    answering.cancel()
                if code is not None:
                    await talk.socket.close(code)
                    return code
        except WebSocketDisconnect as gone:  # while it was being answered
            return gone.code
        finally:
            receiving.cancel()

    async def _answer(self, talk: Conversation, raw: bytes | None) -> int | None:
        """Answer one message; returns a close code where there is no going on."""
        clock = Clock()
        try:
            exchange = Exchange("WS", "/openpi", "/openpi", "/openpi", talk.socket.headers)
            with self._envelope.around(exchange, _status_of), self._service.working():
                if raw is None:
                    raise ProblemError("malformed_body", "expected msgpack in a binary message, got text")
                packed = await self._infer(talk, raw, clock)
            await talk.socket.send_bytes(packed)
            talk.total_ms = 1e3 * (time.monotonic() - clock.arrived)
            return None
        except ProblemError as problem:
            failure = problem
        except WebSocketDisconnect:
            raise
        except Exception:
            log.exception("request failed")
            failure = internal()
        await talk.socket.send_text(as_text(failure, "/openpi"))
        if failure.code not in _ENDED:
            return None
        return _RESTART if failure.code == "draining" else _INTERNAL

    async def _infer(self, talk: Conversation, raw: bytes, clock: Clock) -> bytes:
        began = time.perf_counter()
        clock.large = len(raw) > LARGE
        unpacked = (
            await off_loop(unpack, raw, self._service.limits)
            if clock.large
            else unpack(raw, self._service.limits)
        )
        message = read_message(unpacked.tree, talk.observations, talk.actions)
        clock.decode_s = time.perf_counter() - began
        tree = {
            "observation": message.observation,
            "include": ["plan", "timing"] if talk.chunk > 1 else ["timing"],
            **message.about,
        }
        if talk.last is not None and not message.about.get("is_first"):
            # The robot took the whole chunk before it asked again.
            tree.setdefault("executed_action", talk.last)
        answer = await self._service.act(talk.session_id, tree, clock)
        actions = chunk_of(answer, talk.actions, talk.chunk)
        if len(actions) > 1 and not answer["replayed"]:
            talk.last = int(actions[-1, 0]) if actions.dtype == np.int64 else actions[-1]
        timing = answer["timing"]
        planning = ("observe_ms", "high_plan_ms", "low_plan_ms")
        reply: dict[str, Any] = {
            "actions": actions,
            "session_id": answer["session_id"],
            "step": answer["step"],
            "replayed": answer["replayed"],
            "policy_timing": {"infer_ms": sum(timing[name] for name in planning)},
            "server_timing": {"infer_ms": 1e3 * (time.monotonic() - clock.arrived)},
        }
        if talk.total_ms is not None:
            reply["server_timing"]["prev_total_ms"] = talk.total_ms
        if message.ignored:
            reply["ignored"] = message.ignored
        if "degraded" in answer:
            reply["degraded"] = answer["degraded"]
        began = time.perf_counter()
        packed = pack(reply, plain_form=unpacked.plain_form)
        self._envelope.acted(answer, clock, time.perf_counter() - began)
        return packed


def _status_of(failure: BaseException | None) -> int:
    if failure is None:
        return 200
    if isinstance(failure, ProblemError):
        return failure.status
    return 500 if isinstance(failure, Exception) else 499
