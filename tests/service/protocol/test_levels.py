"""Levels of a hierarchy: by name or number in a request, and as a list in a plan."""

from __future__ import annotations

from typing import Any

import pytest

from service.protocol import protobuf
from service.protocol.errors import ProblemError
from service.protocol.generated import planner_pb2 as pb
from service.protocol.requests import Imagine, parse
from service.protocol.responses import Plan

LOW = {"actions": [2, 1], "expected_return": 0.5, "samples": 16, "iterations": 2}
HIGH = {
    "actions": [1, 0],
    "durations": [2.0, 5.5],
    "values": [0.1, 0.2],
    "visits": [3, 1],
}
PLAN: dict[str, Any] = {
    "method": "hierarchical",
    "replanned": True,
    "context_changed": False,
    "gates_open": 1,
}


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("low", "low"),
        ("high", "high"),
        (0, "low"),
        (1, "high"),
        ("0", "low"),
        ("1", "high"),
        (2, 2),
        ("2", 2),
    ],
)
def test_a_level_is_asked_for_by_name_or_number(sent: Any, meant: Any) -> None:
    assert parse(Imagine, {"level": sent}).level == meant
    if isinstance(sent, (str, int)):
        request = protobuf.from_dict(pb.ImagineRequest, {"level": sent})
        assert parse(Imagine, protobuf.to_dict(request)).level == meant


@pytest.mark.parametrize("wrong", [-1, 100, 1.0, True, "middle", "", "-1", None, [0]])
def test_what_is_no_level_is_refused_by_its_field(wrong: Any) -> None:
    with pytest.raises(ProblemError) as refused:
        parse(Imagine, {"level": wrong})
    (error,) = refused.value.errors
    assert error.path == "level" and "expected" in error.message


def test_levels_come_through_grpc_as_they_are_in_json() -> None:
    high = {**HIGH, "subgoal": 3}
    levels = [{"level": 0, **LOW}, {"level": 1, **high}, {"level": 2, "actions": [7]}]
    plan = {**PLAN, "low": LOW, "high": high, "levels": levels}
    Plan.model_validate(plan)
    packed = protobuf.from_dict(pb.Plan, plan).SerializeToString()
    assert protobuf.to_dict(pb.Plan.FromString(packed)) == plan
    # A client that was built before there were levels reads the rest.
    assert pb.Plan.FromString(packed).high.visits == [3, 1]
    assert (
        protobuf.to_dict(protobuf.from_dict(pb.ImagineResponse, {"level": 2, "rollouts": []}))["level"] == 2
    )
