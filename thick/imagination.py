"""Imagining from a belief, step by step: what an agent thinks will happen, decoded for people to look at."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thick import pytrees
from thick.planning.hierarchical import PlanSearch, initial_plan
from thick.planning.jumps import JumpModel, edge_reward, fades
from thick.planning.low import act
from thick.planning.mcts import MCTS
from thick.planning.randomness import Randomness
from thick.planning.settings import PlannerSettings
from thick.planning.tree import Tree

if TYPE_CHECKING:
    from thick.agent import Agent, AgentState

LEVELS = ("high", "low")
POLICIES = ("plan", "prior", "actor", "all")
_API_NAMES = {"segment_return": "return"}


class HighStep(NamedTuple):
    """One jump of R roll-outs, up to just after the next context change."""

    high_action: np.ndarray
    """[R] int64"""
    probability: np.ndarray
    """[R] of the action under the prior p(A | s)"""
    duration: np.ndarray
    """[R] predicted steps of the jump"""
    time: np.ndarray
    """[R] steps since the start of the roll-out"""
    reward: np.ndarray
    """[R] received with the change"""
    segment_return: np.ndarray
    """[R] discounted return of the jump, with that reward; the API calls it ``return``"""
    value: np.ndarray
    """[R] expected return after the change"""
    continuation: np.ndarray
    """[R] probability that the episode goes on"""
    subgoal: Any
    """[R, ...] decoded just before the change"""
    observation: Any
    """[R, ...] decoded just after"""
    rollout_probability: np.ndarray
    """[R] product of the probabilities so far"""
    rollout_return: np.ndarray
    """[R] discounted return so far"""

    def fields(self) -> dict[str, Any]:
        """The step by the names of the API."""
        return {_API_NAMES.get(name, name): value for name, value in self._asdict().items()}


class LowStep(NamedTuple):
    """One step of R roll-outs."""

    action: np.ndarray
    """[R] int64, or [R, A] float32"""
    reward: np.ndarray
    """[R]"""
    value: np.ndarray
    """[R] expected return from here on by the critic; NaN without one"""
    continuation: np.ndarray
    """[R] probability that the episode goes on"""
    gates_open: np.ndarray
    """[R] int64, how many gates opened"""
    context_changed: np.ndarray
    """[R] bool"""
    observation: Any
    """[R, ...] decoded"""
    rollout_probability: np.ndarray
    """[R] product of the probabilities of the actions so far"""
    rollout_return: np.ndarray
    """[R] discounted return so far"""

    def fields(self) -> dict[str, Any]:
        """The step by the names of the API."""
        return self._asdict()


ImaginedStep = HighStep | LowStep


def imagine(
    agent: Agent,
    state: AgentState,
    *,
    level: str,
    horizon: int,
    rollouts: int,
    policy: str,
    actions: Sequence[Any] | None,
    keys: Tensor,
    settings: PlannerSettings,
) -> Iterator[ImaginedStep | None]:
    """Imagine R roll-outs from one state; nothing of the state changes.

    Args:
        state: ``B = 1``.
        level: high (jumps from context change to context change) or low (single steps).
        horizon: steps of that level.
        rollouts: R; ``policy="all"`` makes one for each action instead.
        policy: where actions come from. ``plan``: the planner, asked at each jump (high) or as often as its plan ends
            (low). ``prior``: p(A | s) (high) or uniform (low). ``actor``: the actor (low). ``all``: each action once,
            then the most probable (high) or the same again (low).
        actions: to take instead: one list for all roll-outs, or a list of R lists; the horizon is their length.
        keys: ``[1]`` int64.
        settings: of the planner.

    Yields:
        Steps, and None now and then within the planner's searches, for who has other things to do meanwhile.

    The first roll-out takes the modes of imagined states, the others sample them (with ``all`` and given actions that
    differ, every roll-out takes modes).

    Raises:
        ValueError: an argument is wrong or the checkpoint cannot do it. Raised at once, not at the first step.
    """
    if level not in LEVELS:
        raise ValueError(f"level: expected high or low, got {level!r}")
    if policy not in POLICIES:
        raise ValueError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}")
    if state.previous_action.shape[0] != 1:
        raise ValueError(f"state: expected one session, got {state.previous_action.shape[0]}")
    if horizon < 1 or rollouts < 1:
        raise ValueError(f"horizon, rollouts: expected at least 1, got {horizon} and {rollouts}")
    if level == "high" and agent.model.high is None:
        raise ValueError("level: this checkpoint has no high level; expected low")
    if policy == "actor" and level == "high":
        raise ValueError(
            "policy: the actor chooses low-level actions; at the high level expected plan, prior or all"
        )
    if policy == "actor" and not agent.has("policy"):
        raise ValueError("policy: this checkpoint has no actor; expected plan, prior or all")
    if policy == "all" and level == "low" and not agent.discrete and actions is None:
        raise ValueError("policy: continuous actions cannot all be tried; expected plan, prior or actor")
    randomness = Randomness(keys).fold("imagine")
    if level == "high":
        return _high(agent, state, horizon, rollouts, policy, actions, randomness, settings)
    return _low(agent, state, horizon, rollouts, policy, actions, randomness, settings)


# -- high level ----------------------------------------------------------------------------------------------------


def _high(
    agent: Agent,
    state: AgentState,
    horizon: int,
    rollouts: int,
    policy: str,
    actions: Sequence[Any] | None,
    randomness: Randomness,
    settings: PlannerSettings,
) -> Iterator[HighStep | None]:
    high = agent.model.high
    assert high is not None
    given = None
    if actions is not None:
        given = _given_high(actions, high.actions, agent.device)
        rollouts = max(rollouts, given.shape[0]) if given.shape[0] == 1 else given.shape[0]
        horizon = given.shape[1]
        given = given.expand(rollouts, -1)
    elif policy == "all":
        rollouts = high.actions
    return _jumps(agent, state, horizon, rollouts, policy, given, randomness, settings)


def _jumps(
    agent: Agent,
    state: AgentState,
    horizon: int,
    rollouts: int,
    policy: str,
    given: Tensor | None,
    randomness: Randomness,
    settings: PlannerSettings,
) -> Iterator[HighStep | None]:
    high = agent.model.high
    assert high is not None
    device = agent.device
    distinct = policy == "all" or (given is not None and given.unique(dim=0).shape[0] > 1)
    with torch.no_grad():
        stoch, context = (x.expand(rollouts, -1) for x in (state.belief.stoch, state.belief.context))
        reward, _ = high.outcome(stoch, context)
        alive = torch.ones(rollouts, device=device)
        total, time, weight, likely = alive * 0, alive * 0, alive.clone(), alive.clone()
    for index in range(horizon):
        with torch.no_grad():
            noise = randomness.fold(index)
            prior = high.prior(stoch, context)
            if given is not None:
                action = given[:, index]
            elif policy == "all":
                action = torch.arange(rollouts, device=device) if index == 0 else prior.argmax(-1)
            elif policy == "prior":
                drawn = (prior + noise.fold("prior").gumbel(rollouts, high.actions)[0]).argmax(-1)
                action = torch.where(_first(rollouts, device), prior.argmax(-1), drawn)
            else:
                action = yield from _search(high, stoch, context, settings)
            probability = prior.softmax(-1).gather(1, action.unsqueeze(1)).squeeze(1)
            landing = high.jump(stoch, context, action)
            if rollouts > 1 and not distinct:
                uniforms = noise.fold("states").uniform(rollouts, 2 * high.stoch)[0]
                sampled = high.jump(stoch, context, action, uniforms)
                landing = pytrees.where(_first(rollouts, device), landing, sampled)
            earned = edge_reward(landing, reward, high.gamma)
            jumps = JumpModel(high, landing.stoch, landing.context, critic=settings.critic)
            value = jumps.evaluate(jumps.root()).value
            subgoal = agent.model.decode_coarse(landing.stoch_before, context)
            observation = agent.model.decode_coarse(landing.stoch, landing.context)
            total = total + weight * earned
            time, likely = time + landing.elapsed, likely * probability
            weight = weight * fades(high.gamma, landing.elapsed) * landing.continuation
            stoch, context, reward = landing.stoch, landing.context, landing.reward
        yield HighStep(
            _array(action),
            _array(probability),
            _array(landing.elapsed),
            _array(time),
            _array(landing.reward),
            _array(earned),
            _array(value),
            _array(landing.continuation),
            _arrays(subgoal),
            _arrays(observation),
            _array(likely),
            _array(total),
        )


def _search(
    high: Any, stoch: Tensor, context: Tensor, settings: PlannerSettings
) -> Generator[None, None, Tensor]:
    """The high-level action that the planner would choose in each state, ``[R]``."""
    model = JumpModel(high, stoch, context, critic=settings.critic)
    search: MCTS | Tree
    if settings.high == "tree":
        search = Tree(
            model, simulations=settings.simulations, depth=settings.depth, floor=settings.prior_floor
        )
    else:
        search = MCTS(model, simulations=settings.simulations, depth=settings.depth)
    while not search.done:
        search.step()
        yield
    return search.best(torch.zeros(stoch.shape[0], dtype=torch.int64, device=stoch.device))


def _given_high(actions: Sequence[Any], count: int, device: torch.device) -> Tensor:
    array = _rectangle(actions)
    if array.ndim == 1:
        array = array[None]
    whole = array.ndim == 2 and array.size > 0 and array.dtype.kind in "iu"
    if not whole or array.min() < 0 or array.max() >= count:
        raise ValueError(f"actions: expected high-level actions from 0 to {count - 1}, got {actions!r}")
    return torch.as_tensor(array, dtype=torch.int64, device=device)


# -- low level -----------------------------------------------------------------------------------------------------


def _low(
    agent: Agent,
    state: AgentState,
    horizon: int,
    rollouts: int,
    policy: str,
    actions: Sequence[Any] | None,
    randomness: Randomness,
    settings: PlannerSettings,
) -> Iterator[LowStep | None]:
    given = None
    if actions is not None:
        given = _given_low(agent, actions)
        rollouts = rollouts if given.shape[0] == 1 else given.shape[0]
        horizon = given.shape[1]
        given = given.expand(rollouts, -1, -1)
    elif policy == "all":
        rollouts = agent.actions.size
        given = torch.eye(rollouts, device=agent.device).unsqueeze(1).expand(-1, horizon, -1)
    return _steps(agent, state, horizon, rollouts, policy, given, randomness, settings)


def _steps(
    agent: Agent,
    state: AgentState,
    horizon: int,
    rollouts: int,
    policy: str,
    given: Tensor | None,
    randomness: Randomness,
    settings: PlannerSettings,
) -> Iterator[LowStep | None]:
    model, device = agent.model, agent.device
    low = model.exact
    distinct = given is not None and bool((given != given[:1]).any())
    belief = pytrees.map_arrays(lambda x: x.expand(rollouts, *x.shape[1:]), state.belief)
    alive = torch.ones(rollouts, device=device)
    total, weight, likely = alive * 0, alive.clone(), alive.clone()
    planned: Tensor | None = None
    for index in range(horizon):
        with torch.no_grad():
            noise = randomness.fold(index)
            probability = torch.ones(rollouts, device=device)
            if given is not None:
                action = given[:, index]
            elif policy == "prior":
                action, probability = _uniform(agent, rollouts, noise)
            elif policy == "actor":
                action, probability = _actor(agent, belief, rollouts, noise)
            else:
                if planned is None or planned.shape[1] == 0:
                    planned = yield from _plan(agent, belief, state if index == 0 else None, settings, noise)
                    planned = planned[:, : horizon - index].expand(rollouts, -1, -1)
                action, planned = planned[:, 0], planned[:, 1:]
            uniforms = None
            if rollouts > 1 and not distinct:
                uniforms = noise.fold("states").uniform(rollouts, low.draws)[0]
            following = low.imagine(belief, action, uniforms)
            if uniforms is not None:
                following = pytrees.where(_first(rollouts, device), low.imagine(belief, action), following)
            belief = following
            reward, continuation = low.outcome(belief)
            continuation = torch.ones_like(reward) if continuation is None else continuation
            value = low.value(belief) if low.has_actor else torch.full_like(reward, torch.nan)
            gates = (belief.gates > 0).sum(-1)
            total = total + weight * reward
            likely = likely * probability
            weight = weight * low.gamma * continuation
            observation = model.decode(belief)
        yield LowStep(
            np.asarray(agent.decode_action(action)),
            _array(reward),
            _array(value),
            _array(continuation),
            _array(gates),
            _array(gates > 0),
            _arrays(observation),
            _array(likely),
            _array(total),
        )


def _plan(
    agent: Agent, belief: Any, state: AgentState | None, settings: PlannerSettings, noise: Randomness
) -> Generator[None, None, Tensor]:
    """The planner's sequence from each belief ``[R, H, A]`` (``[1, H, A]`` at the start, where all are the same)."""
    if state is not None:
        belief, plan = state.belief, state.plan
    else:
        rows = pytrees.first(belief).shape[0]
        plan = initial_plan(agent.model, agent.actions, settings.horizon, rows)
    keys = noise.fold("plan").keys
    rows = plan.since.shape[0]
    keys = keys + torch.arange(rows, device=keys.device)
    search = PlanSearch(agent.model, agent.actions, settings, belief, plan, randomness=Randomness(keys))
    while not search.done:
        search.step()
        yield
    return search.result().sequence


def _uniform(agent: Agent, rollouts: int, noise: Randomness) -> tuple[Tensor, Tensor]:
    size, bounds = agent.actions
    if bounds is None:
        index = (noise.fold("actions").uniform(rollouts)[0] * size).long()
        return F.one_hot(index, size).float(), torch.full((rollouts,), 1.0 / size, device=agent.device)
    uniform = noise.fold("actions").uniform(rollouts, size)[0]
    action = bounds.middle + bounds.half * (2 * uniform - 1)
    return action, torch.ones(rollouts, device=agent.device)


def _actor(agent: Agent, belief: Any, rollouts: int, noise: Randomness) -> tuple[Tensor, Tensor]:
    low = agent.model.exact
    batch = pytrees.map_arrays(lambda x: x.unsqueeze(0), belief)  # [1, R, ...]
    action = act(low, batch, agent.actions, noise.fold("actions"), temperature=1.0)[0]
    mode = act(low, batch, agent.actions, None)[0]
    action = torch.where(_first(rollouts, agent.device).unsqueeze(1), mode, action)
    logits, std = low.policy(belief)
    if std is not None:
        return action, torch.ones(rollouts, device=agent.device)
    return action, (logits.softmax(-1) * action).sum(-1)


def _given_low(agent: Agent, actions: Sequence[Any]) -> Tensor:
    """``[R, horizon, A]`` (R = 1: one list for all)."""
    array = _rectangle(actions)
    depth = 1 + len(agent.action_space.shape or ())
    if array.ndim == depth:
        array = array[None]
    if array.ndim != depth + 1 or array.size == 0:
        raise ValueError(f"actions: expected a list of actions, or one for each roll-out, got {actions!r}")
    rows = [agent.encode_action(row.tolist()) for row in array]
    return torch.stack(rows)


def _rectangle(actions: Sequence[Any]) -> np.ndarray:
    try:
        return np.asarray(actions)
    except ValueError as error:
        raise ValueError(f"actions: expected lists of the same length, got {actions!r}") from error


def _first(rollouts: int, device: torch.device) -> Tensor:
    return torch.arange(rollouts, device=device) == 0


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


def _arrays(observation: Tensor | dict[str, Tensor]) -> Any:
    if isinstance(observation, dict):
        return {key: _array(value) for key, value in observation.items()}
    return _array(observation)
