"""The layers of a model as operations of a graph, with the names of the trained modules."""

from __future__ import annotations

import numpy as np

from thick.models.bins import bins
from thick.models.config import NORM_EPS, ModelConfig
from thick.runtimes import parts
from thick.runtimes.onnx.graph import Graph


def dense(g: Graph, name: str, *inputs: str) -> str:
    """A dense layer on the concatenation of its inputs."""
    return g("Gemm", g.concat(*inputs), g.weight(f"{name}.weight"), g.weight(f"{name}.bias"), transB=1)


def mlp(g: Graph, name: str, *inputs: str) -> str:
    """Hidden layers ``name.dense0 …`` and, where there is one, the linear ``name.out``."""
    x = g.concat(*inputs)
    for index, layer in enumerate(parts.layers(g.tensors, name)):
        x = dense(g, layer, x)
        if not layer.endswith(".out"):
            norm = f"{name}.norm{index}.weight"
            x = _normed(g, norm, x) if norm in g.tensors else g("Elu", x)
    return x


def _normed(g: Graph, weight: str, x: str) -> str:
    """RMSNorm and SiLU."""
    squares = g("ReduceMean", g("Mul", x, x), g.whole(-1), keepdims=1)
    root = g("Sqrt", g("Add", squares, g.number(NORM_EPS)))
    y = g("Mul", g("Div", x, root), g.weight(weight))
    return g("Mul", y, g("Sigmoid", y))


def scalar(g: Graph, name: str, feature: str, config: ModelConfig) -> str:
    """A number ``[batch]`` of a head of rewards or values: its output, or the mean over its bins."""
    output = mlp(g, name, feature)
    if config.scalars == "twohot":
        places = g.constant(bins().reshape(-1, 1), np.float32)
        output = g("MatMul", g("Softmax", output, axis=-1), places)
    return g.squeeze(output)


def hidden(g: Graph, name: str, *inputs: str) -> str:
    """A dense layer with ELU."""
    return g("Elu", dense(g, name, *inputs))


def one_hots(g: Graph, index: str, groups: int, classes: int) -> str:
    """``[batch, groups]`` -> ``[batch, groups · classes]``; zero where the index is none of the classes."""
    hot = g("Equal", g("Unsqueeze", index, g.whole(-1)), g.whole(*range(classes)))
    return g.reshape(g.cast(hot), groups * classes)


def draw(g: Graph, logits: str, uniforms: str, groups: int, classes: int, *, unimix: float = 0.0) -> str:
    """Classes ``[batch, groups]`` of categoricals with logits ``[batch, groups · classes]``, by the inverse of their
    distribution functions, from uniform numbers ``[batch, groups]``; a negative number takes the mode. A share of the
    uniform distribution is mixed in."""
    each = g("Reshape", logits, g.whole(-1, groups, classes))
    mode = g("ArgMax", each, axis=-1, keepdims=0)
    raw = g("Exp", g("Clip", each, g.number(-60), g.number(60)))
    sums = g.constant(np.triu(np.ones((classes, classes))), np.float32)
    below = g("MatMul", raw, sums)  # from the first class on
    total = g("Slice", below, g.whole(classes - 1), g.whole(classes), g.whole(-1))
    if unimix:
        even = g.constant(unimix * np.arange(1, classes + 1) / classes, np.float32)
        below = g("Add", g("Mul", below, g.number(1 - unimix)), g("Mul", total, even))
        total = g("Slice", below, g.whole(classes - 1), g.whole(classes), g.whole(-1))
    wanted = g("Mul", g("Unsqueeze", uniforms, g.whole(-1)), total)
    passed = g("ReduceSum", g.cast(g("LessOrEqual", below, wanted), np.int64), g.whole(-1), keepdims=0)
    drawn = g("Min", passed, g.constant(classes - 1, np.int64))
    return g("Where", g("Less", uniforms, g.number(0)), mode, drawn)


def gatel0rd(g: Graph, x: str, context: str, config: ModelConfig) -> tuple[str, str]:
    """Context and the gates that changed it, ``[batch, C]`` (:mod:`thick.models.dynamics.gatel0rd`)."""
    joint, name = g.concat(x, context), "world.dynamics.gatel0rd"
    gate, candidate = dense(g, f"{name}.gate", joint), dense(g, f"{name}.candidate", joint)
    opened = g.cast(g("Greater", gate, g.number(0)))
    if config.gates == "shared":
        opened = g("Expand", opened, g.whole(1, config.context))
        gate = opened
    else:
        gate = g("Relu", g("Tanh", gate))
    moved = g("Mul", gate, g("Sub", g("Tanh", candidate), context))
    updated = g("Add", context, moved)
    if config.change_threshold > 0:
        far = g("GreaterOrEqual", g("Abs", g("Sub", updated, context)), g.number(config.change_threshold))
        opened = g("Mul", opened, g.cast(far))
    return updated, opened


def gru(g: Graph, x: str, memory: str, deter: str, config: ModelConfig) -> str:
    """The next h ``[batch, H]``; ``memory`` is ``[c, h]``."""
    sums = dense(g, "world.dynamics.gru", x, memory)
    reset, candidate, update = g.split(sums, [config.deter] * 3)
    proposal = g("Tanh", g("Mul", g("Sigmoid", reset), candidate))
    share = g("Sigmoid", g("Sub", update, g.number(1)))
    return g("Add", deter, g("Mul", share, g("Sub", proposal, deter)))


def goes_on(g: Graph, logits: str, config: ModelConfig) -> str:
    """The probability that an episode goes on ``[batch]``, from logits ``[batch, 1]`` of γ · (1 - is_terminal)."""
    chance = g("Div", g("Sigmoid", g.squeeze(logits)), g.number(config.discount))
    return g("Min", chance, g.number(1))


def spread(g: Graph, output: str, actions: int) -> tuple[str, str]:
    """Mean and standard deviation ``[batch, A]`` of continuous actions, from an actor's output."""
    mean, raw = g.split(output, [actions] * 2)
    deviation = g("Mul", g.number(2), g("Sigmoid", g("Div", raw, g.number(2))))
    return g("Tanh", mean), g("Add", deviation, g.number(0.1))
