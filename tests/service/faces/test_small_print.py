"""The small print of the contract: what a refusal says, HEAD, empty bodies, versions, life and deadlines."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from service.core import Clock, PlanningService
from service.protocol import media
from service.protocol.errors import ProblemError
from service.protocol.generated import planner_pb2 as pb
from service.sessions.turn import rfc3339
from tests.service.grpc_support import failure, over_grpc
from tests.service.sockets import over_sockets
from tests.service.support import Caller, observe, over_http, running, write_model

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARM = [0.0] * 7
LEAKS = ("object at 0x", "_io.", "sys.", "torch.", "base 10", "indices", "codec", "String should", "Traceback",
         "NoneType", "<class", "strict_map_key", "decomp ")  # fmt: skip


def picture(data: bytes, encoding: str = "png") -> dict[str, str]:
    return {"encoding": encoding, "data": base64.b64encode(data).decode()}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(observe("camera")).save(buffer, "PNG")
    return buffer.getvalue()


# -- what a refusal says ---------------------------------------------------------------------------------------


async def test_a_body_that_cannot_be_read_lists_its_error_as_other_wrong_bodies_do(
    client: httpx.AsyncClient,
) -> None:
    session = await Caller(client).session("arm")
    for content, kind in ((b"{", media.JSON), (b"\xc1", media.MSGPACK)):
        response = await client.post(
            f"/v1/sessions/{session}/act", content=content, headers={"content-type": kind}
        )
        problem = response.json()
        assert problem["code"] == "malformed_body"
        assert problem["errors"] == [{"path": "", "message": problem["detail"]}]
    belief = await client.post("/v1/sessions", content=b"x", headers={"content-type": media.OCTET_STREAM})
    problem = belief.json()
    assert problem["code"] == "invalid_belief"
    assert problem["errors"] == [{"path": "", "message": problem["detail"]}]


CAMERA: list[tuple[Any, str]] = [
    (picture(b"x" * 200), "not a readable png picture"),
    (picture(png()[:60]), "damaged, or cut short"),
    (picture(png()[:300] + b"\xff" * 50), "damaged, or cut short"),
    ({"encoding": "png", "data": "\u00e4\u00e4"}, "not base64"),
]


@pytest.mark.parametrize(("sent", "told"), CAMERA)
async def test_a_wrong_picture_is_reported_in_the_service_s_own_words(
    client: httpx.AsyncClient, sent: Any, told: str
) -> None:
    session = await Caller(client).session("camera")
    response = await client.post(f"/v1/sessions/{session}/act", json={"observation": sent})
    assert response.status_code == 422
    assert told in response.json()["detail"]
    assert not any(leak in response.text for leak in LEAKS), response.text


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b'{"observation": ' + b"9" * 6000 + b"}", media.JSON, "thousands of digits"),
        (b"\x81\x01\x02", media.MSGPACK, "keys of an object must be text"),
        (b"\x81\xa1\xff\x02", media.MSGPACK, "not UTF-8"),
        (b'{"observation": "\xff"}', media.JSON, "not UTF-8"),
        (b'{"observation": 1, "session_id": ""}', media.JSON, "at least 1 character"),
        (
            b'{"observation": 1, "model": "' + b"m" * 300 + b'"}',
            media.JSON,
            "at most 200 characters, got 300",
        ),
    ],
)
async def test_a_wrong_body_is_reported_in_the_service_s_own_words(
    client: httpx.AsyncClient, content: bytes, kind: str, told: str
) -> None:
    response = await client.post("/v1/act", content=content, headers={"content-type": kind})
    assert response.status_code == 422
    assert told in response.json()["detail"]
    assert not any(leak in response.text for leak in LEAKS), response.text


BELIEFS: list[tuple[dict[str, str | None], str]] = [
    ({"step": None}, "lack step"),
    ({"plan": None, "seed": None, "random_state": None}, "lack plan, random_state"),
    ({"step": "x"}, "have 'x' for step, expected the number of acts since the reset"),
    ({"step": "-1"}, "for step"),
    ({"plan": "[1]"}, "have [1] for plan, expected a JSON object"),
    ({"plan": "{"}, "for plan, expected a JSON object"),
    ({"plan": "{}"}, "have null for plan.settings"),
    ({"plan": '{"settings": {}, "deadline_ms": "soon"}'}, "for plan.deadline_ms, expected a positive number"),
    ({"plan": '{"settings": {}, "deadline_ms": -1}'}, "for plan.deadline_ms"),
    ({"random_state": '{"seed": "1"}'}, "for random_state.seed, expected a whole number"),
    ({"ttl_s": "nan"}, "for ttl_s, expected a positive number"),
    ({"first": "maybe"}, "for first, expected true or false"),
    ({"format": "other"}, "'other' for format, expected 'thick-belief-1'"),
]


@pytest.mark.parametrize(("changes", "told"), BELIEFS, ids=[str(case[0]) for case in BELIEFS])
async def test_a_wrong_belief_says_what_is_wrong_and_what_to_do(
    client: httpx.AsyncClient, changes: dict[str, str | None], told: str
) -> None:
    session = await Caller(client).session("arm")
    raw = (await client.get(f"/v1/sessions/{session}/belief")).content
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    kept = {**header["__metadata__"], **changes}
    header["__metadata__"] = {name: value for name, value in kept.items() if value is not None}
    written = json.dumps(header).encode()
    changed = len(written).to_bytes(8, "little") + written + raw[8 + length :]
    response = await client.post(
        "/v1/sessions", content=changed, headers={"content-type": media.OCTET_STREAM}
    )
    assert response.status_code == 422, response.text
    assert told in response.json()["detail"]
    assert not any(leak in response.text for leak in LEAKS), response.text


async def test_a_belief_with_another_tensor_says_which_shape_was_expected(client: httpx.AsyncClient) -> None:
    import safetensors.torch
    import torch

    session = await Caller(client).session("arm")
    raw = (await client.get(f"/v1/sessions/{session}/belief")).content
    length = int.from_bytes(raw[:8], "little")
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    leaves = safetensors.torch.load(raw)
    leaves["belief.deter"] = torch.zeros(13)
    changed = safetensors.torch.save(leaves, metadata)
    response = await client.post(
        "/v1/sessions", content=changed, headers={"content-type": media.OCTET_STREAM}
    )
    assert (
        response.json()["detail"] == "belief.deter: expected float32 of shape [12], got float32 of shape [13]"
    )


async def test_a_belief_whose_header_is_endless_is_not_read(client: httpx.AsyncClient) -> None:
    header = b'{"a":' + b" " * 100_000 + b"{}}"
    raw = len(header).to_bytes(8, "little") + header
    response = await client.post("/v1/sessions", content=raw, headers={"content-type": media.OCTET_STREAM})
    assert response.status_code == 422 and "header has at most 65536 bytes" in response.json()["detail"]


async def test_a_number_that_is_none_over_grpc_is_reported_as_such(service: PlanningService) -> None:
    async with over_grpc(service) as asking:
        session = await asking.session("arm")
        request = pb.ActRequest(session_id=session, reward=float("nan"))
        request.observation.array.dtype = "float32"
        request.observation.array.shape.append(7)
        request.observation.array.data = bytes(28)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking.stub.Act(request)
        _, problem = failure(caught.value)
        assert str(problem.errors[0]) == "reward: expected a finite number, got nan"
        request.reward = 0.0
        request.planner.deadline_ms = float("inf")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking.stub.Act(request)
        assert failure(caught.value)[1].errors[0].path == "planner.deadline_ms"


@pytest.mark.parametrize(
    ("sent", "status", "instance"),
    [
        (b"FOO /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 400, ""),
        (b"\x16\x03\x01\r\n\r\n", 400, ""),
        (b"GET /v1/models?a=b HTTP/1.1\r\nno colon\r\n\r\n", 400, "/v1/models"),
        (b"GET /health/live HTTP/1.1\r\nx: " + b"x" * 70_000, 431, "/health/live"),
    ],
)
async def test_what_is_refused_before_it_is_a_request_is_a_whole_problem_too(
    service: PlanningService, sent: bytes, status: int, instance: str
) -> None:
    async with over_sockets(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    problem = json.loads(body)
    assert problem.keys() >= {"type", "title", "status", "detail", "instance", "code"}
    assert problem["instance"] == instance
    if sent.startswith(b"FOO"):
        assert "method" in problem["detail"] and "GET, HEAD, POST and DELETE" in problem["detail"]


# -- HEAD, empty bodies, versions ------------------------------------------------------------------------------


async def test_head_is_answered_wherever_get_is(client: httpx.AsyncClient, service: PlanningService) -> None:
    session = await Caller(client).session("arm")
    paths = ("/health/live", "/health/ready", "/v2/health/ready", "/v1/models", "/v1/models/arm", "/v2",
             f"/v1/sessions/{session}", "/v1/stats", "/metrics", "/openapi.json")  # fmt: skip
    for path in paths:
        head, got = await client.head(path), await client.get(path)
        assert head.status_code == got.status_code == 200 and head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert "content-length" in head.headers
    assert (await client.head("/v1/models/nothing")).status_code == 404
    refused = await client.head("/v1/act")
    assert refused.status_code == 405 and refused.headers["allow"] == "POST"
    assert (await client.delete("/v1/models")).headers["allow"] == "GET, HEAD"
    for path, allowed in (  # of all routes of a path
        ("/v1/sessions", "GET, HEAD, POST"),
        (f"/v1/sessions/{session}", "GET, HEAD, DELETE"),
        ("/v1/dreams/nothing", "GET, HEAD, DELETE"),
        (f"/v1/sessions/{session}/act", "POST"),
    ):
        refused = await client.put(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    async with over_sockets(service) as port, httpx.AsyncClient() as over_tcp:
        for _ in range(2):  # on one connection
            answer = await over_tcp.head(f"http://127.0.0.1:{port}/health/ready")
            assert answer.status_code == 200 and answer.headers["content-length"] == "14"


async def test_a_reset_takes_nothing_or_an_empty_object_and_refuses_all_else(
    client: httpx.AsyncClient,
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    path = f"/v1/sessions/{session}/reset"
    await caller.act(session, observe("arm"))
    bad = [
        (b"not json", media.JSON, 422), (b"[1]", media.JSON, 422), (b'{"zz": 1}', media.JSON, 422),
        (b"{}", "text/plain", 415), (b"\xc1", media.MSGPACK, 422),
    ]  # fmt: skip
    for content, kind, status in bad:
        response = await client.post(path, content=content, headers={"content-type": kind})
        assert response.status_code == status, response.text
        if status == 422:
            assert response.json()["errors"]
    assert (await caller.ask("GET", f"/v1/sessions/{session}"))["step"] == 1
    good = [(b"", None), (b"{}", media.JSON), (b"\x80", media.MSGPACK), (b"", "text/plain"), (b"{}", None)]
    for content, kind in good:
        await caller.act(session, observe("arm"))
        headers = {"content-type": kind} if kind else {}
        response = await client.post(path, content=content, headers={**headers, "accept": media.JSON})
        assert response.status_code == 200 and response.json()["step"] == 0


async def test_the_version_to_load_may_stand_in_the_query_or_in_the_body(tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_model(tmp_path, "arm", observation="vector", action="continuous", version=version)
    changes = {"model_control": True, "admin_keys": "root"}
    async with running(tmp_path, **changes) as service, over_http(service) as client:
        client.headers["authorization"] = "Bearer root"
        path = "/v1/models/arm"
        assert (await client.post(f"{path}/unload?version=1")).json()["version"] == "1"
        assert (await client.get(f"{path}?version=1")).json()["state"] == "unloaded"
        assert (await client.get(f"{path}?version=2")).json()["state"] == "ready"
        assert (await client.post(f"{path}/load?version=9")).status_code == 404
        assert (await client.post(f"{path}/load?version=1")).json()["version"] == "1"
        both = await client.post(f"{path}/load?version=1", json={"version": "1"})
        assert both.status_code == 200 and both.json()["version"] == "1"
        differ = await client.post(f"{path}/load?version=1", json={"version": "2"})
        assert differ.status_code == 422 and differ.json()["errors"][0]["path"] == "version"


# -- life and deadlines ----------------------------------------------------------------------------------------


async def test_using_a_session_without_changing_it_keeps_it_alive(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = 0.0
    for module in ("service.sessions.session", "service.sessions.table", "service.sessions.journal"):
        monkeypatch.setattr(f"{module}.now", lambda: time.time() + later_s)
    async with running(small, store=f"sqlite:///{tmp_path}/sessions.sqlite") as service:
        act = {"observation": observe("arm"), "step": 0}

        async def imagine(session: str) -> Any:
            return await (await service.imagine(session, {"level": "low", "horizon": 1})).whole()

        uses = {
            "imagine": imagine,
            "export": service.lifecycle.export,
            "fork": lambda session: service.lifecycle.fork(session, {}),
            "replay": lambda session: service.act(session, act, Clock()),
            "get": service.lifecycle.get,
        }
        sessions = {}
        for name in uses:
            sessions[name] = (await service.lifecycle.create({"model": "arm", "ttl_s": 1000}))["session_id"]
            await service.act(sessions[name], act, Clock())
        for _ in range(3):
            later_s += 600
            await service.journal.sweep()
            for name, use in uses.items():
                if name == "get" and later_s > 1000:
                    with pytest.raises(ProblemError, match="expired"):
                        await use(sessions[name])
                else:
                    await use(sessions[name])
        for name in ("imagine", "export", "fork", "replay"):
            session = service.sessions.find(sessions[name])
            assert session is not None and session.revision == 2, "nothing was written"
            assert session.view()["expires_at"] > rfc3339(time.time() + later_s)
            answer = await service.act(sessions[name], {"observation": observe("arm", 1), "step": 1}, Clock())
            assert answer["step"] == 1
        later_s += 1001
        for name in uses:
            with pytest.raises(ProblemError, match="expired"):
                await service.lifecycle.get(sessions[name])


async def test_null_lifts_the_deadline_of_a_session_for_one_act(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm", planner={"deadline_ms": 4321})
    bounds = []
    for planner in (None, {}, {"deadline_ms": None}, {"iterations": 1}, {"deadline_ms": 9876}):
        fields = {} if planner is None else {"planner": planner}
        answer = await caller.act(session, observe("arm"), include=["plan"], **fields)
        bounds.append(answer["plan"]["budget"]["deadline_ms"])
    assert bounds == [4321, 4321, None, 4321, 9876]
    again = await caller.act(session, observe("arm"), step=4, include=["plan"], planner={"deadline_ms": None})
    assert again["replayed"], "the deadline is no part of what is asked"


async def test_a_truth_value_in_an_observation_of_numbers_is_refused(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    for sent in ([*ARM[:6], True], [True] * 7, {"dtype": "bool", "shape": [7], "data": "AAAAAAAAAA=="}):
        problem = await caller.act(session, sent, status=422)
        assert problem["errors"][0]["path"] == "observation"
    assert np.shape((await caller.act(session, ARM, step=0))["action"]) == (2,)
