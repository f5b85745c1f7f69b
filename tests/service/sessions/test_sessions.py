"""Sessions as resources: fork, export and restore, expiry, limits, and nobody hears of anybody else."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest
import safetensors.numpy

from service.core import Clock, PlanningService
from service.protocol import media
from service.protocol.errors import ProblemError
from tests.service.support import Caller, observe, over_http, running, same

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ("arm", "camera", "grid")


async def export(client: httpx.AsyncClient, session: str) -> bytes:
    response = await client.get(f"/v1/sessions/{session}/belief")
    assert response.status_code == 200 and response.headers["content-type"] == media.OCTET_STREAM
    return response.content


async def restore(client: httpx.AsyncClient, belief: bytes) -> httpx.Response:
    return await client.post("/v1/sessions", content=belief, headers={"content-type": media.OCTET_STREAM})


def contents(raw: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Metadata and tensors of an exported belief (their order in the file is not fixed)."""
    length = int.from_bytes(raw[:8], "little")
    tensors = {name: tensor.tobytes() for name, tensor in safetensors.numpy.load(raw).items()}
    return json.loads(raw[8 : 8 + length])["__metadata__"], tensors


# -- fork ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
async def test_a_fork_does_next_what_the_original_does(client: httpx.AsyncClient, model: str) -> None:
    caller = Caller(client)
    session = await caller.session(model)
    for n in range(3):
        await caller.act(session, observe(model, n))
    fork = await caller.ask("POST", f"/v1/sessions/{session}/fork", {}, status=201)
    assert fork["session_id"] != session and fork["step"] == 3
    for n in range(3, 6):
        one = await caller.act(session, observe(model, n), step=n, include=["plan"])
        other = await caller.act(fork["session_id"], observe(model, n), step=n, include=["plan"])
        assert same(one["action"], other["action"]) and same(one["plan"], other["plan"])


async def test_a_fork_and_its_original_never_affect_each_other(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session, control = await caller.session("arm"), await caller.session("arm")
    for each in (session, control):
        await caller.act(each, observe("arm", 0))
    fork = (await caller.ask("POST", f"/v1/sessions/{session}/fork", status=201))["session_id"]
    for n in range(5, 9):
        await caller.act(fork, observe("arm", n))
    await caller.ask("POST", f"/v1/sessions/{fork}/reset")
    await caller.ask("DELETE", f"/v1/sessions/{fork}", status=204)
    for n in range(1, 4):
        one, other = [await caller.act(each, observe("arm", n)) for each in (session, control)]
        assert one["action"] == other["action"]


async def test_a_fork_with_a_seed_draws_otherwise(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm", planner={"seed": 4})
    await caller.act(session, observe("arm", 0))
    alike = await caller.ask("POST", f"/v1/sessions/{session}/fork", {}, status=201)
    other = await caller.ask("POST", f"/v1/sessions/{session}/fork", {"seed": 99}, status=201)
    actions = [
        (await caller.act(each, observe("arm", 1)))["action"]
        for each in (session, alike["session_id"], other["session_id"])
    ]
    assert actions[0] == actions[1] != actions[2]


async def test_the_last_answer_of_the_original_is_not_the_fork_s(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0), step=0)
    fork = (await caller.ask("POST", f"/v1/sessions/{session}/fork", status=201))["session_id"]
    problem = await caller.act(fork, observe("arm", 0), step=0, status=409)
    assert problem["expected_step"] == 1


# -- export and restore ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
async def test_a_restored_session_does_next_what_the_original_does(
    client: httpx.AsyncClient, model: str
) -> None:
    caller = Caller(client)
    session = await caller.session(model, planner={"iterations": 1})
    for n in range(3):
        await caller.act(session, observe(model, n))
    belief = await export(client, session)
    made = await restore(client, belief)
    assert made.status_code == 201, made.text
    view = made.json()
    assert view["step"] == 3 and view["model"] == model and view["planner"]["iterations"] == 1
    assert contents(await export(client, view["session_id"])) == contents(belief)
    for n in range(3, 5):
        one = await caller.act(session, observe(model, n), step=n, include=["plan"])
        other = await caller.act(view["session_id"], observe(model, n), step=n, include=["plan"])
        assert same(one["action"], other["action"]) and same(one["plan"], other["plan"])


async def test_a_belief_restores_on_another_server(
    client: httpx.AsyncClient, service: PlanningService
) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0))
    belief = await export(client, session)
    expected = await caller.act(session, observe("arm", 1))
    async with running(service.settings.models) as other, over_http(other) as elsewhere:
        made = await restore(elsewhere, belief)
        answer = await Caller(elsewhere).act(made.json()["session_id"], observe("arm", 1))
    assert answer["action"] == expected["action"]


async def test_an_exported_belief_says_what_it_is(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm", seed=21)
    await caller.act(session, observe("arm", 0))
    raw = await export(client, session)
    leaves = safetensors.numpy.load(raw)
    assert leaves["belief.deter"].shape == (12,) and leaves["belief.stoch"].dtype == np.int64
    assert leaves["belief.levels.0.context"].shape == leaves["belief.levels.0.gates"].shape == (6,)
    metadata, _ = contents(raw)
    assert metadata["model"] == "arm" and metadata["version"] == "1" and metadata["step"] == "1"
    assert json.loads(metadata["random_state"]) == {"seed": 21, "step": 1}
    assert "plan.sequence" in json.loads(metadata["plan"])["tensors"]


def changed(raw: bytes, **tensors: np.ndarray | None) -> bytes:
    """An exported belief with some tensors replaced or left out; names with ``__`` for the dot."""
    leaves = safetensors.numpy.load(raw)
    metadata, _ = contents(raw)
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        if tensor is None:
            del leaves[key]
        else:
            leaves[key] = tensor
    return safetensors.numpy.save(leaves, metadata)


@pytest.mark.parametrize("model", ["arm", "camera"])
async def test_a_belief_that_was_exported_before_contexts_were_a_list_goes_on_the_same(
    client: httpx.AsyncClient, model: str
) -> None:
    caller = Caller(client)
    session = await caller.session(model, seed=3)
    for step in range(2):
        await caller.act(session, observe(model, step))
    raw = await export(client, session)
    leaves, (metadata, _) = safetensors.numpy.load(raw), contents(raw)
    for name in ("context", "gates"):
        empty = np.zeros(0, np.float32)
        leaves[f"belief.{name}"] = leaves.pop(f"belief.levels.0.{name}") if model == "arm" else empty
    made = await restore(client, safetensors.numpy.save(leaves, metadata))
    answer = await Caller(client).act(made.json()["session_id"], observe(model, 2))
    assert answer["action"] == (await caller.act(session, observe(model, 2)))["action"]


async def test_a_belief_that_was_tampered_with_is_refused(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    await caller.act(session, observe("arm", 0))
    raw = await export(client, session)
    leaves = safetensors.numpy.load(raw)
    bad = [
        b"",
        b"not a tensor in sight",
        raw[: len(raw) // 2],
        safetensors.numpy.save({"x": np.zeros(2, np.float32)}),
        changed(raw, belief__deter=None),
        changed(raw, belief__extra=np.zeros(1, np.float32)),
        changed(raw, belief__deter=np.zeros(13, np.float32)),
        changed(raw, belief__deter=np.zeros(12, np.float64)),
        changed(raw, belief__deter=np.full(12, np.nan, np.float32)),
        changed(raw, belief__stoch=np.full_like(leaves["belief.stoch"], 5)),
        changed(raw, belief__stoch=np.full_like(leaves["belief.stoch"], -2)),
        changed(raw, plan__taken=np.array(-1)),
        changed(raw, plan__levels__0__since=np.array(2**62)),
        raw.replace(b'"step":"1"', b'"step":"x"'),
        raw.replace(b"thick-belief-1", b"thick-belief-9"),
    ]
    used = len((await caller.ask("GET", "/v1/sessions"))["sessions"])
    for each in bad:
        response = await restore(client, each)
        assert response.status_code == 422, (each[:80], response.text)
        assert response.json()["code"] == "invalid_belief"
    wrong_weights = raw.replace(b'"weights":"', b'"weights":"0', 1)
    assert (await restore(client, wrong_weights)).status_code == 422
    other_model = raw.replace(b'"model":"arm"', b'"model":"arn"')
    assert (await restore(client, other_model)).status_code == 404
    assert len((await caller.ask("GET", "/v1/sessions"))["sessions"]) == used


# -- expiry and limits ---------------------------------------------------------------------------------------


async def test_a_session_expires_and_says_so_even_after_it_was_swept(fresh: PlanningService) -> None:
    async with over_http(fresh) as client:
        caller = Caller(client)
        short = await caller.session("arm", ttl_s=0.2)
        long = await caller.session("arm", ttl_s=60)
        await asyncio.sleep(0.25)
        for _ in range(2):
            problem = await caller.act(short, observe("arm"), status=410)
            assert problem["code"] == "session_expired"
            assert (await caller.ask("GET", f"/v1/sessions/{short}", status=410))["status"] == 410
            await fresh.journal.sweep()
        assert len(fresh.sessions) == 1
        await caller.act(long, observe("arm"))
        assert (await caller.ask("GET", "/v1/sessions"))["sessions"][0]["session_id"] == long


async def test_acting_keeps_a_session_alive(fresh: PlanningService) -> None:
    view = await fresh.lifecycle.create({"model": "arm", "ttl_s": 0.4})
    for _ in range(4):
        await asyncio.sleep(0.2)
        await fresh.act(view["session_id"], {"observation": observe("arm")}, Clock())
    assert (await fresh.lifecycle.get(view["session_id"]))["step"] == 4


async def test_there_is_a_limit_on_the_number_of_sessions(small: object) -> None:
    async with running(small, max_sessions=2) as service, over_http(service) as client:  # type: ignore[arg-type]
        caller = Caller(client)
        first, _ = [await caller.session("arm") for _ in range(2)]
        response = await caller.send("POST", "/v1/sessions", {"model": "arm"})
        assert response.status_code == 429 and response.json()["code"] == "too_many_sessions"
        assert int(response.headers["retry-after"]) >= 1
        await caller.ask("POST", f"/v1/sessions/{first}/fork", status=429)
        await caller.ask("POST", "/v1/act", {"model": "arm", "observation": observe("arm")}, status=429)
        await caller.ask("DELETE", f"/v1/sessions/{first}", status=204)
        await caller.session("arm")


async def test_sessions_give_back_what_they_held(fresh: PlanningService) -> None:
    slots = fresh.repository.get("arm").slots
    views = [await fresh.lifecycle.create({"model": "arm"}) for _ in range(5)]
    for view in views:
        await fresh.act(view["session_id"], {"observation": observe("arm")}, Clock())
        await fresh.lifecycle.fork(view["session_id"], {})
        await fresh.lifecycle.reset(view["session_id"])
    for listed in (await fresh.lifecycle.listed())["sessions"]:
        await fresh.lifecycle.delete(listed["session_id"])
    assert slots.used == 1 and len(fresh.sessions) == 0
    assert fresh.repository.get("arm").sessions == 0


async def test_deleting_waits_for_the_act_that_runs_and_stops_those_that_wait(fresh: PlanningService) -> None:
    view = await fresh.lifecycle.create({"model": "arm"})
    request = {"observation": observe("arm")}
    running_act = asyncio.create_task(fresh.act(view["session_id"], request, Clock()))
    await asyncio.sleep(0)
    deletion = asyncio.create_task(fresh.lifecycle.delete(view["session_id"]))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(fresh.act(view["session_id"], request, Clock()))
    assert (await running_act)["step"] == 0
    await deletion
    with pytest.raises(ProblemError) as caught:
        await waiting
    assert caught.value.status == 404


async def test_too_many_acts_of_one_session_at_once_are_refused(fresh: PlanningService) -> None:
    view = await fresh.lifecycle.create({"model": "arm"})
    request = {"observation": observe("arm")}
    acts = [asyncio.create_task(fresh.act(view["session_id"], request, Clock())) for _ in range(30)]
    results = await asyncio.gather(*acts, return_exceptions=True)
    refused = [each for each in results if isinstance(each, ProblemError)]
    assert refused and all(each.code == "queue_full" for each in refused)
    assert (await fresh.lifecycle.get(view["session_id"]))["step"] == 30 - len(refused)


async def test_no_session_hears_of_another(client: httpx.AsyncClient) -> None:
    """Sessions with the same seed that see different things, all at once, do what each does alone."""
    caller = Caller(client)

    async def alone(n: int) -> list[list[float]]:
        session = await caller.session("arm", seed=n)
        return [(await caller.act(session, np.full(7, n + step)))["action"] for step in range(4)]

    expected = [await alone(n) for n in range(8)]
    together = await asyncio.gather(*(alone(n) for n in range(8)))
    for one, other in zip(expected, together, strict=True):
        assert np.allclose(one, other, atol=1e-6)
