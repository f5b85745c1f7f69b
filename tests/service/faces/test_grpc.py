"""The contract over gRPC: every method, the same answers as over HTTP, and every failure with its problem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from clients.errors import StepConflictError
from clients.grpc_client import GrpcPlanningClient
from service.core import PlanningService
from service.protocol import media, protobuf
from service.protocol.bodies import decode_arrays
from service.protocol.errors import PROBLEMS
from service.protocol.generated import planner_pb2 as pb
from tests.service.grpc_support import OverGrpc, act_request, failure, over_grpc
from tests.service.support import Caller, observe, same

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ("arm", "camera", "grid")
QUICK = {"method": "flat", "iterations": 1, "samples": 8, "elites": 2}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def grpc_client(service: PlanningService) -> AsyncIterator[OverGrpc]:
    """A gRPC client of the module's service."""
    async with over_grpc(service) as made:
        yield made


def alike(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what no two sessions share; what is null over HTTP is unset over gRPC."""

    without = {"session_id", "timing", "created_at", "expires_at"}
    return {
        key: alike(value) if isinstance(value, dict) else value
        for key, value in answer.items()
        if key not in without and value is not None
    }


def content(belief: bytes) -> dict[str, Any]:
    """What an exported belief holds: its metadata come in any order."""
    length = int.from_bytes(belief[:8], "little")
    header = json.loads(belief[8 : 8 + length])
    return {**header.pop("__metadata__"), "tensors": header, "data": belief[8 + length :]}


# -- the contract --------------------------------------------------------------------------------------------


async def test_models_are_listed_and_described_as_over_http(
    client: httpx.AsyncClient, grpc_client: OverGrpc
) -> None:
    http = Caller(client)
    listed, expected = await grpc_client.ask("ListModels"), await http.ask("GET", "/v1/models")
    assert [alike(model) for model in listed["models"]] == [alike(model) for model in expected["models"]]
    for name in MODELS:
        detail = await grpc_client.ask("GetModel", {"name": name})
        assert same(alike(detail), alike(await http.ask("GET", f"/v1/models/{name}")))


async def test_a_session_lives_from_creation_to_deletion(grpc_client: OverGrpc) -> None:
    made = await grpc_client.ask(
        "CreateSession", {"model": "arm", "seed": 7, "planner": {"iterations": 1}, "ttl_s": 60}
    )
    assert made["step"] == 0 and made["model"] == "arm" and made["version"] == "1" and made["seed"] == 7
    assert made["planner"]["iterations"] == 1 and made["planner"]["samples"] == 16
    assert made["action_space"]["type"] == "Box" and made["observation_space"]["shape"] == [7]
    named = {"session_id": made["session_id"]}
    assert await grpc_client.ask("GetSession", named) == made
    await grpc_client.act(made["session_id"], observe("arm"))
    assert (await grpc_client.ask("GetSession", named))["step"] == 1
    assert (await grpc_client.ask("ResetSession", named))["step"] == 0
    listed = (await grpc_client.ask("ListSessions"))["sessions"]
    assert made["session_id"] in [view["session_id"] for view in listed]
    assert await grpc_client.ask("DeleteSession", named) == {}
    for method in ("GetSession", "DeleteSession", "ResetSession", "ForkSession", "ExportBelief", "Act"):
        tree = {**named, "observation": observe("arm")} if method == "Act" else named
        status, problem = await grpc_client.refused(method, tree)
        assert status == "NOT_FOUND" and problem.code == "session_not_found"


@pytest.mark.parametrize("model", MODELS)
async def test_http_and_grpc_give_the_same_answers_for_the_same_seed_and_observations(
    client: httpx.AsyncClient, grpc_client: OverGrpc, model: str
) -> None:
    http = Caller(client, media.MSGPACK)
    one, other = await http.session(model, seed=11), await grpc_client.session(model, seed=11)
    for step in range(3):
        fields = {"step": step, "reward": 0.5, "include": ["plan"]}
        if step == 2:
            fields["executed_action"] = 1 if model != "arm" else observe("arm")[:2].clip(-1, 1)
        expected = await http.act(one, observe(model, step), **fields)
        answer = await grpc_client.act(other, observe(model, step), **fields)
        assert same(alike(answer), alike(expected))
    level = "low" if model == "camera" else "high"
    asked = {"level": level, "horizon": 2, "rollouts": 2, "seed": 5}
    expected = await http.ask("POST", f"/v1/sessions/{one}/imagine", asked)
    answer = await grpc_client.ask("Imagine", {"session_id": other, **asked})
    assert answer["level"] == level and len(answer["rollouts"]) == 2
    for row, rollout in zip(answer["rollouts"], expected["rollouts"], strict=True):
        steps = [alike(step) for step in row["steps"]], [alike(step) for step in rollout["steps"]]
        assert same(*steps)
        assert alike({**row, "steps": None}) == alike({**rollout, "steps": None})
    over_http = (await client.get(f"/v1/sessions/{one}/belief")).content
    exported = [
        (await grpc_client.ask("ExportBelief", {"session_id": each}))["data"] for each in (one, other)
    ]
    assert content(over_http) == content(exported[0]) == content(exported[1])


async def test_a_step_that_was_answered_over_http_is_replayed_over_grpc(
    client: httpx.AsyncClient, grpc_client: OverGrpc
) -> None:
    http = Caller(client)
    session = await http.session("arm", planner=QUICK)
    first = await http.act(session, observe("arm", 0), step=0)
    again = await grpc_client.act(session, observe("arm", 0), step=0)
    assert again["replayed"] is True and again["timing"]["low_plan_ms"] > 0
    assert same(alike(again) | {"replayed": False}, alike(first))
    assert (await grpc_client.ask("GetSession", {"session_id": session}))["step"] == 1
    status, problem = await grpc_client.refused(
        "Act", {"session_id": session, "observation": observe("arm", 1), "step": 0}
    )
    assert status == "ABORTED" and problem.code == "step_conflict" and problem.extra["expected_step"] == 1
    assert "expects step 1" in problem.detail


async def test_an_act_without_a_session_makes_one(grpc_client: OverGrpc) -> None:
    tree = {"model": "arm", "seed": 3, "observation": observe("arm"), "planner": QUICK}
    answer = await grpc_client.ask("Act", tree)
    assert answer["step"] == 0
    named = await grpc_client.ask(
        "Act", {"session_id": answer["session_id"], "observation": observe("arm", 1), "planner": QUICK}
    )
    assert named["step"] == 1 and named["session_id"] == answer["session_id"]


async def test_an_answer_has_the_parts_that_were_asked_for(grpc_client: OverGrpc) -> None:
    session = await grpc_client.session(planner=QUICK)
    for include in ([], ["plan"], ["timing"], ["plan", "timing"]):
        answer = await grpc_client.act(session, observe("arm"), include=include)
        assert {"plan", "timing"} & answer.keys() == set(include)
    timing = answer["timing"]
    parts = sum(timing[name] for name in timing if name not in ("total_ms", "batch_size"))
    assert timing["decode_ms"] > 0 and timing["encode_ms"] > 0 and parts <= timing["total_ms"] + 1.0


async def test_a_fork_and_a_restored_session_do_what_the_original_does(grpc_client: OverGrpc) -> None:
    session = await grpc_client.session("grid", planner=QUICK)
    await grpc_client.act(session, observe("grid", 0))
    fork = (await grpc_client.ask("ForkSession", {"session_id": session}))["session_id"]
    belief = (await grpc_client.ask("ExportBelief", {"session_id": session}))["data"]
    restored = (await grpc_client.ask("RestoreSession", {"belief": belief}))["session_id"]
    answers = [
        alike(await grpc_client.act(each, observe("grid", 1), include=["plan"]))
        for each in (session, fork, restored)
    ]
    assert same(answers[0], answers[1]) and same(answers[0], answers[2])


async def test_imagining_from_an_observation_needs_no_session(grpc_client: OverGrpc) -> None:
    asked = {
        "model": "arm",
        "observation": observe("arm"),
        "level": "low",
        "horizon": 2,
        "include": ["reward"],
    }
    answer = await grpc_client.ask("Imagine", asked)
    assert [step.keys() & {"reward", "value", "observation"} for step in answer["rollouts"][0]["steps"]] == [
        {"reward"}
    ] * 2


async def test_pictures_may_travel_encoded(grpc_client: OverGrpc) -> None:
    asked = {
        "model": "camera",
        "observation": observe("camera"),
        "level": "low",
        "horizon": 1,
        "image": "png",
    }
    answer = await grpc_client.call("Imagine", asked)
    image = answer.rollouts[0].steps[0].observation.image
    assert image.encoding == "png" and image.data.startswith(b"\x89PNG")


# -- streams -------------------------------------------------------------------------------------------------


async def test_a_stream_answers_its_requests_in_their_order(grpc_client: OverGrpc) -> None:
    alone, session = await grpc_client.session(planner=QUICK), await grpc_client.session(planner=QUICK)
    expected = [await grpc_client.act(alone, observe("arm", n), include=["plan"]) for n in range(6)]
    stream = grpc_client.stream()
    for n in range(6):  # all of them before the first answer is read
        first = {"session_id": session} if n == 0 else {}
        await stream.write(act_request(**first, observation=observe("arm", n), step=n, include=["plan"]))
    await stream.done_writing()
    answers = [decode_arrays(protobuf.to_dict(answer)) async for answer in stream]
    assert [answer["step"] for answer in answers] == list(range(6))
    assert all(same(alike(one), alike(other)) for one, other in zip(answers, expected, strict=True))
    assert await stream.code() == grpc.StatusCode.OK


async def test_a_stream_that_names_a_model_makes_its_session(grpc_client: OverGrpc) -> None:
    stream = grpc_client.stream()
    await stream.write(act_request(model="arm", seed=1, observation=observe("arm"), planner=QUICK))
    first = await stream.read()
    await stream.write(act_request(observation=observe("arm", 1), planner=QUICK))
    second = await stream.read()
    assert (first.step, second.step) == (0, 1) and first.session_id == second.session_id
    await stream.done_writing()
    assert await stream.code() == grpc.StatusCode.OK


async def test_a_stream_replays_a_step_and_ends_with_a_wrong_one(grpc_client: OverGrpc) -> None:
    session = await grpc_client.session(planner=QUICK)
    stream = grpc_client.stream()
    for _ in range(2):
        await stream.write(act_request(session_id=session, observation=observe("arm"), step=0))
    answers = [await stream.read(), await stream.read()]
    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[0].action == answers[1].action
    await stream.write(act_request(observation=observe("arm"), step=7))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    status, problem = failure(ended.value)
    assert status == "ABORTED" and problem.extra["expected_step"] == 1


async def test_a_stream_is_of_one_session_alone(grpc_client: OverGrpc) -> None:
    session, other = [await grpc_client.session(planner=QUICK) for _ in range(2)]
    stream = grpc_client.stream()
    await stream.write(act_request(session_id=session, observation=observe("arm")))
    await stream.read()
    await stream.write(act_request(session_id=other, observation=observe("arm")))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    status, problem = failure(ended.value)
    assert status == "INVALID_ARGUMENT" and problem.errors[0].path == "session_id"
    assert (await grpc_client.ask("GetSession", {"session_id": other}))["step"] == 0


async def test_imagined_steps_come_as_they_are_made_and_sum_up_to_the_answer(grpc_client: OverGrpc) -> None:
    session = await grpc_client.session("arm")
    await grpc_client.act(session, observe("arm"))
    asked = {"session_id": session, "level": "low", "horizon": 3, "rollouts": 2, "seed": 1}
    whole = await grpc_client.ask("Imagine", asked)
    events = [
        protobuf.message_to_event(message) async for message in grpc_client.call("ImagineStream", asked)
    ]
    assert [event.name for event in events] == ["step"] * 6 + ["end"]
    steps: list[list[Any]] = [[], []]
    for event in events[:-1]:
        made = decode_arrays(event.data)
        assert made.pop("index") == len(steps[made["rollout"]])
        steps[made.pop("rollout")].append(made)
    rebuilt = [
        {**about, "steps": made} for about, made in zip(events[-1].data["rollouts"], steps, strict=True)
    ]
    assert same(rebuilt, whole["rollouts"])


async def test_a_session_that_has_seen_nothing_has_nothing_to_imagine_from(grpc_client: OverGrpc) -> None:
    session = await grpc_client.session("arm")
    for level in ("high", "low"):
        status, problem = await grpc_client.refused("Imagine", {"session_id": session, "level": level})
        assert (status, problem.code) == ("ABORTED", "conflict")
    await grpc_client.act(session, observe("arm"), planner=QUICK)
    await grpc_client.ask("Imagine", {"session_id": session, "horizon": 1})
    await grpc_client.ask("ResetSession", {"session_id": session})
    assert (await grpc_client.refused("Imagine", {"session_id": session}))[1].code == "conflict"


# -- the client of this repository ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_the_client_reads_what_the_server_writes(grpc_client: OverGrpc, stream: bool) -> None:
    def drive() -> None:
        address = f"grpc://127.0.0.1:{grpc_client.server.port}"
        with (
            GrpcPlanningClient(address, stream_acts=stream) as client,
            client.session("arm", seed=3, planner=QUICK) as session,
        ):
            assert client.ready() and client.live()
            actions = [session.act(observe("arm", n)) for n in range(3)]
            session.step = 2
            assert (session.act(observe("arm", 2)) == actions[2]).all()
            assert session.last is not None and session.last.replayed
            session.step = 0
            with pytest.raises(StepConflictError) as conflict:
                session.act(observe("arm", 0))
            assert conflict.value.expected_step == 3
            assert conflict.value.request_id
            session.refresh()
            assert session.decide(observe("arm", 3)).step == 3  # on a new stream

    await asyncio.to_thread(drive)


# -- failures ------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("GetModel", {"name": "non"}, "NOT_FOUND", "model_not_found"),
    ("GetModel", {"name": "arm", "version": "9"}, "NOT_FOUND", "model_not_found"),
    ("CreateSession", {}, "INVALID_ARGUMENT", "invalid_request"),
    ("CreateSession", {"model": "arm", "seed": -1}, "INVALID_ARGUMENT", "invalid_request"),
    ("CreateSession", {"model": "arm", "planner": {"low": "mcts"}}, "INVALID_ARGUMENT", "invalid_request"),
    ("CreateSession", {"model": "arm", "planner": {"smaples": 3}}, "INVALID_ARGUMENT", "invalid_request"),
    ("CreateSession", {"model": "arm", "planner": {"samples": 10**6}}, "INVALID_ARGUMENT", "invalid_request"),
    ("CreateSession", {"model": "arm", "ttl_s": -1.0}, "INVALID_ARGUMENT", "invalid_request"),
    ("RestoreSession", {"belief": b"no belief"}, "INVALID_ARGUMENT", "invalid_belief"),
    ("Act", {"model": "arm"}, "INVALID_ARGUMENT", "invalid_request"),
    ("Act", {"observation": observe("arm")}, "INVALID_ARGUMENT", "invalid_request"),
    ("Act", {"model": "arm", "observation": observe("camera")}, "INVALID_ARGUMENT", "invalid_request"),
    ("Act", {"model": "arm", "observation": observe("arm"), "step": -1}, "INVALID_ARGUMENT", "invalid_request"),
    ("Act", {"model": "arm", "observation": observe("arm"), "step": 4}, "ABORTED", "step_conflict"),
    ("Act", {"model": "arm", "observation": observe("arm"), "include": ["all"]}, "INVALID_ARGUMENT", "invalid_request"),
    ("Imagine", {"model": "arm"}, "INVALID_ARGUMENT", "invalid_request"),
    ("Imagine", {"model": "camera", "observation": observe("camera"), "level": "high"}, "INVALID_ARGUMENT",
     "invalid_request"),
    ("Imagine", {"model": "arm", "observation": observe("arm"), "horizon": 10**6}, "INVALID_ARGUMENT",
     "invalid_request"),
    ("Imagine", {"model": "arm", "observation": observe("arm"), "session_id": "x"}, "INVALID_ARGUMENT",
     "invalid_request"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "tree", "status", "code"), WRONG)
async def test_what_is_wrong_is_reported_with_status_and_problem(
    grpc_client: OverGrpc, service: PlanningService, method: str, tree: dict[str, Any], status: str, code: str
) -> None:
    before = len(service.sessions)
    got, problem = await grpc_client.refused(method, tree)
    assert (got, problem.code) == (status, code)
    assert problem.detail and (problem.errors or code != "invalid_request")
    assert len(service.sessions) == before


async def test_what_is_wrong_within_a_message_is_named_as_in_json(grpc_client: OverGrpc) -> None:
    """Of clients in other languages, whose messages are checked by nobody before they are sent."""

    def asked(**fields: Any) -> pb.ActRequest:
        return pb.ActRequest(model="arm", **{"observation": image, **fields})

    image = pb.Observation(image=pb.Image(encoding="png"))
    deep = pb.Array(dtype="uint8", shape=[1] * 65, data=b"0")
    cases = [
        (asked(planner=pb.PlannerSettings(kappa=float("nan"))), "planner.kappa"),
        (asked(planner=pb.PlannerSettings(samples=0)), "planner.samples"),
        (asked(observation=pb.Observation(array=deep)), "observation.shape"),
        (asked(executed_action=pb.Action(array=deep)), "executed_action.shape"),
        (
            asked(observation=pb.Observation(dict={"entries": {"camera": {"array": deep}}})),
            "observation.camera.shape",
        ),
        (asked(include=pb.Names(names=["plan"] * 30_000)), "include"),
    ]
    strange = pb.PlannerSettings()
    strange.other["tau"] = float("inf")
    cases.append((asked(planner=strange), "planner.tau"))
    for message, path in cases:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await grpc_client.stub.Act(message)
        assert [error.path for error in failure(refused.value)[1].errors] == [path]


async def test_every_problem_has_a_status_that_grpc_knows() -> None:
    for code, kind in PROBLEMS.items():
        assert hasattr(grpc.StatusCode, kind.grpc), code


async def test_an_error_of_imagining_ends_its_stream_before_the_first_step(grpc_client: OverGrpc) -> None:
    call = grpc_client.call("ImagineStream", {"model": "arm", "observation": observe("arm"), "policy": "al"})
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    status, problem = failure(ended.value)
    assert status == "INVALID_ARGUMENT" and problem.errors[0].path == "policy"


async def test_a_message_that_cannot_be_read_is_the_client_s_mistake(grpc_client: OverGrpc) -> None:
    act = grpc_client.channel.unary_unary("/thick.v1.Planner/Act")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await act(b"\xff\xff\xff not a message")
    assert failure(refused.value)[0] == "INVALID_ARGUMENT"
    assert failure(refused.value)[1].code == "malformed_body"


async def test_messages_are_bounded(grpc_client: OverGrpc, service: PlanningService) -> None:
    limits = service.limits
    too_large = {
        "model": "arm",
        "observation": {"dtype": "uint8", "shape": [1], "data": bytes(limits.body_bytes + 2048)},
    }
    status, problem = await grpc_client.refused("Act", too_large)
    assert (status, problem.code, problem.status) == ("RESOURCE_EXHAUSTED", "body_too_large", 413)
    # gRPC itself refuses what no method could take, before it is in memory.
    status, problem = await grpc_client.refused(
        "RestoreSession", {"belief": bytes(limits.belief_bytes + 2**20)}
    )
    assert (status, problem.status) == ("RESOURCE_EXHAUSTED", 413)
    # A belief may be larger than a body: it is read, and then refused for what it holds.
    status, problem = await grpc_client.refused("RestoreSession", {"belief": bytes(limits.body_bytes + 4096)})
    assert problem.code == "invalid_belief"


async def test_a_call_has_an_id_which_the_client_may_choose(grpc_client: OverGrpc) -> None:
    for sent in ("mine-7", "n o", None):
        call = grpc_client.call("ListModels", metadata=(("x-request-id", sent),) if sent else ())
        await call
        got = dict(await call.trailing_metadata())["x-request-id"]
        assert (got == sent) == (sent == "mine-7") and len(got) >= 6


async def test_requests_are_counted_by_method_and_status(
    grpc_client: OverGrpc, service: PlanningService
) -> None:
    await grpc_client.refused("GetModel", {"name": "non"})
    await grpc_client.ask("ListModels")
    counted = service.metrics.exposition().decode()
    for line in (
        'thick_requests_total{route="/thick.v1.Planner/GetModel",status="NOT_FOUND"}',
        'thick_requests_total{route="/thick.v1.Planner/ListModels",status="OK"}',
        'thick_request_seconds_count{route="/thick.v1.Planner/ListModels"}',
    ):
        assert line in counted
