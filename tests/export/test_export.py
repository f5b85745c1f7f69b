"""Entries of a model repository: what is read is what was written, and damage is refused in words."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models import sizes
from thick.export import (
    EntryError,
    check_place,
    load_model,
    next_version,
    read_manifest,
    versions,
    write_entry,
)
from thick.learners.parts import Shared
from thick.learners.recipes import RECIPES
from thick.manifest import FORMAT_VERSION, MANIFEST, WEIGHTS
from thick.models.networks import AgentNetworks
from thick.spaces import space_to_json
from thick.training.config import TrainConfig
from thick.training.learner import weighted


def write(repository: Path, world: AgentNetworks, **changes: Any) -> Path:
    """An entry of a tiny model."""
    configuration: dict[str, Any] = {"model": world.config, "env_options": {"size": 3}}
    fields: dict[str, Any] = {
        "name": "doorkey",
        "version": "1",
        "kind": world.config.kind,
        "task": "minigrid:MiniGrid-DoorKey-8x8-v0",
        "observation_space": space_to_json(world.observation_space),
        "action_space": space_to_json(world.action_space),
        "configuration": configuration,
        "planner": {"method": "hierarchical", "samples": 100},
        "provenance": {"updates": 10, "results": None},
        "tensors": world.state_dict(),
    }
    return write_entry(repository, **{**fields, **changes})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Manifest and weights of an entry, written once."""
    path = write(tmp_path_factory.mktemp("sound"), sizes.model(sizes.VECTOR))
    return (path / MANIFEST).read_bytes(), (path / WEIGHTS).read_bytes()


@pytest.fixture
def entry(tmp_path: Path, sound: tuple[bytes, bytes]) -> Path:
    """An entry of its own to be spoilt."""
    path = tmp_path / "doorkey" / "1"
    path.mkdir(parents=True)
    (path / MANIFEST).write_bytes(sound[0])
    (path / WEIGHTS).write_bytes(sound[1])
    return path


def edit(entry: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of an entry."""
    document = json.loads((entry / MANIFEST).read_text())
    change(document)
    (entry / MANIFEST).write_text(json.dumps(document))


def replace_weights(entry: Path, content: bytes) -> None:
    """Put other bytes in place of the weights and make the manifest agree with them."""
    (entry / WEIGHTS).write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(entry, lambda document: document["weights"].update(facts))


def change_tensors(entry: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of an entry and make the manifest agree with them."""
    tensors = safetensors.torch.load((entry / WEIGHTS).read_bytes())
    change(tensors)
    replace_weights(entry, safetensors.torch.save(tensors))


# -- what is read is what was written ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thick", "crssm", "rssm"])
@pytest.mark.parametrize("action", sizes.ACTIONS.values(), ids=sizes.ACTIONS.keys())
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, kind: str, action: Any) -> None:
    world = sizes.model(sizes.MIXED, action, kind=kind, actor_critic=kind != "rssm")
    loaded = load_model(write(tmp_path, world))
    before, after = world.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
        assert tensor.dtype == after[name].dtype
    assert loaded.model.config == world.config
    assert loaded.model.observation_space == world.observation_space
    assert loaded.model.action_space == world.action_space
    assert not loaded.model.training


def test_a_loaded_model_computes_what_the_written_one_did(tmp_path: Path) -> None:
    world = sizes.model(sizes.GRID).eval()
    loaded = load_model(write(tmp_path, world)).model
    data = sizes.batch(sizes.GRID)
    totals = []
    for each in (world, loaded):
        torch.manual_seed(0)
        parts = RECIPES["thick-planet"](each, TrainConfig(model=each.config)).parts
        shared = Shared(data, each.world.observe(data))
        totals.append([weighted(part, part.scales(0), shared)[0] for part in parts])
    assert totals[0] == totals[1]


def test_a_loaded_model_can_be_trained_on(tmp_path: Path) -> None:
    loaded = load_model(write(tmp_path, sizes.model(sizes.VECTOR))).model
    data = sizes.batch(sizes.VECTOR)
    world, _ = RECIPES["thick-planet"](loaded, TrainConfig(model=loaded.config)).parts
    total, _ = weighted(world, world.scales(0), Shared(data, loaded.world.observe(data)))
    gradients = torch.autograd.grad(total, list(loaded.world.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients)


def test_loading_leaves_torchs_random_numbers_alone(entry: Path) -> None:
    before = torch.get_rng_state()
    load_model(entry)
    assert torch.equal(before, torch.get_rng_state())


def test_a_manifest_says_everything_it_was_given(entry: Path) -> None:
    manifest = read_manifest(entry)
    assert (manifest.name, manifest.version, manifest.kind) == ("doorkey", "1", "thick")
    assert manifest.format_version == FORMAT_VERSION
    assert manifest.task == "minigrid:MiniGrid-DoorKey-8x8-v0"
    assert manifest.planner == {"method": "hierarchical", "samples": 100}
    assert manifest.provenance == {"updates": 10, "results": None}
    assert manifest.configuration["env_options"] == {"size": 3}
    assert manifest.configuration["model"]["levels"][0]["segment_ends"] == ["gates"]
    content = (entry / WEIGHTS).read_bytes()
    assert manifest.weights.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.weights.bytes == len(content)
    assert manifest.spaces() == (sizes.VECTOR, sizes.DISCRETE)


def test_a_manifest_is_read_without_torch(entry: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "from pathlib import Path; from thick.export import read_manifest\n"
        f"manifest = read_manifest(Path({str(entry)!r})); print(manifest.name, manifest.spaces()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "doorkey Discrete(4)", done.stderr


# -- writing -------------------------------------------------------------------------------------------------


def test_versions_count_up_and_sort_as_numbers(tmp_path: Path) -> None:
    world = sizes.model(sizes.VECTOR)
    assert next_version(tmp_path, "doorkey") == "1"
    for name in ("9", "10", "1.2-rc"):
        write(tmp_path, world, version=name)
    assert write(tmp_path, world, version=None).name == "11"
    assert versions(tmp_path, "doorkey") == ["1.2-rc", "9", "10", "11"]
    assert versions(tmp_path, "other") == []


def test_a_version_that_exists_is_never_changed(entry: Path) -> None:
    before = {path.name: path.read_bytes() for path in entry.iterdir()}
    with pytest.raises(EntryError, match=r"doorkey/1 exists and versions are never changed.*write 2"):
        write(entry.parent.parent, sizes.model(sizes.VECTOR, seed=1))
    assert {path.name: path.read_bytes() for path in entry.iterdir()} == before


def test_an_entry_that_cannot_be_finished_is_not_there_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import thick.export as export

    real = export._write

    def full_disk(path: Path, content: bytes) -> None:
        if path.name == MANIFEST:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(export, "_write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, sizes.model(sizes.VECTOR))
    assert list(tmp_path.iterdir()) == []
    assert versions(tmp_path, "doorkey") == []


@pytest.mark.parametrize(
    "name", ["../evil", "/etc", "a/b", "", ".hidden", "a\\b", "naïve", "x" * 129, "-n", "a\n"]
)
def test_a_name_that_is_a_path_or_worse_is_refused(tmp_path: Path, entry: Path, name: str) -> None:
    for field in ("name", "version"):
        with pytest.raises(EntryError, match="expected 1 to 128 letters"):
            write(tmp_path / "other", sizes.model(sizes.VECTOR), **{field: name})
        edit(entry, lambda document, field=field: document.update({field: name}))
        with pytest.raises(EntryError, match=f"{field} is .*expected 1 to 128 letters"):
            read_manifest(entry)
        edit(entry, lambda document, field=field: document.update({field: "1"}))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("provenance", {"score": float("nan")}, r"provenance.score is nan, which JSON cannot hold"),
        ("provenance", {"runs": [{"seed": {1}}]}, r"provenance.runs\[0\].seed is a set"),
        ("planner", {3: 1}, r"planner: key 3 is not text"),
        ("kind", "dreamer", r"kind is 'dreamer', expected one of thick, crssm, rssm"),
        ("kind", "rssm", r"describes a model of kind 'thick', but kind is 'rssm'"),
        ("configuration", {}, r"configuration.model holds null"),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, field: str, value: Any, message: str
) -> None:
    with pytest.raises(EntryError, match=message):
        write(tmp_path, sizes.model(sizes.VECTOR), **{field: value})
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_model_is_not_written(tmp_path: Path) -> None:
    world = sizes.model(sizes.VECTOR)
    with torch.no_grad():
        world.world.dynamics.gru.bias[3] = float("inf")
    with pytest.raises(EntryError, match=r"dynamics.gru.bias.*1 of 36 numbers.*diverged"):
        write(tmp_path, world)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_configuration_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(EntryError, match="the configuration makes it"):
        write(tmp_path, sizes.model(sizes.VECTOR), configuration={"model": sizes.tiny(deter=13)})


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file_is_named(entry: Path, name: str) -> None:
    (entry / name).unlink()
    with pytest.raises(EntryError, match=rf"{name} does not exist; an entry is a folder NAME/VERSION"):
        load_model(entry)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EntryError, match=r"nowhere.*does not exist"):
        load_model(tmp_path / "nowhere" / "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("\x00\xff", "not valid JSON"),
        ("[]", "holds a list, expected a JSON object"),
        ('{"format_version": 1, "format_version": 1}', "'format_version' occurs twice"),
        ('{"format_version": NaN}', "NaN is no JSON number"),
        ('{"format_version": 1e999}', "1e999 is too large"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(entry: Path, text: str, message: str) -> None:
    (entry / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(EntryError, match=message):
        read_manifest(entry)


@pytest.mark.parametrize("version", [0, 3, "1", True, None, 1.0])
def test_another_format_version_is_refused(entry: Path, version: Any) -> None:
    edit(entry, lambda document: document.update(format_version=version))
    with pytest.raises(EntryError, match=rf"format_version is {version!r}, this release reads 1 and 2"):
        read_manifest(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("task"), "missing task"),
        (lambda d: d.update(taks=d["task"]), "unknown field 'taks'; did you mean 'task'"),
        (lambda d: d.update(task=3), "task is 3, expected an environment id"),
        (lambda d: d.update(kind=["thick"]), "kind is .*expected one of"),
        (lambda d: d.update(planner=[]), "planner holds a list, expected a JSON object"),
        (lambda d: d.update(action_space={}), "action_space has no type"),
        (lambda d: d.update(action_space={"type": "Discrete", "n": -1}), "action_space is no space"),
        (lambda d: d["observation_space"].update(shape=[10**15]), "observation_space"),
        (lambda d: d["weights"].update(file="../../model.safetensors"), "weights.file is '../../model"),
        (lambda d: d["weights"].update(sha256="abc"), "weights.sha256 is 'abc', expected 64"),
        (lambda d: d["weights"].update(sha256="0" * 64), "SHA-256 is .*, the manifest says 0000"),
        (lambda d: d["weights"].update(bytes=True), "weights.bytes is True"),
        (lambda d: d["weights"].update(bytes=7), r"bytes, the manifest says 7; the file is cut off or not"),
        (lambda d: d["weights"].update(extra=1), "weights: unknown field 'extra'"),
        (lambda d: d["configuration"].pop("model"), "configuration.model holds null"),
        (lambda d: d["configuration"]["model"].update(stok=3), "unknown key .*stok'; did you mean .*stoch'"),
        (
            lambda d: d["configuration"]["model"].update(stoch="4"),
            "model.stoch: expected a valid integer, got '4'",
        ),
        (lambda d: d["configuration"]["model"].update(stoch=-4), "model.stoch: expected at least 1, got -4"),
        (lambda d: d["configuration"]["model"].update(deter=10**6), "the configuration makes it"),
        (lambda d: d["configuration"]["model"].update(posterior="half"), "expected 'full' or 'observation'"),
        (
            lambda d: d["configuration"]["model"]["levels"][0].update(segment_ends=[1]),
            "segment_ends.0: expected",
        ),
        (lambda d: d["configuration"]["model"].update(discount_head=False), "unknown tensors"),
        (
            lambda d: d["configuration"]["model"].update(behaviour="actor_critic"),
            "missing tensors behaviour.actor.mlp",
        ),
        (lambda d: d.update(kind="crssm"), "of kind 'thick', but kind is 'crssm'"),
    ],
)
def test_a_wrong_manifest_is_refused_and_the_error_says_where(
    entry: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(entry, change)
    with pytest.raises(EntryError, match=message):
        load_model(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("world.dynamics.img_in.bias"), "missing tensors world.dynamics.img_in.bias"),
        (lambda t: t.update(more=torch.zeros(2)), "unknown tensors more"),
        (
            lambda t: t.update({"world.dynamics.img_in.bias": torch.zeros(3)}),
            r"float32\[3\].*makes it float32\[16\]",
        ),
        (lambda t: t["world.dynamics.img_in.bias"].fill_(float("nan")), "16 of 16 numbers that are NaN"),
        (
            lambda t: t.update({"world.dynamics.img_in.bias": torch.zeros(16, dtype=torch.float64)}),
            r"float64\[16\].*makes it float32\[16\]",
        ),
    ],
)
def test_wrong_tensors_are_refused_even_under_a_right_checksum(
    entry: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    change_tensors(entry, change)
    with pytest.raises(EntryError, match=message):
        load_model(entry)


def test_a_flipped_bit_is_noticed(entry: Path) -> None:
    content = bytearray((entry / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (entry / WEIGHTS).write_bytes(content)
    with pytest.raises(EntryError, match="the file is damaged or not this model's"):
        load_model(entry)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "weights.bytes is 0"),
        (b"PK\x03\x04 archive/data.pkl", "looks like a pickled PyTorch checkpoint, which is never read"),
        (b"\x80\x02}q\x00.", "looks like a pickled PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"\xff" * 64, "not a safetensors file"),
        (b"\x08" + b"\x00" * 7 + b"notjson!", "not a safetensors file"),
    ],
)
def test_a_foreign_file_is_refused_even_under_a_right_checksum(
    entry: Path, content: bytes, message: str
) -> None:
    replace_weights(entry, content)
    with pytest.raises(EntryError, match=message):
        load_model(entry)


def test_an_entry_belongs_into_the_folder_of_its_name(entry: Path, tmp_path: Path) -> None:
    check_place(read_manifest(entry), entry)
    moved = entry.rename(tmp_path / "doorkey" / "7")
    with pytest.raises(EntryError, match=r"that of doorkey/1; move the folder to doorkey/1"):
        check_place(read_manifest(moved), moved)
    load_model(moved)  # by its path alone it still loads


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_random_damage_is_an_entry_error_or_no_damage_at_all(
    sound: tuple[bytes, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    which = data.draw(st.sampled_from([0, 1]))
    content = bytearray(sound[which])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    files = list(sound)
    files[which] = bytes(content)
    for name, text in zip((MANIFEST, WEIGHTS), files, strict=True):
        (tmp_path / name).write_bytes(text)
    try:
        manifest = load_model(tmp_path).manifest
    except EntryError as error:
        assert str(error)
    else:
        # Weights are protected by their checksum; of a manifest some texts and numbers are free.
        assert files[1] == sound[1]
        assert manifest.weights.sha256 == hashlib.sha256(sound[1]).hexdigest()


def test_a_manifest_is_frozen(entry: Path) -> None:
    manifest = read_manifest(entry)
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.name = "other"  # type: ignore[misc]
