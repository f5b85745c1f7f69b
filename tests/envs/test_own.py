"""Environments of one's own: registered ids, files, modules, other packages' families; what is refused, in one line."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import thick.envs
from thick.envs import (
    MissingPackageError,
    UnknownEnvironmentError,
    UnusableEnvironmentError,
    check,
    check_unasked,
    make,
)
from thick.envs.actions import ActionCodec
from thick.envs.adapt import adapted
from thick.envs.kinds import kinds_of
from thick.envs.options import read_options
from thick.envs.spaces import space_from_json
from thick.envs.trial import step_result, try_out
from thick.spaces import space_to_json

CORRIDOR = '''
from dataclasses import dataclass
import gymnasium, numpy as np

@dataclass
class Size:
    length: int

class Corridor(gymnasium.Env):
    """Walk right to the end."""

    def __init__(self, length=5):
        self.size = Size(length)
        self.observation_space = gymnasium.spaces.Box(0, length, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        over = self.place == self.size.length
        return np.array([self.place], np.float32), float(over), over, False, {}

class Needs(Corridor):
    def __init__(self, length, width=1):
        super().__init__(length)

class Breaks(Corridor):
    def __init__(self):
        raise RuntimeError("no such robot")

class Leaves(Corridor):
    def __init__(self):
        raise SystemExit("no licence")

class Stuck(Corridor):
    def close(self):
        raise RuntimeError("the arm does not answer")

class OldReset(Corridor):
    def reset(self):
        return np.zeros(1, np.float32)

class OldStep(Corridor):
    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, {}

class OldAnswer(Corridor):
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32)

class Falls(Corridor):
    def step(self, action):
        return 1 / 0

class Unreachable(Corridor):
    def step(self, action):
        raise ConnectionRefusedError("the simulator does not answer")

class Ends(Corridor):
    def step(self, action):
        raise SystemExit("licence expired")

class Spaceless(Corridor):
    observation_space = property(lambda self: 1 / 0, lambda self, value: None)

class Shape(Corridor):
    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}

class NotAnEnvironment:
    pass

def wrapped(steps=7):
    return gymnasium.wrappers.TimeLimit(Corridor(), steps)

def vector():
    return gymnasium.vector.SyncVectorEnv([Corridor, Corridor])

made = Corridor()
number = 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of environments in the folder where one works."""
    (tmp_path / "own_env.py").write_text(CORRIDOR)
    monkeypatch.chdir(tmp_path)
    return "own_env.py"


def test_a_class_of_a_file_becomes_an_environment(own: str) -> None:
    env = make(f"{own}:Corridor", length=3)
    assert space_to_json(env.observation_space)["high"] == 3
    env.reset(seed=0)
    steps = [env.step(1) for _ in range(3)]
    assert [step[2] for step in steps] == [False, False, True]
    assert steps[-1][1] == 1.0 and steps[-1][4] == {"events": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(make(f"./{own}:Corridor"))


def test_functions_wrapped_environments_and_modules_do_too(own: str) -> None:
    env = make(f"{own}:wrapped", steps=2)
    env.reset(seed=0)
    assert [env.step(1)[3] for _ in range(2)] == [False, True]
    check(f"{Path.cwd()}/{own}:Corridor")
    check("own_env:Corridor", length=2)
    env = make(f"{own}:Corridor", time_limit=2)
    env.reset()
    assert [env.step(0)[3] for _ in range(2)] == [False, True]


def test_an_environment_that_fails_while_it_closes_can_be_used_all_the_same(own: str) -> None:
    with pytest.warns(UserWarning, match=r"Stuck: close\(\) failed: RuntimeError: the arm does not answer"):
        check(f"{own}:Stuck", length=2)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Corridoor", r"own_env.py has no 'Corridoor'; did you mean 'own_env.py:Corridor'\?"),
        ("Corridor+map", r"no view '\+map'"),
        ("Needs", r"needs 'length': give --env_options '{length: ...}'"),
        ("Leaves", r"could not be made: SystemExit: no licence \(own_env.py line \d+\)"),
        ("Breaks", r"could not be made: RuntimeError: no such robot \(own_env.py line \d+\)"),
        ("OldReset", "takes no seed, as in the old gym"),
        ("OldStep", r"step\(\) gave 4 values .the old gym's done"),
        ("OldAnswer", r"reset\(\) gave a ndarray, as the old gym has it"),
        ("Falls", r"step\(\) failed: ZeroDivisionError: division by zero \(own_env.py line \d+\)"),
        (
            "Unreachable",
            r"step\(\) failed: ConnectionRefusedError: the simulator does not answer \(own_env.py line",
        ),
        ("Ends", r"step\(\) failed: SystemExit: licence expired \(own_env.py line \d+\)"),
        ("Spaceless", r"observation_space failed: ZeroDivisionError"),
        ("Shape", r"expected shape \(1,\), got \(3,\)"),
        ("NotAnEnvironment", "gave a NotAnEnvironment: expected a gymnasium.Env"),
        ("vector", "makes several environments at once"),
        ("made", "an environment that is made already: name a class or a function"),
        ("number", "is int: name a class or a function"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(own: str, name: str, says: str) -> None:
    with pytest.raises((UnusableEnvironmentError, UnknownEnvironmentError), match=says) as error:
        check(f"{own}:{name}")
    assert "\n" not in str(error.value)


def test_an_unknown_option_is_answered_with_the_nearest(own: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match="no option 'lenght'; did you mean 'length'"):
        make(f"{own}:Corridor", lenght=3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("class Broken(:", r"own2.py cannot be imported: line 1: invalid syntax"),
        (
            "import no_such_package_at_all",
            "own2.py cannot be imported: No module named 'no_such_package_at_all'",
        ),
        ("1 / 0", r"own2.py cannot be imported: ZeroDivisionError: division by zero \(own2.py line 1\)"),
        ("raise SystemExit(3)", "own2.py cannot be imported: SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str
) -> None:
    (tmp_path / "own2.py").write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnusableEnvironmentError, MissingPackageError), match=says):
        make("own2.py:Broken")


def test_a_file_that_is_not_there_and_a_file_without_a_name_say_so(own: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match=r"no file envs/own_env.py here"):
        make("envs/own_env.py:Corridor")
    with pytest.raises(UnknownEnvironmentError, match=r"FILE.py:CLASS.*it has .*own_env.py:Corridor"):
        make("own_env.py")
    with pytest.raises(UnknownEnvironmentError, match="unknown environment family 'nowhere_at_all'"):
        make("nowhere_at_all:Corridor")


def test_registered_environments_are_made_by_their_id() -> None:
    env = make("gym:CartPole-v1", seed=3)
    assert kinds_of(env.observation_space) == {"": "vector"}
    assert env.reset()[0].dtype == np.float32
    check("gym:Taxi-v3")
    check("gym:MountainCarContinuous-v0", time_limit=5)


def test_a_module_that_registers_its_own_is_imported(own: str) -> None:
    Path("registers.py").write_text(
        "import gymnasium\ngymnasium.register('Own/Walk-v0', entry_point='own_env:Corridor', max_episode_steps=4)\n"
    )
    check("gym:registers:Own/Walk-v0", length=9)


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("gym:CartPol-v1", "did you mean 'gym:CartPole-v1'"),
        ("gym:no_such_module:Walk-v0", "no_such_module cannot be imported"),
        ("gym:CartPole-v1+map", r"no view '\+map'"),
    ],
)
def test_an_id_that_is_not_registered_says_so(env_id: str, says: str) -> None:
    with pytest.raises((UnknownEnvironmentError, MissingPackageError), match=says):
        make(env_id)


def test_a_family_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("boards", "thick.envs.pinpad", "thick.envs"),
        EntryPoint("exact", "thick.envs.pinpad:FAMILY", "thick.envs"),
        EntryPoint("broken", "no_such_module_at_all", "thick.envs"),
    ]
    monkeypatch.setattr(thick.envs.registry, "_plugins", lambda: {point.name: point for point in points})
    assert thick.envs.families()[-3:] == ("boards", "exact", "broken")
    assert make("boards:three").reset(seed=0)[0].shape == (64, 64, 3)
    assert make("exact:three").reset(seed=0)[0].shape == (64, 64, 3)
    with pytest.raises(UnusableEnvironmentError, match=r"broken: no_such_module_at_all .* cannot be loaded"):
        make("broken:three")


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("subprocess:run", "a module of Python itself"),
        ("gym:os.path:Walk-v0", "a module of Python itself"),
        ("own_env:wrapped", "a function or another class"),
        ("own_env.py:wrapped", "a function or another class"),
        ("../own_env.py:Corridor", "no file|outside"),
        ("/etc/own_env.py:Corridor", "outside"),
    ],
)
def test_what_a_manifest_names_is_made_unasked_only_if_it_is_an_environment(
    own: str, env_id: str, says: str
) -> None:
    for fine in (f"{own}:Corridor", "own_env:Corridor", "gym:CartPole-v1", "pinpad:three"):
        check_unasked(fine)
    with pytest.raises((UnusableEnvironmentError, UnknownEnvironmentError), match=says):
        check_unasked(env_id)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('{"length": 3}', {"length": 3}),
        ("{split: train, without: [mission, a/b], x: 1e-3, y: -2, on: true}",
         {"split": "train", "without": ["mission", "a/b"], "x": 0.001, "y": -2, "on": True}),
        ('{name: "two words", inner: {k: null}}', {"name": "two words", "inner": {"k": None}}),
    ],
)  # fmt: skip
def test_options_are_json_in_which_words_need_no_quotes(text: str, options: dict[str, Any]) -> None:
    assert read_options(text) == options


@pytest.mark.parametrize("text", ["length", "[1]", "{length: }", "{3}"])
def test_options_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected options by name"):
        read_options(text)


class Shows(gymnasium.Env):
    """Shows samples of a space, whatever one does."""

    def __init__(self, observation: gymnasium.Space, action: gymnasium.Space | None = None) -> None:
        self.observation_space, self.action_space = observation, action or Discrete(2)
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.actions.append(action)
        return self.observation_space.sample(), 0, False, False, {}


class Answers(Shows):
    """Answers with one thing, whatever its space says."""

    def __init__(self, observation: gymnasium.Space, answer: Any) -> None:
        super().__init__(observation)
        self.answer = answer

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.answer, {}


@pytest.mark.parametrize(
    ("space", "answer", "kept"),
    [
        (Box(0, 255, (3,), np.uint8), [256, -1, 3], [255, 0, 3]),
        (Box(0, 255, (3,), np.uint8), [300.0, 4.0, 3.0], [255, 4, 3]),
        (Box(-5, 5, (1,), np.int8), [259], [5]),
        (Box(0, 9, (1,), np.int64), [-1], [0]),
        (Box(-1, 1, (1,), np.float32), [1e300], [1]),
    ],
)
def test_numbers_beyond_a_space_are_clipped_with_a_warning_and_never_wrap(
    space: Box, answer: list[float], kept: list[float]
) -> None:
    env = adapted(Answers(space, answer), "own")
    with pytest.warns(UserWarning, match="left its space"):
        observation, _ = env.reset()
    assert observation.tolist() == kept and env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("space", "answer", "says"),
    [
        (Box(0, 255, (2,), np.uint8), [0.0, 1.5], "expected whole numbers .uint8., got 1.5"),
        (Box(0, 255, (2,), np.uint8), [0.0, np.nan], "expected whole numbers .uint8., got nan"),
        (Box(0, 255, (2,), np.uint8), [0.0, np.inf], "expected whole numbers .uint8., got inf"),
        (Discrete(5), 1.7, "1.7 is not in Discrete"),
        (Discrete(5), 5, "5 is not in Discrete"),
        (MultiBinary(2), [0.5, 1], "not in MultiBinary"),
        (MultiBinary(2), [0, 256], "not in MultiBinary"),
        (MultiDiscrete([3, 3]), [1, 2.5], "not in MultiDiscrete"),
        (Box(-1, 1, (3,)), None, "expected numbers .*, got None"),
    ],
)
def test_what_is_in_no_space_is_refused(space: gymnasium.Space, answer: Any, says: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=says):
        adapted(Answers(space, answer), "own").reset()


def test_infinity_is_not_clipped_to_the_bounds_but_stays_a_fault() -> None:
    env = adapted(Answers(Box(-1, 1, (3,), np.float32), [np.inf, 0.5, -np.inf]), "own")
    assert env.reset()[0].tolist() == [np.inf, 0.5, -np.inf]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["reset", "observation", "reward"])
def test_an_environment_that_is_not_finite_from_its_first_step_is_refused(where: str, value: float) -> None:
    wrong = Answers(Box(-1, 1, (1,), np.float32), [value if where == "reset" else 0.5])
    observation = np.array([value if where == "observation" else 0.5], np.float32)
    reward = value if where == "reward" else 0.0
    wrong.step = lambda action: (observation, reward, False, False, {})  # type: ignore[method-assign]
    named = "the reward" if where == "reward" else "the observation"
    with pytest.raises(
        UnusableEnvironmentError, match=rf"own: (reset|step)\(\) gave {value} in {named}: expected finite"
    ):
        try_out(adapted(wrong, "own"), "own")


@pytest.mark.parametrize(
    ("space", "answer", "reward"),
    [
        (Box(-np.inf, np.inf, (1,), np.float64), [0.5], 1e30),
        (Box(-np.inf, np.inf, (1,), np.float64), [-1e16], 0.0),
        (Box(-(2**62), 2**62, (2,), np.int64), [0, 2**61], 0.0),
    ],
)
def test_numbers_that_are_too_large_to_learn_from_are_refused_at_the_trial(
    space: gymnasium.Space, answer: list[Any], reward: float
) -> None:
    wrong = Answers(space, answer)
    observation = np.array(answer, space.dtype)
    wrong.step = lambda action: (observation, reward, False, False, {})  # type: ignore[method-assign]
    with pytest.raises(
        UnusableEnvironmentError, match="too large to learn from: expected numbers of at most"
    ):
        try_out(adapted(wrong, "own"), "own")


@pytest.mark.parametrize("error", [OSError("no such asset"), SystemExit(3)])
def test_what_an_environment_raises_is_not_taken_for_a_fault_of_our_own_disk(error: BaseException) -> None:
    env = adapted(Shows(Discrete(3)), "own")

    def failing(*arguments: Any, **options: Any) -> Any:
        raise error

    env.env.step = env.env.reset = failing
    with pytest.raises(UnusableEnvironmentError, match=rf"own: step\(\) failed: {type(error).__name__}"):
        env.step(0)
    with pytest.raises(UnusableEnvironmentError, match=rf"own: reset\(\) failed: {type(error).__name__}"):
        env.reset()


@pytest.mark.parametrize(
    ("reward", "terminated", "says"),
    [
        (None, False, "the reward is None: expected one number"),
        (1j, False, "the reward is 1j: expected one number"),
        ([1, 2], False, "expected one number"),
        (0, np.nan, "terminated is nan: expected true or false"),
        (0, np.array([True, False]), "terminated is array.*: expected true or false"),
    ],
)
def test_a_step_that_says_neither_number_nor_truth_is_refused(
    reward: Any, terminated: Any, says: str
) -> None:
    with pytest.raises(UnusableEnvironmentError, match=says):
        step_result((0, reward, terminated, False, {}), "own")


@pytest.mark.parametrize("task", ["leaving:X", "gym:leaving:Id-v0"])
def test_a_module_that_ends_the_program_is_an_error_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    (tmp_path / "leaving.py").write_text("import sys; sys.exit('bye')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnusableEnvironmentError, match=r"leaving cannot be imported.*bye"):
        check(task)


def shown(space: gymnasium.Space, **options: Any) -> tuple[Any, Any]:
    env = adapted(Shows(space), "own", **options)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    return env.observation_space, observation


def test_dicts_in_dicts_and_tuples_are_named_by_their_paths() -> None:
    space = Dict(robot=Dict(arm=Tuple([Discrete(3), Box(-1, 1, (2,))])), time=Discrete(5, start=1))
    found, observation = shown(space)
    assert sorted(found.spaces) == sorted(observation) == ["robot/arm/0", "robot/arm/1", "time"]
    found, _ = shown(space, without=["robot/arm"])
    assert list(found.spaces) == ["time"]


@pytest.mark.parametrize(
    ("space", "options", "shape"),
    [
        (Box(0, 255, (84, 84), np.uint8), {}, (84, 84, 1)),
        (Box(0, 255, (3, 64, 48), np.uint8), {"channels": "first"}, (64, 48, 3)),
        (Box(0, 255, (4, 84, 84), np.uint8), {"channels": "first"}, (84, 84, 4)),
        (Box(0, 255, (4, 64, 64, 3), np.uint8), {}, (64, 64, 12)),
        (Box(0, 255, (4, 3, 64, 64), np.uint8), {"channels": "first"}, (64, 64, 12)),
        (Box(0, 255, (100, 120, 3), np.uint8), {"resize": 64}, (64, 64, 3)),
        (Box(0, 1, (64, 64, 3), np.float32), {}, (64, 64, 3)),
    ],
)
def test_frames_become_images_channels_last(
    space: Box, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    found, observation = shown(space, **options)
    assert found.shape == observation.shape == shape
    assert kinds_of(found) == {"": "image"}
    if "resize" not in options:
        env = Shows(space)
        raw, _ = env.reset(seed=0)
        assert sorted(np.ravel(raw).tolist()) == sorted(observation.ravel().tolist())


def test_the_newest_of_stacked_frames_comes_last() -> None:
    space = Box(0, 255, (4, 16, 16, 3), np.uint8)
    env = Shows(space)
    raw, _ = env.reset(seed=0)
    assert np.array_equal(shown(space)[1][..., -3:], raw[-1])


def test_text_is_left_out_by_a_view() -> None:
    env = make("gym:minigrid:MiniGrid-Empty-5x5-v0+notext")
    assert set(env.reset(seed=0)[0]) == {"image", "direction"}
    with pytest.raises(UnusableEnvironmentError, match=r"mission is text.*\+notext"):
        make("gym:minigrid:MiniGrid-Empty-5x5-v0")


@pytest.mark.parametrize(
    ("space", "options", "says"),
    [
        (
            Dict(a=gymnasium.spaces.Sequence(Discrete(2))),
            {},
            "a: Sequence observations cannot be learned from",
        ),
        (Dict(a=gymnasium.spaces.Graph(Discrete(2), None)), {}, "a: Graph observations"),
        (Box(0, 1, (0,), np.float32), {}, "holds no numbers"),
        (Box(0, 255, (3, 64, 64), np.uint8), {}, "channels last, please.*channels: first"),
        (Dict({"a/b": Discrete(2), "a": Dict(b=Discrete(2))}), {}, "would be called 'a/b'"),
        (Text(3), {}, "the observation is text"),
        (Dict(a=Discrete(2)), {"without": ["b"]}, "no entry 'b'; there are a"),
        (Dict(a=Discrete(2)), {"without": "a"}, "nothing of the observation is left"),
        (Discrete(2), {"channels": "third"}, "channels: expected first or last"),
        (Discrete(2), {"resize": 3}, "resize: expected a side"),
        (Discrete(2), {"time_limit": 0}, "time_limit: expected"),
        (Discrete(2), {"action_bounds": [-1, 1]}, "only a Box has bounds"),
    ],
)
def test_an_observation_that_cannot_be_learned_from_is_refused(
    space: gymnasium.Space, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnusableEnvironmentError, match=says):
        shown(space, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"without": 3}, r"without: expected names of entries, such as \[mission\], got 3"),
        ({"without": [0]}, "without: expected names of entries"),
        ({"resize": 1.5}, "resize: expected a side of at least 16 pixels"),
        ({"resize": {"height": 16}}, "resize: expected a side of at least 16 pixels"),
    ],
)
def test_an_option_of_another_type_says_what_was_expected(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=says):
        adapted(Shows(Box(0, 255, (32, 32, 3), np.uint8)), "own", **options)


def test_bounds_of_whole_actions_are_the_whole_numbers_between() -> None:
    def bounded(bounds: list[float]) -> Any:
        env = Shows(Discrete(2))
        env.action_space = Box(0, 255, (2,), np.uint8)
        return adapted(env, "own", action_bounds=bounds).action_space

    assert bounded([-1, 1]) == Box(0, 1, (2,), np.uint8)
    assert bounded([0.5, 300]) == Box(1, 255, (2,), np.uint8)
    with pytest.raises(UnusableEnvironmentError, match="leaves nothing"):
        bounded([0.2, 0.8])


def test_actions_without_bounds_need_some() -> None:
    free = Box(-np.inf, np.inf, (2,), np.float32)
    with pytest.raises(UnusableEnvironmentError, match=r"action 0 goes from -inf to inf.*action_bounds"):
        adapted(Shows(Discrete(2), free), "own")
    env = adapted(Shows(Discrete(2), free), "own", action_bounds=[-2, [1, 3]])
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-2, -2], [1, 3])


@pytest.mark.parametrize("space", [MultiBinary(3), MultiDiscrete([2, 3]), Discrete(3, start=4)], ids=str)
def test_an_action_reaches_the_environment_in_its_own_type(space: gymnasium.Space) -> None:
    inner = Shows(Discrete(2), space)
    env = adapted(inner, "own")
    env.reset(seed=0)
    travelled = space_from_json(space_to_json(env.action_space))
    codec = ActionCodec(travelled)
    for action in codec.decode(np.eye(codec.size)):
        env.step(action)
    assert len({str(action) for action in inner.actions}) == codec.size


def test_values_beyond_the_space_are_clipped_with_one_warning() -> None:
    env = Shows(Box(-1, 1, (2,), np.float32))
    env.observation_space.sample = lambda: np.array([3.0, 0.5])  # type: ignore[method-assign]
    made = adapted(env, "own")
    with pytest.warns(UserWarning, match="left its space: 3.0 is beyond -1.0 to 1.0") as seen:
        assert made.reset(seed=0)[0].tolist() == [1.0, 0.5]
        assert made.step(0)[0].tolist() == [1.0, 0.5]
    assert len(seen) == 1


def test_events_and_success_of_others_become_plain() -> None:
    env = Shows(Discrete(2))
    answers = iter(
        [{"events": {"a": 1}, "is_success": np.float64(1.0)}, {"events": ("x", 2), "success": "no"}]
    )
    env.step = lambda action: (0, np.array([0.5]), np.bool_(False), 0, next(answers))  # type: ignore[method-assign]
    made = adapted(env, "own")
    made.reset(seed=0)
    first, second = made.step(0), made.step(0)
    assert first[1:4] == (0.5, False, False)
    assert (first[4]["events"], first[4]["success"]) == ([], True)
    assert second[4]["events"] == ["x", "2"] and "success" not in second[4]


leaves = (
    st.builds(Discrete, st.integers(1, 9), start=st.integers(-9, 9))
    | st.integers(1, 5).map(MultiBinary)
    | st.lists(st.integers(1, 5), min_size=1, max_size=3).map(MultiDiscrete)
    | st.sampled_from(
        [
            Box(-np.inf, np.inf, (2, 3), np.float64),
            Box(0, 1, (2,), np.bool_),
            Box(-5, 5, (), np.int16),
            Box(0, 255, (16, 17, 3), np.uint8),
            Box(np.array([0.0, -np.inf]), np.array([np.inf, 1.0]), dtype=np.float16),
        ]
    )
)
any_space = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(st.text("abc./ %", min_size=1, max_size=4), inner, min_size=1, max_size=3).map(Dict)
        | st.lists(inner, min_size=1, max_size=3).map(Tuple)
    ),
    max_leaves=5,
)


@given(any_space)
def test_any_space_is_adapted_to_kinds_that_models_read_or_refused(space: gymnasium.Space) -> None:
    try:
        found, observation = shown(space)
    except UnusableEnvironmentError as error:
        assert "would be called" in str(error)
        return
    assert set(kinds_of(found).values()) <= {"image", "grid", "vector", "categories", "bits"}
    assert space_to_json(space_from_json(space_to_json(found))) == space_to_json(found)
    assert isinstance(observation, dict) == isinstance(found, Dict)


def test_own_environments_need_no_torch(own: str) -> None:
    code = (
        "import sys; from thick.envs import check; check('own_env.py:Corridor'); check('gym:CartPole-v1');"
        "print('torch' in sys.modules)"
    )
    root = Path(thick.envs.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "False"
