"""The GateL0RD cell: shut gates change nothing, open ones are counted, and the count has a gradient."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from thick.models.dynamics.gatel0rd import GateL0RD, straight_through_ceil


def cell(seed: int = 0) -> GateL0RD:
    torch.manual_seed(seed)
    return GateL0RD(6, 4)


@given(st.integers(0, 1000))
def test_a_context_changes_where_and_only_where_its_gate_is_open(seed: int) -> None:
    module = cell(seed)
    x, context = torch.randn(5, 6), torch.randn(5, 4).tanh()
    after, gates = module(x, context)
    assert set(gates.unique().tolist()) <= {0.0, 1.0}  # exactly, not nearly
    shut = gates == 0
    assert torch.equal(after[shut], context[shut])  # to the last bit
    assert (after[~shut] != context[~shut]).all()


def test_a_context_stays_in_the_range_of_its_candidates() -> None:
    module, context = cell(), torch.zeros(8, 4)
    for _ in range(50):
        context, _ = module(torch.randn(8, 6) * 3, context, torch.randn(8, 4))
        assert context.abs().max() <= 1


def test_the_gradient_of_a_counted_gate_is_that_of_the_gate_itself() -> None:
    gate = torch.tensor([0.0, 0.2, 0.9], requires_grad=True)
    counted = straight_through_ceil(gate)
    assert counted.tolist() == [0.0, 1.0, 1.0]
    (counted * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert gate.grad is not None
    assert gate.grad.tolist() == [1.0, 2.0, 3.0]


def test_sparsity_pushes_open_gates_and_leaves_shut_ones_alone() -> None:
    module = cell()
    x, context = torch.randn(64, 6), torch.zeros(64, 4)
    joint = torch.cat([x, context], -1)
    pre_activation = module.gate(joint).detach()
    _, gates = module(x, context)
    gates.sum().backward()
    # d ReLU(tanh(p)) / dp is 1 - tanh² where p > 0 and nothing elsewhere.
    slope = torch.where(pre_activation > 0, 1 - pre_activation.tanh() ** 2, torch.zeros(()))
    torch.testing.assert_close(module.gate.bias.grad, slope.sum(0))
    torch.testing.assert_close(module.gate.weight.grad, slope.T @ joint)
    assert module.candidate.weight.grad is None or not module.candidate.weight.grad.any()


def test_noise_opens_gates_that_are_nearly_open() -> None:
    module = cell()
    with torch.no_grad():
        module.gate.weight.zero_()
        module.gate.bias.fill_(-0.05)
    x, context = torch.zeros(2, 6), torch.zeros(2, 4)
    assert not module(x, context)[1].any()
    noise = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.0, 0.04, 0.06, -1.0]])
    assert module(x, context, noise)[1].tolist() == [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]


def test_a_shared_gate_writes_the_whole_context_or_nothing_of_it() -> None:
    torch.manual_seed(0)
    cell = GateL0RD(6, 4, shared=True)
    x, context = torch.randn(200, 6), torch.randn(200, 4).tanh()
    after, gates = cell(x, context)
    joint = torch.cat([x, context], -1)
    is_open = cell.gate(joint).squeeze(-1) > 0
    assert 0 < is_open.float().mean() < 1
    assert torch.equal(gates, is_open.float().unsqueeze(-1).expand(-1, 4))
    torch.testing.assert_close(after[is_open], cell.candidate(joint)[is_open].tanh())
    assert torch.equal(after[~is_open], context[~is_open])


def test_a_shut_gate_learns_to_open_where_it_is_shared_and_not_where_each_has_its_own() -> None:
    torch.manual_seed(0)
    for shared in (False, True):
        cell = GateL0RD(6, 4, shared=shared)
        torch.nn.init.constant_(cell.gate.bias, -5.0)
        after, gates = cell(torch.randn(50, 6), torch.zeros(50, 4))
        assert gates.sum() == 0
        (gradient,) = torch.autograd.grad(((after - 0.5) ** 2).sum(), cell.gate.bias)
        assert bool(gradient.any()) == shared
