"""The asynchronous client against a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from clients import AsyncGrpcPlanningClient, AsyncPlanningClient, PlanningClient
from clients.asynchronous.base import AsyncClient
from clients.errors import InvalidRequestError, NotConnectedError, NotFoundError
from clients.retries import Retries
from tests.clients.conftest import Address
from tests.clients.test_contract import SEEN


@pytest.fixture(params=["msgpack", "json", "grpc", "grpc-stream"])
async def client(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[AsyncClient]:
    made: AsyncClient
    if request.param.startswith("grpc"):
        stream_acts = request.param == "grpc-stream"
        made = AsyncGrpcPlanningClient(address.grpc, stream_acts=stream_acts, api_key="root")
    else:
        made = AsyncPlanningClient(address.http, encoding=request.param, api_key="root")
    async with made:
        yield made


async def test_it_takes_the_actions_of_the_synchronous_client(client: AsyncClient, address: Address) -> None:
    async with client.session("doorkey", seed=7) as session:
        mine = [await session.act(observation) for observation in SEEN]
    with PlanningClient(address.http, api_key="me") as other, other.session("doorkey", seed=7) as session2:
        assert mine == [session2.act(observation) for observation in SEEN]
    with pytest.raises(NotFoundError):
        await session.act(SEEN[0])


async def test_many_sessions_act_at_once_and_none_sees_another(client: AsyncClient) -> None:
    async def actions(seed: int) -> list[Any]:
        async with client.session("doorkey", seed=seed) as session:
            return [await session.act(observation) for observation in SEEN[:2]]

    alone = [await actions(seed) for seed in range(3)]
    together = await asyncio.gather(*(actions(seed) for seed in range(3)))
    assert together == alone


async def test_the_whole_life_of_a_session(client: AsyncClient) -> None:
    session = await client.session("doorkey", seed=1)
    decision = await session.decide(SEEN[0])
    assert decision.plan is not None and decision.timing is not None
    fork = await session.fork()
    restored = await client.restore(await session.belief())
    actions = [await each.act(SEEN[1]) for each in (session, fork, restored)]
    assert len(set(actions)) == 1
    imagination = await session.imagine(level="low", horizon=2, rollouts=2)
    streamed = [step async for step in session.imagine_stream(level="low", horizon=2, rollouts=2)]
    assert len(streamed) == 4
    assert np.array_equal(streamed[0].observation, imagination.rollouts[0].steps[0].observation)
    await session.reset()
    assert session.step == 0 and (await session.refresh()).step == 0
    assert {session.id, fork.id, restored.id} <= {info.session_id for info in await client.sessions()}
    for each in (session, fork, restored):
        await each.close()
    assert not {session.id, fork.id} & {info.session_id for info in await client.sessions()}


async def test_models_health_and_one_call_acts(client: AsyncClient) -> None:
    assert await client.live() and await client.ready()
    assert {model.name for model in await client.models()} == {"doorkey", "pads"}
    assert (await client.model("doorkey")).kind == "thick"
    decision = await client.act(SEEN[0], model="doorkey")
    assert (await client.imagine(SEEN[0], model="doorkey", level="low")).level == "low"
    async with client.attach(decision.session_id) as session:
        assert session.step == 1


async def test_errors_say_host_request_and_reason(client: AsyncClient) -> None:
    async with client.session("doorkey") as session:
        with pytest.raises(
            InvalidRequestError, match=r"://127\.0\.0\.1:\d+: act on session .* \(step 0\): 422"
        ):
            await session.act([1, 2])
        assert session.step == 0 and isinstance(await session.act(SEEN[0]), int)


@pytest.mark.parametrize("kind", [AsyncPlanningClient, AsyncGrpcPlanningClient])
async def test_nobody_listening_is_said_with_the_host_and_what_to_do(kind: Any) -> None:
    async with kind("127.0.0.1:9", retries=Retries(attempts=2, first_pause_s=0.001)) as nowhere:
        assert not await nowhere.live() and not await nowhere.ready()
        with pytest.raises(NotConnectedError, match="thick serve"):
            await nowhere.models()
        with pytest.raises(NotConnectedError, match="nothing answers"):
            await nowhere.wait_until_ready(0.05, pause_s=0.01)


async def test_an_act_that_is_given_up_leaves_the_session_usable(address: Address) -> None:
    async with AsyncGrpcPlanningClient(address.grpc, api_key="me") as client:
        async with client.session("doorkey", seed=1) as session:
            await session.act(SEEN[0])
            given_up = asyncio.create_task(session.act(SEEN[1]))
            await asyncio.sleep(0)  # it is on its way
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            await session.act(
                SEEN[1]
            )  # the same request: whether or not the server had carried it out already
            assert session.step == 2 and session.last is not None and session.last.step == 1


def test_a_grpc_client_is_made_before_its_event_loop(address: Address) -> None:
    client = AsyncGrpcPlanningClient(address.grpc, api_key="me")

    async def use() -> list[Any]:
        async with client:
            return await client.models()

    assert len(asyncio.run(use())) == 2
