"""A high level on a GPU, where a call costs far more than a row: nodes of several levels of a tree in one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from thick.models.networks import AgentNetworks
from thick.planning.jumps import JumpModel
from thick.planning.protocols import JumpState, Seen
from thick.runtimes.torch.graphs import Captured
from thick.runtimes.torch.high import FrozenHighLevel


class LookaheadHighLevel(FrozenHighLevel):
    """A high level with :class:`thick.planning.protocols.Lookahead`.

    Args:
        model, index: see :class:`~thick.runtimes.torch.high.FrozenHighLevel`.
    """

    def __init__(self, model: AgentNetworks, index: int = 0) -> None:
        super().__init__(model, index)
        self.rows = 2048
        self._looking: dict[tuple[int, bool], Captured] = {}
        # What is asked once an act is one launch, too.
        for name in ("_prior", "_segment", "_jump", "_outcomes"):
            setattr(self, name, Captured(getattr(self, name)))

    def look_ahead(self, state: JumpState, levels: int, *, critic: bool) -> Seen:
        """See :class:`thick.planning.protocols.Lookahead`."""
        actions = self.actions
        look = self._looking.get((levels, critic))
        if look is None:
            look = self._looking[levels, critic] = Captured(partial(self._look, levels, critic))
        numbers, stoch, context, reward = look(state.stoch, state.context, state.reward)
        host = numbers.cpu().numpy()
        nodes, at = [], 0
        for level in range(levels):
            nodes_there = actions**level
            parts: dict[str, Any] = {}
            for name in ("prior", "reward", "discount", "elapsed"):
                parts[name] = host[:, at : at + nodes_there * actions].reshape(-1, actions)
                at += nodes_there * actions
            parts["value"] = host[:, at : at + nodes_there].reshape(-1)
            at += nodes_there
            nodes.append(parts)
        beyond = (x.flatten(0, 1) for x in (stoch, context, reward))
        return Seen(tuple(nodes), *beyond)

    def _look(
        self, levels: int, critic: bool, stoch: Tensor, context: Tensor, reward: Tensor
    ) -> tuple[Tensor, ...]:
        """Numbers ``[M, …]`` of all nodes, level by level, and the states beyond, ``[M, G^levels, …]``."""
        model = JumpModel(self, stoch, context, critic=critic)
        count = stoch.shape[0]
        state = JumpState(stoch, context, reward, torch.zeros_like(reward))
        numbers: list[Tensor] = []
        for _ in range(levels):
            node = model.evaluate(state)
            children: JumpState = node.children
            for part in (node.prior, node.reward, node.discount, children.elapsed, node.value):
                numbers.append(part.reshape(count, -1).float())
            state = JumpState(*(x.flatten(0, 1) for x in children))
        beyond = (x.reshape(count, -1, *x.shape[1:]) for x in (state.stoch, state.context, state.reward))
        return torch.cat(numbers, 1), *beyond
