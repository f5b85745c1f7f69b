"""Dreams over HTTP: a served model stepped as an environment, exactly once a step, and what can go wrong."""

from __future__ import annotations

import asyncio
import base64
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.core import PlanningService
from service.protocol import media
from tests.service.support import Caller, observe, over_http, running

MODELS = ("grid", "arm", "camera")


@pytest.fixture(params=[media.JSON, media.MSGPACK], ids=["json", "msgpack"])
def caller(client: httpx.AsyncClient, request: pytest.FixtureRequest) -> Caller:
    return Caller(client, request.param)


def array(value: Any) -> dict[str, Any]:
    """As a body in either media type has it."""
    made = np.array(value, np.uint8)
    return {
        "dtype": "uint8",
        "shape": list(made.shape),
        "data": base64.b64encode(made.tobytes()).decode(),
    }


def actions_for(dream: dict[str, Any], step: int = 0) -> list[Any]:
    """One for each environment, all different."""
    space, count = dream["action_space"], dream["count"]
    if space["type"] == "Discrete":
        return [(index + step) % space["n"] for index in range(count)]
    rng = np.random.default_rng(step)
    return [row.tolist() for row in rng.uniform(-1, 1, (count, *space["shape"])).astype(np.float32)]


async def steps(caller: Caller, dream: dict[str, Any], count: int = 3, **more: Any) -> list[Any]:
    """Answers to some steps, with environments that ended beginning anew."""
    path = f"/v1/dreams/{dream['dream_id']}/step"
    return [
        await caller.ask("POST", path, {"actions": actions_for(dream, step), "autoreset": True, **more})
        for step in range(count)
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two answers say the same, whatever dream they are of."""
    if isinstance(one, dict):
        return all(same(one[key], other[key]) for key in one if key not in ("dream_id", "replayed"))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other, equal_nan=isinstance(one, float)))


@pytest.mark.parametrize("model", MODELS)
async def test_a_dream_is_an_environment_of_the_models_spaces(caller: Caller, model: str) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": model, "count": 3, "seed": 5}, status=201)
    assert (dream["count"], dream["step"], len(dream["observation"])) == (3, 0, 3)
    assert dream["terminated"] == [False] * 3
    for step, made in enumerate(await steps(caller, dream, include=["observation", "value", "gates"])):
        assert (made["dream_id"], made["step"], made["replayed"]) == (dream["dream_id"], step, False)
        assert all(len(made[name]) == 3 for name in ("observation", "reward", "continuation", "terminated"))
        assert all(0 <= chance <= 1 for chance in made["continuation"])
        assert ("value" in made) == (model != "camera")  # which has no critic
        assert made["context_changed"] == [count > 0 for count in made["gates_open"]]
        # What is decoded can be dreamt from, and so lies in the observation space.
        again = {"model": model, "observation": made["observation"][0]}
        await caller.ask("POST", "/v1/dreams", again, status=201)


async def test_the_same_seed_dreams_the_same_and_environments_do_not_depend_on_each_other(
    caller: Caller,
) -> None:
    one, same_again, other = [
        await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 4, "seed": seed}, status=201)
        for seed in (5, 5, 6)
    ]
    assert same(one["observation"], same_again["observation"])
    first, second, third = [await steps(caller, dream) for dream in (one, same_again, other)]
    assert same(first, second)
    assert not same(first, third)
    alone = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 1, "seed": 5}, status=201)
    for made, whole in zip(await steps(caller, alone), first, strict=True):
        assert made["reward"] == whole["reward"][:1]
        assert same(made["observation"], whole["observation"][:1])


async def test_modes_are_the_same_for_every_seed(caller: Caller) -> None:
    asked = {"model": "grid", "observation": observe("grid"), "sample": False}
    one, other = [
        await caller.ask("POST", "/v1/dreams", {**asked, "seed": seed}, status=201) for seed in (1, 2)
    ]
    assert same(await steps(caller, one), await steps(caller, other))


async def test_a_step_is_exactly_once(caller: Caller) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 2, "seed": 1}, status=201)
    path = f"/v1/dreams/{dream['dream_id']}/step"
    body = {"actions": [0, 1], "step": 0, "autoreset": True}
    made = await caller.ask("POST", path, body)
    again = await caller.ask("POST", path, body)
    assert again["replayed"] and same(made, again)
    assert (await caller.ask("GET", f"/v1/dreams/{dream['dream_id']}"))["step"] == 1
    for wrong in ({**body, "actions": [1, 1]}, {**body, "step": 4}):
        problem = await caller.ask("POST", path, wrong, status=409)
        assert problem["code"] == "step_conflict"
        assert problem["expected_step"] == 1
    assert (await caller.ask("POST", path, {**body, "step": 1}))["step"] == 1
    problem = await caller.ask("POST", path, body, status=409)
    assert problem["expected_step"] == 2


async def test_an_environment_that_terminated_waits_for_its_reset(
    service: PlanningService, caller: Caller
) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 3, "seed": 2}, status=201)
    path = f"/v1/dreams/{dream['dream_id']}"
    held = await service.dreams.find(dream["dream_id"])
    assert held.states is not None
    ended = np.array([False, True, False])
    held.states = type(held.states)(held.states.rows, held.states.starts, ended)
    problem = await caller.ask("POST", path + "/step", {"actions": [0, 0, 0]}, status=409)
    assert (problem["code"], problem["terminated"]) == ("dream_ended", [1])
    assert "reset" in problem["detail"]
    going_on = {"dream_id": dream["dream_id"], "count": 3}  # nothing begins behind the end of an episode
    problem = await caller.ask("POST", "/v1/dreams", going_on, status=409)
    assert (problem["code"], problem["terminated"]) == ("dream_ended", [1])
    assert "reset" in problem["detail"]
    before = held.states.rows.copy()
    view = await caller.ask("POST", path + "/reset", {"indices": [1]})
    assert view["terminated"] == [False] * 3
    assert view["step"] == 0
    changed = (held.states.rows != before).any(-1)
    assert changed.tolist() == [False, True, False]
    await caller.ask("POST", path + "/step", {"actions": [0, 0, 0]})
    problem = await caller.ask("POST", path + "/reset", {"indices": [3]}, status=422)
    assert "from 0 to 2, got 3" in problem["errors"][0]["message"]


async def test_with_autoreset_an_environment_that_terminated_begins_anew_in_place_of_its_action(
    service: PlanningService, caller: Caller
) -> None:
    asked = {"model": "grid", "count": 3, "seed": 2, "observation": observe("grid", 4)}
    dream = await caller.ask("POST", "/v1/dreams", asked, status=201)
    held = await service.dreams.find(dream["dream_id"])
    path = f"/v1/dreams/{dream['dream_id']}/step"
    await caller.ask("POST", path, {"actions": [0, 1, 2], "autoreset": True})
    assert held.states is not None
    held.states = type(held.states)(held.states.rows, held.states.starts, np.array([True, False, False]))
    made = await caller.ask("POST", path, {"actions": [0, 1, 2], "autoreset": True})
    assert (made["reward"][0], made["terminated"][0]) == (0.0, False)
    assert same(made["observation"][0], dream["observation"][0])
    assert not same(made["observation"][1], dream["observation"][1])


async def test_environments_that_are_named_begin_anew_in_place_of_their_action(caller: Caller) -> None:
    asked = {"model": "grid", "count": 2, "seed": 2, "observation": observe("grid", 4)}
    dream = await caller.ask("POST", "/v1/dreams", asked, status=201)
    await steps(caller, dream, 1)
    path = f"/v1/dreams/{dream['dream_id']}/step"
    made = await caller.ask("POST", path, {"actions": [0, 0], "begin": [1], "autoreset": True})
    assert same(made["observation"][1], dream["observation"][1])
    made = await caller.ask("POST", path, {"actions": [0, 0], "begin": [0, 1]})
    assert same(made["observation"], dream["observation"])
    problem = await caller.ask("POST", path, {"actions": [0, 0], "begin": [2]}, status=422)
    assert problem["errors"][0]["path"] == "begin"


async def test_a_dream_goes_on_from_a_session_and_from_another_dream(caller: Caller) -> None:
    act = {"model": "grid", "observation": observe("grid"), "seed": 3}
    session = (await caller.ask("POST", "/v1/act", act))["session_id"]
    asked = {"session_id": session, "count": 2, "seed": 1, "sample": False}
    dream = await caller.ask("POST", "/v1/dreams", asked, status=201)
    assert (dream["model"], dream["version"]) == ("grid", "1")
    # What imagination shows after an action, the dream shows after that action.
    body = {"level": "low", "actions": [2, 1], "include": ["observation", "reward"]}
    imagined = await caller.ask("POST", f"/v1/sessions/{session}/imagine", body)
    for action, step in zip((2, 1), imagined["rollouts"][0]["steps"], strict=True):
        body = {"actions": [action, action], "autoreset": True}
        made = await caller.ask("POST", f"/v1/dreams/{dream['dream_id']}/step", body)
        if made["terminated"] == [True, True]:  # random weights end soon; what follows is another episode
            return
        assert made["reward"] == pytest.approx([step["reward"]] * 2, abs=1e-6)
        assert same(made["observation"][0], step["observation"])
    for count in ({"count": 2}, {}):  # by default as many as there are
        going_on = {"dream_id": dream["dream_id"], "sample": False, **count}
        second = await caller.ask("POST", "/v1/dreams", going_on, status=201)
        assert same(second["observation"], made["observation"])
    for count in (1, 3):
        body = {"dream_id": dream["dream_id"], "count": count}
        problem = await caller.ask("POST", "/v1/dreams", body, status=422)
        assert problem["errors"][0]["message"].startswith("expected 2, as many as")


async def test_a_fork_and_its_original_do_not_affect_each_other(caller: Caller) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "arm", "count": 2, "seed": 1}, status=201)
    await steps(caller, dream, 2)
    fork = await caller.ask("POST", f"/v1/dreams/{dream['dream_id']}/fork", status=201)
    assert fork["step"] == 2
    first = await steps(caller, fork)
    assert same(first, await steps(caller, dream))
    await caller.ask("DELETE", f"/v1/dreams/{dream['dream_id']}", status=204)
    await caller.ask("GET", f"/v1/dreams/{fork['dream_id']}")
    gone = await caller.ask("GET", f"/v1/dreams/{dream['dream_id']}", status=404)
    assert gone["code"] == "dream_not_found"


async def test_a_reset_begins_anew_and_with_its_seed_the_same_again(caller: Caller) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 2, "seed": 1}, status=201)
    path = f"/v1/dreams/{dream['dream_id']}/reset"
    first = await steps(caller, dream)
    another = await caller.ask("POST", path)
    assert another["step"] == 0
    assert not same(another["observation"], dream["observation"])
    same_still = await caller.ask("POST", path, {"indices": []})
    assert same(same_still["observation"], another["observation"])
    again = await caller.ask("POST", path, {"seed": 1})
    assert same(again["observation"], dream["observation"])
    assert same(await steps(caller, dream), first)


@pytest.mark.parametrize(
    ("body", "where", "message"),
    [
        ({"model": "grid", "count": 0}, "count", "greater than or equal to 1"),
        ({"model": "grid", "count": 5000}, "count", "at most 4096"),
        ({"model": "grid", "observation": [1.0]}, "observation", "expected an object"),
        ({"model": "grid", "observation": {}, "session_id": "s"}, "session_id", "begins from one thing"),
        ({"model": "grid", "cuont": 1}, "cuont", "did you mean `count`"),
        ({}, "model", "is missing"),
    ],
)
async def test_what_cannot_be_dreamt_is_said(
    caller: Caller, body: dict[str, Any], where: str, message: str
) -> None:
    problem = await caller.ask("POST", "/v1/dreams", body, status=422)
    assert problem["errors"][0]["path"] == where
    assert message in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    ("actions", "path"),
    [
        ([0], "actions"),
        ([0, 99], "actions[1]"),
        ([0, 0.5], "actions[1]"),
        ([], "actions"),
        (array(0), "actions"),  # of no dimension
        (array([0]), "actions"),
    ],
)
async def test_wrong_actions_change_nothing(caller: Caller, actions: Any, path: str) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 2, "seed": 1}, status=201)
    problem = await caller.ask(
        "POST", f"/v1/dreams/{dream['dream_id']}/step", {"actions": actions}, status=422
    )
    assert problem["errors"][0]["path"] == path
    assert (await caller.ask("GET", f"/v1/dreams/{dream['dream_id']}"))["step"] == 0


async def test_many_dreams_at_once_are_batched_and_get_what_they_get_alone(caller: Caller) -> None:
    dreams = [
        await caller.ask("POST", "/v1/dreams", {"model": "arm", "count": 3, "seed": seed}, status=201)
        for seed in (*range(6), *range(6))
    ]
    together = await asyncio.gather(*(steps(caller, dream) for dream in dreams[:6]))
    for dream, made in zip(dreams[6:], together, strict=True):
        assert same(await steps(caller, dream), made)


async def test_pictures_travel_as_png_where_that_is_asked_for(caller: Caller) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "camera", "seed": 1}, status=201)
    response = await caller.send(
        "POST", f"/v1/dreams/{dream['dream_id']}/step", {"actions": [0], "image": "png"}
    )
    assert response.status_code == 200
    assert b"png" in response.content


@pytest.mark.parametrize("model", MODELS)
async def test_all_environments_travel_in_one_array_where_that_is_asked_for(
    caller: Caller, model: str
) -> None:
    asked = {"model": model, "count": 3, "seed": 1, "include": ["observation", "observations"]}
    dream = await caller.ask("POST", "/v1/dreams", asked, status=201)
    actions = np.array(actions_for(dream))
    made = await caller.ask(
        "POST",
        f"/v1/dreams/{dream['dream_id']}/step",
        {"actions": actions, "include": asked["include"], "autoreset": True},
    )
    again = await caller.ask("POST", f"/v1/dreams/{dream['dream_id']}/reset", {"include": ["observations"]})
    assert "observation" not in again
    for answer in (dream, made):
        single, whole = answer["observation"], answer["observations"]
        for index in range(3):
            row = {key: part[index] for key, part in whole.items()} if model == "grid" else whole[index]
            assert same(single[index], row)


async def test_dreams_outlive_the_server_and_a_step_that_was_answered_is_answered_again(
    small: Path, tmp_path: Path
) -> None:
    store = {"store": f"sqlite:///{tmp_path}/sessions.db"}
    async with running(small, **store) as service, over_http(service) as client:
        caller = Caller(client, media.MSGPACK)
        start = {"model": "arm", "count": 3, "seed": 1, "observation": observe("arm")}
        dream = await caller.ask("POST", "/v1/dreams", start, status=201)
        twin = await caller.ask("POST", "/v1/dreams", start, status=201)
        session = await caller.ask("POST", "/v1/act", {"model": "arm", "observation": observe("arm")})
        path, body = f"/v1/dreams/{dream['dream_id']}/step", {"actions": actions_for(dream), "step": 0}
        made = await caller.ask("POST", path, body)
        await steps(caller, twin, 1)
        expected = await steps(caller, twin, 2)
    async with running(small, **store) as service, over_http(service) as client:
        caller = Caller(client, media.MSGPACK)
        again = await caller.ask("POST", path, body)
        assert again["replayed"] and same(made, again)
        assert same(await steps(caller, dream, 2), expected)
        listed = await caller.ask("GET", "/v1/sessions")
        assert [each["session_id"] for each in listed["sessions"]] == [session["session_id"]]
        told = {each["dream_id"]: each for each in (await caller.ask("GET", "/v1/dreams"))["dreams"]}
        assert set(told) == {dream["dream_id"], twin["dream_id"]}
        for each in told.values():  # also of the one that nobody has used since
            assert each["terminated"] == expected[-1]["terminated"]
            assert each["observation_space"] == dream["observation_space"]
            assert each["action_space"] == dream["action_space"]


async def test_a_dream_keeps_the_version_it_began_with_over_a_restart(small: Path, tmp_path: Path) -> None:
    models = shutil.copytree(small, tmp_path / "models", symlinks=False)
    options = {"store": f"sqlite:///{tmp_path}/sessions.db", "load_versions": "latest"}
    async with running(models, **options) as service, over_http(service) as client:
        dream = await Caller(client).ask("POST", "/v1/dreams", {"model": "arm", "seed": 1}, status=201)
    shutil.copytree(models / "arm" / "1", models / "arm" / "2")
    async with running(models, **options) as service, over_http(service) as client:
        caller = Caller(client)
        await steps(caller, dream, 1)
        newer = await caller.ask("POST", "/v1/dreams", {"model": "arm"}, status=201)
        assert (dream["version"], newer["version"]) == ("1", "2")


async def test_a_dream_that_is_not_used_expires_and_gives_its_place_back(small: Path) -> None:
    async with running(small, max_dreams=4) as service, over_http(service) as client:
        caller = Caller(client)
        dream = await caller.ask("POST", "/v1/dreams", {"count": 4, "ttl_s": 0.3}, status=201)
        full = await caller.ask("POST", "/v1/dreams", {"count": 1}, status=429)
        assert full["code"] == "too_many_dreams"
        held = service.repository.get("arm").sessions
        async with asyncio.timeout(20):
            while service.dreams.all():
                await asyncio.sleep(0.02)
        await service.dreams.sweep()
        gone = await caller.ask("GET", f"/v1/dreams/{dream['dream_id']}", status=410)
        assert gone["code"] == "dream_expired"
        assert service.repository.get("arm").sessions == held - 1
        await caller.ask("POST", "/v1/dreams", {"count": 4}, status=201)


async def test_dreams_are_drawn_for_people_and_become_a_film(caller: Caller) -> None:
    asked = {"model": "grid", "count": 2, "seed": 1, "include": ["picture"]}
    dream = await caller.ask("POST", "/v1/dreams", asked, status=201)
    body = {"actions": [0, 1], "include": ["picture"], "autoreset": True}
    made = await caller.ask("POST", f"/v1/dreams/{dream['dream_id']}/step", body)
    frames = [dream["picture"][0], made["picture"][0]]
    assert all(frame.startswith("data:image/png;base64,") for frame in frames)
    film = await caller.send("POST", "/v1/film", {"frames": frames, "ms": 100})
    assert film.content.startswith(b"GIF8")
    for wrong, path in (
        ([], "frames"),
        (["x"], "frames[0]"),
        ([frames[0], np.zeros((2, 2, 3), np.uint8)], "frames[1]"),
        ([np.zeros((0, 2, 3), np.uint8)], "frames[0]"),
        ([np.zeros((1, 70_000, 3), np.uint8)], "frames[0]"),
    ):
        problem = await caller.ask("POST", "/v1/film", {"frames": wrong}, status=422)
        assert problem["errors"][0]["path"] == path
    many = {"model": "grid", "count": 65, "include": ["picture"]}
    problem = await caller.ask("POST", "/v1/dreams", many, status=422)
    assert "at most 64 environments" in problem["errors"][0]["message"]


async def test_a_dream_is_asked_what_could_follow_and_stays_as_it_is(caller: Caller) -> None:
    dream = await caller.ask("POST", "/v1/dreams", {"model": "grid", "count": 2, "seed": 1}, status=201)
    path = f"/v1/dreams/{dream['dream_id']}"
    told = await caller.ask("POST", path + "/imagine", {"policy": "all", "horizon": 1, "index": 1})
    assert len(told["rollouts"]) > 1
    low = {"level": "low", "actions": [1], "index": 1, "include": ["observation", "reward"]}
    ahead = (await caller.ask("POST", path + "/imagine", low))["rollouts"][0]["steps"][0]
    modes = await caller.ask(
        "POST", "/v1/dreams", {"dream_id": dream["dream_id"], "count": 2, "sample": False}, status=201
    )
    made = await caller.ask(
        "POST", f"/v1/dreams/{modes['dream_id']}/step", {"actions": [1, 1], "autoreset": True}
    )
    assert made["reward"][1] == pytest.approx(ahead["reward"], abs=1e-6)
    assert same(made["observation"][1], ahead["observation"])
    assert (await caller.ask("GET", path))["step"] == 0
    problem = await caller.ask("POST", path + "/imagine", {"index": 2}, status=422)
    assert problem["errors"][0]["path"] == "index"
