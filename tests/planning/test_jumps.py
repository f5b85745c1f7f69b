"""The high level as a search model: each reward once, and leaves that see the reward at the end of a jump."""

from __future__ import annotations

import torch
from torch import Tensor

from thick.models.beliefs import Landing
from thick.planning.jumps import JumpModel
from thick.planning.mcts import MCTS

GAMMA = 0.9


class Chain:
    """Three cells; action 1 goes on, action 0 stays. Only arriving in the last cell is rewarded (by 1), every jump
    takes two steps, nothing is received on the way."""

    actions, gamma, has_critic = 2, GAMMA, False

    def prior(self, stoch: Tensor, context: Tensor) -> Tensor:
        return torch.tensor([0.25, 0.75]).log().expand(*stoch.shape[:-1], 2)

    def outcome(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        reward = (stoch[..., 0] == 2).float()
        return reward, torch.ones_like(reward)

    def jump(
        self, stoch: Tensor, context: Tensor, high_action: Tensor, uniforms: Tensor | None = None
    ) -> Landing:
        landed = (stoch + high_action.unsqueeze(-1)).clamp_max(2)
        reward, goes_on = self.outcome(landed, context)
        arrived = self.outcome(stoch, context)[0]  # the segment's return begins with the reward of now
        none = torch.zeros(*stoch.shape, 2)
        return Landing(
            none, stoch, none[..., 0], landed, context, context, 2 * goes_on, arrived, reward, goes_on
        )


def test_a_leaf_is_worth_what_one_more_jump_is_expected_to_earn_with_the_reward_at_its_end() -> None:
    model = JumpModel(Chain(), torch.tensor([[0], [1], [2]]), torch.zeros(3, 1))
    node = model.evaluate(model.root())
    reward = GAMMA * torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert torch.allclose(node.reward, reward)
    assert torch.allclose(node.value, torch.tensor([0.0, 0.75 * GAMMA, GAMMA]))
    assert torch.allclose(node.discount, torch.full((3, 2), GAMMA**2))


def test_a_search_of_one_simulation_already_prefers_the_jump_next_to_a_sparse_reward() -> None:
    model = JumpModel(Chain(), torch.tensor([[0]]), torch.zeros(1, 1))
    search = MCTS(model, simulations=2, depth=1)
    while not search.done:
        search.step()
    assert float(search.root_values[0, 1]) > float(search.root_values[0].min()) + 0.1
