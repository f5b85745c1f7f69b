"""Numbers that are none stop a run with what, where and since when, and never reach a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import finish, lines, tensors
from thick.configuration import merge
from thick.data.dataset import collect
from thick.data.finite import NotFiniteError, check_answer, not_finite
from thick.data.replay import ReplayRing
from thick.training.config import TrainConfig
from thick.training.evaluate import evaluate_agent
from thick.training.finite import check_update
from thick.training.trainer import RunStoppedError, Trainer


@pytest.mark.parametrize("where", ["observation", "reward"])
def test_an_environment_that_answers_nan_stops_the_run_at_that_step(
    online: TrainConfig, tmp_path: Path, where: str
) -> None:
    # 12 steps of each stream are the prefill, the last of which are left; then come 1.5 an update.
    config = merge(online, {"env_options": {"nan_at": 14, "nan_in": where, "length": 5}, "updates": 20})
    with pytest.raises(RunStoppedError) as error:
        finish(Trainer(config, tmp_path / "run"))
    text = str(error.value)
    assert (
        f"walk:steps, stream 0, step 4 of the episode with seed 1000000002: the {where} is not finite (nan"
        in text
    )
    assert str(tmp_path / "run" / "checkpoints" / "000000002") in text
    assert "stopped" in lines(tmp_path / "run")[-1]
    assert all(
        value.isfinite().all() for value in tensors(tmp_path / "run").values() if value.is_floating_point()
    )


def test_a_nan_in_the_prefill_leaves_a_folder_that_can_be_started_anew(
    walk: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunStoppedError, match="no checkpoint was written yet"):
        finish(Trainer(merge(walk, {"env_options": {"nan_at": 5}}), tmp_path / "run"))
    finish(Trainer(walk, tmp_path / "run"), until=1)


def test_an_answer_that_is_in_no_space_stops_the_run_as_nan_does(online: TrainConfig, tmp_path: Path) -> None:
    config = merge(online, {"env_options": {"nan_at": 14, "nan_in": "shape", "length": 5}, "updates": 20})
    with pytest.raises(RunStoppedError) as error:
        finish(Trainer(config, tmp_path / "run"))
    said = "expected shape (3,), got (4,) (stream 0, step 4 of the episode with seed 1000000002). Stopped at"
    assert said in str(error.value) and str(tmp_path / "run" / "checkpoints") in str(error.value)


def test_an_error_of_an_environment_says_in_which_episode_it_came(walk: TrainConfig, tmp_path: Path) -> None:
    config = merge(walk, {"env_options": {"nan_at": 5, "nan_in": "raises", "length": 4}})
    with pytest.raises(RuntimeError, match="diverged") as error:
        finish(Trainer(config, tmp_path / "run"))
    assert error.value.__notes__ == ["walk:steps: stream 0, step 1 of the episode with seed 1000000001"]


@pytest.mark.parametrize(
    ("what", "cause"), [("loss", "the updates are the cause"), ("gradient", "grad_norm")]
)
def test_updates_that_are_not_finite_stop_the_run_and_are_not_saved(
    walk: TrainConfig, tmp_path: Path, what: str, cause: str
) -> None:
    trainer = Trainer(walk, tmp_path / "run")
    weight = trainer.learner.model.world.heads.reward.out.weight
    if what == "loss":
        handle = weight.register_hook(lambda gradient: gradient)
        trainer.run(until=4)
        with torch.no_grad():
            weight.fill_(float("inf"))
    else:
        trainer.run(until=4)
        # Loss and weights are finite here; what flows back from the loss is not.
        handle = weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(RunStoppedError, match=f"update 5: not finite.*{cause}.*000000004"):
        trainer.run()
    handle.remove()
    trainer.close()
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "000000004"


def test_a_data_set_with_nan_is_named_as_the_cause(walk: TrainConfig, tmp_path: Path) -> None:
    ring, _ = collect("walk:steps", policy="random", steps=40, streams=2, seed=0, directory=tmp_path / "data")
    ring._arrays["reward"][:] = np.nan
    ring.flush()
    config = merge(walk, {"data": {"dataset": str(tmp_path / "data")}})
    with pytest.raises(RunStoppedError, match="The data are the cause: the reward in rows"):
        finish(Trainer(config, tmp_path / "run"))


def test_metrics_that_are_undefined_stop_nothing() -> None:
    fine = {"loss/low": torch.tensor(1.0), "high/per_segment/state": torch.tensor(float("nan"))}
    check_update(3, fine, {})
    for name in ("loss/low", "grad_norm/low", "world/loss", "world/grad_norm_actor"):
        with pytest.raises(NotFiniteError, match="update 3"):
            check_update(3, fine | {name: torch.tensor(float("inf"))}, {})


def test_weights_that_are_not_finite_are_no_beginning(walk: TrainConfig, tmp_path: Path) -> None:
    from thick.training import trainer

    def spoilt(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"heads.reward.out.weight": torch.tensor([float("nan")])}, {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "load_weights", spoilt)
        with pytest.raises(ValueError, match=r"heads.reward.out.weight is not finite"):
            Trainer(merge(walk, {"init": "somewhere"}), tmp_path / "run")


def test_evaluation_names_the_episode_of_a_nan() -> None:
    with pytest.raises(NotFiniteError, match="step 3 of the episode with seed 5: the reward is not finite"):
        evaluate_agent(
            None, "walk:steps", settings=None, episodes=1, seed=5, options={"nan_at": 3, "nan_in": "reward"}
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_numbers_that_are_too_large_to_learn_from_are_named_too(dtype: Any) -> None:
    answer = {"observation": np.array([[0, 10**15], [0, 10**16]], dtype)}
    check_answer(answer, 0, where="there")
    with pytest.raises(
        NotFiniteError, match=r"there: the observation is too large to learn from \(1.*at most 1e\+15"
    ):
        check_answer(answer, 1, where="there")
    assert list(not_finite(answer)["observation"]) == [False, True]


def test_a_ring_is_never_given_what_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError):
        collect(
            "walk:steps",
            policy="random",
            steps=80,
            streams=2,
            seed=0,
            directory=tmp_path,
            options={"nan_at": 4},
        )
    assert not (tmp_path / "replay.json").exists()
    with pytest.raises(FileNotFoundError):
        ReplayRing.open(tmp_path)
