"""Director's manager and worker, frozen for acting; must agree with the trained modules, tests hold this."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thick.models.beliefs import Belief
from thick.models.networks import AgentNetworks
from thick.runtimes.torch.frozen import Chain, Head, by_session, draw, one_hots, sigmoid


class FrozenManager:
    """Choosing goals and acting towards them, in fp32.

    Args:
        model: the trained model, with Director's networks.
    """

    def __init__(self, model: AgentNetworks) -> None:
        networks, config = model.director, model.config
        assert networks is not None, "the model has no manager"
        sizes: dict[str, Any] = {"stoch": config.stoch, "classes": config.classes, "dtype": torch.float32}
        self.every, self.draws = config.goals.every, config.goals.codes
        self.size = config.deter + model.world.dynamics.context
        self.continuous, self._classes = model.world.continuous, config.goals.classes
        self._choice, self._worker = Head(networks.manager, **sizes), Head(networks.worker.mlp, **sizes)
        self._critic = Head(networks.manager_critic, **sizes)
        self._decoder = Chain(networks.autoencoder.decoder, torch.float32)

    def goal(self, belief: Belief, uniforms: Tensor) -> Tensor:
        """Goals ``[*B, D]`` that the manager draws, by uniform numbers ``[*B, draws]``."""
        (logits,) = by_session(self._choice, belief.stoch, _memory(belief))
        code = draw(logits.unflatten(-1, (self.draws, self._classes)), uniforms)
        return by_session(self._decoded, one_hots(code, self._classes, logits))[0]

    def _decoded(self, code: Tensor) -> tuple[Tensor]:
        return (self._decoder(code),)

    def policy(self, belief: Belief, goal: Tensor) -> tuple[Tensor, Tensor | None]:
        """The worker on the way to goals ``[*B, D]``: logits ``[*B, A]`` and None, or mean and standard deviation."""
        (output,) = by_session(self._worker, belief.stoch, torch.cat([_memory(belief), goal], -1))
        if not self.continuous:
            return output, None
        mean, spread = output.chunk(2, -1)
        return torch.tanh(mean), 2 * sigmoid(spread / 2) + 0.1

    def value(self, belief: Belief) -> Tensor:
        """Expected return ``[*B]``, discounted goal by goal: the manager's critic knows the mean reward of a step."""
        return self.every * by_session(self._critic, belief.stoch, _memory(belief))[0].squeeze(-1)


def _memory(belief: Belief) -> Tensor:
    return torch.cat([belief.deter, belief.context], -1)
