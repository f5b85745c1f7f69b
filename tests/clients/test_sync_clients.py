"""The blocking clients are what the script writes from the asynchronous ones, and neither lacks a method."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from clients import (
    AsyncGrpcPlanningClient,
    AsyncPlanningClient,
    AsyncSession,
    GrpcPlanningClient,
    PlanningClient,
    Session,
)

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sync_clients.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("sync_clients", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_blocking_modules_are_what_the_script_writes(script: Any) -> None:
    assert script.main(["--check"]) == 0, "run scripts/sync_clients.py, and change clients/asynchronous alone"


def test_a_module_that_was_changed_by_hand_is_found(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asynchronous").mkdir()
    monkeypatch.setattr(script, "MODULES", ("session", "base"))
    for name in script.MODULES:
        source = (script.CLIENTS / "asynchronous" / f"{name}.py").read_text()
        (tmp_path / "asynchronous" / f"{name}.py").write_text(source)
    monkeypatch.setattr(script, "CLIENTS", tmp_path)
    assert script.main([]) == 0 and script.main(["--check"]) == 0
    (tmp_path / "session.py").write_text("changed = True\n")
    assert script.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "session.py" in said and "base.py" not in said


def test_what_the_script_does_not_know_is_an_error_and_not_half_a_client(script: Any) -> None:
    for source in ("import asyncio\n", "from contextlib import AsyncExitStack\n", "task = x.get_async()\n"):
        with pytest.raises(script.LeftoverError):
            script.blocking(source, "made_up")


@pytest.mark.parametrize(
    ("asynchronous", "blocking"),
    [
        (AsyncPlanningClient, PlanningClient),
        (AsyncGrpcPlanningClient, GrpcPlanningClient),
        (AsyncSession, Session),
    ],
)
def test_both_kinds_have_the_same_methods_with_the_same_arguments(asynchronous: Any, blocking: Any) -> None:
    def public(kind: Any) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: [re.sub("A?[Ss]ync", "", str(p)) for p in inspect.signature(method).parameters.values()]
            for name, method in methods
            if not name.startswith("_") or name == "__init__"
        }

    assert public(asynchronous) == public(blocking) and len(public(blocking)) > 8
    assert all(inspect.getdoc(getattr(blocking, name)) for name in public(blocking) if name != "__init__")
    assert not re.search("async", inspect.getsource(blocking), re.IGNORECASE)
