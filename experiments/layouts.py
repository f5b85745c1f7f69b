"""How much of what the bundled model is evaluated on was in its training data (0.3 s).

    python experiments/layouts.py

Other seeds are not other rooms: DoorKey-6x6 has few. A *layout* is what a reset draws without the agent (see
docs/environments.md), a *beginning* is all that the first observation shows: the layout, and where the agent stands.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from thick.data.collect import training_seed
from thick.envs import make

ENTRY = Path(__file__).resolve().parents[1] / "checkpoints" / "doorkey6" / "1"


def main() -> None:
    """Print both shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--episodes", type=int, default=200, help="seeds from 0, as `thick evaluate` takes them"
    )
    print(json.dumps(known(parser.parse_args().episodes), indent=1))


def known(episodes: int) -> dict[str, dict[str, float]]:
    """Of layouts and of beginnings: ``trained``, how many different ones the training data hold, and ``share``, that of
    the evaluation seeds 0 to ``episodes - 1`` which show one of them."""
    manifest = json.loads((ENTRY / "manifest.json").read_text())
    configuration, provenance = manifest["configuration"], manifest["provenance"]
    streams = configuration["data"]["streams"]
    env = make(configuration["env"])

    def shown(seed: int) -> dict[str, Any]:
        observation, info = env.reset(seed=seed)
        return {"layouts": info["layout"], "beginnings": observation.tobytes()}

    trained = [
        shown(training_seed(configuration["seed"], stream, episode))
        for stream in range(streams)
        for episode in range(provenance["data"]["episodes"] // streams)
    ]
    asked = [shown(seed) for seed in range(episodes)]
    found = {}
    for kind in ("layouts", "beginnings"):
        there = {each[kind] for each in trained}
        found[kind] = {"trained": len(there), "share": sum(each[kind] in there for each in asked) / episodes}
    return found


if __name__ == "__main__":
    main()
