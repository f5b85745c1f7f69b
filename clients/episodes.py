"""Playing episodes: an environment here, the agent behind the service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from clients.base import SyncClient
from clients.results import Decision, Model
from clients.session import Session
from thick.envs import check, check_unasked, make
from thick.envs.kinds import kinds_of
from thick.spaces import Space, as_space, describe, space_to_json

log = logging.getLogger(__name__)


class TaskMismatchError(ValueError):
    """The environment is not what the model was trained for."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went."""

    seed: int
    return_: float
    """sum of the rewards"""
    length: int
    success: bool | None
    """None where the task does not say"""
    act_ms: tuple[float, ...] = field(default=(), repr=False)
    """what each act took, seen from here"""
    sources: Mapping[str, int] | None = None
    """steps by where their action came from, in an episode that kept time"""

    def to_json(self) -> dict[str, Any]:
        """As in the file that ``thick drive --json`` writes."""
        line = {"seed": self.seed, "return": self.return_, "length": self.length, "success": self.success}
        return line if self.sources is None else {**line, "sources": dict(self.sources)}


@dataclass(frozen=True)
class Moment:
    """One step of an episode, for those who watch."""

    step: int
    observation: Any
    decision: Decision | None
    """None at the end, and where no agent decided"""
    action: Any
    """None at the end"""
    reward: float
    """received on arrival here"""
    return_: float
    """so far"""
    success: bool | None
    events: tuple[str, ...]
    """what happened on the way here, as the environment reports it"""
    frame: np.ndarray | None = None
    """the scene as the simulator draws it, uint8 [h, w, 3], where it was asked to"""
    terminated: bool = False
    """the episode ended here by itself, not by a limit"""


class Watcher(Protocol):
    """Sees each moment of an episode, the end included."""

    def __call__(self, moment: Moment) -> None: ...


@dataclass(frozen=True)
class Pace:
    """An environment that does not wait, and a network that takes its time."""

    hz: float
    """steps a second"""
    latency_s: float = 0.0
    """that each answer is held back"""
    jitter_s: float = 0.0
    """the latency is drawn uniformly from that much below to that much above"""
    tail: int = 8
    """actions of a plan that are used at most after its own step"""

    def delay(self, seed: int) -> Callable[[], float] | None:
        """What holds answers back, the same for the same seed."""
        if not self.latency_s and not self.jitter_s:
            return None
        rng = np.random.default_rng(seed)
        return lambda: max(0.0, self.latency_s + self.jitter_s * rng.uniform(-1, 1))


@dataclass(frozen=True)
class Task:
    """Whom to ask, in which environment, how to plan."""

    client: SyncClient
    model: Model
    env_id: str
    env_options: Mapping[str, Any]
    planner: Mapping[str, Any]
    method: str
    max_steps: int | None = None
    pace: Pace | None = None
    """None waits for each answer"""

    @classmethod
    def of(
        cls,
        client: SyncClient,
        model_name: str,
        *,
        version: str | None = None,
        env_id: str | None,
        planner: Mapping[str, Any],
        env_options: Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        pace: Pace | None = None,
    ) -> Task:
        """The task of a model, or another environment with the same spaces.

        Args:
            version: of the model, or an alias of one; None leaves it to the service.
            env_id: None takes the model's own, if it is one that may be made unasked
                (:func:`thick.envs.check_unasked`).
            env_options: of the environment; None takes the model's own where the environment is.

        Raises:
            ServiceError: there is no such model.
            TaskMismatchError: the model was not loaded, no environment is known, or its spaces are not the model's.
            thick.envs.UnusableEnvironmentError, thick.envs.MissingPackageError: it cannot be made here.
        """
        model = client.model(model_name, version)
        if model.state == "failed":
            raise TaskMismatchError(f"model {model.name} could not be loaded by the service: {model.reason}")
        if env_id is None:
            env_id = own_task(model)
        if env_options is None and env_id == model.task:
            env_options = model.env_options
        method = str(planner.get("method") or (model.planner or {}).get("method", "hierarchical"))
        task = cls(client, model, env_id, env_options or {}, dict(planner), method, max_steps, pace)
        check(env_id, **task.env_options)
        env = task.make_env()
        try:
            check_spaces(env_id, env, model)
        finally:
            env.close()
        return task

    def make_env(self) -> Any:
        """A new environment."""
        return make(self.env_id, **self.env_options)

    def make_filmed_env(self) -> Any:
        """A new environment for a film: where observations are mere numbers, one that draws its scene.

        Where the simulator cannot draw here, an ordinary one: the film then shows the numbers.
        """
        env = self.make_env()
        if set(kinds_of(env.observation_space).values()) & {"image", "grid"}:
            return env
        try:
            drawing = make(self.env_id, render_mode="rgb_array", **self.env_options)
            drawing.reset(seed=0)
            frame: Any = drawing.render()
            if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,)):
                raise TypeError(f"render() gave {type(frame).__name__}: expected uint8 [h, w, 3]")
        except Exception as error:  # OpenGL fails in many ways, each with an exception of its own
            log.warning("the film shows numbers, not the scene: %s", error)
            return env
        env.close()
        return drawing


def own_task(model: Model) -> str:
    """The environment that a model was trained in, where it can be found and made here.

    Raises:
        TaskMismatchError: it names none, or none that can; the message says what to do.
    """
    if model.task is None:
        raise TaskMismatchError(f"model {model.name} names no task: give --env")
    try:
        check_unasked(model.task)
    except (ValueError, ImportError) as error:
        raise TaskMismatchError(
            f"model {model.name} was trained in {model.task}, which is not made here unasked: {error}; run where it "
            f"lies, or give --env {model.task} (or where it is)"
        ) from error
    return model.task


def play(
    task: Task,
    env: Any,
    seed: int,
    *,
    watch: Watcher | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> EpisodeResult | None:
    """One episode; None if it was ``stopped`` on the way.

    The environment is reset with ``seed``, which is the session's seed too.

    Raises:
        ClientError: an act could not be had.
    """
    if task.method == "random":
        chooser = _RandomChooser(task.model.action_space or as_space(env.action_space), seed)
        return play_with(task, env, seed, chooser, watch=watch, stopped=stopped)
    with task.client.session(
        task.model.name, version=task.model.version, seed=seed, planner=task.planner or None
    ) as session:
        if task.pace is not None:
            return _play_in_time(task, task.pace, env, seed, session, watch, stopped)
        include = ("plan",) if watch else ()

        def choose(observation: Any, reward: float) -> Decision:
            return session.decide(observation, reward=reward, include=include)

        return play_with(task, env, seed, choose, watch=watch, stopped=stopped)


def _play_in_time(
    task: Task,
    pace: Pace,
    env: Any,
    seed: int,
    session: Session,
    watch: Watcher | None,
    stopped: Callable[[], bool],
) -> EpisodeResult | None:
    """An episode whose steps come at their own times."""
    with session.realtime(pace.hz, tail=pace.tail, delay=pace.delay(seed)) as loop:
        first = True

        def choose(observation: Any, reward: float) -> Decision:
            nonlocal first
            loop.next_tick()
            tick = loop.act(observation, reward=reward, is_first=first)
            first = False
            decision = tick.decision if tick.source == "plan" else None
            return decision or Decision(session_id=session.id, step=session.step, action=tick.action)

        result = play_with(task, env, seed, choose, watch=watch, stopped=stopped)
    if result is None:
        return None
    counts: dict[str, int] = {str(source): count for source, count in loop.counts.items()}
    return replace(result, sources={**counts, "overruns": loop.overruns})


class _RandomChooser:
    """Actions drawn from the space: what to compare with."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._step = 0

    def __call__(self, observation: Any, reward: float) -> Decision:
        self._step += 1
        action: Any = self._space.sample(self._rng)
        return Decision(session_id="", step=self._step - 1, action=action)


def play_with(
    task: Task,
    env: Any,
    seed: int,
    choose: Callable[[Any, float], Decision],
    *,
    watch: Watcher | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> EpisodeResult | None:
    """As :func:`play`, with the actions that ``choose`` makes of an observation and the reward that came with it."""
    observation, info = env.reset(seed=seed)
    total, reward, step, over, terminated = 0.0, 0.0, 0, False, False
    success = info.get("success")
    act_ms = list[float]()
    while not over:
        if stopped():
            return None
        began = time.perf_counter()
        decision = choose(observation, reward)
        act_ms.append(1e3 * (time.perf_counter() - began))
        if watch:
            watch(_moment(env, step, observation, decision, reward, total, success, info))
        observation, reward, terminated, truncated, info = env.step(decision.action)
        reward = float(reward)
        total += reward
        step += 1
        success = info.get("success", success)
        over = bool(terminated or truncated) or (task.max_steps is not None and step >= task.max_steps)
    if watch:
        last = _moment(env, step, observation, None, reward, total, success, info)
        watch(replace(last, terminated=bool(terminated)))
    return EpisodeResult(
        seed=seed,
        return_=total,
        length=step,
        success=None if success is None else bool(success),
        act_ms=tuple(act_ms) if task.method != "random" else (),
    )


def _moment(
    env: Any,
    step: int,
    observation: Any,
    decision: Decision | None,
    reward: float,
    total: float,
    success: Any,
    info: Mapping[str, Any],
) -> Moment:
    # Environments may write into the arrays that they hand out.
    kept = (
        {key: np.array(value) for key, value in observation.items()}
        if isinstance(observation, Mapping)
        else np.array(observation)
    )
    events = tuple(str(event) for event in info.get("events", ()))
    return Moment(
        step=step,
        observation=kept,
        decision=decision,
        action=decision.action if decision else None,
        reward=reward,
        return_=total,
        success=None if success is None else bool(success),
        events=events,
        frame=np.asarray(env.render()) if env.render_mode == "rgb_array" else None,
    )


def check_spaces(env_id: str, env: Any, model: Model) -> None:
    """Refuses an environment whose spaces are not the model's.

    Raises:
        TaskMismatchError: which space differs, and how.
    """
    pairs = (
        ("observation", model.observation_space, env.observation_space),
        ("action", model.action_space, env.action_space),
    )
    for name, trained, found in pairs:
        if trained is None:
            continue
        if space_to_json(trained) != space_to_json(found):
            raise TaskMismatchError(
                f"{env_id} has other {name}s than model {model.name} was trained for ({model.task}): "
                f"{describe(as_space(found))} instead of {describe(trained)}"
                + (", or other bounds" if describe(as_space(found)) == describe(trained) else "")
            )


def action_names(env: Any) -> tuple[str, ...] | None:
    """What the environment calls its discrete actions, where it has names for them."""
    try:
        return tuple(str(name) for name in env.get_wrapper_attr("action_names"))
    except AttributeError:
        return None


def summarise(results: list[EpisodeResult]) -> dict[str, Any]:
    """The contents of the file that ``thick drive --json`` writes."""
    known = [result.success for result in results if result.success is not None]
    paced = [result.sources for result in results if result.sources is not None]
    sources = {name: sum(each[name] for each in paced) for name in paced[0]} if paced else None
    act_ms = np.concatenate([result.act_ms for result in results]) if results else np.empty(0)
    return {
        "episodes": [result.to_json() for result in results],
        "success_rate": float(np.mean(known)) if known else None,
        "mean_return": float(np.mean([result.return_ for result in results])) if results else None,
        "act_ms": {
            "p50": float(np.percentile(act_ms, 50)) if act_ms.size else None,
            "p95": float(np.percentile(act_ms, 95)) if act_ms.size else None,
        },
        **({} if sources is None else {"sources": sources}),
    }
