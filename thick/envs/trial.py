"""A few steps in an environment, to see whether it keeps gymnasium's protocol; and the words for one that does not."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from thick.envs.actions import ActionCodec
from thick.envs.errors import MissingPackageError, UnusableEnvironmentError, reason

STEPS = 3
LARGEST = 1e15
"""greatest size of a number that can be learned from: models read float32, and losses square it"""


def try_out(env: Any, env_id: str) -> None:
    """Resets with a seed and takes a few random actions.

    Raises:
        UnusableEnvironmentError: something is raised on the way, is not as gymnasium has it, or is a number that cannot
            be learned from.
    """
    codec, rng = ActionCodec(env.action_space), np.random.default_rng(0)
    doing = "reset()"
    try:
        observation, _ = env.reset(seed=0)
        _check_finite(observation, 0.0, env_id, doing)
        doing = "step()"
        for _ in range(STEPS):
            observation, reward, terminated, truncated, _ = env.step(codec.sample(rng))
            _check_finite(observation, reward, env_id, doing)
            if terminated or truncated:
                break
    except (UnusableEnvironmentError, MissingPackageError):
        raise
    except Exception as error:
        raise UnusableEnvironmentError(f"{env_id}: {doing} failed: {reason(error)}") from error


def check_protocol(env: Any, env_id: str) -> None:
    """Whether an object is an environment of gymnasium's present interface.

    Raises:
        UnusableEnvironmentError: it is something else; the message says what.
    """
    import gymnasium

    if isinstance(env, gymnasium.vector.VectorEnv):
        raise UnusableEnvironmentError(
            f"{env_id} makes several environments at once; make one, they are run side by side here"
        )
    if not isinstance(env, gymnasium.Env):
        bases = {f"{base.__module__}.{base.__name__}" for base in type(env).__mro__}
        if any(base.startswith(("gym.", "gym_")) for base in bases):
            raise UnusableEnvironmentError(
                f"{env_id} is an environment of the old gym package: derive it from gymnasium.Env; reset gives "
                "(observation, info), and step (observation, reward, terminated, truncated, info)"
            )
        what = "nothing" if env is None else f"a {type(env).__name__}"
        raise UnusableEnvironmentError(f"{env_id} gave {what}: expected a gymnasium.Env")
    for name in ("observation_space", "action_space"):
        try:
            space = getattr(env, name, None)
        except Exception as error:  # a property
            raise UnusableEnvironmentError(f"{env_id}: {name} failed: {reason(error)}") from error
        if not isinstance(space, gymnasium.Space):
            what = "none" if space is None else f"a {type(space).__module__}.{type(space).__name__}"
            raise UnusableEnvironmentError(f"{env_id}: {name} is {what}: expected one of gymnasium.spaces")
    parameters = inspect.signature(env.unwrapped.reset).parameters.values()
    if not any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise UnusableEnvironmentError(
            f"{env_id}: reset() takes no seed, as in the old gym: expected reset(self, *, seed=None, options=None)"
        )


def reset_result(result: Any, env_id: str) -> tuple[Any, dict[str, Any]]:
    """Observation and info; UnusableEnvironmentError where `reset` gave something else."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise UnusableEnvironmentError(
            f"{env_id}: reset() gave {_what(result)}, as the old gym has it: expected (observation, info)"
        )
    return result


def step_result(result: Any, env_id: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """What a step gave, in plain types; UnusableEnvironmentError where it is something else."""
    if not isinstance(result, tuple) or len(result) != 5:
        raise UnusableEnvironmentError(
            f"{env_id}: step() gave {_what(result)}: expected (observation, reward, terminated, truncated, info)"
        )
    observation, reward, terminated, truncated, info = result
    try:
        if reward is None or np.iscomplexobj(reward):
            raise TypeError
        value = float(np.asarray(reward, np.float64).reshape(()))
    except (TypeError, ValueError) as error:
        raise UnusableEnvironmentError(f"{env_id}: the reward is {reward!r}: expected one number") from error
    if not isinstance(info, dict):
        raise UnusableEnvironmentError(f"{env_id}: info is a {type(info).__name__}: expected a dict")
    terminated, truncated = _flag(terminated, "terminated", env_id), _flag(truncated, "truncated", env_id)
    return observation, value, terminated, truncated, info


def _flag(value: Any, name: str, env_id: str) -> bool:
    try:
        flag = bool(value)
        if flag and value != value:
            raise ValueError("NaN is neither")
    except (TypeError, ValueError) as error:
        raise UnusableEnvironmentError(f"{env_id}: {name} is {value!r}: expected true or false") from error
    return flag


def _check_finite(observation: Any, reward: float, env_id: str, doing: str) -> None:
    """UnusableEnvironmentError where an answer is NaN, infinite, or too large to learn from."""
    entries = observation if isinstance(observation, dict) else {"the observation": observation}
    for name, value in (*entries.items(), ("the reward", reward)):
        array = np.asarray(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = array[~np.isfinite(array)].flat[0]
            raise UnusableEnvironmentError(f"{env_id}: {doing} gave {bad} in {name}: expected finite numbers")
        if array.dtype.kind in "iuf" and (large := np.abs(array.astype(np.float64)) > LARGEST).any():
            raise UnusableEnvironmentError(
                f"{env_id}: {doing} gave {array[large].flat[0]} in {name}, which is too large to learn from: expected "
                f"numbers of at most {LARGEST:g}, scale them down"
            )


def _what(result: Any) -> str:
    if not isinstance(result, tuple):
        return f"a {type(result).__name__}"
    note = " (the old gym's done is terminated or truncated)" if len(result) == 4 else ""
    return f"{len(result)} values{note}"
