"""Counter-based random numbers on a GPU, one Triton kernel each; see :mod:`thick.planning.randomness`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

GOLDEN = tl.constexpr(-0x61C8864680B583EB)
FIRST = tl.constexpr(-0x40A7B892E31B1A47)
SECOND = tl.constexpr(-0x6B2FB644ECCEEE15)


@triton.jit
def mix(x):
    """SplitMix64's finaliser (:mod:`thick.planning.randomness`)."""
    x = x ^ ((x >> 30) & 0x3FFFFFFFF)
    x = x * FIRST
    x = x ^ ((x >> 27) & 0x1FFFFFFFFF)
    x = x * SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@triton.jit
def _fold(keys, out, B, offset, tag, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < B * COUNT
    before = tl.load(keys + at % B, mask=inside, other=0)
    tl.store(out + at, mix(before * FIRST + (offset + (at // B) * tag)), mask=inside)


def fold(keys: Tensor, offset: int, tag: int, count: int) -> Tensor:
    """Keys ``[count, B]`` for ``count`` purposes: ``mix(key · first + offset + n · tag)`` for n = 0, 1, …"""
    batch = keys.shape[0]
    out = keys.new_empty(count, batch)
    _fold[(triton.cdiv(batch * count, 128),)](keys, out, batch, offset, tag, count, 128)
    return out


@triton.jit
def _bits(keys, out, count, first, BLOCK: tl.constexpr):
    session = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bits = mix(tl.load(keys + session) + (first + 1 + at) * GOLDEN)
    tl.store(out + session * count + at, ((bits >> 40) & 0xFFFFFF).to(tl.float32), mask=at < count)


def bits(keys: Tensor, first: int, count: int) -> Tensor:
    """Whole numbers of 24 random bits ``[B, count]`` fp32, from the counter ``first`` on."""
    out = keys.new_empty(keys.shape[0], count, dtype=torch.float32)
    _bits[(triton.cdiv(count, 1024), keys.shape[0])](keys, out, count, first, 1024)
    return out
