"""Searches over action sequences of a trained model: ours, stable-worldmodel's, and a plain loop in eager torch."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.command import Player
from thick.agent import Agent
from thick.data.collect import stack_observations
from thick.envs import make
from thick.export import load_model
from thick.models.beliefs import State
from thick.models.networks import AgentNetworks
from thick.pytrees import expand
from thick.runtimes.native.agents import load_agent as load_native
from thick.runtimes.torch.agents import torch_agent

ENTRY = Path(__file__).resolve().parents[2] / "checkpoints" / "cartpole" / "1"
BUDGET = {"samples": 300, "iterations": 5, "elites": 30, "horizon": 14}
CHANGES = {
    **BUDGET,
    "method": "flat",
    "warm_start": False,
    "agreement": 0.0,
    "actor_proposals": 0,
    "critic": False,
}
ROLLOUTS = 64
Seen = dict[str, np.ndarray]


class Eager:
    """The trained modules as a stranger would use them: one-hots, one step after the other, nothing frozen.

    It is a ``Costable`` of stable-worldmodel.
    """

    def __init__(self, networks: AgentNetworks) -> None:
        self.world, self.discount = networks.world, networks.config.discount

    def get_cost(self, info: dict[str, Any], candidates: Tensor) -> Tensor:
        """Minus the discounted return of candidates ``[B, N, H, A]``; states are sampled."""
        batch, count, horizon, _ = candidates.shape
        state = State(*(info[name].flatten(0, 1) for name in State._fields))
        actions, total = candidates.flatten(0, 1).clamp(-1, 1), 0.0
        for step in range(horizon):
            state = self.world.dynamics.imagine_step(state, actions[:, step])
            reward = self.world.heads.reward(self.world.dynamics.features(state)).squeeze(-1)
            total = total + self.discount**step * reward
        return -total.unflatten(0, (batch, count))  # type: ignore[union-attr]

    criterion = get_cost


@torch.inference_mode()
def cross_entropy(costs: Eager, info: dict[str, Tensor], size: int, generator: torch.Generator) -> Tensor:
    """The cross-entropy method in its shortest form: the mean ``[H, A]`` after the last iteration."""
    samples, elites, horizon = BUDGET["samples"], BUDGET["elites"], BUDGET["horizon"]
    mean, std = torch.zeros(horizon, size), torch.ones(horizon, size)
    expanded = {name: x.unsqueeze(1).expand(-1, samples, *x.shape[1:]) for name, x in info.items()}
    for _ in range(BUDGET["iterations"]):
        tried = (mean + std * torch.randn(samples, horizon, size, generator=generator)).clamp(-1, 1)
        best = costs.get_cost(expanded, tried.unsqueeze(0))[0].topk(elites, largest=False).indices
        mean, std = tried[best].mean(0), tried[best].std(0)
    return mean


def players(options: argparse.Namespace) -> tuple[list[Player], Callable[[int, np.ndarray], float]]:
    """All planners, and the return of a plan ``[H, A]`` in a state."""
    manifest, networks = load_model(ENTRY)
    networks.eval().requires_grad_(False)
    agents: dict[str, Agent[Any]] = {
        "native": load_native(ENTRY),
        "torch": torch_agent(networks, manifest=manifest),
    }
    seen = _observations(options.states)
    made = [
        _ours(f"THICK {low}, {name}", agent, low, seen)
        for name, agent in agents.items()
        for low in ("cem", "icem")
    ]
    exact = agents["torch"].model.exact
    infos = [_info(networks, agents["torch"], each) for each in seen]
    costs, size = Eager(networks), int(np.prod(networks.action_space.shape))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    made.append(
        Player(
            "plain loop, eager torch",
            lambda state: cross_entropy(costs, infos[state], size, generator).numpy(),
        )
    )
    if importlib.util.find_spec("stable_worldmodel") is not None:
        made += _stable(costs, infos, networks.action_space)

    uniforms = torch.rand(
        BUDGET["horizon"], 1, ROLLOUTS, exact.draws, generator=torch.Generator().manual_seed(1)
    )
    beliefs = [_belief(agents["torch"], each) for each in seen]

    @torch.inference_mode()
    def score(state: int, plan: np.ndarray) -> float:
        belief, total = expand(beliefs[state], ROLLOUTS), 0.0
        for step, action in enumerate(torch.from_numpy(np.array(plan, np.float32)).clamp(-1, 1)):
            belief = exact.imagine(belief, action.expand(1, ROLLOUTS, -1).contiguous(), uniforms[step])
            total += networks.config.discount**step * float(exact.outcome(belief)[0].mean())
        return total

    return made, score


def _ours(name: str, agent: Agent[Any], low: str, seen: list[Seen]) -> Player:
    settings = agent.settings({**CHANGES, "low": low})
    convert = torch.from_numpy if "torch" in name else np.asarray
    states = [
        agent.observe(
            agent.initial(1),
            _entries(each, convert),
            is_first=convert(np.array([True])),
            keys=convert(np.array([0])),
        )
        for each in seen
    ]
    keys = convert(np.array([1]))

    def plan(state: int) -> np.ndarray:
        return np.array(agent.act(states[state], settings, keys=keys).info(0)["low"]["actions"])

    return Player(name, plan)


def _stable(costs: Eager, infos: list[dict[str, Tensor]], space: Any) -> list[Player]:
    from gymnasium.spaces import Box
    from stable_worldmodel.policy import PlanConfig
    from stable_worldmodel.solver import CEMSolver, ICEMSolver

    made = []
    batched = Box(space.low[None], space.high[None], (1, *space.shape), space.dtype)
    for name, kind in (("CEMSolver", CEMSolver), ("ICEMSolver", ICEMSolver)):
        solver = kind(
            costs, num_samples=BUDGET["samples"], n_steps=BUDGET["iterations"], topk=BUDGET["elites"]
        )
        solver.configure(
            action_space=batched, n_envs=1, config=PlanConfig(horizon=BUDGET["horizon"], receding_horizon=1)
        )

        def plan(state: int, solver: Any = solver) -> np.ndarray:
            return np.asarray(solver.solve(infos[state])["actions"][0])

        made.append(Player(f"stable-worldmodel {name}, eager torch", plan))
    return made


def _observations(count: int) -> list[Seen]:
    """What is seen after some random steps of the task: entries ``[1, ...]``."""
    env = make("dm_control:cartpole-swingup")
    found = []
    for seed in range(count):
        seen, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(5 * seed):
            seen, *_ = env.step(env.action_space.sample())
        found.append(stack_observations([seen], env.observation_space))
    env.close()
    return found


def _entries(seen: Seen, convert: Any) -> Any:
    return {name.removeprefix("observation/"): convert(array) for name, array in seen.items()}


def _belief(agent: Agent[Any], seen: Seen) -> Any:
    first, keys = torch.tensor([True]), torch.tensor([0])
    return agent.observe(agent.initial(1), _entries(seen, torch.from_numpy), is_first=first, keys=keys).belief


def _info(networks: AgentNetworks, agent: Agent[Any], seen: Seen) -> dict[str, Tensor]:
    belief = _belief(agent, seen)
    hot = torch.nn.functional.one_hot(belief.stoch, networks.config.classes).float()
    state = State(hot, belief.logits, belief.deter, belief.context, belief.gates)
    return {name: x.clone() for name, x in state._asdict().items()}
