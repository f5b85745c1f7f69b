"""The same picture in each form in which it may come, through each face: the same action."""

from __future__ import annotations

import asyncio
import base64
import json
import textwrap
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
import websockets.sync.client
from openpi_client import msgpack_numpy

from service.core import PlanningService
from service.protocol import media
from service.protocol.arrays import encode_array, encode_image
from tests.service.grpc_support import over_grpc
from tests.service.sockets import over_sockets
from tests.service.support import Caller, observe

pytestmark = pytest.mark.asyncio(loop_scope="session")

PICTURE = observe("camera", 5)
PNG = encode_image(PICTURE, "png").data
TEXT = base64.b64encode(PNG).decode()
RAW = encode_array(PICTURE, binary=False)
FORMS: dict[str, Any] = {
    "a data URI": f"data:image/png;base64,{TEXT}",
    "a data URI as data": {"encoding": "png", "data": f"data:image/png;base64,{TEXT}"},
    "without padding": {"encoding": "png", "data": TEXT.rstrip("=")},
    "in lines": {"encoding": "png", "data": textwrap.fill(TEXT, 76) + "\n"},
    "URL-safe": {"encoding": "png", "data": base64.urlsafe_b64encode(PNG).decode()},
    "an array in lines, URL-safe, without padding": {
        **RAW,
        "data": textwrap.fill(RAW["data"].translate(str.maketrans("+/", "-_")).rstrip("="), 64),
    },
    "whole floats": encode_array(PICTURE.astype(np.float32), binary=False),
    "whole floats in lists": PICTURE.astype(float).tolist(),
    "wider integers": encode_array(PICTURE.astype(np.int64), binary=False),
}
WRONG: dict[str, tuple[Any, str]] = {
    "another encoding": ({"encoding": "webp", "data": f"data:image/png;base64,{TEXT}"}, "of image/png"),
    "text that is no base64": ({"encoding": "png", "data": "?" + TEXT}, "has '?' at 0"),
    "cut short": ({"encoding": "png", "data": TEXT.rstrip("=")[: len(TEXT) // 4 * 4 - 7]}, "cut short"),
    "base64 as binary": ({"encoding": "png", "data": TEXT.encode()}, "look like base64 text"),
    "scaled to 0 to 1": (encode_array((PICTURE / 255).astype(np.float32), binary=True), "Send its bytes"),
    "a fraction": (encode_array(PICTURE + np.float32(0.5), binary=True), "expected whole numbers"),
    "above the bound": (encode_array(PICTURE.astype(float) + 1, binary=True), "from 0 to 255"),
    "base64 without a form": (TEXT, "a picture is an object"),
}


@pytest.mark.parametrize("kind", media.BODY_TYPES, ids=["json", "msgpack"])
async def test_over_http_every_form_means_the_same_picture(client: httpx.AsyncClient, kind: str) -> None:
    caller = Caller(client, kind)
    session = await caller.session("camera")
    expected = await caller.act(session, {"encoding": "png", "data": _data(PNG, kind)}, step=0)
    for name, form in FORMS.items():
        again = await caller.act(session, form, step=0)  # the same step is replayed only for the same request
        assert again["replayed"] and again["action"] == expected["action"], name


def _data(data: bytes, kind: str) -> Any:
    return data if kind == media.MSGPACK else base64.b64encode(data).decode()


@pytest.mark.parametrize("name", WRONG)
async def test_over_http_what_is_wrong_is_reported_in_words(client: httpx.AsyncClient, name: str) -> None:
    caller = Caller(client, media.MSGPACK)
    session = await caller.session("camera")
    form, says = WRONG[name]
    response = await caller.send("POST", f"/v1/sessions/{session}/act", {"observation": form})
    assert response.status_code == 422 and says in response.json()["detail"]
    assert response.json()["errors"][0]["path"].startswith("observation")
    await caller.act(session, PICTURE, step=0)


async def test_over_grpc_pictures_and_whole_floats_mean_the_same(service: PlanningService) -> None:
    async with over_grpc(service) as asking:
        session = await asking.session("camera")
        expected = await asking.act(session, PICTURE, step=0)
        for form in (PICTURE.astype(np.float32), PICTURE.astype(np.int64), {"encoding": "png", "data": PNG}):
            again = await asking.act(session, form, step=0)
            assert again["replayed"] and again["action"] == expected["action"]
        for data in (TEXT.encode(), b"data:image/png;base64," + TEXT.encode()):
            form = {"encoding": "png", "data": data}
            status, problem = await asking.refused("Act", {"session_id": session, "observation": form})
            assert status == "INVALID_ARGUMENT" and "look like base64 text" in problem.detail
        status, problem = await asking.refused("Act", {"session_id": session, "observation": PICTURE + 0.5})
        assert status == "INVALID_ARGUMENT" and "expected whole numbers" in problem.detail


async def test_over_openpi_every_form_means_the_same_picture(service: PlanningService) -> None:
    def drive(port: int) -> dict[str, Any]:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/openpi?model=camera&seed=3") as socket:
            socket.recv()

            def ask(form: Any) -> Any:
                socket.send(msgpack.packb({"observation": form, "step": 0}, default=msgpack_numpy.pack_array))
                answer = socket.recv()
                return json.loads(answer) if isinstance(answer, str) else msgpack_numpy.unpackb(answer)

            answers = {"first": ask(PICTURE), **{name: ask(form) for name, form in FORMS.items()}}
            return {**answers, **{name: ask(form) for name, (form, _) in WRONG.items()}}

    async with over_sockets(service) as port:
        answers = await asyncio.to_thread(drive, port)
    for name in FORMS:
        assert answers[name]["replayed"] and np.array_equal(
            answers[name]["actions"], answers["first"]["actions"]
        )
    for name, (_, says) in WRONG.items():
        assert says in answers[name]["detail"], name


async def test_whole_floats_are_integers_wherever_those_are_expected(client: httpx.AsyncClient) -> None:
    caller = Caller(client)
    session = await caller.session("grid")
    seen = {name: value.astype(float).tolist() for name, value in observe("grid").items()}
    await caller.act(session, seen, step=0)
    await caller.act(session, seen, executed_action=2.0)
    body = {"observation": seen, "executed_action": 2.5}
    response = await caller.send("POST", f"/v1/sessions/{session}/act", body)
    assert (
        response.status_code == 422
        and "expected an integer from 0 to 3, got 2.5" in response.json()["detail"]
    )
