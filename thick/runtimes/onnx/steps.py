"""The single steps of a model as ONNX graphs: what an agent asks for, one graph each.

Inputs and outputs are called as the fields of :class:`thick.models.beliefs.Belief` and
:class:`~thick.models.beliefs.Landing`; entries of an observation ``observation`` or ``observation.KEY``. Where a model
has no context, or no such head, its graphs have no such input or output. A negative number among ``uniforms`` takes the
mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from thick.models.config import ModelConfig
from thick.runtimes import parts
from thick.runtimes.onnx.graph import Graph, Place
from thick.runtimes.onnx.layers import (
    dense,
    draw,
    gatel0rd,
    goes_on,
    gru,
    hidden,
    mlp,
    one_hots,
    scalar,
    spread,
)
from thick.runtimes.onnx.names import graph_names
from thick.runtimes.onnx.observations import decode, encode


class Moved(NamedTuple):
    """h, c and gates after a step, as values of a graph; c and gates only where there is a context."""

    deter: str
    context: list[str]
    gates: list[str]


class Steps:
    """The graphs of a model.

    Args:
        config: the model's configuration.
        observation_space: its space.
        action: size of an action, A.
        continuous: whether actions are.
        tensors: where its weights lie.
    """

    def __init__(
        self,
        config: ModelConfig,
        observation_space: Any,
        *,
        action: int,
        continuous: bool,
        tensors: Mapping[str, Place],
    ) -> None:
        self.config, self.space, self.action, self.continuous = config, observation_space, action, continuous
        self.tensors = tensors
        self.context = 0 if config.dynamics == "rssm" else config.context

    def write(self) -> dict[str, bytes]:
        """Every graph that the model has, by name."""
        made = {}
        for name in graph_names(self.config):
            graph = Graph(name, self.tensors)
            getattr(self, f"_{name}")(graph)
            made[name] = graph.serialized()
        return made

    def _has(self, name: str) -> bool:
        return bool(parts.layers(self.tensors, name))

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _z(self, g: Graph) -> str:
        """z as one-hots."""
        return self._hot(g, g.input("stoch", self.config.stoch, dtype=np.int64))

    def _hot(self, g: Graph, stoch: str) -> str:
        return one_hots(g, stoch, self.config.stoch, self.config.classes)

    def _memory(self, g: Graph) -> tuple[str, list[str]]:
        """h, and c where there is one."""
        deter = g.input("deter", self.config.deter)
        return deter, [g.input("context", self.context)] if self.context else []

    def _fine(self, g: Graph) -> str:
        """The feature ``[z, h, c]``."""
        z = self._z(g)
        deter, context = self._memory(g)
        return g.concat(z, deter, *context)

    def _coarse(self, g: Graph) -> str:
        """The feature ``[z, c]``."""
        return g.concat(self._z(g), g.input("context", self.context))

    # -- the low level -----------------------------------------------------------------------------------------------

    def _encode(self, g: Graph) -> None:
        g.output("embedding", encode(g, self.space), self._embedded)

    @property
    def _embedded(self) -> int:
        read = self.tensors["world.dynamics.obs_out.weight"].shape[1]
        return read - (0 if self.config.posterior == "observation" else self.config.deter + self.context)

    def _observe(self, g: Graph) -> None:
        moved = self._move(g)
        embedding = g.input("embedding", self._embedded)
        seen = [] if self.config.posterior == "observation" else [*moved.context, moved.deter]
        read = hidden(g, "world.dynamics.obs_out", *seen, embedding)
        self._believe(g, moved, dense(g, "world.dynamics.obs_logit", read))

    def _imagine(self, g: Graph) -> None:
        moved = self._move(g)
        read = hidden(g, "world.dynamics.img_out", moved.deter, *moved.context)
        stoch = self._believe(g, moved, dense(g, "world.dynamics.img_logit", read))
        self._received(g, "world.heads", g.concat(self._hot(g, stoch), moved.deter, *moved.context))

    def _move(self, g: Graph) -> Moved:
        z = self._z(g)
        deter, context = self._memory(g)
        x = hidden(g, "world.dynamics.img_in", z, g.input("action", self.action))
        gates = []
        if context:
            updated, opened = gatel0rd(g, x, context[0], self.config)
            context, gates = [updated], [opened]
        return Moved(gru(g, x, g.concat(*context, deter), deter, self.config), context, gates)

    def _believe(self, g: Graph, moved: Moved, logits: str) -> str:
        """The belief that a step leads to, as outputs; returns its z."""
        groups, classes = self.config.stoch, self.config.classes
        stoch = draw(g, logits, g.input("uniforms", groups), groups, classes, unimix=self.config.unimix)
        g.output("stoch_after", stoch, groups, dtype=np.int64)
        g.output("logits_after", g.reshape(logits, groups, classes), groups, classes)
        g.output("deter_after", moved.deter, self.config.deter)
        for name, values in (("context_after", moved.context), ("gates_after", moved.gates)):
            for value in values:
                g.output(name, value, self.context)
        return stoch

    def _received(self, g: Graph, heads: str, feature: str) -> None:
        g.output("reward", scalar(g, f"{heads}.reward", feature, self.config))
        if self._has(f"{heads}.discount"):
            g.output("continuation", goes_on(g, mlp(g, f"{heads}.discount", feature), self.config))

    def _outcome(self, g: Graph) -> None:
        self._received(g, "world.heads", self._fine(g))

    def _value(self, g: Graph) -> None:
        g.output("value", scalar(g, "behaviour.critic", self._fine(g), self.config))

    def _policy(self, g: Graph) -> None:
        self._acted(g, mlp(g, "behaviour.actor.mlp", self._fine(g)))

    def _acted(self, g: Graph, output: str) -> None:
        if not self.continuous:
            g.output("logits", output, self.action)
            return
        mean, deviation = spread(g, output, self.action)
        g.output("mean", mean, self.action)
        g.output("deviation", deviation, self.action)

    def _decode(self, g: Graph) -> None:
        decode(g, "world.heads", self.space, self._fine(g))

    def _coarse_decode(self, g: Graph) -> None:
        decode(g, "world.coarse_heads", self.space, self._coarse(g))

    # -- a manager and its worker ------------------------------------------------------------------------------------

    def _goal(self, g: Graph) -> None:
        codes, classes = self.config.goals.codes, self.config.goals.classes
        logits = mlp(g, "director.manager", self._fine(g))
        code = draw(g, logits, g.input("uniforms", codes), codes, classes)
        goal = mlp(g, "director.autoencoder.decoder", one_hots(g, code, codes, classes))
        g.output("goal_after", goal, self._goals)

    @property
    def _goals(self) -> int:
        return self.config.deter + self.context

    def _worker(self, g: Graph) -> None:
        self._acted(g, mlp(g, "director.worker.mlp", self._fine(g), g.input("goal", self._goals)))

    def _manager_value(self, g: Graph) -> None:
        g.output("value", scalar(g, "director.manager_critic", self._fine(g), self.config))

    # -- the high level ----------------------------------------------------------------------------------------------

    def _prior(self, g: Graph) -> None:
        read = hidden(g, "levels.0.prior_hidden", self._coarse(g))
        g.output("logits", dense(g, "levels.0.prior_logit", read), self.config.levels[0].actions)

    def _body(self, g: Graph, state: str) -> str:
        chosen = g.input("high_action", dtype=np.int64)
        x = g.concat(
            state, one_hots(g, g("Unsqueeze", chosen, g.whole(-1)), 1, self.config.levels[0].actions)
        )
        count = 0
        while f"levels.0.body{count}.weight" in self.tensors:
            x, count = hidden(g, f"levels.0.body{count}", x), count + 1
        return x

    @staticmethod
    def _head(g: Graph, name: str, x: str) -> str:
        return dense(g, f"{name}.out", mlp(g, f"{name}.mlp", x))

    def _segment(self, g: Graph) -> None:
        g.output("segment", g.squeeze(self._head(g, "levels.0.reward_head", self._body(g, self._coarse(g)))))

    def _jump(self, g: Graph) -> None:
        config, groups, classes = self.config, self.config.stoch, self.config.classes
        z, context = self._z(g), g.input("context", self.context)
        x = self._body(g, g.concat(z, context))
        first, second = g.split(g.input("uniforms", 2 * groups), [groups] * 2)
        logits = dense(g, "levels.0.stoch_logit", hidden(g, "levels.0.stoch_hidden", x))
        before = draw(g, logits, first, groups, classes)
        action = self._head(g, "levels.0.action_head", x)
        if self.continuous:
            action = g("Tanh", action)
        else:
            action = one_hots(g, g("ArgMax", action, axis=-1, keepdims=1), 1, self.action)
        time = g("Relu", g.squeeze(self._head(g, "levels.0.time_head", x)))
        time = g("Min", time, g.number(config.levels[0].max_time))
        z_before = self._hot(g, before)
        updated, gates = gatel0rd(g, hidden(g, "world.dynamics.img_in", z_before, action), context, config)
        summary = mlp(g, "world.dynamics.ctxt_head", z_before, action, updated)
        coarse = hidden(g, "world.dynamics.ctxt_img_out", z_before, summary)
        landed = dense(g, "world.dynamics.ctxt_img_logit", coarse)
        stoch = draw(g, landed, second, groups, classes, unimix=config.unimix)
        g.output("logits_before", g.reshape(logits, groups, classes), groups, classes)
        g.output("stoch_before", before, groups, dtype=np.int64)
        g.output("action", action, self.action)
        g.output("stoch_after", stoch, groups, dtype=np.int64)
        g.output("context_after", updated, self.context)
        g.output("gates_after", gates, self.context)
        g.output("elapsed", g("Add", time, g.number(1)))
        g.output("segment", g.squeeze(self._head(g, "levels.0.reward_head", x)))
        self._received(g, "world.coarse_heads", g.concat(self._hot(g, stoch), updated))

    def _coarse_outcome(self, g: Graph) -> None:
        self._received(g, "world.coarse_heads", self._coarse(g))

    def _coarse_value(self, g: Graph) -> None:
        g.output("value", scalar(g, "behaviour.coarse_critic", self._coarse(g), self.config))
