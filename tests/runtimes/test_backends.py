"""The table of backends: a backend that is not there is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from thick.runtimes import backends
from thick.runtimes.backends import Backend, check_backend, open_runtime
from thick.runtimes.protocol import BackendError

ABSENT = Backend("absent", "thick.runtimes.absent.runtime", (), ("cpu",), "a build with absence")
NEEDY = Backend("needy", "thick.runtimes", ("no_such_package",), ("cpu",), "the extra `needy`")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", {"absent": ABSENT, "needy": NEEDY})


@pytest.mark.usefixtures("table")
def test_a_backend_that_is_not_installed_says_what_is_missing_and_what_brings_it() -> None:
    with pytest.raises(
        BackendError, match=r"needy is not installed \(no_such_package is missing\)"
    ) as caught:
        open_runtime(Path("nowhere"), backend="needy")
    assert "the extra `needy`" in str(caught.value) and "\n" not in str(caught.value)
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
