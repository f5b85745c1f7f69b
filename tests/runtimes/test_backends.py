"""The table of backends: a backend that is not there is said in one line."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thick.manifest import EntryError
from thick.runtimes import backends
from thick.runtimes.backends import Backend, check_backend, open_runtime
from thick.runtimes.protocol import BackendError

ABSENT = Backend("absent", "thick.runtimes.absent.runtime", (), ("cpu",), "install absence")
NEEDY = Backend(
    "needy", "thick.runtimes", ("no_such_package",), ("cpu",), "pip install 'thick-planner[needy]'"
)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", {"absent": ABSENT, "needy": NEEDY})


@pytest.mark.usefixtures("table")
def test_a_backend_that_is_not_installed_says_what_is_missing_and_what_brings_it() -> None:
    with pytest.raises(
        BackendError, match=r"needy is not installed \(no_such_package is missing\)"
    ) as caught:
        open_runtime(Path("nowhere"), backend="needy")
    assert "pip install 'thick-planner[needy]'" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="absent is not installed"):
        check_backend("absent", "cpu")


@pytest.mark.usefixtures("table")
def test_auto_names_every_backend_and_why_it_cannot_be_used() -> None:
    with pytest.raises(BackendError, match=r"absent.*; .*needy"):
        check_backend("auto", "cpu")
    with pytest.raises(BackendError, match=r"absent.*; .*needy"):
        open_runtime(Path("nowhere"))


@pytest.mark.usefixtures("table")
def test_an_unknown_backend_and_a_device_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(BackendError, match="'tpu': expected one of auto, absent, needy"):
        check_backend("tpu", "cpu")
    with pytest.raises(BackendError, match="absent runs on cpu, not on cuda:1"):
        check_backend("absent", "cuda:1")


def opened(monkeypatch: pytest.MonkeyPatch, **errors: Exception | None) -> Any:
    """Opens a model with backends that raise these errors, or open it where there is none."""
    table = {}
    for name, error in errors.items():
        module = ModuleType(f"backend_{name}")

        def open_it(entry: Path, *, device: str, precision: str, name: str = name, error: Any = error) -> str:
            if error is not None:
                raise error
            return name

        module.open_runtime = open_it  # type: ignore[attr-defined]
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        table[name] = Backend(name, module.__name__, (), ("cpu",), "")
    monkeypatch.setattr(backends, "BACKENDS", table)
    return open_runtime(Path("nowhere"))


def test_auto_goes_on_after_whatever_a_backend_cannot_do_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = {"first": BackendError("no library"), "second": ValueError("head_layers: at least one")}
    assert opened(monkeypatch, **errors, third=None) == "third"
    assert "runs on third: no library; backend second: head_layers: at least one" in caplog.text
    with pytest.raises(BackendError, match=r"no backend .*no library; backend second: head_layers"):
        opened(monkeypatch, **errors)


def test_a_damaged_entry_is_said_once_whatever_backends_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EntryError, match=r"^cut off$"):
        opened(monkeypatch, first=EntryError("cut off"), second=None)
