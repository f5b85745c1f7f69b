"""The few distributions of the model, as functions over batches: no objects, no validation cost."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.classes import Classes

_LOG_2PI = math.log(2 * math.pi)
_SQRT_2 = math.sqrt(2)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-softmax over the last dimension, in fp32 also under bf16 autocast."""
    return logits.float().log_softmax(-1)


def mixed_logits(logits: Tensor, share: float) -> Tensor:
    """Logits ``[..., K]`` of ``(1 - share) · softmax(logits) + share / K`` (DreamerV3's unimix); fp32 where mixed."""
    if share == 0:
        return logits
    return torch.log((1 - share) * logits.float().softmax(-1) + share / logits.shape[-1])


def one_hot_mode(logits: Tensor) -> Tensor:
    """Arg-max one-hot of ``[..., K]`` logits, without gradient."""
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


def one_hot_sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A sample of a categorical as one-hot ``[..., K]`` with straight-through gradient.

    One uniform number a categorical and the inverse of its distribution function, which is several times
    cheaper than Gumbel noise for every class.
    """
    probabilities = logits.float().softmax(-1)
    with torch.no_grad():
        index = _drawn(probabilities, generator).unsqueeze(-1)
        sample = torch.zeros_like(probabilities).scatter_(-1, index, 1.0)
    if not probabilities.requires_grad:
        return sample
    # In this order the forward value is exactly 0 or 1.
    return sample + (probabilities - probabilities.detach())


@torch.no_grad()
def class_sample(logits: Tensor) -> Classes:
    """The same sample, with the same random numbers, by its classes: for what needs no gradient."""
    return Classes(_drawn(logits.float().softmax(-1)), logits.shape[-1])


def class_mode(logits: Tensor) -> Classes:
    """The likeliest classes."""
    return Classes(logits.argmax(-1), logits.shape[-1])


def _drawn(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Classes ``[...]`` int64 of probabilities ``[..., K]``."""
    uniform = torch.rand(
        (*probabilities.shape[:-1], 1),
        dtype=probabilities.dtype,
        device=probabilities.device,
        generator=generator,
    )
    below = probabilities.cumsum(-1) <= uniform
    return below.sum(-1).clamp_(max=probabilities.shape[-1] - 1)


def categorical_kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p ‖ q) of categoricals in nats, ``[..., S, K] -> [..., S]``."""
    log_p, log_q = log_softmax(logits_p), log_softmax(logits_q)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def normal_log_prob(value: Tensor, mean: Tensor, std: Tensor | float = 1.0) -> Tensor:
    """Log density of N(mean, std²), element by element."""
    log_std = torch.log(std) if isinstance(std, Tensor) else math.log(std)
    return -0.5 * (((value - mean) / std) ** 2 + _LOG_2PI) - log_std


def truncated_normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of a normal truncated to [-1, 1], element by element."""
    mass = _normal_cdf((1 - mean) / std) - _normal_cdf((-1 - mean) / std)
    inside = value.clamp(-1 + 1e-6, 1 - 1e-6)
    return normal_log_prob(inside, mean, std) - torch.log(mass.clamp_min(1e-8))


def truncated_normal_entropy(mean: Tensor, std: Tensor) -> Tensor:
    """Entropy in nats of a normal truncated to [-1, 1], exactly and element by element."""
    low, high = (-1 - mean) / std, (1 - mean) / std
    mass = (_normal_cdf(high) - _normal_cdf(low)).clamp_min(1e-8)
    slope = (low * _normal_density(low) - high * _normal_density(high)) / mass
    return torch.log(std * mass) + 0.5 * (_LOG_2PI + 1 + slope)


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * (x**2 + _LOG_2PI))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / _SQRT_2))


def bernoulli_log_prob(logits: Tensor, target: Tensor) -> Tensor:
    """Log probability of a soft ``target`` in [0, 1] under a Bernoulli with ``logits``."""
    return -F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def truncated_normal_sample(mean: Tensor, std: Tensor) -> Tensor:
    """A reparametrised sample of a normal truncated to [-1, 1], by its inverse distribution function."""
    mean, std = mean.float(), std.float()
    low, high = _normal_cdf((-1 - mean) / std), _normal_cdf((1 - mean) / std)
    quantile = low + (high - low) * torch.rand_like(mean)
    sample = mean + std * _SQRT_2 * torch.erfinv((2 * quantile - 1).clamp(-1 + 1e-6, 1 - 1e-6))
    return sample.clamp(-1 + 1e-6, 1 - 1e-6)
