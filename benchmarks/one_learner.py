"""One learner that updates on request, of whatever version of the project is imported.

    python benchmarks/one_learner.py LEARNER SIZE THREADS

Each line on stdin is a number of updates; the answer is a line of JSON with the seconds that each took. Other versions
are asked for by PYTHONPATH; of those before learners were made of parts, only THICK PlaNet is known. The batch is
random, the same for all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch

ENVS = {
    "paper": "pinpad:three",
    "paper-sampled": "pinpad:three",
    "small": "minigrid:MiniGrid-DoorKey-6x6-v0+map",
}
PRESETS = {
    "paper": ["tasks/pinpad"],
    "paper-sampled": ["tasks/pinpad", "options/sampled"],
    "small": ["sizes/small", "tasks/doorkey"],
}


def learner(
    name: str, size: str, threads: int, *, device: str = "cpu", precision: str = "fp32"
) -> tuple[Any, Any]:
    """The learner and a batch for it, ``[B, T, ...]``."""
    from thick.envs import make

    env = make(ENVS[size])
    torch.manual_seed(0)
    try:
        from thick.configuration import merge
        from thick.models.batch import Batch
        from thick.training.config import load_config
        from thick.training.learner import Learner
    except ImportError:
        config, Learner, Batch = _before_parts(name, size)
    else:
        changes = {"env": ENVS[size], "threads": threads, "precision": precision, "device": device}
        config = merge(load_config(f"learners/{name}", *PRESETS[size]), changes)
    torch.set_num_threads(threads)
    arrays = batch(config.batch, config.length, env.observation_space, env.action_space)
    observation, *rest = (torch.from_numpy(each).to(device) for each in arrays)
    return Learner(config, env.observation_space, env.action_space), Batch(
        {"observation": observation}, *rest
    )


def batch(sequences: int, length: int, space: Any, actions: Any) -> tuple[np.ndarray, ...]:
    """Observation, action, reward, is_first, is_terminal of random play, ``[B, T, ...]``."""
    rng = np.random.default_rng(0)
    shape = (sequences, length)
    observation = rng.integers(0, space.high, (*shape, *space.shape), endpoint=True).astype(space.dtype)
    first = (rng.random(shape) < 0.03).astype(np.float32)
    first[:, 0] = 1
    terminal = np.zeros(shape, np.float32)
    terminal[:, :-1] = first[:, 1:]
    action = np.eye(int(actions.n), dtype=np.float32)[rng.integers(0, int(actions.n), shape)]
    reward = (rng.random(shape) < 0.05).astype(np.float32)
    return observation, action * (1 - first[..., None]), reward, first, terminal


def _before_parts(name: str, size: str) -> tuple[Any, Any, Any]:
    """The same model in the terms of versions before learners were made of parts."""
    from thick.models.world_model import Batch  # type: ignore[attr-defined]
    from thick.training.config import TrainConfig, merge  # type: ignore[attr-defined]
    from thick.training.learner import Learner

    if (name, size) != ("thick-planet", "small"):
        raise SystemExit(f"{name}, {size}: that version is only known as thick-planet, small")
    model: dict[str, Any] = {
        "kind": "thick",
        "stoch": 16,
        "classes": 8,
        "deter": 128,
        "hidden": 128,
        "context": 8,
    }
    model |= {"mlp_layers": 2, "mlp_units": 128, "head_layers": 2, "head_units": 128, "discount_head": True}
    model |= {"loss": {"sparsity": 10.0}}
    model |= {"high": {"actions": 3, "hidden": 256, "head_units": 128, "segment_ends": ("gates", "ends")}}
    optimizer = {"lr": 6e-4, "high_lr": 6e-4, "warmup": 200}
    config = merge(
        TrainConfig(), {"batch": 16, "length": 48, "threads": 1, "model": model, "optimizer": optimizer}
    )
    return config, Learner, Batch


def main(name: str, size: str, threads: str) -> None:
    """Answer requests until there are no more."""
    of, data = learner(name, size, int(threads))
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            began = time.perf_counter()
            of.update(data)
            times.append(time.perf_counter() - began)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for place in ("learner", "size", "threads"):
        parser.add_argument(place)
    given = parser.parse_args()
    main(given.learner, given.size, given.threads)
