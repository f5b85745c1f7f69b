"""protobuf messages <-> the dicts that JSON and msgpack carry, so that server and clients have one path.

``to_dict(message)`` gives what ``bodies.decode_body`` gives for the same request in msgpack: arrays stay in
their wire form (``{"dtype", "shape", "data"}``) and what is unset is left out, so the dict goes through the
same schemas and the same validation. ``from_dict(kind, tree)`` takes what ``bodies.encode_body`` takes. Members that a
message has no field for ride in its ``other`` struct.
"""

from __future__ import annotations

import json
import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.protocol.arrays import EncodedImage, decode_array, encode_array, is_wire_array
from service.protocol.errors import GRPC_PROBLEM_KEY, PROBLEMS, ProblemError, invalid, show
from service.protocol.events import END, STEP, Event
from service.protocol.generated import planner_pb2 as pb
from service.protocol.limits import DEFAULT_LIMITS
from service.protocol.protobuf_structs import read_list, read_struct, write_list, write_struct
from thick.spaces import Box, Dict, Discrete, MultiDiscrete, as_space, make_box, space_to_json

SERVICE_NAME = "thick.v1.Planner"
TAKES_BYTES = "thick-max-message-bytes"
"""metadata in which a client says how large a message it takes (its ``grpc.max_receive_message_length``)"""
MAX_REPEATED = 20_000
"""the most entries of one kind in a request: actions to imagine, parts of an answer, entries of an observation"""
MAX_DIMENSIONS = 64
"""numpy's own bound"""
MAX_METADATA = 4096
"""a problem's bytes in the trailing metadata; HTTP/2 peers bound all metadata, commonly at 8 KiB"""

AnyMessage = TypeVar("AnyMessage", bound=Message)

_INTEGERS = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32}
)  # fmt: skip
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})


def to_dict(message: Message) -> Any:
    """The dict that JSON would carry for ``message`` (for arrays, spaces and the like: their JSON form)."""
    name = message.DESCRIPTOR.full_name
    special = _READERS.get(name)
    if special is not None:
        return special(message)
    result: dict[str, Any] = {}
    request = name.endswith("Request") or name == _PLANNER
    fields = _fields(message.DESCRIPTOR)
    sent = {field.name: value for field, value in message.ListFields()}
    for field_name, field in fields.items():
        if field_name == "other":
            continue
        if field.repeated:
            items = sent.get(field_name, ())
            if request and len(items) > MAX_REPEATED:
                raise invalid(field_name, f"at most {MAX_REPEATED} entries, got {len(items)}")
            if items or not (request or name in _SPARSE):
                if field.message:
                    result[field_name] = [to_dict(item) for item in items]
                else:
                    result[field_name] = [_number(v) for v in items] if field.float else list(items)
        elif field_name in sent:
            value = sent[field_name]
            # In a request, a number that is none must not pass for one that was left out.
            plain = value if request or not field.float else _number(value)
            result[field_name] = read_field(field_name, value) if field.message else plain
        elif not field.presence:
            result[field_name] = getattr(message, field_name)
    if "other" in sent and "other" in fields:
        for key, value in read_struct(message.other).items():
            result.setdefault(key, value)
    if name == "thick.v1.ImagineRequest" and "actions" in result:
        # Lists, as in JSON: of actions, or of lists of actions for each rollout.
        result["actions"] = [_listed(action, f"actions[{i}]") for i, action in enumerate(result["actions"])]
    if name == "thick.v1.ImagineResponse" and result["level"].isdigit():
        result["level"] = int(result["level"])
    return result


def read_field(name: str, message: Message) -> Any:
    """The dict of a message in a message; what is wrong there is named as in JSON (``planner.samples``)."""
    try:
        return to_dict(message)
    except ProblemError as problem:
        raise problem.within(name) from None


def _listed(action: Any, path: str) -> Any:
    return decode_array(action, path=path).tolist() if isinstance(action, Mapping) else action


def from_dict(kind: type[AnyMessage], tree: Any) -> AnyMessage:
    """The message of class ``kind`` for what JSON would carry; None counts as unset.

    Raises:
        ValueError: a member that the message has neither a field nor room (``other``) for.
        TypeError: a value that its field cannot hold.
    """
    message = kind()
    _fill(message, tree)
    return message


def event_to_message(event: Event) -> pb.ImagineEvent:
    """The streamed form of an ``imagine`` event (``step`` or ``end``)."""
    if event.name == END:
        return pb.ImagineEvent(end=from_dict(pb.ImagineResponse, event.data))
    if event.name != STEP:
        raise ValueError(f"event {event.name!r}: a stream carries {STEP} and {END}; errors end it")
    step = {key: value for key, value in event.data.items() if key not in ("rollout", "index", "level")}
    return pb.ImagineEvent(
        step=pb.StepEvent(
            rollout=event.data["rollout"], index=event.data["index"], step=from_dict(pb.ImaginedStep, step)
        )
    )


def message_to_event(message: pb.ImagineEvent) -> Event:
    """The event that a streamed message holds."""
    if message.WhichOneof("event") == "end":
        return Event(END, to_dict(message.end))
    step = message.step
    return Event(STEP, {"rollout": step.rollout, "index": step.index, **to_dict(step.step)})


def problem_metadata(problem: ProblemError, instance: str | None = None) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries a problem; long ones lose their last errors."""
    data = problem.to_json(instance)
    if len(data) > MAX_METADATA:
        short = problem.to_dict(instance)
        short["detail"] = str(short["detail"])[:600]
        short["errors"] = [
            {"path": e["path"][:100], "message": e["message"][:200]} for e in short.get("errors", [])[:6]
        ]
        data = json.dumps(short, default=str).encode()
    return ((GRPC_PROBLEM_KEY, data[:MAX_METADATA]),)


def problem_from_status(status: str, details: str | None, trailing: Iterable[Any] | None) -> ProblemError:
    """The problem of a failed call.

    Args:
        status: name of its ``grpc.StatusCode``.
        details: its message, used where no problem came along (a proxy, a dead server).
        trailing: its trailing metadata.
    """
    for key, value in trailing or ():
        if key == GRPC_PROBLEM_KEY:
            try:
                return ProblemError.from_dict(json.loads(value))
            except (ValueError, AttributeError):
                break  # cut off on the way; the status says enough
    code = next((code for code, kind in PROBLEMS.items() if kind.grpc == status), "internal")
    return ProblemError({"UNAVAILABLE": "draining"}.get(status, code), details or status)


_Field = namedtuple("_Field", "repeated presence message integer float boolean")
"""what is asked of a field for each message: its descriptor takes longer to answer"""


@cache
def _fields(kind: Descriptor) -> dict[str, _Field]:
    """The fields of a message by name, in their order."""
    boolean = FieldDescriptor.CPPTYPE_BOOL
    return {
        f.name: _Field(
            f.is_repeated, f.has_presence, f.message_type is not None,
            f.cpp_type in _INTEGERS, f.cpp_type in _FLOATS, f.cpp_type == boolean,
        )
        for f in kind.fields
    }  # fmt: skip


def _fill(message: Message, tree: Any) -> None:
    special = _WRITERS.get(message.DESCRIPTOR.full_name)
    if special is not None:
        special(message, tree)
        return
    if not isinstance(tree, Mapping):
        raise TypeError(f"expected an object, got {show(tree)}")
    fields, other = _fields(message.DESCRIPTOR), dict[str, Any]()
    for key, value in tree.items():
        if value is None:
            continue
        field = fields.get(key)
        if field is None:
            other[key] = value
        elif field.repeated:
            _fill_repeated(getattr(message, key), field, value)
        elif field.message:
            child = getattr(message, key)
            child.SetInParent()
            try:
                _fill(child, value)
            except ProblemError as problem:
                raise problem.within(key) from None
        elif field.integer and isinstance(value, (float, np.floating)) and value != int(value):
            raise invalid(key, f"expected an integer, got {value}")
        elif key == "level" and type(value) is int and not field.integer:
            setattr(message, key, str(value))  # levels have names or numbers
        elif (scalar := _scalar(field, value)) is not None:
            setattr(message, key, scalar)
    if other:
        if "other" not in fields:
            known = ", ".join(fields)
            raise ValueError(f"{message.DESCRIPTOR.name} has no {', '.join(other)}; it has {known}")
        write_struct(message.other, other)


def _fill_repeated(container: Any, field: _Field, values: Any) -> None:
    if field.message:
        for value in values:
            _fill(container.add(), value)
    elif field.float:
        container.extend(math.nan if value is None else float(value) for value in values)
    elif field.integer:
        container.extend(int(value) for value in values)
    else:
        container.extend(values)


def _scalar(field: _Field, value: Any) -> Any:
    if field.integer or field.float:
        if isinstance(value, (bool, str)):  # no number, though Python makes one of it
            raise TypeError(f"expected a number, got {show(value)}")
        if field.integer:
            return int(value)
        return float(value) if math.isfinite(value) else None
    if field.boolean:
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"expected true or false, got {show(value)}")
        return bool(value)
    return value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---- arrays, observations, actions


def _read_array(message: Any) -> dict[str, Any]:
    if len(message.shape) > MAX_DIMENSIONS:
        most = DEFAULT_LIMITS.array_dimensions
        raise invalid("shape", f"at most {most} dimensions, got {len(message.shape)}")
    return {"dtype": message.dtype, "shape": list(message.shape), "data": message.data}


def _write_array(message: Any, value: Any) -> None:
    form = value if isinstance(value, Mapping) else encode_array(np.asarray(value), binary=True)
    if not isinstance(form["data"], bytes):
        raise ValueError("over gRPC the data of an array are bytes, not base64 text")
    message.dtype, message.data = form["dtype"], form["data"]
    message.shape.extend(form["shape"])


def _read_image(message: Any) -> dict[str, Any]:
    return {"encoding": message.encoding, "data": message.data}


def _write_image(message: Any, value: Any) -> None:
    encoded = value if isinstance(value, Mapping) else {"encoding": value.encoding, "data": value.data}
    if not isinstance(encoded["data"], bytes):
        raise ValueError("over gRPC the data of a picture are bytes, not base64 text")
    message.encoding, message.data = encoded["encoding"], encoded["data"]


def _read_observation(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "dict":
        entries = message.dict.entries
        if len(entries) > MAX_REPEATED:
            raise invalid("", f"at most {MAX_REPEATED} entries, got {len(entries)}")
        return {key: read_field(key, entry) for key, entry in entries.items()}
    value = getattr(message, kind)
    return value if kind == "discrete" else to_dict(value)


def _write_observation(message: Any, value: Any) -> None:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        message.discrete = int(value)
    elif isinstance(value, EncodedImage) or (
        isinstance(value, Mapping) and value.keys() == {"encoding", "data"}
    ):
        _write_image(message.image, value)
    elif isinstance(value, Mapping) and not is_wire_array(value):
        message.dict.SetInParent()
        for key, entry in value.items():
            _write_observation(message.dict.entries[str(key)], entry)
    elif isinstance(value, str):
        raise invalid("", f"expected an array or a picture, got {show(value)}; over gRPC a data URI is none")
    else:
        _write_array(message.array, value)


def _read_action(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    return message.discrete if kind == "discrete" else _read_array(message.array)


def _write_action(message: Any, value: Any) -> None:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        message.discrete = int(value)
    else:
        _write_array(message.array, value)


# ---- spaces, structs, names


def _read_space(message: Any) -> dict[str, Any] | None:
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "dict":
        spaces = {key: _read_space(inner) for key, inner in message.dict.spaces.items()}
        return {"type": "Dict", "spaces": spaces}
    if kind == "discrete":
        return space_to_json(Discrete(message.discrete.n, message.discrete.start))
    if kind == "multi_discrete":
        many = message.multi_discrete
        return space_to_json(MultiDiscrete(tuple(many.nvec), tuple(many.start), tuple(many.shape)))
    box = message.box
    bounds = [
        np.asarray(bound[0] if len(bound) == 1 else np.reshape(bound, tuple(box.shape)))
        for bound in (box.low, box.high)
    ]
    return space_to_json(make_box(tuple(box.shape), box.dtype, *bounds))


def _write_space(message: Any, value: Any) -> None:
    space = as_space(value)
    if isinstance(space, Dict):
        message.dict.SetInParent()
        for key, inner in space.spaces.items():
            _write_space(message.dict.spaces[key], inner)
    elif isinstance(space, Discrete):
        message.discrete.n, message.discrete.start = space.n, space.start
    elif isinstance(space, MultiDiscrete):
        message.multi_discrete.nvec.extend(space.nvec)
        message.multi_discrete.start.extend(space.start)
        message.multi_discrete.shape.extend(space.dimensions)
    elif isinstance(space, Box):
        message.box.shape.extend(space.shape)
        message.box.dtype = space.dtype.name
        for target, bound in ((message.box.low, space.low), (message.box.high, space.high)):
            flat = bound.ravel().astype(np.float64)
            target.extend(flat[:1].tolist() if flat.size and (flat == flat[0]).all() else flat.tolist())


def _read_names(message: Any) -> list[str]:
    if len(message.names) > MAX_REPEATED:
        raise invalid("", f"at most {MAX_REPEATED} entries, got {len(message.names)}")
    return list(message.names)


_SPARSE = frozenset(
    kind.DESCRIPTOR.full_name for kind in (pb.Plan, pb.LevelPlan, pb.DreamResponse, pb.DreamStepResponse)
)
"""answers whose lists are left out where they are empty, as in JSON: not every level has each of them"""
_PLANNER = pb.PlannerSettings.DESCRIPTOR.full_name
_STRUCT = struct_pb2.Struct.DESCRIPTOR.full_name
_LIST = struct_pb2.ListValue.DESCRIPTOR.full_name

_READERS: dict[str, Callable[[Any], Any]] = {
    "thick.v1.Array": _read_array,
    "thick.v1.Image": _read_image,
    "thick.v1.Observation": _read_observation,
    "thick.v1.Action": _read_action,
    "thick.v1.Space": _read_space,
    "thick.v1.Names": _read_names,
    "thick.v1.Indices": lambda message: list(message.indices),
    _STRUCT: read_struct,
    _LIST: read_list,
}
_WRITERS: dict[str, Callable[[Any, Any], None]] = {
    "thick.v1.Array": _write_array,
    "thick.v1.Image": _write_image,
    "thick.v1.Observation": _write_observation,
    "thick.v1.Action": _write_action,
    "thick.v1.Space": _write_space,
    "thick.v1.Names": lambda message, value: message.names.extend(value),
    "thick.v1.Indices": lambda message, value: message.indices.extend(value),
    _STRUCT: write_struct,
    _LIST: write_list,
}
