"""Any sequence of requests, over any mixture of transports, is answered as an agent alone would answer it.

Hypothesis makes up sequences of create, act, replay, reset, fork, export, restore, imagine and delete, each
request over HTTP (JSON or msgpack) or gRPC (single calls or a stream), and checks every answer against a
model of the truth (``truth.py``). In the long form the service also restarts in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clients.base import SyncClient
from clients.errors import NotFoundError, StepConflictError
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from clients.session import Session
from tests.service.live import Live
from tests.service.support import observe
from tests.service.truth import Truth
from thick.agent import Agent
from thick.runtimes.torch.agents import load_agent

TRANSPORTS = ("json", "msgpack", "grpc", "stream")
PLANNERS: tuple[dict[str, Any], ...] = (
    {"method": "flat", "iterations": 1, "samples": 8, "elites": 2, "horizon": 2},
    {"method": "policy", "temperature": 1.0},
    {"iterations": 1, "samples": 8, "elites": 2, "simulations": 3},
)
PARTS = ("plan",)

transports = st.sampled_from(TRANSPORTS)
seeds = st.integers(0, 3)
requests = st.fixed_dictionaries(
    {"observation": seeds, "counted": st.booleans()},
    optional={
        "is_first": st.booleans(),
        "executed_action": st.sampled_from([[0.5, -0.25], [1.0, 0.0]]),
        "planner": st.just(PLANNERS[1]),
    },
)
"""an act: the seed of its observation, whether it says its step, and what else it may say"""
some = st.lists(requests, max_size=2)
planners = st.sampled_from(PLANNERS)


class Machine(RuleBasedStateMachine):
    """One service and everything that was asked of it."""

    def __init__(self, live: Live, agent: Agent, *, restarts: bool) -> None:
        super().__init__()
        self.live = live
        self.agent = agent
        self.restarts = restarts
        self.truths: dict[str, Truth] = {}
        self.gone: set[str] = set()
        self.looks = 0
        self.connect()
        assert self.clients["json"].sessions() == []

    def connect(self) -> None:
        self.clients: dict[str, SyncClient] = {
            "json": PlanningClient(self.live.http, encoding="json"),
            "msgpack": PlanningClient(self.live.http, encoding="msgpack"),
            "grpc": GrpcPlanningClient(self.live.grpc, stream_acts=False),
            "stream": GrpcPlanningClient(self.live.grpc, stream_acts=True),
        }
        self.ends: dict[tuple[str, str], Session] = {}

    def end(self, session: str, transport: str) -> Session:
        """A client's end of a session."""
        if (session, transport) not in self.ends:
            self.ends[session, transport] = self.clients[transport].attach(session)
        return self.ends[session, transport]

    def ask(self, session: str, transport: str, request: dict[str, Any], step: int | None) -> Any:
        """One act; the server counts where the step is None."""
        options = {name: value for name, value in request.items() if name != "observation"}
        if step is None:
            return self.clients[transport].act(
                request["observation"], session_id=session, include=PARTS, **options
            )
        end = self.end(session, transport)
        end.step = step
        return end.decide(request["observation"], include=PARTS, **options)

    sessions: Bundle[str] = Bundle("sessions")
    beliefs: Bundle[tuple[bytes, Truth]] = Bundle("beliefs")

    # -- requests ----------------------------------------------------------------------------------------

    @initialize(target=sessions, seed=seeds, planner=planners, more=some)
    def begin(self, seed: int, planner: dict[str, Any], more: list[dict[str, Any]]) -> str:
        return self.create("json", seed, planner, more)

    @rule(target=sessions, transport=transports, seed=seeds, planner=planners, more=some)
    def create(self, transport: str, seed: int, planner: dict[str, Any], more: list[dict[str, Any]]) -> str:
        made = self.clients[transport].session("arm", seed=seed, planner=planner)
        assert made.step == 0
        self.truths[made.id] = Truth.of(self.agent, seed, planner)
        self.act(made.id, transport, more)
        return made.id

    @rule(session=sessions, transport=transports, more=st.lists(requests, min_size=1, max_size=3))
    def act(self, session: str, transport: str, more: list[dict[str, Any]]) -> None:
        for request in more:
            sent = {name: value for name, value in request.items() if name != "counted"}
            sent["observation"] = observe("arm", sent["observation"])
            before = self.truths[session]
            decision = self.ask(session, transport, sent, before.step if request["counted"] else None)
            after = self.truths[session] = before.act(sent)
            assert decision.step == before.step and not decision.replayed
            assert np.array_equal(decision.action, after.answered[1])
            method = {**before.planner, **sent.get("planner", {})}.get("method", "hierarchical")
            assert decision.plan is not None and decision.plan.method == method

    @rule(session=sessions, transport=transports)
    def replay(self, session: str, transport: str) -> None:
        truth = self.truths[session]
        if truth.answered is None:
            if truth.step:
                self.refused(session, transport, truth.inherited, truth.step - 1)
            return
        request, action = truth.answered
        decision = self.ask(session, transport, request, truth.step - 1)
        assert decision.replayed and decision.step == truth.step - 1
        assert np.array_equal(decision.action, action)

    @rule(session=sessions, transport=transports, offset=st.sampled_from([-3, -2, 1, 5]))
    def act_out_of_step(self, session: str, transport: str, offset: int) -> None:
        step = self.truths[session].step + offset
        if step >= 0:
            self.refused(session, transport, {"observation": observe("arm")}, step)

    @rule(session=sessions, transport=transports)
    def act_otherwise_on_the_last_step(self, session: str, transport: str) -> None:
        truth = self.truths[session]
        if truth.answered is not None:
            self.refused(session, transport, {"observation": observe("arm", 99)}, truth.step - 1)

    def refused(self, session: str, transport: str, request: dict[str, Any], step: int) -> None:
        with pytest.raises(StepConflictError) as conflict:
            self.ask(session, transport, request, step)
        assert conflict.value.expected_step == self.truths[session].step

    @rule(session=sessions, transport=transports, more=some)
    def reset(self, session: str, transport: str, more: list[dict[str, Any]]) -> None:
        end = self.end(session, transport)
        end.reset()
        assert end.step == 0
        self.truths[session] = self.truths[session].reset()
        self.act(session, transport, more)

    @rule(target=sessions, session=sessions, transport=transports, seed=st.none() | seeds, more=some)
    def fork(self, session: str, transport: str, seed: int | None, more: list[dict[str, Any]]) -> str:
        made = self.end(session, transport).fork(seed)
        truth = self.truths[made.id] = self.truths[session].copy(seed)
        assert made.id != session and made.step == truth.step
        for each in (made.id, session):
            self.act(each, transport, more)
        return made.id

    @rule(target=beliefs, session=sessions, transport=transports)
    def export(self, session: str, transport: str) -> tuple[bytes, Truth]:
        return self.end(session, transport).belief(), self.truths[session].copy()

    @rule(target=sessions, belief=beliefs, transport=transports, more=some)
    def restore(self, belief: tuple[bytes, Truth], transport: str, more: list[dict[str, Any]]) -> str:
        raw, truth = belief
        made = self.clients[transport].restore(raw)
        self.truths[made.id] = truth
        assert made.step == truth.step
        self.act(made.id, transport, more)
        return made.id

    @rule(session=sessions, transport=transports, level=st.sampled_from(["high", "low"]))
    def imagine(self, session: str, transport: str, level: str) -> None:
        if self.truths[session].first:
            with pytest.raises(StepConflictError):
                self.end(session, transport).imagine(level=level, horizon=1, policy="prior")
            return
        imagined = self.end(session, transport).imagine(level=level, horizon=2, policy="prior")
        assert len(imagined.rollouts[0].steps) == 2

    @rule(target=sessions, session=consumes(sessions), transport=transports)
    def delete(self, session: str, transport: str) -> Any:
        self.end(session, transport).close()
        del self.truths[session]
        self.gone.add(session)
        return multiple()

    @precondition(lambda self: self.gone)
    @rule(transport=transports)
    def ask_for_what_is_gone(self, transport: str) -> None:
        client = self.clients[transport]
        session = sorted(self.gone)[-1]
        for asked in (
            lambda: client.attach(session),
            lambda: client.act(observe("arm"), session_id=session),
        ):
            with pytest.raises(NotFoundError):
                asked()

    @precondition(lambda self: self.restarts)
    @rule()
    def restart(self) -> None:
        self.disconnect()
        self.live.restart()
        self.connect()

    # -- what always holds -------------------------------------------------------------------------------

    @invariant()
    def exactly_these_sessions_live_each_at_its_step(self) -> None:
        self.looks += 1
        client = self.clients[("msgpack", "grpc")[self.looks % 2]]
        listed = {info.session_id: info.step for info in client.sessions()}
        assert listed == {session: truth.step for session, truth in self.truths.items()}

    @invariant()
    def no_state_is_kept_that_nobody_has(self) -> None:
        hosted = self.live.service.repository.get("arm")
        assert hosted.sessions == len(self.truths)
        assert 1 <= hosted.slots.used <= 1 + len(self.truths)

    def disconnect(self) -> None:
        for client in self.clients.values():
            client.close()

    def teardown(self) -> None:
        for session in self.truths:
            self.end(session, "msgpack").close()
        self.disconnect()


TRUTH = "torch"
"""the backend of the agent behind the truth, and so of the service: others round otherwise"""


@pytest.fixture(scope="module")
def agent(small: Path) -> Agent:
    """The agent behind the truth, with the arithmetic of the service."""
    torch.set_num_threads(1)
    return load_agent(small / "arm" / "1")


@pytest.fixture
def in_memory(small: Path) -> Iterator[Live]:
    """A service that keeps its sessions in memory."""
    live = Live(small, backend=TRUTH)
    yield live
    live.stop()


@pytest.fixture
def stored(small: Path, tmp_path: Path) -> Iterator[Live]:
    """A service that keeps its sessions in a file."""
    live = Live(small, backend=TRUTH, store=f"sqlite:///{tmp_path / 'sessions.db'}")
    yield live
    live.stop()


def explore(live: Live, agent: Agent, *, examples: int, steps: int, restarts: bool) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Machine(live, agent, restarts=restarts), settings=chosen)


@pytest.mark.timeout(900)  # where it fails, Hypothesis looks for a shorter sequence for up to five minutes
def test_every_sequence_of_requests_is_answered_as_the_truth_is(in_memory: Live, agent: Agent) -> None:
    explore(in_memory, agent, examples=2, steps=20, restarts=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_long_sequences_with_restarts_in_between_are_too(stored: Live, agent: Agent) -> None:
    explore(stored, agent, examples=8, steps=40, restarts=True)
