"""The low level in the native runtime: one imagined or observed step, and the heads on what it leads to."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.models.beliefs import Belief
from thick.models.config import STEEP_GATE, ModelConfig
from thick.planning.protocols import RolloutObjective, Score, SoFar
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import batched, chained, numbers, whole
from thick.runtimes.native.nodes import Kept
from thick.runtimes.native.rollouts import rollout
from thick.runtimes.native.weights import Weights
from thick.runtimes.parts import one_hots, unseen

if TYPE_CHECKING:
    from thick.planning.randomness import Randomness


class NativeDynamics:
    """One imagined step of an RSSM or C-RSSM and the heads on what it leads to, over numpy arrays.

    Args:
        weights: of the model.
        config: its sizes.
        action: A.
        continuous: whether actions are.
    """

    def __init__(self, weights: Weights, config: ModelConfig, *, action: int, continuous: bool) -> None:
        self._weights = weights
        self.stoch, self.classes, self.deter, self.hidden = (
            config.stoch,
            config.classes,
            config.deter,
            config.hidden,
        )
        self.context = 0 if config.dynamics == "rssm" else config.context
        self.action, self.continuous, self.gamma = action, continuous, config.discount
        flat, h, c = weights.flat, self.deter, self.context
        memory = [(h, h + c), (0, h)]  # a kernel has [c, h] where the trained layers read [h, c]
        feature = [(flat + begin, flat + end) for begin, end in memory]
        record = native.Low(self.stoch, self.classes, h, self.hidden, c, action)
        record.threshold, record.gamma = config.change_threshold if c else 0.0, config.discount
        record.img_in = weights.chain(["world.dynamics.img_in"], linear=False, z=True)
        if c:
            gates = ("world.dynamics.gatel0rd.gate", "world.dynamics.gatel0rd.candidate")
            parts = [(weights.weight(name), weights.bias(name)) for name in gates]
            if config.gates == "shared":  # one hard gate: as many soft ones, too steep to be half open
                weight, bias = (np.repeat(np.float32(STEEP_GATE) * part, c, 0) for part in parts[0])
                parts[0] = weight, bias
            record.gatel0rd = weights.pack([weight for weight, _ in parts], [bias for _, bias in parts])
        gru = weights.weight("world.dynamics.gru"), weights.bias("world.dynamics.gru")
        record.gru = weights.pack(np.split(gru[0], 3), np.split(gru[1], 3))
        record.img_out = weights.dense("world.dynamics.img_out", columns=memory)
        record.img_logit = weights.dense("world.dynamics.img_logit", logits=True)
        if config.posterior == "observation":
            record.obs_embed = weights.dense("world.dynamics.obs_out")
        else:
            embed = weights.weight("world.dynamics.obs_out").shape[1]
            record.obs_memory = weights.dense("world.dynamics.obs_out", columns=[(0, c + h)])
            record.obs_embed = weights.dense("world.dynamics.obs_out", columns=[(c + h, embed)], bias=False)
        record.obs_logit = weights.dense("world.dynamics.obs_logit", logits=True)
        self.embed = int(record.obs_embed.inputs)
        heads = {
            "reward": "world.heads.reward",
            "discount": "world.heads.discount",
            "critic": "behaviour.critic",
            "actor": "behaviour.actor.mlp",
        }
        self.chains: dict[str, Any] = {
            key: weights.chain(weights.layers(name), linear=True, z=True, rest=feature)
            for key, name in heads.items()
            if weights.layers(name)
        }
        record.reward = self.chains["reward"]
        if "discount" in self.chains:
            record.discount = self.chains["discount"]
        self.record = record
        self.address = ctypes.addressof(record)
        self.seconds_per_row = 5e-6
        """of a step of a candidate, as measured lately"""
        self._kept = Kept()

    @property
    def lead(self) -> int:
        """Floats of a row of every buffer: the widest layer, what a step reads, and room for a vector beyond."""
        joint = self.hidden + self.context + self.deter + self.action
        return native.padded(max(self._weights.widest, joint, 2 * self.stoch) + native.COLUMNS)

    @property
    def tile(self) -> int:
        """Rows of a step that are computed together at most: about as many as the cache near a core holds."""
        return max(native.ROWS, min(native.TILE, 50_000 // self.lead // native.ROWS * native.ROWS))

    @property
    def draws(self) -> int:
        """Uniform numbers of one imagined step."""
        return self.stoch

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen: z is -1, which stands for the zero vector."""
        return unseen(batch, stoch=self.stoch, classes=self.classes, deter=self.deter, context=self.context)

    def imagine(self, belief: Belief, action: np.ndarray, uniforms: np.ndarray | None = None) -> Belief:
        """The belief after ``action`` ``[*B, A]``; z is drawn from the fine prior, or its mode without uniforms."""
        return self.step(belief.stoch, belief.deter, belief.context, action, uniforms, None)[0]

    def step(
        self,
        stoch: np.ndarray,
        deter: np.ndarray,
        context: np.ndarray,
        action: np.ndarray,
        uniforms: np.ndarray | None,
        embedding: np.ndarray | None,
    ) -> tuple[Belief, Any]:
        """One imagined step, or an observed one where there is an embedding ``[*B, E]``; and the record of where
        the belief's parts lie."""
        lead = stoch.shape[:-1]
        z = whole(stoch, (*lead, self.stoch), self.classes)
        h, c = numbers(deter, (*lead, self.deter)), numbers(context, (*lead, self.context))
        a = numbers(action, (*lead, self.action))
        u = None if uniforms is None else numbers(uniforms, (*lead, self.stoch))
        e = None if embedding is None else numbers(embedding, (*lead, self.embed))
        made = (
            np.empty((*lead, self.stoch), np.int64),
            np.empty((*lead, self.stoch, self.classes), np.float32),
            np.empty((*lead, self.deter), np.float32),
            np.empty((*lead, self.context), np.float32),
            np.empty((*lead, self.context), np.float32),
        )
        given = [0 if array is None else native.address(array) for array in (z, h, c, a, u, e)]
        job = native.StepRows(self.address, *given, *(native.address(array) for array in made))
        native.run(native.STEP, job, batched(lead), self.lead)
        return Belief.of(*made), job

    def rollout(
        self,
        belief: Belief,
        candidates: np.ndarray,
        objective: RolloutObjective,
        randomness: Randomness | None,
    ) -> Generator[SoFar, None, Score]:
        """Every candidate imagined and scored (:class:`thick.planning.protocols.Rollouts`)."""
        return rollout(self, self._kept, belief, candidates, objective, randomness)

    def features(self, belief: Belief) -> np.ndarray:
        """Fine feature ``[z, h, c]``, ``[*B, S·K + H + C]``, with z as one-hots (zero where it is -1)."""
        return np.concatenate([one_hots(belief.stoch, self.classes), belief.deter, belief.context], -1)

    def outcome(self, belief: Belief) -> tuple[np.ndarray, np.ndarray | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``."""
        memory = self.memory(belief)
        reward = self.head("reward", belief.stoch, memory)[..., 0]
        if "discount" not in self.chains:
            return reward, None
        return reward, goes_on(self.head("discount", belief.stoch, memory)[..., 0], self.gamma)

    @property
    def has_actor(self) -> bool:
        """Whether the checkpoint has an actor and a critic."""
        return "actor" in self.chains

    def value(self, belief: Belief) -> np.ndarray:
        """The critic's value ``[*B]``: expected return from here on, without the reward of arriving."""
        assert "critic" in self.chains, "the checkpoint has no critic"
        return self.head("critic", belief.stoch, self.memory(belief))[..., 0]

    def policy(self, belief: Belief) -> tuple[np.ndarray, np.ndarray | None]:
        """The actor: logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""
        assert "actor" in self.chains, "the checkpoint has no actor"
        output = self.head("actor", belief.stoch, self.memory(belief))
        return self.distribution(output)

    def distribution(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What the actor's last layer ``[*B, O]`` says: logits and None, or mean and standard deviation."""
        if not self.continuous:
            return output, None
        mean, spread = np.split(output, 2, -1)
        return native.map_all(native.TANH, mean), np.float32(2) * native.map_all(
            native.SIGMOID, spread / np.float32(2)
        ) + np.float32(0.1)

    def memory(self, belief: Belief) -> np.ndarray:
        """``[c, h]`` as heads read it, ``[*B, C + H]``."""
        return np.concatenate([belief.context, belief.deter], -1)

    def head(self, name: str, stoch: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Output ``[*B, O]`` of a head."""
        return chained(self.chains[name], self.lead, stoch, rest, self.classes)


def goes_on(logits: np.ndarray, gamma: float) -> np.ndarray:
    """The probability that an episode goes on, from the logits of γ · (1 - is_terminal)."""
    return np.minimum(native.map_all(native.SIGMOID, logits) / np.float32(gamma), np.float32(1))
