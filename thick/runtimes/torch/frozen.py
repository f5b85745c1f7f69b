"""Frozen layers: trained weights as fast, deterministic functions of class indices.

A one-hot input to a dense layer is a sum of rows of its weights, so z enters as indices and the first layer of whatever
reads it is a gather-sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.config import NORM_EPS
from thick.models.dynamics.gatel0rd import GateL0RD, count_changes, frozen_gate
from thick.models.layers import MLP, Dense, RMSNorm, ScalarHead
from thick.models.twohot import twohot_mean

PIECE = 4
"""sessions that share a matrix product where each has few rows: takes little longer than one, on the CPUs tried"""
GROUPS = 8
"""groups in one call at most: numbers of groups up to it are tried (:func:`product_form`)"""
ALIGNMENT = 64
"""bytes; where torch's own tensors begin"""
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
    function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor, by_row: bool = False
) -> tuple[Tensor, ...]:
    """Call a function of a batch so that a session's numbers do not depend on the other sessions, to the last bit.

    The last bits of a matrix product depend on its shape (and those of some functions on the place in a vector),
    a last bit can flip a sampled class, and a class a plan. So the CPU sees shapes that do not depend on the number
    of sessions. Where a session has one row, the batch is filled up with zeros and laid out in groups of ``PIECE``
    rows, at most ``GROUPS`` at a time, which :class:`Affine` multiplies as this machine allows
    (:func:`product_form`); else one session goes at a time. Every part begins at an aligned address, since kernels
    may read up to one in another order. On a GPU the batch stays whole, and equality is up to rounding.

    Args:
        function: of tensors with the same leading dimensions; gives a tuple of such.
        first, others: ``[B, X]`` or ``[B, N, ..., X]``.
        by_row: let sessions share calls also where each has several rows; pays where these are few and the layers
            small.
    """
    inputs = (first, *others)
    batch, between = first.shape[0], first.shape[1:-1]
    if first.device.type != "cpu":
        return function(*inputs)
    if by_row or between.numel() == 1:
        rows = [x.flatten(0, -2) for x in inputs]
        many = rows[0].shape[0]
        # Up to a power of two: few shapes, so that each is met before long.
        count = min(1 << (-(-many // PIECE) - 1).bit_length(), GROUPS)
        done = [
            function(*(part.unflatten(0, (-1, PIECE)) for part in parts))
            for parts in _parts(rows, count * PIECE)
        ]
        whole = (_joined([y.flatten(0, 1) for y in column]) for column in zip(*done, strict=True))
        return tuple(y[:many].unflatten(0, (batch, *between)) for y in whole)
    done = [function(*parts) for parts in _parts(inputs, 1)]
    return tuple(_joined(column) for column in zip(*done, strict=True))


def _parts(inputs: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Parts of ``size`` rows, the last filled up with zeros, each at an aligned address."""
    fill = -inputs[0].shape[0] % size
    filled = [torch.cat([x, x.new_zeros(fill, *x.shape[1:])]) if fill else x for x in inputs]
    for parts in zip(*(x.split(size) for x in filled), strict=True):
        yield tuple(_aligned(part) for part in parts)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _aligned(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format) if x.data_ptr() % ALIGNMENT else x


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
        # As numbers: within a trace a tensor's shape is made of tensors, which no cache finds again.
        self._shape = (int(self.weight.shape[0]), int(self.weight.shape[1]))
        self._turned = (
            self.weight.t().contiguous().unsqueeze(0)
        )  # [1, I, O], as groups are multiplied fastest

    def __call__(self, x: Tensor) -> Tensor:
        """``[*B, I]`` -> ``[*B, O]``; ``[G, PIECE, I]`` on a CPU gives every row the same bits as by itself."""
        x = x.to(self.weight.dtype)
        if x.dim() == 3 and x.shape[1] == PIECE and x.device.type == "cpu":
            y = self._groups(x)
        else:
            y = F.linear(x, self.weight, self.bias)
        return y if y.shape[-1] == self.outputs else y[..., : self.outputs]

    def _groups(self, x: Tensor) -> Tensor:
        form = product_form(*self._shape, x.dtype, torch.get_num_threads())
        return product(x, self._turned, self.bias, form)


Form = Literal["together", "apart", "rows"]


def product(x: Tensor, weight: Tensor, bias: Tensor, form: Form) -> Tensor:
    """``[G, PIECE, I]`` times ``[1, I, O]`` plus ``[O]``, in one of three forms.

    Args:
        form: ``together`` in one call; ``apart`` in one for each group; ``rows`` in one for each row.
    """
    if form == "rows":
        rows = [_product(row.clone(), weight, bias) for row in x.reshape(-1, 1, x.shape[-1]).split(1)]
        return torch.cat(rows).view(*x.shape[:2], -1)
    if form == "apart" and x.shape[0] > 1:
        return torch.cat([_product(group.clone(), weight, bias) for group in x.split(1)])
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias, x, weight.expand(x.shape[0], -1, -1))


@functools.lru_cache(maxsize=1024)
def product_form(outputs: int, inputs: int, dtype: torch.dtype, threads: int) -> Form:
    """The fastest form of :func:`product` in which a row's bits do not depend on the other rows, on this machine.

    No library promises it, and processors differ: on some a row's bits depend on its place within a group, on some
    on how many groups there are. The order in which a product is added up depends on shapes and addresses, not on
    values: so it is tried with random ones, at every place of 1 to ``GROUPS`` groups, against the row at the first
    place of a group of its own. ``rows`` needs no trial: each row is the same call.

    Args:
        outputs, inputs: O and I of the layer.
        dtype: of the product.
        threads: of torch, here and now.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, inputs, outputs, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype)
    x = torch.randn(GROUPS, PIECE, inputs, generator=generator).to(dtype)
    lonely = x.new_zeros(GROUPS * PIECE, PIECE, inputs)
    lonely[:, 0] = x.flatten(0, 1)
    alone = product(lonely, weight, bias, "apart")[:, 0].view(GROUPS, PIECE, outputs)
    if not torch.equal(product(x, weight, bias, "apart"), alone):
        return "rows"
    for groups in (1 << power for power in range(GROUPS.bit_length())):
        if not torch.equal(product(x[:groups], weight, bias, "together"), alone[:groups]):
            return "apart"
    return "together"


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


def gates_and_candidates(cell: GateL0RD, dtype: torch.dtype) -> Affine:
    """Both layers of a GateL0RD cell as one, the gates' outputs ``[*B, C]`` before the candidates'."""
    gate = frozen_gate(cell.gate.weight, cell.gate.bias, cell.candidate.out_features)
    candidate = cell.candidate.weight, cell.candidate.bias
    weight, bias = (torch.cat(parts) for parts in zip(gate, candidate, strict=True))
    return Affine(weight, bias, dtype)


class NormSiLU:
    """RMSNorm and SiLU of a hidden layer (:class:`thick.models.layers.RMSNorm`).

    A root and a quotient, which are rounded alike wherever in a tensor a number is; ``rsqrt`` is not.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach().clone()

    def __call__(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y / torch.sqrt(y.square().mean(-1, keepdim=True) + NORM_EPS) * self.weight
        return (y * sigmoid(y)).to(x.dtype)


def activation(mlp: MLP, index: int) -> NormSiLU | Callable[[Tensor], Tensor]:
    """What follows a hidden layer of an MLP."""
    if mlp.norm == "none":
        return elu
    norm = mlp.get_submodule(f"norm{index}")
    assert isinstance(norm, RMSNorm)
    return NormSiLU(norm.weight)


class Chain:
    """The hidden layers of an MLP, and its linear output in fp32 where it has one.

    Args:
        mlp: the layers.
        dtype: of the hidden ones.
        skip: how many of the first are left out.
    """

    def __init__(self, mlp: MLP, dtype: torch.dtype, *, skip: int = 0) -> None:
        kept = range(skip, mlp.layers)
        self.layers = [affine(dense(mlp, f"dense{index}"), dtype) for index in kept]
        self.activations = [activation(mlp, index) for index in kept]
        # Scalars such as rewards keep their digits: what leaves the network is computed in fp32.
        self.out = None if mlp.out is None else affine(mlp.out, torch.float32)
        self.twohot = isinstance(mlp, ScalarHead) and mlp.twohot

    def __call__(self, x: Tensor) -> Tensor:
        for layer, activate in zip(self.layers, self.activations, strict=True):
            x = activate(layer(x))
        x = x if self.out is None else self.out(x)
        return twohot_mean(x) if self.twohot else x


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
        self.activate, self.chain = activation(mlp, 0), Chain(mlp, dtype, skip=1)

    def __call__(self, stoch: Tensor, rest: Tensor) -> tuple[Tensor]:
        """Output ``[*B, O]`` fp32."""
        return (self.chain(self.activate(self.first(stoch, rest))),)


def draw(logits: Tensor, uniforms: Tensor | None, unimix: float = 0.0) -> Tensor:
    """Classes of categoricals ``[*B, S, K]`` -> ``[*B, S]`` int64.

    One uniform a categorical and the inverse of its distribution function; None takes the modes.

    Args:
        unimix: share of the uniform distribution that is mixed in; logits are those before.
    """
    if uniforms is None:
        return logits.argmax(-1)
    # Unnormalised: the threshold is scaled by the last sum instead, several times faster than a softmax over few
    # classes. The clamp keeps every sum finite and positive; probabilities below e^-60 are nothing anyway.
    below = logits.clamp(-60, 60).float().exp_().cumsum_(-1)
    if unimix:  # in sums and products alone, which are the same bits at every place
        even = torch.arange(1, below.shape[-1] + 1, dtype=below.dtype, device=below.device) / below.shape[-1]
        below = (1 - unimix) * below + below[..., -1:] * (unimix * even)
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
