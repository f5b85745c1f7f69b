"""Frozen layers: trained weights as fast, deterministic functions of class indices.

A one-hot input to a dense layer is a sum of rows of its weights, so z enters as indices and the first layer of whatever
reads it is a gather-sum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thick.models.layers import MLP, Dense

TILE = 4
"""sessions of a product over sessions alone: takes little longer than one, on the CPUs tried"""


def best_precision(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it faster than fp32, else fp32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def by_session(
    function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor
) -> tuple[Tensor, ...]:
    """Call a function of a batch so that a session's numbers do not depend on the other sessions, to the last bit.

    The last bits of a matrix product depend on its shape (and those of some functions on the place in a vector),
    a last bit can flip a sampled class, and a class a plan. So the CPU sees shapes that do not depend on the number
    of sessions: one session at a time where each has many rows, else a fixed number of sessions, filled up with
    zeros. On a GPU the batch stays whole, and equality is up to rounding.

    Args:
        function: of tensors with the same leading dimensions; gives a tuple of such.
        first, others: ``[B, X]`` or ``[B, N, ..., X]``.
    """
    inputs = (first, *others)
    batch = first.shape[0]
    if first.device.type != "cpu":
        return function(*inputs)
    if first.dim() > 2:
        if batch == 1:
            return function(*inputs)
        parts = [function(*(x[row : row + 1] for x in inputs)) for row in range(batch)]
    else:
        fill = -batch % TILE
        padded = [F.pad(x, (0, 0) * (x.dim() - 1) + (0, fill)) if fill else x for x in inputs]
        parts = [function(*tile) for tile in zip(*(x.split(TILE) for x in padded), strict=True)]
        if len(parts) == 1:
            return tuple(x[:batch] for x in parts[0])
    return tuple(torch.cat(columns)[:batch] for columns in zip(*parts, strict=True))


def elu(x: Tensor) -> Tensor:
    """ELU in place."""
    return F.elu(x, inplace=True)


class Affine:
    """A frozen dense layer.

    Args:
        weight: ``[O, I]``.
        bias: ``[O]``.
        dtype: of weights, inputs and outputs.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight.detach().to(dtype).clone(memory_format=torch.contiguous_format)
        self.bias = bias.detach().to(dtype).clone()

    def __call__(self, x: Tensor) -> Tensor:
        """``[*B, I]`` -> ``[*B, O]``."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


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


class Heads:
    """MLPs that read the same feature ``[z, rest]``, their first layers made in one go.

    Args:
        mlps: each has at least one hidden layer and a linear output.
        stoch, classes: S and K.
        dtype: of the layers.
    """

    def __init__(self, mlps: list[MLP], *, stoch: int, classes: int, dtype: torch.dtype) -> None:
        first = [dense(mlp, "dense0") for mlp in mlps]
        self.first = Gather(
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            stoch=stoch,
            classes=classes,
            dtype=dtype,
        )
        self.sizes = [layer.out_features for layer in first]
        self.chains = [Chain(mlp, dtype, skip=1) for mlp in mlps]

    def __call__(self, stoch: Tensor, rest: Tensor) -> tuple[Tensor, ...]:
        """Outputs ``[*B, O]`` fp32, in the order of the MLPs."""
        hidden = elu(self.first(stoch, rest)).split(self.sizes, -1)
        return tuple(chain(x) for chain, x in zip(self.chains, hidden, strict=True))


def draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """Classes of categoricals ``[*B, S, K]`` -> ``[*B, S]`` int64.

    One uniform a categorical and the inverse of its distribution function; None takes the modes.
    """
    if uniforms is None:
        return logits.argmax(-1)
    # Unnormalised: the threshold is scaled by the last sum instead, several times faster than a softmax over few
    # classes. The clamp keeps every sum finite and positive; probabilities below e^-60 are nothing anyway.
    below = logits.float().clamp(-60, 60).exp_().cumsum_(-1)
    threshold = uniforms.unsqueeze(-1) * below[..., -1:]
    return torch.searchsorted(below, threshold, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
