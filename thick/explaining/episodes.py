"""Episodes of an agent, and what its high level predicted before each context change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from thick import pytrees
from thick.agent import Agent
from thick.data.collect import POLICIES, encode_actions, stack_observations
from thick.envs import make
from thick.explaining.record import Change, EpisodeRecord, Prediction, rendered
from thick.models.networks import AgentNetworks
from thick.planning.settings import PlannerSettings, session_key

PLAYERS = ("plan", *POLICIES)
"""who may play"""


class HighLevelNeededError(ValueError):
    """The model has no contexts and no high level: there is nothing to explain."""


def explain(
    agent: Agent[Any],
    networks: AgentNetworks | None,
    env_id: str,
    *,
    env_options: dict[str, Any] | None = None,
    player: str = "plan",
    settings: PlannerSettings | None = None,
    episodes: int = 1,
    seed: int = 0,
    max_steps: int = 0,
    most_changes: int = 12,
    progress: Callable[[int], None] = lambda done: None,
) -> list[EpisodeRecord]:
    """Play episodes, and ask the high level at the beginning of each segment where its actions lead.

    Args:
        agent: in the torch runtime.
        networks: the same checkpoint, for the posterior over high-level actions; None leaves that out.
        env_id, env_options: the task.
        player: plan (the agent), random or scripted.
        settings: of the planner; None takes the agent's own.
        episodes, seed: episode i is reset with ``seed + i``.
        max_steps: cut episodes here; 0 leaves the environment's own limit.
        most_changes: segments of an episode that are explained.
        progress: called with the number of finished episodes.

    Raises:
        HighLevelNeededError: the model has none.
        ValueError: nobody of that name plays.
    """
    if agent.model.high is None:
        raise HighLevelNeededError(
            "this checkpoint has no high level: contexts and jumps need a THICK learner"
        )
    if player not in PLAYERS:
        raise ValueError(f"player: expected one of {', '.join(PLAYERS)}, got {player!r}")
    env = make(env_id, **(env_options or {}))
    records = []
    try:
        for index in range(episodes):
            records.append(
                _episode(agent, networks, env, player, settings, seed + index, max_steps, most_changes)
            )
            progress(index + 1)
    finally:
        env.close()
    return records


def _episode(
    agent: Agent[Any],
    networks: AgentNetworks | None,
    env: Any,
    player: str,
    settings: PlannerSettings | None,
    seed: int,
    max_steps: int,
    most_changes: int,
) -> EpisodeRecord:
    policy = None if player == "plan" else POLICIES[player](seed)
    record, state = EpisodeRecord(seed), agent.initial(1)
    beliefs: list[Any] = []
    observation, info = env.reset(seed=seed)
    action, reward, over = None, 0.0, False
    while True:
        step = len(beliefs)
        key = torch.tensor([session_key(seed, step)])
        arrays = stack_observations([observation], env.observation_space)
        tensors = {
            name.removeprefix("observation/"): torch.from_numpy(value) for name, value in arrays.items()
        }
        executed = None
        if policy is not None and action is not None:
            executed = torch.from_numpy(encode_actions([action], env.action_space))
        state = agent.observe(
            state, tensors, is_first=torch.tensor([step == 0]), executed_action=executed, keys=key
        )
        beliefs.append(state.belief)
        record.observations.append(observation)
        record.frames.append(rendered(env))
        record.actions.append(action)
        record.rewards.append(float(reward))
        record.events.append(list(info.get("events", ())))
        record.gates.append(state.belief.gates[0].numpy() > 0)
        if "success" in info:
            record.success = bool(info["success"]) or bool(record.success)
        if over or (max_steps and step >= max_steps):
            break
        if policy is None:
            result = agent.act(state, settings, keys=key)
            state, action = result.state, agent.decode_action(result.action)[0]
        else:
            action = policy([env], [observation], np.array([step == 0]))[0]
        observation, reward, terminated, truncated, info = env.step(action)
        record.ended, over = bool(terminated), bool(terminated or truncated)
    begin = 0
    ends = sorted({*record.opened, *([len(beliefs) - 1] if record.ended and len(beliefs) > 1 else [])})
    for end in ends[:most_changes]:
        record.changes.append(
            Change(
                begin, end, bool(record.gates[end].any()), predictions(agent, networks, beliefs, begin, end)
            )
        )
        begin = end
    return record


@torch.no_grad()
def predictions(
    agent: Agent[Any], networks: AgentNetworks | None, beliefs: Sequence[Any], begin: int, end: int
) -> list[Prediction]:
    """Where each high-level action leads from the belief at ``begin``, together with what was the case around ``end``.

    Args:
        beliefs: ``B = 1`` each.
    """
    model, high = agent.model, agent.model.high
    assert high is not None
    now = beliefs[begin]
    prior = high.prior(now.stoch, now.context)[0].softmax(-1)
    count = prior.shape[-1]
    stoch, context = now.stoch.expand(count, -1), now.context.expand(count, -1)
    landing = high.jump(stoch, context, torch.arange(count))
    before = model.decode_coarse(landing.stoch_before, context)
    after = model.decode_coarse(landing.stoch, landing.context)
    actions = agent.decode_action(landing.action)
    posterior = None if networks is None else _posterior(networks, now, beliefs[end], beliefs[end - 1])
    return [
        Prediction(
            action=index,
            prior=float(prior[index]),
            posterior=None if posterior is None else float(posterior[index]),
            before=pytrees.map_arrays(lambda x: np.asarray(x[index]), _plain(before)),  # noqa: B023
            after=pytrees.map_arrays(lambda x: np.asarray(x[index]), _plain(after)),  # noqa: B023
            low_action=actions[index],
            elapsed=float(landing.elapsed[index]),
            segment=float(landing.segment[index]),
            reward=float(landing.reward[index]),
            continuation=float(landing.continuation[index]),
        )
        for index in range(count)
    ]


def _plain(decoded: Any) -> Any:
    """A decoded observation without the wrapping of a single one."""
    return (
        decoded["observation"] if isinstance(decoded, dict) and set(decoded) == {"observation"} else decoded
    )


def _posterior(networks: AgentNetworks, now: Any, then: Any, before: Any) -> torch.Tensor:
    """q(A | s, c[τ], z[τ-1]), ``[G]``."""
    level = networks.hierarchy[0]
    hot = [F.one_hot(belief.stoch, level.classes).float() for belief in (now, before)]
    logits = level.posterior(hot[0], now.context, then.context, hot[1])
    return logits[0].softmax(-1)
