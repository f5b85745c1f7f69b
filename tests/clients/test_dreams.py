"""Dreams through the clients, and as gymnasium environments."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList

from clients import (
    AsyncGrpcPlanningClient,
    AsyncPlanningClient,
    DreamEnv,
    DreamVectorEnv,
    GrpcPlanningClient,
    PlanningClient,
)
from clients.dream_envs import final_observations
from clients.errors import NotFoundError, ServiceError, StepConflictError
from clients.retries import Retries
from tests.clients.conftest import Address
from tests.clients.proxy import LossyProxy
from tests.clients.test_contract import SEEN
from tests.docs.blocks import ROOT

ACTIONS = [[0, 1, 2], [3, 4, 0], [4, 0, 2], [1, 1, 1]]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THICK_API_KEY", "me")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(same(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other))


def test_a_dream_is_the_same_over_every_transport(address: Address) -> None:
    clients: list[Any] = [
        PlanningClient(address.http),
        PlanningClient(address.http, encoding="json"),
        GrpcPlanningClient(address.grpc),
    ]
    made = []
    for client in clients:
        with client, client.dream("doorkey", count=3, seed=7, ttl_s=60) as dream:
            assert dream.id in [each.dream_id for each in client.dreams()]
            steps = [
                dream.step(actions, include=("observation", "value", "gates"), autoreset=True)
                for actions in ACTIONS
            ]
            made.append((dream.observation, steps))
    for shown, steps in made[1:]:
        assert same(shown, made[0][0])
        for one, other in zip(steps, made[0][1], strict=True):
            assert same(one.observation, other.observation)
            for name in ("reward", "continuation", "terminated", "value", "gates_open", "context_changed"):
                assert np.allclose(getattr(one, name), getattr(other, name), equal_nan=True), name


def test_the_asynchronous_clients_dream_too(address: Address) -> None:
    async def run() -> None:
        for client in (AsyncPlanningClient(address.http), AsyncGrpcPlanningClient(address.grpc)):
            async with client, client.dream("doorkey", count=2, observation=SEEN[0], seed=1) as dream:
                made = await dream.step([0, 1])
                assert made.reward.shape == (2,)
                fork = await dream.fork()
                assert fork.step_number == 1
                await fork.close()
                await fork.close()  # it is gone, which was wanted
                with pytest.raises(NotFoundError):
                    await fork.refresh()

    asyncio.run(run())


def test_a_dream_that_is_attached_goes_on_at_its_step(client: Any) -> None:
    with client.dream("doorkey", count=2, seed=1) as dream:
        dream.step([0, 1], autoreset=True)
        other = client.attach_dream(dream.id)
        assert (other.step_number, other.count) == (1, 2)
        other.step([0, 1], autoreset=True)
        with pytest.raises(StepConflictError) as conflict:
            dream.step([1, 0], autoreset=True)
        assert conflict.value.expected_step == 2
        dream.refresh()
        dream.step([1, 0], autoreset=True)


def test_a_session_is_dreamt_on_by_a_client(client: Any) -> None:
    with client.session("doorkey", seed=3) as session:
        session.act(SEEN[0])
        with client.dream(session_id=session.id, count=2, sample=False) as dream:
            assert dream.info.model == "doorkey"
            parts = dream.observation.values() if isinstance(dream.observation, dict) else [dream.observation]
            assert all(same(part[0], part[1]) for part in parts)


@pytest.mark.parametrize("model", ["doorkey", "pads"])
def test_the_environment_passes_gymnasiums_checker(address: Address, model: str) -> None:
    env = DreamEnv(address.http, model, max_steps=5, render_mode="rgb_array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*render_modes.*|.*not within the.*spec.*|.*spec.*")
            check_env(env, skip_render_check=False)
        env.reset(seed=3)
        frame = env.render()
        assert frame.ndim == 3 and frame.dtype == np.uint8
    finally:
        env.close()


def test_seeds_reproduce_an_environment_and_episodes_are_truncated(address: Address) -> None:
    with PlanningClient(address.http) as client:
        env = DreamEnv(client, "pads", max_steps=4, seed=1)
        made = []
        for _ in range(2):
            first, _ = env.reset(seed=5)
            rows = [first]
            for step in range(4):
                shown, reward, ended, cut, info = env.step(step % 5)
                rows += [shown, reward, ended, cut, info["continuation"]]
                if ended:
                    break
            assert ended or cut
            made.append(rows)
        assert all(np.array_equal(one, other) for one, other in zip(*made, strict=True))
        env.close()
        assert client.dreams() == [] or all(each.dream_id != env.dream.id for each in client.dreams())


def test_the_first_reset_has_the_environments_seed_where_it_is_given_none(address: Address) -> None:
    def begun(own: int | None, given: int | None) -> Any:
        with PlanningClient(address.http) as client:
            env = DreamEnv(client, "pads", max_steps=4, seed=own)
            envs = DreamVectorEnv(client, "pads", num_envs=2, max_steps=4, seed=own)
            made = [env.reset(seed=given)[0], envs.reset(seed=given)[0]]
            made += [env.reset()[0], env.step(1)[0], envs.reset()[0]]
            env.close()
            envs.close()
            return made

    for other in (begun(None, 7), begun(3, 7)):
        assert all(map(same, begun(7, None), other))


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_many_environments_are_one_vector_environment(address: Address, mode: AutoresetMode) -> None:
    envs = DreamVectorEnv(address.http, "pads", num_envs=3, max_steps=3, autoreset_mode=mode, seed=2)
    assert envs.metadata["autoreset_mode"] is mode
    assert envs.observation_space.shape == (3, 64, 64, 3)
    shown, _ = envs.reset(seed=4)
    assert envs.observation_space.contains(shown)
    steps = np.zeros(3, int)
    over = np.zeros(3, bool)
    for _ in range(9):
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(gymnasium.error.ResetNeeded):
                envs.step(envs.action_space.sample())
            before = shown
            shown, _ = envs.reset(options={"reset_mask": over})
            assert np.array_equal(shown[~over], before[~over])
            steps[over] = 0
        begun = over if mode is AutoresetMode.NEXT_STEP else np.zeros(3, bool)
        shown, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        steps = np.where(begun, 0, steps + 1)
        assert (reward[begun] == 0).all()
        assert not (terminated & truncated).any()
        assert (truncated == (steps >= 3) & ~terminated).all()
        over = terminated | truncated
        if mode is AutoresetMode.SAME_STEP and over.any():
            assert infos["_final_obs"].tolist() == over.tolist()
            assert infos["_final_info"].tolist() == over.tolist()
            assert set(infos["final_info"]) == set(infos) - {
                "final_obs",
                "_final_obs",
                "final_info",
                "_final_info",
            }
            steps[over] = 0
        has = ~over if mode is AutoresetMode.SAME_STEP else ~begun
        assert infos["_continuation"].tolist() == has.tolist()
        assert (infos["continuation"][~has] == 0).all()
    envs.close()


class _Shadow(gymnasium.Env[Any, Any]):
    """Ends as another environment does, to be one of gymnasium's own vector environments."""

    def __init__(self, space: Any) -> None:
        self.observation_space, self.action_space = space, gymnasium.spaces.Discrete(9)
        self.ended = self.cut = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        about = {"continuation": 0.5, "value": 0.5}
        return self.observation_space.sample(), 0.5, self.ended, self.cut, about


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("model", ["pads", "doorkey"])
def test_what_a_vector_environment_answers_has_the_form_of_gymnasiums_own(
    address: Address, mode: AutoresetMode, model: str
) -> None:
    envs = DreamVectorEnv(address.http, model, num_envs=3, max_steps=3, autoreset_mode=mode, seed=2)
    space = envs.single_observation_space
    shadows = [_Shadow(space) for _ in range(3)]
    own = gymnasium.vector.SyncVectorEnv(
        [lambda shadow=shadow: shadow for shadow in shadows],  # type: ignore[misc]
        autoreset_mode=mode,
    )
    envs.reset()
    own.reset()
    compared = 0
    for _ in range(8):
        _, _, ended, cut, ours = envs.step(np.zeros(3, np.int64))
        for shadow, one, other in zip(shadows, ended, cut, strict=True):
            shadow.ended, shadow.cut = bool(one), bool(other)
        theirs = own.step(np.zeros(3, np.int64))[4]
        assert ("final_obs" in ours) == ("final_obs" in theirs)
        for name, value in theirs.items():
            if name not in ours and name.endswith("value"):
                continue  # a model without a critic
            mine = ours[name]
            assert type(mine) is type(value), name
            if name.startswith("_"):
                assert mine.dtype == value.dtype and mine.tolist() == value.tolist(), name
            elif name == "final_obs":
                assert mine.shape == value.shape and mine.dtype == value.dtype == object
                assert [type(each) for each in mine] == [type(each) for each in value]
                assert all(each is None or space.contains(each) for each in mine)
                compared += 1
            elif name == "final_info":
                assert mine["_continuation"].tolist() == value["_continuation"].tolist()
    assert compared or mode is AutoresetMode.NEXT_STEP
    envs.close()


def test_final_observations_of_a_dict_space_are_each_environments_own() -> None:
    rows = {"position": np.arange(6.0).reshape(3, 2), "speed": np.arange(3.0).reshape(3, 1)}
    made = final_observations(rows, np.array([True, False, True]))
    assert made.shape == (3,) and made[1] is None  # as gymnasium's own vector environments have them
    assert same(made[2], {"position": np.array([4.0, 5.0]), "speed": np.array([2.0])})
    box = final_observations(rows["position"], np.array([False, True, False]))
    assert box.dtype == object and box[0] is None and box[1].tolist() == [2.0, 3.0]


def test_closing_twice_is_closing(address: Address) -> None:
    for env in (
        DreamEnv(address.http, "pads", max_steps=3),
        DreamVectorEnv(address.http, "pads", num_envs=2, max_steps=3),
    ):
        env.close()
        env.close()


def test_closing_is_no_error_where_nobody_is_there_any_more(address: Address) -> None:
    with LossyProxy(address.http) as proxy:
        env = DreamEnv(PlanningClient(proxy.url, retries=Retries(attempts=1)), "pads", max_steps=3)
        env.reset(seed=1)
    env.close()


LEFT_OPEN = """
import sys
from clients import DreamEnv, DreamVectorEnv, PlanningClient
url = sys.argv[1]
one, many = DreamEnv(url, "pads"), DreamVectorEnv(url, "pads", num_envs=2)
with PlanningClient(url) as client:
    late = DreamVectorEnv(client, "pads", num_envs=2)
    late.dream.close()
print(one.dream.id, many.dream.id)
"""


def test_what_a_program_leaves_open_is_closed_at_its_end(address: Address, client: Any) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, address.http], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not set(ran.stdout.split()) & {each.dream_id for each in client.dreams()}


def test_a_list_of_seeds_is_one_and_every_entry_counts(address: Address) -> None:
    env = DreamVectorEnv(address.http, "pads", num_envs=2, max_steps=9)

    def play(*seeds: int | None) -> Any:
        env.reset(seed=list(seeds))
        return [env.step(np.zeros(2, np.int64))[0] for _ in range(4)]

    one, again, other = play(1, 2), play(1, 2), play(1, 3)
    assert all(map(same, one, again)) and not all(map(same, one, other))
    env.close()


def test_a_reset_that_does_not_fit_is_refused_and_changes_nothing(address: Address) -> None:
    env = DreamVectorEnv(address.http, "pads", num_envs=2, max_steps=9)
    shown, _ = env.reset(seed=1)
    for mask in ([True], [True] * 3, [[True], [True]], True):
        with pytest.raises(ValueError, match="reset_mask: expected 2 bools"):
            env.reset(options={"reset_mask": np.array(mask)})
    for seeds in ([1], [1, 2, 3], [1, -1]):
        with pytest.raises(ValueError, match="seed: expected 2 of them"):
            env.reset(seed=seeds)
    assert same(env.dream.refresh().observation, shown)
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_infos_have_the_masks_that_gymnasiums_wrappers_read(address: Address, mode: AutoresetMode) -> None:
    env = DictInfoToList(DreamVectorEnv(address.http, "pads", num_envs=2, max_steps=2, autoreset_mode=mode))
    env.reset(seed=1)
    over = np.zeros(2, np.bool_)
    for _ in range(4):
        begun = over if mode is AutoresetMode.NEXT_STEP else np.zeros(2, np.bool_)
        _, _, terminated, truncated, infos = env.step(np.zeros(2, np.int64))
        over = terminated | truncated
        for info, again, ended in zip(infos, begun, over, strict=True):
            last = info["final_info"] if ended and mode is AutoresetMode.SAME_STEP else info
            assert again == ("continuation" not in last)  # as a single environment's reset says nothing
            assert 0 <= last.get("continuation", 0) <= 1
    env.close()


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_no_message_can_hold_is_named(client: Any, seed: int) -> None:
    with pytest.raises((ValueError, ServiceError), match=r"dream of model pads: .*seed"):
        client.dream("pads", seed=seed)


def test_a_wrong_argument_is_said_before_anything_is_made(address: Address) -> None:
    with PlanningClient(address.http) as client:
        before = len(client.dreams())
        for wrong in (
            {"max_steps": 0},
            {"max_steps": 2.5},
            {"max_steps": float("nan")},
            {"max_steps": "9"},
            {"render_mode": "human"},
            {"start": "session"},
            {"start": {"obs": 1}},
            {"start": {"seed": 1}},
        ):
            with pytest.raises(ValueError, match="expected"):
                DreamEnv(client, "pads", **wrong)
        for count in (-1, 0, 2.0, "2"):
            with pytest.raises(ValueError, match="num_envs: expected"):
                DreamVectorEnv(client, "pads", num_envs=count)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a client that waits"):
            DreamEnv(AsyncPlanningClient(address.http), "pads")  # type: ignore[arg-type]
        assert len(client.dreams()) == before
