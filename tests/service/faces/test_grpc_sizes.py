"""Answers that are larger than a gRPC client takes: told in words, instead of failing in the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from clients.grpc_client import GrpcPlanningClient
from service.core import PlanningService
from service.protocol.protobuf import TAKES_BYTES
from tests.service.grpc_support import OverGrpc, act_request, failure, over_grpc
from tests.service.support import observe, running

pytestmark = pytest.mark.asyncio(loop_scope="session")
IMAGINE = {"model": "camera", "observation": observe("camera"), "level": "low", "policy": "prior"}
SMALL = 30_000
"""bytes: two raw pictures of the camera model, but not three"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bounded(repository: Path) -> AsyncIterator[PlanningService]:
    async with running(repository, grpc_answer_bytes=SMALL) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asking(bounded: PlanningService) -> AsyncIterator[OverGrpc]:
    async with over_grpc(bounded) as made:
        yield made


def takes(size: int | str) -> dict[str, Any]:
    return {"metadata": ((TAKES_BYTES, str(size)),)}


async def test_an_answer_above_grpc_s_own_default_is_refused_in_words(service: PlanningService) -> None:
    large = {**IMAGINE, "horizon": 18, "rollouts": 20}  # 360 pictures of 12 KiB
    async with over_grpc(service) as asking:
        status, problem = await asking.refused("Imagine", large)
        assert (status, problem.code, problem.status) == ("RESOURCE_EXHAUSTED", "answer_too_large", 413)
        assert problem.extra["answer_bytes"] > 4 * 2**20
        for word in ("takes 4194304", "grpc.max_receive_message_length", TAKES_BYTES, "ImagineStream"):
            assert word in problem.detail
        # A client that says more than it takes has what gRPC itself says; ours is not in the way.
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await asking.call("Imagine", large, **takes(-1))
        assert "larger than max" in str(failed.value.details())
        steps = [event async for event in asking.call("ImagineStream", large)]
        assert len(steps) == 18 * 20 + 1


async def test_a_client_that_says_what_it_takes_gets_it(asking: OverGrpc) -> None:
    three = {**IMAGINE, "horizon": 3}
    assert (await asking.refused("Imagine", three))[1].code == "answer_too_large"
    for size in (2**20, 0, -1):
        (rollout,) = (await asking.ask("Imagine", three, **takes(size)))["rollouts"]
        assert len(rollout["steps"]) == 3
    assert (await asking.refused("Imagine", three, **takes(SMALL // 2)))[1].code == "answer_too_large"
    assert (await asking.ask("Imagine", {**IMAGINE, "horizon": 2}))["rollouts"]
    assert (await asking.ask("Imagine", {**three, "image": "png"}))["rollouts"]


@pytest.mark.parametrize("said", ["much", "-2", "1e6", ""])
async def test_a_size_that_is_no_number_is_refused_before_anything_is_done(
    asking: OverGrpc, said: str
) -> None:
    session = await asking.session("arm")
    act = {"session_id": session, "observation": observe("arm")}
    status, problem = await asking.refused("Act", act, **takes(said))
    assert status == "INVALID_ARGUMENT" and problem.errors[0].path == TAKES_BYTES
    assert (await asking.ask("GetSession", {"session_id": session}))["step"] == 0


async def test_an_act_whose_answer_was_too_large_is_done_and_can_be_asked_for_again(asking: OverGrpc) -> None:
    session = await asking.session("arm")
    act = {"session_id": session, "observation": observe("arm"), "step": 0}
    _, problem = await asking.refused("Act", act, **takes(50))
    assert problem.code == "answer_too_large" and "the act is done" in problem.detail
    assert (await asking.ask("Act", act))["replayed"] is True
    stream = asking.stream(**takes(50))
    await stream.write(act_request(**act))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert failure(ended.value)[1].code == "answer_too_large"


async def test_a_step_of_a_stream_is_bounded_too(asking: OverGrpc) -> None:
    call = asking.call("ImagineStream", IMAGINE, **takes(5000))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    assert failure(ended.value)[1].code == "answer_too_large"


async def test_our_own_client_takes_more_and_says_so(bounded: PlanningService) -> None:
    options: dict[str, Any] = {"level": "low", "policy": "prior", "horizon": 18, "rollouts": 20}
    async with over_grpc(bounded) as asking:

        def ask() -> int:
            with GrpcPlanningClient(f"grpc://127.0.0.1:{asking.server.port}") as client:
                imagined = client.imagine(observe("camera"), model="camera", **options)
                return sum(len(rollout.steps) for rollout in imagined.rollouts)

        assert await asyncio.to_thread(ask) == 18 * 20
