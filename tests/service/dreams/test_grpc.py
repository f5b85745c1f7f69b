"""Dreams over gRPC: every method, the answers of HTTP, and one stream for the steps of one dream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from service.core import PlanningService
from service.protocol import media, protobuf
from service.protocol.bodies import decode_arrays
from service.protocol.generated import planner_pb2 as pb
from tests.service.dreams.test_dreams import MODELS, actions_for, same
from tests.service.grpc_support import OverGrpc, failure, over_grpc
from tests.service.support import Caller, observe

pytestmark = pytest.mark.asyncio(loop_scope="session")
EVERYTHING = ["observation", "observations", "value", "gates"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def grpc_client(service: PlanningService) -> AsyncIterator[OverGrpc]:
    async with over_grpc(service) as made:
        yield made


@pytest.mark.parametrize("model", MODELS)
async def test_every_method_answers_as_over_http(
    client: httpx.AsyncClient, grpc_client: OverGrpc, model: str
) -> None:
    http = Caller(client, media.MSGPACK)
    asked = {"model": model, "count": 2, "seed": 5, "observation": observe(model)}
    one = await http.ask("POST", "/v1/dreams", asked, status=201)
    other = await grpc_client.ask("Dream", asked)
    ids = {"dream_id": other["dream_id"]}
    assert same(one["observation"], other["observation"])
    assert other["observation_space"] == one["observation_space"]
    for step in range(2):
        body = {"actions": actions_for(one, step), "include": EVERYTHING, "autoreset": True, "step": step}
        first = await http.ask("POST", f"/v1/dreams/{one['dream_id']}/step", body)
        second = await grpc_client.ask("DreamStep", {**ids, **body})
        assert first.keys() == second.keys()
        assert same(first, second)
    assert (await grpc_client.ask("DreamStep", {**ids, **body}))["replayed"]
    fork = await grpc_client.ask("ForkDream", ids)
    assert fork["step"] == 2
    again = await grpc_client.ask("ResetDream", {**ids, "indices": [1]})
    assert same(again["observation"][1], one["observation"][1])
    assert (await grpc_client.ask("GetDream", ids))["step"] == 2
    assert (await grpc_client.ask("ResetDream", ids))["step"] == 0
    listed = [each["dream_id"] for each in (await grpc_client.ask("ListDreams"))["dreams"]]
    assert {other["dream_id"], fork["dream_id"]} <= set(listed)
    await grpc_client.ask("DeleteDream", ids)
    status, problem = await grpc_client.refused("GetDream", ids)
    assert (status, problem.code) == ("NOT_FOUND", "dream_not_found")
    status, problem = await grpc_client.refused("DreamStep", {"actions": [0]})
    assert (status, problem.errors[0].path) == ("INVALID_ARGUMENT", "dream_id")


async def test_a_stream_steps_one_dream_in_order(grpc_client: OverGrpc) -> None:
    asked = {"model": "arm", "count": 3, "seed": 1}
    one, twin = [await grpc_client.ask("Dream", asked) for _ in range(2)]
    expected = [
        await grpc_client.ask(
            "DreamStep",
            {"dream_id": twin["dream_id"], "actions": actions_for(twin, n), "step": n, "autoreset": True},
        )
        for n in range(4)
    ]
    stream = grpc_client.stub.DreamStepStream()
    for n in range(4):  # all of them before the first answer is read
        first: dict[str, Any] = {"dream_id": one["dream_id"]} if n == 0 else {}
        body = {**first, "actions": actions_for(one, n), "step": n, "autoreset": True}
        await stream.write(protobuf.from_dict(pb.DreamStepRequest, body))
    await stream.done_writing()
    answers = [decode_arrays(protobuf.to_dict(answer)) async for answer in stream]
    assert all(same(made, wanted) for made, wanted in zip(answers, expected, strict=True))
    assert await stream.code() == grpc.StatusCode.OK


async def test_a_stream_is_of_one_dream_alone(grpc_client: OverGrpc) -> None:
    one, other = [await grpc_client.ask("Dream", {"model": "arm"}) for _ in range(2)]
    stream = grpc_client.stub.DreamStepStream()
    for dream in (one, other):
        body = {"dream_id": dream["dream_id"], "actions": actions_for(dream)}
        await stream.write(protobuf.from_dict(pb.DreamStepRequest, body))
    await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    status, problem = failure(ended.value)
    assert (status, problem.errors[0].path) == ("INVALID_ARGUMENT", "dream_id")
