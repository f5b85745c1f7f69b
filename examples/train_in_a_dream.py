"""Trains a policy of Stable-Baselines3 inside a served model, and evaluates it in the real environment.

    pip install -e '.[examples]'
    python examples/train_in_a_dream.py                                  # the bundled cartpole, six minutes
    python examples/train_in_a_dream.py --url http://gpu:8000 --model mine --steps 1000000

Not one step of training happens in the real environment. What is printed is what came of it, whatever that is: a policy
finds the model's mistakes as readily as its truths.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from clients import DreamVectorEnv, PlanningClient
from clients.demo import service
from thick.envs import make


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Train and evaluate; returns the mean returns that are printed."""
    options = arguments(argv)
    with client_of(options) as client:
        model = client.model(options.model)
        assert model.task is not None, "the manifest names no task"
        envs = DreamVectorEnv(
            client,
            model.name,
            num_envs=options.envs,
            max_steps=options.max_steps,
            seed=options.seed,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        policy = trained(envs, options)
        real_options = dict(model.env_options)
        found = {
            "policy, real": returns(policy, model.task, real_options, options),
            "random, real": returns(None, model.task, real_options, options),
            "policy, dream": dreamt(policy, envs, options.max_steps),
        }
        envs.close()
    print(f"\n{model.task}, mean return of an episode ({options.episodes} real, {options.envs} dreamt):")
    for name, values in found.items():
        print(f"  {name:14} {np.mean(values):8.1f}   (from {min(values):.1f} to {max(values):.1f})")
    return {name: float(np.mean(values)) for name, values in found.items()}


def trained(envs: DreamVectorEnv, options: argparse.Namespace) -> PPO:
    """PPO after ``options.steps`` imagined steps."""
    policy = PPO(
        "MultiInputPolicy" if hasattr(envs.single_observation_space, "spaces") else "MlpPolicy",
        VecMonitor(StableBaselinesEnv(envs)),
        n_steps=options.max_steps,
        batch_size=options.envs * options.max_steps // 4,
        learning_rate=1e-3,
        gamma=0.98,
        ent_coef=0.0,
        use_sde=bool(getattr(envs.single_action_space, "shape", None)),
        seed=options.seed,
        device="cpu",
        verbose=0,
    )
    policy.learn(options.steps, progress_bar=options.progress)
    return policy


def returns(
    policy: PPO | None, task: str, env_options: dict[str, Any], options: argparse.Namespace
) -> list[float]:
    """Returns of real episodes; without a policy, of random play."""
    env = make(task, **env_options)
    found = []
    for episode in range(options.episodes):
        observation, _ = env.reset(seed=options.seed + episode)
        env.action_space.seed(options.seed + episode)
        total, over = 0.0, False
        while not over:
            action = (
                env.action_space.sample()
                if policy is None
                else policy.predict(observation, deterministic=True)[0]
            )
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    env.close()
    return found


def dreamt(policy: PPO, envs: DreamVectorEnv, steps: int) -> list[float]:
    """Returns of dreamt episodes, one in each environment."""
    observation, _ = envs.reset(seed=1)
    total, going = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = envs.step(
            policy.predict(observation, deterministic=True)[0]
        )
        total += reward * going
        going &= ~(terminated | truncated)
    return [float(value) for value in total]


class StableBaselinesEnv(VecEnv):
    """A gymnasium vector environment (autoreset: same step) as Stable-Baselines3 has it."""

    def __init__(self, envs: DreamVectorEnv) -> None:
        self._envs, self._actions = envs, None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Any:
        return self._envs.reset()[0]

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        observation, reward, terminated, truncated, about = self._envs.step(self._actions)
        over = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(over):
            last = about["final_obs"][index]
            infos[index] = {"terminal_observation": last, "TimeLimit.truncated": bool(truncated[index])}
        return observation, reward.astype(np.float32), over, infos

    def close(self) -> None:
        """The dream is the caller's."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self._envs, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the environments are at the server")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the environments are at the server")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


@contextlib.contextmanager
def client_of(options: argparse.Namespace) -> Iterator[PlanningClient]:
    """A client of the service that was named, or of one that is started for the time being."""
    if options.url:
        with PlanningClient(options.url) as client:
            yield client
        return
    with tempfile.TemporaryDirectory() as folder, service(options.models, Path(folder) / "log") as client:
        yield client


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="of a running service; without one, a service of --models is started")
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1] / "checkpoints")
    parser.add_argument("--model", default="cartpole")
    parser.add_argument("--steps", type=int, default=1_500_000, help="imagined steps of training")
    parser.add_argument("--envs", type=int, default=64, help="imagined environments")
    parser.add_argument("--max-steps", type=int, default=125, help="steps of an imagined episode")
    parser.add_argument("--episodes", type=int, default=10, help="real episodes of the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-progress", dest="progress", action="store_false")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
