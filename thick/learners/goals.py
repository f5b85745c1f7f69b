"""The part that trains the code for goals."""

from __future__ import annotations

from collections.abc import Mapping

from thick.behaviours.config import DirectorConfig
from thick.learners.parts import Group, Losses, Shared, Stateless
from thick.models.goals import GoalAutoencoder, deterministic


class GoalPart(Stateless):
    """The goal autoencoder, from what was seen; nothing reaches the world model (Director, equation 3).

    Args:
        autoencoder: what is trained.
        config: of Director.
    """

    name = "goals"

    def __init__(self, autoencoder: GoalAutoencoder, config: DirectorConfig) -> None:
        self.autoencoder, self._config = autoencoder, config

    def groups(self) -> dict[str, Group]:
        """Encoder and decoder."""
        return {"goals": Group(list(self.autoencoder.parameters()), self._config.goal_lr)}

    def scales(self, update: int) -> Mapping[str, float]:
        """The configured weight of the KL."""
        return {"reconstruction": 1.0, "kl": self._config.goal_kl}

    def losses(self, shared: Shared) -> Losses:
        """Squared error of the decoded code and its KL to the uniform one, on every state of the batch."""
        error, kl = self.autoencoder.losses(deterministic(shared.posterior))
        return Losses({"reconstruction": error.mean(), "kl": kl.mean()}, {})
