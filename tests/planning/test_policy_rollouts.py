"""Rollouts of the actor: worlds so small that the improved policy is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thick.planning.actions import Actions
from thick.planning.low import LowProblem, low_search
from thick.planning.objectives import ReturnObjective
from thick.planning.policy_rollouts import LOT, SLICE
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.searches import LowSearch
from thick.planning.settings import PlannerSettings
from thick.runtimes.native.agents import load_agent

CORRIDOR = Path(__file__).parents[2] / "checkpoints" / "corridor" / "1"
ACTOR = np.array([0.6, 0.3, 0.1], np.float32)
PAYS = np.array([0.0, 0.5, 1.0], np.float32)


class Bandit:
    """What an action pays, and noise: a belief ``[*B, 2]`` holds what the last one paid, and which it was."""

    has_actor, draws, context = True, 1, 0

    def imagine(self, belief: Any, action: Any, uniforms: Any = None) -> Any:
        noise = np.float32(12**0.5) * (uniforms - np.float32(0.5)) if uniforms is not None else 0.0
        chosen = action.argmax(-1)[..., None]
        return np.concatenate([PAYS[chosen] + noise, chosen], -1).astype(np.float32)

    def outcome(self, belief: Any) -> tuple[Any, Any]:
        return belief[..., 0], None

    def policy(self, belief: Any) -> tuple[Any, None]:
        return np.broadcast_to(np.log(ACTOR), (*belief.shape[:-1], 3)).copy(), None


class Fork(Bandit):
    """Action 0 leads to a toss, after which action 1 or 2 pays 1: the actor sees which. Action 2 pays 0.6, no more."""

    def imagine(self, belief: Any, action: Any, uniforms: Any = None) -> Any:
        chosen, toss = action.argmax(-1), belief[..., 1]
        tossed = np.where(uniforms[..., 0] < 0.5, 1.0, 2.0)
        pays = np.where(toss > 0, chosen == toss, np.where((toss == 0) & (chosen == 2), 0.6, 0.0))
        after = np.where((toss == 0) & (chosen == 0), tossed, -1.0)
        return np.stack([pays, after], -1).astype(np.float32)

    def policy(self, belief: Any) -> tuple[Any, None]:
        logits = np.zeros((*belief.shape[:-1], 3), np.float32)
        for each in (1, 2):
            logits[..., each] = np.where(belief[..., 1] == each, 30.0, 0.0)
        return logits, None


def search(world: Any, *, sessions: int = 1, keys: Any = None, **changes: Any) -> LowSearch:
    budget = {"method": "flat", "low": "policy-rollouts", "iterations": 1, "horizon": 1, "temperature": 1.0}
    settings = PlannerSettings().updated(budget | {"discount": 1.0} | changes)
    warm = Warm(np.zeros((sessions, settings.horizon, 3), np.float32), np.zeros(sessions, np.bool_))
    keys = np.arange(sessions, dtype=np.int64) if keys is None else keys
    return low_search(
        LowProblem(
            dynamics=world,
            objective=ReturnObjective(world, discount=settings.discount, critic=None),
            settings=settings,
            actions=Actions(3, None),
            belief=np.zeros((sessions, 2), np.float32),
            subgoal=None,
            warm=warm,
            randomness=Randomness(keys),
        )
    )


def finished(found: LowSearch) -> LowSearch:
    while not found.done:
        found.step()
    return found


def shares(found: LowSearch) -> Any:
    """How often each first action is taken, over sessions."""
    return found.sequence()[:, 0].mean(0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 1000.0])
def test_actions_are_drawn_from_the_actor_s_policy_times_what_they_pay(tau: float) -> None:
    found = finished(search(Bandit(), sessions=3000, samples=600, tau=tau))
    wanted = ACTOR * np.exp(PAYS / tau)  # the noise has a standard deviation of 1
    assert np.allclose(shares(found), wanted / wanted.sum(), atol=0.04)
    paid = found.expected_return()
    chosen = found.sequence()[:, 0].argmax(-1)
    for action, pays in enumerate(PAYS):
        assert np.isclose(paid[chosen == action].mean(), pays, atol=0.05)


class Rich(Bandit):
    """Pays a thousand more, whatever is done, and its noise is a hundredth."""

    def outcome(self, belief: Any) -> tuple[Any, Any]:
        return 1000 + belief[..., 0] / 100, None


def test_what_every_action_pays_changes_nothing() -> None:
    plain, rich = (finished(search(world, sessions=500, samples=90, tau=1.0)) for world in (Bandit(), Rich()))
    alike = plain.sequence()[:, 0].argmax(-1) == rich.sequence()[:, 0].argmax(-1)
    assert alike.mean() > 0.98  # the same draws; a payment's last digits are lost beside a thousand


def test_at_temperature_0_the_best_of_that_policy_is_taken() -> None:
    found = finished(search(Bandit(), sessions=50, samples=3000, tau=0.2, temperature=0.0))
    assert (found.sequence()[:, 0].argmax(-1) == 2).all()  # 0.1 · exp(1 / 0.2) is most
    near = finished(search(Bandit(), sessions=50, samples=3000, tau=10.0, temperature=0.0))
    assert (near.sequence()[:, 0].argmax(-1) == 0).all()


def test_before_anything_is_imagined_the_actor_itself_acts() -> None:
    found = search(Bandit(), sessions=3000, samples=30)
    assert np.allclose(shares(found), ACTOR, atol=0.04)
    assert (found.expected_return() == 0).all() and (found.spent().samples == 0).all()


def test_rollouts_react_to_what_they_meet() -> None:
    found = finished(search(Fork(), sessions=20, horizon=2, samples=300, tau=0.02))
    assert (found.sequence()[:, 0].argmax(-1) == 0).all()
    assert np.allclose(found.expected_return(), 1.0)


def test_every_iteration_adds_to_the_means_and_a_slice_stays_short() -> None:
    one, three = (search(Bandit(), sessions=400, samples=30, iterations=count, tau=1.0) for count in (1, 3))
    spread = [finished(each).expected_return() for each in (one, three)]
    off = [
        np.abs(each - PAYS[found.sequence()[:, 0].argmax(-1)]).mean()
        for each, found in zip(spread, (one, three), strict=True)
    ]
    assert off[1] < 0.8 * off[0]
    assert (three.spent().iterations == 3).all() and (three.spent().samples == 90).all()
    many = search(Bandit(), samples=30_000, horizon=3)
    steps = 0
    while not many.done:
        many.step()
        steps += 1
    assert steps >= 30_000 * 3 / SLICE


def test_a_session_s_answer_does_not_depend_on_the_others() -> None:
    keys = np.arange(5, dtype=np.int64) * 7
    together = finished(search(Bandit(), sessions=5, keys=keys, samples=90, horizon=4, iterations=2))
    for session in range(5):
        alone = finished(
            search(Bandit(), keys=keys[session : session + 1], samples=90, horizon=4, iterations=2)
        )
        assert np.array_equal(alone.sequence()[0], together.sequence()[session])
        assert alone.expected_return()[0] == together.expected_return()[session]


def test_a_slice_is_one_session_s_and_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the next pause waits as long beside eight sessions as beside one."""
    agent = load_agent(CORRIDOR)
    settings = agent.settings({"method": "flat", "samples": 500, "iterations": 1, "horizon": 2})
    sizes: list[int] = []
    imagine = type(agent.model.search).imagine

    def counted(self: Any, belief: Any, action: Any, *rest: Any, **more: Any) -> Any:
        sizes.append(int(np.prod(action.shape[:-1])))
        return imagine(self, belief, action, *rest, **more)

    monkeypatch.setattr(type(agent.model.search), "imagine", counted)
    slices = {}
    for sessions in (1, 4):
        space = agent.observation_space
        seen = np.stack([space.sample() for _ in range(sessions)])
        keys = np.arange(sessions, dtype=np.int64)
        state = agent.observe(agent.initial(sessions), seen, is_first=np.ones(sessions, np.bool_), keys=keys)
        plan, count = agent.plan(state, settings, keys=keys), 0
        while not plan.done:
            plan.step()
            count += 1
            used = plan.result().found.spent.samples
            assert used.max() - used.min() <= LOT
        slices[sessions] = count
    assert slices[4] == 4 * slices[1]
    assert max(sizes) <= SLICE
