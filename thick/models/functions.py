"""Functions whose gradient is written by hand: what torch makes of their parts takes several times longer on a CPU.

Each equals the plain form, which stands in its docstring, to within rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_elu_backward = torch.ops.aten.elu_backward


def elu(x: Tensor) -> Tensor:
    """``x`` where it is positive, else ``exp(x) - 1``.

    Args:
        x: of any shape; not to be read any more where no gradient is asked for: it is overwritten.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.elu(x)
    return _Elu.apply(x) if torch.is_grad_enabled() and x.requires_grad else _elu_into(x, x)


def _elu_into(x: Tensor, out: Tensor | None) -> Tensor:
    # Three vectorised passes; torch's own takes expm1, which is slower than all of them.
    below = torch.clamp_max(x, 0).exp_().sub_(1)
    return torch.maximum(x, below, out=below if out is None else out)


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = _elu_into(x, None)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return _elu_backward(grad, 1.0, 1.0, 1.0, True, result)  # type: ignore[no-any-return]


def balanced_kl(posterior: Tensor, prior: Tensor, balance: float) -> tuple[Tensor, Tensor]:
    """KL balancing of DreamerV2: ``balance·KL(sg(q) ‖ p) + (1-balance)·KL(q ‖ sg(p))``.

    Args:
        posterior, prior: logits ``[..., S, K]``.
        balance: weight of the term that trains the prior, 0.8 in the paper.

    Returns:
        The loss and the plain value of the KL without gradient, both ``[...]`` in fp32, summed over groups.
    """
    kl = _BalancedKL.apply(posterior.float(), prior.float(), balance)
    return kl, kl.detach()


class _BalancedKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, posterior: Tensor, prior: Tensor, balance: float) -> Tensor:
        log_q, log_p = posterior.log_softmax(-1), prior.log_softmax(-1)
        q, ratio = log_q.exp(), log_q.sub_(log_p)
        groups = (q * ratio).sum(-1, keepdim=True)
        ctx.save_for_backward(q, log_p, ratio, groups)
        ctx.balance = balance
        return groups.sum((-2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        q, log_p, ratio, groups = ctx.saved_tensors
        grad = grad[..., None, None]
        to_posterior = (ratio - groups).mul_(q).mul_((1 - ctx.balance) * grad)
        to_prior = log_p.exp().sub_(q).mul_(ctx.balance * grad)
        return to_posterior, to_prior, None


def log_prob_of_cells(logits: Tensor, grid: Tensor, categories: tuple[int, ...]) -> Tensor:
    """Log probability of a grid whose cells have several channels, each a categorical.

    ``sum(part.log_softmax(-3).gather(-3, index).sum((-3, -2, -1)))`` over the channels.

    Args:
        logits: ``[..., sum(categories), height, width]``.
        grid: ``[..., height, width, channels]`` of whole numbers.
        categories: of each channel.

    Returns:
        ``[...]`` in fp32.
    """
    index = grid.long().movedim(-1, -3)
    return _LogProbOfCells.apply(logits.float(), index, categories)  # type: ignore[no-any-return]


class _LogProbOfCells(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor, categories: tuple[int, ...]) -> Tensor:
        log_probs = [part.log_softmax(-3) for part in logits.split(categories, -3)]
        places = index.split(1, -3)
        ctx.save_for_backward(*log_probs, *places)
        chosen = [part.gather(-3, place) for part, place in zip(log_probs, places, strict=True)]
        return torch.cat(chosen, -3).sum((-3, -2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        half = len(ctx.saved_tensors) // 2
        grad = grad[..., None, None, None]
        parts = []
        for log_prob, place in zip(ctx.saved_tensors[:half], ctx.saved_tensors[half:], strict=True):
            part = log_prob.exp().mul_(-grad)
            parts.append(part.scatter_add_(-3, place, grad.expand(place.shape)))
        return torch.cat(parts, -3), None, None
