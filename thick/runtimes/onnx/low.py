"""The low level in the ONNX runtime: one imagined or observed step, and the heads on what it leads to."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from thick.models.beliefs import Belief
from thick.models.config import ModelConfig
from thick.runtimes.onnx.sessions import Step
from thick.runtimes.parts import one_hots, unseen


class OnnxDynamics:
    """One imagined step of an RSSM or C-RSSM and the heads on what it leads to, over numpy arrays.

    Args:
        graphs: of the model, by name.
        config: its sizes.
    """

    def __init__(self, graphs: Mapping[str, Step], config: ModelConfig) -> None:
        self._graphs = graphs
        self.stoch, self.classes, self.deter = config.stoch, config.classes, config.deter
        self.context = 0 if config.dynamics == "rssm" else config.context
        self.gamma = config.discount
        self._latest = threading.local()

    @property
    def draws(self) -> int:
        """Uniform numbers of one imagined step."""
        return self.stoch

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen: z is -1, which stands for the zero vector."""
        return unseen(batch, stoch=self.stoch, classes=self.classes, deter=self.deter, context=self.context)

    def imagine(self, belief: Belief, action: np.ndarray, uniforms: np.ndarray | None = None) -> Belief:
        """The belief after ``action`` ``[*B, A]``; z is drawn from the fine prior, or its mode without uniforms."""
        lead = belief.stoch.shape[:-1]
        drawn = modes(*lead, self.stoch) if uniforms is None else uniforms
        made = self._graphs["imagine"](*lead, **state(belief), action=action, uniforms=drawn)
        after = self.belief(made)
        # Planners ask next what was received on the way: the same graph knows.
        self._latest.known = after.logits, made["reward"], made.get("continuation")
        return after

    def belief(self, made: Mapping[str, np.ndarray]) -> Belief:
        """A belief from the outputs of a graph."""
        stoch = made["stoch_after"]
        nothing = np.zeros((*stoch.shape[:-1], self.context), np.float32)
        return Belief.of(
            stoch,
            made["logits_after"],
            made["deter_after"],
            made.get("context_after", nothing),
            made.get("gates_after", nothing),
        )

    def features(self, belief: Belief) -> np.ndarray:
        """Fine feature ``[z, h, c]``, ``[*B, S·K + H + C]``, with z as one-hots (zero where it is -1)."""
        return np.concatenate([one_hots(belief.stoch, self.classes), belief.deter, belief.context], -1)

    def outcome(self, belief: Belief) -> tuple[np.ndarray, np.ndarray | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``."""
        known = getattr(self._latest, "known", None)
        if known is not None and known[0] is belief.logits:
            return known[1], known[2]
        made = self._ask("outcome", belief)
        return made["reward"], made.get("continuation")

    @property
    def has_actor(self) -> bool:
        """Whether the checkpoint has an actor and a critic."""
        return "policy" in self._graphs

    def value(self, belief: Belief) -> np.ndarray:
        """The critic's value ``[*B]``: expected return from here on, without the reward of arriving."""
        return self._ask("value", belief)["value"]

    def policy(self, belief: Belief) -> tuple[np.ndarray, np.ndarray | None]:
        """The actor: logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""
        return acted(self._ask("policy", belief))

    def _ask(self, name: str, belief: Belief) -> dict[str, np.ndarray]:
        assert name in self._graphs, f"the checkpoint has no {name}"
        return self._graphs[name](*belief.stoch.shape[:-1], **state(belief))


def state(belief: Belief) -> dict[str, np.ndarray]:
    """z, h and c as inputs of graphs."""
    return {"stoch": belief.stoch, "deter": belief.deter, "context": belief.context}


def acted(made: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits and None, or mean and standard deviation, from the outputs of a graph."""
    return (made["logits"], None) if "logits" in made else (made["mean"], made["deviation"])


def modes(*shape: int) -> np.ndarray:
    """In place of uniform numbers: take the modes."""
    return np.full(shape, -1, np.float32)
