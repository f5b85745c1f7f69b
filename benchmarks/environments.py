"""How fast the environments are, and what the scripted policy puts into the data.

    python benchmarks/environments.py [--steps 20000] [--skip-pixels]

Prints the tables of docs/environments.md, on one core.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import numpy as np

from thick.envs import make
from thick.envs.scripted import NoisyExpert

SPEED = {  # identifier -> share of the steps asked for: slow ones get fewer
    "minigrid:MiniGrid-DoorKey-8x8-v0+map": 1.0,
    "minigrid:MiniGrid-DoorKey-8x8-v0+full": 1.0,
    "minigrid:MiniGrid-DoorKey-8x8-v0": 1.0,
    "pinpad:three": 1.0,
    "dm_control:cartpole-swingup": 0.1,
    "dm_control:cartpole-swingup+pixels": 0.005,
}


def census(
    policy: NoisyExpert, steps: int, *, task: str = "MiniGrid-DoorKey-8x8-v0", seed: int = 0
) -> Counter[str]:
    """What happens in a room with a key and a door under a policy: events, and attempts that failed."""
    env = make(f"minigrid:{task}+map", seed=seed)
    rng = np.random.default_rng(seed)
    names = env.get_wrapper_attr("action_names")
    base: Any = env.unwrapped
    counts: Counter[str] = Counter()
    ended, key = True, (0, 0)
    for _ in range(steps):
        if ended:
            env.reset()
            policy.reset(env, rng)
            cells = np.ndindex(base.width, base.height)
            key = next(c for c in cells if (thing := base.grid.get(*c)) and thing.type == "key")
        action = policy(env)
        name = names[action]
        front, before = base.grid.get(*base.front_pos), tuple(map(int, base.agent_pos))
        carrying, facing_door = base.carrying is not None, front is not None and front.type == "door"
        locked, closed = facing_door and front.is_locked, facing_door and not front.is_open
        *_, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        after = tuple(map(int, base.agent_pos))
        counts.update(info["events"])
        counts["pickup failed"] += name == "pickup" and "pickup" not in info["events"]
        counts["toggled locked without key"] += name == "toggle" and locked and not carrying
        counts["bumped"] += name == "forward" and closed
        counts["through the door"] += after != before and getattr(base.grid.get(*after), "type", "") == "door"
        counts["entered key cell"] += after != before and after == key
        counts["episodes"] += ended
    return counts


def speed(env_id: str, steps: int) -> float:
    """Steps a second under random actions."""
    env = make(env_id, seed=0)
    env.reset()
    actions = [env.action_space.sample() for _ in range(steps)]
    started = time.perf_counter()
    for action in actions:
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - started)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000, help="steps a row")
    parser.add_argument("--skip-pixels", action="store_true", help="leave out what needs OpenGL")
    arguments = parser.parse_args()
    print("steps a second, random actions")
    for env_id, share in SPEED.items():
        if not (arguments.skip_pixels and env_id.endswith("+pixels")):
            print(f"  {env_id:<42}{speed(env_id, max(50, int(arguments.steps * share))):>10,.0f}")
    print("\nshare of the steps, scripted policy")
    for title, policy in (("default mixture", NoisyExpert()), ("solve without noise", NoisyExpert.expert())):
        counts = census(policy, arguments.steps)
        print(f"  {title}")
        for name, count in counts.most_common():
            print(f"    {name:<32}{count / arguments.steps:>8.2%}")


if __name__ == "__main__":
    main()
