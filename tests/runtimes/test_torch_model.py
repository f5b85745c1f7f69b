"""Frozen inference against the trained modules, in fp32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Dict
from torch import Tensor

from tests.models.sizes import ACTIONS, SPACES, actions, model, observations
from thick.models.beliefs import Belief, State
from thick.models.dynamics.crssm import CRSSM
from thick.models.hierarchy.level import HighLevel
from thick.models.networks import AgentNetworks
from thick.pytrees import leaves, map_arrays
from thick.runtimes.torch import frozen as frozen_layers
from thick.runtimes.torch.frozen import Affine, by_session, draw
from thick.runtimes.torch.model import FrozenModel

KINDS = ["thick", "crssm", "rssm"]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def frozen(world: AgentNetworks, precision: str = "fp32") -> FrozenModel:
    return FrozenModel(world, precision=precision)


def randomised(world: AgentNetworks, scale: float = 3.0) -> AgentNetworks:
    """Larger weights and non-zero biases, so that modes are clear and no bias can be forgotten."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in world.named_parameters():
            if name.endswith("bias"):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif "logit" in name:
                weight.mul_(scale)
    return world


def belief(world: AgentNetworks, *leading: int, seed: int = 0) -> Belief:
    generator = torch.Generator().manual_seed(seed)
    config, context = world.config, world.world.dynamics.context
    return Belief.of(
        torch.randint(config.classes, (*leading, config.stoch), generator=generator),
        torch.randn(*leading, config.stoch, config.classes, generator=generator),
        torch.randn(*leading, config.deter, generator=generator).tanh(),
        torch.randn(*leading, context, generator=generator).tanh(),
        torch.zeros(*leading, context),
    )


def state(belief: Belief) -> State:
    one_hot = F.one_hot(belief.stoch, belief.logits.shape[-1]).float()
    return State(one_hot, belief.logits, belief.deter, belief.context, belief.gates)


@pytest.mark.parametrize("action", list(ACTIONS))
@pytest.mark.parametrize("kind", KINDS)
def test_an_imagined_step_is_that_of_the_trained_model(kind: str, action: str) -> None:
    world = randomised(model(SPACES["vector"], ACTIONS[action], kind=kind))
    start, taken = belief(world, 3, 5), actions(ACTIONS[action], 3, 5)
    trained = world.world.dynamics.imagine_step(state(start), taken, sample=False)
    found = frozen(world).imagine(start, taken)
    assert torch.equal(found.stoch, trained.stoch.argmax(-1))
    for name in ("logits", "deter", "context", "gates"):
        assert torch.allclose(getattr(found, name), getattr(trained, name), **CLOSE), name
    assert torch.allclose(frozen(world).features(found), world.world.dynamics.features(trained), **CLOSE)


def test_a_shared_hard_gate_opens_exactly_when_it_did_in_training() -> None:
    world = randomised(model(SPACES["vector"], gates="shared"))
    start, taken = belief(world, 40, 5), actions(ACTIONS["discrete"], 40, 5)
    trained = world.world.dynamics.imagine_step(state(start), taken, sample=False)
    found = frozen(world).imagine(start, taken)
    assert torch.equal(found.gates, trained.gates)
    assert 0 < found.gates.mean() < 1 and torch.equal(found.gates.min(-1).values, found.gates.max(-1).values)
    for name in ("logits", "deter", "context"):
        assert torch.allclose(getattr(found, name), getattr(trained, name), **CLOSE), name


@pytest.mark.parametrize("posterior", ["full", "observation"])
@pytest.mark.parametrize("kind", KINDS)
def test_filtering_a_sequence_is_that_of_the_trained_model_also_across_episodes(
    kind: str, posterior: str
) -> None:
    world = randomised(model(SPACES["grid"], kind=kind, posterior=posterior))
    seen = observations(SPACES["grid"], 3, 9)
    taken = actions(ACTIONS["discrete"], 3, 9)
    first = torch.zeros(3, 9, dtype=torch.bool)
    first[0, 0] = first[1, 0] = first[1, 4] = first[2, 5] = True
    with torch.no_grad():
        trained = world.world.dynamics.observe(
            world.world.encoder(seen), taken, first, gate_noise=0.0, sample=False
        ).posterior
        of = frozen(world)
        now = of.initial(3)
        for step in range(9):
            embedding = of.encode({name: array[:, step] for name, array in seen.items()})
            now = of.observe(now, taken[:, step], embedding, first[:, step])
            assert torch.equal(now.stoch, trained.stoch[:, step].argmax(-1)), step
            for name in ("logits", "deter", "context", "gates"):
                assert torch.allclose(getattr(now, name), getattr(trained, name)[:, step], **CLOSE), (
                    name,
                    step,
                )


@pytest.mark.parametrize("space", list(SPACES))
def test_embeddings_and_decoded_observations_are_those_of_the_trained_model(space: str) -> None:
    world = randomised(model(SPACES[space]))
    of, seen = frozen(world), observations(SPACES[space], 3)
    one = belief(world, 3)
    with torch.no_grad():
        given: Any = seen if isinstance(SPACES[space], Dict) else seen["observation"]
        assert torch.allclose(of.encode(given), world.world.encoder(seen), **CLOSE)
        expected = world.world.heads.decoder.observation(world.world.dynamics.features(state(one)))
        decoded = of.decode(one)
        assert isinstance(world.world.dynamics, CRSSM) and world.world.coarse_heads is not None
        coarse_feature = world.world.dynamics.coarse_features(state(one).stoch, one.context)
        coarse = world.world.coarse_heads.decoder.observation(coarse_feature)
        found = of.decode_coarse(one.stoch, one.context)
    for mine, theirs in ((decoded, expected), (found, coarse)):
        pairs = [(mine[key], theirs[key]) for key in theirs] if isinstance(theirs, dict) else [(mine, theirs)]
        for a, b in pairs:
            assert a.dtype == b.dtype and torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"norm": "rms", "scalars": "twohot"}], ids=["paper", "others"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_those_of_the_trained_model(kind: str, changes: dict[str, Any]) -> None:
    world = randomised(model(kind=kind, actor_critic=True, **changes))
    one = belief(world, 2, 4)
    feature = world.world.dynamics.features(state(one))
    low = frozen(world).exact
    reward, continuation = low.outcome(one)
    assert (
        world.world.heads.discount is not None
        and world.behaviour.critic is not None
        and world.behaviour.actor is not None
    )
    assert torch.allclose(reward, world.world.heads.reward(feature).squeeze(-1), **CLOSE)
    predicted = torch.sigmoid(world.world.heads.discount(feature).squeeze(-1)) / world.config.discount
    assert continuation is not None and torch.allclose(continuation, predicted.clamp(max=1), **CLOSE)
    assert torch.allclose(low.value(one), world.behaviour.critic(feature).squeeze(-1), **CLOSE)
    logits, std = low.policy(one)
    assert std is None and torch.allclose(logits, world.behaviour.actor(feature), **CLOSE)


def test_a_continuous_actor_is_that_of_the_trained_model() -> None:
    world = randomised(model(SPACES["vector"], ACTIONS["continuous"], actor_critic=True))
    one = belief(world, 2, 4)
    assert world.behaviour.actor is not None
    mean, std = world.behaviour.actor.distribution(world.world.dynamics.features(state(one)))
    found = frozen(world).exact.policy(one)
    assert found[1] is not None
    assert torch.allclose(found[0], mean, **CLOSE) and torch.allclose(found[1], std, **CLOSE)


def test_without_a_discount_head_no_end_is_predicted_and_without_an_actor_there_is_none() -> None:
    of = frozen(model(discount_head=False))
    assert of.exact.outcome(belief(model(), 2, 3))[1] is None and not of.exact.has_actor
    assert of.high is not None and not of.high.has_critic
    one = belief(model(), 3)
    assert torch.equal(of.high.outcome(one.stoch, one.context)[1], torch.ones(3))


@pytest.mark.parametrize("action", list(ACTIONS))
def test_a_jump_is_that_of_the_trained_model(action: str) -> None:
    world = randomised(model(SPACES["vector"], ACTIONS[action], actor_critic=True))
    assert isinstance(world.hierarchy[0], HighLevel) and isinstance(world.world.dynamics, CRSSM)
    assert world.world.coarse_heads is not None and world.behaviour.coarse_critic is not None
    one, choice = belief(world, 6), torch.tensor([0, 1, 2, 2, 1, 0])
    stoch, one_hot = state(one).stoch, F.one_hot(choice, 3).float()
    limit = world.config.levels[0].max_time
    trained = world.hierarchy[0].jump(
        world.world.dynamics, stoch, one.context, one_hot, max_time=limit, sample=False
    )
    high = frozen(world).high
    assert high is not None
    found = high.jump(one.stoch, one.context, choice)
    assert torch.allclose(found.logits_before, trained.logits_before, **CLOSE)
    assert torch.equal(found.stoch_before, trained.stoch_before.argmax(-1))
    assert torch.equal(found.stoch, trained.stoch.argmax(-1))
    for name, expected in (
        ("action", trained.action),
        ("context", trained.context),
        ("gates", trained.gates),
        ("elapsed", trained.elapsed),
        ("segment", trained.returns),
    ):
        assert torch.allclose(getattr(found, name), expected, **CLOSE), name
    assert torch.allclose(high.segment_return(one.stoch, one.context, choice), trained.returns, **CLOSE)
    assert torch.allclose(
        high.prior(one.stoch, one.context), world.hierarchy[0].prior(stoch, one.context), **CLOSE
    )
    feature = world.world.dynamics.coarse_features(trained.stoch, trained.context)
    assert torch.allclose(found.reward, world.world.coarse_heads.reward(feature).squeeze(-1), **CLOSE)
    value = high.value(found.stoch, found.context)
    assert torch.allclose(value, world.behaviour.coarse_critic(feature).squeeze(-1), **CLOSE)


def test_sampled_classes_follow_the_logits() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, 1.0], [-30.0, 3.0, 3.0, -30.0]])
    uniforms = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = draw(logits.expand(20_000, -1, -1), uniforms)
    for group in range(2):
        shares = torch.bincount(drawn[:, group], minlength=4) / 20_000
        assert torch.allclose(shares, logits[group].softmax(-1), atol=0.012)


def test_the_largest_uniform_still_gives_a_class() -> None:
    logits = torch.full((3, 5, 7), -3.0)
    uniforms = torch.full((3, 5), 1 - 2.0**-24)
    assert torch.equal(draw(logits, uniforms), torch.full((3, 5), 6))
    assert torch.equal(draw(logits, torch.zeros(3, 5)), torch.zeros(3, 5, dtype=torch.int64))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "changes"), [("thick", {}), ("rssm", {}), ("rssm", {"norm": "rms", "scalars": "twohot"})]
)
def test_a_batch_is_bit_by_bit_its_sessions_one_by_one(
    kind: str, changes: dict[str, Any], precision: str
) -> None:
    world = randomised(model(kind=kind, actor_critic=True, **changes))
    of = frozen(world, precision).search
    start, taken = belief(world, 5, 37), actions(ACTIONS["discrete"], 5, 37)
    uniforms = torch.rand(5, 37, 4, generator=torch.Generator().manual_seed(1))
    for session in range(5):
        part = slice(session, session + 1)
        one = map_arrays(lambda x, part=part: x[part], start)
        alone, together = of.imagine(one, taken[part], uniforms[part]), of.imagine(start, taken, uniforms)
        pairs: list[tuple[Tensor, Tensor]] = list(zip(leaves(alone), leaves(together), strict=True))
        pairs += list(zip(of.outcome(alone), of.outcome(together), strict=True))
        pairs += [(of.value(alone), of.value(together)), (of.policy(alone)[0], of.policy(together)[0])]
        assert all(torch.equal(x[0], y[session]) for x, y in pairs)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 9])
def test_sessions_are_cut_into_pieces_of_one_shape(batch: int) -> None:
    shapes = []

    def double(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        shapes.append(tuple(x.shape))
        return 2 * x, x + y

    flat = torch.arange(3.0 * batch).reshape(batch, 3)
    doubled, added = by_session(double, flat, flat)
    assert torch.equal(doubled, 2 * flat) and torch.equal(added, 2 * flat)
    groups = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 9: 4}[batch]
    assert shapes == [(groups, 4, 3)]
    shapes.clear()
    column = flat.unsqueeze(1)
    assert torch.equal(by_session(double, column, column)[0], 2 * column)
    assert shapes == [(groups, 4, 3)]
    shapes.clear()
    deep = flat.unsqueeze(1).expand(-1, 6, -1)
    assert torch.equal(by_session(double, deep, deep)[0], 2 * deep) and set(shapes) == {(1, 6, 3)}


@pytest.mark.parametrize("form", [None, "apart", "rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_multiplied_as_if_it_were_alone(
    dtype: torch.dtype, form: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        form is not None
    ):  # a library whose products depend on the place of a row, or on how many groups there are
        monkeypatch.setattr(frozen_layers, "product_form", lambda *_: form)
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(70, 130, generator=generator), torch.randn(70, generator=generator)
    layer = Affine(weight, bias, dtype)
    x = torch.randn(8, 4, 130, generator=generator)
    together = layer(x)
    for row in range(32):
        lonely = torch.zeros(1, 4, 130)
        lonely[0, 0] = x.flatten(0, 1)[row]
        assert torch.equal(together.flatten(0, 1)[row], layer(lonely)[0, 0]), row
    assert torch.allclose(
        together.float(), x @ weight.t() + bias, atol=0.5 if dtype == torch.bfloat16 else 1e-4
    )


def _groups_of(x: Tensor) -> Tensor:
    """How many groups a product has, in the shape of the product."""
    return torch.full((*x.shape[:2], 1), float(x.shape[0]))


def _places_of(x: Tensor) -> Tensor:
    """Where in its group each row is, in the shape of the product."""
    return torch.arange(float(x.shape[1])).view(1, -1, 1).expand(x.shape[0], -1, 1)


@pytest.mark.parametrize(
    ("disturb", "form"),
    [(lambda x: torch.zeros(()), "together"), (_groups_of, "apart"), (_places_of, "rows")],
)
def test_the_form_of_a_product_is_one_whose_rows_do_not_depend_on_others(
    disturb: Callable[[Tensor], Tensor], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = frozen_layers._product
    monkeypatch.setattr(
        frozen_layers, "_product", lambda x, *rest: plain(x, *rest) + 1e-6 * disturb(x).to(x.dtype)
    )
    frozen_layers.product_form.cache_clear()
    try:
        assert frozen_layers.product_form(5, 7, torch.float32, 1) == form
    finally:
        frozen_layers.product_form.cache_clear()


def test_many_sessions_go_in_calls_of_a_tried_size() -> None:
    shapes = []

    def double(x: Tensor) -> tuple[Tensor, ...]:
        shapes.append(tuple(x.shape))
        return (2 * x,)

    flat = torch.arange(3.0 * 70).reshape(70, 3)
    assert torch.equal(by_session(double, flat)[0], 2 * flat)
    assert shapes == [(8, 4, 3)] * 3


def test_every_part_begins_at_an_aligned_address() -> None:
    places = []

    def double(x: Tensor) -> tuple[Tensor, ...]:
        places.append(x.data_ptr() % 64)
        return (2 * x,)

    whole = torch.arange(1.0 + 5 * 6 * 3)
    shifted = whole[1:].view(5, 6, 3)  # begins four bytes after an aligned address
    assert torch.equal(by_session(double, shifted)[0], 2 * shifted)
    flat = whole[1:].view(30, 3)
    assert torch.equal(by_session(double, flat)[0], 2 * flat)
    assert set(places) == {0}


def test_bf16_stays_close_to_fp32() -> None:
    world = randomised(model(), scale=1.0)
    start, taken = belief(world, 2, 50), actions(ACTIONS["discrete"], 2, 50)
    exact, quick = (frozen(world, name).search for name in ("fp32", "bf16"))
    assert quick.imagine(start, taken).logits.dtype == torch.bfloat16
    found, near = exact.imagine(start, taken), quick.imagine(start, taken)
    for name in ("logits", "deter", "context"):
        assert torch.allclose(getattr(found, name), getattr(near, name).float(), atol=0.05)
    assert torch.allclose(exact.outcome(start)[0], quick.outcome(start)[0], atol=0.05)
    assert quick.outcome(start)[0].dtype == torch.float32


def test_freezing_leaves_the_model_alone() -> None:
    world = model()
    world.train()
    before = {name: weight.clone() for name, weight in world.named_parameters()}
    of = frozen(world)
    with torch.no_grad():
        for weight in world.parameters():
            weight.zero_()
    assert world.training and all(weight.requires_grad for weight in world.parameters())
    assert torch.equal(of.exact.gru.weight, before["world.dynamics.gru.weight"])
    embedding = of.encode(observations(SPACES["grid"], 2)["observation"])
    assert bool(embedding.any()) and not embedding.requires_grad


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="expected auto, fp32 or bf16, got 'fp8'"):
        frozen(model(), "fp8")
