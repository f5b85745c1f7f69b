"""What all sampling planners share: draw candidates, score them, refit, and have an answer at any time.

A planner (CEM, iCEM, MPPI, categorical CEM) is a :class:`Sampler`, the distribution it draws from and how that is
refitted. Everything is batched: ``[B sessions, N candidates, H steps, A]``.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple, Protocol

from thick import pytrees
from thick.arrays import Array, of
from thick.planning.protocols import Imaginer, Objective, Score, SoFar
from thick.planning.randomness import Randomness
from thick.planning.searches import Evaluate, Spent

PART = 1024
"""imagined steps of candidates between two pauses: a millisecond or two at the sizes that are served"""
TOGETHER = 1024
"""candidates of a session that are drawn and imagined together at most. Their number must not depend on who else is
in the batch, since the bits of a matrix product depend on its shape"""
DRAWN = 131_072
"""numbers that are drawn for them at most: long plans are drawn fewer at a time"""
FEWEST = 64
"""candidates that are drawn together at least"""


INFINITY = math.inf


class Proposals(NamedTuple):
    """Sequences that join the first candidates."""

    sequences: Array
    """[B, P, H, A]"""
    valid: Array
    """[B, P] bool; a drawn candidate stays where a proposal is not valid"""


class Warm(NamedTuple):
    """The previous plan, already shifted to the present."""

    sequence: Array
    """[B, H, A]"""
    valid: Array
    """[B] bool"""


class Sampler(Protocol):
    """A distribution over sequences of actions."""

    kept: int
    """elites of one iteration that join the candidates of the next"""

    def start(self, warm: Warm) -> Any:
        """Parameters before the first iteration (a tree of tensors ``[B, ...]``)."""

    def count(self, iteration: int) -> int:
        """Candidates of an iteration."""

    def sample(self, parameters: Any, count: int, randomness: Randomness) -> Array:
        """Candidates ``[B, count, H, A]`` as they are drawn, which may be beyond the range of actions."""

    def within(self, candidates: Array) -> Array:
        """The same ``[..., A]`` as they are imagined and done: at the end of the range where they are beyond it."""

    def refit(self, parameters: Any, elites: Array, scores: Array) -> Any:
        """Parameters after elites ``[B, M, H, A]`` with scores ``[B, M]``, best first."""

    def centre(self, parameters: Any) -> Array:
        """The middle of the distribution, ``[B, H, A]``."""

    def plan(self, parameters: Any, elites: Array, scores: Array) -> Array:
        """The plan ``[B, H, A]``, given the refitted parameters and the elites they were fitted to."""

    def alike(self, actions: Array, action: Array) -> Array:
        """Which of ``actions`` ``[B, M, A]`` are as good as the same as ``action`` ``[B, A]``, ``[B, M]`` bool."""


def weights(scores: Array, sharpness: float) -> Array:
    """Weights of elites, ``exp(score / (sharpness · spread))``, summing to 1, ``[B, M] -> [B, M]``.

    In units of the scores' own spread, so that they mean the same for every scale of reward: where all score alike all
    count alike, and where few found a reward these few count.
    """
    xp = of(scores)
    finite = xp.isfinite(scores)
    spread = xp.std(xp.where(finite, scores, 0.0), 1, keep=True)
    best = scores[:, :1]  # the first
    below = xp.where(finite, scores - xp.where(finite[:, :1], best, 0.0), -INFINITY)
    below = xp.where(finite[:, :1], below, 0.0)
    raw = xp.exp(below / xp.clip(sharpness * spread, 1e-6))
    return raw / xp.sum(raw, 1, keep=True)


def rollout(
    dynamics: Imaginer, objective: Objective, belief: Any, candidates: Array, randomness: Randomness | None
) -> Score:
    """Imagine every candidate and score it.

    Args:
        belief: ``[B, ...]``.
        candidates: ``[B, N, H, A]``.
        randomness: of the imagined states; None takes their modes.

    Returns:
        Scores ``[B, N]``.
    """
    return finished(rollout_in_parts(dynamics, objective, belief, candidates, randomness))


def rollout_in_parts(
    dynamics: Imaginer, objective: Objective, belief: Any, candidates: Array, randomness: Randomness | None
) -> Generator[SoFar, None, Score]:
    """:func:`rollout` with pauses: whoever shares the processor need not wait for a thousand candidates."""
    batch, count, length = candidates.shape[:3]
    stride = max(1, PART // (batch * count))
    belief = pytrees.expand(belief, count)
    carry = objective.start(belief)
    for index in range(length):
        if index and index % stride == 0:
            yield SoFar(index, partial(objective.finish, carry, belief, index))
        action = candidates[:, :, index]  # [B, N, A]
        uniforms = None
        if randomness is not None and dynamics.draws:
            uniforms = randomness.fold(index).uniform(count, dynamics.draws)
        belief = dynamics.imagine(belief, action, uniforms)
        carry = objective.step(carry, belief, action)
    return objective.finish(carry, belief, length)


def finished(parts: Generator[SoFar, None, Score]) -> Score:
    """What work in parts comes to, done in one go."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            score: Score = end.value
            return score


class _Iteration:
    """What has been drawn and scored of one iteration."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.candidates: list[Array] = []
        """[B, n, H, A] each"""
        self.scores: list[Score] = []
        self.scoring: Generator[SoFar, None, Score] | None = None
        """of the last candidates"""
        self.so_far: SoFar | None = None

    @property
    def drawn(self) -> int:
        """Candidates so far."""
        return sum(some.shape[1] for some in self.candidates)


class SamplingSearch:
    """An anytime search: an iteration takes a slice, or several where its candidates are many.

    Candidates are drawn and scored some at a time, so that a slice is short and memory bounded whatever is asked for.
    Before the first iteration is complete, the plan is the best of the candidates that were scored; while there is
    none, the best of those that are being imagined, as soon as half of the horizon is; before that, the plan so far.

    Args:
        sampler: what to draw candidates from.
        evaluate: scores candidates, at once or in parts (:func:`rollout_in_parts`).
        iterations: iterations of the whole budget.
        elites: candidates that the next iteration is fitted to.
        randomness: of this plan.
        warm: the previous plan; it starts the distribution where the sampler wants it, and is a candidate.
        proposals: further candidates of the first iteration.
        insert: an action ``[B, A]`` that a share of the first candidates takes at some step, or None.
        insert_share: that share.
        agreement: a session's search ends once this share of its elites begins as its plan does; 0: never early.
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        evaluate: Evaluate,
        iterations: int,
        elites: int,
        randomness: Randomness,
        warm: Warm,
        proposals: Proposals | None = None,
        insert: Array | None = None,
        insert_share: float = 0.0,
        agreement: float = 0.0,
    ) -> None:
        self.sampler, self.evaluate, self.elites = sampler, evaluate, elites
        self.randomness, self.warm, self.proposals = randomness, warm, proposals
        self.insert, self.insert_share = insert, insert_share
        self.agreement = agreement
        self.iterations_asked, self.iterations_done, self.samples = iterations, 0, 0
        self._parameters = sampler.start(warm)
        self._elites: Array | None = None
        # Before anything was scored the plan that was being followed is the best there is.
        centre = sampler.centre(self._parameters)
        xp = self._xp = of(centre)
        self._sequence = xp.where(warm.valid[:, None, None], warm.sequence, centre)  # [B, H, A]
        self._return = xp.zeros(centre.shape[0])
        self._proposals = self._first_proposals()
        self._now: _Iteration | None = None
        self._settled = xp.no(centre.shape[0])
        self._spent = Spent(xp.whole(centre.shape[0]), xp.whole(centre.shape[0]))  # of settled sessions
        self._best = xp.full(centre.shape[:1], -INFINITY)

    @property
    def done(self) -> bool:
        """Whether all iterations were made, or every session's elites agree."""
        if self.iterations_done >= self.iterations_asked:
            return True
        return self.agreement > 0 and bool(self._settled.all())

    def spent(self) -> Spent:
        """What was used so far; a session whose elites agreed uses no more."""
        batch = self._settled.shape[0]
        now = (self.iterations_done, self.samples)
        return Spent(
            *(
                self._xp.where(self._settled, then, self._xp.whole(batch) + count)
                for then, count in zip(self._spent, now, strict=True)
            )
        )

    def sequence(self) -> Array:
        """The plan so far, ``[B, H, A]``."""
        return self._so_far()[0]

    def expected_return(self) -> Array:
        """Mean return of the candidates it comes from, ``[B]``."""
        return self._so_far()[1]

    def step(self) -> None:
        """One iteration (sample, evaluate, refit), or the next part of one."""
        if self.done:
            return
        if self._now is None:
            self._now = _Iteration(self.sampler.count(self.iterations_done))
        now = self._now
        if now.scoring is None:
            randomness = self.randomness.fold(self.iterations_done).rows(now.drawn)
            candidates = self._draw(now, randomness)
            scored = self.evaluate(self.sampler.within(candidates), randomness.fold("rollout"))
            now.candidates.append(candidates)
            if isinstance(scored, Score):
                self._scored(now, scored)
                return
            now.scoring = scored
            if candidates.shape[0] * candidates.shape[1] > PART:
                return  # drawing so many was work enough
        try:
            now.so_far = next(now.scoring)
        except StopIteration as end:
            self._scored(now, end.value)

    def _scored(self, now: _Iteration, scored: Score) -> None:
        """The last candidates have scores; refit once all have."""
        now.scoring = now.so_far = None
        now.scores.append(scored._replace(score=self._xp.no_nan(scored.score, -INFINITY)))
        self.samples += scored.score.shape[1]
        if now.drawn == now.count:
            self._now = None
            if len(now.scores) == 1:
                self._learn(now.candidates[0], now.scores[0])
                return
            self._learn(
                self._xp.concat(now.candidates, 1),
                Score(*(self._xp.concat(part, 1) for part in zip(*now.scores, strict=True))),
            )
        elif self.iterations_done == 0:
            best, sequence, value = _best(self.sampler.within(now.candidates[-1]), now.scores[-1])
            better = best > self._best
            where = self._xp.where
            self._best = where(better, best, self._best)
            self._sequence = where(better[:, None, None], sequence, self._sequence)
            self._return = where(better, value, self._return)

    def _learn(self, candidates: Array, scored: Score) -> None:
        """Refit to the best of the candidates."""
        xp, rows = self._xp, self._xp.arange(candidates.shape[0])[:, None]
        scores, places = xp.top(scored.score, min(self.elites, candidates.shape[1]))  # best first
        elites = candidates[rows, places]  # [B, M, H, A]
        parameters = self.sampler.refit(self._parameters, elites, scores)
        sequence = self.sampler.plan(parameters, elites, scores)
        learnt = (parameters, elites, sequence, scored.returns[rows, places].mean(1))
        if self.agreement > 0 and self._elites is not None:
            # Who agreed already stays as it was: nobody's plan depends on who else is still searching.
            before = (self._parameters, self._elites, self._sequence, self._return)
            learnt = pytrees.where(self._settled, before, learnt)
        self._parameters, self._elites, self._sequence, self._return = learnt
        self.iterations_done += 1
        if self.agreement > 0:
            alike = self.sampler.alike(self.sampler.within(elites[:, :, 0]), sequence[:, 0])
            agreed = xp.as_float(alike).mean(1) >= self.agreement
            self._spent, self._settled = self.spent(), self._settled | agreed

    def _so_far(self) -> tuple[Array, Array]:
        """Plan and expected return."""
        now = self._now
        if self.iterations_done or now is None or now.scores or now.so_far is None:
            return self._sequence, self._return
        candidates = self.sampler.within(now.candidates[-1])
        if 2 * now.so_far.length < candidates.shape[2]:
            return self._sequence, self._return
        scored = now.so_far.score()
        scored = scored._replace(score=self._xp.no_nan(scored.score, -INFINITY))
        return _best(candidates, scored)[1:]

    def _draw(self, now: _Iteration, randomness: Randomness) -> Array:
        """The next candidates ``[B, n, H, A]`` of an iteration."""
        first = now.drawn
        count = min(together(now.count, self._sequence.shape[1] * self._sequence.shape[2]), now.count - first)
        candidates = self.sampler.sample(self._parameters, count, randomness.fold("candidates"))
        if self.iterations_done == 0:
            self._insert(candidates, first, now.count)
            self._place(candidates, first, self._proposals)
        elif self.sampler.kept and self._elites is not None:
            kept = self._elites[:, : self.sampler.kept][:, first : first + count]
            candidates[:, : kept.shape[1]] = kept
        return candidates

    def _insert(self, candidates: Array, first: int, count: int) -> None:
        """Let the last of all candidates take the inserted action, each at another step."""
        share = int(self.insert_share * count)
        if self.insert is None or share == 0:
            return
        begin, end = (
            count - share,
            first + candidates.shape[1],
        )  # where they begin, and where these candidates end
        at = self._xp.arange(max(begin, first), max(begin, end)) - first
        candidates[:, at, (at + first - begin) % candidates.shape[2]] = self.insert[:, None]

    def _first_proposals(self) -> Proposals:
        xp, warm, valid = self._xp, self.warm.sequence[:, None], self.warm.valid[:, None]
        if self.insert is not None and self.insert_share > 0:
            # The plan so far, cut short by the inserted action at every step.
            length = warm.shape[2]
            here = (xp.eye(length) > 0)[None, :, :, None]  # [1, H, H, 1]
            cut = xp.where(here, self.insert[:, None, None, :], warm)  # [B, H, H, A]
            warm, valid = xp.concat([warm, cut], 1), xp.expand(valid, -1, 1 + length)
        if self.proposals is None:
            return Proposals(warm, valid)
        return Proposals(
            xp.concat([warm, self.proposals.sequences], 1), xp.concat([valid, self.proposals.valid], 1)
        )

    def _place(self, candidates: Array, first: int, proposals: Proposals) -> None:
        """Put the proposals in the place of the first of all candidates."""
        sequences, valid = (part[:, first : first + candidates.shape[1]] for part in proposals)
        count = sequences.shape[1]
        candidates[:, :count] = self._xp.where(valid[:, :, None, None], sequences, candidates[:, :count])


def together(count: int, numbers: int) -> int:
    """How many of so many candidates of so many numbers each are drawn and imagined at a time: about equally many
    each time, since a few left over would be computed by other means, and so with other bits."""
    most = max(FEWEST, min(TOGETHER, DRAWN // numbers))
    return -(-count // -(-count // most))


def _best(candidates: Array, scored: Score) -> tuple[Array, Array, Array]:
    """Score ``[B]``, sequence ``[B, H, A]`` and return ``[B]`` of the best candidate."""
    place = scored.score.argmax(1)
    rows = of(place).arange(place.shape[0])
    return scored.score[rows, place], candidates[rows, place], scored.returns[rows, place]
