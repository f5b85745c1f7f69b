"""Every method of the contract through every kind of client, against a running service."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

from clients import GrpcPlanningClient, PlanningClient
from clients.errors import (
    AccessError,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    StepConflictError,
)
from clients.results import Decision, ImaginedStep
from clients.retries import Retries
from tests.clients.conftest import TASKS, Address
from thick.envs import make


def observations(name: str, count: int, seed: int = 0) -> list[Any]:
    """What an environment shows under random actions."""
    env = make(TASKS[name], seed=seed)
    seen = [env.reset(seed=seed)[0]]
    while len(seen) < count:
        seen.append(env.step(env.action_space.sample())[0])
    env.close()
    return seen


SEEN = observations("doorkey", 3)


def test_the_models_are_listed_and_described(client: Any) -> None:
    assert {(model.name, model.kind, model.state) for model in client.models()} == {
        ("doorkey", "thick", "ready"),
        ("pads", "rssm", "ready"),
    }
    model = client.model("pads")
    assert model.task == "pinpad:three"
    assert model.observation_space.shape == (64, 64, 3)
    assert model.action_space.n == 5
    assert model.planner["samples"] == 16
    assert model.provenance == {"command": "random weights"}
    assert list(model.versions) == ["1"]
    assert model.env_options == model.other["env_options"] == {"max_steps": 40}
    assert [dict(each.env_options) for each in client.models()] == [{}, {}]


def test_the_service_is_live_and_ready(client: Any) -> None:
    assert client.live() and client.ready()
    client.wait_until_ready(1)


def test_all_transports_give_the_same_actions_for_the_same_seed(address: Address) -> None:
    made: list[Any] = [
        PlanningClient(address.http, api_key="me"),
        PlanningClient(address.http, api_key="me", encoding="json"),
        GrpcPlanningClient(address.grpc, api_key="me"),
        GrpcPlanningClient(address.grpc, api_key="me", stream_acts=False),
    ]
    actions, subgoals = [], []
    for client in made:
        with client, client.session("doorkey", seed=7) as session:
            decisions = [session.decide(observation, reward=0.5) for observation in SEEN]
            actions.append([decision.action for decision in decisions])
            subgoals.append(decisions[-1].plan.high.subgoal)
    assert all(sequence == actions[0] for sequence in actions)
    assert all(np.array_equal(subgoal, subgoals[0]) for subgoal in subgoals)
    assert all(isinstance(action, int) and 0 <= action < 5 for action in actions[0])


def test_a_decision_reports_plan_and_timing(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        decision = session.decide(SEEN[0], planner={"method": "hierarchical"}, deadline_ms=60_000)
    plan, timing = decision.plan, decision.timing
    assert plan is not None and timing is not None
    assert plan.method == "hierarchical" and plan.replanned
    assert plan.high is not None and plan.high.subgoal.shape == SEEN[0].shape
    assert plan.high.subgoal.dtype == np.uint8
    assert len(plan.high.durations) >= 1
    assert plan.low is not None and all(isinstance(action, int) for action in plan.low.actions)
    low, high = plan.levels
    assert (low.actions, high.visits, high.durations) == (
        plan.low.actions,
        plan.high.visits,
        plan.high.durations,
    )
    np.testing.assert_array_equal(high.subgoal, plan.high.subgoal)
    assert not any(level.other for level in plan.levels) and "levels" not in plan.other
    assert plan.budget is not None and plan.budget.iterations_done == plan.budget.iterations_asked == 2
    assert timing.total_ms is not None and timing.total_ms > 0
    assert session.last is decision


def test_act_gives_the_action_alone(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        action = session.act(SEEN[0])
        assert action == session.last.action
        assert session.last.plan is None and session.last.timing is None
        assert session.step == 1


def test_a_session_ends_with_its_block(client: Any) -> None:
    with client.session("doorkey") as session:
        assert session.id in {info.session_id for info in client.sessions()}
    assert session.id not in {info.session_id for info in client.sessions()}
    with pytest.raises(NotFoundError) as caught:
        session.act(SEEN[0])
    assert caught.value.code == "session_not_found"
    assert session.id in str(caught.value) and client.connection.url in str(caught.value)
    session.close()  # again: nothing is left to do


def test_a_fork_takes_the_same_action_and_does_not_touch_the_original(client: Any) -> None:
    with client.session("doorkey", seed=3) as session, client.session("doorkey", seed=3) as twin:
        for observation in SEEN[:2]:
            session.act(observation)
            twin.act(observation)
        with session.fork() as fork:
            assert fork.step == 2
            for observation in reversed(SEEN):
                fork.act(observation)
        assert session.act(SEEN[2]) == twin.act(SEEN[2])


def test_a_restored_session_takes_the_action_that_the_original_takes(client: Any) -> None:
    with client.session("doorkey", seed=4) as session:
        session.act(SEEN[0])
        belief = session.belief()
        assert isinstance(belief, bytes)
        with client.restore(belief) as restored:
            assert restored.id != session.id and restored.step == 1
            mine = session.decide(SEEN[1])
            its = restored.decide(SEEN[1])
    assert (mine.action, mine.step) == (its.action, its.step)
    assert np.array_equal(mine.plan.high.subgoal, its.plan.high.subgoal)


def test_a_reset_starts_again_at_step_zero(client: Any) -> None:
    with client.session("doorkey", seed=5) as session:
        first = session.act(SEEN[0])
        session.act(SEEN[1])
        session.reset()
        assert session.step == 0 and session.last is None
        assert session.act(SEEN[0]) == first
        assert session.refresh().step == 1


def test_imagining_leaves_the_session_alone(client: Any) -> None:
    with client.session("doorkey", seed=6) as session, client.session("doorkey", seed=6) as twin:
        session.act(SEEN[0])
        twin.act(SEEN[0])
        imagination = session.imagine(level="high", policy="all", horizon=2)
        assert [rollout.steps[0].high_action for rollout in imagination.rollouts] == [0, 1, 2]
        step = imagination.rollouts[0].steps[0]
        assert step.subgoal.shape == step.observation.shape == SEEN[0].shape
        assert 0 <= step.probability <= 1 and step.duration >= 0
        low = session.imagine(level="low", actions=[[2, 2, 3], [0, 0, 0]], rollouts=2)
        assert [[step.action for step in rollout.steps] for rollout in low.rollouts] == [[2, 2, 3], [0, 0, 0]]
        assert session.act(SEEN[1]) == twin.act(SEEN[1])


def test_a_stream_has_the_same_steps_as_the_whole(client: Any) -> None:
    with client.session("doorkey", seed=6) as session:
        session.act(SEEN[0])
        options: dict[str, Any] = {"level": "low", "horizon": 4, "rollouts": 2, "policy": "prior"}
        whole = session.imagine(**options)
        streamed = list(session.imagine_stream(**options))
    assert [(step.index, step.rollout) for step in streamed] == [(i, r) for i in range(4) for r in range(2)]
    for step in streamed:
        assert _same_step(step, whole.rollouts[step.rollout].steps[step.index])


def _same_step(a: ImaginedStep, b: ImaginedStep) -> bool:
    plain = all(getattr(a, name) == getattr(b, name) for name in ("action", "reward", "gates_open"))
    return plain and np.array_equal(a.observation, b.observation)


def test_decoded_pictures_come_as_arrays_in_every_form(client: Any) -> None:
    with client.session("pads", seed=0) as session:
        session.act(observations("pads", 1)[0])
        forms = [session.imagine(level="low", horizon=1, image=form) for form in ("raw", "png", "webp")]
    pictures = [form.rollouts[0].steps[0].observation for form in forms]
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_answers_of_many_megabytes_come_whole(address: Address, transport: str) -> None:
    made: Any = PlanningClient if transport == "http" else GrpcPlanningClient
    url = address.http if transport == "http" else address.grpc
    with made(url, api_key="me") as client, client.session("pads", seed=0) as session:
        session.act(observations("pads", 1)[0])
        imagination = session.imagine(level="low", horizon=12, rollouts=32, policy="prior", image="raw")
    steps = [step for rollout in imagination.rollouts for step in rollout.steps]
    assert sum(step.observation.nbytes for step in steps) > 4 * 2**20  # what gRPC takes unless told otherwise


def test_pictures_may_be_sent_encoded(address: Address) -> None:
    (observation,) = observations("pads", 1)
    actions = []
    for images in (None, "png", "webp"):
        with PlanningClient(address.http, api_key="me", images=images) as client:
            with client.session("pads", seed=2) as session:
                actions.append(session.act(observation))
        with GrpcPlanningClient(address.grpc, api_key="me", images=images) as client2:
            with client2.session("pads", seed=2) as session:
                actions.append(session.act(observation))
    assert len(set(actions)) == 1


def test_one_call_creates_a_session_and_goes_on_with_it(client: Any) -> None:
    first = client.act(SEEN[0], model="doorkey", seed=8)
    assert isinstance(first, Decision) and first.step == 0 and first.plan is not None
    second = client.act(SEEN[1], session_id=first.session_id, step=1)
    assert second.step == 1
    with client.attach(first.session_id) as session:
        assert session.step == 2
    assert client.imagine(SEEN[0], model="doorkey", level="low", horizon=2).level == "low"


def test_a_wrong_observation_is_reported_and_the_session_goes_on(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        with pytest.raises(InvalidRequestError) as caught:
            session.act(np.zeros((3, 5, 5), np.uint8))
        assert [error.path for error in caught.value.errors] == ["observation"]
        assert "channels last" in caught.value.detail
        assert f"act on session {session.id} (step 0)" in str(caught.value)
        with pytest.raises(InvalidRequestError, match="did you mean"):
            session.act(SEEN[0], planner={"smaples": 3})
        assert session.step == 0
        session.act(SEEN[0])


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"reward": float("nan")}, "reward"),
        ({"reward": np.float32("inf")}, "reward"),
        ({"deadline_ms": float("nan")}, "planner.deadline_ms"),  # as null it would lift the session's
        ({"planner": {"temperature": float("-inf")}}, "planner.temperature"),
        ({"executed_action": [0, float("nan")]}, "executed_action[1]"),
    ],
)
def test_a_number_that_is_none_is_refused_and_never_sent_as_null(
    client: Any, asked: dict[str, Any], path: str
) -> None:
    with client.session("doorkey", seed=1) as session:
        with pytest.raises(InvalidRequestError) as caught:
            session.act(SEEN[0], **asked)
        assert [(error.path, error.message) for error in caught.value.errors] == [
            (path, "expected a finite number")
        ]
        assert session.decide(SEEN[0], include=()).step == 0


def test_a_fraction_for_a_whole_number_is_refused_over_every_transport(client: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected an integer, got 1\.5"):
        client.session("doorkey", seed=1.5)


PLANNERS: list[Any] = [
    {"samples": 2.5}, {"samples": "many"}, {"samples": True}, {"samples": 0}, {"samples": 2**40}, {"samples": [1]},
    {"sample": 3}, {"seed": 1.5}, {"seed": 2**63}, {"kappa": "x"}, {"kappa": [1]}, {"temperature": True}, {"ponder": 1},
    {"method": 3}, {"method": ["flat"]}, {"low": "x"}, {"kept": 1.5}, {"tau": float("nan")}, "flat", 3, [1],
]  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "wrong"),
    [("session", {"planner": planner}) for planner in PLANNERS]
    + [("act", {"planner": planner}) for planner in PLANNERS if isinstance(planner, dict)]
    + [("session", {name: value}) for name in ("seed", "ttl_s", "version") for value in ("", [1], {}, True)]
    + [("act", {name: "x"}) for name in ("reward", "is_first", "include")]
    + [
        ("imagine", {name: value})
        for name in ("horizon", "rollouts", "seed", "level")
        for value in (1.5, [1])
    ]
    + [("imagine", {"horizn": 3}), ("imagine", {"actions": 3}), ("imagine", {"planner": {"samples": 0.5}})],
)
def test_what_is_wrong_is_said_in_the_same_words_over_every_transport(
    address: Address, ask: str, wrong: dict[str, Any]
) -> None:
    said = []
    for made in (
        PlanningClient(address.http, api_key="me"),
        PlanningClient(address.http, api_key="me", encoding="json"),
        GrpcPlanningClient(address.grpc, api_key="me"),
    ):
        with made as client, client.session("doorkey", seed=1) as session:
            ways: dict[str, Any] = {
                "session": partial(client.session, "doorkey"),
                "act": partial(session.act, SEEN[0]),
            }
            with pytest.raises(InvalidRequestError) as caught:
                ways.get(ask, session.imagine)(**wrong)
            said.append([(error.path, error.message) for error in caught.value.errors])
    assert said[0] == said[1] == said[2]
    if isinstance(wrong.get("planner"), dict):
        assert said[0][0][0].startswith("planner.")


def test_actions_to_imagine_may_be_an_array(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        session.act(SEEN[0])
        one = session.imagine(level="low", actions=np.array([2, 2, 1]))
        assert [len(rollout.steps) for rollout in one.rollouts] == [3]
        two = session.imagine(level="low", actions=[np.array([2, 2]), np.array([0, 1])])
        assert [len(rollout.steps) for rollout in two.rollouts] == [2, 2]


def test_a_version_of_a_model_is_shown_and_another_is_not_there(client: Any) -> None:
    assert client.model("doorkey", "1").version == client.model("doorkey").version == "1"
    with pytest.raises(NotFoundError, match="9/9"):
        client.model("doorkey", "9/9")


@pytest.mark.parametrize("name", [".", "..", "a/b"])
def test_a_name_is_never_taken_for_a_way_up(client: Any, name: str) -> None:
    with pytest.raises(NotFoundError, match="there is n"):
        client.model(name)
    if "/" not in name:
        with pytest.raises(NotFoundError, match=f"session '{name}': there is none"):
            client.attach(name)


def test_the_action_that_was_really_done_may_be_reported(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        session.act(SEEN[0])
        session.act(SEEN[1], executed_action=3)
        with pytest.raises(InvalidRequestError, match="executed_action"):
            session.act(SEEN[2], executed_action=99)


def test_a_second_hand_on_the_session_meets_a_conflict_with_the_expected_step(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        other = client.attach(session.id)
        session.act(SEEN[0])
        session.act(SEEN[1])
        with pytest.raises(StepConflictError) as caught:
            other.act(SEEN[2])
        assert caught.value.expected_step == 2
        other.refresh()
        assert other.step == 2
        other.act(SEEN[2])


def test_an_unknown_model_is_answered_with_the_nearest(client: Any) -> None:
    with pytest.raises(NotFoundError, match="did you mean `doorkey`") as caught:
        client.session("dorkey")
    assert caught.value.code == "model_not_found"
    with pytest.raises(NotFoundError):
        client.model("dorkey")


def test_models_are_unloaded_and_loaded_with_the_admin_key(client: Any) -> None:
    client.unload("pads")
    assert client.model("pads").state == "unloaded"
    with pytest.raises(ServiceError):
        type(client)(client.connection.url, api_key="root", retries=Retries(attempts=1)).session("pads")
    client.load("pads")
    client.wait_until_ready(30)
    with client.session("pads"):
        assert client.model("pads").state == "ready"


def test_keys_are_asked_for_and_their_rights_kept(address: Address) -> None:
    for kind, url in ((PlanningClient, address.http), (GrpcPlanningClient, address.grpc)):
        for key, status in ((None, 401), ("not-this-one", 403)):
            with kind(url, api_key=key) as stranger, pytest.raises(AccessError) as caught:
                stranger.models()
            assert caught.value.status == status
            assert "not-this-one" not in str(caught.value)
        with kind(url, api_key="me") as user, pytest.raises(AccessError) as caught:
            user.unload("pads")
        assert caught.value.status == 403


def test_threads_share_a_session_one_act_after_the_other(client: Any) -> None:
    with client.session("doorkey", seed=1) as session:
        steps = list[int]()

        def work() -> None:
            for _ in range(2):
                steps.append(session.decide(SEEN[0], include=()).step)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(steps) == list(range(8))


def test_threads_share_a_client_each_with_its_session(client: Any) -> None:
    expected = [_actions(client, seed) for seed in range(3)]
    found: dict[int, list[Any]] = {}
    threads = [
        threading.Thread(target=lambda s=seed: found.update({s: _actions(client, s)})) for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(3)] == expected


def _actions(client: Any, seed: int) -> list[Any]:
    with client.session("doorkey", seed=seed) as session:
        return [session.act(observation) for observation in SEEN[:2]]


@pytest.mark.parametrize("form", ["png", "gif", "webp"])
def test_the_server_draws_imaginations(address: Address, form: str) -> None:
    import io

    from PIL import Image

    with PlanningClient(address.http, api_key="me") as client, client.session("doorkey", seed=1) as session:
        session.act(SEEN[0])
        data = session.imagine_picture(form, level="high", policy="all", horizon=1)
    assert Image.open(io.BytesIO(data)).format == form.upper()
