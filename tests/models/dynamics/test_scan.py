"""The loops that are differentiated by hand equal plain ones that torch differentiates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from thick.models.beliefs import State
from thick.models.distributions import one_hot_mode, one_hot_sample
from thick.models.dynamics.crssm import CRSSM
from thick.models.dynamics.rssm import RSSM

SIZES = {"stoch": 3, "classes": 4, "deter": 10, "hidden": 12, "action": 3, "embed": 7}
BATCH, TIME = 4, 9


def build(kind: str, posterior: str, unimix: float = 0.0) -> RSSM:
    torch.manual_seed(0)
    if kind == "rssm":
        dynamics = RSSM(**SIZES, posterior=posterior, unimix=unimix)
    else:
        dynamics = CRSSM(
            context=5, gates=kind.removeprefix("crssm-"), **SIZES, posterior=posterior, unimix=unimix
        )
    for weight in dynamics.parameters():  # no bias is zero
        weight.data += 0.1 * torch.randn(weight.shape)
    return dynamics


def plain(
    of: RSSM, embed: Tensor, action: Tensor, is_first: Tensor, state: State, noise: float, sample: bool
) -> tuple[Tensor, ...]:
    """z, logits, h, c, gates step by step, as the equations say."""
    batch, time = action.shape[:2]
    noises = noise * torch.randn(batch, time, of.context) if noise and of.context else None
    draw = one_hot_sample if sample else one_hot_mode
    known = None
    if of.posterior_from_observation:
        logits = of._groups(of.obs_logit(F.elu(of.obs_out(embed))))
        known = draw(logits), logits
    stoch, deter, context = state.stoch, state.deter, state.context
    steps = []
    for t in range(time):
        alive = 1 - is_first[:, t, None]
        before = [(stoch * alive[..., None]).flatten(-2), action[:, t] * alive]
        x = F.elu(of.img_in(torch.cat(before, -1)))
        deter, context, gates = of._transition(
            x, deter * alive, context * alive, None if noises is None else noises[:, t]
        )
        if known is not None:
            stoch, logits = known[0][:, t], known[1][:, t]
        else:
            hidden = F.elu(of.obs_out(torch.cat([context, deter, embed[:, t]], -1)))
            logits = of._groups(of.obs_logit(hidden))
            stoch = draw(logits)
        steps.append((stoch, logits, deter, context, gates))
    return tuple(torch.stack(parts, 1) for parts in zip(*steps, strict=True))


@pytest.mark.parametrize("unimix", [0.0, 0.3])
@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("posterior", ["full", "observation"])
@pytest.mark.parametrize("kind", ["rssm", "crssm-each", "crssm-shared"])
def test_values_and_gradients_are_those_of_the_plain_loop(
    kind: str, posterior: str, sample: bool, unimix: float
) -> None:
    dynamics = build(kind, posterior, unimix)
    embed = torch.randn(BATCH, TIME, SIZES["embed"], requires_grad=True)
    action = torch.randn(BATCH, TIME, SIZES["action"])
    is_first = torch.zeros(BATCH, TIME)
    is_first[0, 0] = is_first[1, 4] = is_first[2, 8] = 1
    begin = dynamics.initial(BATCH)
    begin = begin._replace(
        stoch=one_hot_sample(torch.randn(begin.stoch.shape)),
        deter=torch.randn(begin.deter.shape),
        context=torch.randn(begin.context.shape),
    )
    torch.manual_seed(1)
    wanted = plain(dynamics, embed, action, is_first, begin, 0.3, sample)
    torch.manual_seed(1)
    found = dynamics.observe(embed, action, is_first, begin, sample=sample, gate_noise=0.3).posterior
    assert not dynamics.context or 0.1 < float(found.gates.detach().mean()) < 0.9
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(part.shape, generator=generator) for part in wanted]
    inputs = [embed, *dynamics.parameters()]
    results = []
    for parts in (wanted, found):
        loss = sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))
        results.append(torch.autograd.grad(loss, inputs, allow_unused=True))
    for name, one, two in zip(State._fields, found, wanted, strict=True):
        torch.testing.assert_close(one, two, msg=lambda text, name=name: f"{name}: {text}")
    names = ["embed", *(name for name, _ in dynamics.named_parameters())]
    for name, one, two in zip(names, *results, strict=True):
        assert (one is None or not one.any()) == (two is None or not two.any()), name
        if one is not None and two is not None:
            torch.testing.assert_close(
                one, two, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
