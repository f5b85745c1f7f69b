"""The part that trains a world model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from thick.learners.parts import Group, Losses, Shared, Stateless, drawn
from thick.learners.schedules import Schedule
from thick.models.batch import Batch
from thick.models.distributions import bernoulli_log_prob
from thick.models.dynamics.crssm import CRSSM
from thick.models.functions import balanced_kl
from thick.models.world_model import Heads, WorldModel


class WorldPart(Stateless):
    """Encoder, dynamics and heads from the evidence lower bound of a batch (THICK, equations 5 to 8).

    Args:
        world: what is trained.
        lr: learning rate.
        sparsity: β over time.
        kl: weight of both KLs over time.
    """

    name = "world"

    def __init__(self, world: WorldModel, *, lr: float, sparsity: Schedule, kl: Schedule) -> None:
        self.world, self._lr, self._sparsity, self._kl = world, lr, sparsity, kl

    def groups(self) -> dict[str, Group]:
        """All of the world model."""
        return {"world": Group(list(self.world.parameters()), self._lr)}

    def scales(self, update: int) -> Mapping[str, float]:
        """The configured weights of the terms that this world model has, on schedule."""
        scales = asdict(self.world.config.loss)
        scales["sparsity"] *= self._sparsity.at(update)
        for name in ("kl", "coarse_kl"):
            scales[name] *= self._kl.at(update)
        coarse = isinstance(self.world.dynamics, CRSSM)
        return {
            name: scale
            for name, scale in scales.items()
            if (coarse or not name.startswith(("coarse_", "sparsity")))
            and (self.world.config.discount_head or not name.endswith("discount"))
        }

    def losses(self, shared: Shared) -> Losses:
        """Negative log-likelihoods, KLs and, for a C-RSSM, the share of open gates."""
        world, batch, trajectory = self.world, shared.batch, shared.trajectory
        balance, posterior = world.config.kl_balance, trajectory.posterior
        terms = _head_terms(world, world.heads, world.dynamics.features(posterior), batch)
        kl, nats = balanced_kl(posterior.logits, trajectory.prior_logits, balance)
        free = world.config.free_nats
        terms["kl"] = torch.where(nats < free, free + 0 * kl, kl).mean() if free else kl.mean()
        metrics = {"fine_nats": nats.mean()}
        if isinstance(world.dynamics, CRSSM):
            assert world.coarse_heads is not None and trajectory.coarse_logits is not None
            feature = world.dynamics.coarse_features(posterior.stoch, posterior.context)
            coarse = _head_terms(world, world.coarse_heads, feature, batch, share=world.config.coarse_decoded)
            terms |= {f"coarse_{name}": term for name, term in coarse.items()}
            kl, _ = balanced_kl(posterior.logits, trajectory.coarse_logits, balance)
            terms["coarse_kl"] = kl.mean()
            terms["sparsity"] = openings(posterior.gates, batch.is_first, free=world.config.free_openings)
            # From the second step on: where a window goes on from a stored state, that before the first is not here.
            inside = 1 - batch.is_first[:, 1:].float()
            opened = (world.dynamics.changes(posterior, batch.is_first) > 0).any(-1)[:, 1:].float()
            metrics["context_change"] = ((opened * inside).sum() / inside.sum().clamp_min(1)).detach()
        return Losses(terms, metrics)


def openings(gates: Tensor, is_first: Tensor, *, free: float) -> Tensor:
    """Mean share of open gates; with free openings, what a window has of them beyond its budget.

    Opening is then no loss until the budget is used, so that a gate can be tried out. A closed budget asks for sparse
    gates all the same. The first step of an episode, on which a context is written from nothing, is not counted.

    Args:
        gates: ``[B, T, C]``.
        is_first: ``[B, T]``.
        free: share of a window's steps.
    """
    if free == 0:
        return gates.mean()
    inside = 1 - is_first.to(gates.dtype)
    counted = (gates.mean(-1) * inside).sum(1)  # [B]
    steps = gates.shape[1]
    return torch.relu(counted - free * steps).mean() / steps


def drawn_steps(
    feature: Tensor, observation: dict[str, Tensor], share: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """A share of the steps of a batch, without repetition: a mean over them is one over all steps, in expectation.

    Args:
        feature: ``[B, T, F]``.
        observation: ``[B, T, ...]`` by entry.
        share: of the B·T steps; at least one is drawn, and with 1 all come back as they are.

    Returns:
        Feature ``[N, F]`` and observation ``[N, ...]`` of the same steps.
    """
    if share >= 1:
        return feature, observation
    index = drawn(feature.shape[0] * feature.shape[1], share, feature.device)
    return feature.flatten(0, 1)[index], {
        name: each.flatten(0, 1)[index] for name, each in observation.items()
    }


def _head_terms(
    world: WorldModel, heads: Heads, feature: Tensor, batch: Batch, *, share: float = 1.0
) -> dict[str, Tensor]:
    seen, observation = drawn_steps(feature, batch.observation, share)
    decoded = heads.decoder.log_prob(heads.decoder(seen), observation)
    reward = heads.reward.log_prob(feature, world.target_reward(batch.reward))
    terms = {"decoder": -decoded.mean(), "reward": -reward.mean()}
    if heads.discount is not None:
        target = world.config.discount * (1 - batch.is_terminal.float())
        going_on = bernoulli_log_prob(heads.discount(feature).squeeze(-1), target)
        terms["discount"] = -going_on.mean()
    return terms
