"""Acts in the ONNX runtime: as in torch, the same in any batch and by any threads, and without torch."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runtimes.acting import BUNDLED, CHECKPOINTS, acts, acts_of_the_first, agree, identical, observed
from tests.runtimes.onnx.conftest import experience
from tests.service.support import write_model
from thick.manifest import MANIFEST, read_manifest
from thick.pytrees import map_arrays
from thick.runtimes import backends
from thick.runtimes.backends import open_runtime
from thick.runtimes.native import library
from thick.runtimes.onnx import sessions
from thick.runtimes.onnx.agents import load_agent
from thick.runtimes.onnx.export import add_graphs, keep_graphs
from thick.runtimes.protocol import BackendError
from thick.runtimes.torch.agents import load_agent as load_torch_agent


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_acts_as_in_torch(name: str) -> None:
    entry = CHECKPOINTS / name / "1"
    with torch.inference_mode():
        wanted = acts(load_torch_agent(entry, precision="fp32"), 3, 2, torch.from_numpy, stochastic=False)
    agree(acts(load_agent(entry), 3, 2, stochastic=False), wanted)


@pytest.mark.parametrize("kind", ["rssm", "crssm"])
def test_a_model_that_acts_by_a_manager_and_its_worker_acts_as_in_torch(tmp_path: Path, kind: str) -> None:
    entry = write_model(
        tmp_path, "boss", observation="vector", action="continuous", kind=kind, behaviour="director"
    )
    add_graphs(entry, experience("arm"))
    with torch.inference_mode():
        reference = load_torch_agent(entry, precision="fp32")
        wanted = acts(reference, 3, 2, torch.from_numpy, method="policy")
    agent = load_agent(entry)
    agree(acts(agent, 3, 2, method="policy"), wanted)
    first = observed(agent, 0, 1)
    state = agent.observe(agent.initial(1), first, is_first=np.array([True]), keys=np.array([0]))
    plan = agent.act(state, agent.settings({"method": "policy"}), keys=np.array([0])).info(0)
    assert np.isfinite(plan["low"]["expected_return"])


@pytest.mark.parametrize(
    ("observation", "action", "changes", "words"),
    [
        ("vector", "continuous", {"unimix": 0.3}, r"draws z .*unimix 0.3"),
        *(
            pytest.param(observation, action, changes, words, marks=pytest.mark.slow)
            for observation, action, changes, words in (
                ("vector", "continuous", {"norm": "rms"}, "normalises hidden layers .norm rms"),
                ("dict", "discrete", {"norm": "rms"}, "normalises hidden layers .norm rms"),
                (
                    "vector",
                    "continuous",
                    {"scalars": "twohot"},
                    "predicts rewards by distributions .scalars twohot",
                ),
            )
        ),
    ],
)
def test_a_model_in_another_form_than_the_papers_acts_as_in_torch_and_leaves_the_kernels_alone(
    observation: str, action: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    name = "arm" if observation == "vector" else "grid"
    entry = write_model(tmp_path, name, observation=observation, action=action, **changes)
    with pytest.raises(BackendError, match=f"backend native: this model {words}") as caught:
        open_runtime(entry, backend="native")
    assert "\n" not in str(caught.value)
    assert open_runtime(entry).info.backend == "torch"
    add_graphs(entry, experience(name))
    assert open_runtime(entry).info.backend == "onnx"
    with torch.inference_mode():
        wanted = acts(load_torch_agent(entry, precision="fp32"), 3, 2, torch.from_numpy)
    agree(acts(load_agent(entry), 3, 2), wanted)


@pytest.mark.parametrize("alike", [True, False], ids=["as tried", "row by row"])
@pytest.mark.parametrize("name", BUNDLED)
def test_an_act_is_the_same_bits_in_any_batch_and_by_any_threads(
    name: str, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not alike:  # a machine on which rows of a group round otherwise
        monkeypatch.setattr(sessions.Step, "_alike", lambda self: False)
    monkeypatch.setattr(sessions, "PORTION", 5)
    agent = load_agent(CHECKPOINTS / name / "1")
    best = acts(agent, 2, 2, samples=12, horizon=3, simulations=3)[-1]
    alone = acts_of_the_first(agent, samples=12, horizon=3, simulations=3)
    identical(map_arrays(lambda x: x[:1], best), alone, "batch")
    sessions.use_threads(3)
    try:
        identical(acts(agent, 2, 2, samples=12, horizon=3, simulations=3)[-1], best, "threads")
    finally:
        sessions.use_threads(1)


def test_an_agent_loads_and_acts_without_torch_and_without_the_package_that_writes_graphs() -> None:
    code = (
        "import sys, numpy as np, pathlib; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from thick.runtimes.onnx.agents import load_agent\n"
        f"agent = load_agent(pathlib.Path({str(CHECKPOINTS / 'doorkey6' / '1')!r}))\n"
        "seen = np.zeros((1, *agent.observation_space.shape), np.uint8)\n"
        "keys, settings = np.array([1]), agent.settings({'samples': 8, 'horizon': 3, 'simulations': 3})\n"
        "state = agent.observe(agent.initial(1), seen, is_first=np.array([True]), keys=keys)\n"
        "print(agent.act(state, settings, keys=keys).action.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKPOINTS.parent
    )
    assert done.stdout.strip() == "(1, 5)", done.stderr


# -- what cannot be opened -------------------------------------------------------------------------------------------


def test_an_entry_without_graphs_says_how_to_come_by_them(entry: Path) -> None:
    with pytest.raises(
        BackendError, match=r"^backend onnx: .*arm/1 has no ONNX graphs; `thick export .* --onnx`"
    ):
        open_runtime(entry, backend="onnx")


@pytest.mark.parametrize("wrong", [{"device": "cuda"}, {"precision": "bf16"}])
def test_what_it_cannot_be_asked_for_is_said(wrong: dict[str, str]) -> None:
    with pytest.raises(BackendError, match="onnx"):
        open_runtime(CHECKPOINTS / "cartpole" / "1", backend="onnx", **wrong)


def test_a_graph_that_is_missing_damaged_or_none_at_all_is_said_in_one_line(entry: Path) -> None:
    add_graphs(entry, experience("arm"))
    graph, manifest = entry / "jump.onnx", read_manifest(entry)
    content = graph.read_bytes()

    def refused() -> str:
        with pytest.raises(BackendError) as caught:
            open_runtime(entry, backend="onnx")
        assert "\n" not in str(caught.value) and "--onnx" in str(caught.value)
        return str(caught.value)

    graph.write_bytes(content[:-1])
    assert "jump.onnx" in refused()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "SHA-256" in refused()
    graph.unlink()
    assert "jump.onnx does not exist" in refused()
    everything = {
        name: (entry / file.file).read_bytes() for name, file in manifest.graphs.items() if name != "jump"
    }
    for nonsense in (b"not a graph", content[: len(content) // 2], b"", content.replace(b"Gemm", b"Gemn")):
        keep_graphs(entry, read_manifest(entry), {**everything, "jump": nonsense or b"\0"})
        assert "cannot run" in refused()
    keep_graphs(entry, read_manifest(entry), everything)
    assert "jump" in refused()


def test_auto_takes_graphs_where_there_are_no_kernels_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, entry: Path
) -> None:
    def none() -> None:
        raise library.NativeUnavailable("no kernels here")

    monkeypatch.setattr(library, "library", none)
    with caplog.at_level(logging.WARNING, backends.__name__):
        assert open_runtime(CHECKPOINTS / "cartpole" / "1").info.backend == "onnx"
        assert "no kernels here" in caplog.text
        assert open_runtime(entry).info.backend == "torch"
        assert "has no ONNX graphs" in caplog.text


# -- files of graphs -------------------------------------------------------------------------------------------------


def test_the_weights_that_a_graph_refers_to_are_read_from_its_file() -> None:
    content = (CHECKPOINTS / "cartpole" / "1" / "prior.onnx").read_bytes()
    layers = ("levels.0.prior_hidden", "levels.0.prior_logit")
    assert sorted(sessions.external_tensors(content)) == sorted(
        f"{layer}.{part}" for layer in layers for part in ("weight", "bias")
    )


def test_any_bytes_are_read_to_an_end_or_refused() -> None:
    rng = np.random.default_rng(0)
    content = bytearray((CHECKPOINTS / "cartpole" / "1" / "prior.onnx").read_bytes())
    for _ in range(300):
        damaged = content.copy()
        for place in rng.integers(len(damaged), size=8):
            damaged[place] = rng.integers(256)
        try:
            sessions.external_tensors(bytes(damaged[: rng.integers(len(damaged))]))
        except ValueError:
            continue


def test_a_folder_of_links_is_served_too(tmp_path: Path) -> None:
    entry = tmp_path / "cartpole" / "1"
    shutil.copytree(CHECKPOINTS / "cartpole" / "1", tmp_path / "elsewhere")
    entry.mkdir(parents=True)
    for file in (tmp_path / "elsewhere").iterdir():
        (entry / file.name).symlink_to(file)
    assert json.loads((entry / MANIFEST).read_text())["graphs"]
    assert open_runtime(entry, backend="onnx").info.backend == "onnx"
