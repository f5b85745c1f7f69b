"""What a run knows, on held-out play: linear probes of its states, and its gates against events.

python experiments/probe.py runs/thick-1 --steps 12000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from thick.models.dynamics.crssm import CRSSM
from thick.training.alignment import gate_alignment, play_with_events
from thick.training.probes import linear_probes
from thick.training.runs import load_run


def main() -> None:
    """Play, probe, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=12_000, help="of held-out play")
    parser.add_argument("--policy", default="random", help="random or scripted")
    parser.add_argument(
        "--plain-starts", action="store_true", help="start in the first room with nothing in hand"
    )
    parser.add_argument(
        "--within", type=int, default=1, help="steps between a gate and an event that count as none"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    play, played = None, None
    for path in options.run:
        config, model, state = load_run(path)
        env_options = {**config.env_options, "split": "test"}
        if options.plain_starts:
            env_options["exploring_starts"] = False
        task = (config.env, json.dumps(env_options))
        if task != played:
            play, played = (
                play_with_events(
                    config.env,
                    policy=options.policy,
                    steps=options.steps,
                    seed=options.seed,
                    options=env_options,
                ),
                task,
            )
        assert play is not None
        result: dict[str, Any] = {"updates": state["update"], "probes": linear_probes(model.world, play)}
        if isinstance(model.world.dynamics, CRSSM):
            result["gates"] = gate_alignment(model.world, play, within=options.within)
        results[str(path)] = result
        print(path, json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
