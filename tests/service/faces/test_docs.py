"""The page and the document of the contract: without the internet, and behind a proxy's path prefix."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from service.core import PlanningService
from service.settings import SettingsError, build
from tests.service.sockets import over_sockets
from tests.service.support import Caller, observe, over_http, running

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),  # openpi-client's own
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prefixed(small: Path) -> AsyncIterator[PlanningService]:
    """A service that a proxy shows under /robots/thick, with keys."""
    async with running(small, root_path="/robots/thick", api_keys="key") as made:
        yield made


async def page_loads(client: httpx.AsyncClient, base: str, **headers: Any) -> dict[str, Any]:
    """Looks at the page as a browser does; returns the document that it shows."""
    page = await client.get(f"{base}/docs", headers=headers)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    (shown,) = re.findall(r"url: '([^']+)'", page.text)
    assert len(loaded) == 3 and "://" not in page.text.replace("window.location", ""), page.text
    for address in [*loaded, shown]:
        found = await client.get(address, headers=headers)
        assert found.status_code == 200 and found.content, address
    script = next(address for address in loaded if address.endswith(".js"))
    assert "SwaggerUIBundle" in (await client.get(script, headers=headers)).text
    assert '"validatorUrl": null' in page.text  # no look-up of the document by a server on the internet
    document: dict[str, Any] = (await client.get(shown, headers=headers)).json()
    return document


async def test_the_page_needs_nothing_from_the_internet(client: httpx.AsyncClient) -> None:
    document = await page_loads(client, "")
    assert document["servers"] == [{"url": "/"}] and "/v1/sessions" in document["paths"]
    assert (await client.get("/docs/redoc.standalone.js")).status_code == 404
    assert (await client.get("/docs/..%2fcore.py")).status_code == 404


@pytest.mark.parametrize("strips", [True, False], ids=["the proxy strips the prefix", "the proxy leaves it"])
async def test_behind_a_prefix_everything_is_found_and_links_carry_it(
    prefixed: PlanningService, strips: bool
) -> None:
    async with over_http(prefixed) as client:

        async def proxied(request: httpx.Request) -> None:
            if strips:
                request.url = request.url.copy_with(path=request.url.path.removeprefix("/robots/thick"))

        client.event_hooks["request"].append(proxied)
        document = await page_loads(client, "/robots/thick")
        assert document["servers"] == [{"url": "/robots/thick"}] and "/v1/sessions" in document["paths"]
        assert (await client.get("/robots/thick/v1/models")).status_code == 401
        assert (await client.get("/robots/thick/health/ready")).status_code == 200
        client.headers["authorization"] = "Bearer key"
        made = await client.post("/robots/thick/v1/sessions", json={"model": "arm", "seed": 3})
        assert made.headers["location"] == f"/robots/thick/v1/sessions/{made.json()['session_id']}"
        seen = {"observation": observe("arm").tolist()}
        assert (await client.post(made.headers["location"] + "/act", json=seen)).status_code == 200
        assert (await client.get(made.headers["location"])).json()["step"] == 1
        missing = await client.get("/robots/thick/v1/sessions/none")
        assert missing.status_code == 404 and missing.json()["instance"] == "/robots/thick/v1/sessions/none"
        assert "/robots/thick/docs" in (await client.get("/robots/thick/v3")).json()["detail"]
        assert (await client.get("/other/v1/models")).status_code == 404
        counted = prefixed.metrics.exposition().decode()
        assert 'route="/v1/sessions/{session_id}/act"' in counted and "robots" not in counted


async def test_robots_reach_their_address_behind_a_prefix(prefixed: PlanningService) -> None:
    async with over_sockets(prefixed) as port:

        def drive(path: str) -> Any:
            policy = WebsocketClientPolicy(f"ws://127.0.0.1:{port}{path}", None, "key")
            shape = policy.infer({"observation": observe("arm")})["actions"].shape
            policy._ws.close()
            return shape

        for path in ("/robots/thick/openpi", "/robots/thick", "/openpi"):
            assert await asyncio.to_thread(drive, path) == (1, 2)


async def test_a_proxy_that_strips_may_say_its_prefix_in_a_header(client: httpx.AsyncClient) -> None:
    header = {"x-forwarded-prefix": "/thick/"}
    document = (await client.get("/openapi.json", headers=header)).json()
    assert document["servers"] == [{"url": "/thick"}]
    assert "url: '/thick/openapi.json'" in (await client.get("/docs", headers=header)).text
    made = await Caller(client).send("POST", "/v1/sessions", {"model": "arm"}, **header)
    assert made.headers["location"].startswith("/thick/v1/sessions/")
    # What one request was told stays with it.
    assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    "sent", ["/health", "//evil.example", "https://evil.example", "/a b", "/<script>", "/" + "a" * 5000]
)
async def test_the_header_takes_nothing_off_a_path_and_puts_no_strange_text_on_a_page(
    client: httpx.AsyncClient, sent: str
) -> None:
    header = {"x-forwarded-prefix": sent}
    assert (await client.get("/health/v1/models", headers=header)).status_code == 404
    assert (await client.get("/v1/models", headers=header)).status_code == 200
    page = (await client.get("/docs", headers=header)).text
    assert ("url: '/health/openapi.json'" if sent == "/health" else "url: '/openapi.json'") in page


@pytest.mark.parametrize(
    "wrong", ["thick", "/a//b", "/a b", "/v1", "/docs/thick", "/<x>", "/a/../b", "/.", "/./a"]
)
async def test_a_prefix_that_cannot_be_one_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(SettingsError, match="--root-path") as refused:
        build({"root_path": wrong})
    assert wrong in str(refused.value) or "a path of the service itself" in str(refused.value)
    assert build({"root_path": "/thick/"}).root_path == "/thick"
