"""Bounds on what a message may hold; one frozen record that the server makes from its settings."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Upper bounds on one request. A request beyond one of them is refused before any work is done on it."""

    body_bytes: int = 8 * MEBIBYTE
    """the largest request body, as it arrives"""
    belief_bytes: int = 32 * MEBIBYTE
    """the largest belief that may be restored"""
    array_bytes: int = 8 * MEBIBYTE
    """the largest single array, decoded"""
    array_dimensions: int = 8
    """the most dimensions an array may have"""
    image_pixels: int = 4096 * 4096
    """the largest picture (width times height), validated before it is decoded"""
    nesting: int = 32
    """how deep lists and objects may be nested in a body"""
    string_bytes: int = 8 * MEBIBYTE
    """the longest string or binary value (base64 data are strings)"""
    object_keys: int = 1024
    """the most keys of one object in a body"""
    key_characters: int = 256
    """the longest key"""
    containers: int = 300_000
    """the most lists, objects and keys of a body together: a picture of 512 x 512 in nested lists has that many"""
    values: int = MEBIBYTE
    """the most numbers and other entries of a body together; an array with its bytes in ``data`` is one"""
    horizon: int = 1000
    """the most steps that may be imagined or planned ahead"""
    rollouts: int = 256
    """the most rollouts of one imagination"""
    imagined_steps: int = 20_000
    """rollouts times horizon of one imagination"""
    dreams: int = 4096
    """the most environments of one dream"""
    samples: int = 100_000
    """the most candidates a search may draw an iteration"""
    iterations: int = 1_000
    """the most iterations of a search"""
    simulations: int = 100_000
    """the most simulations of a tree search"""
    ponder_ms: float = 10_000.0
    """the longest time a session may ask to have its next step planned ahead, between two acts"""
    ttl_s: float = 7 * 24 * 3600.0
    """the longest time a session may ask to live without being used, in seconds"""


DEFAULT_LIMITS = Limits()
