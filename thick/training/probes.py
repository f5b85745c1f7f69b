"""Does a state know a fact? Linear probes of what a world model filtered, on episodes that it was not trained on.

A fact that no linear readout finds in h may still be there, but nobody downstream of one layer will find it sooner. An
area under the curve of 0.5 is chance, 1 says that the fact can be read off.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thick.models.world_model import WorldModel
from thick.training.alignment import EventPlay, filtered

RIDGE = 1e-2
"""weight of the squared readout, for each step"""


def linear_probes(model: WorldModel, play: EventPlay) -> dict[str, dict[str, Any]]:
    """Area under the ROC curve of a linear readout of h, c and z for every fact.

    The readout is fitted by least squares on every second episode and tested on the others. The first step of an
    episode is left out.

    Args:
        model: any dynamics.
        play: episodes with facts.

    Returns:
        fact -> ``rate`` (share of the tested steps on which it holds), and ``h``, ``c`` (with a context), ``z``: the
        area, None where the fact holds always or never.

    Raises:
        ValueError: the environment reports no facts, or there are fewer than two episodes.
    """
    names = sorted({name for facts in play.facts for step in facts for name in step})
    if not names or len(play.episodes) < 2:
        raise ValueError(
            "a probe needs at least two episodes of an environment that reports facts in its info (minigrid does)"
        )
    states: dict[str, list[np.ndarray]] = {"h": [], "c": [], "z": []}
    held: list[np.ndarray] = []
    odd: list[np.ndarray] = []
    for index, (episode, facts) in enumerate(zip(play.episodes, play.facts, strict=True)):
        posterior, _ = filtered(model, episode)
        parts = {"h": posterior.deter, "c": posterior.context, "z": posterior.stoch.flatten(-2)}
        for key, value in parts.items():
            states[key].append(value[0, 1:].cpu().numpy())
        held.append(np.array([[step[name] for name in names] for step in facts[1:]], bool))
        odd.append(np.full(len(facts) - 1, index % 2 == 1))
    labels, tested = np.concatenate(held), np.concatenate(odd)
    result: dict[str, dict[str, Any]] = {
        name: {"rate": float(labels[tested, i].mean())} for i, name in enumerate(names)
    }
    for key, arrays in states.items():
        features = np.concatenate(arrays).astype(np.float64)
        if not features.shape[1]:
            continue
        scores = _readout(features[~tested], labels[~tested], features[tested])
        for index, name in enumerate(names):
            result[name][key] = area_under_curve(scores[:, index], labels[tested, index])
    return result


def _readout(features: np.ndarray, labels: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Least squares with a ridge: scores ``[J, F]`` of ``tested`` from ``[N, D]`` and ``[N, F]``."""
    middle, spread = features.mean(0), features.std(0) + 1e-6
    inputs = np.column_stack([(features - middle) / spread, np.ones(len(features))])
    gram = inputs.T @ inputs + RIDGE * len(inputs) * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (2.0 * labels - 1.0))
    scores: np.ndarray = np.column_stack([(tested - middle) / spread, np.ones(len(tested))]) @ weights
    return scores


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Probability that a step with the fact scores higher than one without, ties as one half; None without both."""
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))
