"""``thick explain --url``: the page of a served model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from clients.episodes import Task
from clients.explain import episode
from clients.http_client import PlanningClient
from tests.clients.conftest import Address
from thick.commands.explain import run
from thick.explaining.record import EpisodeRecord


def record(address: Address, **options: object) -> EpisodeRecord:
    with PlanningClient(address.http, api_key="me") as client:
        task = Task.of(client, "doorkey", env_id=None, planner={"method": "flat", "samples": 4}, **options)  # type: ignore[arg-type]
        return episode(task, 3)


def test_segments_end_where_gates_opened_and_begin_with_what_each_jump_leads_to(address: Address) -> None:
    found = record(address, max_steps=12)
    count = len(found.observations)
    assert count == len(found.actions) == len(found.gates) == len(found.rewards) <= 13
    assert found.actions[0] is None and all(action is not None for action in found.actions[1:])
    ends = [change.end for change in found.changes]
    assert ends == [*found.opened, *([count - 1] if found.ended and count - 1 not in found.opened else [])]
    assert [change.begin for change in found.changes] == [0, *ends[:-1]]
    for change in found.changes:
        assert sum(each.prior for each in change.predictions) == pytest.approx(1, abs=1e-3)
        assert {each.action for each in change.predictions} == set(range(len(change.predictions)))
        for each in change.predictions:
            assert each.elapsed >= 1 and each.posterior is None
            assert np.shape(each.before) == np.shape(each.after) == np.shape(found.observations[0])


def test_an_episode_that_is_cut_did_not_end(address: Address) -> None:
    assert not record(address, max_steps=2).ended


@pytest.mark.parametrize("transport", ["http", pytest.param("grpc", marks=pytest.mark.slow)])
def test_the_page_is_whole(
    address: Address, transport: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = address.http if transport == "http" else address.grpc.removeprefix("grpc://")
    words = [
        "--url",
        url,
        "--transport",
        transport,
        "--model",
        "doorkey",
        "--api-key",
        "me",
        "--episodes",
        "1",
    ]
    assert run([*words, "--max-steps", "6", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "explain.html").read_text()
    assert "doorkey" in page and not re.search(r"(src|href)=[\"']?https?:", page)
    assert (tmp_path / "episode-0.png").read_bytes().startswith(b"\x89PNG")
    assert "1 pictures" in capsys.readouterr().out or list(tmp_path.glob("episode-0-*.png"))


def test_a_model_without_a_high_level_and_one_that_is_not_there_are_refused_in_one_line(
    address: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, words in (("pads", "has no high level"), ("nobody", "there is none")):
        out = tmp_path / model
        assert run([f"--url={address.http}", "--model", model, "--api-key", "me", "--out", str(out)]) == 2
        told_so = capsys.readouterr().err
        assert words in told_so and told_so.count("\n") == 1 and not out.exists()
