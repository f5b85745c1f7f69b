"""z by its classes gives the numbers that one-hots give."""

from __future__ import annotations

import torch

from thick.models.beliefs import State
from thick.models.classes import Classes, dense, join
from thick.models.distributions import class_sample, one_hot_sample
from thick.models.dynamics.crssm import CRSSM
from thick.models.layers import MLP


def test_a_network_reads_classes_as_one_hots_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    net = MLP(3 * 5 + 4, 8, 2, 6)
    z, rest = one_hot_sample(torch.randn(2, 7, 3, 5)), torch.randn(2, 7, 4)
    results = []
    for x in (join(z, rest), join(Classes.of(z), rest)):
        value = net(x)
        results.append((value, *torch.autograd.grad((value**2).sum(), list(net.parameters()))))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
    assert torch.equal(dense(join(Classes.of(z), rest)), join(z, rest))
    assert torch.equal(dense(join(Classes.of(z), rest)[1]), join(z, rest)[1])


def test_samples_are_the_same_with_the_same_random_numbers() -> None:
    logits = torch.randn(6, 3, 5)
    torch.manual_seed(0)
    one_hots = one_hot_sample(logits)
    torch.manual_seed(0)
    assert torch.equal(class_sample(logits).one_hot(), one_hots)


@torch.no_grad()
def test_an_imagined_step_is_the_same() -> None:
    torch.manual_seed(0)
    dynamics = CRSSM(stoch=3, classes=5, deter=8, hidden=9, action=4, embed=2, context=6)
    zero, action = dynamics.initial(7), torch.randn(7, 4)
    state = zero._replace(
        stoch=one_hot_sample(torch.randn(7, 3, 5)), deter=torch.randn(7, 8), context=torch.randn(7, 6)
    )
    found = []
    for z in (state.stoch, Classes.of(state.stoch)):
        torch.manual_seed(1)
        found.append(dynamics.imagine_step(state._replace(stoch=z), action))
    wanted, by_class = found
    assert torch.equal(by_class.stoch.one_hot(), wanted.stoch)
    for name in State._fields[1:]:
        torch.testing.assert_close(getattr(by_class, name), getattr(wanted, name))
