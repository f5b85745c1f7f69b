"""Updates on a GPU are recorded, so nothing in one may depend on a value; and a replay is an update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.learners.small import SMALL
from tests.models.sizes import ACTIONS, GRID, IMAGE, VECTOR, batch
from thick.configuration import merge
from thick.learners import parts
from thick.learners.parts import dealt
from thick.learners.recipes import RECIPES
from thick.models.batch import Batch, Start
from thick.training.config import load_config
from thick.training.learner import Learner, laid_out

SPACES = {"discrete": GRID, "continuous": VECTOR, "pixels": IMAGE}
ACTED = {**ACTIONS, "pixels": ACTIONS["discrete"]}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CHANGES: dict[str, Any] = {
    **SMALL,
    "batch": 4,
    "length": 12,
    "precision": "fp32",
    "optimizer": {"warmup": 4},
    "sparsity": {"start": 0.1, "final": 1.0, "ramp_from": 1, "ramp_to": 6},
    "behaviour": {"horizon": 3, "starts": 8, "target_every": 2, "start": 4, "normalize": True},
}


def learner(name: str, action: str, device: str = "cpu", **changes: Any) -> Learner:
    config = merge(load_config(f"learners/{name}"), {**CHANGES, "device": device, **changes})
    torch.manual_seed(0)
    return Learner(config, SPACES[action], ACTED[action])


def data(action: str, device: str = "cpu") -> Batch:
    found = batch(SPACES[action], ACTED[action])
    moved = {name: x.to(device) for name, x in found.observation.items()}
    return Batch(moved, *(x.to(device) for x in found[1:5] if isinstance(x, Tensor)))


def one_hot(index: Tensor, count: int) -> Tensor:
    return (index.unsqueeze(-1) == torch.arange(count, device=index.device)).long()


class NoValues(TorchDispatchMode):
    """Refuses what brings a number from the device, or to it, or makes a shape of numbers."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "randperm", "equal")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.REFUSED, f"{name} cannot be recorded"
        if name.startswith("index") and isinstance(args[1], list | tuple):
            masks = [x for x in args[1] if isinstance(x, Tensor) and x.dtype == torch.bool]
            assert not masks, f"{name} with a mask cannot be recorded"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"model": {"scalars": "twohot", "unimix": 0.01, "free_nats": 1.0}}, marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.parametrize(
    "action", ["discrete", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("continuous", "pixels"))]
)
@pytest.mark.parametrize("name", RECIPES)
def test_nothing_in_an_update_depends_on_a_value(
    name: str, action: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "fixed_shapes", lambda device: True)
    monkeypatch.setattr(F, "one_hot", one_hot)  # torch's looks at its numbers on a CPU, and on no GPU
    model = {**SMALL["model"], **options.get("model", {})}
    of, given = learner(name, action, model=model), data(action)
    groups, memory = model["stoch"], model["deter"] + of.model.world.dynamics.context
    started = given._replace(
        start=Start(torch.zeros(4, groups, dtype=torch.int64), torch.zeros(4, memory)),
        is_first=given.is_first.clone(),
    )
    for _ in range(5):  # moments are made by the first, and actors begin with the fifth
        of.update(given)
    for each in (given, started):
        with NoValues():
            of._update(each, of._schedules(of.parts))


def test_places_are_dealt_until_there_are_enough() -> None:
    torch.manual_seed(0)
    alive = torch.rand(50) < 0.5
    places = alive.nonzero().squeeze(-1).tolist()
    few = dealt(alive, 10).tolist()
    assert len(set(few)) == 10 and set(few) <= set(places)
    many = dealt(alive).tolist()
    assert len(many) == 50 and set(many) == set(places)
    counts = [many.count(place) for place in places]
    assert max(counts) - min(counts) <= 1
    assert len(dealt(alive, 1000)) == 50
    assert sorted(dealt(torch.zeros(3, dtype=torch.bool)).tolist()) == [0, 1, 2]


def test_every_place_is_as_likely_as_any() -> None:
    torch.manual_seed(0)
    alive = torch.tensor([True, False, True, True, False])
    drawn = torch.stack([dealt(alive, 2) for _ in range(3000)]).flatten()
    counts = torch.bincount(drawn, minlength=5)
    assert counts[~alive].sum() == 0 and ((counts[alive] - 2000).abs() < 150).all()


def test_gradients_lie_as_their_weights_do() -> None:
    weight = torch.randn(4, 3, 5, 5)
    gradient = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    placed = laid_out(gradient, weight)
    assert placed.stride() == weight.stride() and torch.equal(placed, gradient)
    assert laid_out(placed, weight) is placed


@pytest.mark.parametrize("action", SPACES)
def test_weights_move_as_the_plain_optimiser_moves_them(action: str) -> None:
    # Fused Adam pairs numbers by their place in memory, on a CPU without a word.
    fused, plain = (learner("dreamer", action) for _ in range(2))
    for part in plain.parts:
        for name, group in part.groups().items():
            plain._optimizers[part.name][name] = torch.optim.Adam(
                group.parameters, lr=group.lr, eps=plain.config.optimizer.eps
            )
    for of in (fused, plain):
        torch.manual_seed(3)
        for _ in range(6):
            of.update(data(action))
    for (name, found), wanted in zip(
        fused.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5, msg=name)


def numbers(of: Learner) -> dict[str, Tensor]:
    return {name: value.detach().double().cpu() for name, value in of.tensors().items()}


@GPU
@pytest.mark.parametrize("action", SPACES)
@pytest.mark.parametrize("name", RECIPES)
def test_replayed_updates_are_those_made_operation_by_operation(name: str, action: str) -> None:
    plain, replayed = (learner(name, action, "cuda") for _ in range(2))
    plain._recorded = None
    given = data(action, "cuda")
    logs = []
    for of in (plain, replayed):
        torch.manual_seed(3)
        # Learning rates, weights and, with the fifth, the parts change on the way.
        logs.append([{k: float(v) for k, v in of.update(given).items()} for _ in range(9)])
    for step, (wanted, found) in enumerate(zip(*logs, strict=True)):
        assert wanted == pytest.approx(found, rel=1e-3, abs=1e-4, nan_ok=True), f"update {step}"
    wanted, found = numbers(plain), numbers(replayed)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert replayed._recorded is not None and len(replayed._recorded._recordings) in (1, 2)


@GPU
def test_what_is_loaded_is_what_goes_on() -> None:
    given = data("discrete", "cuda")
    one = learner("thick-dreamer", "discrete", "cuda")
    torch.manual_seed(1)
    for _ in range(8):
        one.update(given)
    kept = {name: value.clone() for name, value in one.tensors().items()}
    random = torch.cuda.get_rng_state()
    for _ in range(4):
        one.update(given)
    other = learner("thick-dreamer", "discrete", "cuda")
    for _ in range(3):
        other.update(given)  # something was recorded before
    other.load(kept, {"update": 8})
    torch.cuda.set_rng_state(random)
    for _ in range(4):
        other.update(given)
    wanted, found = numbers(one), numbers(other)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)
