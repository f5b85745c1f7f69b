"""The asynchronous client against a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from clients import AsyncPlanningClient, PlanningClient
from clients.errors import InvalidRequestError, NotConnectedError, NotFoundError
from clients.retries import Retries
from tests.clients.conftest import Address
from tests.clients.test_contract import SEEN


@pytest.fixture(params=["msgpack", "json"])
async def client(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[AsyncPlanningClient]:
    async with AsyncPlanningClient(address.http, encoding=request.param, api_key="root") as made:
        yield made


async def test_it_takes_the_actions_of_the_synchronous_client(
    client: AsyncPlanningClient, address: Address
) -> None:
    async with client.session("doorkey", seed=7) as session:
        mine = [await session.act(observation) for observation in SEEN]
    with PlanningClient(address.http, api_key="me") as other, other.session("doorkey", seed=7) as session2:
        assert mine == [session2.act(observation) for observation in SEEN]
    with pytest.raises(NotFoundError):
        await session.act(SEEN[0])


async def test_many_sessions_act_at_once_and_none_sees_another(client: AsyncPlanningClient) -> None:
    async def actions(seed: int) -> list[Any]:
        async with client.session("doorkey", seed=seed) as session:
            return [await session.act(observation) for observation in SEEN]

    alone = [await actions(seed) for seed in range(4)]
    together = await asyncio.gather(*(actions(seed) for seed in range(4)))
    assert together == alone


async def test_the_whole_life_of_a_session(client: AsyncPlanningClient) -> None:
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


async def test_models_health_and_one_call_acts(client: AsyncPlanningClient) -> None:
    assert await client.live() and await client.ready()
    assert {model.name for model in await client.models()} == {"doorkey", "pads"}
    assert (await client.model("doorkey")).kind == "thick"
    decision = await client.act(SEEN[0], model="doorkey")
    assert (await client.imagine(SEEN[0], model="doorkey", level="low")).level == "low"
    async with client.attach(decision.session_id) as session:
        assert session.step == 1


async def test_errors_say_host_request_and_reason(client: AsyncPlanningClient) -> None:
    async with client.session("doorkey") as session:
        with pytest.raises(
            InvalidRequestError, match=r"http://127\.0\.0\.1:\d+: act on session .* \(step 0\): 422"
        ):
            await session.act([1, 2])
    nowhere = AsyncPlanningClient("http://127.0.0.1:9", retries=Retries(attempts=2, first_pause_s=0.001))
    async with nowhere:
        assert not await nowhere.live()
        with pytest.raises(NotConnectedError, match="thick serve"):
            await nowhere.models()
        with pytest.raises(NotConnectedError, match="not ready"):
            await nowhere.wait_until_ready(0.05, pause_s=0.01)
