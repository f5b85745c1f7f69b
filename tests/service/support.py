"""Tiny models in a repository, and observations for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service.core import PlanningService
from service.faces.http.app import create_app
from service.protocol import media
from service.protocol.bodies import decode_arrays, decode_body, encode_body
from service.settings import Settings
from service.stores.open import open_store
from thick.export import write_entry
from thick.spaces import space_to_json

PLANNER = {"samples": 16, "iterations": 2, "elites": 4, "horizon": 3, "simulations": 6, "depth": 2, "kept": 2}
"""a search that takes a few milliseconds"""


def write_model(
    folder: Path,
    name: str,
    *,
    observation: str,
    action: str,
    kind: str = "thick",
    version: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """An entry with random weights; thick models have an actor and a critic."""
    from tests.models import sizes  # needs torch: services are tested without it too

    changes.setdefault("actor_critic", kind == "thick")
    model = sizes.model(sizes.SPACES[observation], sizes.ACTIONS[action], seed, kind=kind, **changes)
    planner: dict[str, Any] = {**PLANNER, "method": "hierarchical" if kind == "thick" else "flat"}
    planner["low"] = "cem" if action == "continuous" else "categorical-cem"
    return write_entry(
        folder,
        name=name,
        version=version,
        kind=kind,
        task="tests:" + name,
        observation_space=space_to_json(model.observation_space),
        action_space=space_to_json(model.action_space),
        configuration={"model": model.config},
        planner=planner,
        provenance={"command": "random weights"},
        tensors=model.state_dict(),
    )


def observe(model: str, seed: int = 0) -> Any:
    """A random observation of one of the models of the fixture."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    vector = rng.standard_normal(7).astype(np.float32)
    if model == "arm":
        return vector
    if model == "camera":
        return image
    board = np.stack([rng.integers(0, high + 1, (5, 6), dtype=np.uint8) for high in (10, 5, 3)], -1)
    return {"camera": image, "board": board, "joints": vector}


def settings_for(repository: Path, **changes: Any) -> Settings:
    """Settings of a quiet service in memory."""
    values: dict[str, Any] = {"models": repository, "store": "memory://", "access_log": False, "threads": 1}
    return Settings(**{**values, **changes})


@contextlib.asynccontextmanager
async def running(repository: Path, **changes: Any) -> AsyncIterator[PlanningService]:
    """A started service whose models are ready."""
    settings = settings_for(repository, **changes)
    service = PlanningService(settings, await open_store(settings))
    await service.start()
    try:
        await service.loaded()
        yield service
    finally:
        await service.stop()


def over_http(service: PlanningService, **options: Any) -> httpx.AsyncClient:
    """A client of a service's application, in this process."""
    transport = httpx.ASGITransport(app=create_app(service), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://service", **options)


class Caller:
    """Asks the service in one media type and reads the answers."""

    def __init__(self, client: httpx.AsyncClient, kind: str = media.JSON) -> None:
        self.client = client
        self.kind = kind

    async def send(self, verb: str, path: str, tree: Any = None, **headers: str) -> httpx.Response:
        """The raw response."""
        content = None if tree is None else encode_body(tree, self.kind)
        sent = {"accept": self.kind, **({"content-type": self.kind} if content is not None else {})}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(verb, path, content=content, headers={**sent, **named})

    async def ask(self, verb: str, path: str, tree: Any = None, *, status: int = 200) -> Any:
        """The decoded answer, which must have this status."""
        response = await self.send(verb, path, tree)
        assert response.status_code == status, response.text
        if status == 204:
            assert response.content == b""
            return None
        expected = self.kind if response.is_success else media.PROBLEM_JSON
        assert response.headers["content-type"] == expected
        decoded = decode_body(response.content, self.kind if response.is_success else media.JSON)
        return decode_arrays(decoded)

    async def session(self, model: str = "grid", **fields: Any) -> str:
        """The id of a new session."""
        view = await self.ask("POST", "/v1/sessions", {"model": model, "seed": 3, **fields}, status=201)
        return str(view["session_id"])

    async def act(
        self, session_id: str, observation: Any, *, status: int = 200, **fields: Any
    ) -> dict[str, Any]:
        """One act's answer."""
        tree = {"observation": observation, **fields}
        answer: dict[str, Any] = await self.ask("POST", f"/v1/sessions/{session_id}/act", tree, status=status)
        return answer


def same(one: Any, other: Any) -> bool:
    """Whether two answers hold the same values, arrays and lists alike."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple, np.ndarray)) or isinstance(other, (list, tuple, np.ndarray)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
