"""The high level in the native runtime: jumps, what is received with them, and whole nodes of a search in one call."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from thick.models.beliefs import Landing
from thick.models.config import ModelConfig
from thick.planning.forests import Rule
from thick.planning.protocols import JumpState, Node
from thick.pytrees import map_arrays
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import batched, chained, numbers, whole
from thick.runtimes.native.low import NativeDynamics, goes_on
from thick.runtimes.native.trees import HEAVY, NARROW, Memos, Trees
from thick.runtimes.native.weights import Weights


class NativeHighLevel:
    """The high level, the coarse path and the coarse heads, over numpy arrays.

    Args:
        weights: of the model.
        config: its sizes.
        low: the low level that it jumps with.
        continuous: whether low-level actions are.
    """

    def __init__(self, weights: Weights, config: ModelConfig, low: NativeDynamics) -> None:
        self._weights, self._low = weights, low
        self.stoch, self.classes, self.context, self.action = low.stoch, low.classes, low.context, low.action
        self.actions, self.continuous = weights.size("levels.0.prior_logit"), low.continuous
        self.gamma, self.max_time = config.discount, config.levels[0].max_time
        record = native.High(low.address, self.actions, int(self.continuous))
        record.max_time, record.log_gamma = (
            self.max_time,
            math.log(self.gamma) if self.gamma > 0 else -math.inf,
        )
        body = ["levels.0.body0"]
        while weights.has(f"levels.0.body{len(body)}"):
            body.append(f"levels.0.body{len(body)}")
        self.prior_chain = weights.chain(
            ["levels.0.prior_hidden", "levels.0.prior_logit"], linear=True, z=True
        )
        record.body = self._body = weights.chain(body, linear=False, z=True)
        record.state = weights.chain(
            ["levels.0.stoch_hidden", "levels.0.stoch_logit"], linear=True, logits=True
        )
        record.act = self._head(weights, "levels.0.action_head")
        record.time = self._head(weights, "levels.0.time_head")
        record.segment = self._segment = self._head(weights, "levels.0.reward_head")
        record.summary = weights.chain(weights.layers("world.dynamics.ctxt_head"), linear=True, z=True)
        coarse = ["world.dynamics.ctxt_img_out", "world.dynamics.ctxt_img_logit"]
        record.coarse = weights.chain(coarse, linear=True, z=True, logits=True)
        heads = {
            "reward": "world.coarse_heads.reward",
            "discount": "world.coarse_heads.discount",
            "critic": "behaviour.coarse_critic",
        }
        self.chains: dict[str, Any] = {
            key: weights.chain(weights.layers(name), linear=True, z=True)
            for key, name in heads.items()
            if weights.layers(name)
        }
        record.reward = self.chains["reward"]
        if "discount" in self.chains:
            record.discount = self.chains["discount"]
        self.record = record
        bulk = sum(
            part.layer[i].inputs * part.layer[i].outputs
            for part in self._jump_chains()
            for i in range(part.layers)
        )
        self.ahead = max(1, NARROW // self.actions) if 4 * bulk > HEAVY else 1
        """states that a search expands together"""
        self.templates: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        """of the records of searches, by their sizes"""
        self._memos = Memos(self)
        self.known = Known(self._memos)
        self.address = ctypes.addressof(record)
        self._width = self.lead

    @staticmethod
    def _head(weights: Weights, name: str) -> Any:
        return weights.chain([*weights.layers(f"{name}.mlp"), f"{name}.out"], linear=True)

    def _jump_chains(self) -> list[Any]:
        """What is computed for a jump."""
        names = ("body", "state", "act", "time", "segment", "summary", "coarse", "reward", "discount")
        return [getattr(self.record, name) for name in names]

    @property
    def lead(self) -> int:
        """Floats of a row of every buffer."""
        most = max(self._weights.widest, self.context + self.actions, self.action + self.context)
        return max(native.padded(most + native.COLUMNS), self._low.lead)

    def prior(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Logits of p(A | s), ``[*B, G]``."""
        return chained(self.prior_chain, self.lead, stoch, context, self.classes)

    def segment_return(self, stoch: np.ndarray, context: np.ndarray, high_action: np.ndarray) -> np.ndarray:
        """R of a high-level action ``[*B]``, without the rest of the jump."""
        chosen = (high_action[..., None] == np.arange(self.actions)).astype(np.float32)
        body = chained(self._body, self.lead, stoch, np.concatenate([context, chosen], -1), self.classes)
        return chained(self._segment, self.lead, None, body)[..., 0]

    def jump(
        self,
        stoch: np.ndarray,
        context: np.ndarray,
        high_action: np.ndarray,
        uniforms: np.ndarray | None = None,
    ) -> Landing:
        """From now to just after the next change (maths: one jump of the high level).

        Args:
            stoch: ``[*B, S]``.
            context: ``[*B, C]``.
            high_action: ``[*B]`` int64.
            uniforms: ``[*B, 2·S]`` to sample both states; None takes their modes.
        """
        lead = stoch.shape[:-1]
        actions = whole(high_action, lead, self.actions)
        drawn = None if uniforms is None else numbers(uniforms, (*lead, 2 * self.stoch))
        return self._jump(stoch, context, lead, 1, actions, drawn)

    def _jump(
        self,
        stoch: np.ndarray,
        context: np.ndarray,
        lead: tuple[int, ...],
        each: int,
        actions: np.ndarray | None,
        uniforms: np.ndarray | None,
    ) -> Landing:
        """Jumps ``[*lead]``, ``each`` of them one after the other from the same state."""
        z = whole(stoch, (*stoch.shape[:-1], self.stoch), self.classes)
        c = numbers(context, (*stoch.shape[:-1], self.context))

        def made(*shape: int) -> np.ndarray:
            return np.empty((*lead, *shape), np.float32)

        landing = Landing(
            logits_before=made(self.stoch, self.classes),
            stoch_before=np.empty((*lead, self.stoch), np.int64),
            action=made(self.action),
            stoch=np.empty((*lead, self.stoch), np.int64),
            context=made(self.context),
            gates=made(self.context),
            elapsed=made(),
            segment=made(),
            reward=made(),
            continuation=made(),
        )
        job = native.JumpRows(
            self.address,
            each,
            native.address(z),
            0 if actions is None else native.address(actions),
            native.address(c),
            0 if uniforms is None else native.address(uniforms),
            *(native.address(landing[index]) for index in (0, 1, 3, 2, 4, 5, 6, 7, 8, 9)),
        )
        native.run(native.JUMP, job, batched(lead), self.lead)
        return landing

    def outcome(self, stoch: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reward and probability that the episode goes on, from the coarse heads; ``[*B]`` (1 without such a head)."""
        reward = self.arrival(stoch, context)
        if "discount" not in self.chains:
            return reward, np.ones_like(reward)
        logits = chained(self.chains["discount"], self.lead, stoch, context, self.classes)[..., 0]
        return reward, goes_on(logits, self.gamma)

    def arrival(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Reward received on arriving, from the coarse head; ``[*B]``."""
        return chained(self.chains["reward"], self.lead, stoch, context, self.classes)[..., 0]

    @property
    def has_critic(self) -> bool:
        """Whether the checkpoint has a coarse critic."""
        return "critic" in self.chains

    def value(self, stoch: np.ndarray, context: np.ndarray) -> np.ndarray:
        """The coarse critic's value, ``[*B]``."""
        assert "critic" in self.chains, "the checkpoint has no coarse critic"
        return chained(self.chains["critic"], self.lead, stoch, context, self.classes)[..., 0]

    def expand(self, state: JumpState, *, critic: bool) -> Node:
        """What is known of states ``[*B]`` and of all their jumps (:class:`thick.planning.protocols.Expansion`)."""
        kind = (critic, native.instructions())
        lead = state.stoch.shape[:-1]
        if lead == (1,):  # one session's search asks again and again
            key = (*(x.tobytes() for x in state[:3]), *kind)
            node = self.known.get(key)
            if node is None:
                node = self._expand(state, 1, critic)
                self.known.keep({key: node})
            return node
        count = batched(lead)
        flat = map_arrays(lambda x: np.ascontiguousarray(x).reshape(count, *x.shape[len(lead) :]), state)
        keys = [(*(x[i].tobytes() for x in flat[:3]), *kind) for i in range(count)]
        found = {key: node for key in keys if (node := self.known.get(key)) is not None}
        new = {key: i for i, key in enumerate(keys) if key not in found}
        if new:
            rows = list(new.values())
            node = self._expand(map_arrays(lambda x: x[rows], flat), len(rows), critic)
            made = {key: map_arrays(lambda x, i=i: x[i : i + 1], node) for i, key in enumerate(new)}
            found.update(made)
            self.known.keep(made)
        each = [found[key] for key in keys]
        return map_arrays(lambda *x: np.concatenate(x).reshape(*lead, *x[0].shape[1:]), *each)

    def forest(self, root: JumpState, rule: Rule, *, simulations: int, depth: int, critic: bool) -> Trees:
        """Trees that are searched by the kernels (:class:`thick.planning.forests.Forester`)."""
        return Trees(self, self._memos, root, rule, simulations=simulations, depth=depth, critic=critic)

    def _expand(self, state: JumpState, rows: int, critic: bool) -> Node:
        """The same for states ``[N]``, computed."""
        z = whole(state.stoch, (rows, self.stoch), self.classes)
        c, arrival = numbers(state.context, (rows, self.context)), numbers(state.reward, (rows,))
        each, address = self.actions, native.address
        jumps = rows * each
        room = np.empty(jumps * (self.action + 2 * self.context + 7) + rows, np.float32)
        stoch = np.empty((2, rows, each, self.stoch), np.int64)  # before the change, and after it
        begin, step, first = address(room), 4 * jumps, address(stoch)
        single = [begin + step * index for index in range(7)]  # one number for each jump, then several
        context = begin + 7 * step
        gates, action = context + step * self.context, context + 2 * step * self.context
        job = native.ExpandRows(
            native.JumpRows(
                self.address,
                each,
                address(z),
                0,
                address(c),
                0,
                0,
                first,
                first + 8 * jumps * self.stoch,
                action,
                context,
                gates,
                *single[:4],
            ),
            ctypes.addressof(self.prior_chain),
            address(arrival),
            *single[4:],
            begin + 4 * (len(room) - rows),
        )
        native.run(native.EXPAND, job, rows, each * self._width, tile=max(1, native.TILE // each))
        value = self.value(z, c) if critic else room[len(room) - rows :]
        elapsed, _, reward, _, prior, edge, fade = room[: 7 * jumps].reshape(7, rows, each)
        landed = room[7 * jumps : (7 + self.context) * jumps].reshape(rows, each, self.context)
        return Node(prior, value, edge, fade, JumpState(stoch[1], landed, reward, elapsed))


class Known:
    """Nodes of searches over jumps that were computed lately, by the bits of their states: different ways often lead to
    the same state, and a state's bits depend on nothing else."""

    MOST = 2048

    def __init__(self, memos: Memos | None = None) -> None:
        self._lock = threading.Lock()
        self._memos = memos
        self._nodes: dict[Any, Node] = {}
        self.get = self._nodes.get

    def clear(self) -> None:
        """Forget all nodes, also those of trees that the kernels search."""
        self._nodes.clear()
        if self._memos is not None:
            self._memos.clear()

    def keep(self, nodes: Mapping[Any, Node]) -> None:
        """Remember nodes; the oldest are forgotten where there would be too many."""
        with self._lock:
            self._nodes.update(nodes)
            while len(self._nodes) > self.MOST:
                del self._nodes[next(iter(self._nodes))]
