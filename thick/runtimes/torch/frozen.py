"""Frozen layers: trained weights as fast, deterministic functions of class indices.

A one-hot input to a dense layer is a sum of rows of its weights, so z enters as indices and the first layer of whatever
reads it is a gather-sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.dynamics.gatel0rd import count_changes
from thick.models.layers import MLP, Dense

PIECE = 4
"""sessions that share a matrix product where each has few rows: takes little longer than one, on the CPUs tried"""
NARROWEST = 8
"""columns of a matrix product at least"""


def best_precision(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it faster than fp32, else fp32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def by_session(
    function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor, piece: int | None = None
) -> tuple[Tensor, ...]:
    """Call a function of a batch so that a session's numbers do not depend on the other sessions, to the last bit.

    The last bits of a matrix product depend on its shape (and those of some functions on the place in a vector),
    a last bit can flip a sampled class, and a class a plan. So the CPU sees shapes that do not depend on the number
    of sessions. Where a session has one row, the batch is filled up with zeros and laid out in groups of ``PIECE``
    rows, of which :class:`Affine` multiplies each by itself; else a fixed number of sessions goes at a time. On a GPU
    the batch stays whole, and equality is up to rounding.

    Args:
        function: of tensors with the same leading dimensions; gives a tuple of such.
        first, others: ``[B, X]`` or ``[B, N, ..., X]``.
        piece: sessions at a time; None takes one where each has many rows, else ``PIECE``.
    """
    inputs = (first, *others)
    batch, between = first.shape[0], first.shape[1:-1]
    if first.device.type != "cpu":
        return function(*inputs)
    if piece is None:
        piece = PIECE if between.numel() == 1 else 1
    if between.numel() == 1 and piece == PIECE:
        # Up to a power of two: few shapes, so that each is met before long.
        fill = (PIECE << (-(-batch // PIECE) - 1).bit_length()) - batch
        groups = [_filled(x.reshape(batch, x.shape[-1]), fill).unflatten(0, (-1, PIECE)) for x in inputs]
        return tuple(y.flatten(0, 1)[:batch].unflatten(0, (batch, *between)) for y in function(*groups))
    if batch == piece:
        return function(*inputs)
    fill = -batch % piece
    parts = [function(*rows) for rows in zip(*(_filled(x, fill).split(piece) for x in inputs), strict=True)]
    return tuple(torch.cat(columns)[:batch] for columns in zip(*parts, strict=True))


def _filled(x: Tensor, more: int) -> Tensor:
    return torch.cat([x, x.new_zeros(more, *x.shape[1:])]) if more else x


def elu(x: Tensor) -> Tensor:
    """ELU in place, the same to the last bit wherever in a tensor a number is.

    ``F.elu`` is not: the numbers at the end of a tensor that fill no vector go through another exponential.
    """
    negative = x.clamp(max=0).exp_().sub_(1)
    return x.clamp_(min=0).add_(negative)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function, the same to the last bit wherever in a tensor a number is (``torch.sigmoid`` is not)."""
    return torch.tanh(x * 0.5).mul_(0.5).add_(0.5)


class Affine:
    """A frozen dense layer.

    Args:
        weight: ``[O, I]``.
        bias: ``[O]``.
        dtype: of weights, inputs and outputs.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.outputs = weight.shape[0]
        # Products with two or three columns round by the place of a row among the others.
        more = max(0, NARROWEST - self.outputs)
        self.weight = (
            F.pad(weight.detach(), (0, 0, 0, more)).to(dtype).clone(memory_format=torch.contiguous_format)
        )
        self.bias = F.pad(bias.detach(), (0, more)).to(dtype).clone()
        self._turned = (
            self.weight.t().contiguous().unsqueeze(0)
        )  # [1, I, O], as groups are multiplied fastest

    def __call__(self, x: Tensor) -> Tensor:
        """``[*B, I]`` -> ``[*B, O]``; ``[G, PIECE, I]`` on a CPU gives every group the same bits as by itself."""
        x = x.to(self.weight.dtype)
        if x.dim() == 3 and x.shape[1] == PIECE and x.device.type == "cpu":
            y = self._groups(x)
        else:
            y = F.linear(x, self.weight, self.bias)
        return y if y.shape[-1] == self.outputs else y[..., : self.outputs]

    def _groups(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1 or groups_alike(*self.weight.shape, x.dtype, torch.get_num_threads()):
            return torch.baddbmm(self.bias, x, self._turned.expand(x.shape[0], -1, -1))
        return torch.cat([torch.baddbmm(self.bias, group, self._turned) for group in x.split(1)])


@functools.lru_cache(maxsize=1024)
def groups_alike(outputs: int, inputs: int, dtype: torch.dtype, threads: int) -> bool:
    """Whether products of several groups of ``PIECE`` rows at once have the same bits as one after the other.

    They have with the libraries tried, but nothing promises it. The order in which a product is added up depends on
    shapes, not on values: so it is tried with random ones.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, inputs, outputs, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype)
    for groups in (2, 3, 8, 32):
        x = torch.randn(groups, PIECE, inputs, generator=generator).to(dtype)
        single = torch.cat([torch.baddbmm(bias, group, weight) for group in x.split(1)])
        if not torch.equal(torch.baddbmm(bias, x, weight.expand(groups, -1, -1)), single):
            return False
    return True


class Gather:
    """A frozen dense layer whose first inputs are z: ``[z, rest] -> [*B, O]``.

    Args:
        weight: ``[O, S·K + R]``.
        bias: ``[O]``.
        stoch, classes: S and K.
        dtype: of the weights and outputs.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, stoch: int, classes: int, dtype: torch.dtype) -> None:
        flat = stoch * classes
        self.table = weight.detach()[:, :flat].t().to(dtype).contiguous()  # [S·K, O]
        self.rest = Affine(weight[:, flat:], bias, dtype)
        self.offsets = torch.arange(stoch, device=weight.device) * classes

    def __call__(self, stoch: Tensor, rest: Tensor, keep: Tensor | None = None) -> Tensor:
        """Sum of the rows of z's classes, plus the product with the rest.

        Args:
            stoch: ``[*B, S]`` class indices.
            rest: ``[*B, R]``.
            keep: ``[*B, 1]`` 0 where z is the zero vector, not a class.
        """
        index = (stoch + self.offsets).flatten(0, -2)
        summed = F.embedding_bag(index, self.table, mode="sum").unflatten(0, stoch.shape[:-1])
        if keep is not None:
            summed = summed * keep.to(summed.dtype)
        return self.rest(rest) + summed


def dense(module: nn.Module, name: str) -> Dense:
    """A layer of a module by its name."""
    layer = module.get_submodule(name)
    assert isinstance(layer, Dense)
    return layer


def affine(layer: Dense, dtype: torch.dtype) -> Affine:
    """A trained dense layer, frozen."""
    return Affine(layer.weight, layer.bias, dtype)


def stacked(layers: list[Dense], dtype: torch.dtype) -> Affine:
    """Several dense layers on the same input as one, outputs one after the other."""
    return Affine(
        torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]), dtype
    )


class Chain:
    """The layers of an MLP, each followed by ELU, and its linear output in fp32 where it has one."""

    def __init__(self, mlp: MLP, dtype: torch.dtype, *, skip: int = 0) -> None:
        self.layers = [affine(dense(mlp, f"dense{index}"), dtype) for index in range(skip, mlp.layers)]
        # Scalars such as rewards keep their digits: what leaves the network is computed in fp32.
        self.out = None if mlp.out is None else affine(mlp.out, torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = elu(layer(x))
        return x if self.out is None else self.out(x)


class Head:
    """An MLP that reads a feature ``[z, rest]``.

    Args:
        mlp: has at least one hidden layer and a linear output.
        stoch, classes: S and K.
        dtype: of the hidden layers.
    """

    def __init__(self, mlp: MLP, *, stoch: int, classes: int, dtype: torch.dtype) -> None:
        first = dense(mlp, "dense0")
        self.first = Gather(first.weight, first.bias, stoch=stoch, classes=classes, dtype=dtype)
        self.chain = Chain(mlp, dtype, skip=1)

    def __call__(self, stoch: Tensor, rest: Tensor) -> tuple[Tensor]:
        """Output ``[*B, O]`` fp32."""
        return (self.chain(elu(self.first(stoch, rest))),)


def draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """Classes of categoricals ``[*B, S, K]`` -> ``[*B, S]`` int64.

    One uniform a categorical and the inverse of its distribution function; None takes the modes.
    """
    if uniforms is None:
        return logits.argmax(-1)
    # Unnormalised: the threshold is scaled by the last sum instead, several times faster than a softmax over few
    # classes. The clamp keeps every sum finite and positive; probabilities below e^-60 are nothing anyway.
    below = logits.clamp(-60, 60).float().exp_().cumsum_(-1)
    threshold = uniforms.unsqueeze(-1) * below[..., -1:]
    return torch.searchsorted(below, threshold, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def gatel0rd(layer: Affine, x: Tensor, context: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """One step of the GateL0RD cell without noise: context and the gates that changed it, ``[*B, C]``."""
    gate, candidate = layer(torch.cat([x, context.to(x.dtype)], -1)).chunk(2, -1)
    gate = torch.relu(torch.tanh(gate))
    updated = gate * torch.tanh(candidate) + (1 - gate) * context
    return updated, count_changes((gate > 0).to(gate.dtype), context, updated, threshold)


def goes_on(logits: Tensor, gamma: float) -> Tensor:
    """The probability that an episode goes on, from the logits ``[*B, 1]`` of γ · (1 - is_terminal)."""
    return (sigmoid(logits.squeeze(-1)) / gamma).clamp(max=1.0)


def one_hots(stoch: Tensor, classes: int, like: Tensor) -> Tensor:
    """Classes ``[*B, S]`` as flat one-hots ``[*B, S·K]``; zero where the class is -1."""
    seen = (stoch >= 0).unsqueeze(-1).to(like.dtype)
    return (F.one_hot(stoch.clamp_min(0), classes).to(like.dtype) * seen).flatten(-2)


def present(*modules: MLP | None) -> list[MLP]:
    """Those that there are."""
    return [module for module in modules if module is not None]
