"""A body that takes long to read delays nobody else, and one that nobody needs is refused before it is read."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
import time
from typing import Any

import grpc
import httpx
import msgpack
import numpy as np
import pytest
from PIL import Image

from service.core import PlanningService
from service.operations.offloop import LARGE, off_loop
from service.protocol import media
from service.protocol.bodies import decode_body, encode_body
from service.protocol.errors import MAX_ERRORS, ProblemError
from service.protocol.generated import planner_pb2 as pb
from service.protocol.limits import Limits
from service.protocol.protobuf_parts import count_parts
from tests.service.grpc_support import failure, over_grpc
from tests.service.support import Caller, observe, same

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENCE_S = 0.5
"""for which the event loop may stand still on a machine that is busy; what is refused here took 2 to 15 s"""


def listed(count: int, item: bytes) -> bytes:
    """A msgpack list of so many equal items."""
    return b"\xdd" + struct.pack(">I", count) + item * count


def observation(packed: bytes) -> bytes:
    """A msgpack body."""
    return b"\x81" + msgpack.packb("observation") + packed


BODIES: dict[str, tuple[str, Any]] = {
    "unknown fields": (media.JSON, lambda: json.dumps(dict.fromkeys(map(str, range(580_000)), 0)).encode()),
    "parts of an answer": (
        media.JSON, lambda: b'{"observation":1,"include":[' + b'"x",' * 1_000_000 + b'"x"]}'
    ),
    "far more parts": (
        media.JSON, lambda: b'{"observation":1,"include":[' + b'"x",' * 1_600_000 + b'"x"]}'
    ),
    "empty lists": (media.JSON, lambda: b'{"observation":[' + b"[]," * 2_700_000 + b"[]]}"),
    "short lists": (media.JSON, lambda: b'{"observation":[' + b"[1,2,3]," * 250_000 + b"[1,2,3]]}"),
    "one wrong among many numbers": (
        media.JSON, lambda: b'{"observation":[' + b"1.5e-3," * 1_000_000 + b'"x"]}'
    ),
    "keys of an observation": (
        media.JSON, lambda: json.dumps({"observation": dict.fromkeys(map(str, range(600_000)), 0)}).encode()
    ),
    "a name of megabytes": (media.JSON, lambda: b'{"' + b"observation" * 700_000 + b'":1}'),
    "actions": (media.JSON, lambda: b'{"observation":1,"executed_action":[' + b"1," * 1_000_000 + b"1]}"),
    "empty packed lists": (media.MSGPACK, lambda: observation(listed(8_000_000, b"\x90"))),
    "packed lists of lists": (media.MSGPACK, lambda: observation(listed(20, listed(50_000, b"\x90")))),
    "packed lists of numbers": (media.MSGPACK, lambda: observation(listed(8, listed(1_000_000, b"\x01")))),
    "packed objects": (media.MSGPACK, lambda: observation(listed(500_000, b"\x80"))),
}  # fmt: skip


class Watch:
    """How long the event loop stood still: processor time of this process between two of its turns, so that a busy
    machine does not count."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.02)
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            before = time.process_time()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.process_time() - before)


@pytest.mark.parametrize("name", BODIES)
async def test_a_large_wrong_body_is_refused_without_stopping_the_server(
    client: httpx.AsyncClient, name: str
) -> None:
    kind, make = BODIES[name]
    content = make()
    session = await Caller(client).session("arm")
    async with Watch() as watch:
        response = await client.post(
            f"/v1/sessions/{session}/act", content=content, headers={"content-type": kind}
        )
    assert response.status_code in (413, 422), response.text[:300]
    assert len(response.content) < 20_000
    if response.status_code == 422:
        assert 1 <= len(response.json()["errors"]) <= MAX_ERRORS
    assert watch.longest_s < PATIENCE_S
    await Caller(client).act(session, observe("arm"), step=0)


async def test_a_large_good_body_means_what_the_small_one_does(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    one, other = await caller.session("camera"), await caller.session("camera")
    picture = observe("camera")
    small = await caller.act(one, picture, include=["plan"])
    body = json.dumps({"observation": picture.tolist(), "include": ["plan"]}).encode() + b" " * LARGE
    large = await client.post(f"/v1/sessions/{other}/act", content=body)
    assert large.status_code == 200
    assert large.json()["action"] == small["action"]
    again = encode_body({"observation": picture, "include": ["plan"], "step": 0}, media.MSGPACK)
    replay = await client.post(
        f"/v1/sessions/{other}/act", content=again, headers={"content-type": media.MSGPACK}
    )
    answer = decode_body(replay.content, media.MSGPACK)
    assert answer["replayed"] and same(answer["action"], small["action"])


async def test_others_are_answered_while_a_large_body_is_read(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session, other = await caller.session("camera"), await caller.session("arm")
    body = json.dumps({"observation": observe("camera").tolist()}).encode() + b" " * LARGE
    go_on = threading.Event()
    before_it = asyncio.create_task(off_loop(go_on.wait))
    large = asyncio.create_task(client.post(f"/v1/sessions/{session}/act", content=body))
    try:
        assert (await client.get("/health/live")).status_code == 200
        await caller.act(other, observe("arm"))
        assert not large.done()
    finally:
        go_on.set()
        await before_it
    assert (await large).status_code == 200


async def test_only_the_first_few_wrong_fields_are_reported(client: httpx.AsyncClient) -> None:
    many = {f"field{i}": 0 for i in range(1000)}
    created = await client.post("/v1/sessions", json={"model": "arm", **many})
    assert created.status_code == 422 and len(created.json()["errors"]) == MAX_ERRORS
    session = await Caller(client).session("grid")
    acted = await client.post(f"/v1/sessions/{session}/act", json={"observation": many})
    assert acted.status_code == 422 and len(acted.json()["errors"]) <= MAX_ERRORS + 3


async def test_a_picture_of_another_size_is_refused_before_its_pixels_are_decoded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(buffer, "PNG")
    session = await Caller(client).session("camera")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: 1 / 0)
    body = msgpack.packb({"observation": {"encoding": "png", "data": buffer.getvalue()}})
    response = await client.post(
        f"/v1/sessions/{session}/act", content=body, headers={"content-type": media.MSGPACK}
    )
    (error,) = response.json()["errors"]
    assert error["path"] == "observation" and "2000 rows" in error["message"]
    assert "expected shape (64, 64, 3)" in error["message"]


@pytest.mark.parametrize("kind", media.BODY_TYPES)
async def test_the_bounds_on_a_body_are_reported_with_what_was_sent(kind: str) -> None:
    limits = Limits(object_keys=10, containers=100, values=200, key_characters=20)
    for tree, told in (
        ({str(i): 0 for i in range(11)}, "10"),
        ({"a": [[0]] * 120}, "100"),
        ({"a": list(range(300))}, "200"),
        ({"a" * 21: 0}, "20 characters"),
    ):
        with pytest.raises(ProblemError) as caught:
            decode_body(encode_body(tree, kind) + (b" " * 300 if kind == media.JSON else b""), kind, limits)
        assert caught.value.code == "malformed_body" and told in caught.value.detail
    fits = {"a": [[0]] * 50, "b" * 20: list(range(50))}
    assert decode_body(encode_body(fits, kind), kind, limits) == fits


MESSAGES = {
    "actions": ("Imagine", lambda: b"\x42\x00" * 4_000_000),
    "some actions": ("Imagine", lambda: b"\x42\x02\x08\x01" * 100_000),
    "dimensions": ("Act", lambda: field(6, field(1, field(2, b"\x01" * 8_000_000)))),
    "parts": ("Act", lambda: field(12, b"\x0a\x00" * 4_000_000)),
    "entries": (
        "Act", lambda: field(6, field(3, b"".join(field(1, field(1, b"%d" % i)) for i in range(200_000))))
    ),
}  # fmt: skip


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_large_wrong_message_over_grpc_is_refused_without_stopping_the_server(
    service: PlanningService, name: str
) -> None:
    method, make = MESSAGES[name]
    raw = make()
    async with over_grpc(service) as asking:
        call = asking.channel.unary_unary(f"/thick.v1.Planner/{method}")
        async with Watch() as watch:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(raw)
    status, problem = failure(caught.value)
    assert status == "INVALID_ARGUMENT" and problem.code in ("malformed_body", "invalid_request")
    assert watch.longest_s < PATIENCE_S


async def test_the_parts_of_a_message_are_counted_as_they_are() -> None:
    request = pb.ActRequest(session_id="a", step=3, observation={"array": {"shape": [1, 2, 300]}})
    request.planner.other.update({"a": 1.0})
    raw = request.SerializeToString()
    # id, step, observation, array, shape of four bytes, planner, other, an entry, its key and value, the number
    assert count_parts(raw, pb.ActRequest.DESCRIPTOR, 100) == 5 + 4 + 6
    assert count_parts(raw, pb.ActRequest.DESCRIPTOR, 3) > 3
    for end in range(len(raw)):
        assert count_parts(raw[:end], pb.ActRequest.DESCRIPTOR, 100) <= 16


async def test_truth_values_among_numbers_are_no_numbers() -> None:
    from service.protocol.arrays import decode_array

    for mixed in ([[1, 2], [3, True]], [[True, True], [1, 2]], [False, 0.5], [[[1]], [[True]]]):
        with pytest.raises(ProblemError, match="true and false"):
            decode_array(mixed)
    assert decode_array([[True, False]]).dtype == np.bool_
    assert decode_array([[1, 0]]).dtype == np.int64
