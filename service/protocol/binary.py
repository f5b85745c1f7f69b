"""Binary values in a request: bytes as they are, or base64 text in any of the forms that people's programs write.

Text may be a data URI (``data:image/png;base64,...``), broken into lines or indented, without its padding, and in the
URL-safe alphabet (``-`` and ``_``). What is then still wrong is refused with a word on what it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote

from service.protocol.errors import invalid, show

URI_TYPES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/webp": "webp"}
"""media types of the data URIs that a picture may come as, and their encodings"""

_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_STRANGE = re.compile(r"[^A-Za-z0-9+/=]")
_TEXT = re.compile(rb"(data:[\w.+/-]*[;,]|[A-Za-z0-9+/_-]{16})")
_URL_SAFE = str.maketrans("-_", "+/")


def read_data(value: Any, path: str, *, encoding: str | None = None) -> bytes:
    """The bytes of a ``data`` member.

    Args:
        value: bytes, or base64 text.
        encoding: the picture encoding that the request names for it; a data URI must say the same.

    Raises:
        ProblemError: code ``invalid_request``.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise invalid(path, f"expected base64 text (JSON) or binary (msgpack), got {show(value)}")
    if is_data_uri(value):
        value = _content(value.lstrip(), path, encoding)
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # a character beyond ASCII, or binascii.Error: not in the form of RFC 4648 section 4
        return _decode_leniently(value, path)


def encode_text(data: bytes) -> str:
    """Bytes as base64 text (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def is_data_uri(text: str) -> bool:
    """Whether a text is a data URI (RFC 2397)."""
    return text[:200].lstrip()[:5].lower() == "data:"


def media_type_of(uri: str) -> str:
    """The media type that a data URI names, lower case."""
    head = uri.lstrip()[5:200].partition(",")[0]
    return head.partition(";")[0].strip().lower() or "text/plain"


def hint_of_text(data: bytes) -> str:
    """A hint about bytes that are no array and no picture, where they look like base64 text."""
    if _TEXT.match(data) is None:
        return ""
    return "; they look like base64 text: send the bytes that it stands for, or the text as text"


def _content(uri: str, path: str, encoding: str | None) -> str:
    """The base64 text in a data URI."""
    head, comma, text = uri[5:].partition(",")
    kind = media_type_of(uri)
    if not comma or "base64" not in [part.strip().lower() for part in head[:200].split(";")[1:]]:
        raise invalid(path, f"expected a data URI with ;base64, in it, got {show(uri)}")
    named = URI_TYPES.get(kind)
    if encoding is None and kind.startswith("image/"):
        raise invalid(path, f'is a data URI of a picture ({kind[:40]}); send it as {{"encoding", "data"}}')
    if encoding is not None and kind.startswith("image/") and named != encoding:
        raise invalid(path, f"the data URI is of {kind[:40]}, `encoding` says {encoding}")
    return unquote(text) if "%" in text else text


def _decode_leniently(text: str, path: str) -> bytes:
    compact = _SPACE.sub("", text)
    if "-" in compact or "_" in compact:
        if "+" in compact or "/" in compact:
            raise invalid(
                path, "not base64: it mixes the standard alphabet (+ and /) with the URL-safe one (- and _)"
            )
        compact = compact.translate(_URL_SAFE)
    strange = _STRANGE.search(compact)
    if strange is not None:
        raise invalid(path, f"not base64: it has {show(strange.group())} at {text.index(strange.group())}")
    body = compact.rstrip("=")
    padding, needed = len(compact) - len(body), -len(body) % 4
    if "=" in body:
        raise invalid(path, f"not base64: it has '=' at {text.index('=')}, before its end")
    if needed == 3:
        raise invalid(
            path, f"not base64: {len(body)} characters hold no whole number of bytes; it may be cut short"
        )
    if padding > needed:
        raise invalid(path, f"not base64: it ends in {padding} '=', where {needed} belong")
    try:
        return base64.b64decode(body + "=" * needed, validate=True)
    except binascii.Error as error:
        raise invalid(path, f"not base64: {error}") from error
