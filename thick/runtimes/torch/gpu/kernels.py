"""What lies between two matrix products of an imagined step, one Triton kernel each.

Rows are candidates, R = B · N of them; a candidate's session is ``row // N``. Sums are in fp32, whatever the type of
what is read and written. Triton's interpreter (``TRITON_INTERPRET=1``) runs them on a CPU, where tests compare them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from thick.arrays.random_kernels import GOLDEN, mix

MANY = 16_384
"""rows from which a product is cut into larger pieces"""


@triton.jit
def _elu(x):
    return tl.where(x > 0, x, tl.exp(tl.minimum(x, 0.0)) - 1.0)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def _linear_elu(
    x, x_stride, weight, bias, action, action_stride, action_weight, out, out_stride,
    rows, inputs: tl.constexpr, outputs, A: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    there, wanted = row < rows, column < outputs
    left = x + row[:, None] * x_stride + depth[None, :]
    right = weight + depth[:, None] * outputs + column[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for begin in range(0, inputs, DEPTH):
        inside = depth < inputs - begin
        part = tl.load(left, mask=there[:, None] & inside[None, :], other=0.0)
        total = tl.dot(part, tl.load(right, mask=inside[:, None] & wanted[None, :], other=0.0), total,
                       input_precision="ieee")  # fmt: skip
        left += DEPTH
        right += DEPTH * outputs
    total += tl.load(bias + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
    for index in range(A):
        taken = tl.load(action + row * action_stride + index, mask=there, other=0.0)
        part = tl.load(action_weight + index * outputs + column, mask=wanted, other=0.0).to(tl.float32)
        total += taken[:, None] * part[None, :]
    at = out + row[:, None] * out_stride + column[None, :]
    tl.store(at, _elu(total).to(out.dtype.element_ty), mask=there[:, None] & wanted[None, :])


def linear_elu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    out: Tensor,
    action: Tensor | None = None,
    action_weight: Tensor | None = None,
) -> None:
    """``out = elu(x · weight + bias (+ action · action_weight))``.

    Args:
        x: ``[R, I]``, rows at any distance.
        weight, bias: ``[I, O]`` and ``[O]``.
        out: ``[R, O]``, rows at any distance.
        action, action_weight: ``[R, A]`` fp32, rows at any distance, and ``[A, O]``.
    """
    (rows, inputs), outputs = x.shape, weight.shape[1]
    # The fastest of those tried on an H200, for many rows and for few.
    tall, wide, warps = (128, 256, 8) if rows >= MANY else (64, 64, 4)
    actions = 0 if action is None else action.shape[1]
    if action is None or action_weight is None:
        action, action_weight = x, weight
    _linear_elu[(triton.cdiv(rows, tall), triton.cdiv(outputs, wide))](
        x, x.stride(0), weight, bias, action, action.stride(0), action_weight, out, out.stride(0),
        rows, inputs, outputs, actions, tall, wide, 64, num_warps=warps, num_stages=4,
    )  # fmt: skip


@triton.jit
def _bias_elu(x, bias, rows, outputs, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    head = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < outputs)[None, :]
    at = x + (head * rows + row[:, None]) * outputs + column[None, :]
    added = tl.load(bias + head * outputs + column, mask=column < outputs, other=0.0).to(tl.float32)
    y = tl.load(at, mask=inside, other=0.0).to(tl.float32) + added[None, :]
    tl.store(at, _elu(y).to(x.dtype.element_ty), mask=inside)


def bias_elu(x: Tensor, bias: Tensor) -> None:
    """``x = elu(x + bias)`` in place: ``[heads, R, O]`` and ``[heads, O]``."""
    heads, rows, outputs = x.shape
    block = triton.next_power_of_2(outputs)
    tall = max(1, 4096 // block)
    _bias_elu[(triton.cdiv(rows, tall), heads)](x, bias, rows, outputs, tall, block)


@triton.jit
def _open(
    parts, state, state_stride, kept, kept_stride, goal, distance, changed, N, C, threshold,
    GOAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < C
    gate = tl.load(parts + row * 2 * C + at, mask=inside, other=0.0).to(tl.float32)
    candidate = tl.load(parts + row * 2 * C + C + at, mask=inside, other=0.0).to(tl.float32)
    context = tl.load(state + row * state_stride + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.maximum(_tanh(gate), 0.0)
    updated = gate * _tanh(candidate) + (1.0 - gate) * context
    updated = updated.to(state.dtype.element_ty)
    tl.store(state + row * state_stride + at, updated, mask=inside)
    tl.store(kept + row * kept_stride + at, updated, mask=inside)
    if GOAL:
        updated = updated.to(tl.float32)
        counts = inside & (gate > 0)
        if threshold > 0:
            counts = counts & (tl.abs(updated - context) >= threshold)
        session = row // N
        off = tl.where(inside, updated - tl.load(goal + session * C + at, mask=inside, other=0.0), 0.0)
        closer = tl.sum(off * off, 0) < tl.load(distance + session)
        opened = tl.max(counts.to(tl.int32), 0) > 0
        tl.store(changed + row, (opened & closer).to(tl.int8))


def open_gates(
    parts: Tensor,
    context: Tensor,
    kept: Tensor,
    threshold: float,
    count: int,
    goal: Tensor | None = None,
    distance: Tensor | None = None,
    changed: Tensor | None = None,
) -> None:
    """One step of GateL0RD without noise, in place, and whether it was the change that a subgoal expects.

    Args:
        parts: ``[R, 2C]`` pre-activations of gates and candidates.
        context: ``[R, C]``, rows at any distance; becomes the next one.
        kept: likewise, where the next one is written as well.
        threshold: smallest movement that counts (:func:`thick.models.dynamics.gatel0rd.count_changes`).
        count: N.
        goal, distance: ``[B, C]`` and ``[B]`` of :class:`thick.planning.protocols.RolloutObjective`.
        changed: ``[R]`` int8, what becomes 1 where a gate opened and the context came closer.
    """
    rows, size = context.shape
    _open[(rows,)](
        parts, context, context.stride(0), kept, kept.stride(0),
        parts if goal is None else goal, parts if distance is None else distance,
        parts if changed is None else changed,
        count, size, threshold, goal is not None, triton.next_power_of_2(size),
    )  # fmt: skip


@triton.jit
def _recur(parts, state, state_stride, kept, kept_stride, H, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < H
    reset = tl.load(parts + row * 3 * H + at, mask=inside, other=0.0).to(tl.float32)
    candidate = tl.load(parts + row * 3 * H + H + at, mask=inside, other=0.0).to(tl.float32)
    update = tl.load(parts + row * 3 * H + 2 * H + at, mask=inside, other=0.0).to(tl.float32)
    deter = tl.load(state + row * state_stride + at, mask=inside, other=0.0).to(tl.float32)
    proposal = _tanh(_sigmoid(reset) * candidate)
    deter += _sigmoid(update - 1.0) * (proposal - deter)
    tl.store(state + row * state_stride + at, deter.to(state.dtype.element_ty), mask=inside)
    tl.store(kept + row * kept_stride + at, deter.to(kept.dtype.element_ty), mask=inside)


def recur(parts: Tensor, deter: Tensor, kept: Tensor) -> None:
    """The GRU's update in place, also written to ``kept``: ``parts`` ``[R, 3H]`` reset, candidate, update; ``deter``
    and ``kept`` ``[R, H]``, rows at any distance."""
    rows, size = deter.shape
    block = min(triton.next_power_of_2(size), 256)
    _recur[(rows, triton.cdiv(size, block))](parts, deter, deter.stride(0), kept, kept.stride(0), size, block)


@triton.jit
def _draw(
    logits, keys, goal, state, state_stride, kept, kept_stride, similar, N, first, unimix,
    S: tl.constexpr, K: tl.constexpr, DRAW: tl.constexpr, GOAL: tl.constexpr,
    GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    session, place = row // N, row % N
    group, each = tl.arange(0, GROUPS), tl.arange(0, BLOCK)
    real = (group < S)[:, None] & (each < K)[None, :]
    at = group[:, None] * K + each[None, :]
    x = tl.load(logits + row * S * K + at, mask=real, other=0.0).to(tl.float32)
    if DRAW:
        weight = tl.where(real, tl.exp(tl.minimum(tl.maximum(x, -60.0), 60.0)), 0.0)
        below, total = tl.cumsum(weight, 1), tl.sum(weight, 1)
        if unimix > 0:
            even = (each[None, :] + 1).to(tl.float32) / K
            below = (1.0 - unimix) * below + total[:, None] * (unimix * even)
        counter = first + 1 + place * S + group.to(tl.int64)
        bits = mix(tl.load(keys + session) + counter * GOLDEN)
        uniform = ((bits >> 40) & 0xFFFFFF).to(tl.float32) * (1.0 / 16777216.0)
        passed = real & (below <= (uniform * total)[:, None])
        chosen = tl.minimum(tl.sum(passed.to(tl.int32), 1), K - 1)
    else:
        chosen = tl.argmax(tl.where(real, x, float("-inf")), 1).to(tl.int32)
    one_hot = (each[None, :] == chosen[:, None]).to(state.dtype.element_ty)
    tl.store(state + row * state_stride + at, one_hot, mask=real)
    tl.store(kept + row * kept_stride + at, one_hot, mask=real)
    if GOAL:
        p = tl.where(real, tl.exp(tl.minimum(tl.maximum(x, -40.0), 40.0)), 0.0)
        aim = tl.load(goal + session * S * K + at, mask=real, other=0.0)
        length = tl.where(group < S, tl.sqrt(tl.sum(p * p, 1)), 1.0)
        tl.store(similar + row, tl.sum(tl.sum(p * aim, 1) / length, 0) / S)


def draw(
    logits: Tensor,
    stoch: Tensor,
    kept: Tensor,
    count: int,
    keys: Tensor | None,
    first: int,
    unimix: float,
    goal: Tensor | None = None,
    similar: Tensor | None = None,
) -> None:
    """z as one-hots, and how near it is to a subgoal.

    Args:
        logits: ``[R, S, K]``.
        stoch, kept: ``[R, S·K]``, rows at any distance, where they are written.
        count: N.
        keys: ``[B]`` int64 of this step's uniform numbers; None takes modes.
        first: numbers of a session that come before the first candidate's.
        unimix: share of the uniform distribution that is mixed in.
        goal: ``[B, S, K]`` of :class:`thick.planning.protocols.RolloutObjective`.
        similar: ``[R]`` fp32, where its similarity is written.
    """
    rows, groups, size = logits.shape
    _draw[(rows,)](
        logits, logits if keys is None else keys, logits if goal is None else goal,
        stoch, stoch.stride(0), kept, kept.stride(0), logits if similar is None else similar, count, first, unimix,
        groups, size, keys is not None, goal is not None,
        triton.next_power_of_2(groups), triton.next_power_of_2(size),
    )  # fmt: skip


@triton.jit
def _receive(
    hidden, head_stride, row_stride, weight, bias, similar, changed, threshold, ends,
    total, alive, credit, won, near, arrived, rows, steps: tl.constexpr, N, U, fade, discount, gamma, bonus,
    ending, ENDS: tl.constexpr, ENDING: tl.constexpr, GOAL: tl.constexpr, ARRIVAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    session = row // N
    at = tl.arange(0, BLOCK)
    inside = at < U
    of_reward, of_end = tl.load(weight + at, mask=inside, other=0.0), tl.zeros((BLOCK,), tl.float32)
    if ENDS:
        of_end = tl.load(weight + U + at, mask=inside, other=0.0)
    sum_of, going = tl.load(total + row), tl.load(alive + row)
    earned, victories = tl.load(credit + row), tl.load(won + row)
    there, close = tl.load(arrived + row) != 0, tl.load(near + row) != 0
    for step in range(steps):
        place = step * rows + row
        x = tl.load(hidden + place * row_stride + at, mask=inside, other=0.0).to(tl.float32)
        reward = tl.sum(x * of_reward, 0) + tl.load(bias)
        after = going
        if ENDS:
            x = tl.load(hidden + head_stride + place * row_stride + at, mask=inside, other=0.0).to(tl.float32)
            logit = tl.sum(x * of_end, 0) + tl.load(bias + 1)
            after = going * tl.minimum(_sigmoid(logit) / gamma, 1.0)
        sum_of += fade * going * reward
        if GOAL:
            nearness = tl.load(similar + place)
            gained = going * nearness
            if ENDS and ENDING:
                ended = tl.where(reward > ending, going - after, 0.0)
                victories += ended
                gained = (going - ended) * nearness + (1.0 + bonus) * victories
            if ARRIVAL:
                over = (tl.load(ends + session) != 0) & (after < 0.5) & (going >= 0.5)
                there = there | (close & ((tl.load(changed + place) != 0) | over))
                close = nearness >= tl.load(threshold + session)
                gained = tl.where(there, 1.0 + bonus, gained)
            earned += gained
        going = after
        fade *= discount
    tl.store(total + row, sum_of)
    tl.store(alive + row, going)
    if GOAL:
        tl.store(credit + row, earned)
        tl.store(won + row, victories)
        tl.store(arrived + row, there.to(tl.int8))
        tl.store(near + row, close.to(tl.int8))


def receive(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    seen: dict[str, Tensor],
    carry: dict[str, Tensor],
    goal: dict[str, Tensor],
    *,
    count: int,
    fade: float,
    discount: float,
    gamma: float,
    arrival: bool,
    bonus: float,
    ending: float,
) -> None:
    """The last layer of the heads and the objective over some steps, in place, as
    :class:`thick.planning.protocols.RolloutObjective` writes it.

    Args:
        hidden: ``[heads, steps · R, U]``, heads and rows at any distance: of the reward, and of the continuation where
            there is one.
        weight, bias: fp32 ``[heads, U]`` and ``[heads]``.
        seen: ``similar`` fp32 and ``changed`` int8, ``[steps, R]``.
        carry: ``total alive credit won`` fp32 and ``near arrived`` int8, ``[R]``.
        goal: ``threshold`` and ``ends`` of ``[B]``; empty without a subgoal.
        count: N.
        fade: γ^i of the first of these steps.
        discount: γ.
        gamma: the discount that the continuation was trained with.
        arrival, bonus, ending: of the objective.
    """
    heads, units = weight.shape
    rows = carry["total"].shape[0]
    steps = hidden.shape[1] // rows
    _receive[(rows,)](
        hidden, hidden.stride(0), hidden.stride(1), weight, bias, seen["similar"], seen["changed"],
        goal.get("threshold", weight), goal.get("ends", weight),
        carry["total"], carry["alive"], carry["credit"], carry["won"], carry["near"], carry["arrived"],
        rows, steps, count, units, fade, discount, gamma, bonus, ending,
        heads > 1, ending > 0, bool(goal), arrival, triton.next_power_of_2(units),
    )  # fmt: skip
