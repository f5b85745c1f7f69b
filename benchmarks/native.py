"""What the native runtime takes compared with its floor: a model's operations over the best product rate here.

``python -m benchmarks.native [--seconds S] [--instructions NAME …]`` prints, for each instruction set, the best product
rate found (numpy's library and our own kernel, in this very run) and the ratio of each row to its floor. Ratios within
a run mean something on a busy machine; milliseconds do not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thick.models.beliefs import Belief
from thick.models.config import ModelConfig
from thick.planning.protocols import JumpState, RolloutObjective, Score
from thick.pytrees import map_arrays
from thick.runtimes.native import library
from thick.runtimes.native.agents import load_agent, native_model
from thick.runtimes.native.model import NativeModel
from thick.runtimes.native.weights import Weights

clock = time.thread_time  # of this thread alone: a busy machine stretches the wall clock
ROOT = Path(__file__).resolve().parents[1]


def best(function: Callable[[], Any], seconds: float) -> float:
    """The shortest time of a call, among as many as fit into some seconds (at least 3)."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        began = clock()
        function()
        times.append(clock() - began)
    return min(times)


def product_rates(seconds: float) -> dict[str, float]:
    """Floating-point operations a second of products, by who makes them: numpy's library and our own kernel."""
    rng = np.random.default_rng(0)
    found = {}
    for size in (512, 1024):
        x, y = (rng.standard_normal((size, size), np.float32) for _ in range(2))
        out = np.empty_like(x)
        rate = 2 * size**3 / best(lambda x=x, y=y, out=out: np.matmul(x, y, out=out), seconds)  # type: ignore[misc]
        found["numpy"] = max(found.get("numpy", 0.0), rate)
    weights = Weights(
        {"a.weight": rng.standard_normal((384, 256), np.float32), "a.bias": np.zeros(384, np.float32)},
        stoch=0,
        classes=0,
    )
    chain = weights.chain(["a"], linear=True)
    from thick.runtimes.native.calls import chained

    rows = rng.standard_normal((192 * 8, 256), np.float32)
    found["kernel"] = 2 * len(rows) * 256 * 384 / best(lambda: chained(chain, 384, None, rows), seconds)
    return found


def layers(chain: Any) -> int:
    """Multiplications of one row of a chain; a one-hot costs none."""
    return sum(chain.layer[i].inputs * chain.layer[i].outputs for i in range(chain.layers))


def step_operations(model: NativeModel) -> int:
    """Floating-point operations of one imagined step of one candidate, with its heads."""
    low = model.exact.record
    dense = (low.gatel0rd, low.gru, low.img_out, low.img_logit)
    multiplied = sum(part.inputs * part.outputs for part in dense)
    return 2 * (multiplied + layers(low.img_in) + layers(low.reward) + layers(low.discount))


def expand_operations(model: NativeModel) -> int:
    """Of one node of the high-level search: its prior, and all its jumps."""
    assert model.high is not None
    high, low = model.high.record, model.exact.record
    names = ("body", "state", "act", "time", "segment", "summary", "coarse", "reward", "discount")
    jump = sum(layers(getattr(high, name)) for name in names) + layers(low.img_in)
    jump += low.gatel0rd.inputs * low.gatel0rd.outputs
    return 2 * (layers(model.high.prior_chain) + model.high.actions * jump)


def finished(parts: Any) -> tuple[Score, float]:
    """The scores, and the longest time between two pauses."""
    longest = 0.0
    while True:
        began = clock()
        try:
            next(parts)
        except StopIteration as end:
            return end.value, max(longest, clock() - began)
        longest = max(longest, clock() - began)


def bundled(name: str) -> NativeModel:
    """A checkpoint of the repository."""
    return load_agent(ROOT / "checkpoints" / name / "1").model


def paper() -> NativeModel:
    """A model of the paper's size with random weights."""
    from gymnasium.spaces import Box, Discrete

    from thick.models.networks import AgentNetworks

    return native_model(AgentNetworks(ModelConfig(), Box(-1.0, 1.0, (8,), np.float32), Discrete(7)))


def objective(model: NativeModel, batch: int) -> RolloutObjective:
    """Rewards and a subgoal that is never reached."""
    low = model.exact
    goal = np.full((batch, low.stoch, low.classes), low.classes**-0.5, np.float32)
    ones = np.ones(batch, np.float32)
    context = np.zeros((batch, low.context), np.float32)
    return RolloutObjective(0.99, False, goal, ones, context, 0 * ones, ones > 2, 0.3, True, 1.0)


def start(model: NativeModel, batch: int, rng: np.random.Generator) -> Belief:
    """Beliefs after a step from nowhere."""
    low = model.exact
    belief = low.initial(batch)._replace(stoch=rng.integers(low.classes, size=(batch, low.stoch)))
    return low.imagine(belief, np.eye(low.action, dtype=np.float32)[rng.integers(low.action, size=batch)])


def expanded(model: NativeModel, state: JumpState) -> None:
    """A node of the high level that was not seen before."""
    assert model.high is not None
    model.high.known.clear()
    model.high.expand(state, critic=False)


def searched(actions: int, samples: int, horizon: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Candidates as a categorical CEM proposes them: uniform first, then nearer and nearer to a plan."""
    eye, plan = np.eye(actions, dtype=np.float32), rng.integers(actions, size=horizon)
    lots = []
    for certain in (0.0, 0.5, 0.8):
        free = rng.integers(actions, size=(1, samples, horizon))
        lots.append(eye[np.where(rng.random((1, samples, horizon)) < certain, plan, free)])
    return lots


def planned(
    model: NativeModel, lots: list[np.ndarray], rng: np.random.Generator
) -> Callable[[Keys | None], float]:
    """Imagines lots of candidates one after the other, from nothing known; gives the longest time between pauses."""
    goal, belief = objective(model, 1), start(model, 1, rng)

    def plan(randomness: Keys | None) -> float:
        fresh = map_arrays(lambda x: x.copy(), belief)
        return max(finished(model.search.rollout(fresh, lot, goal, randomness))[1] for lot in lots)  # type: ignore[arg-type]

    return plan


class Keys:
    """Randomness as planning hands it over."""

    def __init__(self, batch: int) -> None:
        self.keys, self.row = np.arange(batch), 0

    def folds(self, count: int) -> np.ndarray:
        """The same numbers for all: good enough to measure."""
        return np.repeat(self.keys[None], count, 0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.native", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="to measure each row for")
    parser.add_argument("--instructions", nargs="*", help="instruction sets; all but scalar by default")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    doorkey, large = bundled("doorkey6"), paper()
    for name in arguments.instructions or [name for name in library.available() if name != "scalar"]:
        with library.using(name):
            rates = product_rates(arguments.seconds / 2)
            rate = max(rates.values())
            print(
                f"\n{name}: " + ", ".join(f"{key} {value / 1e9:.1f} GFLOP/s" for key, value in rates.items())
            )
            print(f"{'':44} {'ms':>9} {'floor ms':>9} {'ratio':>6} {'pause ms':>9}")

            def row(label: str, operations: float, function: Callable[[], Any], rate: float = rate) -> None:
                pauses: list[float] = []

                def timed() -> None:
                    found = function()
                    if isinstance(found, float):
                        pauses.append(found)

                took, floor = best(timed, arguments.seconds), operations / rate
                pause = f"{1e3 * min(pauses):9.2f}" if pauses else ""
                print(f"{label:44} {1e3 * took:9.2f} {1e3 * floor:9.2f} {took / floor:6.2f} {pause}")

            for title, model, samples, horizon in (
                ("doorkey6, 3 × 200 × 14", doorkey, 200, 14),
                ("paper's size, 200 × 12", large, 200, 12),
            ):
                lots = searched(model.exact.action, samples, horizon, rng)
                operations = step_operations(model) * samples * horizon * len(lots)
                plan = planned(model, lots, rng)
                row(f"{title}, drawn", operations, lambda plan=plan: plan(Keys(1)))
                row(f"{title}, modes (shared)", operations, lambda plan=plan: plan(None))
            for title, model in (("doorkey6", doorkey), ("paper's size", large)):
                belief = start(model, 1, rng)
                zero = np.zeros(1, np.float32)
                state = JumpState(belief.stoch, belief.context, zero, zero)
                row(
                    f"{title}, a node of the high level",
                    expand_operations(model),
                    lambda model=model, state=state: expanded(model, state),
                )


if __name__ == "__main__":
    main()
