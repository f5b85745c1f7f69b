"""``thick train``: train a world model from a preset, or go on with an interrupted run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from thick.cli import Command

EXAMPLES = """
examples:
  thick train --preset doorkey6-memory                     the first of the four runs behind the MiniGrid model
  thick train --preset cartpole --run runs/c1 --seed 1     any field of the configuration can be overridden
  thick train --run runs/c1 --resume                       go on exactly where the run was interrupted
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
    parser.add_argument("--preset", help="a preset's name, or a YAML file")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument(
        "--fields", action="store_true", help="list every field that can be overridden, and stop"
    )
    options, rest = parser.parse_known_args(argv)

    from thick.training.config import TrainConfig, load_config, override, presets

    try:
        if options.resume:
            if options.run is None:
                parser.error("--resume needs --run DIR: the folder of the interrupted run")
            if rest or options.preset:
                parser.error("a resumed run keeps its configuration: leave out --preset and other fields")
            from thick.training.trainer import resume

            trainer = resume(options.run)
        else:
            if options.preset is None and not options.fields:
                parser.error(f"name a preset: {', '.join(presets())}")
            config = load_config(options.preset) if options.preset else TrainConfig()
            if options.fields:
                from thick.training.config import describe

                print(describe(config))
                return 0
            config = override(config, rest)
            from thick.training.trainer import Trainer

            trainer = Trainer(config, options.run or Path("runs") / config.name)
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        print(f"thick train: {error}", file=sys.stderr)
        return 2
    try:
        trainer.run()
    except KeyboardInterrupt:
        trainer.save()
        trainer.log.say(f"interrupted and saved; go on with: thick train --run {trainer.directory} --resume")
        return 130
    finally:
        trainer.log.close()
    where = trainer.directory
    print(
        f"done: {where}\n  log {where}/metrics.jsonl, tensorboard --logdir {where}/tensorboard\n"
        f"  measure:  thick evaluate {where}\n  export:   thick export {where}"
    )
    return 0


command = Command("train", "train a world model from a preset, or go on with a run", run)
