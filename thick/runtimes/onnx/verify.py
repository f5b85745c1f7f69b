"""What graphs give against what torch gives, on random inputs and on what an environment really shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from thick.manifest import EntryError
from thick.models.beliefs import Belief
from thick.pytrees import map_arrays
from thick.runtimes.onnx.model import OnnxModel
from thick.runtimes.torch.model import FrozenModel

TOLERANCE = 1e-4
"""of numbers, relative and absolute"""
ODD_ROWS = 0.05
"""share of rows that may decide otherwise: two classes whose logits are equal but for rounding"""

Observation = np.ndarray | dict[str, np.ndarray]


class Experience(NamedTuple):
    """Some steps of an episode."""

    observation: Observation
    """``[T, ...]``"""
    action: np.ndarray
    """``[T, A]``, what led to each"""


class Inputs(NamedTuple):
    """What every graph is asked with, N rows of it."""

    kind: str
    """in words, for errors"""
    observation: Observation
    action: np.ndarray
    """``[N, A]``"""
    before: Belief
    """beliefs before the observation"""
    is_first: np.ndarray
    """``[N]``"""


def verify(found: OnnxModel, wanted: FrozenModel, experience: Experience, space: Any) -> None:
    """Compare every output of every graph.

    Args:
        found: runs the graphs.
        wanted: the same model in torch, in fp32.
        experience: of its environment.
        space: of its observations.

    Raises:
        EntryError: an output differs by more than ``TOLERANCE``; names it.
    """
    with torch.enable_grad():  # without gradients torch would trace what is asked twice
        for inputs in (_random(wanted, experience, space), _real(wanted, experience)):
            for graph, ask in _questions(wanted, inputs):
                _compare(graph, inputs.kind, ask(found, _same), _numpy(ask(wanted, _tensors)))


Ask = Callable[[Any, Callable[[Any], Any]], dict[str, Any]]
"""asks a model, whose arrays another function makes of numpy's, and gives its answers by name"""


def _questions(model: FrozenModel, inputs: Inputs) -> Iterator[tuple[str, Ask]]:
    """What each graph is for, by its name."""
    observation, action, before, first = inputs[1:]
    rng = np.random.default_rng(1)
    embedding = model.encode(_tensors(observation)).numpy()
    after = _numpy(model.observe(*_tensors((before, action, embedding, first))))
    state = after.stoch, after.context
    yield "encode", lambda m, c: {"embedding": m.encode(c(observation))}
    yield "observe", lambda m, c: _named(m.observe(c(before), c(action), c(embedding), c(first)))

    def imagined(drawn: Any, m: Any, c: Any) -> dict[str, Any]:
        belief = m.imagine(c(after), c(action), c(drawn))
        return {**_named(belief), **_received(m.exact.outcome(belief))}

    for drawn in (None, rng.random(after.stoch.shape, np.float32)):
        yield "imagine", partial(imagined, drawn)
    yield "outcome", lambda m, c: _received(m.exact.outcome(c(after)))
    yield "decode", lambda m, c: _entries(m.decode(c(after)))
    if model.exact.has_actor:
        yield "value", lambda m, c: {"value": m.exact.value(c(after))}
        yield "policy", lambda m, c: _acted(m.exact.policy(c(after)))
    if model.manager is not None:
        sizes = model.manager.draws, model.manager.size
        code, goal = (rng.random((len(action), size), np.float32) for size in sizes)
        yield "goal", lambda m, c: {"goal": m.manager.goal(c(after), c(code))}
        yield "worker", lambda m, c: _acted(m.manager.policy(c(after), c(goal)))
        yield "manager_value", lambda m, c: {"value": m.manager.value(c(after))}
    if model.exact.context:
        yield "coarse_decode", lambda m, c: _entries(m.decode_coarse(*c(state)))
    if model.high is None:
        return
    chosen = rng.integers(model.high.actions, size=len(action))

    def jumped(drawn: Any, m: Any, c: Any) -> dict[str, Any]:
        landing: dict[str, Any] = m.high.jump(*c(state), c(chosen), c(drawn))._asdict()
        return landing

    for drawn in (None, rng.random((len(action), 2 * model.exact.stoch), np.float32)):
        yield "jump", partial(jumped, drawn)
    yield "prior", lambda m, c: {"logits": m.high.prior(*c(state))}
    yield "segment", lambda m, c: {"segment": m.high.segment_return(*c(state), c(chosen))}
    yield "coarse_outcome", lambda m, c: _received(m.high.outcome(*c(state)))
    if model.high.has_critic:
        yield "coarse_value", lambda m, c: {"value": m.high.value(*c(state))}


def _named(belief: Belief) -> dict[str, Any]:
    arrays = (belief.stoch, belief.logits, belief.deter, belief.context, belief.gates)
    return dict(zip(("stoch", "logits", "deter", "context", "gates"), arrays, strict=True))


def _received(outcome: tuple[Any, Any]) -> dict[str, Any]:
    return dict(zip(("reward", "continuation"), outcome, strict=True))


def _acted(policy: tuple[Any, Any]) -> dict[str, Any]:
    return dict(zip(("logits or mean", "deviation"), policy, strict=True))


def _entries(observation: Any) -> dict[str, Any]:
    return dict(observation) if isinstance(observation, Mapping) else {"observation": observation}


def _random(model: FrozenModel, experience: Experience, space: Any) -> Inputs:
    rng, count = np.random.default_rng(0), len(experience.action)
    space.seed(0)
    samples = [space.sample() for _ in range(count)]
    exact = model.exact

    def numbers(*shape: int) -> np.ndarray:
        return np.tanh(rng.standard_normal((count, *shape))).astype(np.float32)

    before = Belief.of(
        rng.integers(exact.classes, size=(count, exact.stoch)),
        numbers(exact.stoch, exact.classes),
        numbers(exact.deter),
        numbers(exact.context),
        np.zeros((count, exact.context), np.float32),
    )
    action = experience.action[rng.permutation(count)]
    return Inputs("random inputs", stacked(samples), action, before, np.arange(count) % 5 == 0)


def _real(model: FrozenModel, experience: Experience) -> Inputs:
    """The beliefs that filtering the steps one by one leads through."""
    belief, beliefs = model.initial(1), []
    for index in range(len(experience.action)):
        beliefs.append(_numpy(belief))
        seen, action = _tensors((_rows(experience.observation, index), experience.action[index : index + 1]))
        belief = model.observe(belief, action, model.encode(seen), torch.tensor([index == 0]))
    before = map_arrays(lambda *parts: np.concatenate(parts), *beliefs)
    first = np.arange(len(experience.action)) == 0
    return Inputs("inputs of its environment", experience.observation, experience.action, before, first)


# -- comparing -------------------------------------------------------------------------------------------------------


def _compare(graph: str, kind: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Numbers agree in every row in which all decisions (classes, gates, symbols, pixels to a step) do; these rows are
    nearly all."""
    names = [name for name, array in wanted.items() if array is not None]
    agree = np.ones(len(wanted[names[0]]), bool)
    for name in names:
        x, y = found[name], wanted[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            raise EntryError(
                f"graph {graph}: {name} is {x.dtype}{list(x.shape)}, in torch {y.dtype}{list(y.shape)}"
            )
        if _decides(y):
            slack = 1 if "decode" in graph and y.dtype.kind in "iu" else 0  # half a step may round either way
            apart = np.abs(x.astype(np.float64) - y.astype(np.float64)) > slack
            agree &= ~apart.reshape(len(y), -1).any(1)
    if (odd := 1 - agree.mean()) > ODD_ROWS:
        raise EntryError(f"graph {graph}: decides otherwise than torch in {odd:.0%} of the rows, on {kind}")
    for name in names:
        x, y = found[name][agree], wanted[name][agree]
        if not _decides(wanted[name]) and not np.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE):
            raise EntryError(
                f"graph {graph}: {name} differs from torch by {float(np.max(np.abs(x - y))):.2g} on {kind}, "
                f"expected {TOLERANCE:g} at most"
            )


def _decides(array: np.ndarray) -> bool:
    """Whether an array holds choices rather than numbers."""
    return array.dtype.kind != "f" or bool(np.isin(array, (0.0, 1.0)).all())


# -- arrays of numpy and torch ---------------------------------------------------------------------------------------


def _same(tree: Any) -> Any:
    return tree


def _tensors(tree: Any) -> Any:
    return _converted(tree, lambda x: torch.from_numpy(np.ascontiguousarray(x)))


def _numpy(tree: Any) -> Any:
    return _converted(tree, lambda x: x.numpy())


def _converted(tree: Any, convert: Callable[[Any], Any]) -> Any:
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: _converted(array, convert) for key, array in tree.items()}
    if isinstance(tree, tuple):
        parts = [_converted(each, convert) for each in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return convert(tree)


def stacked(samples: list[Any]) -> Observation:
    """Observations as a batch ``[N, ...]``."""
    if isinstance(samples[0], Mapping):
        return {key: np.stack([np.asarray(each[key]) for each in samples]) for key in samples[0]}
    return np.stack([np.asarray(each) for each in samples])


def _rows(observation: Observation, index: int) -> Observation:
    if isinstance(observation, Mapping):
        return {key: array[index : index + 1] for key, array in observation.items()}
    return observation[index : index + 1]
