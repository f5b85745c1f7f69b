"""Experiment 4: what the actions of a high level stand for, and whether its predictions are right, on held-out play.

    python experiments/actions.py runs/horizon/seed3-thick --csv experiments/results/actions.csv

For every segment of random play in test layouts: the posterior over the high-level action, given how the segment ended.
Its mutual information with the event on which it ended (within a step), beside that of shuffled events; how far the
predicted durations and returns of the posterior's action are from what came, beside always saying their mean; and the
same durations by the prior's action, which is all that a planner has.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thick.learners.level import segment_batch
from thick.models.batch import batch_from_arrays
from thick.models.networks import AgentNetworks
from thick.training.alignment import EventPlay, filtered, play_with_events
from thick.training.runs import load_run

SHUFFLES = 500
FIELDS = (
    "run", "seed", "segments", "information", "shuffled_mean", "shuffled_95", "events_entropy", "actions_used",
    "elapsed_error", "elapsed_by_prior_error", "elapsed_mean_error", "elapsed_bias", "returns_error",
    "returns_mean_error",
)  # fmt: skip


def main() -> None:
    """Play, measure, print, and write a row for each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=7, help="of the play")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in options.run:
        config, networks, _ = load_run(path)
        play = play_with_events(
            config.env,
            policy="random",
            steps=options.steps,
            seed=options.seed,
            options={**config.env_options, "split": "test"},
        )
        found = measured(networks, play)
        rows.append({"run": path.name, "seed": config.seed} | found["row"])
        print(json.dumps({str(path): found}, indent=1))
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


@torch.no_grad()
def measured(networks: AgentNetworks, play: EventPlay) -> dict[str, Any]:
    """All that the module's docstring names, and how often each action went with each event."""
    level, settings = networks.hierarchy[0], networks.config.levels[0]
    kinds = ["none", *sorted({name for names in play.events for step in names for name in step})]
    chosen, events, elapsed, returns = [], [], [], []
    for episode, names in zip(play.episodes, play.events, strict=True):
        if len(names) < 3:
            continue
        posterior, _ = filtered(networks.world, episode)
        batch = batch_from_arrays({name: array[None] for name, array in episode.items()})
        data = segment_batch(networks.world, settings, batch, posterior)
        end = torch.arange(1, len(names)) + data.elapsed[0].long()  # of the segment that step t is in
        begins = [t for t in range(len(names) - 1) if data.mask[0, t] and (t == 0 or end[t - 1] == t)]
        if not begins:
            continue
        at = torch.tensor(begins)
        stoch, context = data.stoch[0, at], data.context[0, at]
        q = level.posterior(stoch, context, data.next_context[0, at], data.target_stoch[0, at]).softmax(-1)
        chosen.append(q)
        events += [_event(names, int(end[t]), kinds) for t in begins]
        each = torch.eye(level.actions)
        prior = level.prior(stoch, context).softmax(-1)
        by_posterior = level.predict(stoch, context, each[q.argmax(-1)])
        by_prior = level.predict(stoch, context, each[prior.argmax(-1)])
        elapsed.append(torch.stack([data.elapsed[0, at], by_posterior.time, by_prior.time]))
        returns.append(torch.stack([data.returns[0, at], by_posterior.returns]))
    taken, what = torch.cat(chosen).double().numpy(), np.array(events)
    real, posterior_time, prior_time = torch.cat(elapsed, 1).numpy()
    earned, expected = torch.cat(returns, 1).numpy()
    rng = np.random.default_rng(0)
    shuffled = np.array([information(taken, rng.permutation(what), len(kinds)) for _ in range(SHUFFLES)])
    usage, table = taken.mean(0), np.array([taken[what == kind].sum(0) for kind in range(len(kinds))])
    row = {
        "segments": len(what),
        "information": information(taken, what, len(kinds)),
        "shuffled_mean": shuffled.mean(),
        "shuffled_95": np.quantile(shuffled, 0.95),
        "events_entropy": _entropy(np.bincount(what, minlength=len(kinds)) / len(what)),
        "actions_used": float(np.exp(_entropy(usage))),
        "elapsed_error": np.abs(posterior_time - real).mean(),
        "elapsed_by_prior_error": np.abs(prior_time - real).mean(),
        "elapsed_mean_error": np.abs(real.mean() - real).mean(),
        "elapsed_bias": (posterior_time - real).mean(),
        "returns_error": np.abs(expected - earned).mean(),
        "returns_mean_error": np.abs(earned.mean() - earned).mean(),
    }
    counts = {kind: [round(float(x), 1) for x in table[index]] for index, kind in enumerate(kinds)}
    return {"row": {k: round(float(v), 4) for k, v in row.items()}, "events by action": counts}


def information(q: np.ndarray, what: np.ndarray, kinds: int) -> float:
    """Mutual information in nats of actions, by their probabilities ``[N, G]``, and kinds of events ``[N]``."""
    joint = np.array([q[what == kind].sum(0) for kind in range(kinds)]) / len(what)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


def _entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _event(names: list[list[str]], step: int, kinds: list[str]) -> int:
    """The kind of event at a step, else one step off, else none."""
    for at in (step, step - 1, step + 1):
        if 0 <= at < len(names) and names[at]:
            return kinds.index(names[at][0])
    return 0


if __name__ == "__main__":
    main()
