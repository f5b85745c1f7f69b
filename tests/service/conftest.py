"""A repository of tiny, randomly initialised models, and services over it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from service.core import PlanningService
from service.models import warmup
from service.operations.logs import configure_logging
from tests.service.support import over_http, running, settings_for, write_model

WRITTEN = "MODELS_OF_TESTS"
"""variable: a folder that holds the models already"""


@pytest.fixture(scope="session", autouse=True)
def logging(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Logs as the server writes them."""
    configure_logging(settings_for(tmp_path_factory.mktemp("none"), log_format="json"))


@pytest.fixture(scope="session", autouse=True)
def short_warmup() -> Iterator[None]:
    """Models are ready after one plan of each kind: what the first client would wait for matters to no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warmup, "BATCHES", (1,))
        patch.setattr(warmup, "TIMES", 1)
        patch.setattr(warmup, "SLICES", 1)
        yield


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``grid`` (discrete, a Dict observation), ``arm`` (continuous, vectors), ``camera`` (images, flat RSSM)."""
    if (
        WRITTEN in os.environ
    ):  # by tests/service/test_without_torch.py, which runs these tests where none could be
        return Path(os.environ[WRITTEN])
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "grid", observation="dict", action="discrete")
    write_model(folder, "arm", observation="vector", action="continuous")
    write_model(folder, "camera", observation="image", action="discrete", kind="rssm")
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with ``arm`` alone, which is quick to load."""
    folder = tmp_path_factory.mktemp("small")
    if WRITTEN in os.environ:
        (folder / "arm").symlink_to(Path(os.environ[WRITTEN]) / "arm")
        return folder
    write_model(folder, "arm", observation="vector", action="continuous")
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(repository: Path) -> AsyncIterator[PlanningService]:
    """One started service for all tests, which make sessions of their own and leave its settings alone."""
    async with running(repository) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(service: PlanningService) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that service's application, in this process."""
    async with over_http(service) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(small: Path) -> AsyncIterator[PlanningService]:
    """A service of its own for a test that looks at the whole."""
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(small))
