"""``thick explain``: what contexts and high-level actions of a trained model stand for, on a page."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from thick.arguments import Parser, at_least, folder_to_write
from thick.cli import Command
from thick.envs.errors import MissingPackageError
from thick.envs.options import add_env_options

if TYPE_CHECKING:
    from thick.explaining.record import Explanation

PLAYERS = ("plan", "random", "scripted")
SERVED = "thick.explain"
"""group of entry points; ``served`` there plays with a model at a running service: from arguments, what is to be drawn
(:class:`~thick.explaining.record.Explanation`), or an exit code"""


def run(argv: list[str]) -> int:
    """Parse the arguments, play, draw."""
    if any(word == "--url" or word.startswith("--url=") for word in argv):
        entry = next(iter(entry_points(group=SERVED, name="served")), None)
        if entry is None:
            print("thick explain: the installation is older than the code; install again", file=sys.stderr)
            return 2
        found = entry.load()(argv)
        return found if isinstance(found, int) else _draw(found)
    parser = Parser(
        prog="thick explain",
        description="Play episodes and draw them: where gates open, and at the beginning of each segment, where each "
        "high-level action leads and how probable it is. Writes one HTML page that needs nothing else, and PNG files.",
        epilog="Of a model at a running service: thick explain --url URL --model NAME (--help with these).",
    )
    parser.add_argument(
        "model", type=Path, help="folder of a run, or an entry NAME/VERSION of a model repository"
    )
    parser.add_argument("--out", type=folder_to_write, default=Path("explained"), help="folder to write")
    parser.add_argument("--env", metavar="ID", help="another environment with the same spaces")
    add_env_options(parser)
    parser.add_argument("--episodes", type=at_least(1), default=2)
    parser.add_argument("--seed", type=at_least(0), default=0, help="episode i is reset with SEED + i")
    parser.add_argument("--max-steps", type=at_least(0), default=72, help="cut episodes here; 0: never")
    parser.add_argument("--play", choices=PLAYERS, default="plan", help="who acts (plan: the model)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="planner setting, such as samples=500"
    )  # fmt: skip
    parser.add_argument("--threads", type=at_least(1), default=2)
    options = parser.parse_args(argv)

    import torch

    from thick.envs import make
    from thick.explaining.episodes import explain
    from thick.explaining.record import Explanation
    from thick.planning.settings import planner_changes
    from thick.training.runs import load_agent, load_networks

    torch.set_num_threads(options.threads)
    try:
        agent, task, env_options = load_agent(
            options.model, env_id=options.env, env_options=options.env_options
        )
        networks = load_networks(options.model)
        episodes = explain(
            agent,
            networks,
            task,
            env_options=env_options,
            player=options.play,
            settings=agent.settings(planner_changes(options.set)),
            episodes=options.episodes,
            seed=options.seed,
            max_steps=options.max_steps,
        )
    except (ValueError, FileNotFoundError, MissingPackageError) as error:
        print(f"thick explain: {error}", file=sys.stderr)
        return 2
    env = make(task, **env_options)
    names = getattr(env, "action_names", None)
    env.close()
    who = "the model plans" if options.play == "plan" else f"{options.play} play"
    return _draw(
        Explanation(
            episodes,
            agent.observation_space,
            heading=f"{options.model}: {task}",
            note=f"{options.episodes} episodes, seeds from {options.seed}; {who}.",
            names=names,
            out=options.out,
        )
    )


def _draw(explanation: Explanation) -> int:
    """Write the page, and say where it is."""
    from thick.explaining.page import write

    files = write(
        explanation.out,
        explanation.episodes,
        explanation.space,
        heading=explanation.heading,
        note=explanation.note,
        names=explanation.names,
    )
    for episode in explanation.episodes:
        changes = ", ".join(str(step) for step in episode.opened) or "none"
        print(
            f"seed {episode.seed}: {len(episode.observations) - 1} steps, context changes at steps: {changes}"
        )
    print(f"{files[0]} and {len(files) - 1} pictures")
    return 0


command = Command("explain", "draw what contexts and high-level actions stand for", run)
