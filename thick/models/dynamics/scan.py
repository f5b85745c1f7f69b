"""The recurrent loops of RSSM and C-RSSM, differentiated by hand.

A loop over time is many operations on small matrices, and what torch remembers of each of them for the backward pass
costs more than the operation. Here the forward loop keeps what the backward loop needs in one buffer for each quantity,
and the gradients of the weights are one product each over all steps, after the backward loop.

Symbols: T steps, B sequences, D size of h, C size of the context (0: none), G gates (C, or 1 where one is shared),
S groups of K classes, N width of the layers between. Time comes first. Pre-activations lie in the order gates,
candidate of the context, reset, update, candidate of h: ``[G + C + 3 D]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_elu_backward = torch.ops.aten.elu_backward
_softmax_backward = torch.ops.aten._softmax_backward_data
_tanh_backward = torch.ops.aten.tanh_backward
_threshold_backward = torch.ops.aten.threshold_backward
_sigmoid_backward = torch.ops.aten.sigmoid_backward


class Cell(NamedTuple):
    """Weights of the recurrent part."""

    context: Tensor
    """[G + C, C], of the gates and the candidate of the context"""
    memory: Tensor
    """[3 D, C + D], of reset, update and candidate of h, read from the new context and h"""


class Steps(NamedTuple):
    """What the forward loop keeps of the recurrent part; buffers ``[T, B, ...]``."""

    before: Tensor
    """[C + D] context and h that the step starts from, zero where an episode begins"""
    opened: Tensor
    """[G] gates"""
    tried: Tensor
    """[G + C] tanh of the pre-activations of gates and candidate; the gate's is its sigmoid where it is shared"""
    between: Tensor
    """[C + D] new context, old h"""
    gates: Tensor
    """[2 D] reset and update"""
    candidate: Tensor
    """[D] of h before the reset"""
    proposed: Tensor
    """[D] of h"""
    after: Tensor
    """[C + D] new context and h"""


class Step(NamedTuple):
    """One step's places in the buffers, named as in :class:`Steps`, and the parts of some of them."""

    before: Tensor
    opened: Tensor
    tried: Tensor
    between: Tensor
    gates: Tensor
    candidate: Tensor
    proposed: Tensor
    after: Tensor
    old: Tensor
    """context before"""
    h: Tensor
    """h before"""
    new: Tensor
    """context between"""
    reset: Tensor
    update: Tensor


def _new_steps(like: Tensor, time: int, batch: int, cell: Cell) -> Steps:
    context, deter = cell.context.shape[1], cell.memory.shape[0] // 3
    joint = cell.context.shape[0]
    sizes = (
        context + deter,
        joint - context,
        joint,
        context + deter,
        2 * deter,
        deter,
        deter,
        context + deter,
    )
    return Steps(*(like.new_empty(time, batch, size) for size in sizes))


def _each(steps: Steps) -> list[Step]:
    """The steps one by one: a buffer is cut once, which costs less than to look into it at every step."""
    deter = steps.proposed.shape[-1]
    context = steps.before.shape[-1] - deter
    parts = (
        *steps,
        steps.before[..., :context],
        steps.before[..., context:],
        steps.between[..., :context],
        steps.gates[..., :deter],
        steps.gates[..., deter:],
    )
    return [Step(*step) for step in zip(*(part.unbind(0) for part in parts), strict=True)]


def _forward(step: Step, projected: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """One step from ``step.before`` to ``step.after``, ``[B, C + D]``, with what the backward step needs.

    Args:
        projected: ``[B, G + C + 3 D]``, what does not depend on context and h.
        weights: of the cell, transposed.
    """
    context, joint = weights[0].shape
    deter = step.proposed.shape[-1]
    if context:
        torch.addmm(projected[:, :joint], step.old, weights[0], out=step.tried)
        if joint < 2 * context:
            gate, candidate = step.tried.split((1, context), -1)
            torch.gt(gate, 0, out=step.opened)
            gate.sigmoid_()
            candidate.tanh_()
        else:
            gate, candidate = step.tried.tanh_().split(context, -1)
            torch.clamp(gate, min=0, out=step.opened)
        torch.cat([torch.lerp(step.old, candidate, step.opened), step.h], -1, out=step.between)
    else:
        step.between.copy_(step.before)
    pre = torch.addmm(projected[:, joint:], step.between, weights[1])
    torch.sigmoid(pre[:, : 2 * deter], out=step.gates)
    step.candidate.copy_(pre[:, 2 * deter :])
    torch.mul(step.reset, step.candidate, out=step.proposed).tanh_()
    new = torch.lerp(step.h, step.proposed, step.update)
    return torch.cat([step.new, new], -1, out=step.after)


def _backward(step: Step, grad: Tensor, opened: Tensor, cell: Cell, out: Tensor) -> Tensor:
    """The reverse of :func:`_forward`.

    Args:
        grad: ``[B, C + D]`` of what the step ended with.
        opened: ``[B, C]`` of the gates.
        out: gets the gradient of the pre-activations ``[B, G + C + 3 D]``.

    Returns:
        The gradient of what the step began with, ``[B, C + D]``.
    """
    joint, context = cell.context.shape
    grad_h = grad[:, context:]
    through = grad_h * step.update
    inner = _tanh_backward(through, step.proposed)
    both = torch.cat([inner * step.candidate, grad_h * (step.proposed - step.h)], -1)
    torch.cat([_sigmoid_backward(both, step.gates), inner * step.reset], -1, out=out[:, joint:])
    result = out[:, joint:] @ cell.memory
    if not context:
        return result.add_(grad_h).sub_(through)
    result.add_(grad)
    result[:, context:].sub_(through)
    new = result[:, :context]  # gradient of the new context
    written = new * step.opened
    if joint < 2 * context:
        soft, candidate = step.tried.split((1, context), -1)
        wanted = (new * (candidate - step.old)).add_(opened).sum(-1, keepdim=True)
        torch.cat(
            [_sigmoid_backward(wanted, soft), _tanh_backward(written, candidate)], -1, out=out[:, :joint]
        )
    else:
        wanted = (new * (step.tried[:, context:] - step.old)).add_(opened)
        wanted = _threshold_backward(wanted, step.opened, 0)
        out[:, :joint].copy_(_tanh_backward(torch.cat([wanted, written], -1), step.tried))
    new.sub_(written).addmm_(out[:, :joint], cell.context)
    return result


def _cell_gradients(steps: Steps, grads: Tensor, joint: int) -> tuple[Tensor, Tensor]:
    """Gradients of the cell's weights, from those of all pre-activations ``[T, B, G + C + 3 D]``."""
    context = steps.before.shape[-1] - steps.proposed.shape[-1]
    return (
        grads[..., :joint].flatten(0, 1).T @ steps.before[..., :context].flatten(0, 1),
        grads[..., joint:].flatten(0, 1).T @ steps.between.flatten(0, 1),
    )


def _open_gates(steps: Steps, context: int) -> Tensor:
    """1 where a gate is open, ``[T, B, C]``."""
    return torch.ceil(steps.opened).expand(*steps.opened.shape[:2], context)


class Scan(torch.autograd.Function):
    """Context, h and gates where the inputs of all steps are known beforehand.

    ``apply(projected, keep, memory, *cell)`` with ``projected`` ``[T, B, G + C + 3 D]``, ``keep`` ``[T, B, 1]`` (0
    where an episode begins) and ``memory`` ``[B, C + D]``, which has no gradient. Returns context and h
    ``[T, B, C + D]`` and gates ``[T, B, C]``.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, keep: Tensor, memory: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        cell = Cell(*weights)
        time, batch = projected.shape[:2]
        steps = _new_steps(projected, time, batch, cell)
        turned = (cell.context.T, cell.memory.T)
        for step, given, alive in zip(_each(steps), projected.unbind(0), keep.unbind(0), strict=True):
            torch.mul(memory, alive, out=step.before)
            memory = _forward(step, given, turned)
        ctx.save_for_backward(keep, *cell, *steps)
        return steps.after, _open_gates(steps, cell.context.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, after: Tensor, opened: Tensor) -> tuple[Tensor | None, ...]:
        keep, *saved = ctx.saved_tensors
        cell, steps = Cell(*saved[:2]), Steps(*saved[2:])
        joint = cell.context.shape[0]
        grads = after.new_empty(*after.shape[:2], joint + cell.memory.shape[0])
        carried = torch.zeros_like(after[0])
        rows = zip(_each(steps), *(part.unbind(0) for part in (after, opened, grads, keep)), strict=True)
        for step, grad, gates, out, alive in reversed(list(rows)):
            carried = _backward(step, grad + carried, gates, cell, out).mul_(alive)
        return (grads, None, None, *_cell_gradients(steps, grads, joint))


class FilterWeights(NamedTuple):
    """Weights of a step that also draws z."""

    cell: Cell
    stoch: Tensor
    """[N, S·K], z's share of the input layer"""
    project: Tensor
    """[G + C + 3 D, N], from the input layer to all pre-activations"""
    remembered: Tensor
    """[N, C + D], the posterior's layer"""
    logit: Tensor
    """[S·K, N]"""
    logit_bias: Tensor
    """[S·K]"""


class Filter(torch.autograd.Function):
    """z, context, h and gates where z must be drawn step by step.

    ``apply(acted, base, observed, keep, uniform, unimix, stoch, memory, *weights)``: ``acted`` ``[T, B, N]`` the
    action's share of the input layer with its bias, ``base`` ``[T, B, G + C + 3 D]`` biases and noise of the
    pre-activations,
    ``observed`` ``[T, B, N]`` the embedding's share of the posterior's layer, ``keep`` ``[T, B, 1]``, ``uniform``
    ``[T, B, S, 1]`` (None: the mode), ``unimix`` the uniform share in what z is drawn from, ``stoch``
    ``[B, S, K]`` and ``memory`` ``[B, C + D]`` that the first step starts from, without gradient.

    Returns logits and probabilities ``[T, B, S, K]``, classes ``[T, B, S]`` int64, context and h ``[T, B, C + D]``,
    gates ``[T, B, C]``. The gradient of the drawn z is that of its probabilities.
    """

    @staticmethod
    def forward(
        ctx: Any,
        acted: Tensor,
        base: Tensor,
        observed: Tensor,
        keep: Tensor,
        uniform: Tensor | None,
        unimix: float,
        stoch: Tensor,
        memory: Tensor,
        *flat: Tensor,
    ) -> tuple[Tensor, ...]:
        weights = FilterWeights(Cell(*flat[:2]), *flat[2:])
        time, batch = acted.shape[:2]
        groups, classes = stoch.shape[1:]
        steps = _new_steps(acted, time, batch, weights.cell)
        turned = (weights.cell.context.T, weights.cell.memory.T)
        project, remembered, logit = weights.project.T, weights.remembered.T, weights.logit.T
        table = (
            weights.stoch.T.contiguous()
        )  # its rows are added up: a product with ones and zeros without products
        first = torch.arange(groups, device=acted.device) * classes
        inputs, hidden = torch.empty_like(acted), torch.empty_like(acted)
        logits = acted.new_empty(time, batch, groups, classes)
        chances = torch.empty_like(logits)
        index = torch.empty(time, batch, groups, dtype=torch.long, device=acted.device)
        buffers = (acted, base, observed, keep, inputs, hidden, logits, logits.flatten(2), chances, index)
        even = torch.full_like(chances[0], 1 / classes)
        luck = [None] * time if uniform is None else uniform.unbind(0)
        read = stoch.flatten(1) @ table
        for step, (act, bias, seen, alive, x, y, grouped, flat_logits, chance, drawn), lucky in zip(
            _each(steps), zip(*(part.unbind(0) for part in buffers), strict=True), luck, strict=True
        ):
            F.elu_(torch.addcmul(act, read, alive, out=x))
            torch.mul(memory, alive, out=step.before)
            memory = _forward(step, torch.addmm(bias, x, project), turned)
            F.elu_(torch.addmm(seen, memory, remembered, out=y))
            torch.addmm(weights.logit_bias, y, logit, out=flat_logits)
            torch.softmax(grouped, -1, out=chance)
            if lucky is None:
                torch.argmax(grouped, -1, out=drawn)
            else:
                mixed = torch.lerp(chance, even, unimix) if unimix else chance
                torch.sum(mixed.cumsum(-1) <= lucky, -1, out=drawn).clamp_(max=classes - 1)
            read = F.embedding_bag(drawn + first, table, mode="sum")
        ctx.save_for_backward(keep, stoch, inputs, hidden, chances, index, *flat, *steps)
        ctx.mark_non_differentiable(index)
        ctx.drawn, ctx.unimix = uniform is not None, unimix
        return logits, chances, index, steps.after, _open_gates(steps, weights.cell.context.shape[1])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, logits: Tensor, probabilities: Tensor, index: Tensor, after: Tensor, opened: Tensor
    ) -> tuple[Tensor | None, ...]:
        keep, stoch, inputs, hidden, chances, drawn, *saved = ctx.saved_tensors
        weights, steps = FilterWeights(Cell(*saved[:2]), *saved[2:7]), Steps(*saved[7:])
        cell = weights.cell
        joint = cell.context.shape[0]
        grads = inputs.new_empty(*inputs.shape[:2], joint + cell.memory.shape[0])
        to_inputs, to_hidden, to_logits = (torch.empty_like(part) for part in (inputs, hidden, chances))
        carried, read = torch.zeros_like(after[0]), torch.zeros_like(inputs[0])
        buffers = (
            logits,
            probabilities,
            chances,
            after,
            opened,
            keep,
            inputs,
            hidden,
            grads,
            to_inputs,
            to_hidden,
        )
        rows = zip(
            _each(steps),
            *(part.unbind(0) for part in (*buffers, to_logits, to_logits.flatten(2))),
            strict=True,
        )
        for step, logit, chance, of, ended, gates, alive, x, y, out, to_x, to_y, to_logit, flat in reversed(
            list(rows)
        ):
            if ctx.drawn:  # a mode has no gradient
                chance = torch.add(chance, (read @ weights.stoch).view_as(chance), alpha=1 - ctx.unimix)
            torch.add(logit, _softmax_backward(chance, of, -1, chance.dtype), out=to_logit)
            _elu_backward.grad_input(flat @ weights.logit, 1.0, 1.0, 1.0, True, y, grad_input=to_y)
            grad = torch.addmm(carried, to_y, weights.remembered).add_(ended)
            carried = _backward(step, grad, gates, cell, out).mul_(alive)
            _elu_backward.grad_input(out @ weights.project, 1.0, 1.0, 1.0, True, x, grad_input=to_x)
            read = to_x * alive
        every = (to_inputs * keep).flatten(0, 1)
        previous = torch.cat([stoch.unsqueeze(0), F.one_hot(drawn[:-1], stoch.shape[-1]).to(stoch.dtype)])
        return (
            to_inputs,
            grads,
            to_hidden,
            None,
            None,
            None,
            None,
            None,
            *_cell_gradients(steps, grads, joint),
            every.T @ previous.flatten(0, 1).flatten(1),
            grads.flatten(0, 1).T @ inputs.flatten(0, 1),
            to_hidden.flatten(0, 1).T @ steps.after.flatten(0, 1),
            to_logits.flatten(2).flatten(0, 1).T @ hidden.flatten(0, 1),
            to_logits.flatten(2).sum((0, 1)),
        )
