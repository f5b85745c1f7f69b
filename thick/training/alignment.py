"""Do contexts change when something important happens? Gates against the environment's own events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thick.data.collect import POLICIES, encode_actions, stack_observations
from thick.envs import make
from thick.models.beliefs import State
from thick.models.dynamics.crssm import CRSSM
from thick.models.world_model import WorldModel


@dataclass(frozen=True)
class EventPlay:
    """Whole episodes with the events of every step."""

    episodes: list[dict[str, np.ndarray]]
    """arrays ``[T, ...]`` of each episode, named as in the replay"""
    events: list[list[list[str]]]
    """names of the events of each step of each episode"""
    facts: list[list[dict[str, bool]]] = field(default_factory=list)
    """what was the case on each step of each episode, seen or not; empty where the environment does not say"""


def play_with_events(
    env_id: str,
    *,
    policy: str,
    steps: int,
    seed: int,
    options: dict[str, Any] | None = None,
    policy_options: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    check: Callable[[], None] = lambda: None,
) -> EventPlay:
    """Play whole episodes on seeds below those of training until there are ``steps`` steps.

    Args:
        env_id, options: the task.
        policy, policy_options: who plays.
        steps: steps in all; an episode that is longer than that by itself is cut.
        seed: of episodes and policy.
        progress: called with the number of steps so far.
        check: called before every step; may raise to leave.
    """
    env = make(env_id, **(options or {}))
    act = POLICIES[policy](seed, **(policy_options or {}))
    episodes: list[dict[str, np.ndarray]] = []
    events: list[list[list[str]]] = []
    facts: list[list[dict[str, bool]]] = []
    total = 0
    while total < steps:
        observation, info = env.reset(seed=500_000_000 + 1000 * seed + len(episodes))
        rows = [_row(env, observation, None, 0.0, first=True, terminal=False)]
        names: list[list[str]] = [list(info.get("events", ()))]
        known: list[dict[str, bool]] = [dict(info.get("facts", {}))]
        over, first = False, True
        while not over and len(rows) < max(steps, 2):
            check()
            action = act([env], [observation], np.array([first]))[0]
            observation, reward, terminated, truncated, info = env.step(action)
            rows.append(_row(env, observation, action, float(reward), first=False, terminal=terminated))
            names.append(list(info.get("events", ())))
            known.append(dict(info.get("facts", {})))
            over, first = terminated or truncated, False
        episodes.append({key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
        events.append(names)
        facts.append(known)
        total += len(rows)
        progress(total)
    env.close()
    return EventPlay(episodes, events, facts)


def _row(
    env: Any, observation: Any, action: Any, reward: float, *, first: bool, terminal: bool
) -> dict[str, np.ndarray]:
    return {
        **stack_observations([observation], env.observation_space),
        "action": encode_actions([action], env.action_space),
        "reward": np.array([reward], np.float32),
        "is_first": np.array([first]),
        "is_terminal": np.array([terminal]),
    }


@torch.no_grad()
def gate_alignment(model: WorldModel, play: EventPlay, *, within: int = 0) -> dict[str, Any]:
    """Recall and precision of context changes against events.

    The first step of an episode is left out: there the context is written from nothing.

    Args:
        model: with a C-RSSM.
        play: whole episodes.
        within: a change and an event at most so many steps apart count as being at one another.

    Returns:
        ``steps``, ``context_change`` (share of steps), ``events`` (name -> count, recall) and ``precision``
        (share of the context changes that fall on an event of any kind), ``any_event_rate``. With ``within``, also
        ``by_chance``: what a change at a step drawn at random would have as precision and as recall.
    """
    assert isinstance(model.dynamics, CRSSM), "a flat RSSM has no gates"
    hits: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    steps = opened = opened_on_event = event_steps = near_event = near_change = 0
    for episode, names in zip(play.episodes, play.events, strict=True):
        posterior, is_first = filtered(model, episode)
        changed = (model.dynamics.changes(posterior, is_first) > 0)[0].any(-1).cpu().numpy()[1:]
        eventful = np.array([bool(of) for of in names[1:]], bool)
        changes_near, events_near = widened(changed, within), widened(eventful, within)
        steps += len(changed)
        opened += int(changed.sum())
        opened_on_event += int((changed & events_near).sum())
        event_steps += int(eventful.sum())
        near_event += int(events_near.sum())
        near_change += int(changes_near.sum())
        for change, step_events in zip(changes_near, names[1:], strict=True):
            for name in set(step_events):
                hits[name][0] += int(change)
                hits[name][1] += 1
    result = {
        "steps": steps,
        "context_change": opened / max(steps, 1),
        "any_event_rate": event_steps / max(steps, 1),
        "precision": opened_on_event / max(opened, 1),
        "events": {
            name: {"count": count, "recall": hit / count} for name, (hit, count) in sorted(hits.items())
        },
    }
    if within:
        result["by_chance"] = {
            "precision": near_event / max(steps, 1),
            "recall": near_change / max(steps, 1),
        }
    return result


@torch.no_grad()
def filtered(model: WorldModel, episode: Mapping[str, np.ndarray]) -> tuple[State, Tensor]:
    """Posterior states ``[1, T, ...]`` of an episode by modes and without noise, and its ``is_first``.

    Args:
        model: any dynamics.
        episode: arrays ``[T, ...]`` named as in the replay.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    observation = {
        key.removeprefix("observation/"): torch.from_numpy(value)[None].to(device)
        for key, value in episode.items()
        if key.startswith("observation/")
    }
    is_first = torch.from_numpy(episode["is_first"].astype(np.float32))[None].to(device)
    trajectory = model.dynamics.observe(
        model.encoder(observation),
        torch.from_numpy(episode["action"])[None].to(device),
        is_first,
        sample=False,
    )
    model.train(training)
    return trajectory.posterior, is_first


def widened(flags: np.ndarray, within: int) -> np.ndarray:
    """Steps at most ``within`` from one that is flagged, ``[T]`` bool."""
    near = flags.copy()
    for shift in range(1, within + 1):
        near[shift:] |= flags[:-shift]
        near[:-shift] |= flags[shift:]
    return near
