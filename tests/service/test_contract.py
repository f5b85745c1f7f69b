"""Every route of the contract, in both media types."""

from __future__ import annotations

import httpx

from service.protocol.bodies import decode_arrays, decode_body, encode_body
from tests.service.support import observe


async def test_a_session_acts(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/sessions", json={"model": "grid", "seed": 1})
    assert made.status_code == 201, made.text
    view = made.json()
    body = encode_body({"observation": observe("grid")}, "application/msgpack")
    for step in range(3):
        got = await client.post(
            f"/v1/sessions/{view['session_id']}/act",
            content=body,
            headers={"content-type": "application/msgpack"},
        )
        assert got.status_code == 200, got.text
        answer = decode_arrays(decode_body(got.content, "application/msgpack"))
        assert answer["step"] == step
        print(answer["timing"], answer["action"])
