"""Requests and problems: what is accepted, and how what is wrong is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from service.protocol import requests
from service.protocol.errors import (
    PROBLEMS,
    FieldError,
    ProblemError,
    code_for_status,
    invalid_fields,
    step_conflict,
    suggest,
)
from service.protocol.limits import Limits
from tests.service.protocol.strategies import scalars, trees

REQUESTS = [
    requests.CreateSession,
    requests.Fork,
    requests.Act,
    requests.ActOnce,
    requests.Imagine,
    requests.ImagineOnce,
]


def _errors(kind: type[requests.Request], tree: Any) -> dict[str, str]:
    with pytest.raises(ProblemError) as caught:
        requests.parse(kind, tree)
    assert caught.value.code == "invalid_request"
    return {error.path: error.message for error in caught.value.errors}


def test_the_contract_s_example_is_read() -> None:
    act = requests.parse(
        requests.Act,
        {
            "observation": [0.0],
            "step": 7,
            "reward": 0.0,
            "is_first": False,
            "executed_action": None,
            "planner": {"method": "hierarchical", "deadline_ms": 50},
            "include": ["plan", "timing"],
        },
    )
    assert act.step == 7
    assert act.planner is not None and act.planner.deadline_ms == 50
    assert act.planner.settings() == {"method": "hierarchical"}


def test_what_is_left_out_has_its_default() -> None:
    act = requests.parse(requests.Act, {"observation": 0})
    assert (act.step, act.reward, act.is_first, act.executed_action) == (None, 0.0, False, None)
    assert act.include == ("plan", "timing")
    assert requests.parse(requests.Act, {"observation": 0, "include": []}).include == ()


def test_planner_settings_beyond_the_contract_s_are_passed_on() -> None:
    planner = requests.parse(
        requests.CreateSession, {"model": "m", "planner": {"samples": 4, "momentum": 0.1}}
    ).planner
    assert planner is not None
    assert planner.settings() == {"samples": 4, "momentum": 0.1}


@pytest.mark.parametrize(
    ("kind", "tree", "path", "message"),
    [
        (requests.Act, {}, "observation", "is missing"),
        (requests.Act, {"observation": 0, "setp": 3}, "setp", "unknown field; did you mean `step`?"),
        (requests.Act, {"observation": 0, "step": -1}, "step", "greater than or equal to 0, got -1"),
        (requests.Act, {"observation": 0, "step": "1"}, "step", "expected an integer, got '1'"),
        (requests.Act, {"observation": 0, "step": True}, "step", "expected an integer, got true"),
        (requests.Act, {"observation": 0, "step": 1.0}, "step", "expected an integer, got 1.0"),
        (requests.Act, {"observation": 0, "step": 10**400}, "step", "a huge number"),
        (requests.Act, {"observation": 0, "reward": 10**400}, "reward", "a huge number"),
        (requests.Act, {"observation": 0, "reward": float("nan")}, "reward", "finite"),
        (requests.Act, {"observation": 0, "reward": "1"}, "reward", "expected a number, got '1'"),
        (requests.Act, {"observation": 0, "is_first": "yes"}, "is_first", "true or false, got 'yes'"),
        (
            requests.Act,
            {"observation": 0, "include": ["plans"]},
            "include[0]",
            "'plan' or 'timing', got 'plans'",
        ),
        (requests.Act, {"observation": 0, "include": "plan"}, "include", "expected a list"),
        (requests.Act, {"observation": 0, "planner": []}, "planner", "expected an object"),
        (requests.Act, {"observation": 0, "planner": {"method": "best"}}, "planner.method", "got 'best'"),
        (
            requests.Act,
            {"observation": 0, "planner": {"samples": 0}},
            "planner.samples",
            "greater than or equal to 1",
        ),
        (
            requests.Act,
            {"observation": 0, "planner": {"deadline_ms": 0}},
            "planner.deadline_ms",
            "greater than 0",
        ),
        (requests.CreateSession, {"model": ""}, "model", "at least 1 character"),
        (requests.CreateSession, {"model": 3}, "model", "expected text, got 3"),
        (requests.CreateSession, {"model": "m", "seed": -1}, "seed", "greater than or equal to 0"),
        (requests.CreateSession, {"model": "m", "seed": 2**63}, "seed", "less than or equal to"),
        (requests.CreateSession, {"model": "m", "ttl_s": 0}, "ttl_s", "greater than 0"),
        (requests.Fork, [], "body", "expected an object, got []"),
        (requests.Fork, {"int": 1}, "int", "unknown field; expected one of `seed`"),
        (
            requests.Imagine,
            {"level": "middle"},
            "level",
            "'high', 'low' or the number of a level from 0, got 'middle'",
        ),
        (requests.Imagine, {"policy": "best"}, "policy", "'plan', 'prior', 'actor' or 'all'"),
        (requests.Imagine, {"image": "gif"}, "image", "'png', 'webp' or 'raw'"),
        (requests.Imagine, {"actions": 3}, "actions", "expected a list, got 3"),
        (requests.ImagineOnce, {"model": "m"}, "observation", "is missing"),
    ],
)
def test_what_is_wrong_is_reported_by_its_path(kind: Any, tree: Any, path: str, message: str) -> None:
    assert message in _errors(kind, tree)[path]


def test_all_wrong_fields_are_reported_at_once() -> None:
    errors = _errors(requests.Act, {"step": "x", "reward": [], "planner": {"samples": "many", "kappa": None}})
    assert set(errors) == {"observation", "step", "reward", "planner.samples"}


@pytest.mark.parametrize("kind", REQUESTS)
@given(tree=trees(scalars))
def test_any_tree_is_a_request_or_a_problem(kind: Any, tree: Any) -> None:
    try:
        requests.parse(kind, tree)
    except ProblemError as problem:
        assert problem.status == 422
        assert problem.errors


@pytest.mark.parametrize(
    ("kind", "tree", "path"),
    [
        (requests.Act, {"observation": 0, "planner": {"samples": 101}}, "planner.samples"),
        (requests.Act, {"observation": 0, "planner": {"horizon": 21}}, "planner.horizon"),
        (requests.Act, {"observation": 0, "planner": {"simulations": 101}}, "planner.simulations"),
        (requests.CreateSession, {"model": "m", "ttl_s": 11}, "ttl_s"),
        (requests.Imagine, {"horizon": 21}, "horizon"),
        (requests.Imagine, {"rollouts": 11}, "rollouts"),
        (requests.Imagine, {"rollouts": 10, "horizon": 20}, "rollouts"),
    ],
)
def test_more_work_than_the_server_s_bounds_is_refused(kind: Any, tree: Any, path: str) -> None:
    limits = Limits(samples=100, horizon=20, simulations=100, rollouts=10, imagined_steps=100, ttl_s=10)
    request = requests.parse(kind, tree)
    requests.check_limits(request)
    with pytest.raises(ProblemError) as caught:
        requests.check_limits(request, limits)
    assert [error.path for error in caught.value.errors] == [path]


def test_the_statuses_are_those_of_the_contract() -> None:
    statuses = {kind.status for kind in PROBLEMS.values()}
    assert {401, 403, 404, 409, 410, 413, 415, 422, 429, 503, 504} <= statuses
    for code in ("queue_full", "too_many_sessions", "draining", "model_not_ready"):
        assert ProblemError(code, "x").to_dict()["retry_after"] > 0


def test_grpc_status_names_are_real() -> None:
    import grpc

    for kind in PROBLEMS.values():
        assert hasattr(grpc.StatusCode, kind.grpc)


def test_a_problem_has_the_members_of_rfc_9457_and_comes_back() -> None:
    problem = step_conflict(8, 7)
    sent = problem.to_dict("/v1/sessions/a/act")
    assert sent == {
        "type": "urn:thick:problem:step_conflict",
        "title": "The step is not the one that is expected",
        "status": 409,
        "detail": "the session expects step 8, the request is for step 7",
        "code": "step_conflict",
        "instance": "/v1/sessions/a/act",
        "expected_step": 8,
        "step": 7,
    }
    again = ProblemError.from_dict(sent)
    assert (again.code, again.detail, again.extra) == (problem.code, problem.detail, problem.extra)
    listed = invalid_fields([FieldError("a.b", "wrong"), FieldError("", "all of it")])
    assert ProblemError.from_dict(listed.to_dict()).errors == listed.errors
    assert str(listed) == "a.b: wrong; all of it"


@pytest.mark.parametrize(
    "problem", [{}, {"status": 418}, {"code": "new_code", "status": 429}, {"errors": ["x"], "status": "x"}]
)
def test_problems_of_other_servers_are_understood_by_their_status(problem: dict[str, Any]) -> None:
    known = ProblemError.from_dict(problem)
    assert known.code == code_for_status(problem["status"] if isinstance(problem.get("status"), int) else 500)


def test_the_nearest_right_name_is_offered_or_all_of_them() -> None:
    assert suggest("horizn", ["horizon", "samples"]) == "did you mean `horizon`?"
    assert suggest("xyz", ["horizon", "samples"]) == "expected one of `horizon`, `samples`"
