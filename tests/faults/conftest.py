"""A repository whose one model is quick to load, and servers over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import Server
from tests.service.support import write_model


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with ``arm`` alone: vectors in, two numbers out, so that actions are equal only if everything
    before them was. A record of its sessions spans several pages of a store's file."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "arm", observation="vector", action="continuous", deter=1024, context=64)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a model whose acts take least."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "arm", observation="vector", action="continuous")
    return folder


@pytest.fixture(scope="session")
def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that leave it as it was."""
    with Server(tiny, tmp_path_factory.mktemp("shared"), forked=False) as server:
        yield server
        assert "Traceback" not in server.logged


class Figures:
    """What the tests measured, for the end of the output and for docs/operations/reliability.md."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, what: str, measured: Mapping[str, Any]) -> None:
        """Note the figures of one test."""
        self.lines.append(f"{what}: " + ", ".join(f"{name} {value}" for name, value in measured.items()))


_FIGURES = Figures()


@pytest.fixture
def figures() -> Figures:
    """Where a test puts what it measured."""
    return _FIGURES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    if _FIGURES.lines:
        terminalreporter.section("figures of reliability")
        for line in _FIGURES.lines:
            terminalreporter.write_line(line)
