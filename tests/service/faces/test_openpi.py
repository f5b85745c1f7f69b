"""The openpi policy protocol, with the client that robots have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack_numpy as plain_numpy  # the package that openpi_client's module is a safer copy of
import numpy as np
import pytest
import pytest_asyncio
import websockets.sync.client
from openpi_client import msgpack_numpy
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.core import PlanningService
from service.faces.openpi import socket as openpi
from tests.service.sockets import over_sockets
from tests.service.support import Caller, observe, over_http, running, same

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),  # openpi-client's own
]
QUICK = "method=flat&iterations=1&samples=8&elites=2"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(service: PlanningService) -> AsyncIterator[str]:
    """Where the module's service answers WebSockets."""
    async with over_sockets(service) as port:
        yield f"ws://127.0.0.1:{port}"


@contextlib.contextmanager
def robot(address: str, query: str = "model=arm&" + QUICK) -> Iterator[WebsocketClientPolicy]:
    """The real client; it never closes its connection by itself."""
    policy = WebsocketClientPolicy(f"{address}/openpi?{query}")
    try:
        yield policy
    finally:
        policy._ws.close()


async def sessions_of(service: PlanningService) -> set[str]:
    return {session.session_id for session in service.sessions.all()}


async def until(true: Callable[[], bool]) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


# -- a conversation ------------------------------------------------------------------------------------------


async def test_the_server_says_first_what_it_is(address: str, service: PlanningService) -> None:
    def look() -> dict[str, Any]:
        with robot(address, f"model=grid&seed=5&{QUICK}") as policy:
            return policy.get_server_metadata()

    metadata = await asyncio.to_thread(look)
    assert metadata["model"] == "grid" and metadata["version"] == "1" and metadata["step"] == 0
    assert metadata["task"] == "tests:grid" and metadata["action_horizon"] == 1
    assert set(metadata["observation_space"]["spaces"]) == {"camera", "board", "joints"}
    assert metadata["action_space"] == {"type": "Discrete", "n": 4}
    assert metadata["planner"]["iterations"] == 1


@pytest.mark.parametrize("model", ["arm", "camera", "grid"])
async def test_a_robot_gets_the_actions_that_the_contract_gives(
    address: str, service: PlanningService, model: str
) -> None:
    def drive() -> list[dict[str, Any]]:
        with robot(address, f"model={model}&seed=3&{QUICK}") as policy:
            return [policy.infer({"observation": observe(model, n), "prompt": "go"}) for n in range(3)]

    answers = await asyncio.to_thread(drive)
    async with over_http(service) as client:
        caller = Caller(client)
        planner = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}
        session = await caller.session(model, seed=3, planner=planner)
        expected = [(await caller.act(session, observe(model, n)))["action"] for n in range(3)]
    for step, (answer, action) in enumerate(zip(answers, expected, strict=True)):
        assert answer["step"] == step and answer["replayed"] is False and "ignored" not in answer
        assert answer["actions"].dtype == (np.float32 if model == "arm" else np.int64)
        assert answer["actions"].shape == ((1, 2) if model == "arm" else (1, 1))
        assert np.array_equal(np.squeeze(answer["actions"]), np.float32(action))
        assert 0 < answer["policy_timing"]["infer_ms"] <= answer["server_timing"]["infer_ms"]
    assert "prev_total_ms" not in answers[0]["server_timing"]
    assert answers[1]["server_timing"]["prev_total_ms"] >= answers[0]["server_timing"]["infer_ms"]


async def test_an_observation_may_be_the_message_itself_in_openpi_s_names(address: str) -> None:
    seen = observe("grid", 1)
    forms: list[dict[str, Any]] = [
        {"observation": seen},
        {**seen, "prompt": "open the door"},
        {f"observation/{name}": value for name, value in seen.items()},
        {**{name: value.tolist() for name, value in seen.items()}, "wrist": np.zeros(3)},
    ]

    def drive(message: dict[str, Any]) -> dict[str, Any]:
        with robot(address, f"model=grid&seed=3&{QUICK}") as policy:
            return policy.infer(message)

    answers = [await asyncio.to_thread(drive, form) for form in forms]
    assert len({int(answer["actions"][0, 0]) for answer in answers}) == 1
    assert [answer.get("ignored") for answer in answers] == [None, None, None, ["wrist"]]


async def test_a_single_array_is_found_among_others_by_its_shape(address: str) -> None:
    def drive(message: dict[str, Any]) -> dict[str, Any]:
        with robot(address, f"model=arm&seed=3&{QUICK}") as policy:
            return policy.infer(message)

    seen = observe("arm")
    plain = await asyncio.to_thread(drive, {"observation": seen})
    alone = await asyncio.to_thread(drive, {"observation/state": seen, "prompt": "go"})
    shaped = await asyncio.to_thread(drive, {"state": seen, "image": np.zeros((8, 8, 3), np.uint8)})
    assert same(plain["actions"], alone["actions"]) and same(plain["actions"], shaped["actions"])
    assert shaped["ignored"] == ["image"]
    with pytest.raises(RuntimeError, match="ambiguous"):
        await asyncio.to_thread(drive, {"left": seen, "right": seen})


async def test_a_message_may_say_what_an_act_may_say(address: str, service: PlanningService) -> None:
    def drive() -> list[dict[str, Any]]:
        with robot(address) as policy:
            return [
                policy.infer(
                    {"observation": observe("arm", 0), "step": np.int64(0), "is_first": np.bool_(True)}
                ),
                policy.infer({"observation": observe("arm", 0), "step": 0, "is_first": True}),
                policy.infer(
                    {
                        "observation": observe("arm", 1),
                        "reward": np.float32(0.5),
                        "executed_action": np.array([[0.5, -0.5]], np.float32),
                        "planner": {"iterations": 2},
                    }
                ),
            ]

    first, again, third = await asyncio.to_thread(drive)
    assert again["replayed"] is True and same(first["actions"], again["actions"])
    assert third["step"] == 1


async def test_a_chunk_holds_the_plan_s_next_actions(address: str, service: PlanningService) -> None:
    def drive() -> tuple[list[Any], list[Any]]:
        query = f"model=arm&seed=3&chunk=2&{QUICK}"
        with robot(address, query) as policy, robot(address, query) as other:
            chunks = [policy.infer({"observation": observe("arm", n)})["actions"] for n in range(2)]
            broker = ActionChunkBroker(other, action_horizon=2)
            single = [broker.infer({"observation": observe("arm", n // 2)})["actions"] for n in range(4)]
            return chunks, single

    chunks, single = await asyncio.to_thread(drive)
    assert [chunk.shape for chunk in chunks] == [(2, 2), (2, 2)]
    assert np.array_equal(np.concatenate(chunks), np.stack(single))
    async with over_http(service) as client:
        caller = Caller(client)
        planner = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}
        session = await caller.session("arm", seed=3, planner=planner)
        first = await caller.act(session, observe("arm", 0))
        assert np.allclose(chunks[0][0], first["action"])
        # The whole chunk was done: the last of it is what was executed before the next observation.
        second = await caller.act(session, observe("arm", 1), executed_action=chunks[0][1])
        assert np.allclose(chunks[1][0], second["action"])


async def test_a_chunk_is_as_long_as_the_plan_at_most(address: str) -> None:
    def drive(query: str) -> Any:
        with robot(address, query) as policy:
            return policy.infer({"observation": observe("arm")})["actions"]

    assert (await asyncio.to_thread(drive, f"model=arm&chunk=50&horizon=4&{QUICK}")).shape == (4, 2)


# -- sessions ------------------------------------------------------------------------------------------------


async def test_one_connection_is_one_session_and_closing_ends_it(
    address: str, service: PlanningService
) -> None:
    before = await sessions_of(service)

    def meet() -> tuple[set[str], WebsocketClientPolicy, WebsocketClientPolicy]:
        one, other = [WebsocketClientPolicy(f"{address}/openpi?model=arm&{QUICK}") for _ in range(2)]
        for n in range(2):
            one.infer({"observation": observe("arm", n)})
        assert other.infer({"observation": observe("arm")})["step"] == 0
        return {policy.get_server_metadata()["session_id"] for policy in (one, other)}, one, other

    named, one, other = await asyncio.to_thread(meet)
    assert len(named) == 2 and await sessions_of(service) == before | named
    for policy in (one, other):
        await asyncio.to_thread(policy._ws.close)
    await until(lambda: not named & {session.session_id for session in service.sessions.all()})


async def test_a_session_outlives_a_broken_connection_for_a_while(
    address: str, service: PlanningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off() -> str:
        policy = WebsocketClientPolicy(f"{address}/openpi?model=arm&{QUICK}")
        policy.infer({"observation": observe("arm")})
        policy._ws.socket.shutdown(2)  # no word of goodbye
        return str(policy.get_server_metadata()["session_id"])

    session = await asyncio.to_thread(break_off)
    await asyncio.sleep(0.05)
    assert session in await sessions_of(service)

    def go_on() -> dict[str, Any]:
        with robot(address, f"session_id={session}") as policy:
            assert policy.get_server_metadata()["step"] == 1
            return policy.infer({"observation": observe("arm", 1)})

    assert (await asyncio.to_thread(go_on))["step"] == 1
    monkeypatch.setattr(openpi, "RESUME_S", 0.02)
    lost = await asyncio.to_thread(break_off)
    await until(lambda: lost not in {each.session_id for each in service.sessions.all()})


async def test_a_robot_that_goes_away_does_not_keep_the_planner_busy(
    address: str, service: PlanningService
) -> None:
    """Its search would take minutes: it is given up, and the session has not acted."""
    query = "model=arm&method=flat&iterations=1000&samples=20000&horizon=50"
    policy = await asyncio.to_thread(WebsocketClientPolicy, f"{address}/openpi?{query}")
    session = str(policy.get_server_metadata()["session_id"])
    await asyncio.to_thread(policy._ws.send, msgpack_numpy.packb({"observation": observe("arm")}))
    await until(lambda: service.acting.running == 1 and bool(service.engine._tasks))
    policy._ws.socket.shutdown(2)
    await until(lambda: service.acting.running == 0 and service.engine.depth == 0)
    await until(lambda: not service.engine._tasks)
    assert (await service.lifecycle.get(session))["step"] == 0


async def test_a_robot_that_packs_with_the_msgpack_numpy_package_reads_the_answer_with_it(
    address: str,
) -> None:
    seen = observe("grid", 1)

    def drive() -> list[Any]:
        with robot(address, f"model=grid&seed=3&{QUICK}") as policy:
            expected = policy.infer({"observation": seen})["actions"]
        actions = []
        for message in (
            {"observation": seen},
            {f"observation/{name}": value for name, value in seen.items()},
        ):
            with websockets.sync.client.connect(f"{address}/openpi?model=grid&seed=3&{QUICK}") as socket:
                plain_numpy.unpackb(socket.recv())
                socket.send(plain_numpy.packb(message))
                actions.append(plain_numpy.unpackb(socket.recv())["actions"])
        return [expected, *actions]

    expected, *actions = await asyncio.to_thread(drive)
    for each in actions:
        assert isinstance(each, np.ndarray) and same(each, expected)


async def test_a_host_and_a_port_are_enough_where_one_model_is_served(fresh: PlanningService) -> None:
    async with over_sockets(fresh) as port:

        def drive() -> Any:
            policy = WebsocketClientPolicy("127.0.0.1", port)
            actions = policy.infer({"observation": observe("arm")})["actions"]
            policy._ws.close()
            return actions

        assert (await asyncio.to_thread(drive)).shape == (1, 2)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("", 422, "arm, camera, grid"),
        ("model=non", 404, "there is none"),
        ("model=arm&smaples=4", 422, "did you mean 'samples'"),
        ("model=arm&method=fast", 422, "planner.method"),
        ("model=arm&chunk=0", 422, "chunk"),
        ("model=arm&seed=x", 422, "seed"),
        ("model=arm&seed=1&seed=2", 422, "given twice"),
        ("session_id=missing", 404, "session_not_found"),
        ("session_id=x&seed=3", 422, "has its own seed"),
    ],
)
async def test_a_wrong_address_is_refused_before_the_connection_stands(
    address: str, query: str, status: int, says: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await asyncio.to_thread(lambda: robot(address, query).__enter__())
    assert refused.value.response.status_code == status
    problem = json.loads(refused.value.response.body or b"")
    assert problem["status"] == status and says in json.dumps(problem)


@pytest.mark.parametrize("path", ["/openpi/", "/policy", "/v1/act"])
async def test_a_websocket_at_another_path_is_told_where_they_are(
    address: str, service: PlanningService, path: str
) -> None:
    def knock() -> None:
        with websockets.sync.client.connect(address + path):
            return

    with pytest.raises(InvalidStatus) as refused:
        await asyncio.to_thread(knock)
    assert refused.value.response.status_code == 404
    problem = json.loads(refused.value.response.body or b"")
    assert problem["code"] == "not_found" and path in problem["detail"] and "/openpi" in problem["detail"]


async def test_whoever_is_refused_is_a_request_in_the_log_and_no_failure(
    small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(small, access_log=True) as service, over_sockets(service) as port:
        caplog.clear()
        with pytest.raises(InvalidStatus):
            await asyncio.to_thread(lambda: robot(f"ws://127.0.0.1:{port}", "model=none").__enter__())
        await until(lambda: "/openpi" in caplog.text)
        await asyncio.sleep(0.05)
        lines = [record for record in caplog.records if record.name.startswith("thick")]
        assert [(line.name, line.levelname) for line in lines] == [("thick.request", "INFO")]
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_robot_that_names_no_model_gets_the_same_one_however_early_it_comes(small: Path) -> None:
    async with running(small) as service, over_sockets(service) as port:
        first, *_ = service.repository.all()

        def enter() -> WebsocketClientPolicy:
            return robot(f"ws://127.0.0.1:{port}", QUICK).__enter__()

        for state in ("loading", "failed"):
            first.state, first.reason = state, "broken" if state == "failed" else None  # type: ignore[assignment]
            with pytest.raises(InvalidStatus) as refused:
                await asyncio.to_thread(enter)
            problem = json.loads(refused.value.response.body or b"")
            assert problem["status"] == 503 and state in problem["detail"] and first.name in problem["detail"]
        assert "broken" in problem["detail"]
        first.state, first.reason = "ready", None


async def test_a_wrong_observation_is_reported_and_the_conversation_goes_on(address: str) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"observation": np.zeros(6, np.float32)}, "expected shape"),
        ({"observation": np.full(7, np.nan, np.float32)}, "finite"),
        ({"observation": None}, "expected an array"),
        ({}, "no array"),
        ({"observation": observe("arm"), "step": 5}, "expects step 0"),
        ({"observation": observe("arm"), "planner": {"smaples": 3}}, "did you mean"),
        ({"observation": observe("arm"), "executed_action": np.zeros(3)}, "executed_action"),
    ]

    def drive() -> dict[str, Any]:
        with robot(address) as policy:
            for message, says in wrong:
                with pytest.raises(RuntimeError, match=says) as told:
                    policy.infer(message)
                assert "Traceback" not in str(told.value)
                problem = json.loads(str(told.value).partition("\n")[2])
                assert problem["status"] in (409, 422) and problem["code"]
            for raw in (b"\xc1", b"\x93\x01\x02\x03", b"\x81", "text"):
                policy._ws.send(raw)
                assert isinstance(policy._ws.recv(), str)
            return policy.infer({"observation": observe("arm")})

    assert (await asyncio.to_thread(drive))["step"] == 0


async def test_a_connection_whose_session_is_gone_is_closed(address: str, service: PlanningService) -> None:
    policy = await asyncio.to_thread(WebsocketClientPolicy, f"{address}/openpi?model=arm&{QUICK}")
    await service.lifecycle.delete(policy.get_server_metadata()["session_id"])
    with pytest.raises(RuntimeError, match="session_not_found"):
        await asyncio.to_thread(policy.infer, {"observation": observe("arm")})
    with pytest.raises(ConnectionClosed):
        await asyncio.to_thread(policy.infer, {"observation": observe("arm")})


async def test_a_server_that_stops_says_so_and_keeps_the_session(fresh: PlanningService) -> None:
    async with over_sockets(fresh) as port:
        policy = await asyncio.to_thread(WebsocketClientPolicy, f"ws://127.0.0.1:{port}/openpi?{QUICK}")
        session = policy.get_server_metadata()["session_id"]
        fresh.draining = True
        with pytest.raises(RuntimeError, match="draining"):
            await asyncio.to_thread(policy.infer, {"observation": observe("arm")})
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.to_thread(policy.infer, {"observation": observe("arm")})
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        await asyncio.sleep(0.05)
        assert session in await sessions_of(fresh)


async def test_keys_are_checked_in_the_form_that_the_client_sends_them(small: Path) -> None:
    async with running(small, api_keys="me") as service, over_sockets(service) as port:
        address = f"ws://127.0.0.1:{port}/openpi?{QUICK}"
        for key, status in ((None, 401), ("other", 403)):
            with pytest.raises(InvalidStatus) as refused:
                await asyncio.to_thread(WebsocketClientPolicy, address, None, key)
            assert refused.value.response.status_code == status
        policy = await asyncio.to_thread(WebsocketClientPolicy, address, None, "me")
        await asyncio.to_thread(policy._ws.close)


async def test_pages_of_other_sites_may_not_use_the_server_of_whoever_visits_them(address: str) -> None:
    def visit(origin: str) -> None:
        with websockets.sync.client.connect(f"{address}/openpi?model=arm&{QUICK}", origin=origin):  # type: ignore[arg-type]
            return

    with pytest.raises(InvalidStatus) as refused:
        await asyncio.to_thread(visit, "https://elsewhere.example")
    assert refused.value.response.status_code == 403
    await asyncio.to_thread(visit, address.replace("ws://", "http://"))
