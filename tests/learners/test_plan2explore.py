"""Plan2Explore against a plain reading of its paper in numpy, and who acts by what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models.sizes import ACTIONS, CONTINUOUS, DISCRETE, VECTOR, batch, model
from thick.behaviours.config import BehaviourConfig, EnsembleConfig
from thick.behaviours.rewards import Disagreement
from thick.learners.ensemble import EnsemblePart, Explorer
from thick.learners.parts import Shared
from thick.models.beliefs import State
from thick.models.networks import AgentNetworks
from thick.training.config import TrainConfig
from thick.training.learner import Learner

SMALL = EnsembleConfig(members=3, layers=2, units=8)
every_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())


def seen(action: Any = DISCRETE, kind: str = "rssm") -> tuple[AgentNetworks, EnsemblePart, Shared]:
    """A small model, an ensemble and a batch that the model has seen."""
    world = model(VECTOR, action, kind=kind)
    part = EnsemblePart(world.world, SMALL)
    for bias in part.ensemble.biases:
        nn.init.normal_(bias, std=0.3)
    data = batch(VECTOR, action)
    return world, part, Shared(data, world.world.observe(data))


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().astype(np.float64)


def plain_predictions(part: EnsemblePart, feature: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Member by member, layer by layer: ``[E, ..., S·K]``."""
    weights, biases = ([array(x) for x in xs] for xs in (part.ensemble.weights, part.ensemble.biases))
    told = []
    for member in range(SMALL.members):
        x = np.concatenate([feature, action], -1)
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = x @ weight[member] + bias[member, 0]
            if layer < SMALL.layers:
                x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        told.append(x)
    return np.stack(told)


@every_action
@pytest.mark.parametrize("kind", ["rssm", "thick"])
def test_prediction_and_disagreement_are_those_of_the_paper(action: Any, kind: str) -> None:
    world, part, shared = seen(action, kind)
    posterior, data = shared.posterior, shared.batch
    found = part.losses(shared)
    feature, stoch = array(world.world.dynamics.features(posterior)), array(posterior.stoch)
    rows, steps = data.reward.shape
    errors = []
    for row in range(rows):
        for step in range(steps - 1):
            if data.is_first[row, step + 1]:
                continue  # another episode: nothing was done that leads there
            told = plain_predictions(part, feature[row, step], array(data.action)[row, step + 1])
            errors.append([((told[e] - stoch[row, step + 1].ravel()) ** 2).sum() / 2 for e in range(3)])
    assert len(errors) == rows * (steps - 1) - rows // 2
    np.testing.assert_allclose(found.terms["prediction"].item(), np.mean(errors), rtol=1e-5)

    # states[0] -> actions[0] -> states[1]: what is not known of states[1] counts for actions[0].
    states = State(*(part.transpose(0, 1) for part in posterior))
    actions = data.action[:, 1:].transpose(0, 1)
    reward = Disagreement(world.world, part.ensemble, 2.0)(states, actions)
    told = plain_predictions(part, feature[:, :-1].swapaxes(0, 1), array(actions))
    mean = told.mean(0)
    spread = np.sqrt(((told - mean) ** 2).mean(0)).mean(-1)
    np.testing.assert_allclose(array(reward), 2.0 * spread, rtol=1e-4)


def test_prediction_teaches_the_ensemble_and_nobody_else() -> None:
    world, part, shared = seen()
    loss = part.losses(shared).terms["prediction"]
    assert all(
        gradient is None
        for gradient in torch.autograd.grad(
            loss, list(world.parameters()), allow_unused=True, retain_graph=True
        )
    )
    assert all(bool(gradient.any()) for gradient in torch.autograd.grad(loss, list(part.parameters())))


def test_members_that_learn_the_same_data_come_to_agree() -> None:
    _, part, shared = seen()
    optimizer = torch.optim.Adam(part.parameters(), 1e-2)
    told = []
    for _ in range(60):
        losses = part.losses(shared)
        told.append((losses.terms["prediction"].item(), losses.metrics["disagreement"].item()))
        optimizer.zero_grad()
        losses.terms["prediction"].backward()
        optimizer.step()
    assert told[-1][0] < 0.7 * told[0][0]
    assert told[-1][1] < 0.7 * told[0][1]


@every_action
def test_an_explorer_comes_to_prefer_what_is_not_known(action: Any) -> None:
    """A flipped sign in the reward, or an actor that learns nothing through it, would fail."""
    world, part, shared = seen(action)
    torch.manual_seed(0)
    reward = Disagreement(world.world, part.ensemble, 10.0)
    explorer = Explorer(world.world, reward, BehaviourConfig(horizon=1))
    # The members differ in what they make of the first action alone, and the more so the more of it there is.
    size = world.world.fine_size
    with torch.no_grad():
        part.ensemble.weights[0].zero_()
        part.ensemble.weights[0][:, size] = torch.tensor([[2.0], [4.0], [6.0]])
        for bias in part.ensemble.biases:
            bias.zero_()
        for target in (explorer.target.out.weight, explorer.target.out.bias):
            target.zero_()
    weights = list(explorer.networks.actor.parameters())
    optimizer = torch.optim.Adam(weights, 1e-2)
    feature = world.world.dynamics.features(shared.starts())

    def first() -> float:
        torch.manual_seed(1)
        return explorer.networks.actor.sample(feature)[:, 0].mean().item()

    before = first()
    for _ in range(40):
        loss = explorer.losses(shared).terms["policy"]
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        optimizer.step()
    assert first() > before + 0.25


@pytest.mark.parametrize("behaviour", ["actor_critic", "none"])
@pytest.mark.parametrize("kind", ["rssm", "crssm", "thick"])
def test_the_explorer_explores_and_the_task_is_done_by_what_is_exported(kind: str, behaviour: str) -> None:
    changes = {"kind": kind, "actor_critic": behaviour == "actor_critic"}
    config = TrainConfig(learner="plan2explore", model=model(VECTOR, **changes).config, ensemble=SMALL)
    learner = Learner(config, VECTOR, DISCRETE)
    names = [part.name for part in learner.parts]
    levels = ["level1"] if kind == "thick" else []
    acting = ["behaviour"] if behaviour == "actor_critic" else []
    assert names == ["world", *levels, "ensemble", "explorer", *acting]
    copy = learner.acting_copy({})
    explorer = copy.agent
    assert explorer.has("policy")
    assert learner.agent({}).has("policy") == bool(acting)
    assert learner.model.behaviour is None or learner.model.behaviour is not learner._recipe.explorer
    # What it explores with are the explorer's weights as they are now.
    with torch.no_grad():
        learner._recipe.explorer.actor.mlp.out.weight.zero_()  # type: ignore[union-attr]
        learner._recipe.explorer.actor.mlp.out.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))  # type: ignore[union-attr]
    copy.renew()
    belief = explorer.model.initial(2)._replace(stoch=np.zeros((2, 4), np.int64))
    logits, _ = copy.agent.model.exact.policy(belief)
    np.testing.assert_allclose(logits, [[0.0, 0.0, 9.0, 0.0]] * 2)


def test_nothing_of_exploration_is_exported() -> None:
    config = TrainConfig(learner="plan2explore", model=model(VECTOR, kind="rssm", actor_critic=True).config)
    names = Learner(config, VECTOR, CONTINUOUS).tensors().keys()
    assert not [
        name for name in names if name.startswith("model.") and ("explorer" in name or "ensemble" in name)
    ]
    assert any(name.startswith("part.explorer.networks.actor.") for name in names)
    assert any(name.startswith("part.ensemble.") for name in names)
