"""Schemathesis: whatever the OpenAPI document allows or forbids is sent, alone and in sequences over sessions;
the service never fails, and answers as the document says."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import msgpack
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.faults.conftest import Figures
from tests.faults.support import Server

MODEL = "arm"
KEY = "root"
BOUNDS = {"max_horizon": 4, "max_rollouts": 3, "max_samples": 16, "max_iterations": 2, "max_simulations": 4}
"""small ones, so that each request is answered soon"""
EACH = 6 if os.environ.get("CI") else 2
"""requests of an operation"""
SEQUENCES = 30 if os.environ.get("CI") else 15
"""of requests in a round"""
ATTEMPTS = 4
"""to go through all sequences"""
NOT_IN_A_SCHEMA = [positive_data_acceptance]
"""what a schema cannot say: which models there are, what they observe, the operator's bounds"""


@schemathesis.serializer("application/msgpack")
def to_msgpack(context: Any, value: Any) -> dict[str, Any]:
    """The body of a request."""
    try:
        return {"data": msgpack.packb(value, use_bin_type=True)}
    except (TypeError, ValueError, OverflowError):
        return {"data": b"\xc1" + repr(value).encode()}  # what cannot be said is no msgpack either


@schemathesis.deserializer("application/msgpack")
def from_msgpack(context: Any, response: Any) -> Any:
    """The body of an answer."""
    return msgpack.unpackb(response.content, raw=False)


@pytest.fixture(scope="module")
def described(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with everything on."""
    folder = tmp_path_factory.mktemp("described")
    settings = {"model_control": "true", "admin_keys": KEY, "store": f"sqlite:///{folder}/sessions.sqlite"}
    with Server(tiny, folder, access_log="false", max_sessions=5000, **BOUNDS, **settings) as server:
        yield server
        assert "Traceback" not in server.logged


@pytest.fixture(scope="module")
def document(described: Server) -> Any:
    """Its OpenAPI document."""
    return schemathesis.openapi.from_url(f"{described.url}/openapi.json")


def make_sensible(case: Any) -> None:
    """Give most requests what a schema cannot know: the model's name, and an observation of its space."""
    body = case.body
    if case.meta is not None and case.meta.generation.mode is GenerationMode.NEGATIVE:
        return  # what is wrong on purpose stays wrong
    if isinstance(body, dict):  # what depends on the clock cannot be drawn again
        body.pop("ttl_s", None)
        if isinstance(body.get("planner"), dict):
            body["planner"].pop("deadline_ms", None)
    if not isinstance(body, dict) or zlib.crc32(repr(sorted(map(str, body.items()))).encode()) % 4 == 0:
        return
    if "observation" in body:
        body["observation"] = [0.25] * 7
        body.pop("step", None)
        body.pop("executed_action", None)
    if "model" in body:
        body["model"] = MODEL
    if isinstance(body.get("planner"), dict):
        body["planner"] = {"method": "policy"}
    body.pop("version", None)


def examples(count: int, **more: Any) -> hypothesis.settings:
    """So many requests or sequences, the same at every run."""
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        **more,
    )


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(GenerationMode.POSITIVE, id="right"),
        pytest.param(GenerationMode.NEGATIVE, id="wrong", marks=pytest.mark.slow),
    ],
)
def test_each_operation_answers_as_it_is_described(document: Any, mode: GenerationMode) -> None:
    tried: Counter[str] = Counter()
    for found in document.get_all_operations():
        operation = found.ok()

        @examples(EACH)
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            make_sensible(case)
            headers = {"authorization": f"Bearer {KEY}"} if case.operation.path.endswith("load") else {}
            case.call_and_validate(headers=headers, excluded_checks=NOT_IN_A_SCHEMA, timeout=60)
            tried[case.operation.label] += 1

        with contextlib.suppress(
            hypothesis.errors.Unsatisfiable
        ):  # nothing can be wrong with GET /health/live
            ask()
    assert tried["POST /v1/sessions/{session_id}/act"] and tried["POST /v1/sessions/{session_id}/imagine"]
    assert len(tried) >= (15 if mode is GenerationMode.POSITIVE else 6), tried


def scenarios(
    document: Any, settings: hypothesis.settings, seed: int | None = None
) -> Counter[tuple[str, int]]:
    """Sequences of requests that follow the document's links between operations; how often each was answered
    how. Each seed gives others."""
    seen: Counter[tuple[str, int]] = Counter()

    class Scenario(document.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: Any) -> None:
            make_sensible(case)

        def after_call(self, response: Any, case: Any) -> None:
            super().after_call(response, case)
            seen[case.operation.label, response.status_code] += 1

        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            case.validate_response(response, excluded_checks=NOT_IN_A_SCHEMA, recorder=self.recorder)

    if seed is not None:
        hypothesis.seed(seed)(Scenario)
    for _ in range(ATTEMPTS):
        try:
            Scenario.run(settings=settings)
            break
        except hypothesis.errors.FlakyStrategyDefinition:
            # What can be drawn next depends on answers, and now and then one depends on how busy the machine is:
            # the sequences end there. Whether enough was reached is for whoever counts.
            continue
    return seen


@pytest.mark.parametrize(
    ("rounds", "steps"),
    [pytest.param(1, 12, marks=pytest.mark.slow), pytest.param(50, 30, marks=pytest.mark.soak)],
    ids=["quick", "long"],
)
def test_sequences_over_sessions_never_make_the_service_fail(
    document: Any, figures: Figures, rounds: int, steps: int
) -> None:
    settings = examples(SEQUENCES, stateful_step_count=steps, phases=[hypothesis.Phase.generate])
    seen: Counter[tuple[str, int]] = Counter()
    for number in range(rounds):  # of few sequences each: the longer one is, the more it depends on the clock
        seen += scenarios(document, settings, seed=number or None)
    reached = {operation for (operation, status) in seen if status < 300}
    assert reached & {"POST /v1/sessions", "POST /v1/dreams"}
    if (
        rounds > 1
    ):  # in a few sequences it is chance which of the others are reached with a body that is right
        assert {"POST /v1/sessions", "POST /v1/sessions/{session_id}/act"} <= reached
        assert {"POST /v1/sessions/{session_id}/fork", "DELETE /v1/sessions/{session_id}"} <= reached
    figures.add(
        f"schemathesis, {SEQUENCES * rounds} sequences",
        {
            "requests": sum(seen.values()),
            "done": sum(times for (_, status), times in seen.items() if status < 300),
            "refused": sum(times for (_, status), times in seen.items() if 400 <= status < 500),
            "failed": sum(times for (_, status), times in seen.items() if status >= 500),
        },
    )
