"""The manifest of a model-repository entry: everything about a model but its weights, as JSON.

Needs no torch. Whatever is wrong with a manifest ends in an :class:`EntryError` that says what was found,
what was expected and what to do.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thick.nearest import did_you_mean

if TYPE_CHECKING:
    import gymnasium

FORMAT_VERSION = 2
READABLE = (1, 2)
KINDS = ("thick", "crssm", "rssm")
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
GRAPH = ".onnx"
"""how the files of graphs end"""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""names of models and versions: plain, so that none of them is a path or a hidden file"""

_MANIFEST_LIMIT = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class EntryError(ValueError):
    """A model-repository entry that is missing, damaged, foreign, or cannot be written."""


class VerificationError(EntryError):
    """Graphs of an entry do not compute what its weights do."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that belongs to a manifest."""

    file: str
    """name of the file next to the manifest: ``model.safetensors`` for the weights, ``NAME.onnx`` for a graph"""
    sha256: str
    """SHA-256 of the file, 64 lower-case hexadecimal digits"""
    bytes: int
    """size of the file"""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a model but its weights; every field is plain JSON."""

    format_version: int
    """version of this layout: :data:`FORMAT_VERSION` in what is written, one of :data:`READABLE` in what is read"""
    name: str
    """name of the model, also the name of the folder above"""
    version: str
    """version of the model, also the name of its folder"""
    kind: str
    """``thick`` (C-RSSM with a high level), ``crssm`` or ``rssm``"""
    task: str
    """environment id the model was trained on"""
    observation_space: dict[str, Any]
    """the space in its JSON form (:func:`thick.spaces.space_to_json`)"""
    action_space: dict[str, Any]
    """likewise"""
    configuration: dict[str, Any]
    """``model``: fields of :class:`thick.models.config.ModelConfig`; in addition, what else shaped the run"""
    planner: dict[str, Any]
    """defaults of planning, field names of the API's ``planner``"""
    provenance: dict[str, Any]
    """how the model was trained and what it was measured to do"""
    weights: StoredFile
    """the weight file"""
    graphs: dict[str, StoredFile] = field(default_factory=dict)
    """ONNX graphs of single steps by name, where `thick export --onnx` wrote them; they refer to the weight file"""

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON objects; without ``graphs`` where there are none."""
        document = dataclasses.asdict(self)
        if not self.graphs:
            del document["graphs"]
        return document

    @classmethod
    def from_json(cls, document: object, *, source: str = MANIFEST) -> Manifest:
        """Check and build a manifest.

        Args:
            document: what ``json.loads`` gave.
            source: how to call it in errors.

        Raises:
            EntryError: a field is missing, unknown, of a wrong type or out of its limits.
        """
        fields = json_object(document, source)
        version = fields.get("format_version")
        if type(version) is not int or version not in READABLE:
            raise EntryError(
                f"{source}: format_version is {version!r}, this release reads {' and '.join(map(str, READABLE))}; "
                "export the model again, or install the release that wrote it"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        check_keys({"graphs": {}, **fields}, known, source)
        check_name(fields["name"], f"{source}: name")
        check_name(fields["version"], f"{source}: version")
        if fields["kind"] not in KINDS:
            raise EntryError(f"{source}: kind is {fields['kind']!r}, expected one of {', '.join(KINDS)}")
        if not isinstance(fields["task"], str):
            raise EntryError(f"{source}: task is {fields['task']!r}, expected an environment id")
        for key in ("configuration", "planner", "provenance"):
            json_object(fields[key], f"{source}: {key}")
        for key in ("observation_space", "action_space"):
            if not isinstance(json_object(fields[key], f"{source}: {key}").get("type"), str):
                raise EntryError(
                    f"{source}: {key} has no type, expected a space such as {{'type': 'Box', …}}"
                )
        weights = _stored(fields["weights"], f"{source}: weights", WEIGHTS)
        graphs = {
            check_name(name, f"{source}: graphs"): _stored(each, f"{source}: graphs.{name}", f"{name}{GRAPH}")
            for name, each in json_object(fields.get("graphs", {}), f"{source}: graphs").items()
        }
        return cls(**{**fields, "weights": weights, "graphs": graphs})

    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Observation and action space as gymnasium objects.

        Raises:
            EntryError: one of them does not describe a space.
        """
        from thick.envs.spaces import space_from_json

        built = []
        for key in ("observation_space", "action_space"):
            try:
                built.append(space_from_json(getattr(self, key)))
            except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
                raise EntryError(f"{MANIFEST}: {key} is no space: {error}; export the model again") from error
        return built[0], built[1]


def check_name(value: object, what: str) -> str:
    """The value, if it may name a folder of the repository.

    Raises:
        EntryError: it is no plain name (a path, a hidden file, an empty string, …).
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise EntryError(
            f"{what} is {value!r}, expected 1 to 128 letters, digits, '.', '_' or '-', the first no sign"
        )
    return value


def read_manifest(entry: Path) -> Manifest:
    """Read and check the manifest of an entry, without torch and without reading the weights.

    Args:
        entry: the folder ``NAME/VERSION``.

    Raises:
        EntryError: no such folder or file, bad JSON, an unknown format, a wrong field.
    """
    path = Path(entry) / MANIFEST
    content = read_file(path, limit=_MANIFEST_LIMIT)
    try:
        document = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{path}: not valid JSON ({error}); copy or export the model again") from error
    return Manifest.from_json(document, source=str(path))


def read_file(path: Path, limit: int | None = None) -> bytes:
    """The content of a file of an entry.

    Args:
        limit: refuse more bytes than this.

    Raises:
        EntryError: it is missing, unreadable or too large.
    """
    try:
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise EntryError(f"{path}: {size} bytes, expected at most {limit}; this is no manifest")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EntryError(
            f"{path} does not exist; an entry is a folder NAME/VERSION that holds {WEIGHTS} and {MANIFEST}"
        ) from error
    except OSError as error:
        raise EntryError(f"{path} cannot be read: {error.strerror}") from error


def json_object(value: object, what: str) -> dict[str, Any]:
    """The value, if it is a JSON object; EntryError otherwise."""
    if not isinstance(value, dict):
        kinds = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
        found = kinds.get(type(value), "a number")
        raise EntryError(f"{what} holds {found}, expected a JSON object; export the model again")
    return value


def check_keys(fields: Mapping[str, object], known: list[str], what: str, *, complete: bool = True) -> None:
    """Refuse fields that are not known, naming the nearest that is; and missing ones if all are needed."""
    for key in fields:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known are {', '.join(known)}"
            raise EntryError(f"{what}: unknown field {key!r}{hint}")
    missing = [key for key in known if key not in fields]
    if complete and missing:
        raise EntryError(f"{what}: missing {', '.join(missing)}; export the model again")


def _stored(value: object, what: str, name: str) -> StoredFile:
    fields = json_object(value, what)
    check_keys(fields, [field.name for field in dataclasses.fields(StoredFile)], what)
    if fields["file"] != name:
        raise EntryError(f"{what}.file is {fields['file']!r}, expected {name!r} next to the manifest")
    if not isinstance(fields["sha256"], str) or not _SHA256.fullmatch(fields["sha256"]):
        raise EntryError(f"{what}.sha256 is {fields['sha256']!r}, expected 64 lower-case hexadecimal digits")
    if type(fields["bytes"]) is not int or fields["bytes"] <= 0:
        raise EntryError(f"{what}.bytes is {fields['bytes']!r}, expected a whole number above 0")
    return StoredFile(**fields)


def plain(value: object, what: str) -> Any:
    """The value in JSON's own types: tuples as lists, dataclasses as objects, paths as text.

    Raises:
        EntryError: something in it has no JSON form; the error names where.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise EntryError(f"{what}: key {key!r} is not text, and JSON keys are")
        return {key: plain(item, f"{what}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{what}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise EntryError(f"{what} is {value}, which JSON cannot hold; write null or leave it out")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise EntryError(
        f"{what} is a {type(value).__name__}, which has no JSON form; convert it before exporting"
    )


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return fields
