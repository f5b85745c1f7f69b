"""Environments that change the process that they run in: theirs alone, whatever calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.envs.test_own import CORRIDOR
from thick.cli import main
from thick.envs import UnusableEnvironmentError, check, make
from thick.envs.surroundings import Surroundings

CHANGES = """
import os, torch
def change():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets"))
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    torch.set_grad_enabled(False)
    torch.set_default_device("meta")
    np.seterr(all="raise")
def its_own():
    assert open("level.txt").read() == "here"
    assert torch.get_default_dtype() is torch.float64 and torch.empty(1).is_meta
    assert not torch.is_grad_enabled()
"""
WHERE = {
    "import": "change()\nclass Strange(Corridor):\n",
    "init": "class Strange(Corridor):\n    def __init__(self): super().__init__(); change()\n",
    "reset": "class Strange(Corridor):\n    def reset(self, **more): change(); return super().reset(**more)\n",
    "step": "class Strange(Corridor):\n    def step(self, action): change(); its_own(); return super().step(action)\n",
}
ASKS = {
    "import": "    def step(self, action): its_own(); return super().step(action)\n",
    "init": "    def step(self, action): its_own(); return super().step(action)\n",
    "reset": "    def step(self, action): its_own(); return super().step(action)\n",
    "step": "",
}
SMALL = [
    "--updates", "2", "--batch", "2", "--length", "5", "--data.prefill", "40", "--data.streams", "2",
    "--checkpoint_every", "1", "--log_every", "1", "--threads", "1", "--model.deter", "8", "--model.hidden", "8",
    "--model.stoch", "2", "--model.classes", "2", "--model.mlp_units", "8", "--model.head_units", "8",
]  # fmt: skip


@pytest.fixture(params=list(WHERE))
def strange(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an environment that changes everything, on one occasion."""
    at = request.param
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "level.txt").write_text("here")
    (tmp_path / "strange.py").write_text(CORRIDOR + CHANGES + WHERE[at] + ASKS[at])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def process() -> Any:
    return (
        os.getcwd(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.get_default_device(), np.geterr(),
    )  # fmt: skip


def test_what_an_environment_changes_is_its_own(strange: Path) -> None:
    before = process()
    first, second = make("strange.py:Strange"), make("strange.py:Strange")
    plain = make("strange.py:Corridor")
    for env in (first, second, plain, first, second):
        env.reset(seed=0)
        assert process() == before
        env.step(1)
        assert process() == before
    for env in (first, second, plain):
        env.close()
    assert process() == before


def test_a_run_in_it_trains_collects_and_is_measured(
    strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = process()
    env = ["--env", "strange.py:Strange"]
    assert main(["collect", *env, "--steps", "40", "--streams", "2", "--out", "data"]) == 0
    assert main(["train", *env, "--run", "run", *SMALL]) == 0
    assert main(["train", "--run", "run", "--resume", "--updates", "3"]) == 0
    assert main(["train", *env, "--run", "other", "--data.dataset", "data", "--init", "run", *SMALL]) == 0
    words = ["--episodes", "1", "--max-steps", "3", "--threads", "1", "--json", "found.json"]
    assert main(["evaluate", "run", *words, "--method", "random", "--method", "flat"]) == 0
    assert main(["export", "run", "--out", "models"]) == 0
    capsys.readouterr()
    kept = {path.name for path in strange.iterdir()} - {"__pycache__"}
    assert kept == {"assets", "strange.py", "data", "run", "other", "found.json", "models"}
    assert [path.name for path in (strange / "assets").iterdir()] == ["level.txt"]
    assert set(json.loads((strange / "found.json").read_text())["methods"]) == {"random", "flat"}
    torch.set_num_threads(before[2])
    assert process() == before


def test_environments_side_by_side_keep_their_own_in_threads(strange: Path) -> None:
    before, wrong = process(), list[BaseException]()
    check("strange.py:Strange")  # as all commands do, before threads begin

    def play() -> None:
        try:
            env = make("strange.py:Strange")
            for _ in range(20):
                env.reset(seed=0)
                env.step(1)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=play) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and process()[:4] == before[:4]


def test_a_folder_that_cannot_be_gone_back_to_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(UnusableEnvironmentError, match=f"left the working folder, and {here} cannot be gone"):
        with Surroundings():
            os.chdir(tmp_path)
            here.rmdir()


def test_torch_is_not_imported_for_it() -> None:
    code = "import sys; from thick.envs import make; make('gym:CartPole-v1').reset(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
