"""Models: what lies in the folder, what is served of it, and which version a session gets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from service.commands import run_models, run_serve
from service.core import Clock, PlanningService
from service.models.repository import describe_repository
from service.protocol.errors import ProblemError
from service.stores.memory import MemoryStore
from tests.service.support import Caller, observe, over_http, running, settings_for, write_model
from thick.runtimes.backends import open_runtime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of its own with one version of ``arm``."""
    write_model(tmp_path, "arm", observation="vector", action="continuous", version="1")
    return tmp_path


def second_version(folder: Path, version: str = "2") -> None:
    write_model(folder, "arm", observation="vector", action="continuous", version=version, seed=1)


def break_weights(folder: Path, name: str = "arm", version: str = "1") -> None:
    path = folder / name / version / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def states(service: PlanningService) -> dict[str, str]:
    return {f"{m['name']}/{m['version']}": m["state"] for m in service.list_models()["models"]}


async def act(service: PlanningService, session_id: str, n: int = 0) -> dict[str, Any]:
    return await service.act(session_id, {"observation": observe("arm", n)}, Clock())


async def test_a_broken_checkpoint_has_failed_with_its_reason_while_others_serve(folder: Path) -> None:
    for name in ("flipped", "cut", "foreign"):
        shutil.copytree(folder / "arm", folder / name)
        path = folder / name / "1" / "manifest.json"
        path.write_text(path.read_text().replace('"arm"', f'"{name}"'))
    break_weights(folder, "flipped")
    (folder / "cut" / "1" / "manifest.json").write_text('{"format_version": 1')
    (folder / "foreign" / "1" / "model.safetensors").write_bytes(b"PK\x03\x04 a pickled checkpoint")
    async with running(folder) as service, over_http(service) as client:
        assert service.ready
        assert states(service) == {
            "arm/1": "ready", "cut/1": "failed", "flipped/1": "failed", "foreign/1": "failed",
        }  # fmt: skip
        caller = Caller(client)
        assert "SHA-256" in (await caller.ask("GET", "/v1/models/flipped"))["reason"]
        assert "JSON" in (await caller.ask("GET", "/v1/models/cut"))["reason"]
        problem = await caller.ask("POST", "/v1/sessions", {"model": "flipped"}, status=503)
        assert problem["code"] == "model_not_ready" and "SHA-256" in problem["detail"]
        await caller.act(await caller.session("arm"), observe("arm"))
        assert (await client.get("/v2/models/flipped/ready")).status_code == 503
        assert 'thick_model_loaded{model="arm",version="1"} 1.0' in (await client.get("/metrics")).text


async def test_a_model_says_what_runs_it_and_what_it_can_act_by(folder: Path) -> None:
    write_model(folder, "flat", observation="vector", action="continuous", kind="rssm")
    shutil.copytree(folder / "arm", folder / "flipped")
    break_weights(folder, "flipped")
    async with running(folder) as service, over_http(service) as client:
        caller = Caller(client)
        listed = {each["name"]: each["backend"] for each in (await caller.ask("GET", "/v1/models"))["models"]}
        assert listed["flipped"] is None and listed["arm"] == open_runtime(folder / "arm" / "1").info.backend
        found = {name: (await caller.ask("GET", f"/v1/models/{name}"))["methods"] for name in listed}
    assert found == {"arm": ["hierarchical", "flat", "policy"], "flat": ["flat"], "flipped": []}


async def test_an_unknown_model_is_answered_with_the_nearest_one(folder: Path) -> None:
    async with running(folder) as service, over_http(service) as client:
        problem = await Caller(client).ask("POST", "/v1/sessions", {"model": "amr"}, status=404)
        assert problem["code"] == "model_not_found" and "`arm`" in problem["detail"]


async def test_an_empty_repository_is_ready_and_has_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        assert service.ready and service.list_models() == {"models": []}


async def test_new_sessions_get_the_newest_version_unless_they_name_another(folder: Path) -> None:
    second_version(folder, "10")
    second_version(folder, "9")
    async with running(folder) as service:
        assert service.get_model("arm")["versions"] == ["1", "9", "10"]
        assert (await service.lifecycle.create({"model": "arm"}))["version"] == "10"
        assert (await service.lifecycle.create({"model": "arm", "version": "1"}))["version"] == "1"


async def test_a_newest_version_that_is_broken_leaves_the_one_before_in_service(folder: Path) -> None:
    second_version(folder)
    break_weights(folder, version="2")
    async with running(folder) as service:
        assert states(service) == {"arm/1": "ready", "arm/2": "failed"}
        assert (await service.lifecycle.create({"model": "arm"}))["version"] == "1"


async def test_only_the_newest_is_loaded_where_that_is_asked_for(folder: Path) -> None:
    second_version(folder)
    async with running(folder, load_versions="latest") as service:
        assert states(service) == {"arm/1": "unloaded", "arm/2": "ready"}
        with pytest.raises(ProblemError) as caught:
            await service.lifecycle.create({"model": "arm", "version": "1"})
        assert caught.value.status == 503
        await service.load_model("arm", "1")
        assert (await service.lifecycle.create({"model": "arm", "version": "1"}))["version"] == "1"


async def test_a_new_version_takes_new_sessions_while_live_ones_stay_on_theirs(folder: Path) -> None:
    async with running(folder) as service:
        old = await service.lifecycle.create({"model": "arm", "seed": 1})
        twin = await service.lifecycle.create({"model": "arm", "seed": 1})
        await act(service, old["session_id"])
        await act(service, twin["session_id"])
        second_version(folder)
        assert (await service.load_model("arm"))["version"] == "2"
        assert (await service.lifecycle.create({"model": "arm"}))["version"] == "2"
        service.unload_model("arm", "1")
        first = await act(service, old["session_id"], 1)
        second = await act(service, twin["session_id"], 1)
        assert first["step"] == 1 and list(first["action"]) == list(second["action"])
        assert (await service.lifecycle.fork(old["session_id"], {}))["version"] == "1"


async def test_an_unloaded_version_is_freed_with_its_last_session(folder: Path) -> None:
    async with running(folder) as service:
        view = await service.lifecycle.create({"model": "arm"})
        service.unload_model("arm")
        assert states(service) == {"arm/1": "unloaded"}
        with pytest.raises(ProblemError) as caught:
            await service.lifecycle.create({"model": "arm"})
        assert caught.value.code == "model_not_ready"
        await act(service, view["session_id"])
        hosted = service.repository.get("arm")
        assert hosted.loaded
        await service.lifecycle.delete(view["session_id"])
        assert not hosted.loaded
        await service.load_model("arm")
        assert states(service) == {"arm/1": "ready"}
        await service.lifecycle.create({"model": "arm"})


async def test_an_unloaded_version_is_kept_for_whom_nobody_used_since_a_restart(
    folder: Path, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/sessions.db"
    async with running(folder, store=store) as service:
        session = (await service.lifecycle.create({"model": "arm"}))["session_id"]
        dream = (await service.dreaming.create({"model": "arm"}))["dream_id"]
    async with running(folder, store=store) as service:
        service.unload_model("arm")
        hosted = service.repository.get("arm")
        await act(service, session)
        await service.dreaming.step(dream, {"actions": [[0.0, 0.0]]})
        await service.lifecycle.delete(session)
        assert hosted.loaded
        await service.dreaming.delete(dream)
        assert not hosted.loaded


async def test_a_mended_checkpoint_can_be_loaded(folder: Path) -> None:
    break_weights(folder)
    async with running(folder) as service:
        assert states(service) == {"arm/1": "failed"} and not service.ready
        with pytest.raises(ProblemError) as caught:
            await service.load_model("arm")
        assert caught.value.code == "conflict" and "SHA-256" in caught.value.detail
        break_weights(folder)  # flips the bit back
        assert (await service.load_model("arm"))["state"] == "ready"
        assert service.ready


async def test_where_every_model_failed_readiness_names_each_with_its_reason(folder: Path) -> None:
    second_version(folder)
    break_weights(folder)
    (folder / "arm" / "2" / "manifest.json").write_text("{")
    async with running(folder) as service, over_http(service) as client:
        response = await client.get("/health/ready")
        problem = response.json()
        assert response.status_code == 503 and problem["code"] == "model_not_ready"
        assert problem["state"] == "failed" and problem["retry_after"] >= 10
        assert "'arm' version '1'" in problem["detail"] and "SHA-256" in problem["detail"]
        assert "'arm' version '2'" in problem["detail"] and "JSON" in problem["detail"]
        assert "loading" not in problem["detail"]


async def test_a_model_is_served_under_a_second_name_by_a_link_or_a_copy(folder: Path) -> None:
    (folder / "canary").symlink_to("arm", target_is_directory=True)
    shutil.copytree(folder / "arm" / "1", folder / "copied" / "7")
    async with running(folder) as service:
        assert states(service) == {"arm/1": "ready", "canary/1": "ready", "copied/7": "ready"}
        assert service.get_model("copied")["exported_as"] == "arm/1"
        hosted = [service.repository.get(name) for name in ("arm", "canary")]
        assert hosted[0].runtime is hosted[1].runtime, "a link needs no second model in memory"
        views = [
            await service.lifecycle.create({"model": name, "seed": 3}) for name in ("arm", "canary", "copied")
        ]
        assert [view["model"] for view in views] == ["arm", "canary", "copied"]
        first, *others = [await act(service, view["session_id"]) for view in views]
        assert all(list(other["action"]) == list(first["action"]) for other in others)


async def test_a_link_to_a_version_is_an_alias_that_a_session_may_name(folder: Path) -> None:
    second_version(folder)
    (folder / "arm" / "stable").symlink_to("1", target_is_directory=True)
    async with running(folder) as service:
        assert states(service) == {"arm/1": "ready", "arm/2": "ready"}
        assert service.get_model("arm")["aliases"] == {"stable": "1"}
        assert (await service.lifecycle.create({"model": "arm"}))["version"] == "2"
        assert (await service.lifecycle.create({"model": "arm", "version": "stable"}))["version"] == "1"
        with pytest.raises(ProblemError, match=r"stable \(alias of 1\)"):
            service.get_model("arm", "staple")


async def test_an_entry_that_nobody_can_ask_for_is_named_in_the_log(folder: Path) -> None:
    for strange in ("my arm/1", "arm/1.0-β", ".git/1", "arm/.tmp"):
        shutil.copytree(folder / "arm" / "1", folder / strange)
    (folder / "notes of mine" / "1").mkdir(parents=True)
    with structlog.testing.capture_logs() as logs:
        async with running(folder) as service:
            assert states(service) == {"arm/1": "ready"}
    said = [line for line in logs if line["event"] == "an entry is left out"]
    assert [line["entry"] for line in said] == ["arm/1.0-β", "my arm/1"]
    assert all("rename it" in line["advice"] for line in said)


def close_to_us(private: Path, patch: pytest.MonkeyPatch) -> None:
    """A folder as it is to whoever may not read it, which root may everywhere."""
    iterdir, access = Path.iterdir, os.access

    def listed(self: Path) -> Iterator[Path]:
        if self == private:
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    patch.setattr(Path, "iterdir", listed)
    patch.setattr(os, "access", lambda path, mode: Path(path) != private and access(path, mode))


async def test_a_folder_that_may_not_be_read_is_named_in_the_log_and_the_others_serve(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "private").mkdir()
    close_to_us(folder / "private", monkeypatch)
    with structlog.testing.capture_logs() as logs:
        async with running(folder) as service:
            assert service.ready and states(service) == {"arm/1": "ready"}
    assert [line["folder"] for line in logs if line["event"] == "a folder is left out"] == ["private"]
    assert run_models(["--models", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "private is left out: it may not be read" in captured.err and "arm" in captured.out


def test_a_repository_that_may_not_be_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    close_to_us(folder, monkeypatch)
    assert run_serve(["--models", str(folder), "--port", "0", "--store", "memory://"]) == 2
    assert run_models(["--models", str(folder)]) == 2
    assert capsys.readouterr().err.count("may not be read") == 2


@pytest.mark.parametrize(("inside", "taken_for"), [("arm", "one model"), ("arm/1", "one version of a model")])
async def test_a_model_that_is_taken_for_a_repository_is_told_where_that_is(
    folder: Path, inside: str, taken_for: str
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(folder / inside):
            pass
    (advice,) = [line["advice"] for line in logs if line["event"] == "no models"]
    assert taken_for in advice and advice.endswith(f"--models {folder}")


async def test_what_runs_a_model_is_shown(folder: Path) -> None:
    async with running(folder, backend="torch") as service:
        view = await service.lifecycle.create({"model": "arm"})
        await act(service, view["session_id"])
        runtime = service.get_model("arm")["runtime"]
        assert runtime["backend"] == "torch" and runtime["device"] == "cpu"
        assert runtime["precision"] in ("fp32", "bf16") and runtime["instructions"]
        assert runtime["threads"] == 1, "what the settings of these tests say"


async def test_new_versions_are_found_while_the_server_runs_where_that_is_set(folder: Path) -> None:
    async with running(folder, watch_s=0.05) as service:
        second_version(folder)
        async with asyncio.timeout(20):
            while states(service).get("arm/2") != "ready":
                await asyncio.sleep(0.02)


async def test_models_are_loaded_over_the_network_by_an_admin_only(folder: Path) -> None:
    second_version(folder)
    keys = {"api_keys": ("client",), "admin_keys": ("admin",)}
    async with running(folder, model_control=True, **keys) as service, over_http(service) as client:

        async def unload(key: str | None) -> int:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            path = "/v1/models/arm/unload"
            return (await client.post(path, json={"version": "1"}, headers=headers)).status_code

        assert [await unload(key) for key in (None, "guess", "client")] == [401, 403, 403]
        assert states(service)["arm/1"] == "ready"
        assert await unload("admin") == 200 and states(service)["arm/1"] == "unloaded"
        headers = {"authorization": "Bearer admin"}
        loaded = await client.post("/v1/models/arm/load", json={"version": "1"}, headers=headers)
        assert loaded.status_code == 200 and states(service)["arm/1"] == "ready"
        for bad in ({"version": 1}, {"versoin": "1"}, [1]):
            response = await client.post("/v1/models/arm/load", json=bad, headers=headers)
            assert response.status_code == 422
        missing = await client.post("/v1/models/arm/load", json={"version": "7"}, headers=headers)
        assert missing.status_code == 404
    async with running(folder, **keys) as service, over_http(service, headers=headers) as client:
        assert (await client.post("/v1/models/arm/load")).json()["code"] == "admin_disabled"


async def test_the_server_answers_and_says_that_it_is_not_ready_while_models_load(folder: Path) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(path: Path, **options: Any) -> Any:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
        return open_runtime(path, **options)

    service = PlanningService(settings_for(folder), MemoryStore(), opener=slow)
    await service.start()
    async with over_http(service) as client:
        assert (await client.get("/health/live")).status_code == 200
        while states(service) != {"arm/1": "loading"}:
            await asyncio.sleep(0.001)
        waiting = await client.get("/health/ready")
        assert waiting.status_code == 503 and "retry-after" in waiting.headers
        refused = await client.post("/v1/sessions", json={"model": "arm"})
        assert refused.status_code == 503 and refused.json()["state"] == "loading"
        gate.set()
        await service.loaded()
        assert (await client.get("/health/ready")).status_code == 200
    await service.stop()


def test_a_repository_is_described_without_loading_it(folder: Path) -> None:
    second_version(folder)
    (folder / "arm" / "2" / "manifest.json").write_text("{}")
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("not a model")
    rows = describe_repository(folder)
    assert [(row["name"], row["version"], row["state"]) for row in rows] == [
        ("arm", "1", "unloaded"),
        ("arm", "2", "failed"),
    ]
    assert json.dumps(rows)


def test_thick_models_lists_a_repository(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from service.commands import run_models

    assert run_models(["--models", str(folder)]) == 0
    assert "arm" in (out := capsys.readouterr().out) and "thick" in out
    assert run_models(["--models", str(folder), "arm"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["planner"]["samples"] == 16
    assert run_models(["--models", str(folder), "nothing"]) == 2
    assert run_models(["--models", str(folder / "nowhere")]) == 2
    assert "not a folder" in capsys.readouterr().err
