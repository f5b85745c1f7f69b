"""Episodes of an agent on seeds it was never trained on, many environments side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from thick import pytrees
from thick.agent import Agent
from thick.data.collect import sample_action, stack_observations
from thick.data.finite import check_answer
from thick.envs import make
from thick.planning.settings import PlannerSettings, session_key
from thick.training.config import TrainConfig
from thick.training.learner import Learner

ENDLESS = 100_000
"""steps after which an episode that nothing cuts is taken for endless"""


def evaluate_agent(
    agent: Agent | None,
    env_id: str,
    *,
    settings: PlannerSettings | None,
    episodes: int,
    seed: int,
    parallel: int = 20,
    max_steps: int = 0,
    options: dict[str, Any] | None = None,
    progress: Callable[[int, dict[str, Any]], None] = lambda done, summary: None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run whole episodes; episode i is reset with ``seed + i`` and plans with random numbers of that seed.

    Args:
        agent: who acts, in torch or in the native runtime; None plays uniformly random actions.
        env_id: the task.
        settings: how to plan (needed with an agent).
        episodes, seed: episode i uses ``seed + i``.
        parallel: environments stepped together, one batch of plans for all of them.
        max_steps: cut episodes here; 0 leaves the environment's own limit.
        options: of the environment.
        progress: called with the number of finished episodes and the summary so far.
        check: called before every step; may raise to leave.

    Raises:
        NotFiniteError: an environment answered with NaN or infinity.
        ValueError: an episode does not end.

    Returns:
        ``episodes`` (seed, return, length, success), ``success_rate``, ``mean_return``, ``mean_length``, and for
        agents with contexts ``context_change`` and ``events`` with recall, ``precision``.
    """
    results: dict[int, dict[str, Any]] = {}
    waiting = list(range(episodes))
    lanes: list[_Lane | None] = []
    envs = [make(env_id, **(options or {})) for _ in range(min(parallel, episodes))]
    state = None if agent is None else agent.initial(len(envs))
    gates = _GateCount()
    for env in envs:
        lanes.append(_Lane(env, waiting.pop(0), seed) if waiting else None)
    while any(lane is not None for lane in lanes):
        check()
        live = {index: lane for index, lane in enumerate(lanes) if lane is not None}
        if agent is None:
            actions = {i: sample_action(lane.env.action_space, lane.rng) for i, lane in live.items()}
        else:
            assert settings is not None and state is not None
            # Only live lanes are planned for: a plan does not depend on its batch-mates.
            rows = agent.model.arrays.array(list(live))
            planned, chosen = _plan(agent, pytrees.select(state, rows), list(live.values()), settings)
            state = pytrees.put(state, rows, planned)
            actions = dict(zip(live, chosen, strict=True))
            changed = (planned.belief.gates > 0).any(-1).tolist()
            for lane, change in zip(live.values(), changed, strict=True):
                if lane.steps > 0:
                    gates.add(bool(change), lane.events)
        for index, lane in live.items():
            if lane.step(actions[index], max_steps):
                results[lane.episode] = lane.result()
                progress(len(results), _summary(list(results.values())))
                lanes[index] = _Lane(lane.env, waiting.pop(0), seed) if waiting else None
    for env in envs:
        env.close()
    ordered = [results[index] for index in sorted(results)]
    summary = {"episodes": ordered, **_summary(ordered)}
    return summary | (gates.summary() if agent is not None else {})


def evaluate_learner(
    learner: Learner,
    config: TrainConfig,
    *,
    progress: Callable[[int, dict[str, Any]], None] = lambda done, summary: None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """A short evaluation during training, without the list of episodes; see :func:`evaluate_agent`."""
    agent = learner.agent(config.planner)
    result = evaluate_agent(
        agent,
        config.env,
        settings=agent.planner,
        episodes=config.evaluation.episodes,
        seed=100_000,
        max_steps=config.evaluation.max_steps,
        options=config.env_options,
        progress=progress,
        check=check,
    )
    result.pop("episodes")
    return result


class _Lane:
    """One environment in the middle of an episode."""

    def __init__(self, env: Any, episode: int, seed: int) -> None:
        self.env, self.episode, self.seed = env, episode, seed + episode
        self.rng = np.random.default_rng(self.seed)
        self.steps, self.total = 0, 0.0
        self.observation, info = env.reset(seed=self.seed)
        self._check(0.0)
        self.events: list[str] = list(info.get("events", ()))
        self.success: bool | None = None

    def step(self, action: Any, max_steps: int) -> bool:
        """Whether the episode is over."""
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.events = list(info.get("events", ()))
        self.steps += 1
        self.total += float(reward)
        self._check(float(reward))
        if self.steps > ENDLESS and not max_steps:
            raise ValueError(
                f"the episode with seed {self.seed} has not ended in {ENDLESS} steps: cut episodes with --max-steps, "
                "or evaluation.max_steps of a run"
            )
        if "success" in info:
            self.success = bool(info["success"]) or bool(self.success)
        return bool(terminated or truncated or (max_steps and self.steps >= max_steps))

    def _check(self, reward: float) -> None:
        arrays = stack_observations([self.observation], self.env.observation_space)
        where = f"step {self.steps} of the episode with seed {self.seed}"
        check_answer({**arrays, "reward": np.array([reward])}, 0, where=where)

    def result(self) -> dict[str, Any]:
        return {"seed": self.seed, "return": self.total, "length": self.steps, "success": self.success}


def _plan(agent: Agent, state: Any, rows: list[Any], settings: PlannerSettings) -> tuple[Any, list[Any]]:
    xp = agent.model.arrays
    keys = xp.array([session_key(lane.seed, lane.steps) for lane in rows])
    arrays = stack_observations([lane.observation for lane in rows], agent.observation_space)
    observation = {key.removeprefix("observation/"): xp.array(value) for key, value in arrays.items()}
    is_first = xp.array([lane.steps == 0 for lane in rows])
    state = agent.observe(
        state, observation, is_first=is_first, executed_action=None, executed=None, keys=keys
    )
    planning = agent.plan(state, settings, keys=keys)
    while not planning.done:
        planning.step()
    output = planning.result()
    return output.state, agent.decode_action(output.action)


class _GateCount:
    """Context changes while acting, against the environment's events."""

    def __init__(self) -> None:
        self.steps = self.opened = self.on_event = 0
        self.hits: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, changed: bool, events: list[str]) -> None:
        self.steps += 1
        self.opened += changed
        self.on_event += changed and bool(events)
        for name in set(events):
            self.counts[name] += 1
            self.hits[name] += changed

    def summary(self) -> dict[str, Any]:
        return {
            "context_change": self.opened / max(self.steps, 1),
            "precision": self.on_event / max(self.opened, 1),
            "events": {
                name: {"count": count, "recall": self.hits[name] / count}
                for name, count in sorted(self.counts.items())
            },
        }


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    successes = [result["success"] for result in results if result["success"] is not None]
    return {
        "success_rate": float(np.mean(successes)) if successes else None,
        "mean_return": float(np.mean([result["return"] for result in results])),
        "mean_length": float(np.mean([result["length"] for result in results])),
    }
