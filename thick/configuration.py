"""Frozen records from plain values: merged, checked, described. Used for runs, models and their manifests.

A record is a frozen dataclass with :data:`RECORD` as its ``__pydantic_config__`` and a docstring under every field.
Values are checked by pydantic, strictly (no number in place of a truth value), as JSON has them: lists for tuples.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from thick.nearest import did_you_mean

RECORD = ConfigDict(use_attribute_docstrings=True, extra="forbid")
"""of a record, as ``__pydantic_config__: ClassVar = RECORD``"""

EACH = "each"
"""the key that stands for every record of a list: ``levels: {each: {actions: 3}}``"""

T = TypeVar("T")

# What numbers of a record may be; none of them may be NaN or infinite.
LARGEST = 2**63 - 1
"""that an array or a generator of random numbers can take"""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Index = Annotated[int, Field(ge=0, le=LARGEST)]
"""where 0 means none, never or from the beginning"""
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which ``1e-4`` is a number, as in YAML 1.2 and JSON."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(text: str) -> Any:
    """Plain values from YAML.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:  # in several lines of its own
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"not valid YAML: {error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


def read_value(flag: str, text: str) -> Any:
    """The plain value that a flag of a command line has; ValueError, which names the flag, if it is no YAML."""
    try:
        return read_yaml(text)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error


def read_yaml_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ValueError, which names the file, if it holds something else."""
    try:
        content = read_yaml(path.read_text())
    except ValueError as error:  # also of bytes that are no text
        raise ValueError(f"{path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys with values, got {content!r}")
    return content


def merge(record: T, changes: Mapping[str, Any]) -> T:
    """A record with some fields replaced by plain values, nested records included.

    A list of records is replaced by a list; a mapping changes its entries by index, or all of them with the key
    ``each``. Entries of a dictionary are added or
    replaced, each as a whole; null takes one out.

    Raises:
        ValueError: an unknown key (with the nearest right one) or a value that does not fit.
    """
    return build(type(record), _merged(record, changes, ""))


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A record from plain values; what is left out keeps its default.

    Args:
        where: how to call the record in errors.

    Raises:
        ValueError: see :func:`merge`.
    """
    try:
        document = json.dumps(values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where or cls.__name__}: {error}; expected plain values as JSON has them"
        ) from error
    try:
        return _adapter(cls).validate_json(document, strict=True)  # type: ignore[arg-type, no-any-return]
    except ValidationError as error:
        raise ValueError(_explained(cls, error, where)) from error


def describe(record: Any, path: str = "") -> str:
    """Every field, one a line: name, value and meaning."""
    meanings = _meanings(type(record))  # type: ignore[arg-type]
    lines = []
    for item in dataclasses.fields(record):
        value, name = getattr(record, item.name), path + item.name
        meaning = meanings.get(item.name, "")
        if dataclasses.is_dataclass(value):
            lines += ["", f"{name}: {meaning}", describe(value, name + ".")]
        elif isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            lines += ["", f"{name}: {meaning} (--{name} '[{{…}}]' replaces the list)"]
            lines += [describe(entry, f"{name}.{index}.") for index, entry in enumerate(value)]
        else:
            lines.append(f"  --{name} {value!r}".ljust(48) + f" {meaning}")
    return "\n".join(lines)


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain YAML or JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(record))  # type: ignore[no-any-return]


def differences(base: Any, record: Any, path: str = "") -> dict[str, Any]:
    """Fields of a record that differ from another's of its kind, as plain values by their dotted names."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        one, other = getattr(base, item.name), getattr(record, item.name)
        if dataclasses.is_dataclass(other):
            found |= differences(one, other, f"{path}{item.name}.")
        elif isinstance(other, dict) and one != other:
            removed = dict.fromkeys(one.keys() - other.keys())
            changed = {key: value for key, value in other.items() if key not in one or one[key] != value}
            found[path + item.name] = changed | removed
        elif one != other:
            entries = other if isinstance(other, tuple) else ()
            records = any(map(dataclasses.is_dataclass, entries))
            found[path + item.name] = [to_dict(entry) for entry in entries] if records else other
    return found


def arguments(words: list[str], record: Any = None) -> dict[str, Any]:
    """``--field.name value`` or ``--field.name=value`` as nested changes; values are read as YAML.

    Args:
        words: of a command line.
        record: what they change; a field that it has as a text takes the word as it stands (``--name 7``).

    Raises:
        ValueError: something else, or a value that is missing.
    """
    changes: dict[str, Any] = {}
    rest = [part for word in words for part in _split(word)]
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(f"expected --FIELD VALUE, got {name!r} (fields: thick train --fields)")
        if not rest:
            raise ValueError(f"{name}: a value is missing")
        place = changes
        *path, last = name[2:].replace("-", "_").split(".")
        for key in path:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"{name}: {key} was given a value of its own before")
        text, hint = rest.pop(0), _hint(record, [*path, last])
        if (
            not text.strip() and hint is not str
        ):  # a variable of the shell that is not set: never a silent null
            raise ValueError(f"{name}: a value is missing (null says none)")
        if hint is str or (hint == str | None and text not in ("null", "~")):
            place[last] = _unquoted(name, text)
        else:
            place[last] = read_value(name, text)
    return changes


def _hint(record: Any, path: list[str]) -> Any:
    """The type of the field at ``path``; None where a record has no such field."""
    for key in path[:-1]:
        record = getattr(record, key, None)
    if not dataclasses.is_dataclass(record):
        return None
    return _hints(type(record)).get(path[-1])  # type: ignore[arg-type]


def _unquoted(flag: str, text: str) -> str:
    """A text as it was typed; one in quotes is read as YAML has it."""
    value = read_value(flag, text) if text[:1] in ("'", '"') else text
    return value if isinstance(value, str) else text


# -- merging -----------------------------------------------------------------------------------------------------


def _merged(record: Any, changes: Any, path: str) -> dict[str, Any]:
    if not isinstance(changes, Mapping):
        raise ValueError(f"{path.rstrip('.')}: expected fields with values, got {changes!r}")
    values = to_dict(record)
    for key, change in changes.items():
        if key not in values:
            raise ValueError(_unknown(str(key), list(values), path))
        current = getattr(record, key)
        if dataclasses.is_dataclass(current):
            values[key] = _merged(current, change, f"{path}{key}.")
        elif isinstance(change, Mapping) and _is_list(type(record), key):
            values[key] = _entries(current, change, f"{path}{key}.")
        elif isinstance(current, dict) and isinstance(change, Mapping):
            values[key] = {k: v for k, v in {**values[key], **change}.items() if v is not None}
        else:
            values[key] = change
    return values


def _entries(records: tuple[Any, ...], changes: Mapping[Any, Any], path: str) -> list[dict[str, Any]]:
    """A list of records with some of its entries changed."""
    values = list(records)
    for key, change in changes.items():
        if key == EACH:
            chosen = range(len(values))
        elif str(key).isdecimal() and int(key) < len(values):
            chosen = range(int(key), int(key) + 1)
        else:
            many = f"0 to {len(values) - 1}" if values else "nothing: the list is empty"
            raise ValueError(f"{path}{key}: expected {EACH!r} or the index of an entry, {many}")
        for index in chosen:
            current = values[index]
            values[index] = build(
                type(current), _merged(current, change, f"{path}{index}."), f"{path}{index}"
            )
    return [to_dict(entry) for entry in values]


def _is_list(cls: type, key: str) -> bool:
    hint = _hints(cls)[key]
    options = typing.get_args(hint)
    return typing.get_origin(hint) is tuple and bool(options) and dataclasses.is_dataclass(options[0])


def _split(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--") and "=" in argument else [argument]


# -- checking ----------------------------------------------------------------------------------------------------


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _meanings(cls: Any) -> dict[str, str]:
    """The docstring under each field."""
    properties = _adapter(cls).json_schema().get("properties", {})
    return {name: " ".join(about.get("description", "").split()) for name, about in properties.items()}


def _explained(cls: Any, error: ValidationError, where: str) -> str:
    """The first fault that pydantic found, in the project's words."""
    fault = error.errors(include_url=False)[0]
    *path, last = [str(key) for key in fault["loc"]] or [""]
    prefix = "".join(f"{key}." for key in (where, *path) if key)
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return _unknown(last, _known(cls, path), prefix)
    expected = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if fault["type"] == "value_error":
        return f"{(prefix + last).rstrip('.')}: {expected}".removeprefix(": ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"{(prefix + last).rstrip('.')}: expected {expected}, got {fault['input']!r}"


_WORDS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "String should match pattern": "a text that matches",
}


def _unknown(key: str, known: list[str], path: str) -> str:
    return (
        f"unknown key {path + key!r}{did_you_mean(key, known, prefix=path)} (known here: {', '.join(known)})"
    )


def _known(cls: Any, path: list[str]) -> list[str]:
    """Fields of the record at ``path`` within ``cls``."""
    for key in path:
        if not key.isdecimal():
            cls = typing.get_type_hints(cls)[key]
            cls = next((option for option in typing.get_args(cls) if dataclasses.is_dataclass(option)), cls)
    return [item.name for item in dataclasses.fields(cls)]
