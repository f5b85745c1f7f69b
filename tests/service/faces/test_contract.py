"""Every route of the contract, in both media types."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.core import PlanningService
from service.protocol import media, responses
from service.protocol.arrays import decode_array
from service.protocol.bodies import decode_body
from service.protocol.events import read_events
from tests.service.support import Caller, observe, over_http, same

pytestmark = pytest.mark.asyncio(loop_scope="session")
BOTH = pytest.mark.parametrize("kind", media.BODY_TYPES, ids=["json", "msgpack"])
MODELS = ("arm", "camera", "grid")


@BOTH
async def test_models_are_listed_and_described(client: httpx.AsyncClient, kind: str) -> None:
    caller = Caller(client, kind)
    listed = (await caller.ask("GET", "/v1/models"))["models"]
    assert [model["name"] for model in listed] == list(MODELS)
    for model in listed:
        responses.ModelSummary.model_validate(model)
        assert model["state"] == "ready" and model["version"] == "1"
    detail = await caller.ask("GET", "/v1/models/arm")
    responses.ModelDetail.model_validate(detail)
    assert detail["kind"] == "thick" and detail["task"] == "tests:arm"
    assert detail["observation_space"]["type"] == "Box" and detail["observation_space"]["low"] is None
    assert detail["action_space"] == {
        "type": "Box",
        "shape": [2],
        "dtype": "float32",
        "low": -1.0,
        "high": 1.0,
    }
    assert detail["versions"] == ["1"] and detail["provenance"] == {"command": "random weights"}
    assert detail["planner"]["samples"] == 16


@BOTH
async def test_a_session_lives_from_creation_to_deletion(client: httpx.AsyncClient, kind: str) -> None:
    caller = Caller(client, kind)
    body = {"model": "grid", "seed": 7, "planner": {"iterations": 1}, "ttl_s": 60}
    made = await caller.ask("POST", "/v1/sessions", body, status=201)
    responses.Session.model_validate(made)
    assert made["step"] == 0 and made["model"] == "grid" and made["version"] == "1" and made["seed"] == 7
    assert made["planner"]["iterations"] == 1 and made["planner"]["samples"] == 16
    assert made["observation_space"]["type"] == "Dict" and made["action_space"] == {
        "type": "Discrete",
        "n": 4,
    }
    path = f"/v1/sessions/{made['session_id']}"
    assert same(await caller.ask("GET", path), made)
    await caller.act(made["session_id"], observe("grid"))
    assert (await caller.ask("GET", path))["step"] == 1
    assert (await caller.ask("POST", f"{path}/reset"))["step"] == 0
    listed = await caller.ask("GET", "/v1/sessions")
    assert made["session_id"] in [view["session_id"] for view in listed["sessions"]]
    await caller.ask("DELETE", path, status=204)
    for verb, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/reset")):
        problem = await caller.ask(verb, where, status=404)
        assert problem["code"] == "session_not_found" and problem["instance"] == where
    listed = await caller.ask("GET", "/v1/sessions")
    assert made["session_id"] not in [view["session_id"] for view in listed["sessions"]]


@BOTH
@pytest.mark.parametrize("model", MODELS)
async def test_an_act_answers_all_that_the_contract_names(
    client: httpx.AsyncClient, kind: str, model: str
) -> None:
    caller = Caller(client, kind)
    session = await caller.session(model)
    for step in range(3):
        answer = await caller.act(
            session,
            observe(model, step),
            step=step,
            reward=0.5,
            is_first=step == 0,
            executed_action=None,
            include=["plan", "timing"],
        )
        responses.ActResponse.model_validate(answer)
        assert answer["session_id"] == session and answer["step"] == step and answer["replayed"] is False
        plan, timing = answer["plan"], answer["timing"]
        assert plan["method"] == ("flat" if model == "camera" else "hierarchical")
        assert len(plan["low"]["actions"]) == 3 and same(plan["low"]["actions"][0], answer["action"])
        assert plan["budget"] == {
            "deadline_ms": None,
            "iterations_done": 2,
            "iterations_asked": 2,
            "simulations_done": plan["budget"]["simulations_asked"],
            "simulations_asked": plan["budget"]["simulations_done"],
        }
        if model == "camera":
            assert plan["high"] is None
        else:
            high = plan["high"]
            assert len(high["visits"]) == len(high["values"]) == 3
            assert len(high["actions"]) == len(high["durations"]) >= 1
        assert timing.keys() == {
            "decode_ms", "queue_ms", "observe_ms", "high_plan_ms", "low_plan_ms", "encode_ms", "total_ms", "batch_size",
        }  # fmt: skip
        parts = sum(timing[name] for name in timing if name not in ("total_ms", "batch_size"))
        assert 0 < parts <= timing["total_ms"] + 1.0
        if model == "arm":
            assert np.shape(answer["action"]) == (2,) and np.all(np.abs(answer["action"]) <= 1)
            assert isinstance(answer["action"], list if kind == media.JSON else np.ndarray)
        else:
            assert type(answer["action"]) is int and 0 <= answer["action"] < 4


async def test_what_is_not_included_is_left_out(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session()
    answer = await caller.act(session, observe("grid"), include=[])
    assert answer.keys() == {"session_id", "step", "action", "replayed"}
    assert "timing" not in await caller.act(session, observe("grid"), include=["plan"])


@pytest.mark.parametrize("model", MODELS)
async def test_json_and_msgpack_agree(client: httpx.AsyncClient, model: str) -> None:
    answers = []
    for kind in media.BODY_TYPES:
        caller = Caller(client, kind)
        session = await caller.session(model)
        made = [await caller.act(session, observe(model, step), include=["plan"]) for step in range(3)]
        for answer in made:
            del answer["session_id"]
        answers.append(made)
    assert same(*answers)


async def test_an_observation_may_come_as_lists_as_bytes_or_as_a_picture(client: httpx.AsyncClient) -> None:
    image = observe("camera")
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    import base64

    forms = [
        image.tolist(),
        {"dtype": "uint8", "shape": [64, 64, 3], "data": base64.b64encode(image.tobytes()).decode()},
        {"encoding": "png", "data": base64.b64encode(png.getvalue()).decode()},
    ]
    actions = []
    for form in forms:
        session = (await client.post("/v1/sessions", json={"model": "camera", "seed": 5})).json()[
            "session_id"
        ]
        answer = await client.post(f"/v1/sessions/{session}/act", json={"observation": form})
        actions.append((answer.json()["action"], answer.json()["plan"]["low"]["expected_return"]))
    assert actions[0] == actions[1] == actions[2]


@BOTH
async def test_the_same_seed_and_observations_give_the_same_actions(
    client: httpx.AsyncClient, kind: str
) -> None:
    caller = Caller(client, kind)
    runs: list[list[Any]] = []
    for seed in (11, 11, 12):
        session = await caller.session("arm", seed=seed)
        runs.append([(await caller.act(session, observe("arm", n)))["action"] for n in range(4)])
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


async def test_after_a_reset_the_session_does_what_it_did_at_first(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm")
    first = [(await caller.act(session, observe("arm", n), step=n))["action"] for n in range(3)]
    await caller.ask("POST", f"/v1/sessions/{session}/reset")
    again = [(await caller.act(session, observe("arm", n), step=n))["action"] for n in range(3)]
    assert first == again


async def test_is_first_starts_the_belief_anew_and_the_steps_go_on(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    fresh, used = await caller.session("camera"), await caller.session("camera")
    for n in range(3):
        await caller.act(used, observe("camera", n))
    answer = await caller.act(
        used, observe("camera", 9), is_first=True, include=["plan"], planner={"seed": 1}
    )
    assert answer["step"] == 3
    assert (await caller.act(used, observe("camera", 5), step=4))["step"] == 4
    # With the step's randomness taken out, what follows an is_first is what a new session does.
    imagined = {"level": "low", "policy": "prior", "horizon": 2, "seed": 4}
    await caller.act(used, observe("camera", 9), is_first=True, include=[])
    await caller.act(fresh, observe("camera", 9), include=[])
    later = (await caller.ask("POST", f"/v1/sessions/{used}/imagine", imagined))["rollouts"][0]["steps"]
    anew = (await caller.ask("POST", f"/v1/sessions/{fresh}/imagine", imagined))["rollouts"][0]["steps"]
    assert len(later) == len(anew) == 2


async def test_what_a_human_did_instead_is_taken_into_the_belief(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    followed, overruled, confirmed = [await caller.session("arm") for _ in range(3)]
    first = [await caller.act(each, observe("arm", 0)) for each in (followed, overruled, confirmed)]
    own = first[0]["action"]
    plain = await caller.act(followed, observe("arm", 1))
    other = await caller.act(overruled, observe("arm", 1), executed_action=[0.9, -0.9])
    same_ = await caller.act(confirmed, observe("arm", 1), executed_action=own)
    assert plain["action"] == same_["action"] != other["action"]


@BOTH
async def test_one_call_creates_the_session_and_later_calls_name_it(
    client: httpx.AsyncClient, kind: str
) -> None:
    caller = Caller(client, kind)
    answer = await caller.ask("POST", "/v1/act", {"model": "arm", "seed": 2, "observation": observe("arm")})
    assert answer["step"] == 0
    more = {"session_id": answer["session_id"], "observation": observe("arm", 1), "step": 1}
    assert (await caller.ask("POST", "/v1/act", more))["step"] == 1
    assert (await caller.ask("GET", f"/v1/sessions/{answer['session_id']}"))["step"] == 2


async def test_a_one_call_act_that_fails_leaves_no_session(fresh: PlanningService) -> None:
    async with over_http(fresh) as client:
        await Caller(client).ask("POST", "/v1/act", {"model": "arm", "observation": [1]}, status=422)
    assert len(fresh.sessions) == 0
    assert fresh.repository.get("arm").slots.used == 1  # the fresh state that new sessions share


@pytest.mark.parametrize(
    ("planner", "method"),
    [
        ({"method": "flat"}, "flat"),
        ({"method": "policy"}, "policy"),
        ({"method": "hierarchical", "high": "tree"}, "hierarchical"),
        ({"low": "icem", "temperature": 0.5, "kappa": 0.1}, "hierarchical"),
        ({"low": "mppi", "elites": 3, "depth": 1}, "hierarchical"),
    ],
)
async def test_each_way_to_plan_can_be_asked_for(
    client: httpx.AsyncClient, planner: dict[str, Any], method: str
) -> None:
    caller = Caller(client)
    answer = await caller.act(await caller.session("arm"), observe("arm"), planner=planner)
    assert answer["plan"]["method"] == method


async def test_settings_of_an_act_hold_for_that_act_alone(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("arm", planner={"iterations": 3})
    first = await caller.act(session, observe("arm"), planner={"iterations": 1})
    second = await caller.act(session, observe("arm"))
    assert first["plan"]["budget"]["iterations_asked"] == 1
    assert second["plan"]["budget"]["iterations_asked"] == 3


# -- imagine -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("policy", ["plan", "prior", "all"])
async def test_the_high_level_imagines(client: httpx.AsyncClient, kind: str, policy: str) -> None:
    caller = Caller(client, kind)
    session = await caller.session("grid")
    await caller.act(session, observe("grid"))
    body = {"level": "high", "horizon": 2, "rollouts": 4, "policy": policy}
    answer = await caller.ask("POST", f"/v1/sessions/{session}/imagine", body)
    responses.Imagination.model_validate(answer)
    assert answer["level"] == "high"
    assert len(answer["rollouts"]) == (3 if policy == "all" else 4)
    for rollout in answer["rollouts"]:
        assert len(rollout["steps"]) == 2 and 0 <= rollout["probability"] <= 1
        for step in rollout["steps"]:
            assert step.keys() >= {
                "high_action", "probability", "duration", "time", "reward", "return", "value", "continuation",
                "subgoal", "observation",
            }  # fmt: skip
            for decoded in (step["subgoal"], step["observation"]):
                assert decode_array(decoded["camera"]).shape == (64, 64, 3)
                assert decode_array(decoded["joints"]).shape == (7,)
    if policy == "all":
        firsts = [rollout["steps"][0] for rollout in answer["rollouts"]]
        assert [step["high_action"] for step in firsts] == [0, 1, 2]
        assert sum(step["probability"] for step in firsts) == pytest.approx(1, abs=1e-5)


@BOTH
@pytest.mark.parametrize("model", MODELS)
async def test_the_low_level_imagines(client: httpx.AsyncClient, kind: str, model: str) -> None:
    caller = Caller(client, kind)
    session = await caller.session(model)
    await caller.act(session, observe(model))
    body = {"level": "low", "horizon": 3, "rollouts": 2, "policy": "plan"}
    answer = await caller.ask("POST", f"/v1/sessions/{session}/imagine", body)
    responses.Imagination.model_validate(answer)
    for rollout in answer["rollouts"]:
        assert len(rollout["steps"]) == 3
        for step in rollout["steps"]:
            assert step.keys() == {
                "action", "reward", "value", "continuation", "gates_open", "context_changed", "observation",
            }  # fmt: skip


async def test_given_actions_are_taken(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    await caller.act(session, observe("grid"))
    path = f"/v1/sessions/{session}/imagine"
    low = await caller.ask("POST", path, {"level": "low", "actions": [3, 0, 1], "rollouts": 2})
    assert [[step["action"] for step in each["steps"]] for each in low["rollouts"]] == [[3, 0, 1]] * 2
    two = await caller.ask("POST", path, {"level": "low", "actions": [[3, 0], [1, 2]]})
    assert [[step["action"] for step in each["steps"]] for each in two["rollouts"]] == [[3, 0], [1, 2]]
    high = await caller.ask("POST", path, {"level": "high", "actions": [2, 1]})
    assert [step["high_action"] for step in high["rollouts"][0]["steps"]] == [2, 1]
    arm = await caller.session("arm")
    await caller.act(arm, observe("arm"))
    given = [[0.25, -0.5], [0.0, 1.0]]
    answer = await caller.ask("POST", f"/v1/sessions/{arm}/imagine", {"level": "low", "actions": given})
    assert [step["action"] for step in answer["rollouts"][0]["steps"]] == given


async def test_a_msgpack_client_gets_the_bytes_that_are_stored(
    client: httpx.AsyncClient, service: PlanningService
) -> None:
    caller = Caller(client, media.MSGPACK)
    session = await caller.session("grid")
    body = {"observation": observe("grid"), "step": 0}
    sent = await caller.send("POST", f"/v1/sessions/{session}/act", body)
    assert (await service.journal.find(session)).answer == sent.content
    again = await caller.send("POST", f"/v1/sessions/{session}/act", body)
    first, second = (decode_body(each.content, media.MSGPACK) for each in (sent, again))
    assert second == {**first, "replayed": True}


@BOTH
async def test_a_plan_lists_its_levels_and_a_level_is_asked_for_by_its_number(
    client: httpx.AsyncClient, kind: str
) -> None:
    caller = Caller(client, kind)
    session = await caller.session("grid")
    plan = (await caller.act(session, observe("grid")))["plan"]
    responses.Plan.model_validate(plan)
    low, high = plan["levels"]
    assert (low.pop("level"), high.pop("level")) == (0, 1)
    assert same(low, plan["low"]) and same(high, plan["high"])
    path = f"/v1/sessions/{session}/imagine"
    for number, name in enumerate(("low", "high")):
        body = {"policy": "prior", "horizon": 2, "include": ["reward"], "seed": 1}
        asked = await caller.ask("POST", path, {**body, "level": number})
        assert asked["level"] == name and same(asked, await caller.ask("POST", path, {**body, "level": name}))
    problem = await caller.ask("POST", path, {"level": 2}, status=422)
    assert problem["errors"][0]["path"] == "level"


@pytest.mark.parametrize("policy", ["plan", "prior", "actor", "all"])
@pytest.mark.parametrize("level", ["high", "low"])
async def test_imagining_never_changes_the_session(
    client: httpx.AsyncClient, level: str, policy: str
) -> None:
    caller = Caller(client)
    told, untold = await caller.session("grid"), await caller.session("grid")
    for step in range(3):
        for session in (told, untold):
            await caller.act(session, observe("grid", step))
        before = await caller.ask("GET", f"/v1/sessions/{told}")
        status = 422 if (level, policy) == ("high", "actor") else 200
        body = {"level": level, "policy": policy, "horizon": 2, "rollouts": 3, "seed": step}
        await caller.ask("POST", f"/v1/sessions/{told}/imagine", body, status=status)
        assert await caller.ask("GET", f"/v1/sessions/{told}") == before
    last = [await caller.act(each, observe("grid", 3), include=["plan"]) for each in (told, untold)]
    assert same(last[0]["plan"], last[1]["plan"]) and last[0]["action"] == last[1]["action"]


async def test_imagination_is_reproducible_and_depends_on_its_seed(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    await caller.act(session, observe("grid"))
    body = {"level": "low", "policy": "prior", "rollouts": 3, "horizon": 4}
    path = f"/v1/sessions/{session}/imagine"
    one, two = [await caller.ask("POST", path, body) for _ in range(2)]
    other = await caller.ask("POST", path, {**body, "seed": 99})
    assert same(one, two) and not same(one, other)


@BOTH
async def test_one_call_imagines_from_an_observation(client: httpx.AsyncClient, kind: str) -> None:
    caller = Caller(client, kind)
    before = await caller.ask("GET", "/v1/sessions")
    body = {"model": "grid", "observation": observe("grid"), "level": "high", "policy": "all", "horizon": 1}
    answer = await caller.ask("POST", "/v1/imagine", body)
    assert [rollout["steps"][0]["high_action"] for rollout in answer["rollouts"]] == [0, 1, 2]
    assert same(await caller.ask("GET", "/v1/sessions"), before)


@pytest.mark.parametrize("form", ["png", "webp", "raw"])
async def test_decoded_pictures_travel_as_asked_and_lose_nothing(
    client: httpx.AsyncClient, form: str
) -> None:
    caller = Caller(client, media.MSGPACK)
    session = await caller.session("camera")
    await caller.act(session, observe("camera"))
    body = {"level": "low", "horizon": 2, "policy": "prior", "image": form}
    response = await caller.send("POST", f"/v1/sessions/{session}/imagine", body)
    raw = response.content
    assert (b"encoding" in raw) == (form != "raw")
    answer = await caller.ask("POST", f"/v1/sessions/{session}/imagine", body)
    plain = await caller.ask("POST", f"/v1/sessions/{session}/imagine", {**body, "image": "raw"})
    for step, exact in zip(answer["rollouts"][0]["steps"], plain["rollouts"][0]["steps"], strict=True):
        assert step["observation"].shape == (64, 64, 3)
        assert (step["observation"] == exact["observation"]).all()


async def test_only_the_included_parts_of_a_step_are_sent(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    await caller.act(session, observe("grid"))
    path = f"/v1/sessions/{session}/imagine"
    low = await caller.ask("POST", path, {"level": "low", "include": ["reward"], "policy": "prior"})
    assert low["rollouts"][0]["steps"][0].keys() == {"action", "reward", "continuation"}
    high = await caller.ask("POST", path, {"level": "high", "include": []})
    assert not {"observation", "subgoal", "reward", "value"} & high["rollouts"][0]["steps"][0].keys()


async def test_steps_are_streamed_as_events(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    await caller.act(session, observe("grid"))
    body = {"level": "low", "horizon": 3, "rollouts": 2, "policy": "prior"}
    path = f"/v1/sessions/{session}/imagine"
    whole = await caller.ask("POST", path, body)
    streamed = await caller.send("POST", path, body, accept=media.EVENT_STREAM)
    assert streamed.headers["content-type"].startswith(media.EVENT_STREAM)
    events = list(read_events(streamed.text.splitlines()))
    assert [event.name for event in events] == ["step"] * 6 + ["end"]
    assert [(e.data["rollout"], e.data["index"]) for e in events[:-1]] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2),
    ]  # fmt: skip
    for rollout, about in enumerate(events[-1].data["rollouts"]):
        assert about["return"] == whole["rollouts"][rollout]["return"]


# -- health, metrics, description ----------------------------------------------------------------------------


async def test_health_is_reported_in_both_dialects(client: httpx.AsyncClient) -> None:
    for path in (
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/arm/ready",
    ):
        assert (await client.get(path)).status_code == 200
    assert (await client.get("/v2/models/nothing/ready")).status_code == 404


async def test_metrics_have_the_names_of_the_contract(fresh: PlanningService) -> None:
    async with over_http(fresh) as client:
        caller = Caller(client)
        session = await caller.session("arm")
        await caller.act(session, observe("arm"))
        text = (await client.get("/metrics")).text
    assert 'thick_requests_total{route="/v1/sessions/{session_id}/act",status="200"} 1.0' in text
    assert 'thick_request_seconds_count{route="/v1/sessions/{session_id}/act"} 1.0' in text
    for phase in ("decode", "queue", "observe", "high_plan", "low_plan", "store", "encode"):
        times = 2.0 if phase == "store" else 1.0  # the creation is stored, too
        assert f'thick_phase_seconds_count{{phase="{phase}"}} {times}' in text
    for line in (
        "thick_batch_size_count 1.0",
        "thick_queue_depth 0.0",
        "thick_sessions 1.0",
        "thick_plan_budget_ratio_count 1.0",
        'thick_model_loaded{model="arm",version="1"} 1.0',
    ):
        assert line in text


async def test_stats_are_for_people(fresh: PlanningService) -> None:
    async with over_http(fresh) as client:
        caller = Caller(client)
        await caller.act(await caller.session("arm"), observe("arm"))
        stats = await caller.ask("GET", "/v1/stats")
    assert stats["sessions"] == 1 and stats["batch_size"] == {"mean": 1.0, "largest": 1}
    assert stats["requests"]["/v1/sessions/{session_id}/act 200"] == 1
    assert stats["phases"]["observe"]["p50_ms"] > 0


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    act = document["paths"]["/v1/sessions/{session_id}/act"]["post"]
    assert set(act["requestBody"]["content"]) == set(media.BODY_TYPES)
    assert set(act["responses"]["200"]["content"]) == set(media.BODY_TYPES)
    assert act["responses"]["409"]["content"].keys() == {media.PROBLEM_JSON}
    text = json.dumps(document)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= document["components"]["schemas"].keys()
    for page in ("/docs", "/docs/"):
        assert (await client.get(page)).status_code == 200


async def test_every_answer_carries_a_request_id(client: httpx.AsyncClient) -> None:
    own = await client.get("/v1/models", headers={"x-request-id": "abc-1"})
    assert own.headers["x-request-id"] == "abc-1"
    bad = await client.get("/nowhere", headers={"x-request-id": "a b\tc"})
    assert len(bad.headers["x-request-id"]) == 16


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("level", ["high", "low"])
async def test_imagination_comes_as_a_sheet_or_as_a_film(
    client: httpx.AsyncClient, model: str, level: str
) -> None:
    if (model, level) == ("camera", "high"):
        return  # a flat model has one level
    caller = Caller(client)
    session = await caller.session(model)
    await caller.act(session, observe(model))
    body = {"level": level, "horizon": 2, "rollouts": 2, "policy": "prior"}
    for kind, frames in ((media.PNG, 1), (media.GIF, 4 if level == "high" else 2), (media.WEBP, 4)):
        response = await caller.send("POST", f"/v1/sessions/{session}/imagine", body, accept=kind)
        assert response.status_code == 200 and response.headers["content-type"] == kind, response.text
        with Image.open(io.BytesIO(response.content)) as picture:
            assert picture.format == kind.removeprefix("image/").upper()
            assert picture.width >= 300 and picture.height >= 300
            if kind != media.WEBP:
                assert getattr(picture, "n_frames", 1) == frames
