"""How fast learners learn on a GPU, operation by operation and as recorded, and what share of its product rate that is.

    python benchmarks/training.py --device cuda [--learners dreamer thick-dreamer] [--sizes paper small] [--json FILE]

The share is the operations of the matrix products and convolutions in one update, as torch counts them, over its time
and the best rate of a matrix product measured in this run in the same precision. Small models are far from it: their
products are too small to fill a GPU, and several runs side by side share it better (docs/training.md).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.one_learner import learner
from benchmarks.planning import rate as product_rate

WARM = 4
"""updates before any is measured: the first build kernels, the third is recorded"""


def main(options: argparse.Namespace, operations: Callable[[Any, Any], float]) -> int:
    """Measure and print.

    Args:
        options: device, learners, sizes, updates and json.
        operations: counts those of an update.
    """
    device = torch.device(options.device)
    rates = {
        precision: product_rate(dtype, options.device)
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    name = torch.cuda.get_device_name(device)
    found = ", ".join(f"{precision} {rate / 1e12:.0f}" for precision, rate in rates.items())
    print(f"{name}, torch {torch.__version__}; products, TFLOP/s: {found}\n", flush=True)
    print("| learner | size | precision | plain, updates/s | recorded, updates/s | share of products |")
    print("|---|---|---|---|---|---|", flush=True)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        for of in options.learners:
            for precision in rates:
                row = {"learner": of, "size": size, "precision": precision}
                rows.append(row | measure(of, size, precision, options, operations, rates[precision]))
                print(
                    "| {learner} | {size} | {precision} | {plain:.1f} | {recorded:.1f} | {share:.2%} |".format(
                        **rows[-1]
                    ),
                    flush=True,
                )
    if options.json is not None:
        content = {"device": name, "torch": torch.__version__, "rates_flops": rates, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def measure(
    name: str,
    size: str,
    precision: str,
    options: argparse.Namespace,
    operations: Callable[[Any, Any], float],
    products: float,
) -> dict[str, float]:
    """Updates a second of one learner in both forms, and the share of the product rate."""
    of, data = learner(name, size, 1, device=options.device, precision=precision)
    recorded, found = of._recorded, {}
    for form, how in (("plain", None), ("recorded", recorded)):
        of._recorded = how
        for _ in range(WARM):
            of.update(data)
        found[form] = max(_updates_per_second(of, data) for _ in range(max(1, options.updates // 2)))
    of._recorded = None
    return {**found, "share": operations(of, data) * found["recorded"] / products}


def _updates_per_second(of: Any, data: Any, seconds: float = 1.0) -> float:
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        of.update(data)
        torch.cuda.synchronize()
        count += 1
    return count / (time.perf_counter() - began)
