"""The high level of the bundled room in JAX, searched by mctx (DeepMind): the same weights, compiled, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from benchmarks.peers.actions import ENTRY
from benchmarks.peers.command import Player
from thick.export import load_model

ROOM = ENTRY.parents[1] / "doorkey6" / "1"


class Node(NamedTuple):
    """What a node of the tree keeps: where each of its jumps leads, and what it earns; ``[B, G, ...]``."""

    stoch: Any
    context: Any
    received: Any
    reward: Any
    discount: Any


def searches(beliefs: list[Any], simulations: int, depth: int) -> list[Player]:
    """A player for each policy of mctx that takes a model of this kind."""
    _, networks = load_model(ROOM)
    weights = {name: jnp.asarray(value.numpy()) for name, value in networks.state_dict().items()}
    level, config = Level(weights, networks), networks.config
    kinds: dict[str, Callable[..., Any]] = {
        "muzero_policy": lambda key, root: mctx.muzero_policy(
            weights,
            key,
            root,
            level.recurrent,
            simulations,
            max_depth=depth,
            dirichlet_fraction=0.0,
            temperature=0.0,
        ),
        "gumbel_muzero_policy": lambda key, root: mctx.gumbel_muzero_policy(
            weights, key, root, level.recurrent, simulations, max_depth=depth, gumbel_scale=0.0
        ),
    }
    made = []
    for name, policy in kinds.items():

        @jax.jit
        def search(stoch: Any, context: Any, policy: Any = policy) -> Any:
            node, logits, value = level.evaluate(stoch, context, level.received(stoch, context)[0])
            root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=node)
            return policy(jax.random.PRNGKey(0), root).action

        def plan(state: int, search: Any = search) -> np.ndarray:
            belief = beliefs[state]
            return np.asarray(search(jnp.asarray(belief.stoch), jnp.asarray(belief.context))[0])

        made.append(Player(f"mctx {name}, JAX", plan))
    assert config.discount_head and config.behaviour == "none"
    return made


class Level:
    """Jumps by their modes (THICK, section 3), as :class:`thick.planning.jumps.JumpModel` asks for them."""

    def __init__(self, weights: dict[str, Any], networks: Any) -> None:
        self.w, config = weights, networks.config
        self.classes, self.gamma = config.classes, config.discount
        self.threshold, self.most = config.change_threshold, config.levels[0].max_time
        self.actions = config.levels[0].actions

    def recurrent(self, params: Any, key: Any, action: Any, node: Node) -> tuple[Any, Node]:
        """mctx's model: along an edge to where it leads."""
        rows = jnp.arange(action.shape[0])
        taken = Node(*(x[rows, action] for x in node))
        after, logits, value = self.evaluate(taken.stoch, taken.context, taken.received)
        step = mctx.RecurrentFnOutput(
            reward=taken.reward, discount=taken.discount, prior_logits=logits, value=value
        )
        return step, after

    def evaluate(self, stoch: Any, context: Any, received: Any) -> tuple[Node, Any, Any]:
        """A node, the prior's logits ``[B, G]`` and its value ``[B]``."""
        z = self.hot(stoch)
        logits = self.dense("levels.0.prior_logit", self.hidden("levels.0.prior_hidden", z, context))
        each = jnp.eye(self.actions)[None].repeat(z.shape[0], 0)
        z, context = (x[:, None].repeat(self.actions, 1) for x in (z, context))
        x = jnp.concatenate([z, context, each], -1)
        for index in range(3):
            x = self.hidden(f"levels.0.body{index}", x)
        before = self.dense("levels.0.stoch_logit", self.hidden("levels.0.stoch_hidden", x))
        z_before = self.hot(self.mode(before))
        choice = self.head("levels.0.action_head", x)
        action = jax.nn.one_hot(choice.argmax(-1), choice.shape[-1])
        elapsed = jnp.clip(jax.nn.relu(self.head("levels.0.time_head", x)[..., 0]), 0, self.most) + 1
        segment = self.head("levels.0.reward_head", x)[..., 0]
        entered = self.hidden("world.dynamics.img_in", z_before, action)
        gate = jax.nn.relu(jnp.tanh(self.dense("world.dynamics.gatel0rd.gate", entered, context)))
        candidate = jnp.tanh(self.dense("world.dynamics.gatel0rd.candidate", entered, context))
        moved = context + gate * (candidate - context)
        summary = self.mlp("world.dynamics.ctxt_head", 3, z_before, action, moved)
        coarse = self.hidden("world.dynamics.ctxt_img_out", z_before, summary)
        landed = self.mode(self.dense("world.dynamics.ctxt_img_logit", coarse))
        reward, going_on = self.received(landed, moved)
        edge = (segment - received[:, None]) / self.gamma + self.gamma ** (elapsed - 1) * reward
        node = Node(landed, moved, reward, edge, self.gamma**elapsed * going_on)
        return node, logits, (jax.nn.softmax(logits) * edge).sum(-1)

    def received(self, stoch: Any, context: Any) -> tuple[Any, Any]:
        """Reward on arriving, and the probability that the episode goes on."""
        z = self.hot(stoch)
        reward = self.mlp("world.coarse_heads.reward", 2, z, context, out=True)[..., 0]
        logits = self.mlp("world.coarse_heads.discount", 2, z, context, out=True)[..., 0]
        return reward, jnp.minimum(jax.nn.sigmoid(logits) / self.gamma, 1.0)

    def hot(self, stoch: Any) -> Any:
        """Classes ``[..., S]`` as flat one-hots."""
        hot = jax.nn.one_hot(stoch, self.classes)
        return hot.reshape(*hot.shape[:-2], -1)

    def mode(self, logits: Any) -> Any:
        """Likeliest classes ``[..., S]`` of flat logits."""
        return logits.reshape(*logits.shape[:-1], -1, self.classes).argmax(-1)

    def dense(self, name: str, *inputs: Any) -> Any:
        """A layer of the concatenated inputs."""
        return jnp.concatenate(inputs, -1) @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def hidden(self, name: str, *inputs: Any) -> Any:
        """A layer and ELU."""
        return jax.nn.elu(self.dense(name, *inputs))

    def mlp(self, name: str, layers: int, *inputs: Any, out: bool = False) -> Any:
        """Hidden layers, and a linear output where asked."""
        x = jnp.concatenate(inputs, -1)
        for index in range(layers):
            x = self.hidden(f"{name}.dense{index}", x)
        return self.dense(f"{name}.out", x) if out else x

    def head(self, name: str, x: Any) -> Any:
        """A head of the level."""
        return self.dense(f"{name}.out", self.mlp(f"{name}.mlp", 2, x))
