"""Rollouts of the actor, one step better than it: what each first action leads to when the actor goes on from there.

With Q(a) the mean score of the rollouts that begin with a, an action is drawn from

    π̄(a) ∝ π(a) · exp(Q(a) / (τ · σ)),

the policy that improves on π as far as a penalty on leaving it allows (Abdolmaleki et al., 2018, MPO; Grill et al.,
2020, which reads tree search so). σ is the spread of one rollout's score, so that τ means the same for every scale of
reward. Rollouts follow the actor in the states that they reach (Tesauro and Galperin, 1996), where the candidates of
other searches are sequences fixed beforehand: a plan that cannot react is worth less than a policy that can, and the
best of hundreds of noisy candidates is often the luckiest. Here only means are compared.
"""

from __future__ import annotations

import math

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.low import LowProblem, act
from thick.planning.protocols import Objective
from thick.planning.randomness import Randomness
from thick.planning.searches import LowSearch, Spent

LOT = 128
"""rollouts of a session that are imagined together, about; a share of them for each first action"""
SLICE = 128
"""imagined steps between two pauses: a millisecond or two, since each also asks the actor and the heads"""
FIRST = 16
"""first actions that are compared where actions are continuous: drawn from the actor"""
SMALLEST = 1e-6
"""spread of scores below which they count as equal"""


class PolicyRollouts:
    """An anytime search: some steps of some rollouts a slice. Before the first are complete, the actor's own draw.

    Args:
        problem: what is asked; its dynamics have an actor. ``samples`` rollouts are made in each iteration.
    """

    def __init__(self, problem: LowProblem) -> None:
        self._problem, settings = problem, problem.settings
        self._horizon, self._tau, self._temperature = settings.horizon, settings.tau, settings.temperature
        belief = pytrees.expand(problem.belief, 1)
        output, std = problem.dynamics.policy(belief)
        xp = self._xp = of(output)
        batch = self._batch = int(output.shape[0])
        noise = problem.randomness.fold("first")
        if std is None:
            count = int(output.shape[-1])
            self._prior = xp.log(xp.softmax(output[:, 0]))  # [B, K]
            self._first = xp.expand(xp.one_hot(xp.arange(count), count), batch, -1, -1)  # [B, K, A]
        else:
            count = min(FIRST, settings.samples)
            self._prior = xp.zeros(batch, count)  # they are drawn from it
            many = pytrees.expand(problem.belief, count)
            self._first = act(problem.dynamics, many, problem.actions, noise, temperature=1.0)
        self._count = count
        self._lots = _lots(max(1, settings.samples // count), max(1, LOT // count))
        """rollouts of each first action, a lot at a time, in one iteration"""
        self.iterations_asked, self.iterations_done, self.samples = settings.iterations, 0, 0
        self._made = 0
        """lots that are complete"""
        self._each = 0
        """rollouts of each first action in them"""
        zeros = xp.zeros(batch, count)
        self._scores, self._squares, self._returns = zeros, zeros, zeros
        """sums over rollouts, ``[B, K]``; of scores less the origin, whose squares keep their digits"""
        self._origin: Array | None = None
        """the first rollout's score, ``[B, 1, 1]``"""
        self._best = xp.full((batch, count), -math.inf)
        self._plans = xp.stack([self._first] * self._horizon, 2)
        """the best rollout so far that begins with each first action, ``[B, K, H, A]``"""
        self._lot: _Lot | None = None

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""
        return self.iterations_done >= self.iterations_asked

    def step(self) -> None:
        """Some steps of the rollouts of a lot."""
        if self.done:
            return
        if self._lot is None:
            each = self._lots[self._made % len(self._lots)]
            self._lot = _Lot(self._problem, self._first, each, self._problem.randomness.fold(self._made))
        lot = self._lot
        for _ in range(max(1, SLICE // (self._batch * lot.rows))):
            lot.step()
            if lot.length == self._horizon:
                self._complete(lot)
                return

    def _complete(self, lot: _Lot) -> None:
        """Add a lot's rollouts to what is known of each first action."""
        xp, count, each = self._xp, self._count, lot.each
        objective: Objective = self._problem.objective  # type: ignore[assignment]  # whose carry is its own
        found = objective.finish(lot.carry, lot.belief, self._horizon)
        scores, returns = (
            part.reshape(self._batch, each, count) for part in (xp.no_nan(found.score, 0.0), found.returns)
        )
        if self._origin is None:
            self._origin = scores[:, :1, :1]
        scores = scores - self._origin
        self._scores = self._scores + scores.sum(1)
        self._squares = self._squares + (scores * scores).sum(1)
        self._returns = self._returns + returns.sum(1)
        plans = xp.stack(lot.actions, 2).reshape(self._batch, each, count, self._horizon, -1)
        place = scores.argmax(1)  # [B, K]
        rows, firsts = xp.arange(self._batch)[:, None], xp.arange(count)[None]
        best = scores[rows, place, firsts]
        better = best > self._best
        self._plans = xp.where(better[:, :, None, None], plans[rows, place, firsts], self._plans)
        self._best = xp.where(better, best, self._best)
        self._each += each
        self.samples += lot.rows
        self._made += 1
        self._lot = None
        if self._made % len(self._lots) == 0:
            self.iterations_done += 1

    def _chosen(self) -> Array:
        """The first action that is taken, ``[B]``; the same however often it is asked."""
        xp, logits = self._xp, self._prior
        if self._each:
            mean = self._scores / self._each
            spread = (
                xp.sum(xp.clip(self._squares / self._each - mean * mean, 0.0), 1, keep=True) / self._count
            )
            unit = self._tau * xp.clip(xp.sqrt(spread), SMALLEST)
            logits = logits + (mean - xp.max(mean, 1, keep=True)) / unit
        if self._temperature > 0:
            drawn: Randomness = self._problem.randomness.fold("draw")
            logits = logits / self._temperature + drawn.gumbel(self._count)
        return logits.argmax(-1)

    def sequence(self) -> Array:
        """The chosen first action, and the best rollout that begins with it, ``[B, H, A]``."""
        plans: Array = self._plans[self._xp.arange(self._batch), self._chosen()]
        return plans

    def expected_return(self) -> Array:
        """Mean return of the rollouts that begin with it, ``[B]``."""
        if not self._each:
            return self._xp.zeros(self._batch)
        returns: Array = self._returns[self._xp.arange(self._batch), self._chosen()] / self._each
        return returns

    def spent(self) -> Spent:
        """The same for every session."""
        nothing = self._xp.whole(self._batch)
        return Spent(nothing + self.iterations_done, nothing + self.samples)


class _Lot:
    """Rollouts that are imagined together, ``each`` for every first action.

    Args:
        first: ``[B, K, A]``.
    """

    def __init__(self, problem: LowProblem, first: Array, each: int, randomness: Randomness) -> None:
        self._problem, self._randomness = problem, randomness
        self.each, self.rows = each, each * first.shape[1]
        self._first = of(first).concat([first] * each, 1)  # [B, each · K, A]
        self.belief = pytrees.expand(problem.belief, self.rows)
        self.carry = problem.objective.start(self.belief)
        self.actions: list[Array] = []
        """``[B, each · K, A]`` each"""

    @property
    def length(self) -> int:
        """Steps that have been imagined."""
        return len(self.actions)

    def step(self) -> None:
        """One step of all of them."""
        problem, noise = self._problem, self._randomness.fold(self.length)
        dynamics = problem.dynamics
        objective: Objective = problem.objective  # type: ignore[assignment]  # whose carry is its own
        action = self._first
        if self.actions:
            action = act(dynamics, self.belief, problem.actions, noise.fold("action"), temperature=1.0)
        uniforms = None
        if problem.settings.stochastic and dynamics.draws:
            uniforms = noise.fold("state").uniform(self.rows, dynamics.draws)
        self.belief = dynamics.imagine(self.belief, action, uniforms)
        self.carry = objective.step(self.carry, self.belief, action)
        self.actions.append(action)


def _lots(each: int, most: int) -> tuple[int, ...]:
    """``each`` in parts of about the same size, none larger than ``most``."""
    parts = -(-each // most)
    return tuple(each // parts + (index < each % parts) for index in range(parts))


def low_search(problem: LowProblem) -> LowSearch:
    """Rollouts of the actor for a problem."""
    return PolicyRollouts(problem)
