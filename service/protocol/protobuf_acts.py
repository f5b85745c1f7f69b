"""Acts as protobuf messages, read and written field by field: they are nearly all of the traffic, and an act that is
short takes less time than walking over its messages.

What is not as nearly all acts are (a picture, a Dict, planner settings, a plan) is left to
``service.protocol.protobuf``; both ways give the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.protocol.arrays import encode_array
from service.protocol.generated import planner_pb2 as pb
from service.protocol.protobuf import MAX_DIMENSIONS, from_dict, read_field

MAX_NAMES = 64
"""parts of an answer that are asked for here; more are looked at the long way"""
_SCALARS = frozenset(field.name for field in pb.ActRequest.DESCRIPTOR.fields if field.message_type is None)
_SHORT_ANSWER = frozenset({"session_id", "step", "action", "replayed"})


def read_act(message: pb.ActRequest) -> dict[str, Any]:
    """What ``protobuf.to_dict`` gives for it."""
    tree: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = field.name
        if name in _SCALARS:
            tree[name] = value
        elif (
            name == "observation"
            and value.WhichOneof("kind") == "array"
            and len(value.array.shape) <= MAX_DIMENSIONS
        ):
            array = value.array
            tree[name] = {"dtype": array.dtype, "shape": list(array.shape), "data": array.data}
        elif name == "include":
            tree[name] = list(value.names) if len(value.names) < MAX_NAMES else read_field(name, value)
        else:
            tree[name] = read_field(name, value)
    return tree


def answer_to_message(answer: Mapping[str, Any]) -> pb.ActResponse:
    """The message of an act's answer; what ``protobuf.from_dict`` gives for it."""
    action = answer["action"]
    if answer.keys() != _SHORT_ANSWER:
        return from_dict(pb.ActResponse, answer)
    if isinstance(action, np.ndarray):
        form = encode_array(action, binary=True)
        sent = pb.Action(array=pb.Array(dtype=form["dtype"], shape=form["shape"], data=form["data"]))
    elif type(action) is int:
        sent = pb.Action(discrete=action)
    else:
        return from_dict(pb.ActResponse, answer)
    return pb.ActResponse(
        session_id=answer["session_id"], step=answer["step"], replayed=answer["replayed"], action=sent
    )
