"""Whole acts of the bundled models in the native runtime: as in torch, the same bits everywhere, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thick.agent import Agent
from thick.pytrees import walk
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent
from thick.runtimes.native.runtime import open_runtime
from thick.runtimes.protocol import BackendError
from thick.runtimes.torch.agents import load_agent as load_torch_agent

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
SMALL: dict[str, Any] = {"samples": 24, "iterations": 2, "elites": 6, "horizon": 5, "simulations": 8}


def observed(agent: Agent[Any], step: int, batch: int) -> Any:
    """Random observations ``[B, ...]``."""
    agent.observation_space.seed(step)
    drawn = [agent.observation_space.sample() for _ in range(batch)]
    if isinstance(drawn[0], dict):
        return {key: np.stack([each[key] for each in drawn]) for key in drawn[0]}
    return np.stack(drawn)


def acts(agent: Agent[Any], steps: int, batch: int, convert: Any = lambda x: x, **changes: Any) -> list[Any]:
    """States after some acts."""
    settings = agent.settings({**SMALL, **changes})
    state, found = agent.initial(batch), []
    for step in range(steps):
        keys = convert(np.arange(batch) + 7 * step)
        seen = observed(agent, step, batch)
        seen = {k: convert(v) for k, v in seen.items()} if isinstance(seen, dict) else convert(seen)
        state = agent.observe(state, seen, is_first=convert(np.full(batch, step == 0)), keys=keys)
        state = agent.act(state, settings, keys=keys).state
        found.append(state)
    return found


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_a_bundled_model_acts_as_in_torch(name: str) -> None:
    entry = CHECKPOINTS / name / "1"
    with torch.inference_mode():
        wanted = acts(load_torch_agent(entry, precision="fp32"), 3, 2, torch.from_numpy, stochastic=False)
    found = acts(load_agent(entry), 3, 2, stochastic=False)
    for x, y in zip(found, wanted, strict=True):
        for (leaf, ours), (_, theirs) in zip(walk(x), walk(y), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4, err_msg=leaf)


@pytest.mark.parametrize("name", ["doorkey6", "cartpole"])
def test_an_act_is_the_same_bits_in_any_batch_by_any_threads_and_with_every_instruction_set(
    name: str,
) -> None:
    agent = load_agent(CHECKPOINTS / name / "1")
    small: dict[str, Any] = {"samples": 8, "horizon": 3, "simulations": 3}
    best = acts(agent, 2, 2, **small)[-1]
    alone = acts_of_the_first(agent, **small)
    for (leaf, x), (_, y) in zip(walk(best), walk(alone), strict=True):
        np.testing.assert_array_equal(x[:1], y, err_msg=leaf)
    library.use_threads(3)
    try:
        threaded = acts(load_agent(CHECKPOINTS / name / "1"), 2, 2, **small)[-1]
    finally:
        library.use_threads(1)
    for (leaf, x), (_, y) in zip(walk(best), walk(threaded), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=f"threads: {leaf}")
    for other in library.available():
        with library.using(other):
            found = acts(load_agent(CHECKPOINTS / name / "1"), 2, 2, **small)[-1]
        for (leaf, x), (_, y) in zip(walk(best), walk(found), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{other}: {leaf}")


def acts_of_the_first(agent: Agent[Any], **changes: Any) -> Any:
    """As :func:`acts` of two sessions, but the first of them by itself."""
    settings = agent.settings({**SMALL, **changes})
    state = agent.initial(1)
    for step in range(2):
        keys = np.array([7 * step])
        seen = observed(agent, step, 2)
        seen = {k: v[:1] for k, v in seen.items()} if isinstance(seen, dict) else seen[:1]
        state = agent.observe(state, seen, is_first=np.array([step == 0]), keys=keys)
        state = agent.act(state, settings, keys=keys).state
    return state


def test_the_runtime_says_what_it_is_and_what_it_cannot() -> None:
    entry = CHECKPOINTS / "doorkey6" / "1"
    runtime = open_runtime(entry)
    assert (runtime.info.backend, runtime.info.precision) == ("native", "fp32")
    assert runtime.info.instructions.lower() in library.available()
    assert runtime.pack(runtime.unpack(runtime.pack(runtime.initial(3)))).shape == (
        3,
        runtime.layout.row_bytes,
    )
    for wrong in ({"device": "cuda"}, {"precision": "bf16"}):
        with pytest.raises(BackendError, match="native"):
            open_runtime(entry, **wrong)


def test_a_child_of_a_process_that_used_threads_can_use_them_too() -> None:
    code = (
        "import os, sys, numpy as np\n"
        "from thick.runtimes.native import library\n"
        "from thick.runtimes.native.calls import chained\n"
        "from thick.runtimes.native.weights import Weights\n"
        "tensors = {'a.weight': np.ones((8, 4), np.float32), 'a.bias': np.zeros(8, np.float32)}\n"
        "weights = Weights(tensors, stoch=0, classes=0)\n"
        "chain = weights.chain(['a'], linear=True)\n"
        "library.use_threads(3)\n"
        "again = lambda: chained(chain, 16, None, np.ones((500, 4), np.float32)).sum()\n"
        "again()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(0 if again() == 16000 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0 and again() == 16000\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKPOINTS.parent, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_agent_loads_and_acts_without_torch() -> None:
    code = (
        "import sys, numpy as np, pathlib; sys.modules['torch'] = None\n"
        "from thick.runtimes.native.agents import load_agent\n"
        f"agent = load_agent(pathlib.Path({str(CHECKPOINTS / 'doorkey6' / '1')!r}))\n"
        "seen = np.zeros((1, *agent.observation_space.shape), np.uint8)\n"
        "keys, settings = np.array([1]), agent.settings({'samples': 8, 'horizon': 3, 'simulations': 3})\n"
        "state = agent.observe(agent.initial(1), seen, is_first=np.array([True]), keys=keys)\n"
        "print(agent.act(state, settings, keys=keys).action.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKPOINTS.parent
    )
    assert done.stdout.strip() == "(1, 5)", done.stderr
