"""``thick train``: train a world model from a preset, or go on with an interrupted run."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from thick.arguments import folder_to_write
from thick.cli import Command

if TYPE_CHECKING:
    from thick.training.config import TrainConfig
    from thick.training.trainer import Trainer

EXAMPLES = """
examples:
  thick train --env own_env.py:Corridor --run runs/own     your own environment, with defaults that fit it
  thick train --preset dreamer --preset small --env minigrid:MiniGrid-DoorKey-6x6-v0+map --run runs/d1
                                                           a learner, its size, and a task
  thick train --preset doorkey6-memory                     the first of the five runs behind the MiniGrid model
  thick train --preset cartpole --run runs/c1 --seed 1     any field of the configuration can be overridden
  thick train --run runs/c1 --resume                       go on exactly where the run was interrupted
  thick train --run runs/c1 --resume --updates 40000       go on longer than it was to
  thick train --preset cartpole --fields                   every field, with its meaning and value

Field names are those of the preset files: --model.stoch 16 --sparsity.final 2 --data.prefill 50000
"""


def run(argv: list[str]) -> int:
    """Parse the arguments, train, and say where everything is."""
    parser = argparse.ArgumentParser(
        prog="thick train",
        description="Train a world model (C-RSSM, THICK, or their flat baselines) on a task.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        help="a preset's name, or a YAML file; several are applied one after the other (without one: defaults "
        "that fit --env)",
    )
    parser.add_argument("--run", type=folder_to_write, help="folder of the run (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument(
        "--fields", action="store_true", help="list every field that can be overridden, and stop"
    )
    options, rest = parser.parse_known_args(argv)

    from thick.configuration import describe
    from thick.envs import MissingPackageError
    from thick.files import FolderInUseError
    from thick.training.config import TrainConfig, load_config, override

    if options.resume:
        if options.run is None:
            parser.error("--resume needs --run DIR: the folder of the interrupted run")
        if options.preset:
            parser.error("a resumed run keeps its configuration: leave out --preset")
    try:
        if options.resume:
            trainer = resumed(options.run, rest)
        else:
            from thick.training.trainer import Trainer

            if options.preset:
                config = shortened(override(load_config(*options.preset), rest), rest)
            elif options.fields and not rest:
                config = TrainConfig()
            else:
                config = without_preset(rest)
            if options.fields:
                print(describe(config))
                return 0
            trainer = Trainer(config, options.run or Path("runs") / config.name)
    except (ValueError, TypeError, OSError, MissingPackageError, FolderInUseError) as error:
        print(f"thick train: {error}", file=sys.stderr)
        return 2
    return train(trainer)


def shortened(config: TrainConfig, words: list[str]) -> TrainConfig:
    """A preset with fewer updates than the one at which it stops ends with these."""
    from thick.training.config import without_late_stop

    given = {word.partition("=")[0] for word in words}
    if "--updates" not in given or "--stop" in given or config.stop <= config.updates:
        return config
    print(
        f"the preset stops at update {config.stop}, this run ends at {config.updates} (--updates)",
        file=sys.stderr,
    )
    return without_late_stop(config)


def without_preset(words: list[str]) -> TrainConfig:
    """The configuration of a task that is named on the command line: defaults fitted to its spaces, then the words.

    Raises:
        ValueError: no task is named, or it cannot be used.
    """
    from thick.training.config import TrainConfig, override, presets
    from thick.training.defaults import fitted

    if not any(word.partition("=")[0] == "--env" for word in words):
        raise ValueError(
            f"name a task, such as --env own_env.py:Corridor, or a preset: {', '.join(presets())}"
        )
    asked = override(TrainConfig(), words)
    return override(fitted(TrainConfig(env=asked.env, env_options=asked.env_options)), words)


def resumed(directory: Path, words: list[str]) -> Trainer:
    """The trainer of a run that goes on, maybe to another end: ``--updates N``, ``--stop N``."""
    from thick.configuration import to_dict
    from thick.training.config import TrainConfig, override
    from thick.training.trainer import resume

    changed = override(TrainConfig(), words)  # checks names and types
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    values = to_dict(changed)
    return resume(directory, {name: values.get(name.partition(".")[0]) for name in names})


def train(trainer: Trainer) -> int:
    """Train to the end, or to the point where somebody or something stops it; says where everything is."""
    from thick.training.checkpoint import latest_checkpoint
    from thick.training.trainer import RunStoppedError

    where = shlex.quote(str(trainer.directory))  # as a shell wants it
    go_on = f"thick train --run {where} --resume"
    try:
        ended = trainer.run()
    except RunStoppedError as error:
        print(f"thick train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"thick train: stopped at once; {trainer.last_checkpoint()}", file=sys.stderr)
        return 130
    except Exception:
        print(
            f"thick train: an error in the run or its environment; {trainer.last_checkpoint()}",
            file=sys.stderr,
        )
        raise
    finally:
        trainer.close()
    if not ended:
        print(
            f"stopped at update {trainer.learner.updates}; {trainer.last_checkpoint()}\n  go on:    {go_on}",
            file=sys.stderr,
        )
        return 130
    print(
        f"done: {trainer.directory}, {trainer.learner.updates} updates\n"
        f"  log:      {where}/metrics.jsonl; tensorboard --logdir {where}/tensorboard\n"
        f"  weights:  {latest_checkpoint(trainer.folder.checkpoints)}\n"
        f"  measure:  thick evaluate {where}\n"
        f"  export:   thick export {where}\n"
        f"  extend:   {go_on} --updates {2 * trainer.config.updates}"
    )
    return 0


command = Command("train", "train a world model from a preset, or go on with a run", run)
