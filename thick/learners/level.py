"""The part that trains a level of the hierarchy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from thick.learners.parts import Group, Losses, Shared, Stateless
from thick.models.batch import Batch
from thick.models.beliefs import State
from thick.models.config import LevelConfig
from thick.models.dynamics.crssm import CRSSM
from thick.models.hierarchy.level import HighLevel, SegmentBatch
from thick.models.hierarchy.segments import at_segment_end, segment_ends, segment_targets
from thick.models.world_model import WorldModel


class LevelPart(Stateless):
    """A level from the segments between context changes (THICK, equation 9); nothing reaches the world model.

    Args:
        name: of the part.
        level: what is trained.
        world: whose contexts change.
        config: of the level.
        lr: learning rate.
    """

    def __init__(
        self, name: str, level: HighLevel, world: WorldModel, config: LevelConfig, *, lr: float
    ) -> None:
        self.name, self.level, self.world, self.config, self._lr = name, level, world, config, lr

    def groups(self) -> dict[str, Group]:
        """All of the level."""
        return {self.name: Group(list(self.level.parameters()), self._lr)}

    def scales(self, update: int) -> Mapping[str, float]:
        """The configured weights."""
        return asdict(self.config.loss)

    def losses(self, shared: Shared) -> Losses:
        """Losses of the level on the batch's segments."""
        segments = segment_batch(self.world, self.config, shared.batch, shared.posterior)
        return Losses(*self.level.losses(segments, balance=self.config.kl_balance))


def segment_batch(world: WorldModel, config: LevelConfig, batch: Batch, posterior: State) -> SegmentBatch:
    """What the first level is trained to predict of filtered states ``[B, T, ...]`` without gradient."""
    dynamics = world.dynamics
    assert isinstance(dynamics, CRSSM)
    gates = dynamics.changes(posterior, batch.is_first)
    ends = segment_ends(gates, batch.is_terminal, config.segment_ends)
    reward = world.target_reward(batch.reward)
    segments = segment_targets(ends, batch.is_first, reward, world.config.discount)
    return SegmentBatch(
        posterior.stoch[:, :-1],
        posterior.context[:, :-1],
        at_segment_end(posterior.context, segments),
        at_segment_end(posterior.stoch, segments, offset=-1),
        at_segment_end(posterior.logits, segments, offset=-1),
        at_segment_end(batch.action, segments),
        segments.elapsed,
        segments.returns,
        segments.mask,
    )
