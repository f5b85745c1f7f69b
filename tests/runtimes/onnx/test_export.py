"""Graphs of an entry: verified against torch, written whole or not at all, and plain ONNX for everybody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.models import sizes
from tests.runtimes.onnx.conftest import experience
from tests.service.support import write_model
from thick.entries import weight_bytes
from thick.envs import make
from thick.manifest import MANIFEST, EntryError, read_manifest
from thick.runtimes.onnx import steps, verify
from thick.runtimes.onnx.agents import load_agent
from thick.runtimes.onnx.export import add_graphs, played
from thick.runtimes.onnx.verify import Experience
from thick.spaces import space_to_json

ARM = experience("arm")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_graphs_stand_next_to_the_weights_and_the_manifest_names_them(entry: Path) -> None:
    before = contents(entry)
    files = add_graphs(entry, ARM)
    assert set(files) >= {
        "encode",
        "observe",
        "imagine",
        "outcome",
        "policy",
        "value",
        "decode",
        "jump",
        "prior",
    }
    after = contents(entry)
    assert set(after) == set(before) | {f"{name}.onnx" for name in files}
    manifest = read_manifest(entry)
    assert manifest.graphs == files
    assert after["model.safetensors"] == before["model.safetensors"] == weight_bytes(entry, manifest)
    graphless = json.loads(after[MANIFEST])
    del graphless["graphs"]
    assert graphless == json.loads(before[MANIFEST])
    largest = max(len(after[f"{name}.onnx"]) for name in files)
    assert largest < len(after["model.safetensors"]), "weights are referred to, not copied"


def test_written_again_they_are_the_same_and_old_ones_go(entry: Path) -> None:
    add_graphs(entry, ARM)
    first = contents(entry)
    (entry / "jump.onnx").unlink()
    add_graphs(entry, ARM)
    assert contents(entry) == first
    document = json.loads(first[MANIFEST])
    (entry / "old.onnx").write_bytes(b"x")
    document["graphs"]["old"] = {**document["graphs"]["jump"], "file": "old.onnx"}
    (entry / MANIFEST).write_text(json.dumps(document))
    add_graphs(entry, ARM)
    assert contents(entry) == first


@pytest.mark.parametrize("kind", ["random inputs", "inputs of its environment"])
def test_a_graph_that_differs_from_torch_is_named_and_nothing_is_left_behind(
    entry: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    right = steps.goes_on

    def wrong(g: Any, logits: str, config: Any) -> str:
        return str(g("Mul", right(g, logits, config), g.number(0.999)))

    monkeypatch.setattr(steps, "goes_on", wrong)
    if kind != "random inputs":
        monkeypatch.setattr(verify, "_random", lambda model, seen, space: verify._real(model, seen))
    before = contents(entry)
    said = rf"graph imagine: continuation differs from torch by 0\.000\d+ on {kind}, .* 0\.0001 .*; nothing was written"
    with pytest.raises(EntryError, match=said):
        add_graphs(entry, ARM)
    assert contents(entry) == before


def test_a_disk_that_fills_leaves_a_whole_entry(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thick.runtimes.onnx import export

    before, right = contents(entry), export.write_atomically

    def full(path: Path, content: bytes) -> None:
        if path.name == "observe.onnx":
            raise OSError(28, "No space left on device")
        right(path, content)

    monkeypatch.setattr(export, "write_atomically", full)
    with pytest.raises(EntryError, match="cannot be written: No space left"):
        add_graphs(entry, ARM)
    assert contents(entry) == before


def test_inputs_for_the_comparison_come_from_the_model_s_own_environment(tmp_path: Path) -> None:
    bundled = Path(__file__).resolve().parents[3] / "checkpoints" / "cartpole" / "1"
    seen = played(read_manifest(bundled), 5)
    assert isinstance(seen.observation, dict) and seen.observation["position"].shape == (5, 3)
    assert seen.action.shape == (5, 1) and (seen.action[0] == 0).all() and (seen.action[1:] != 0).all()
    strange = write_model(tmp_path, "arm", observation="vector", action="continuous")
    document = json.loads((strange / MANIFEST).read_text())
    (strange / MANIFEST).write_text(json.dumps({**document, "task": "pinpad:three"}))
    with pytest.raises(EntryError, match="pinpad:three: its spaces are not those of the model"):
        add_graphs(strange)


def test_a_model_of_every_kind_of_space_has_graphs_that_run(tmp_path: Path) -> None:
    entry = write_model(tmp_path, "kinds", observation="kinds", action="continuous", kind="rssm")
    seen = [sizes.SPACES["kinds"].sample() for _ in range(8)]
    acted = np.random.default_rng(0).uniform(-1, 1, (8, 2)).astype(np.float32)
    shown = {key: np.stack([np.nan_to_num(each[key]) for each in seen]) for key in seen[0]}
    add_graphs(entry, Experience(shown, acted))


BITS = """
import gymnasium, numpy as np
from gymnasium.spaces import MultiBinary

class Bits(gymnasium.Env):
    observation_space, action_space = MultiBinary([2, 3]), MultiBinary(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones((2, 3), np.int8), {}

    def step(self, action):
        return np.ones((2, 3), np.int8), 0.0, False, False, {}
"""


def test_an_environment_s_spaces_may_be_of_other_classes_than_the_manifest_s(tmp_path: Path) -> None:
    entry = write_model(tmp_path, "arm", observation="vector", action="continuous")
    (tmp_path / "bits.py").write_text(BITS)
    task = f"{tmp_path / 'bits.py'}:Bits"
    env = make(task)
    document = json.loads((entry / MANIFEST).read_text())
    document |= {
        "task": task,
        "observation_space": space_to_json(env.observation_space),
        "action_space": space_to_json(env.action_space),
    }
    (entry / MANIFEST).write_text(json.dumps(document))
    seen = played(read_manifest(entry), 5)
    assert np.shape(seen.observation) == (5, 2, 3) and seen.action.shape == (5, 8)


def test_a_graph_is_plain_onnx_that_any_program_loads_from_the_folder(entry: Path) -> None:
    add_graphs(entry, ARM)
    model = load_agent(entry).model
    session = onnxruntime.InferenceSession(str(entry / "encode.onnx"), providers=["CPUExecutionProvider"])
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("observation", ["batch", 7])]
    seen = np.asarray(ARM.observation)[:4]
    found = session.run(["embedding"], {"observation": seen})[0]
    np.testing.assert_allclose(found, model.encode(seen), rtol=1e-5, atol=1e-6)
