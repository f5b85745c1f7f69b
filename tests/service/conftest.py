"""A repository of tiny, randomly initialised models, and a service over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.core import PlanningService
from service.settings import Settings
from service.store import MemoryStore
from tests.service.support import write_model


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: ``grid`` (discrete, a Dict observation), ``arm`` (continuous, vectors), ``camera`` (images,
    flat RSSM)."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "grid", observation="dict", action="discrete")
    write_model(folder, "arm", observation="vector", action="continuous")
    write_model(folder, "camera", observation="image", action="discrete", kind="rssm")
    return folder


def settings_for(repository: Path, **changes: Any) -> Settings:
    """Settings of a quiet service in memory."""
    values: dict[str, Any] = {"models": repository, "store": "memory://", "access_log": False, "threads": 1}
    return Settings(**{**values, **changes})


@pytest.fixture
async def service(repository: Path) -> AsyncIterator[PlanningService]:
    """A started service whose models are ready."""
    made = PlanningService(settings_for(repository), MemoryStore())
    await start(made)
    yield made
    await made.stop()


async def start(service: PlanningService) -> None:
    """Start, and wait until the models are ready."""
    await service.start()
    await service._chores[0]
    assert service.ready


@pytest.fixture
async def client(service: PlanningService) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service's application, in this process."""
    async with over_http(service) as made:
        yield made


def over_http(service: PlanningService, **options: Any) -> httpx.AsyncClient:
    """A client of a service's application."""
    transport = httpx.ASGITransport(app=create_app(service), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://service", **options)
