"""One array on the wire: nested lists, ``{"dtype", "shape", "data"}``, or a png, jpeg or webp picture
(``{"encoding", "data"}``, or a data URI).

Everything is little endian and nothing is ever unpickled. Errors are :class:`ProblemError` s that name the
path of the value in the request, what was sent and what was expected.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from service.protocol.binary import (
    URI_TYPES,
    encode_text,
    hint_of_text,
    is_data_uri,
    media_type_of,
    read_data,
)
from service.protocol.errors import ProblemError, invalid, show
from service.protocol.limits import DEFAULT_LIMITS, Limits
from thick import spaces

DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name).newbyteorder("<") for name in spaces.DTYPES}
"""the element types that may travel"""
_NAMES = {kind: name for name, little in DTYPES.items() for kind in (little, little.newbyteorder(">"))}
"""their names, in either byte order (asking numpy for one takes longer than encoding a small array)"""
_LITTLE = {little: name for name, little in DTYPES.items()}

ENCODINGS = ("png", "jpeg", "webp")
"""the picture encodings that may travel"""

_ARRAY_KEYS = frozenset({"dtype", "shape", "data"})
_IMAGE_KEYS = frozenset({"encoding", "data"})
_NUMBERS = frozenset({int, float, bool})
_PLAIN = frozenset({int, float})
_LISTS = frozenset({list, tuple})
_SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class EncodedImage:
    """A picture that is already encoded: the server puts it in an answer instead of an array."""

    encoding: str
    """``png``, ``jpeg`` or ``webp``"""
    data: bytes


def is_wire_array(value: Any) -> bool:
    """Whether a decoded JSON or msgpack value has the form of an array or of a picture."""
    return isinstance(value, Mapping) and (value.keys() == _ARRAY_KEYS or value.keys() == _IMAGE_KEYS)


def little_endian_name(array: np.ndarray) -> str | None:
    """The name of its dtype where its elements lie in memory as they travel; None where they do not, or may not."""
    return _LITTLE.get(array.dtype)


def encode_array(array: np.ndarray, *, binary: bool) -> dict[str, Any]:
    """``{"dtype", "shape", "data"}``.

    Args:
        array: any shape, one of :data:`DTYPES`.
        binary: ``data`` as bytes (msgpack) instead of base64 text (JSON).
    """
    name = _NAMES.get(array.dtype)
    if name is None:
        raise TypeError(f"an array of {array.dtype} cannot be sent; convert it to one of {', '.join(DTYPES)}")
    data = np.ascontiguousarray(array, dtype=DTYPES[name]).tobytes()
    return {"dtype": name, "shape": list(array.shape), "data": data if binary else encode_text(data)}


def encode_image(picture: np.ndarray, encoding: str, *, quality: int = 90) -> EncodedImage:
    """A uint8 picture [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] as png or webp (lossless) or jpeg."""
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r}: expected one of {', '.join(ENCODINGS)}")
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise ValueError(
            f"a picture is uint8 [h, w] or [h, w, channels], got {picture.dtype} {picture.shape}"
        )
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(picture))
    buffer = io.BytesIO()
    if encoding == "png":
        image.save(buffer, "PNG", compress_level=3)
    elif encoding == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=20, method=0)
    else:
        image.convert("RGB" if image.mode == "RGBA" else image.mode).save(buffer, "JPEG", quality=quality)
    return EncodedImage(encoding, buffer.getvalue())


def encoded_image_to_wire(image: EncodedImage, *, binary: bool) -> dict[str, Any]:
    """``{"encoding", "data"}`` with bytes (msgpack) or base64 text (JSON)."""
    return {"encoding": image.encoding, "data": image.data if binary else encode_text(image.data)}


def decode_array(
    value: Any,
    *,
    path: str = "array",
    limits: Limits = DEFAULT_LIMITS,
    channels: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """The array that a decoded JSON or msgpack value holds; a read-only view where it can be one.

    Args:
        value: nested lists, a number, ``{"dtype", "shape", "data"}``, a picture (also as a data URI), or an array.
        path: where it stands in the request, for errors.
        limits: bounds on size and dimensions.
        channels: for pictures: 1, 3 or 4 channels wanted (default: as the picture has it).
        shape: for pictures: the shape wanted; one of another size is refused before its pixels are decoded,
            which takes far longer than reading the size.

    Raises:
        ProblemError: code ``invalid_request``.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("=").name not in DTYPES:
            raise invalid(path, f"expected one of {', '.join(DTYPES)}, got an array of {value.dtype}")
        return value
    if isinstance(value, EncodedImage):
        form = {"encoding": value.encoding, "data": value.data}
        return _decode_image(form, path, limits, channels, shape)
    if isinstance(value, str):
        return _decode_image(_image_of_uri(value, path), path, limits, channels, shape)
    if isinstance(value, Mapping):
        if value.keys() == _ARRAY_KEYS:
            return _decode_raw(value, path, limits)
        if value.keys() == _IMAGE_KEYS:
            return _decode_image(value, path, limits, channels, shape)
        keys = ", ".join(sorted(str(key)[:40] for key in value)[:8]) or "none"
        raise invalid(
            path,
            'expected an array (nested lists, {"dtype", "shape", "data"} or {"encoding", "data"}), '
            f"got an object with the keys {keys}",
        )
    return _decode_lists(value, path, limits)


def _decode_raw(value: Mapping[str, Any], path: str, limits: Limits) -> np.ndarray:
    name = value["dtype"]
    if not isinstance(name, str) or name not in DTYPES:
        raise invalid(f"{path}.dtype", f"expected one of {', '.join(DTYPES)}, got {show(name)}")
    dtype = DTYPES[name]
    shape = value["shape"]
    if isinstance(shape, (list, tuple)) and len(shape) > limits.array_dimensions:
        raise invalid(f"{path}.shape", f"at most {limits.array_dimensions} dimensions, got {len(shape)}")
    if not isinstance(shape, (list, tuple)) or not all(type(n) is int and n >= 0 for n in shape):
        raise invalid(f"{path}.shape", f"expected a list of sizes, got {show(shape)}")
    size = math.prod(shape) * dtype.itemsize
    if size > limits.array_bytes:
        raise invalid(f"{path}.shape", f"an array has at most {limits.array_bytes} bytes, this one {size}")
    data = read_data(value["data"], f"{path}.data")
    if len(data) != size:
        raise invalid(
            f"{path}.data",
            f"{name} of shape {tuple(shape)} takes {size} bytes, got {len(data)}{hint_of_text(data)}",
        )
    if name == "bool" and data and max(data) > 1:
        raise invalid(f"{path}.data", "a bool is a byte 0 or 1")
    return np.frombuffer(data, dtype).reshape(shape)


def _image_of_uri(text: str, path: str) -> dict[str, Any]:
    """The picture form of a data URI, which says itself how it is encoded."""
    if not is_data_uri(text):
        raise invalid(
            path,
            f'expected an array, got {show(text)}; a picture is an object {{"encoding", "data"}} or a data URI',
        )
    kind = media_type_of(text)
    if kind not in URI_TYPES:
        known = ", ".join(URI_TYPES)
        raise invalid(path, f"expected a data URI of {known}, got one of {show(kind)}")
    return {"encoding": URI_TYPES[kind], "data": text}


def _jpg(encoding: Any) -> str:
    """``jpg`` and ``PNG`` are what people write too."""
    known = {"jpg": "jpeg", **{name: name for name in ENCODINGS}}
    right = known.get(encoding.lower()) if isinstance(encoding, str) else None
    return f"; did you mean {right!r}?" if right else ""


def _decode_image(
    value: Mapping[str, Any],
    path: str,
    limits: Limits,
    channels: int | None,
    shape: tuple[int, ...] | None,
) -> np.ndarray:
    encoding = value["encoding"]
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise invalid(
            f"{path}.encoding",
            f"expected one of {', '.join(ENCODINGS)}, got {show(encoding)}{_jpg(encoding)}",
        )
    data = read_data(value["data"], f"{path}.data", encoding=encoding)
    try:
        image = Image.open(io.BytesIO(data), formats=[encoding.upper()])
        width, height = image.size
        if width * height > limits.image_pixels or width * height * 4 > limits.array_bytes * 4:
            raise invalid(path, f"a picture has at most {limits.image_pixels} pixels, got {width}x{height}")
        if shape is not None and (len(shape) not in (2, 3) or (height, width) != shape[:2]):
            raise invalid(path, f"expected shape {shape}, got a picture of {height} rows and {width} columns")
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
            raise invalid(path, f"expected 8 bits a channel, got a picture of mode {image.mode}")
        wanted = _MODES.get(channels or 0)
        if wanted is None:
            wanted = image.mode if image.mode in ("L", "RGBA") else ("L" if image.mode == "1" else "RGB")
        return np.asarray(image.convert(wanted), dtype=np.uint8)
    except ProblemError:
        raise
    except Image.DecompressionBombError as error:
        raise invalid(
            path, f"a picture has at most {limits.image_pixels} pixels, this one far more"
        ) from error
    except UnidentifiedImageError as error:
        size = len(data)
        reason = "it is empty" if not data else f"its {size} bytes begin otherwise{hint_of_text(data)}"
        if data and data[:8].startswith(_SIGNATURES[encoding][:size]):
            reason = f"damaged, or cut short after {size} bytes"
        raise invalid(f"{path}.data", f"not a readable {encoding} picture: {reason}") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data, struct.error among them
        raise invalid(f"{path}.data", f"not a readable {encoding} picture: damaged, or cut short") from error


def _decode_lists(value: Any, path: str, limits: Limits) -> np.ndarray:
    if type(value) in _NUMBERS:
        return np.asarray(_checked_number(value, path))
    if not isinstance(value, (list, tuple)):
        raise invalid(path, f"expected an array, got {show(value)}")
    truths = _check_leaves(value, path, limits.array_dimensions, limits)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise invalid(path, "nested lists must be rectangular, with numbers only") from error
    if array.dtype.kind not in "biuf":
        raise invalid(path, "expected numbers of at most 64 bits")
    if truths and array.dtype.kind != "b":
        raise invalid(path, "nested lists hold numbers, or true and false, but not both; send 1 and 0")
    return array


def _check_leaves(value: Any, path: str, depth: int, limits: Limits) -> bool:
    """Only numbers at the leaves: numpy would otherwise pad text or make object arrays.

    Returns:
        Whether there are truth values among them, which numpy would turn into numbers among others.
    """
    if depth == 0:
        raise invalid(path, f"at most {limits.array_dimensions} dimensions")
    if len(value) * 8 > limits.array_bytes:
        raise invalid(path, f"an array has at most {limits.array_bytes} bytes; a list is too long")
    kinds = set(map(type, value))
    if kinds <= _PLAIN:
        return False
    if kinds <= _NUMBERS:
        return True
    if kinds <= _LISTS:
        truths = False
        for item in value:
            if _check_leaves(item, path, depth - 1, limits):
                truths = True
        return truths
    odd = next(item for item in value if type(item) not in _NUMBERS)
    raise invalid(path, f"nested lists must be rectangular, with numbers only, got {show(odd)} in one")


def _checked_number(value: Any, path: str) -> Any:
    if type(value) is int and not -(2**63) <= value < 2**64:
        raise invalid(path, "expected a number of at most 64 bits")
    return value
