"""What a GPU does with graphs and kernels is what torch does operation by operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.models.sizes import ACTIONS, SPACES, model
from tests.planning.models import BUDGET
from tests.runtimes.acting import observed
from thick.pytrees import walk
from thick.runtimes.torch.agents import torch_agent
from thick.runtimes.torch.gpu.recorded import RecordedSearch
from thick.runtimes.torch.runtime import TorchRuntime

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
KINDS = [("vector", "discrete"), ("image", "continuous"), ("grid", "discrete")]


def runtime(observation: str, action: str, device: str, **changes: Any) -> TorchRuntime:
    networks = model(SPACES[observation], ACTIONS[action], 0, **changes)
    return TorchRuntime(torch_agent(networks, planner=BUDGET, device=device, precision="fp32"))


def acted(of: TorchRuntime, steps: int, batch: int, **changes: Any) -> list[Any]:
    """States after some acts, in numpy."""
    settings, state, found = of.settings(changes), of.initial(batch), []
    for step in range(steps):
        keys = np.arange(batch) + 7 * step
        first = np.full(batch, step == 0)
        state = of.observe(state, observed(of.agent, step, batch), is_first=first, keys=keys)
        plan = of.plan(state, settings, keys=keys)
        while not plan.done:
            plan.step()
        result = plan.result()
        assert result.info(0)["low"]["iterations"] >= (0 if changes.get("method") == "policy" else 1)
        state = result.state
        found.append({name: array.float().cpu().numpy() for name, array in walk(state)})
    return found


@pytest.mark.parametrize("method", ["flat", "hierarchical", "policy"])
@pytest.mark.parametrize(("observation", "action"), KINDS)
def test_acts_on_a_gpu_are_those_on_a_cpu(observation: str, action: str, method: str) -> None:
    changes = {"behaviour": "actor_critic"}
    on_gpu, on_cpu = (runtime(observation, action, device, **changes) for device in ("cuda", "cpu"))
    steps = 4  # beyond the second, everything is replayed
    found, wanted = (acted(each, steps, 3, method=method) for each in (on_gpu, on_cpu))
    for step, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        for name in theirs:
            np.testing.assert_allclose(
                ours[name], theirs[name], rtol=1e-3, atol=1e-3, err_msg=f"step {step}: {name}"
            )


@pytest.mark.parametrize("low", ["cem", "icem", "mppi"])
def test_replayed_searches_are_recorded_ones(low: str) -> None:
    of = runtime("vector", "continuous", "cuda")
    once = acted(of, 1, 2, method="flat", low=low)
    again = [acted(of, 1, 2, method="flat", low=low) for _ in range(4)]
    for found in again:
        for name in once[0]:
            np.testing.assert_allclose(found[0][name], once[0][name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_searches_that_go_on_side_by_side_do_not_disturb_each_other() -> None:
    of = runtime("vector", "discrete", "cuda")
    settings, keys = of.settings({"method": "flat"}), np.arange(1)

    def begun(seed: int) -> Any:
        state = of.observe(
            of.initial(1), observed(of.agent, seed, 1), is_first=np.ones(1, bool), keys=keys + seed
        )
        return of.plan(state, settings, keys=keys + seed)

    def finished(plan: Any) -> np.ndarray:
        while not plan.done:
            plan.step()
        return np.asarray(plan.result()._output.found.sequence.cpu())

    alone = [finished(begun(seed)) for seed in range(5)]
    plans = [begun(seed) for seed in range(5)]
    for plan in plans:
        plan.step()
    kinds = [type(plan._planning._search._low).__name__ for plan in plans]
    assert kinds.count(RecordedSearch.__name__) == 2, kinds
    for plan, wanted in zip(plans, alone, strict=True):
        np.testing.assert_allclose(finished(plan), wanted, atol=1e-4)


def test_an_answer_half_way_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    of = runtime("vector", "continuous", "cuda")
    settings, keys = of.settings({"method": "flat", "iterations": 4}), np.arange(2)
    for _ in range(3):
        state = of.observe(of.initial(2), observed(of.agent, 0, 2), is_first=np.ones(2, bool), keys=keys)
        plan = of.plan(state, settings, keys=keys)
        before = plan.result().action
        plan.step()
        plan.step()
        half = plan.result()
        assert half.budget(0)["iterations_done"] == 2 and half.action.shape == before.shape
        while not plan.done:
            plan.step()
        assert plan.result().budget(0)["iterations_done"] == 4


def test_weights_taken_in_place_reach_what_was_captured() -> None:
    one, other = (
        torch_agent(
            model(SPACES["vector"], ACTIONS["continuous"], seed),
            planner=BUDGET,
            device="cuda",
            precision="fp32",
        )
        for seed in (0, 1)
    )
    runtimes = [TorchRuntime(one), TorchRuntime(other)]
    for each in runtimes:
        acted(each, 3, 2)
    one.model.take(other.model)
    found, wanted = (acted(each, 2, 2) for each in runtimes)
    for name in wanted[-1]:
        np.testing.assert_allclose(found[-1][name], wanted[-1][name], rtol=1e-4, atol=1e-4, err_msg=name)
