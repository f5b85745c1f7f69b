"""Whole acts of the bundled models in the native runtime: as in torch, the same bits everywhere, and without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.runtimes.acting import BUNDLED, CHECKPOINTS, acts, acts_of_the_first, agree, identical
from thick.pytrees import map_arrays
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent
from thick.runtimes.native.runtime import open_runtime
from thick.runtimes.protocol import BackendError
from thick.runtimes.torch.agents import load_agent as load_torch_agent


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_acts_as_in_torch(name: str) -> None:
    entry = CHECKPOINTS / name / "1"
    with torch.inference_mode():
        wanted = acts(load_torch_agent(entry, precision="fp32"), 3, 2, torch.from_numpy, stochastic=False)
    found = acts(load_agent(entry), 3, 2, stochastic=False)
    agree(found, wanted)


@pytest.mark.parametrize("name", BUNDLED)
def test_an_act_is_the_same_bits_in_any_batch_by_any_threads_and_with_every_instruction_set(
    name: str,
) -> None:
    agent = load_agent(CHECKPOINTS / name / "1")
    small: dict[str, Any] = {"samples": 8, "horizon": 3, "simulations": 3}
    best = acts(agent, 2, 2, **small)[-1]
    alone = acts_of_the_first(agent, **small)
    identical(map_arrays(lambda x: x[:1], best), alone, "batch")
    library.use_threads(3)
    try:
        threaded = acts(load_agent(CHECKPOINTS / name / "1"), 2, 2, **small)[-1]
    finally:
        library.use_threads(1)
    identical(threaded, best, "threads")
    for other in library.available():
        with library.using(other):
            identical(acts(load_agent(CHECKPOINTS / name / "1"), 2, 2, **small)[-1], best, other)


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
