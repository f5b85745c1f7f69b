"""protobuf messages carry what JSON carries, and the generated code is what planner.proto makes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from service.protocol import protobuf, protobuf_acts, requests, responses
from service.protocol.arrays import EncodedImage, encode_array
from service.protocol.bodies import decode_arrays, to_wire
from service.protocol.errors import FieldError, ProblemError, invalid_fields, step_conflict
from service.protocol.events import END, STEP, Event
from service.protocol.generate import stale
from service.protocol.generated import planner_pb2 as pb
from service.protocol.values import decode_observation
from tests.service.protocol.strategies import any_space, same
from thick.spaces import Space, space_to_json


def through(kind: Any, tree: Any) -> Any:
    """What arrives of ``tree`` at the other side."""
    data = protobuf.from_dict(kind, tree).SerializeToString()
    return protobuf.to_dict(kind.FromString(data))


def test_the_generated_code_is_current() -> None:
    assert stale() == [], "run `make proto`"


@given(any_space, st.integers(0, 2**32))
def test_observations_arrive_as_they_were(space: Space, seed: int) -> None:
    member = space.sample(np.random.default_rng(seed))
    tree = through(pb.ActRequest, {"session_id": "s", "observation": member})
    assert same(_arrays(decode_observation(tree["observation"], space)), _arrays(member))


def _arrays(value: Any) -> Any:
    return {k: np.asarray(v) for k, v in value.items()} if isinstance(value, dict) else np.asarray(value)


@given(any_space)
def test_spaces_arrive_as_they_were(space: Space) -> None:
    form = space_to_json(space)
    tree = {"session_id": "s", "model": "m", "version": "1", "step": 0, "observation_space": form}
    assert through(pb.Session, tree)["observation_space"] == form


ACT = {
    "session_id": "s",
    "model": "m",
    "version": "2",
    "seed": 2**62,
    "ttl_s": 5.0,
    "observation": {"image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "choice": 3},
    "step": 0,
    "reward": 0.0,
    "is_first": False,
    "executed_action": np.float32([0.5]),
    "planner": {
        "method": "flat",
        "low": "icem",
        "samples": 10,
        "kappa": 0.5,
        "deadline_ms": 50.0,
        "momentum": 0.1,
    },
    "include": [],
}


def test_an_act_keeps_every_field_zeros_included() -> None:
    tree = through(pb.ActRequest, ACT)
    assert same(decode_arrays(tree), ACT)
    assert requests.parse(requests.ActOnce, tree).include == ()


@given(any_space, any_space, st.integers(0, 2**32), st.booleans())
def test_acts_read_and_written_field_by_field_are_the_same(
    seen: Space, acted: Space, seed: int, short: bool
) -> None:
    rng = np.random.default_rng(seed)
    observation = seen.sample(rng)
    tree = {
        "session_id": "s",
        "step": 0,
        "observation": observation,
        "include": ["plan"] * (seed % 3),
        "reward": 0.5,
    }
    for each in (tree, ACT, {"observation": EncodedImage("png", b"x")}, {"include": ["plan"] * 100}):
        message = protobuf.from_dict(pb.ActRequest, each)
        assert protobuf_acts.read_act(message) == protobuf.to_dict(message)
    action = acted.sample(rng)
    if isinstance(action, (int, np.ndarray)):
        answer = {"session_id": "s", "step": seed, "action": action, "replayed": False}
        answer |= {} if short else {"degraded": "late"}
        assert protobuf_acts.answer_to_message(answer) == protobuf.from_dict(pb.ActResponse, answer)


def test_what_is_unset_is_left_out_so_that_the_schemas_decide() -> None:
    assert through(pb.ActRequest, {"session_id": "s", "observation": 0, "executed_action": None}) == {
        "session_id": "s",
        "observation": 0,
    }


RESPONSE = {
    "session_id": "s",
    "step": 7,
    "action": np.float32([0.1, -0.2]),
    "replayed": False,
    "plan": {
        "method": "hierarchical",
        "replanned": True,
        "context_changed": False,
        "gates_open": 0,
        "high": {
            "actions": [1, 3],
            "durations": [4.2, 9.0],
            "values": [0.5, 0.25],
            "visits": [3, 97],
            "subgoal": {"image": np.zeros((2, 2, 3), np.uint8)},
        },
        "low": {
            "actions": [np.float32([0.1, -0.2])],
            "expected_return": 0.41,
            "samples": 1000,
            "iterations": 10,
        },
        "budget": {
            "deadline_ms": 50.0,
            "iterations_done": 6,
            "iterations_asked": 10,
            "simulations_done": 100,
        },
        "degraded": True,
    },
    "timing": {"decode_ms": 0.5, "total_ms": 9.25, "batch_size": 2},
}


def test_an_answer_keeps_every_field_also_those_that_came_later() -> None:
    assert same(decode_arrays(through(pb.ActResponse, RESPONSE)), RESPONSE)


@pytest.mark.parametrize("actions", [[1, 2], [[1, 2], [0, 0]], [[0.5, -0.5], [0.25, 0.0]]])
def test_actions_to_imagine_arrive_as_lists(actions: Any) -> None:
    assert through(pb.ImagineRequest, {"session_id": "s", "actions": actions})["actions"] == actions


def test_a_flat_plan_has_no_high_part() -> None:
    plan = {"method": "flat", "replanned": False, "context_changed": False, "gates_open": 0, "high": None}
    tree = through(
        pb.ActResponse, {"session_id": "s", "step": 0, "action": 2, "replayed": True, "plan": plan}
    )
    assert tree == {
        "session_id": "s",
        "step": 0,
        "action": 2,
        "replayed": True,
        "plan": {key: value for key, value in plan.items() if value is not None},
    }


def test_models_keep_their_provenance() -> None:
    model = {
        "name": "doorkey",
        "version": "1",
        "kind": "thick",
        "task": "minigrid:MiniGrid-DoorKey-8x8-v0",
        "state": "ready",
        "planner": {"samples": 1000, "kappa": 0.5, "nested": {"list": [1, 2.5, None, "x"]}},
        "provenance": {"steps": 200000, "success": 0.95},
        "versions": ["1", "2"],
        "sessions": 3,
    }
    assert through(pb.Model, model) == model


def test_imagination_arrives_whole_and_in_a_stream() -> None:
    step = {
        "high_action": 2, "probability": 0.25, "duration": 4.5, "time": 4.5, "reward": 0.0, "return": 0.5,
        "value": 0.75, "continuation": 1.0, "subgoal": np.zeros((7, 7, 3), np.uint8),
        "observation": EncodedImage("png", b"abc"),
    }  # fmt: skip
    tree = {"level": "high", "rollouts": [{"probability": 0.5, "return": 0.5, "steps": [step]}]}
    expected = to_wire(tree, binary=True)
    assert through(pb.ImagineResponse, tree) == expected
    responses.Imagination.model_validate(expected)
    events = [
        Event(STEP, {"rollout": 0, "index": 1, "level": "high", **step}),
        Event(END, {"level": "high", "rollouts": [{"probability": 0.5, "return": 0.5}]}),
    ]
    messages = [pb.ImagineEvent.FromString(protobuf.event_to_message(e).SerializeToString()) for e in events]
    first, last = (protobuf.message_to_event(message) for message in messages)
    assert first == Event(STEP, {"rollout": 0, "index": 1, **expected["rollouts"][0]["steps"][0]})
    assert last == Event(
        END, {"level": "high", "rollouts": [{"probability": 0.5, "return": 0.5, "steps": []}]}
    )


def test_a_member_without_a_field_is_an_error_of_the_sender() -> None:
    with pytest.raises(ValueError, match="ActRequest has no observations; it has session_id"):
        protobuf.from_dict(pb.ActRequest, {"observations": 1})


@pytest.mark.parametrize(
    "observation",
    [
        pb.Observation(),
        pb.Observation(array=pb.Array(dtype="object", shape=[1], data=b"x")),
        pb.Observation(array=pb.Array(dtype="float32", shape=[-1], data=b"xxxx")),
        pb.Observation(array=pb.Array(dtype="float32", shape=[2**40, 2**40], data=b"xxxx")),
        pb.Observation(image=pb.Image(encoding="bmp", data=b"BM")),
        pb.Observation(dict=pb.ObservationDict()),
    ],
)
def test_bad_observations_meet_the_same_checks_as_in_json(observation: pb.Observation) -> None:
    tree = protobuf.to_dict(pb.ActRequest(session_id="s", observation=observation))
    space = {"type": "Box", "shape": [1], "dtype": "float32", "low": None, "high": None}
    from thick.spaces import parse_space

    with pytest.raises(ProblemError) as caught:
        decode_observation(tree.get("observation"), parse_space(space))
    assert caught.value.status == 422


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_setting_that_is_no_number_is_a_problem_of_the_sender(value: float) -> None:
    message = pb.ActRequest(model="m")
    message.planner.other.update({"deadline_ms": value})
    with pytest.raises(ProblemError, match=r"planner\.deadline_ms: expected a finite number") as caught:
        protobuf.to_dict(message)
    assert caught.value.status == 422


def test_observations_in_text_are_refused_over_grpc_in_words() -> None:
    with pytest.raises(ProblemError, match="over gRPC a data URI is none"):
        protobuf.from_dict(pb.ActRequest, {"observation": "data:image/png;base64,AAAA"})
    with pytest.raises(ValueError, match="bytes, not base64 text"):
        protobuf.from_dict(pb.ActRequest, {"observation": {"encoding": "png", "data": "AAAA"}})
    assert protobuf.from_dict(pb.ActRequest, {"observation": {1: 2}}).observation.dict.entries.keys() == {"1"}


@given(st.binary(max_size=120))
def test_any_request_that_protobuf_reads_becomes_a_dict(noise: bytes) -> None:
    try:
        message = pb.ActRequest.FromString(noise)
    except DecodeError:
        return
    assert isinstance(protobuf.to_dict(message), dict)


def test_problems_ride_in_the_metadata_and_come_back() -> None:
    problem = step_conflict(8, 7)
    again = protobuf.problem_from_status("ABORTED", "x", protobuf.problem_metadata(problem, "Act"))
    assert (again.code, again.extra) == ("step_conflict", {"expected_step": 8, "step": 7})


def test_long_problems_fit_the_metadata() -> None:
    problem = invalid_fields(FieldError("x" * 500, "y" * 5000) for _ in range(60))
    ((_, data),) = protobuf.problem_metadata(problem)
    assert len(data) <= protobuf.MAX_METADATA
    again = protobuf.problem_from_status("INVALID_ARGUMENT", None, protobuf.problem_metadata(problem))
    assert again.code == "invalid_request"
    assert again.errors[0].path.startswith("xxx")


@pytest.mark.parametrize(
    ("status", "code"),
    [("UNAVAILABLE", "draining"), ("DEADLINE_EXCEEDED", "request_timeout"), ("UNKNOWN", "internal")],
)
def test_a_status_without_a_problem_is_still_a_problem(status: str, code: str) -> None:
    assert protobuf.problem_from_status(status, "gone", None).code == code
    assert protobuf.problem_from_status(status, "gone", [("thick-problem-bin", b"{")]).detail == "gone"


def test_arrays_in_text_form_are_refused_over_grpc() -> None:
    form = encode_array(np.zeros(2, np.float32), binary=False)
    with pytest.raises(ValueError, match="bytes, not base64"):
        protobuf.from_dict(pb.ActRequest, {"observation": form})
