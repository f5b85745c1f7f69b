"""Collecting experience: environments, a policy, and the steps that they make for a ring."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np

from thick.data.episodes import Episode, actions_from_json
from thick.data.replay import Field
from thick.envs import make
from thick.envs.actions import ActionCodec
from thick.envs.errors import UnusableEnvironmentError
from thick.envs.kinds import shape_of
from thick.nearest import did_you_mean

TRAINING_SEEDS = 1_000_000_000
"""Training environments are reset with seeds from here upwards, so that every smaller seed is unseen."""


class Policy(Protocol):
    """Chooses one action for every environment."""

    def __call__(
        self, envs: Sequence[gymnasium.Env], observations: Sequence[Any], is_first: np.ndarray
    ) -> list[Any]:
        """Actions in the environments' own form; ``is_first[i]`` marks a new episode."""


class RandomPolicy:
    """Uniform actions."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(
        self, envs: Sequence[gymnasium.Env], observations: Sequence[Any], is_first: np.ndarray
    ) -> list[Any]:
        return [sample_action(env.action_space, self._rng) for env in envs]


class ScriptedPolicy:
    """The scripted, noisy policy of key-and-door rooms (:mod:`thick.envs.scripted`), one for each environment."""

    def __init__(self, seed: int, **options: Any) -> None:
        from thick.envs.scripted import NoisyExpert

        self._seed, self._make = seed, lambda: NoisyExpert(**options)
        self._policies: dict[int, Any] = {}
        self._resets: Counter[int] = Counter()

    def __call__(
        self, envs: Sequence[gymnasium.Env], observations: Sequence[Any], is_first: np.ndarray
    ) -> list[Any]:
        actions = []
        for index, env in enumerate(envs):
            if is_first[index]:
                policy = self._policies.setdefault(index, self._make())
                policy.reset(env, np.random.default_rng([self._seed, index, self._resets[index]]))
                self._resets[index] += 1
            actions.append(self._policies[index](env))
        return actions


POLICIES: dict[str, Callable[..., Policy]] = {"random": RandomPolicy, "scripted": ScriptedPolicy}
"""Policies that need no model, by name."""


def check_policy(
    name: str, env: gymnasium.Env, env_id: str, options: Mapping[str, Any] | None = None
) -> None:
    """Raises ValueError where a policy by that name cannot play in the environment, or has no such options."""
    if name != "scripted":
        if options:
            raise ValueError(f"policy: {name} takes no options, got {', '.join(options)}")
        return
    if not hasattr(env.unwrapped, "grid"):
        raise ValueError(
            f"policy: scripted plays key-and-door rooms of MiniGrid, and {env_id} is none: take random"
        )
    from thick.envs.scripted import NoisyExpert

    known = [item.name for item in dataclasses.fields(NoisyExpert)]
    for option in options or {}:
        if option not in known:
            raise ValueError(
                f"policy: scripted has no option {option!r}{did_you_mean(option, known)} (it takes {', '.join(known)})"
            )
    try:
        NoisyExpert(**(options or {}))
    except (TypeError, AttributeError) as error:  # a word where it wants a number
        raise ValueError(
            f"policy: scripted cannot have the options {dict(options or {})}: {error}"
        ) from error


class Collector:
    """Steps ``streams`` environments of one kind; what happens goes into a ring.

    Args:
        env_id: the task, or several of the same spaces, which streams take in turn.
        streams: number of environments.
        seed: episode e of stream i is reset with a seed made of this, i and e (:func:`training_seed`).
        options: for :func:`thick.envs.make`.

    Raises:
        ValueError: tasks of different spaces.
    """

    def __init__(
        self,
        env_id: str | Sequence[str],
        *,
        streams: int,
        seed: int,
        options: dict[str, Any] | None = None,
    ) -> None:
        tasks = [env_id] if isinstance(env_id, str) else list(env_id)
        self.tasks = [tasks[stream % len(tasks)] for stream in range(streams)]
        """of each stream"""
        self.envs = [make(task, **(options or {})) for task in self.tasks]
        for task, env in zip(self.tasks, self.envs, strict=True):
            if (env.observation_space, env.action_space) != (
                self.envs[0].observation_space,
                self.envs[0].action_space,
            ):
                raise ValueError(
                    f"{self.tasks[0]} and {task} have different observations or actions: what is collected together "
                    "must have the same (of minigrid: take a view that is not of the whole grid, such as +partial)"
                )
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space
        self._seed = seed
        self.episodes = np.zeros(streams, np.int64)
        """resets of each stream"""
        self.finished: list[dict[str, Any]] = []
        """return, length, success and events of every episode that ended since this was last emptied"""
        self.restart()

    def restart(self) -> None:
        """Leave the running episodes: the next step of every stream starts a new one."""
        self._observations: list[Any] = [None] * len(self.envs)
        self._over = np.ones(len(self.envs), bool)
        self._fresh = np.zeros(len(self.envs), bool)
        self._running = [Episode() for _ in self.envs]

    def ring_fields(self) -> dict[str, Field]:
        """Fields of the ring that fits these environments."""
        return ring_fields(self.observation_space, self.action_space)

    def step(self, policy: Policy) -> dict[str, np.ndarray]:
        """One step of every environment: arrays ``[streams, ...]`` for :meth:`ReplayRing.add`.

        An environment whose episode is over is reset instead: its step holds the first observation, a zero action
        and no reward.

        Raises:
            NotFiniteError: an environment answered with NaN or infinity.
            UnusableEnvironmentError: its answer is not as its spaces say.
        """
        actions: list[Any] = [None] * len(self.envs)
        if not self._over.all():
            # Policies keep a state for each environment: they are always asked for all of them, in order.
            actions = policy(self.envs, self._observations, self._fresh)
            actions = [None if over else action for over, action in zip(self._over, actions, strict=True)]
        reward = np.zeros(len(self.envs), np.float32)
        terminal = np.zeros(len(self.envs), bool)
        first = self._over.copy()
        answers: list[tuple[float, dict[str, Any]]] = []
        for index in range(len(self.envs)):
            value: Any = 0.0
            if first[index]:
                self._running[index] = Episode(
                    seed=training_seed(self._seed, index, int(self.episodes[index]))
                )
                self._observations[index], info = self._reset(index)
                self.episodes[index] += 1
                self._over[index] = False
            else:
                observation, value, terminated, truncated, info = self._step(index, actions[index])
                self._observations[index], reward[index], terminal[index] = observation, value, terminated
                self._over[index] = terminated or truncated
                self._running[index].actions.append(actions[index])
            answers.append((float(value), info))
        observed = stack_observations(self._observations, self.observation_space)
        for index, (value, info) in enumerate(answers):
            self._answered(
                index, {name: array[index : index + 1] for name, array in observed.items()}, value, info
            )
        self._fresh = first
        return {
            **observed,
            "action": encode_actions(actions, self.action_space),
            "reward": reward,
            "is_first": first,
            "is_terminal": terminal,
        }

    def state(self) -> dict[str, Any]:
        """Where every stream is, as JSON: what :meth:`restore` goes on from."""
        return {
            "episodes": self.episodes.tolist(),
            "fresh": self._fresh.tolist(),
            "finished": list(self.finished),
            "steps": sum(episode.length for episode in self._running),
            "running": [
                None if over else episode.to_json(self.action_space)
                for over, episode in zip(self._over, self._running, strict=True)
            ],
        }

    def restore(
        self, state: dict[str, Any], progress: Callable[[int], None] = lambda done: None
    ) -> list[str]:
        """Go on where another collector was: running episodes are played again from their seeds.

        An episode that does not come out as it was (the environment is not deterministic, or another version of it
        is installed) is left, and its stream begins a new one.

        Args:
            state: of :meth:`state`.
            progress: called with the number of steps played.

        Returns:
            A sentence for each episode that was left.
        """
        self.restart()
        self.episodes = np.asarray(state["episodes"], np.int64)
        self.finished = list(state["finished"])
        left: list[str] = []
        played = 0
        for index, saved in enumerate(state["running"]):
            if saved is None:
                continue
            actions = actions_from_json(saved["actions"], self.action_space)
            self._replay(index, saved["seed"], actions, lambda step, before=played: progress(before + step))  # type: ignore[misc]
            played += len(actions)
            if self._over[index] or self._running[index].digest.hex() != saved["digest"]:
                self._over[index] = True
                left.append(
                    f"stream {index}: playing the {len(actions)} steps of its running episode again (seed "
                    f"{saved['seed']}) led elsewhere: the environment does not repeat itself, and a new episode begins"
                )
        self._fresh = np.asarray(state["fresh"], bool)
        return left

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def _replay(self, index: int, seed: int, actions: Sequence[Any], progress: Callable[[int], None]) -> None:
        """Reset stream ``index`` and play actions, until the episode ends where it had not."""
        episode = self._running[index] = Episode(seed=seed)
        self._over[index] = False
        finished = list(self.finished)
        self._observations[index], info = self._reset(index)
        self._answered(index, self._arrays(index), 0.0, info)
        for step, action in enumerate(actions, 1):
            if self._over[index]:
                break
            self._observations[index], reward, terminated, truncated, info = self._step(index, action)
            self._over[index] = terminated or truncated
            episode.actions.append(action)
            self._answered(index, self._arrays(index), float(reward), info)
            progress(step)
        self.finished = finished  # an episode that ended too early is none of the run's

    def _reset(self, index: int) -> tuple[Any, dict[str, Any]]:
        with self._named(index, "the reset"):
            observation, info = self.envs[index].reset(seed=self._running[index].seed)
        return observation, info

    def _step(self, index: int, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._named(index, f"step {self._running[index].length + 1}"):
            return self.envs[index].step(action)

    @contextlib.contextmanager
    def _named(self, index: int, doing: str) -> Iterator[None]:
        """What an environment raises says in which stream and episode it did."""
        where = f"stream {index}, {doing} of the episode with seed {self._running[index].seed}"
        try:
            yield
        except UnusableEnvironmentError as error:
            raise UnusableEnvironmentError(f"{error} ({where})") from error
        except Exception as error:
            error.add_note(f"{self.tasks[index]}: {where}")
            raise

    def _arrays(self, index: int) -> dict[str, np.ndarray]:
        return stack_observations([self._observations[index]], self.observation_space)

    def _answered(
        self, index: int, observation: dict[str, np.ndarray], reward: float, info: dict[str, Any]
    ) -> None:
        episode, over = self._running[index], bool(self._over[index])
        where = f"{self.tasks[index]}, stream {index}, step {episode.length} of the episode with seed {episode.seed}"
        episode.answered(observation, reward=reward, over=over, info=info, where=where)
        if over:
            self.finished.append(episode.summary())


def training_seed(seed: int, stream: int, episode: int) -> int:
    """What a collector with ``seed`` resets the environment of a stream with, for its episode of that number."""
    return TRAINING_SEEDS + ((seed * 1009 + stream) * 100_003 + episode) % (2**31 - TRAINING_SEEDS)


def summarize(episodes: Sequence[dict[str, Any]], *, steps: int) -> dict[str, Any]:
    """Means over finished episodes and events per 1000 steps."""
    events: Counter[str] = Counter()
    for episode in episodes:
        events.update(episode["events"])
    successes = [episode["success"] for episode in episodes if episode["success"] is not None]
    return {
        "episodes": len(episodes),
        "steps": steps,
        "mean_return": float(np.mean([episode["return"] for episode in episodes])) if episodes else None,
        "mean_length": float(np.mean([episode["length"] for episode in episodes])) if episodes else None,
        "success_rate": float(np.mean(successes)) if successes else None,
        "events_per_1000_steps": {
            name: round(1000 * count / max(steps, 1), 2) for name, count in sorted(events.items())
        },
    }


def ring_fields(observation_space: gymnasium.Space, action_space: gymnasium.Space) -> dict[str, Field]:
    """Fields of a ring for these spaces; frames stay in the space's own dtype."""
    fields = {
        f"observation/{key}": Field(shape_of(space), np.dtype(space.dtype).str)
        for key, space in _entries(observation_space).items()
    }
    return fields | {
        "action": Field((ActionCodec(action_space).size,), "<f4"),
        "reward": Field((), "<f4"),
        "is_first": Field((), "|b1"),
        "is_terminal": Field((), "|b1"),
    }


def stack_observations(observations: Sequence[Any], space: gymnasium.Space) -> dict[str, np.ndarray]:
    """Observations of several environments as arrays ``[streams, ...]`` named like the ring's fields."""
    return {
        f"observation/{key}": np.stack([o[key] if isinstance(o, dict) else o for o in observations])
        for key in _entries(space)
    }


def encode_actions(actions: Sequence[Any], space: gymnasium.Space) -> np.ndarray:
    """Actions as the model sees them, ``[streams, A]`` (:mod:`thick.envs.actions`); None becomes zeros."""
    return ActionCodec(space).encode(actions)


def sample_action(space: gymnasium.Space, rng: np.random.Generator) -> Any:
    """A uniform action from an explicit generator."""
    return ActionCodec(space).sample(rng)


def _entries(space: gymnasium.Space) -> dict[str, Any]:
    return dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {"observation": space}
