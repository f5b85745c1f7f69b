"""A served model as a gymnasium environment: what a policy can be trained in, without the real one.

    from clients import DreamEnv

    env = DreamEnv("http://localhost:8000", "cartpole", max_steps=200)
    observation, info = env.reset(seed=1)

Steps happen at the server, exactly once each. Rewards are the model's, as right as it is.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import weakref
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from clients.base import SyncClient
from clients.dream import Dream
from clients.dream_results import DreamtStep
from clients.errors import ConnectionLostError, NotConnectedError
from clients.http_client import PlanningClient
from thick.envs.pictures import picture
from thick.envs.spaces import space_from_json
from thick.spaces import space_to_json

RENDER_MODES = ("rgb_array",)
STARTS = ("observation", "session_id", "dream_id")


class DreamEnv(gymnasium.Env[Any, Any]):
    """One imagined environment.

    ``info`` holds ``continuation``, the probability with which the episode goes on, and ``value``, the critic's, where
    the model has one.

    Args:
        client: of the service, or its URL (HTTP; ``grpc://`` needs a client of its own).
        model, version: what dreams.
        start: what every episode begins with: ``observation``, ``session_id`` or ``dream_id`` (one of them), as
            ``client.dream`` takes it; None for starts that the model draws itself.
        sample: draw what comes; otherwise the most likely comes.
        max_steps: an episode is truncated after so many; a model that never ends one needs it.
        seed: of the first reset, where that gives none.
        render_mode: ``rgb_array``, or None.

    Raises:
        ServiceError: the service refused; ClientError: it could not be reached.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        client: SyncClient | str = "http://127.0.0.1:8000",
        model: str | None = None,
        *,
        version: str | None = None,
        start: Mapping[str, Any] | None = None,
        sample: bool = True,
        max_steps: int | None = None,
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._max_steps, self._steps = _positive(max_steps), 0
        self.render_mode = _known(render_mode)
        self._dreaming = _Dreaming(
            client, model, count=1, version=version, start=start, sample=sample, seed=seed
        )
        self.observation_space, self.action_space = self._dreaming.spaces
        self._shown: Any = None

    @property
    def dream(self) -> Dream:
        """The dream at the server."""
        return self._dreaming.dream

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._shown = _row(self._dreaming.reset(seed=seed), 0)
        return self._shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        made = self._dreaming.step([action])
        self._steps += 1
        self._shown = _row(made.observation, 0)
        ended = bool(made.terminated[0])
        cut = not ended and self._max_steps is not None and self._steps >= self._max_steps
        about = {name: float(values[0]) for name, values in _about(made).items()}
        return self._shown, float(made.reward[0]), ended, cut, about

    def render(self) -> Any:
        """The present observation as a picture ``[height, width, 3]`` uint8; None without a render mode."""
        if self.render_mode is None or self._shown is None:
            return None
        return picture(self._shown, self.observation_space)

    def close(self) -> None:
        """Deletes the dream, and closes a client that was made here."""
        self._dreaming.close()


class DreamVectorEnv(VectorEnv[Any, Any, Any]):
    """Many imagined environments, a step of all of them in one request.

    ``infos`` hold ``continuation`` and ``value`` as arrays, as :class:`DreamEnv` does, and as in gymnasium's own vector
    environments ``_continuation`` and ``_value`` say whose they are: one that began anew in this step has neither (0).

    Args:
        num_envs: how many.
        autoreset_mode: when an environment that ended begins anew: ``NEXT_STEP`` (in place of its next action),
            ``SAME_STEP`` (at once; ``infos["final_obs"]``, an object array with None for those that go on, and
            ``infos["final_info"]`` hold what it ended with) or
            ``DISABLED`` (``reset`` with ``options={"reset_mask": ...}`` does it).
        client, model, version, start, sample, max_steps, seed, render_mode: as of :class:`DreamEnv`.
    """

    metadata = {  # noqa: RUF012
        "render_modes": list(RENDER_MODES),
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        client: SyncClient | str = "http://127.0.0.1:8000",
        model: str | None = None,
        *,
        num_envs: int,
        version: str | None = None,
        start: Mapping[str, Any] | None = None,
        sample: bool = True,
        max_steps: int | None = None,
        seed: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        num_envs = _whole("num_envs", num_envs)
        self._max_steps, self._steps = _positive(max_steps), np.zeros(num_envs, np.int64)
        self._mode = AutoresetMode(autoreset_mode)
        self.render_mode = _known(render_mode)
        self._dreaming = _Dreaming(
            client, model, count=num_envs, version=version, start=start, sample=sample, seed=seed
        )
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = self._dreaming.spaces
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**type(self).metadata, "autoreset_mode": self._mode}
        self._ended = np.zeros(num_envs, np.bool_)
        """terminated or truncated, and not begun anew yet"""
        self._shown: Any = None

    @property
    def dream(self) -> Dream:
        """The dream at the server."""
        return self._dreaming.dream

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if isinstance(seed, list):  # all of them are drawn from one
            seed = self._one(seed)
        mask = (options or {}).get("reset_mask")
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        if chosen.shape != (self.num_envs,):
            raise ValueError(
                f"reset_mask: expected {self.num_envs} bools, got an array of shape {chosen.shape}"
            )
        indices = None if mask is None else np.flatnonzero(chosen).tolist()
        self._shown = self._dreaming.reset(indices, seed=seed)
        self._steps[chosen], self._ended[chosen] = 0, False
        return self._shown, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        begin = np.flatnonzero(self._ended)
        if len(begin) and self._mode is AutoresetMode.DISABLED:
            raise gymnasium.error.ResetNeeded(
                f"environments {begin.tolist()} have ended: call reset(options={{'reset_mask': …}})"
            )
        made = self._dreaming.step(np.asarray(actions), begin=begin.tolist())
        self._steps = np.where(self._ended, 0, self._steps + 1)
        terminated = made.terminated
        truncated = np.zeros_like(terminated)
        if self._max_steps is not None:
            truncated = ~terminated & (self._steps >= self._max_steps)
        stepped = ~self._ended
        self._ended, self._shown = terminated | truncated, made.observation
        about = _about(made)
        infos = _masked(about, stepped)
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            ended = self._ended.copy()
            final = {"final_obs": final_observations(self._shown, ended), "final_info": _masked(about, ended)}
            infos = _masked(about, ~ended) | final | {f"_{name}": ended.copy() for name in final}
            self._shown, _ = self.reset(options={"reset_mask": ended})
        return self._shown, made.reward.astype(np.float64), terminated, truncated, infos

    def _one(self, seeds: list[int | None]) -> int | None:
        """One seed of a list."""
        if len(seeds) != self.num_envs or any(seed is not None and seed < 0 for seed in seeds):
            raise ValueError(f"seed: expected {self.num_envs} of them, each 0 or more or None, got {seeds}")
        return None if all(seed is None for seed in seeds) else _joined(seeds)

    def render(self) -> tuple[Any, ...] | None:
        """A picture for each environment; None without a render mode."""
        if self.render_mode is None or self._shown is None:
            return None
        return tuple(
            picture(_row(self._shown, index), self.single_observation_space) for index in range(self.num_envs)
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Deletes the dream, and closes a client that was made here."""
        if hasattr(self, "_dreaming"):  # gymnasium closes also what could not be made
            self._dreaming.close()


class _Dreaming:
    """The dream behind an environment, and the client where it was made here."""

    def __init__(
        self,
        client: SyncClient | str,
        model: str | None,
        *,
        count: int,
        version: str | None,
        start: Mapping[str, Any] | None,
        sample: bool,
        seed: int | None,
    ) -> None:
        self._closed = False
        begin = _start(start)
        if not isinstance(client, str | SyncClient):
            raise TypeError(f"client: expected a URL, or a client that waits; got {type(client).__name__}")
        self._own = PlanningClient(client) if isinstance(client, str) else None
        used = self._own or client
        assert isinstance(used, SyncClient)
        self._seed = seed
        try:
            self.dream: Dream = used.dream(
                model, version=version, count=count, seed=seed, sample=sample, **begin
            )
        except BaseException:
            self.close()
            raise
        self._parts = ("observation", "value")
        _OPEN.add(self)

    @property
    def spaces(self) -> tuple[Any, Any]:
        """Of observations and actions, as gymnasium has them."""
        dream = self.dream
        assert dream.observation_space is not None and dream.action_space is not None
        return tuple(
            space_from_json(space_to_json(space)) for space in (dream.observation_space, dream.action_space)
        )  # type: ignore[return-value]

    def reset(self, indices: list[int] | None = None, *, seed: int | None) -> Any:
        """What all environments look like after it; the first one has the seed of all, where it is given none."""
        shown = self.dream.reset(indices, seed=self._seed if seed is None else seed)
        self._seed = None
        return shown

    def step(self, actions: Any, begin: list[int] | None = None) -> DreamtStep:
        return self.dream.step(actions, include=self._parts, begin=begin or ())

    def close(self) -> None:
        dream = getattr(self, "dream", None)
        closed, self._closed = self._closed, True
        try:
            if dream is not None and not closed:
                # Where nobody is there any more to delete it: a dream that nobody uses ends by itself.
                with contextlib.suppress(ConnectionLostError, NotConnectedError):
                    dream.close()
        finally:
            if self._own is not None:
                self._own.close()


_OPEN: weakref.WeakSet[_Dreaming] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """What a program leaves open is closed at its end, while that is still possible."""
    for dreaming in list(_OPEN):
        with contextlib.suppress(Exception):  # its client may be closed already
            dreaming.close()


def _about(made: DreamtStep) -> dict[str, Any]:
    return {"continuation": made.continuation} | ({} if made.value is None else {"value": made.value})


def _masked(infos: dict[str, Any], chosen: Any) -> dict[str, Any]:
    """What is told of some environments, as gymnasium's vector environments tell it: each part with who has it."""
    made = {name: np.where(chosen, values, np.zeros_like(values)) for name, values in infos.items()}
    return made | {f"_{name}": chosen.copy() for name in infos}


def _row(observation: Any, index: int) -> Any:
    if isinstance(observation, Mapping):
        return {key: value[index] for key, value in observation.items()}
    return observation[index]


def final_observations(observations: Any, chosen: Any) -> Any:
    """Observations as gymnasium keeps final ones: an object array, of each environment's own or None."""
    made = np.full(len(chosen), None, object)
    for index in np.flatnonzero(chosen):
        made[index] = copy.deepcopy(_row(observations, int(index)))  # not the whole batch
    return made


def _joined(seeds: list[int | None]) -> int:
    """One seed of many, another where any of them is another."""
    sequence = np.random.SeedSequence([0 if seed is None else seed + 1 for seed in seeds])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _whole(name: str, number: Any) -> int:
    if not isinstance(number, Integral) or number < 1:
        raise ValueError(f"{name}: expected a whole number, at least 1, got {number!r}")
    return int(number)


def _positive(max_steps: int | None) -> int | None:
    return None if max_steps is None else _whole("max_steps", max_steps)


def _start(start: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if start is not None and not (isinstance(start, Mapping) and set(start) <= set(STARTS)):
        raise ValueError(f"start: expected a mapping with one of {', '.join(STARTS)}, got {start!r:.80}")
    return start or {}


def _known(render_mode: str | None) -> str | None:
    if render_mode not in (None, *RENDER_MODES):
        raise ValueError(
            f"render_mode: expected one of {', '.join(RENDER_MODES)}, or None; got {render_mode!r}"
        )
    return render_mode
