"""The runtimes without torch against the one with it: every output, every configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, MultiBinary, MultiDiscrete
from safetensors.numpy import save

from tests.models.sizes import ACTIONS, SPACES, actions, model, observations
from tests.runtimes.native.conftest import need_kernels
from thick.envs.actions import ActionCodec
from thick.models.beliefs import Belief
from thick.models.config import LevelConfig
from thick.models.networks import AgentNetworks
from thick.planning.jumps import JumpModel
from thick.planning.protocols import Expansion, JumpState
from thick.pytrees import map_arrays, walk
from thick.runtimes.native.model import NativeModel
from thick.runtimes.onnx.graph import places
from thick.runtimes.onnx.model import OnnxModel
from thick.runtimes.onnx.steps import Steps
from thick.runtimes.torch.model import FrozenModel

KINDS = ["thick", "crssm", "rssm"]
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
ODD: dict[str, Any] = {
    "stoch": 5,
    "classes": 7,
    "deter": 21,
    "hidden": 19,
    "context": 3,
    "head_units": 33,
    "mlp_units": 27,
    "head_layers": 2,
    "level": LevelConfig(actions=3, hidden=37, head_units=18),
}
"""no size is a multiple of a vector's"""


def clear(world: AgentNetworks) -> AgentNetworks:
    """Larger weights and non-zero biases, so that modes are clear and no bias can be forgotten."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in world.named_parameters():
            if name.endswith("bias"):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "logit" in name:
                weight.mul_(3.0)
    return world


def native_model(world: AgentNetworks, tensors: dict[str, np.ndarray]) -> NativeModel:
    need_kernels()
    return NativeModel(tensors, world.config, world.observation_space, world.action_space)


def onnx_model(world: AgentNetworks, tensors: dict[str, np.ndarray]) -> OnnxModel:
    stored = places(save(tensors), format_version=2)
    codec = ActionCodec(world.action_space)
    steps = Steps(
        world.config,
        world.observation_space,
        action=codec.size,
        continuous=not codec.discrete,
        tensors=stored,
    )
    return OnnxModel(steps.write(), tensors, world.config, world.observation_space)


BACKENDS: dict[str, Callable[[AgentNetworks, dict[str, np.ndarray]], Any]] = {
    "native": native_model,
    "onnx": onnx_model,
}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@functools.lru_cache(maxsize=1)
def reference_model(world: AgentNetworks) -> FrozenModel:
    return FrozenModel(world, precision="fp32")


@functools.lru_cache(maxsize=len(BACKENDS))
def both(world: AgentNetworks, backend: str) -> tuple[FrozenModel, Any]:
    """The model in torch, and in another runtime."""
    tensors = {key: np.ascontiguousarray(value.numpy()) for key, value in world.state_dict().items()}
    return reference_model(world), BACKENDS[backend](world, tensors)


def belief(world: AgentNetworks, *leading: int) -> Belief:
    config, rng = world.config, np.random.default_rng(0)
    context = world.world.dynamics.context

    def numbers(*shape: int) -> np.ndarray:
        return np.tanh(rng.standard_normal((*leading, *shape))).astype(np.float32)

    stoch = rng.integers(config.classes, size=(*leading, config.stoch))
    zeros = np.zeros((*leading, context), np.float32)
    return Belief.of(
        stoch, 3 * numbers(config.stoch, config.classes), numbers(config.deter), numbers(context), zeros
    )


def torched(tree: Any) -> Any:
    return map_arrays(lambda x: torch.from_numpy(np.ascontiguousarray(x)), tree)


def agree(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    for (name, x), (_, y) in zip(walk(found), walk(wanted), strict=True):
        np.testing.assert_allclose(x, y.numpy(), err_msg=name, **CLOSE)


@pytest.fixture(
    scope="module",
    params=[(kind, action, odd) for kind in KINDS for action in ACTIONS for odd in (0, 1)],
    ids=lambda p: f"{p[0]}-{p[1]}{'-odd' * p[2]}",
)
def world(request: pytest.FixtureRequest) -> AgentNetworks:
    kind, action, odd = request.param
    changes = ODD if odd else {}
    return clear(
        model(
            SPACES["vector"],
            ACTIONS[action],
            kind=kind,
            actor_critic=True,
            change_threshold=0.1 * odd,
            posterior="observation" if odd else "full",
            gates="shared" if odd else "each",
            **changes,
        )
    )


def test_every_step_and_head_of_the_low_level_agrees(world: AgentNetworks, backend: str) -> None:
    reference, other = both(world, backend)
    now = belief(world, 3, 14)
    act = actions(world.action_space, 3, 14)
    uniforms = np.random.default_rng(1).random((3, 14, world.config.stoch), np.float32)
    with torch.no_grad():
        for drawn in (None, uniforms):
            wanted = reference.imagine(torched(now), act, None if drawn is None else torch.from_numpy(drawn))
            found = other.imagine(now, act.numpy(), drawn)
            agree(found, wanted)
        reward, goes_on = reference.exact.outcome(wanted)
        np.testing.assert_allclose(other.exact.outcome(found)[0], reward, **CLOSE)
        np.testing.assert_allclose(other.exact.outcome(found)[1], goes_on, **CLOSE)
        np.testing.assert_allclose(other.exact.value(found), reference.exact.value(wanted), **CLOSE)
        for x, y in zip(other.exact.policy(found), reference.exact.policy(wanted), strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_allclose(x, y, **CLOSE)
        np.testing.assert_allclose(other.features(found), reference.features(wanted), **CLOSE)


def test_an_observed_step_agrees_also_where_an_episode_begins(world: AgentNetworks, backend: str) -> None:
    reference, other = both(world, backend)
    first = np.array([True, False, False, True, False])
    now, act = belief(world, 5), actions(world.action_space, 5)
    seen = observations(world.observation_space, 5)["observation"]
    with torch.no_grad():
        wanted = reference.observe(torched(now), act, reference.encode(seen), torch.from_numpy(first))
        start = reference.observe(reference.initial(5), act, reference.encode(seen), torch.from_numpy(~first))
    np.testing.assert_allclose(other.encode(seen.numpy()), reference.encode(seen).detach(), **CLOSE)
    agree(other.observe(now, act.numpy(), other.encode(seen.numpy()), first), wanted)
    agree(other.observe(other.initial(5), act.numpy(), other.encode(seen.numpy()), ~first), start)


def test_jumps_and_nodes_of_a_search_agree(world: AgentNetworks, backend: str) -> None:
    if not world.levels:
        pytest.skip("no high level")
    reference, other = both(world, backend)
    assert reference.high is not None and other.high is not None
    now = belief(world, 2, 6)
    chosen = np.random.default_rng(2).integers(other.high.actions, size=(2, 6))
    uniforms = np.random.default_rng(3).random((2, 6, 2 * world.config.stoch), np.float32)
    stoch, context = torch.from_numpy(now.stoch), torch.from_numpy(now.context)
    given = (now.stoch, now.context)
    with torch.no_grad():
        for drawn in (None, uniforms):
            wanted = reference.high.jump(
                stoch, context, torch.from_numpy(chosen), None if drawn is None else torch.from_numpy(drawn)
            )
            agree(other.high.jump(*given, chosen, drawn), wanted)
        np.testing.assert_allclose(other.high.prior(*given), reference.high.prior(stoch, context), **CLOSE)
        np.testing.assert_allclose(other.high.value(*given), reference.high.value(stoch, context), **CLOSE)
        segment = reference.high.segment_return(stoch, context, torch.from_numpy(chosen))
        np.testing.assert_allclose(other.high.segment_return(*given, chosen), segment, **CLOSE)
        for x, y in zip(other.high.outcome(*given), reference.high.outcome(stoch, context), strict=True):
            np.testing.assert_allclose(x, y, **CLOSE)
        arrival = np.random.default_rng(4).standard_normal((2, 6)).astype(np.float32)
        state = JumpState(now.stoch, now.context, arrival, np.zeros_like(arrival))
        for critic in (False, True):
            asked = JumpModel(reference.high, stoch, context, critic=critic)
            node = asked.evaluate(JumpState(*(torch.from_numpy(x) for x in state)))
            if isinstance(other.high, Expansion):
                found = other.high.expand(state, critic=critic)
            else:
                found = JumpModel(other.high, *given, critic=critic).evaluate(state)
            agree(found._replace(children=found.value), node._replace(children=node.value))
            agree(found.children, node.children)


@pytest.mark.parametrize(
    "space", [MultiDiscrete([2, 3]), MultiBinary(2), Box(-2.0, 2.0, (1, 2), np.float32)], ids=str
)
def test_actions_of_every_kind_are_taken_alike(space: Any, backend: str) -> None:
    world = clear(model(SPACES["vector"], space, actor_critic=True))
    reference, other = both(world, backend)
    codec = ActionCodec(space)
    now, act = belief(world, 3), codec.encode([space.sample() for _ in range(3)]).astype(np.float32)
    with torch.no_grad():
        wanted = reference.imagine(torched(now), torch.from_numpy(act))
        policy = reference.exact.policy(wanted)
    found = other.imagine(now, act)
    agree(found, wanted)
    for x, y in zip(other.exact.policy(found), policy, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_allclose(x, y, **CLOSE)


@pytest.mark.parametrize("space", list(SPACES))
def test_observations_of_every_kind_are_encoded_and_decoded_alike(space: str, backend: str) -> None:
    world = clear(model(SPACES[space], ACTIONS["discrete"], **ODD))
    reference, other = both(world, backend)
    seen = observations(SPACES[space], 3)
    now = belief(world, 3)
    only = list(seen) == ["observation"]
    with torch.no_grad():
        wanted = reference.encode(seen if not only else seen["observation"])
        arrays = {key: value.numpy() for key, value in seen.items()}
        np.testing.assert_allclose(
            other.encode(arrays if not only else arrays["observation"]), wanted, **CLOSE
        )
        pairs = [
            (other.decode(now), reference.decode(torched(now))),
            (
                other.decode_coarse(now.stoch, now.context),
                reference.decode_coarse(torch.from_numpy(now.stoch), torch.from_numpy(now.context)),
            ),
        ]
    for found, expected in pairs:
        for key in seen:
            x, y = (found, expected) if only else (found[key], expected[key])
            assert x.dtype == y.numpy().dtype
            if x.dtype.kind in "iu":  # half a step may round either way
                assert np.abs(x.astype(int) - y.numpy()).max() <= 1
                assert (x == y.numpy()).mean() > 0.99
            else:
                np.testing.assert_allclose(x, y, **CLOSE)
