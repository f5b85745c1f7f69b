"""``thick explain --url``: what contexts and high-level actions of a served model stand for, on a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clients import flags
from clients.episodes import Moment, Task, action_names, play_with
from clients.results import Decision, Imagination
from clients.session import Session
from thick.arguments import Parser, at_least, folder_to_write
from thick.explaining.record import Change, EpisodeRecord, Explanation, Prediction

SHOWN = ("observation", "reward")
"""of an imagined step"""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = Parser(
        prog="thick explain --url URL",
        description="Play episodes with a model at a running service and draw them: where gates open, and at the "
        "beginning of each segment, where each high-level action leads and how probable it is. Writes one HTML page "
        "that needs nothing else, and PNG files. The posterior over high-level actions is left out: the service does "
        "not report it.",
    )
    flags.add_task(made)
    made.add_argument(
        "--out", type=folder_to_write, default=Path("explained"), help="folder to write (explained)"
    )
    made.add_argument("--episodes", type=at_least(1), default=2, help="(2)")
    made.add_argument("--seed", type=at_least(0), default=0, help="episode i is reset with SEED + i (0)")
    made.add_argument("--max-steps", type=at_least(0), default=72, help="cut episodes here; 0: never (72)")
    flags.add_planner(made, baseline=False)
    flags.add_connection(made)
    return made


def explanation_of(argv: Sequence[str]) -> Explanation:
    """What the command plays, for the page."""
    options = parser().parse_args(list(argv))
    with flags.connect(options) as client:
        task = Task.of(
            client,
            options.model,
            version=options.version,
            env_id=options.env,
            env_options=options.env_options,
            planner=flags.planner_overrides(options),
            max_steps=options.max_steps or None,
        )
        if task.model.kind != "thick":
            raise ValueError(
                f"model {options.model} is {task.model.kind} and has no high level: contexts and jumps need a THICK "
                "learner"
            )
        episodes = [episode(task, options.seed + index) for index in range(options.episodes)]
        env = task.make_env()
        space, names = env.observation_space, action_names(env)
        env.close()
    return Explanation(
        episodes,
        space,
        heading=f"{options.model}: {task.env_id}",
        note=f"{options.episodes} episodes, seeds from {options.seed}; a served model plans.",
        names=names,
        out=options.out,
    )


def episode(task: Task, seed: int, *, most_changes: int = 12) -> EpisodeRecord:
    """One episode, with what the high level expects where its segments begin."""
    record, futures = EpisodeRecord(seed), dict[int, Imagination]()
    session: Session

    def choose(observation: Any, reward: float) -> Decision:
        decision = session.decide(observation, reward=reward, include=("plan",))
        opened = decision.plan is not None and bool(decision.plan.context_changed)
        if not decision.step or opened:
            futures[decision.step] = session.imagine(
                level="high", policy="all", horizon=1, include=SHOWN, image="raw"
            )
        return decision

    last: list[Any] = [None]

    def watch(moment: Moment) -> None:
        record.observations.append(moment.observation)
        record.frames.append(moment.frame)
        record.actions.append(last[0])
        record.rewards.append(moment.reward)
        record.events.append(list(moment.events))
        plan = None if moment.decision is None else moment.decision.plan
        record.gates.append(np.array([plan is not None and bool(plan.gates_open)]))
        record.success = moment.success
        record.ended = moment.terminated
        last[0] = moment.action

    env = task.make_env()
    try:
        with task.client.session(
            task.model.name, version=task.model.version, seed=seed, planner=task.planner or None
        ) as session:
            play_with(task, env, seed, choose, watch=watch)
    finally:
        env.close()
    count = len(record.observations)
    begin = 0
    ends = sorted({*record.opened, *([count - 1] if record.ended and count > 1 else [])})
    for end in ends[:most_changes]:
        record.changes.append(Change(begin, end, bool(record.gates[end].any()), _predictions(futures[begin])))
        begin = end
    return record


def _predictions(imagined: Imagination) -> list[Prediction]:
    """Where each high-level action leads."""
    steps = [rollout.steps[0] for rollout in imagined.rollouts]
    return [
        Prediction(
            action=index if step.high_action is None else step.high_action,
            prior=step.probability or 0.0,
            posterior=None,
            before=step.subgoal,
            after=step.observation,
            low_action=step.action,
            elapsed=step.duration or 0.0,
            segment=step.return_ or 0.0,
            reward=step.reward or 0.0,
            continuation=1.0 if step.continuation is None else step.continuation,
        )
        for index, step in enumerate(steps)
    ]
