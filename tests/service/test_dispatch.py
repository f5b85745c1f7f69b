"""A session goes on identically on another machine: servers with other instruction sets, through the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from clients.http_client import PlanningClient
from clients.session import Session
from tests.clients.conftest import serving
from tests.runtimes.native.conftest import need_kernels
from tests.service.support import same
from thick.runtimes.native import library

pytestmark = pytest.mark.slow

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
PLANNER = {"samples": 12, "iterations": 2, "elites": 4, "horizon": 4, "simulations": 6, "depth": 2}
IMAGINED = [
    {"level": "low", "policy": "plan", "rollouts": 2},
    {"level": "low", "policy": "prior", "rollouts": 2},
    {"level": "high", "policy": "all"},
    {"level": "high", "policy": "prior", "rollouts": 3},
]


@pytest.fixture(scope="module")
def everything(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled models, whose weights are trained, and tiny ones of every kind."""
    folder = tmp_path_factory.mktemp("everything")
    for model in (*repository.iterdir(), *CHECKPOINTS.iterdir()):
        (folder / model.name).symlink_to(model)
    return folder


@pytest.fixture(scope="module")
def servers(
    everything: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, PlanningClient]]:
    """A client of a server for each instruction set that this machine has."""
    need_kernels()
    names = library.available()
    if len(names) < 2:
        pytest.skip(f"this machine has {names} alone")
    with ExitStack() as stack:
        made = {}
        for name in names:
            log = tmp_path_factory.mktemp(name) / "serve.log"
            up = stack.enter_context(serving(everything, log, backend="native", instructions=name))
            made[name] = stack.enter_context(PlanningClient(up.http))
        yield made


def follow(session: Session, seen: list[Any], methods: list[str]) -> list[Any]:
    """What is answered from here on: actions, plans, what is imagined, and the belief in the end."""
    answers: list[Any] = []
    include = ["observation", "reward", "value", "gates"]
    for observation, method in zip(seen, methods, strict=True):
        decision = session.decide(observation, include=["plan"], planner={"method": method})
        answers.append({"action": decision.action, **asdict(decision.plan)})  # type: ignore[arg-type]
    for asked in IMAGINED:
        if asked["level"] == "low" or "hierarchical" in methods:
            answers.append(asdict(session.imagine(horizon=2, include=include, **asked)))
    return answers


@pytest.mark.parametrize("name", ["doorkey6", "cartpole", "grid", "arm", "camera"])
def test_a_session_that_moves_goes_on_with_the_same_bits(
    servers: dict[str, PlanningClient], name: str
) -> None:
    first, *others = servers
    assert {
        client.model(name).other["runtime"]["instructions"].lower() for client in servers.values()
    } == set(servers)
    space, rng = servers[first].model(name).observation_space, np.random.default_rng(3)
    assert space is not None
    seen = [space.sample(rng) for _ in range(5)]
    methods = ["flat"] * 3 if name == "camera" else ["hierarchical", "flat", "hierarchical"]
    with servers[first].session(name, seed=11, planner=PLANNER) as session:
        for observation in seen[:2]:
            session.act(observation)
        belief = session.belief()
        stayed, end = follow(session, seen[2:], methods), session.belief()
    for other in others:
        with servers[other].restore(belief) as moved:
            found = follow(moved, seen[2:], methods)
            for one, another in zip(stayed, found, strict=True):
                assert same(one, another), f"{first} and {other}"
            assert same(leaves(moved.belief()), leaves(end))


def leaves(belief: bytes) -> dict[str, bytes]:
    """The arrays of an exported belief (their order in the file is not fixed)."""
    return {name: array.tobytes() for name, array in load(belief).items()}
