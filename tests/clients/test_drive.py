"""``thick drive`` and ``thick imagine``: the commands as a person types them, against a running service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients import PlanningClient
from clients.drive import Tally, drive
from clients.episodes import (
    EpisodeResult,
    Moment,
    Task,
    TaskMismatchError,
    check_spaces,
    play,
    summarise,
)
from clients.errors import ClientError
from tests.clients.conftest import Address
from thick.cli import main
from thick.spaces import Discrete, make_box

FEW = ["--max-steps", "4", "--api-key", "me"]


@pytest.fixture
def client(address: Address) -> Iterator[PlanningClient]:
    with PlanningClient(address.http, api_key="me") as made:
        yield made


def task(client: PlanningClient, method: str = "flat", *, name: str = "doorkey", max_steps: int = 4) -> Task:
    return Task.of(client, name, env_id=None, planner={"method": method}, max_steps=max_steps)


def test_the_results_file_is_as_the_contract_has_it(address: Address, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "results.json"
    arguments = [
        "--url",
        address.http,
        "--model",
        "doorkey",
        "--episodes",
        "3",
        "--parallel",
        "2",
        "--seed",
        "40",
    ]
    assert main(["drive", *arguments, "--json", str(file), "--method", "flat", *FEW]) == 0
    summary = json.loads(file.read_text())
    assert set(summary) == {"episodes", "success_rate", "mean_return", "act_ms"}
    assert [set(episode) for episode in summary["episodes"]] == [{"seed", "return", "length", "success"}] * 3
    assert [episode["seed"] for episode in summary["episodes"]] == [40, 41, 42]
    assert set(summary["act_ms"]) == {"p50", "p95"}
    assert 0 < summary["act_ms"]["p50"] <= summary["act_ms"]["p95"]
    assert summary["success_rate"] == np.mean([episode["success"] for episode in summary["episodes"]])
    assert summary["mean_return"] == np.mean([episode["return"] for episode in summary["episodes"]])


def test_an_episode_depends_on_its_seed_alone(client: PlanningClient) -> None:
    def trajectories(parallel: int, seeds: range) -> dict[int, list[Any]]:
        seen: dict[int, list[Any]] = {}
        for seed in seeds:
            moments = list[Moment]()
            drive(task(client), episodes=2, seed=seed, parallel=parallel, watch_first=moments.append)
            seen[seed] = [(moment.observation.tobytes(), moment.action) for moment in moments]
        return seen

    alone, beside = trajectories(1, range(3, 5)), trajectories(2, range(3, 5))
    assert alone == beside
    assert alone[3] != alone[4]
    assert len(alone[3]) == 5  # four acts, and the end


def test_the_model_s_own_environment_options_are_used(client: PlanningClient) -> None:
    (result,) = drive(task(client, "random", name="pads", max_steps=1000), episodes=1, seed=0)
    assert result.length == 40


def test_random_actions_need_no_session(client: PlanningClient) -> None:
    before = {info.session_id for info in client.sessions()}
    seen = set[str]()

    def watch(_: Moment) -> None:
        seen.update(info.session_id for info in client.sessions())

    results = drive(task(client, "random", max_steps=10), episodes=3, seed=0, parallel=3, watch_first=watch)
    assert [result.length for result in results] == [10] * 3
    assert seen <= before
    assert summarise(results)["act_ms"] == {"p50": None, "p95": None}


def test_every_session_is_deleted_also_when_an_episode_fails(client: PlanningClient) -> None:
    before = {info.session_id for info in client.sessions()}

    def fail(moment: Moment) -> None:
        if moment.step == 2:
            raise RuntimeError("the watcher failed")

    with pytest.raises(RuntimeError, match="the watcher failed"):
        drive(task(client), episodes=6, seed=0, parallel=3, watch_first=fail)
    assert {info.session_id for info in client.sessions()} <= before


def test_an_episode_can_be_stopped_between_steps(client: PlanningClient) -> None:
    made = task(client, max_steps=100)
    env = made.make_env()
    steps = list[Moment]()
    assert play(made, env, 0, watch=steps.append, stopped=lambda: len(steps) == 2) is None
    assert len(steps) == 2


def test_an_environment_with_other_spaces_is_refused(client: PlanningClient) -> None:
    with pytest.raises(
        TaskMismatchError, match=r"has other observations than model doorkey .*\(6, 6, 3\) instead"
    ):
        Task.of(client, "doorkey", env_id="minigrid:MiniGrid-DoorKey-6x6-v0+map", planner={})
    with pytest.raises(TaskMismatchError, match=r"other actions than model pads .* instead of an integer"):
        model = client.model("pads")
        env = SimpleNamespace(observation_space=model.observation_space, action_space=Discrete(6))
        check_spaces("pinpad:more", env, model)
    with pytest.raises(TaskMismatchError, match="or other bounds"):
        darker = SimpleNamespace(
            observation_space=make_box((64, 64, 3), "uint8", 0, 9), action_space=Discrete(5)
        )
        check_spaces("pinpad:dark", darker, client.model("pads"))


def test_the_planner_s_flags_reach_the_planner(address: Address, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["drive", "--url", address.http, "--model", "doorkey", "--episodes", "1", *FEW]
    assert main([*arguments, "--samples", "8", "--low", "categorical-cem", "--set", "discount=0.9"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--samples", "1"]) == 2
    assert "planner.samples" in capsys.readouterr().err
    assert main([*arguments, "--set", "discunt=0.9"]) == 2
    assert "did you mean 'discount'" in capsys.readouterr().err


def test_what_went_wrong_is_reported_in_one_line(
    address: Address, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["--model", "dorkey", "--url", address.http], "did you mean `doorkey`"),
        (
            ["--model", "doorkey", "--url", address.http, "--env", "minigrid:MiniGrid-DorKey-5x5-v0"],
            "did you mean",
        ),
        (["--model", "doorkey", "--url", "ftp://host"], "expected http://"),
    ):
        assert main(["drive", *arguments, "--api-key", "me"]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.startswith("thick drive: ") and said.count("\n") == 1


def test_wrong_usage_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = (["--episodes", "0"], ["--set", "x"], ["--method", "best"], ["--hz", "20", "--method", "random"])
    for arguments in wrong:
        with pytest.raises(SystemExit) as caught:
            main(["drive", "--model", "m", *arguments])
        assert caught.value.code == 2
        assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("said", [[], ["--transport", "http"], ["--transport", "grpc"], ["grpc://"]])
def test_a_film_has_a_frame_for_every_moment(address: Address, tmp_path: Path, said: list[str]) -> None:
    film = tmp_path / "episode.gif"
    url = address.grpc if "grpc" in said or "grpc://" in said else address.http
    transport = [] if said == ["grpc://"] else said
    assert url.startswith("grpc://") == ("grpc" in "".join(said))
    arguments = [*transport, "--url", url, "--model", "doorkey", "--episodes", "1", *FEW]
    assert main(["drive", *arguments, "--gif", str(film)]) == 0
    with Image.open(film) as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames", 1) == 5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sheet.png", ["--level", "high", "--steps", "2"]),
        ("sheet.webp", ["--level", "low", "--future", "3", "--rollouts", "2"]),
        ("film.gif", ["--level", "high", "--policy", "plan"]),
        ("given.png", ["--level", "low", "--actions", "[2, 2, 3]"]),
    ],
)
def test_imaginations_are_drawn_to_files(
    address: Address, tmp_path: Path, name: str, arguments: list[str]
) -> None:
    out = tmp_path / "new" / name
    common = ["--url", address.http, "--model", "doorkey", "--api-key", "me", "--out", str(out)]
    assert main(["imagine", *common, *arguments]) == 0
    with Image.open(out) as image:
        assert image.width > 300 and image.height > 200


def test_a_model_without_a_high_level_says_so(
    address: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["imagine", "--url", address.http, "--model", "pads", "--api-key", "me"]
    assert main([*common, "--out", str(tmp_path / "sheet.png")]) == 2
    assert "try --level low" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # before the service is asked
        main([*common, "--out", str(tmp_path / "sheet.txt")])
    assert ".png, .webp or .gif" in capsys.readouterr().err


def test_the_tally_shows_running_success_and_return() -> None:
    tally = Tally(3)
    assert tally.text() == "first episodes running"
    tally.add(0, EpisodeResult(0, 1.0, 5, True))
    tally.add(1, EpisodeResult(1, 0.0, 5, False))
    assert tally.text() == "success 50.0 %, return 0.5"
    tally = Tally(1)
    tally.add(0, EpisodeResult(0, 12.0, 5, None))
    assert tally.text() == "return 12"


def test_a_summary_of_tasks_without_success_leaves_it_open() -> None:
    summary = summarise([EpisodeResult(0, 2.0, 3, None, (1.0, 3.0)), EpisodeResult(1, 4.0, 3, None, (2.0,))])
    assert summary["success_rate"] is None and summary["mean_return"] == 3.0
    assert summary["act_ms"]["p50"] == 2.0
    assert summarise([])["mean_return"] is None


def test_a_lost_service_ends_the_drive(address: Address) -> None:
    from clients.retries import Retries
    from tests.clients.proxy import LossyProxy

    quick = Retries(attempts=2, first_pause_s=0.001)
    with LossyProxy(address.http) as proxy:
        with PlanningClient(proxy.url, api_key="me", retries=quick) as client:
            made = task(client, max_steps=50)

            def unplug(moment: Moment) -> None:
                if moment.step == 1:
                    proxy.__exit__()

            with pytest.raises(ClientError):
                drive(made, episodes=2, seed=0, parallel=2, watch_first=unplug)
