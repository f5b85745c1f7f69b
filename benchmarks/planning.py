"""Planning measured: its bars, its threads, and the time of one act at the paper's size with torch.

    python benchmarks/planning.py --check [--seconds 3]          # all bars; see benchmarks/bars.py
    python benchmarks/planning.py --threads-table [--check]      # see benchmarks/threads.py
    python benchmarks/planning.py --peers                        # see benchmarks/peers/command.py
    python benchmarks/planning.py --device cuda [--check]        # see benchmarks/gpu.py
    python benchmarks/planning.py [--threads 2] [--repeat 5] [--precision auto|fp32|bf16] [--sessions 1] [--json FILE]

One act of the paper's agent: z 32×32, h 256, c 16, a 64×64 image, 1000 candidates × 12 steps × 10 iterations, and,
where the high level searches too, 100 simulations over 5 high-level actions. The weights are random; time does not
depend on them. With each time stands its floor, the operations that this implementation makes over the rate of
matrix products measured just before, and the time that the THICK paper's own implementation takes for the same act on
two cores of this kind: 3.41 s flat, 6.67 s with the high-level search.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

REFERENCE_S = {"flat": 3.41, "hierarchical": 6.67}
TARGET_S = {"flat": 1.7, "hierarchical": 2.2}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument(
        "--repeat", type=int, default=5, help="acts of each row; the median and the best are shown"
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sessions", type=int, default=1, help="sessions planned in one batch")
    parser.add_argument("--actions", choices=("continuous", "discrete"), default="continuous")
    parser.add_argument(
        "--no-end", action="store_true", help="a model without discount head (robot arm, PinPad)"
    )
    parser.add_argument("--profile", action="store_true", help="also print where a flat act spends its time")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument(
        "--threads-table",
        action="store_true",
        help="the service's engine with its defaults, compared with fixed numbers of threads (benchmarks/threads.py)",
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of a setting's turn in that table, of a row with --check"
    )
    parser.add_argument("--rounds", type=int, default=4, help="turns of each setting in that table")
    parser.add_argument("--models", default="doorkey6,paper", help="rows of that table")
    parser.add_argument(
        "--check",
        action="store_true",
        help="every row with its bar, exit with 1 where one is missed; with --threads-table where the defaults lose "
        "more than 10 %%",
    )
    parser.add_argument(
        "--peers", action="store_true", help="beside other people's planners (benchmarks/peers)"
    )
    parser.add_argument("--states", type=int, default=16, help="states that everybody plans for with --peers")
    options = parser.parse_args()
    if options.peers:
        from benchmarks.peers import command

        return command.main(options)
    if options.threads_table:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `thick serve` does, before torch is read
        from benchmarks import threads

        return threads.main(options)
    if options.device.startswith("cuda"):
        from benchmarks import gpu

        return gpu.main(options)
    if options.check:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the product rate of one core
        from benchmarks import bars

        return bars.main(options)
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    report = measure(options)
    print(table(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rates of the machine and times of the acts."""
    import torch

    torch.set_num_threads(options.threads)
    agent = paper_agent(options)
    state = observed(agent, options.sessions)
    rates = {"fp32": rate(torch.float32, options.device), "bf16": rate(torch.bfloat16, options.device)}
    used = "bf16" if agent.model.search.dtype == torch.bfloat16 else "fp32"
    rows = []
    for method in ("flat", "hierarchical"):
        settings = agent.settings({"method": method, "actor_proposals": 0, "critic": False})
        times, phases = acts(agent, state, settings, options.repeat)
        work = operations(agent.model, settings)
        floor = options.sessions * (
            work["low"] / rates[used] + (work["high"] / rates["fp32"] if method == "hierarchical" else 0.0)
        )
        median = sorted(times)[len(times) // 2]
        rows.append(
            {
                "method": method,
                "median_s": median,
                "best_s": min(times),
                "floor_s": floor,
                "ratio": min(times) / floor,
                "reference_s": REFERENCE_S[method] * options.sessions,
                "target_s": TARGET_S[method] * options.sessions,
                **phases,
            }
        )
    if options.profile:
        profile(agent, state)
    return {
        "threads": options.threads,
        "device": options.device,
        "precision": used,
        "sessions": options.sessions,
        "rates_flops": rates,
        "rows": rows,
    }


def paper_networks(options: argparse.Namespace) -> Any:
    """Networks of the paper's size with random weights."""
    import gymnasium
    import numpy as np
    import torch

    from thick.models.config import ModelConfig
    from thick.models.networks import AgentNetworks

    torch.manual_seed(0)
    image = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    space: gymnasium.Space = gymnasium.spaces.Discrete(5)
    if options.actions == "continuous":
        space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    return AgentNetworks(ModelConfig(discount_head=not options.no_end), image, space)


def paper_agent(options: argparse.Namespace) -> Any:
    """A torch agent of these networks."""
    from thick.runtimes.torch.agents import torch_agent

    return torch_agent(paper_networks(options), precision=options.precision, device=options.device)


def observed(agent: Any, sessions: int) -> Any:
    """States after a first image."""
    import torch

    images = torch.randint(256, (sessions, 64, 64, 3), dtype=torch.uint8, device=agent.device)
    first = torch.ones(sessions, dtype=torch.bool, device=agent.device)
    return agent.observe(agent.initial(sessions), images, is_first=first, keys=keys_of(agent, sessions, 0))


def keys_of(agent: Any, sessions: int, step: int) -> Any:
    """Keys of sessions 0 … B-1."""
    import torch

    from thick.planning.settings import session_key

    return torch.tensor([session_key(session, step) for session in range(sessions)], device=agent.device)


def acts(agent: Any, state: Any, settings: Any, repeat: int) -> tuple[list[float], dict[str, float]]:
    """Seconds of each act (observe and plan from scratch), and of its phases in the last one."""
    import torch

    sessions = state.previous_action.shape[0]
    images = torch.randint(256, (sessions, 64, 64, 3), dtype=torch.uint8, device=agent.device)
    first = torch.ones(sessions, dtype=torch.bool, device=agent.device)
    times, phases = [], {}
    for step in range(repeat + 1):
        keys = keys_of(agent, sessions, step)
        began = time.perf_counter()
        now = agent.observe(state, images, is_first=first, keys=keys)
        seen = time.perf_counter()
        output = agent.act(now, settings, keys=keys)
        ended = time.perf_counter()
        if step:  # the first one warms up
            times.append(ended - began)
        phases = {"observe_s": seen - began} | {f"{k[:-3]}_s": v / 1e3 for k, v in output.phase_ms.items()}
    return times, phases


def rate(dtype: Any, device: str) -> float:
    """Operations a second of a matrix product of ``dtype`` in the shape of the GRU's, best of several."""
    import torch

    size = 1024 if device == "cpu" else 8192
    x, y = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / best(lambda: x @ y, device)


def best(function: Callable[[], Any], device: str, seconds: float = 0.4) -> float:
    """Best time of a call."""
    import torch

    shortest, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def operations(model: Any, settings: Any) -> dict[str, float]:
    """Floating-point operations of matrix products in one act, by level (gather-sums and sampling not counted)."""
    low = model.search
    step = [low.img_in.rest, low.gru, low.img_out, low.img_logit, low.gatel0rd]
    step += [
        layer for head in low._outcome for layer in (head.first.rest, *head.chain.layers, head.chain.out)
    ]
    steps = settings.samples * settings.horizon * settings.iterations
    high = model.high
    jump = [high.body0.rest, *high.body, *high.reward_chain.layers, high.reward_out]
    jump += [high.stoch_hidden, high.stoch_logit, high.img_in.rest, high.gatel0rd]
    jump += [*high.action_chain.layers, high.action_out, *high.time_chain.layers, high.time_out]
    jump += [high.ctxt_first.rest, *high.ctxt_rest.layers, high.ctxt_rest.out, high.ctxt_img_out.rest]
    jump += [high.ctxt_img_logit]
    jump += [
        layer for head in high._outcome for layer in (head.first.rest, *head.chain.layers, head.chain.out)
    ]
    # Each simulation asks the prior once, and makes the jumps of all high-level actions.
    simulation = products([high.prior_hidden.rest, high.prior_logit]) + high.actions * products(jump)
    return {"low": steps * products(step), "high": settings.simulations * simulation}


def products(layers: list[Any]) -> float:
    """Operations of one row through layers."""
    return float(sum(2 * layer.weight.numel() for layer in layers))


def profile(agent: Any, state: Any) -> None:
    """Print the operators that a flat act spends most time in."""
    import torch

    settings = agent.settings({"method": "flat", "iterations": 2, "actor_proposals": 0, "critic": False})
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        agent.act(state, settings, keys=keys_of(agent, state.previous_action.shape[0], 1))
    print(trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    rates = ", ".join(f"{name} {flops / 1e9:.0f} GFLOP/s" for name, flops in report["rates_flops"].items())
    lines = [
        f"{report['device']}, {report['threads']} threads, {report['sessions']} session(s); matrix products: {rates}; "
        f"candidates in {report['precision']}",
        "",
        "| act | median s | best s | floor s | best / floor | target s | reference s | times faster |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['method']} | {row['median_s']:.3f} | {row['best_s']:.3f} | {row['floor_s']:.3f} "
            f"| {row['ratio']:.1f} | {row['target_s']:.1f} | {row['reference_s']:.2f} "
            f"| {row['reference_s'] / row['median_s']:.1f} |"
        )
    lines.append("")
    for row in report["rows"]:
        lines.append(
            f"{row['method']}: observe {1e3 * row['observe_s']:.1f} ms, high level "
            f"{1e3 * row['high_plan_s']:.0f} ms, low level {1e3 * row['low_plan_s']:.0f} ms"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
