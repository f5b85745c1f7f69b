"""Control loops against a running service: in time, too late, through an outage."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import AsyncPlanningClient, PlanningClient
from clients.errors import InvalidRequestError, NotFoundError
from clients.pacing import SOURCES
from clients.results import read_session
from tests.clients.conftest import Address, serving
from tests.clients.proxy import LossyProxy
from tests.clients.test_contract import SEEN

SLOW = 4.0
"""ticks a second at which this machine always answers in time"""


def test_answers_in_time_are_those_of_a_loop_that_waits(client: Any) -> None:
    with client.session("doorkey", seed=5) as twin, client.session("doorkey", seed=5) as session:
        expected = [twin.act(observation, reward=0.25) for observation in SEEN]
        with session.realtime(hz=0.05) as loop:
            ticks = [loop.act(observation, reward=0.25) for observation in SEEN]
        assert [tick.action for tick in ticks] == expected
        assert {tick.source for tick in ticks} == {"plan"} and loop.counts["plan"] == len(SEEN)
        assert session.step == len(SEEN)
        session.act(SEEN[0])  # the session goes on where the loop left it


def test_late_answers_are_made_up_for_and_the_server_knows_what_was_done(client: Any) -> None:
    spent: list[int] = []
    with client.session("doorkey", seed=5, planner={"horizon": 4}) as session:
        held = [0.0, 1e9]  # the second answer never comes within this test

        def delay() -> float:
            return 0.0 if len(held) == 2 and held.pop(0) == 0.0 else 1.5

        with session.realtime(hz=20, tail=2, on_exhausted=spent.append, delay=delay) as loop:
            first = loop.act(SEEN[0])
            planned = first.decision.plan.low.actions
            later = [loop.act(SEEN[1 + n % 2]) for n in range(4)]
        assert first.source == "plan"
        assert [tick.source for tick in later] == ["tail", "tail", "hold", "hold"]
        assert [tick.action for tick in later] == [*planned[1:3], planned[2], planned[2]]
        assert spent == [3]


def test_a_tick_begins_when_it_is_due(address: Address) -> None:
    with PlanningClient(address.http, api_key="me") as client, client.session("doorkey") as session:
        with session.realtime(hz=50) as loop:
            began = time.monotonic()
            for _ in range(11):
                loop.next_tick()
            assert time.monotonic() - began >= 10 / 50
            time.sleep(0.2)  # the caller's own work took too long
            loop.next_tick()
            assert loop.overruns >= 8


def test_an_outage_costs_answers_but_not_the_session(repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copytree(repository / "doorkey", models / "doorkey")
    store = f"sqlite:////{str(tmp_path / 'sessions.sqlite').lstrip('/')}"
    with serving(models, tmp_path / "one.log", store=store) as first, PlanningClient(first.http) as client:
        port = int(first.http.rsplit(":", 1)[1])
        session = client.session("doorkey", seed=3)
        with session.realtime(hz=20, tail=1) as loop:
            assert loop.act(SEEN[0]).source == "plan"
            first.process.kill()
            first.process.wait(20)
            missed = [loop.act(SEEN[1]).source for _ in range(6)]
            assert missed[-1] == "hold" and "plan" not in missed[1:]
            with serving(models, tmp_path / "two.log", wait=False, store=store, port=port):
                found: list[str] = []
                end = time.monotonic() + 60
                while "plan" not in found and time.monotonic() < end:
                    loop.next_tick()
                    found.append(loop.act(SEEN[1]).source)
                assert found[-1] == "plan" and loop.connected
                assert client.attach(session.id).step == session.step >= 2


def test_an_act_whose_answer_was_lost_is_not_done_again(address: Address) -> None:
    with PlanningClient(address.http, api_key="me") as sound, sound.session("doorkey", seed=5) as twin:
        expected = [twin.act(observation, reward=0.25) for observation in SEEN]
    with LossyProxy(address.http) as proxy, PlanningClient(proxy.url, api_key="me") as client:
        with client.session("doorkey", seed=5) as session, session.realtime(hz=0.05) as loop:
            found = []
            for index, observation in enumerate(SEEN):
                proxy.lose_answers(2)  # to the act, and to the attempt to have its answer at once
                found.append(loop.act(observation, reward=0.25, is_first=index == 0).action)
            assert found == expected and proxy.lost == 2 * len(SEEN)
            assert session.refresh().step == len(SEEN)


def test_what_does_not_pass_by_itself_is_raised(address: Address) -> None:
    with PlanningClient(address.http, api_key="me") as client:
        with client.session("doorkey") as session, session.realtime(hz=SLOW) as loop:
            with pytest.raises(InvalidRequestError, match="shape"):
                loop.act(np.zeros((2, 2), np.uint8))
        gone = client.session("doorkey")
        with gone.realtime(hz=SLOW) as loop:
            loop.act(SEEN[0])
            client.attach(gone.id).close()
            with pytest.raises(NotFoundError):
                for _ in range(20):
                    loop.act(SEEN[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hz": 0}, "hz: expected"),
        ({"hz": "20"}, "hz: expected a rate above 0, got '20'"),
        ({"hz": None}, "hz: expected"),
        ({"hz": 5, "tail": None}, "tail: expected"),
        ({"hz": 5, "tail": 1.5}, "tail: expected"),
        ({"hz": 5, "answer_within": "all"}, "share"),
        ({"hz": 5, "tail": -1}, "tail: expected"),
        ({"hz": 5, "answer_within": 2}, "share"),
    ],
)
def test_options_that_make_no_sense_are_refused(address: Address, options: dict[str, Any], said: str) -> None:
    with PlanningClient(address.http, api_key="me") as client, client.session("doorkey") as session:
        with pytest.raises(ValueError, match=said):
            session.realtime(**options)
        with pytest.raises(RuntimeError, match="context manager"):
            session.realtime(hz=5).act(SEEN[0])


async def test_the_same_with_asyncio(address: Address) -> None:
    async with AsyncPlanningClient(address.http, api_key="me") as client:
        async with client.session("doorkey", seed=5) as twin:
            expected = [await twin.act(observation) for observation in SEEN]
        async with client.session("doorkey", seed=5) as session:
            async with session.realtime(hz=0.05) as loop:
                found = [await loop.act(observation) for observation in SEEN]
            assert [tick.action for tick in found] == expected
            async with session.realtime(hz=20, delay=lambda: 1.0) as loop:
                await loop.act(SEEN[0])  # waited for: there is no plan yet
                late = [(await loop.act(SEEN[1])).source for _ in range(3)]
            assert set(late) <= set(SOURCES) - {"plan"}
            before = asyncio.all_tasks()
        assert len(asyncio.all_tasks()) <= len(before)


async def test_a_loop_that_ends_before_an_answer_leaves_the_session_where_it_is(address: Address) -> None:
    slow = {"method": "flat", "samples": 2000, "iterations": 8}
    async with (
        AsyncPlanningClient(address.http, api_key="me") as client,
        client.session("doorkey") as session,
    ):
        await session.act(SEEN[0])
        for options in ({"delay": lambda: 0.5}, {"planner": slow}):
            async with session.realtime(hz=50, hold=0, **options) as loop:
                assert (await loop.act(SEEN[1])).source == "hold"
            assert session.step == (await session.refresh()).step
            await session.act(SEEN[0])  # goes on from there

        async def endless() -> None:
            async with session.realtime(hz=50, hold=0, delay=lambda: 0.5) as loop:
                while True:
                    await loop.next_tick()
                    await loop.act(SEEN[1])

        task = asyncio.create_task(endless())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.act(SEEN[0])


def test_rates_and_delays_may_be_numbers_of_numpy(address: Address) -> None:
    with PlanningClient(address.http, api_key="me") as client, client.session("doorkey") as session:
        with session.realtime(hz=np.float32(20), hold=0, delay=lambda: np.float32(0.01)) as loop:
            for _ in range(3):
                loop.next_tick()
                loop.act(SEEN[0])
        assert sum(loop.counts.values()) == 3


@pytest.mark.parametrize("unknown", [{"observation_space": {}, "action_space": {}}, {}])
def test_a_session_whose_model_is_still_loading_keeps_the_spaces_that_are_known(
    address: Address, unknown: dict[str, Any]
) -> None:
    with PlanningClient(address.http, api_key="me") as client, client.session("doorkey") as session:
        spaces = session.observation_space, session.action_space
        assert None not in spaces
        told = {"session_id": session.id, "model": "doorkey", "version": "1", "step": 3, "planner": {}}
        info = read_session({**told, **unknown})
        assert info.observation_space is None and info.action_space is None
        session._refreshed(info)
        assert (session.observation_space, session.action_space, session.step) == (*spaces, 3)
        session.step = 0
        assert isinstance(session.act(SEEN[0]), int)
