"""Trees on the host over a model that answers several levels at once: the same trees as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.models.sizes import ACTIONS, SPACES, model
from tests.planning.models import BUDGET, seen
from tests.planning.toys import randomness
from thick.planning import table
from thick.planning.ahead import AheadModel
from thick.planning.jumps import JumpModel
from thick.planning.protocols import Lookahead
from thick.planning.settings import PlannerSettings
from thick.runtimes.torch.agents import torch_agent
from thick.runtimes.torch.gpu.lookahead import LookaheadHighLevel


def ahead_of(seed: int = 0, **changes: Any) -> Any:
    """A high level that looks ahead, and the same that does not."""
    networks = model(SPACES["vector"], ACTIONS["discrete"], seed, **changes)
    agent = torch_agent(networks, planner=BUDGET, precision="fp32")
    plain = agent.model.high
    agent.model.levels = [LookaheadHighLevel(networks)]
    return agent, agent.model.levels[0], plain


@pytest.mark.parametrize("high", ["mcts", "gumbel", "tree", "prior"])
@pytest.mark.parametrize("rows", [1, 30, 1024])
def test_a_search_over_places_is_the_search_over_states(high: str, rows: int) -> None:
    agent, looking, plain = ahead_of()
    looking.rows = rows
    assert isinstance(looking, Lookahead) and not isinstance(plain, Lookahead)
    count, low = 3, agent.model.exact
    stoch = torch.randint(low.classes, (count, low.stoch), generator=torch.Generator().manual_seed(1))
    context = torch.randn(count, low.context, generator=torch.Generator().manual_seed(2))
    settings = PlannerSettings(simulations=40, depth=5, high=high)
    noise = randomness(*range(count))
    found = table.build("high", high, AheadModel(looking, stoch, context), settings, noise.on_host())
    wanted = table.build("high", high, JumpModel(plain, stoch, context), settings, noise)
    for search in (found, wanted):
        while not search.done:
            search.step()
    assert found.simulations_done == wanted.simulations_done
    np.testing.assert_array_equal(np.asarray(found.root_visits), wanted.root_visits.numpy())
    np.testing.assert_allclose(np.asarray(found.root_values), wanted.root_values.numpy(), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(found.best()), wanted.best().numpy())
    ours, theirs = found.path(), wanted.path()
    np.testing.assert_array_equal(np.asarray(ours.actions), theirs.actions.numpy())
    elapsed = np.asarray(found.states(ours.nodes).elapsed)
    np.testing.assert_allclose(elapsed, wanted.states(theirs.nodes).elapsed.numpy(), atol=1e-4)


def test_a_tree_asks_its_model_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    _, looking, _ = ahead_of()
    low = torch.zeros(1, looking.stoch, dtype=torch.int64)
    asked = []
    plain = LookaheadHighLevel.look_ahead
    monkeypatch.setattr(
        LookaheadHighLevel, "look_ahead", lambda self, *x, **y: asked.append(1) or plain(self, *x, **y)
    )
    settings = PlannerSettings(simulations=60, depth=6, high="mcts")
    search = table.build(
        "high",
        "mcts",
        AheadModel(looking, low, torch.zeros(1, looking.context)),
        settings,
        randomness(0).on_host(),
    )
    while not search.done:
        search.step()
    assert len(asked) < 15


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_act_is_the_same(temperature: float) -> None:
    agent, looking, plain = ahead_of()

    def act(high: Any) -> Any:
        agent.model.levels = [high]
        first, keys = torch.ones(3, dtype=torch.bool), torch.arange(3)
        state = agent.observe(agent.initial(3), seen(agent, 3), is_first=first, keys=keys)
        settings = agent.settings({"temperature": temperature, "exploration": 0.3 if temperature else 0.0})
        return agent.act(state, settings, keys=keys)

    found, wanted = act(looking), act(plain)
    assert torch.equal(found.action, wanted.action)
    for ours, theirs in zip(found.found.memory.levels, wanted.found.memory.levels, strict=True):
        assert torch.equal(ours.actions, theirs.actions) and torch.equal(ours.visits, theirs.visits)
        torch.testing.assert_close(ours.durations, theirs.durations)
        torch.testing.assert_close(ours.values, theirs.values, atol=1e-5, rtol=1e-5)
