"""``thick imagine``: what a model expects to happen next, as a picture that a person can read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients import flags
from clients.episodes import Task, action_names
from clients.errors import InvalidRequestError
from clients.results import Imagination
from clients.session import Session
from thick.arguments import Parser, at_least, file_to_write


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = Parser(
        prog="thick imagine",
        description="Ask a running service (`thick serve`) what a model expects to happen next, and draw it: "
        "a contact sheet (.png, .webp) or a film (.gif). At the high level each row is one high-level "
        "action, with its probability, the steps it is expected to last, the subgoal (just before the "
        "context changes) and what follows.",
        epilog="example: thick imagine --model doorkey --level high --steps 5 --out sheet.png",
    )
    flags.add_task(made)
    made.add_argument("--level", choices=("high", "low"), default="high", help="(high)")
    made.add_argument(
        "--out",
        type=file_to_write(".png", ".webp", ".gif"),
        required=True,
        metavar="FILE",
        help="picture to write: .png, .webp or .gif",
    )
    made.add_argument(
        "--seed", type=at_least(0), default=0, metavar="S", help="of the environment and the session (0)"
    )
    made.add_argument(
        "--steps", type=at_least(0), default=0, metavar="N", help="steps to play before imagining (0)"
    )
    made.add_argument(
        "--future", type=at_least(1), metavar="N", help="steps to imagine (2 at the high level, 8 at the low)"
    )
    made.add_argument(
        "--rollouts", type=at_least(1), default=4, metavar="N", help="futures, unless --policy is all (4)"
    )
    made.add_argument(
        "--policy",
        choices=("plan", "prior", "actor", "all"),
        help="who acts in it; all tries each action once (all at the high level, plan at the low)",
    )
    made.add_argument(
        "--actions", type=_actions, metavar="JSON", help="actions to imagine instead, such as [2,2,3]"
    )
    flags.add_planner(made, baseline=False)
    flags.add_connection(made)
    return made


def run(argv: Sequence[str]) -> int:
    """The command."""
    options = parser().parse_args(list(argv))
    with flags.connect(options) as client:
        planner = flags.planner_overrides(options)
        task = Task.of(
            client,
            options.model,
            version=options.version,
            env_id=options.env,
            env_options=options.env_options,
            planner=planner,
        )
        high = options.level == "high"
        asked: dict[str, Any] = {
            "level": options.level,
            "horizon": options.future or (2 if high else 8),
            "policy": options.policy or ("all" if high else "plan"),
            "actions": options.actions,
        }
        if asked["policy"] != "all":
            asked["rollouts"] = options.rollouts
        draw_future(task, asked, seed=options.seed, steps=options.steps, out=options.out)
    print(f"picture: {options.out}")
    return 0


def draw_future(task: Task, asked: dict[str, Any], *, seed: int, steps: int, out: Path) -> Imagination:
    """Plays some steps, imagines, writes the picture.

    Args:
        asked: the options of ``session.imagine``.
        seed: of the environment and the session.
        steps: to play before; fewer where the episode ends earlier.

    Raises:
        ClientError: the service could not be asked, or refused.
    """
    from clients.pictures import drawer
    from service.protocol.pictures.drawing import save_gif
    from service.protocol.pictures.sheets import Sheet, contact_sheet, imagination_film

    env = task.make_env()
    try:
        with task.client.session(
            task.model.name, version=task.model.version, seed=seed, planner=task.planner or None
        ) as session:
            observation, played = _play(env, session, seed, steps)
            imagination = _imagine(session, asked)
        sheet = Sheet(
            title=f"What {task.model.name} expects next, {asked['level']} level",
            subtitle=f"{task.env_id}, seed {seed}, step {played}; actions: {_who(asked)}",
            draw=drawer(env.observation_space),
            now=observation,
            actions=action_names(env),
        )
    finally:
        env.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".gif":
        frames = imagination_film(imagination, sheet)
        save_gif(frames, out, [900] * len(frames))
    else:
        contact_sheet(imagination, sheet).save(out)
    return imagination


def _play(env: Any, session: Session, seed: int, steps: int) -> tuple[Any, int]:
    """The observation after some steps, which the session has seen, and how many there were."""
    observation, _ = env.reset(seed=seed)
    reward, played = 0.0, 0
    action = session.act(observation, reward=reward)
    while played < steps:
        after, reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break  # there is no future to imagine beyond the end
        observation, played = after, played + 1
        action = session.act(observation, reward=float(reward))
    return observation, played


def _imagine(session: Session, asked: dict[str, Any]) -> Imagination:
    """Pictures travel as raw arrays: a symbolic grid is not a picture, and the page is drawn here."""
    try:
        return session.imagine(
            **{key: value for key, value in asked.items() if value is not None}, image="raw"
        )
    except InvalidRequestError as error:
        if any(field.path == "level" for field in error.errors) and asked["level"] == "high":
            raise ValueError(f"{error.detail}; try --level low") from error
        raise


def _who(asked: dict[str, Any]) -> str:
    if asked.get("actions"):
        return "as given"
    return {
        "plan": "the planner's",
        "prior": "drawn from the model's prior",
        "actor": "the actor's",
        "all": "each one once",
    }[asked["policy"]]


def _actions(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a JSON list, such as [2,2,3], got {text!r}") from error
    if not isinstance(value, list):
        raise argparse.ArgumentTypeError(f"expected a JSON list, such as [2,2,3], got {text!r}")
    return value
