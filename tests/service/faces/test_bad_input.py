"""Whatever is wrong with a request is told as the right problem, and the session is what it was."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from service.core import PlanningService
from service.protocol import media
from service.protocol.bodies import encode_body
from tests.service.support import Caller, observe, over_http, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

GOOD = [0.0] * 7
BOX = {"dtype": "float32", "shape": [7], "data": "A" * 38 + "=="}

ACTS: list[tuple[str, Any, int, str]] = [
    ("no observation", {}, 422, "observation"),
    ("null observation", {"observation": None}, 422, "observation"),
    ("text for an observation", {"observation": "hello"}, 422, "observation"),
    ("wrong length", {"observation": [0.0] * 6}, 422, "observation"),
    ("wrong dimensions", {"observation": [GOOD]}, 422, "observation"),
    ("ragged lists", {"observation": [[1], [2, 3]]}, 422, "observation"),
    ("text among numbers", {"observation": [0.0] * 6 + ["x"]}, 422, "observation"),
    ("null among numbers", {"observation": [0.0] * 6 + [None]}, 422, "observation"),
    ("huge numbers", {"observation": [1e300] * 7}, 422, "observation"),
    ("huge integers", {"observation": [10**30] * 7}, 422, "observation"),
    ("an object for an array", {"observation": {"a": GOOD}}, 422, "observation"),
    ("unknown dtype", {"observation": {**BOX, "dtype": "object"}}, 422, "observation.dtype"),
    ("wrong shape", {"observation": {**BOX, "shape": [-7]}}, 422, "observation.shape"),
    ("too few bytes", {"observation": {**BOX, "data": "AAAA"}}, 422, "observation.data"),
    ("not base64", {"observation": {**BOX, "data": "***"}}, 422, "observation.data"),
    ("a giant shape", {"observation": {**BOX, "shape": [10**9]}}, 422, "observation.shape"),
    ("a picture that is none", {"observation": {"encoding": "png", "data": "AAAA"}}, 422, "observation.data"),
    ("an unknown encoding", {"observation": {"encoding": "tiff", "data": ""}}, 422, "observation.encoding"),
    ("an action that is none", {"observation": GOOD, "executed_action": "left"}, 422, "executed_action"),
    ("an action outside", {"observation": GOOD, "executed_action": [2.0, 0.0]}, 422, "executed_action"),
    ("an action too long", {"observation": GOOD, "executed_action": [0.0] * 3}, 422, "executed_action"),
    ("an unknown field", {"observation": GOOD, "stepp": 1}, 422, "stepp"),
    ("a negative step", {"observation": GOOD, "step": -1}, 422, "step"),
    ("a step in text", {"observation": GOOD, "step": "0"}, 422, "step"),
    ("a fraction of a step", {"observation": GOOD, "step": 0.5}, 422, "step"),
    ("a huge step", {"observation": GOOD, "step": 10**30}, 422, "step"),
    ("the wrong step", {"observation": GOOD, "step": 5}, 409, ""),
    ("is_first as a number", {"observation": GOOD, "is_first": 1}, 422, "is_first"),
    ("a reward in text", {"observation": GOOD, "reward": "1"}, 422, "reward"),
    ("an unknown part", {"observation": GOOD, "include": ["plans"]}, 422, "include[0]"),
    ("a planner that is none", {"observation": GOOD, "planner": "cem"}, 422, "planner"),
    ("an unknown method", {"observation": GOOD, "planner": {"method": "magic"}}, 422, "planner.method"),
    ("an unknown setting", {"observation": GOOD, "planner": {"sampels": 9}}, 422, "planner.sampels"),
    ("no samples", {"observation": GOOD, "planner": {"samples": 0}}, 422, "planner.samples"),
    ("too many samples", {"observation": GOOD, "planner": {"samples": 10**9}}, 422, "planner.samples"),
    ("too long a horizon", {"observation": GOOD, "planner": {"horizon": 10**6}}, 422, "planner.horizon"),
    (
        "a negative deadline",
        {"observation": GOOD, "planner": {"deadline_ms": -5}},
        422,
        "planner.deadline_ms",
    ),
    ("a search for discrete actions", {"observation": GOOD, "planner": {"low": "mcts"}}, 422, "planner.low"),
    ("a list for a body", [1, 2], 422, "body"),
    ("a number for a body", 7, 422, "body"),
]


@pytest.mark.parametrize(
    ("kind", "status", "path"), [case[1:] for case in ACTS], ids=[case[0] for case in ACTS]
)
async def test_a_bad_act_is_answered_with_what_is_wrong_and_loses_nothing(
    client: httpx.AsyncClient, kind: Any, status: int, path: str
) -> None:
    caller = Caller(client)
    session = await caller.session("arm", seed=1)
    before = await caller.ask("GET", f"/v1/sessions/{session}")
    response = await client.post(f"/v1/sessions/{session}/act", content=json.dumps(kind), headers=JSON)
    check(response, status, path)
    sayable = isinstance(kind, dict) and "huge" not in str(kind)
    packed = encode_body_or_none(kind) if status == 422 and sayable else None
    if packed is not None:  # the same over msgpack, where it can be said there
        again = await client.post(f"/v1/sessions/{session}/act", content=packed, headers=MSGPACK)
        check(again, status, path)
    assert await caller.ask("GET", f"/v1/sessions/{session}") == before
    await caller.act(session, GOOD, step=0)


JSON = {"content-type": media.JSON}
MSGPACK = {"content-type": media.MSGPACK}


def encode_body_or_none(tree: Any) -> bytes | None:
    try:
        return encode_body(tree, media.MSGPACK)
    except (OverflowError, ValueError):
        return None


def check(response: httpx.Response, status: int, path: str = "") -> dict[str, Any]:
    """The problem in a response, which must be complete."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == media.PROBLEM_JSON
    problem: dict[str, Any] = response.json()
    assert problem.keys() >= {"type", "title", "status", "detail", "instance", "code"}
    assert problem["status"] == status and problem["instance"] == response.request.url.path
    assert "Traceback" not in response.text and ".py" not in response.text
    if path:
        assert path in [error["path"] for error in problem["errors"]], problem["errors"]
        assert all(error["message"] for error in problem["errors"])
    return problem


BODIES: list[tuple[str, bytes, str | None, int, str]] = [
    ("nothing", b"", media.JSON, 422, "malformed_body"),
    ("half a body", b'{"observation": [0', media.JSON, 422, "malformed_body"),
    ("not UTF-8", b'{"observation": "\xff\xfe"}', media.JSON, 422, "malformed_body"),
    ("NaN", b'{"observation": [NaN,0,0,0,0,0,0]}', media.JSON, 422, "malformed_body"),
    ("Infinity", b'{"observation": [Infinity,0,0,0,0,0,0]}', media.JSON, 422, "malformed_body"),
    ("a tower of lists", b'{"observation": ' + b"[" * 5000 + b"]" * 5000 + b"}", media.JSON, 422, ""),
    ("nested deeper than allowed", b"[" * 60 + b"]" * 60, media.JSON, 422, "malformed_body"),
    ("half a surrogate pair", b'{"observation": "\\ud800"}', media.JSON, 422, "malformed_body"),
    (
        "msgpack called JSON",
        encode_body({"observation": GOOD}, media.MSGPACK),
        media.JSON,
        422,
        "malformed_body",
    ),
    ("JSON called msgpack", b'{"observation": [0]}', media.MSGPACK, 422, "malformed_body"),
    ("half a msgpack", b"\x81\xabobservation\xdd\xff\xff\xff\xff", media.MSGPACK, 422, "malformed_body"),
    ("a msgpack extension", b"\x81\xa1a\xd4\x01\x00", media.MSGPACK, 422, "malformed_body"),
    ("a msgpack tower", b"\x91" * 5000 + b"\x90", media.MSGPACK, 422, "malformed_body"),
    ("bytes after the end", encode_body({}, media.MSGPACK) + b"\x00", media.MSGPACK, 422, "malformed_body"),
    (
        "another media type",
        b"observation=1",
        "application/x-www-form-urlencoded",
        415,
        "unsupported_media_type",
    ),
    ("a pickle", b"\x80\x04N.", "application/octet-stream", 415, "unsupported_media_type"),
    ("too much", b" " * (9 * 2**20), media.JSON, 413, "body_too_large"),
]


@pytest.mark.parametrize("case", BODIES, ids=[case[0] for case in BODIES])
async def test_a_body_that_cannot_be_read_is_reported(
    client: httpx.AsyncClient, case: tuple[str, bytes, str | None, int, str]
) -> None:
    _, content, kind, status, code = case
    caller = Caller(client)
    session = await caller.session("arm")
    headers = {"content-type": kind} if kind else {}
    problem = check(
        await client.post(f"/v1/sessions/{session}/act", content=content, headers=headers), status
    )
    assert not code or problem["code"] == code
    await caller.act(session, GOOD, step=0)


async def test_a_body_that_does_not_say_its_length_is_bounded_too(client: httpx.AsyncClient) -> None:
    session = await Caller(client).session("arm")

    async def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 65536

    response = await client.post(f"/v1/sessions/{session}/act", content=endless(), headers=JSON)
    assert check(response, 413)["code"] == "body_too_large"


GRIDS: list[tuple[str, Any, str]] = [
    ("a missing entry", {"board": None, "joints": None}, "observation.camera"),
    ("channels first", {"camera": np.zeros((3, 64, 64), np.uint8).tolist()}, "observation.camera"),
    ("fractions in a picture", {"camera": np.full((64, 64, 3), 0.5).tolist()}, "observation.camera"),
    ("above the bound", {"board": np.full((5, 6, 3), 200).tolist()}, "observation.board"),
    ("below the bound", {"board": np.full((5, 6, 3), -1).tolist()}, "observation.board"),
    ("an entry too many", {"sonar": [1, 2]}, "observation.sonar"),
]


@pytest.mark.parametrize("case", GRIDS, ids=[case[0] for case in GRIDS])
async def test_a_dict_observation_is_checked_entry_by_entry(
    client: httpx.AsyncClient, case: tuple[str, Any, str]
) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    good = {name: value.tolist() for name, value in observe("grid").items()}
    changes = case[1]
    if case[0] == "a missing entry":
        bad = {name: value for name, value in good.items() if name != "camera"}
    else:
        bad = {**good, **changes}
    check(await client.post(f"/v1/sessions/{session}/act", json={"observation": bad}), 422, case[2])
    await caller.act(session, good, step=0)


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({}, 422, "model"),
        ({"model": 3}, 422, "model"),
        ({"model": "nothing"}, 404, ""),
        ({"model": "arm", "version": "99"}, 404, ""),
        ({"model": "../../etc"}, 404, ""),
        ({"model": "arm", "seed": -1}, 422, "seed"),
        ({"model": "arm", "seed": 10**30}, 422, "seed"),
        ({"model": "arm", "seed": "7"}, 422, "seed"),
        ({"model": "arm", "seed": True}, 422, "seed"),
        ({"model": "arm", "ttl_s": 0}, 422, "ttl_s"),
        ({"model": "arm", "ttl_s": 1e12}, 422, "ttl_s"),
        ({"model": "arm", "planner": {"low": "categorical-cem"}}, 422, "planner.low"),
        ({"model": "camera", "planner": {"method": "hierarchical"}}, 422, "planner.method"),
        ({"model": "arm", "sead": 1}, 422, "sead"),
    ],
    ids=str,
)
async def test_a_bad_session_is_not_made(
    client: httpx.AsyncClient, service: PlanningService, body: Any, status: int, path: str
) -> None:
    before = len(service.sessions)
    check(await client.post("/v1/sessions", json=body), status, path)
    assert len(service.sessions) == before


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"level": "middle"}, "level"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": 10**6}, "horizon"),
        ({"rollouts": 10**6}, "rollouts"),
        ({"horizon": 1000, "rollouts": 256}, "rollouts"),
        ({"policy": "guess"}, "policy"),
        ({"level": "high", "policy": "actor"}, "policy"),
        ({"level": "low", "policy": "all"}, "policy"),
        ({"level": "high", "actions": [9]}, "actions[0]"),
        ({"level": "high", "actions": []}, "actions"),
        ({"level": "high", "actions": [[0, 1], [0]]}, "actions"),
        ({"level": "low", "actions": [[5.0, 0.0]]}, "actions[0]"),
        ({"level": "low", "actions": ["x"]}, "actions[0]"),
        ({"level": "low", "actions": [[0.0, 0.0]] * 2000}, "actions"),
        ({"image": "bmp"}, "image"),
        ({"include": ["everything"]}, "include[0]"),
        ({"seed": -1}, "seed"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_bad_imagination_is_answered_with_what_is_wrong(
    client: httpx.AsyncClient, body: Any, path: str
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, GOOD)
    check(await client.post(f"/v1/sessions/{session}/imagine", json=body), 422, path)
    check(
        await client.post(
            f"/v1/sessions/{session}/imagine", json=body, headers={"accept": media.EVENT_STREAM}
        ),
        422,
        path,
    )


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/nothing", 404),
        ("GET", "/v1/sessions/nothing", 404),
        ("POST", "/v1/sessions/nothing/reset", 404),
        ("GET", "/v1/sessions/nothing/belief", 404),
        ("DELETE", "/v1/sessions", 405),
        ("PUT", "/v1/models", 405),
        ("GET", "/v1/sessions/x/act", 405),
        ("POST", "/v1/models/arm/load", 403),
    ],
)
async def test_what_does_not_exist_is_a_problem_too(
    client: httpx.AsyncClient, verb: str, path: str, status: int
) -> None:
    check(await client.request(verb, path), status)


async def test_a_type_that_cannot_be_answered_is_406(client: httpx.AsyncClient) -> None:
    check(await client.get("/v1/models", headers={"accept": "text/html"}), 406)
    caller = Caller(client)
    session = await caller.session("arm")
    response = await client.post(
        f"/v1/sessions/{session}/act", json={"observation": GOOD}, headers={"accept": "image/png"}
    )
    check(response, 406)
    assert (await caller.ask("GET", f"/v1/sessions/{session}"))["step"] == 0


async def test_a_failure_of_our_own_shows_no_traceback(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(small) as service, over_http(service) as client:
        monkeypatch.setattr(service, "list_models", lambda: 1 / 0)
        problem = check(await client.get("/v1/models"), 500)
        assert problem["code"] == "internal" and problem["request_id"]
        assert "division" not in json.dumps(problem)
