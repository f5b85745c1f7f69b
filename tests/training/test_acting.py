"""The acting copy: takes weights in place, explores as its learner asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import ONLINE, finish, lines
from thick.configuration import merge
from thick.data.collect import Collector
from thick.pytrees import leaves
from thick.runtimes.native import library
from thick.runtimes.native.library import NativeUnavailable
from thick.runtimes.native.model import NativeModel
from thick.runtimes.torch import traced
from thick.runtimes.torch.model import FrozenModel
from thick.runtimes.torch.refresh import take_weights, tensors_of
from thick.training import copies
from thick.training.acting import AgentPolicy
from thick.training.config import TrainConfig
from thick.training.copies import ActingCopy
from thick.training.learner import Learner
from thick.training.trainer import Trainer, resume


def _learner(config: TrainConfig, seed: int) -> tuple[Learner, Collector]:
    collector = Collector(config.env, streams=2, seed=seed)
    torch.manual_seed(seed)
    return Learner(config, collector.observation_space, collector.action_space), collector


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_model_that_took_weights_is_the_model_they_come_from_traces_included(
    walk: TrainConfig, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(traced, "SEEN", 2)
    one, other = (_learner(walk, seed)[0].model for seed in (1, 2))
    acting, wanted = (FrozenModel(model, precision=precision) for model in (one, other))
    observation = {"observation": torch.linspace(-1, 1, 6).reshape(2, 3)}

    def numbers(model: FrozenModel) -> list[torch.Tensor]:
        action = torch.eye(3)[:2]
        belief = model.observe(
            model.initial(2), action, model.encode(observation), torch.tensor([True, False])
        )
        landing = model.high.jump(belief.stoch, belief.context, torch.tensor([0, 1]))  # type: ignore[union-attr]
        ahead = model.search.imagine(belief, action)
        found = [
            *leaves(belief),
            *landing,
            *leaves(ahead),
            *model.search.outcome(ahead),
            model.exact.value(belief),
        ]
        return [x for x in found if isinstance(x, torch.Tensor)]

    with torch.no_grad():
        for _ in range(4):
            before = numbers(acting)
        acting.take(wanted)
        for _ in range(3):
            after = numbers(acting)
        fresh = numbers(FrozenModel(other, precision=precision))
    assert all(torch.equal(x, y) for x, y in zip(after, fresh, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_weights_of_another_model_are_refused(walk: TrainConfig) -> None:
    model = FrozenModel(_learner(walk, 1)[0].model)
    other = FrozenModel(_learner(merge(walk, {"model": {"deter": 8}}), 1)[0].model)
    with pytest.raises(ValueError, match="those of another model"):
        take_weights(model, tensors_of(other))


@pytest.fixture(params=["native", "torch"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the acting copy runs in; torch where the kernels cannot be had."""

    def unavailable(*_: Any, **__: Any) -> Any:
        raise NativeUnavailable("not here")

    if request.param == "torch":
        monkeypatch.setattr(copies, "native_agent", unavailable)
    return str(request.param)


def _ahead(copy: ActingCopy) -> bytes:
    """What the copy's world model and high level imagine of one state, as bits."""
    model = copy.agent.model
    xp = model.arrays
    with xp.no_grad():
        belief = model.begin(xp.zeros(1, 3))
        landing = model.high.jump(belief.stoch, belief.context, xp.array([1]))
        return b"".join(xp.numpy(x).tobytes() for x in (*leaves(belief), *leaves(landing)))


def test_the_acting_copy_follows_the_learner_after_so_many_steps(walk: TrainConfig, runtime: str) -> None:
    config = merge(walk, {"data": ONLINE})
    learner, collector = _learner(config, 1)
    policy = AgentPolicy(learner, config, refresh=2)
    assert isinstance(policy._copy.agent.model, NativeModel if runtime == "native" else FrozenModel)
    collector.step(policy)
    followed = []
    for _ in range(4):
        with torch.no_grad():
            for weight in learner.model.parameters():
                weight.add_(0.1)
        collector.step(policy)
        followed.append(_ahead(policy._copy) == _ahead(learner.acting_copy({})))
    assert followed == [True, False, True, False]


def test_an_acting_copy_goes_on_as_it_was(walk: TrainConfig, runtime: str) -> None:
    config = merge(walk, {"data": ONLINE})
    learner, collector = _learner(config, 1)
    policy = AgentPolicy(learner, config, refresh=4)
    for _ in range(3):
        collector.step(policy)
    saved = {name: value.clone() for name, value in policy.tensors().items()}, policy.state()
    other = AgentPolicy(_learner(config, 2)[0], config, refresh=4)
    assert other.restore(*saved, streams=2) == []
    assert _ahead(other._copy) == _ahead(policy._copy)
    observations, first = [np.zeros(3, np.float32)] * 2, np.zeros(2, bool)
    assert other(collector.envs, observations, first) == policy(collector.envs, observations, first)


def test_a_checkpoint_of_an_earlier_release_is_gone_on_from_with_the_learner_s_weights(
    walk: TrainConfig,
) -> None:
    config = merge(walk, {"data": ONLINE})
    learner, _ = _learner(config, 1)
    policy = AgentPolicy(learner, config)
    frozen = {f"weights.{name}": x for name, x in tensors_of(FrozenModel(learner.model)).items()}
    (note,) = policy.restore(frozen, policy.state(), streams=2)
    assert "an earlier release" in note
    assert _ahead(policy._copy) == _ahead(learner.acting_copy({}))


def test_a_run_that_goes_on_without_the_kernels_says_that_it_differs(
    walk: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    trainer = Trainer(merge(walk, {"updates": 3, "data": ONLINE}), run)
    trainer.run(until=1)
    trainer.close()

    def unavailable() -> str:
        raise NativeUnavailable("libthick.so is not there: build it")

    with monkeypatch.context() as patch:
        patch.setattr(library, "instructions", unavailable)
        trainer = resume(run)
        trainer.run(until=2)
        trainer.close()
    assert "torch acts, which takes longer: libthick.so is not there: build it" in capsys.readouterr().err
    assert finish(resume(run))
    there, back = [line["resumed"]["note"] for line in lines(run) if "resumed" in line]
    assert there.startswith("native chose the actions before this checkpoint, torch does")
    assert back.startswith("torch chose the actions before this checkpoint, native does")


def test_a_wrong_set_of_instructions_is_refused_before_anything_is_collected(
    walk: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THICK_INSTRUCTIONS", "avx3")
    library._chosen.cache_clear()
    try:
        with pytest.raises(ValueError, match="THICK_INSTRUCTIONS: expected auto"):
            Trainer(merge(walk, {"data": ONLINE}), tmp_path / "run")
    finally:
        library._chosen.cache_clear()


@pytest.mark.parametrize("task", ["walk:steps", "walk:push"])
def test_an_actor_is_sampled_and_no_other_randomness_is_added(walk: TrainConfig, task: str) -> None:
    config = merge(
        walk, {"env": task, "data": {**ONLINE, "exploration": 1.0, "planner": {"method": "policy"}}}
    )
    learner, collector = _learner(config, 1)
    policy = AgentPolicy(learner, config)
    assert policy.settings.temperature == 1.0
    observations = [np.zeros(3, np.float32)] * 2

    def act(**changes: Any) -> list[list[float]]:
        policy = AgentPolicy(learner, merge(config, changes))
        first = np.ones(2, bool)
        return [np.asarray(policy(collector.envs, observations, first)).ravel().tolist() for _ in range(12)]

    assert act() == act(data={"exploration": 0.0})
    assert len({tuple(actions) for actions in act()}) > 1
    still = act(data={"planner": {"method": "policy", "temperature": 0.0}})
    assert len({tuple(actions) for actions in still}) == 1


def test_planned_actions_are_explored(walk: TrainConfig, tmp_path: Path) -> None:
    config = merge(walk, {"data": {**ONLINE, "exploration": 1.0}})
    learner, collector = _learner(config, 1)
    policy = AgentPolicy(learner, config)
    observations = [np.zeros(3, np.float32)] * 2
    chosen = [policy(collector.envs, observations, np.ones(2, bool)) for _ in range(20)]
    assert {action for actions in chosen for action in actions} == {0, 1, 2}
