"""Closed-loop load: each client has one request on its way and sends the next when the answer is there."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import struct
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from benchmarks.serving.models import MODELS
from benchmarks.serving.wire import Connection, GrpcConnection, HttpConnection

JSON, MSGPACK = "application/json", "application/msgpack"
VARIETY = 4
"""different observations that a client shows in turn"""
DRAIN_S = 60.0
"""how long the last answers of a window may take"""
IDLE_S = 2.0
"""a connection that lay idle for longer is opened anew: servers close theirs after some seconds, and one that
closes in the moment in which a request leaves would count as a failure"""

Body = Callable[[int], bytes]
"""the request of a step"""


@dataclass
class Client:
    """One robot: its connection, its session, where it is."""

    open: Callable[[], Awaitable[Connection]]
    body: Body
    step: list[int]
    """the session's next step; shared by all clients of the session, of which one is active at a time"""
    connection: Connection | None = None
    used: float = 0.0
    """when the last answer came, s"""

    async def connect(self) -> Connection:
        """The connection, opened on first use, and anew where the server closed it meanwhile or may do so soon."""
        old = self.connection
        if old is None or old.closed or time.perf_counter() - self.used > IDLE_S:
            if old is not None:
                old.close()
            self.connection = await self.open()
            self.used = time.perf_counter()
        assert self.connection is not None
        return self.connection

    async def act(self) -> bytes:
        """One act, outside any measurement; the raw answer."""
        connection = await self.connect()
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        connection.ask(self.body(self.step[0]), future.set_result)
        answer = await asyncio.wait_for(future, DRAIN_S)
        if answer is None:
            raise RuntimeError(connection.failure)
        self.step[0] += 1
        return answer


@dataclass
class Window:
    """What was seen in one stretch of load."""

    latencies: list[float] = field(default_factory=list)
    """s, of the answers that came within the window"""
    seconds: float = 0.0
    answered: int = 0
    """all answers, also those before and after the window"""
    failures: list[str] = field(default_factory=list)


async def press(
    clients: Sequence[Client], *, seconds: float, warm: float, least: int, most_s: float
) -> Window:
    """Load from all clients at once.

    Args:
        seconds: length of the window, after ``warm`` seconds that are not counted.
        least: answers to wait for even if the window gets longer for it, but not beyond ``most_s``.
    """
    window = Window()
    connections = [await client.connect() for client in clients]
    clock = time.perf_counter
    finished = asyncio.get_running_loop().create_future()
    running = len(clients)
    begin = clock() + warm
    end, at_most = begin + seconds, begin + max(most_s, seconds)
    last = begin

    def over(now: float) -> bool:
        return now >= at_most or (now >= end and len(window.latencies) >= least)

    def stop() -> None:
        nonlocal running
        running -= 1
        if not running and not finished.done():
            finished.set_result(None)

    def start(client: Client, connection: Connection) -> None:
        sent = 0.0
        step = client.step

        def answered(body: bytes | None) -> None:
            nonlocal last
            now = clock()
            if body is None:
                window.failures.append(connection.failure)
                client.connection = None
                stop()
                return
            step[0] += 1
            window.answered += 1
            if sent >= begin and not over(now):
                window.latencies.append(now - sent)
                last = now
            if over(now):
                client.used = now
                stop()
            else:
                ask()

        def ask() -> None:
            nonlocal sent
            message = client.body(step[0])
            sent = clock()
            connection.ask(message, answered)

        ask()

    gc.collect()
    gc.disable()
    try:
        for client, connection in zip(clients, connections, strict=True):
            start(client, connection)
        try:
            await asyncio.wait_for(finished, warm + max(most_s, seconds) + DRAIN_S)
        except TimeoutError:
            window.failures.append(f"{running} answers did not come within {DRAIN_S:g} s after the window")
    finally:
        gc.enable()
    # A window that was extended ends with its last answer.
    window.seconds = max(seconds, last - begin)
    return window


def observations(model: str, seed: int) -> list[np.ndarray]:
    """What one client sees, in turn."""
    rng = np.random.default_rng(seed + 1)
    return [MODELS[model].observation(rng) for _ in range(VARIETY)]


def _array(array: np.ndarray, *, binary: bool) -> dict[str, Any]:
    raw = array.tobytes()
    data: Any = raw if binary else base64.b64encode(raw).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def thick_http_body(seen: Sequence[np.ndarray], kind: str, include: Sequence[str] = ()) -> Body:
    """``POST /v1/sessions/{id}/act``; everything but the step is encoded beforehand."""
    if kind == MSGPACK:
        fixed = []
        for array in seen:
            packed = [msgpack.packb(_array(array, binary=True)), msgpack.packb(list(include))]
            fixed.append(b"\x83\xabobservation" + packed[0] + b"\xa7include" + packed[1] + b"\xa4step\xce")
        return lambda step: fixed[step % len(fixed)] + struct.pack(">I", step)
    texts = [
        json.dumps({"observation": _array(array, binary=False), "include": list(include)})[:-1].encode()
        for array in seen
    ]
    return lambda step: b'%b, "step": %d}' % (texts[step % len(texts)], step)


def thick_grpc_body(seen: Sequence[np.ndarray], session_id: str) -> Body:
    """``thick.v1.ActRequest``; the step is appended to a message made beforehand."""
    from service.protocol.generated import planner_pb2 as pb

    fixed = []
    for array in seen:
        observed = pb.Observation(
            array=pb.Array(dtype=array.dtype.name, shape=array.shape, data=array.tobytes())
        )
        message = pb.ActRequest(session_id=session_id, observation=observed, include=pb.Names())
        fixed.append(message.SerializeToString() + b"\x38")  # field 7, a varint
    return lambda step: fixed[step % len(fixed)] + _varint(step)


def baseline_body(seen: Sequence[np.ndarray], kind: str, *, session_id: str, model: str, method: str) -> Body:
    """What the baselines are sent: the same observation in the same form, and no step."""
    binary = kind == MSGPACK
    bodies = []
    for array in seen:
        tree = {
            "session_id": session_id,
            "model": model,
            "method": method,
            "observation": _array(array, binary=binary),
        }
        bodies.append(msgpack.packb(tree) if binary else json.dumps(tree).encode())
    return lambda step: bodies[step % len(bodies)]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


@dataclass
class Sessions:
    """Sessions of one THICK server, made as they are needed and shared by all transports.

    Args:
        port: HTTP port of the server.
    """

    port: int
    made: dict[tuple[str, str], list[tuple[str, list[int]]]] = field(default_factory=dict)

    def get(self, model: str, method: str, index: int) -> tuple[str, list[int]]:
        """Id and next step of the index-th session that plans by a method."""
        known = self.made.setdefault((model, method), [])
        while len(known) <= index:
            known.append((self.new(model, method), [0]))
        return known[index]

    def new(self, model: str, method: str) -> str:
        """The id of a new session."""
        asked = {"model": model, "seed": 0, "planner": {"method": method}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/sessions",
            json.dumps(asked).encode(),
            {"content-type": JSON},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["session_id"])


class AnySession(Sessions):
    """For the bare endpoints, which know no sessions: any id will do."""

    def new(self, model: str, method: str) -> str:
        return "0" * 32


class Target:
    """A server over one transport: where clients come from.

    Args:
        name: of the row in the tables.
        client: the index-th client for a model and a method; index -1 is a fresh session of its own.
        action: the action in a raw answer.
    """

    def __init__(
        self,
        name: str,
        client: Callable[[str, str, int], Client],
        action: Callable[[bytes], Any],
    ) -> None:
        self.name = name
        self.action = action
        self._client = client
        self._clients: dict[tuple[str, str], list[Client]] = {}

    def clients(self, model: str, method: str, count: int) -> list[Client]:
        """The first ``count`` clients."""
        known = self._clients.setdefault((model, method), [])
        known += [self._client(model, method, index) for index in range(len(known), count)]
        return known[:count]

    async def trial(self, model: str, method: str, steps: int) -> list[Any]:
        """The actions of a fresh session, outside any measurement: all servers must give the same ones."""
        client = self._client(model, method, -1)
        actions = [np.asarray(self.action(await client.act()), np.float32) for _ in range(steps)]
        (await client.connect()).close()
        return actions

    def close(self) -> None:
        """Close all connections."""
        for clients in self._clients.values():
            for client in clients:
                if client.connection is not None:
                    client.connection.close()


def thick_http(name: str, port: int, sessions: Sessions, kind: str, include: Sequence[str] = ()) -> Target:
    """THICK over HTTP."""

    def client(model: str, method: str, index: int) -> Client:
        session_id, step = (
            (sessions.new(model, method), [0]) if index < 0 else sessions.get(model, method, index)
        )
        headers = {"content-type": kind, "accept": kind}
        path = f"/v1/sessions/{session_id}/act"
        return Client(
            lambda: HttpConnection.open(port, path, headers),
            thick_http_body(observations(model, index), kind, include),
            step,
        )

    return Target(name, client, lambda raw: _http_action(raw, kind))


def thick_grpc(name: str, port: int, sessions: Sessions, *, stream: bool) -> Target:
    """THICK over gRPC."""
    from service.protocol.generated import planner_pb2 as pb
    from service.protocol.protobuf import to_dict

    def client(model: str, method: str, index: int) -> Client:
        session_id, step = (
            (sessions.new(model, method), [0]) if index < 0 else sessions.get(model, method, index)
        )
        path = f"/thick.v1.Planner/{'ActStream' if stream else 'Act'}"
        return Client(
            lambda: GrpcConnection.open(port, path, stream=stream),
            thick_grpc_body(observations(model, index), session_id),
            step,
        )

    return Target(name, client, lambda raw: _plain(to_dict(pb.ActResponse.FromString(raw))["action"]))


def baseline(name: str, port: int, path: str, kind: str) -> Target:
    """LitServe or the plain FastAPI application."""
    number = itertools.count()

    def client(model: str, method: str, index: int) -> Client:
        session_id = f"{name}-{model}-{method}-{index}-{next(number)}"
        headers = {"content-type": kind, "accept": kind}
        return Client(
            lambda: HttpConnection.open(port, path, headers),
            baseline_body(
                observations(model, index), kind, session_id=session_id, model=model, method=method
            ),
            [0],
        )

    return Target(name, client, lambda raw: _http_action(raw, kind))


def _http_action(raw: bytes, kind: str) -> Any:
    return _plain((msgpack.unpackb(raw) if kind == MSGPACK else json.loads(raw))["action"])


def _plain(action: Any) -> Any:
    if isinstance(action, dict):
        return np.frombuffer(action["data"], action["dtype"]).reshape(action["shape"])
    return action
