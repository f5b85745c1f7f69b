"""A repository of tiny, randomly initialised models, and services over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from service.core import PlanningService
from service.operations.tracing import configure_logging
from tests.service.support import over_http, running, settings_for, write_model


@pytest.fixture(scope="session", autouse=True)
def logging(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Logs as the server writes them."""
    configure_logging(settings_for(tmp_path_factory.mktemp("none"), log_format="json"))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``grid`` (discrete, a Dict observation), ``arm`` (continuous, vectors), ``camera`` (images, flat RSSM)."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "grid", observation="dict", action="discrete")
    write_model(folder, "arm", observation="vector", action="continuous")
    write_model(folder, "camera", observation="image", action="discrete", kind="rssm")
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with ``arm`` alone, which is quick to load."""
    folder = tmp_path_factory.mktemp("small")
    write_model(folder, "arm", observation="vector", action="continuous")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(repository: Path) -> AsyncIterator[PlanningService]:
    """One started service for all tests of a module: they make their own sessions."""
    async with running(repository) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(service: PlanningService) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that service's application, in this process."""
    async with over_http(service) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(small: Path) -> AsyncIterator[PlanningService]:
    """A service of its own for a test that looks at the whole."""
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(small))
