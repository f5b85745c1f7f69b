"""Frozen layers: trained weights as fast, deterministic functions of class indices.

A one-hot input to a dense layer is a sum of rows of its weights, so z enters as indices and the first layer of whatever
reads it is a gather-sum. Matrix products on the CPU are made in shapes that do not depend on the number of sessions:
the last bits of a product depend on its shape, a last bit can flip a sampled class, and a session's plan must not
depend on who else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.layers import MLP, Dense

_TILE = {torch.float32: 4, torch.bfloat16: 16}
"""rows of a product over sessions alone, by type: about as quick as a single row, on the CPUs tried"""


def best_precision(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it faster than fp32, else fp32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b`` for ``x`` ``[B, I]`` or ``[B, ..., I]``; each session's rows in a product of their own shape."""
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if x.dim() > 2:
        if x.shape[0] == 1:
            return F.linear(x[0], weight, bias).unsqueeze(0)
        out = x.new_empty((*x.shape[:-1], weight.shape[0]))
        for session, result in zip(x, out, strict=True):
            result.copy_(F.linear(session, weight, bias))
        return out
    tile = _TILE.get(x.dtype, 4)
    padded = F.pad(x, (0, 0, 0, -x.shape[0] % tile))
    parts = [F.linear(rows, weight, bias) for rows in padded.split(tile)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[: x.shape[0]]


def elu(x: Tensor) -> Tensor:
    """ELU, in place where that is exact."""
    if x.dtype == torch.float32 and x.device.type == "cpu":
        # The vectorised and the scalar loop of F.elu differ in the last bit, and which one an element meets depends on
        # the size of the batch.
        return torch.maximum(x, x.clamp(max=0).expm1_())
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
        return product(x.to(self.weight.dtype), self.weight, self.bias)


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
            keep: ``[*B]`` 0 where z is the zero vector, not a class.
        """
        index = (stoch + self.offsets).flatten(0, -2)
        summed = F.embedding_bag(index, self.table, mode="sum").unflatten(0, stoch.shape[:-1])
        if keep is not None:
            summed = summed * keep.unsqueeze(-1).to(summed.dtype)
        return self.rest(rest) + summed


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
        self.layers = [affine(mlp.get_submodule(f"dense{index}"), dtype) for index in range(skip, mlp.layers)]
        # Scalars such as rewards keep their digits: what leaves the network is computed in fp32.
        self.out = None if mlp.out is None else affine(mlp.out, torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = elu(layer(x))
        return x if self.out is None else self.out(x)


class Heads:
    """MLPs that read the same feature ``[z, rest]``, their first layers made in one go.

    Args:
        mlps: by name; each has a linear output.
        stoch, classes: S and K.
        dtype: of the layers.
    """

    def __init__(self, mlps: dict[str, MLP], *, stoch: int, classes: int, dtype: torch.dtype) -> None:
        first = [mlp.get_submodule("dense0") for mlp in mlps.values()]
        self.first = Gather(
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            stoch=stoch,
            classes=classes,
            dtype=dtype,
        )
        self.sizes = [layer.out_features for layer in first]
        self.chains = {name: Chain(mlp, dtype, skip=1) for name, mlp in mlps.items()}

    def __call__(self, stoch: Tensor, rest: Tensor) -> dict[str, Tensor]:
        """Outputs ``[*B, O]`` fp32 by name."""
        hidden = elu(self.first(stoch, rest)).split(self.sizes, -1)
        return {name: chain(x) for (name, chain), x in zip(self.chains.items(), hidden, strict=True)}


def draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """Classes of categoricals ``[*B, S, K]`` -> ``[*B, S]`` int64.

    One uniform a categorical and the inverse of its distribution function; None takes the modes.
    """
    if uniforms is None:
        return logits.argmax(-1)
    below = logits.softmax(-1, dtype=torch.float32).cumsum(-1)
    # Rounding may leave the last sum a little below 1: scale instead of clipping what falls beyond.
    threshold = uniforms.unsqueeze(-1) * below[..., -1:]
    return torch.searchsorted(below, threshold, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
