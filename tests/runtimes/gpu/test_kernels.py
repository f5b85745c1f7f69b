"""Candidates imagined with kernels are those imagined step by step.

Needs Triton (``pip install triton``), whose interpreter runs the kernels where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thick.models.config import ModelConfig
from thick.models.networks import AgentNetworks
from thick.planning.objectives import ReturnObjective, Subgoal, SubgoalObjective
from thick.planning.randomness import Randomness
from thick.planning.sampling import finished, rollout
from thick.runtimes.torch.dynamics import FrozenDynamics

pytest.importorskip("triton", reason="no Triton; pip install triton")

from thick.runtimes.torch.gpu.rollouts import FusedDynamics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, N, H = 2, 5, 4
FORMS: dict[str, dict[str, Any]] = {
    "plain": {"head_layers": 1},
    "threshold": {"change_threshold": 0.05, "head_layers": 2},
    "no end": {"discount_head": False, "head_layers": 3},
    "unimix": {"unimix": 0.01, "head_layers": 1},
    "odd": {
        "stoch": 7,
        "classes": 5,
        "deter": 19,
        "hidden": 23,
        "context": 3,
        "head_layers": 2,
        "head_units": 13,
    },
    "rssm": {"dynamics": "rssm", "levels": (), "head_layers": 2},
    "hard gate": {"gates": "shared", "head_layers": 2},
}
SIZES: dict[str, Any] = {
    "stoch": 5, "classes": 6, "deter": 20, "hidden": 24, "context": 7,
    "head_units": 12, "mlp_layers": 2, "mlp_units": 16, "behaviour": "actor_critic",
}  # fmt: skip


def dynamics(form: str, discrete: bool) -> tuple[Any, Any, int]:
    """The same random weights, frozen for steps and for kernels, and the size of an action."""
    torch.manual_seed(0)
    config = ModelConfig(**{**SIZES, **FORMS[form]})
    actions: gymnasium.Space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    if discrete:
        actions = gymnasium.spaces.Discrete(4)
    networks = AgentNetworks(config, gymnasium.spaces.Box(-1, 1, (9,), np.float32), actions)
    for parameter in networks.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    networks = networks.to(DEVICE)
    return (
        FrozenDynamics(networks, torch.float32),
        FusedDynamics(networks, torch.float32),
        4 if discrete else 3,
    )


@pytest.mark.parametrize(("discrete", "random"), [(True, True), (False, True), (False, False)])
@pytest.mark.slow
@pytest.mark.parametrize("form", list(FORMS))
@torch.inference_mode()
def test_kernels_imagine_and_score_what_the_steps_do(form: str, discrete: bool, random: bool) -> None:
    plain, fused, size = dynamics(form, discrete)
    start = plain.initial(B)._replace(stoch=torch.randint(plain.classes, (B, plain.stoch), device=DEVICE))
    belief = plain.imagine(start, torch.randn(B, size, device=DEVICE), None)
    candidates = torch.randn(B, N, H, size, device=DEVICE)
    if discrete:
        candidates = F.one_hot(candidates.argmax(-1), size).float()
    noise = Randomness(7919 * torch.arange(B, device=DEVICE)).rows(2) if random else None
    returns = ReturnObjective(plain, discount=0.9, critic=plain.value)
    objectives: list[Any] = [returns]
    if plain.context:
        subgoal = Subgoal(
            belief.logits + 0.3 * torch.randn_like(belief.logits),
            candidates[:, 0, 0],
            0.5 * belief.context + 0.1,
            torch.tensor([0.2, 0.9], device=DEVICE),
        )
        for arrival, ending in ((True, 0.0), (True, 0.05), (False, 0.0)):
            objectives.append(
                SubgoalObjective(
                    returns,
                    subgoal=subgoal,
                    context=belief.context,
                    kappa=0.7,
                    arrival=arrival,
                    ending=ending,
                )
            )
    for objective in objectives:
        wanted = rollout(plain, objective, belief, candidates, noise)
        found = finished(fused.rollout(belief, candidates, objective.numbers(), noise))
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        assert float(wanted.score.std()) > 0.01


def test_scores_half_way_are_those_of_the_shorter_plan() -> None:
    with torch.inference_mode():
        _, fused, size = dynamics("plain", False)
        start = fused.initial(B)._replace(stoch=torch.zeros(B, fused.stoch, dtype=torch.int64, device=DEVICE))
        candidates = torch.randn(B, N, H, size, device=DEVICE)
        objective = ReturnObjective(fused, discount=1.0).numbers()
        short = finished(fused.rollout(start, candidates[:, :, :2], objective, None))
        assert short.score.shape == (B, N)
        torch.testing.assert_close(short.score, short.returns / 2)
