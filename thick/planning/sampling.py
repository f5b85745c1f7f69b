"""What all sampling planners share: draw candidates, score them, refit, and have an answer at any time.

A planner (CEM, iCEM, MPPI, categorical CEM) is a :class:`Sampler`, the distribution it draws from and how that is
refitted. Everything is batched: ``[B sessions, N candidates, H steps, A]``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from thick.planning import pytrees
from thick.planning.protocols import Evaluate, Imaginer, Objective, Score
from thick.planning.randomness import Randomness

PART = 2048
"""imagined steps of candidates between two pauses: a few milliseconds at the sizes that are served"""


class Proposals(NamedTuple):
    """Sequences that join the first candidates."""

    sequences: Tensor
    """[B, P, H, A]"""
    valid: Tensor
    """[B, P] bool; a drawn candidate stays where a proposal is not valid"""


class Warm(NamedTuple):
    """The previous plan, already shifted to the present."""

    sequence: Tensor
    """[B, H, A]"""
    valid: Tensor
    """[B] bool"""


class Sampler(Protocol):
    """A distribution over sequences of actions."""

    kept: int
    """elites of one iteration that join the candidates of the next"""

    def start(self, warm: Warm) -> Any:
        """Parameters before the first iteration (a tree of tensors ``[B, ...]``)."""

    def count(self, iteration: int) -> int:
        """Candidates of an iteration."""

    def sample(self, parameters: Any, count: int, randomness: Randomness) -> Tensor:
        """Candidates ``[B, count, H, A]``."""

    def refit(self, parameters: Any, elites: Tensor, scores: Tensor) -> Any:
        """Parameters after elites ``[B, M, H, A]`` with scores ``[B, M]``, best first."""

    def centre(self, parameters: Any) -> Tensor:
        """The middle of the distribution, ``[B, H, A]``."""

    def plan(self, parameters: Any, elites: Tensor, scores: Tensor) -> Tensor:
        """The plan ``[B, H, A]``, given the refitted parameters and the elites they were fitted to."""


def weights(scores: Tensor, sharpness: float) -> Tensor:
    """Weights of elites, ``exp(score / (sharpness · spread))``, summing to 1, ``[B, M] -> [B, M]``.

    In units of the scores' own spread, so that they mean the same for every scale of reward: where all score alike all
    count alike, and where few found a reward these few count.
    """
    finite = torch.isfinite(scores)
    spread = scores.masked_fill(~finite, 0.0).std(1, keepdim=True, correction=0)
    below = torch.where(finite, scores - scores[:, :1], -torch.inf)  # the first is the best
    below = torch.where(finite[:, :1], below, 0.0)
    raw = (below / (sharpness * spread).clamp_min(1e-6)).exp()
    return raw / raw.sum(1, keepdim=True)


def rollout(
    dynamics: Imaginer, objective: Objective, belief: Any, candidates: Tensor, randomness: Randomness | None
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
    dynamics: Imaginer, objective: Objective, belief: Any, candidates: Tensor, randomness: Randomness | None
) -> Generator[Score | None, None, Score]:
    """:func:`rollout` with pauses: whoever shares the processor need not wait for thousands of candidates.

    Many candidates are imagined some at a time, in as much memory as these take; the pause after them gives their
    scores ``[B, n]``, the other pauses None.
    """
    batch, count = candidates.shape[:2]
    size = max(1, PART // batch)
    scores: list[Score] = []
    for first in range(0, count, size):
        if scores:
            yield scores[-1]
        some = candidates[:, first : first + size]
        scores.append((yield from _imagined(dynamics, objective, belief, some, randomness, first)))
    return scores[0] if len(scores) == 1 else Score(*(torch.cat(part, 1) for part in zip(*scores, strict=True)))


def _imagined(
    dynamics: Imaginer,
    objective: Objective,
    belief: Any,
    candidates: Tensor,
    randomness: Randomness | None,
    first: int,
) -> Generator[None, None, Score]:
    """Scores of the candidates from ``first`` on; their numbers do not depend on how many are imagined at a time."""
    batch, count, length = candidates.shape[:3]
    stride = max(1, PART // (batch * count))
    belief = pytrees.expand(belief, count)
    carry = objective.start(belief)
    for index in range(length):
        if index and index % stride == 0:
            yield
        action = candidates[:, :, index]  # [B, N, A]
        uniforms = None
        if randomness is not None and dynamics.draws:
            uniforms = randomness.fold(index).uniform(count, dynamics.draws, first=first * dynamics.draws)
        belief = dynamics.imagine(belief, action, uniforms)
        carry = objective.step(carry, belief, action)
    return objective.finish(carry, belief, length)


def finished(parts: Generator[Score | None, None, Score]) -> Score:
    """What work in parts comes to, done in one go."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            score: Score = end.value
            return score


class SamplingSearch:
    """An anytime search: one iteration a slice, or several slices an iteration where scores come in parts.

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
        insert: Tensor | None = None,
        insert_share: float = 0.0,
    ) -> None:
        self.sampler, self.evaluate, self.elites = sampler, evaluate, elites
        self.randomness, self.warm, self.proposals = randomness, warm, proposals
        self.insert, self.insert_share = insert, insert_share
        self.iterations_asked, self.iterations_done, self.samples = iterations, 0, 0
        self._parameters = sampler.start(warm)
        self._elites: Tensor | None = None
        # Before anything was scored the plan that was being followed is the best there is.
        centre = sampler.centre(self._parameters)
        self._sequence = torch.where(warm.valid[:, None, None], warm.sequence, centre)  # [B, H, A]
        self._return = torch.zeros(centre.shape[0], device=centre.device)
        self._scoring: tuple[Tensor, Generator[Score | None, None, Score]] | None = None
        self._unfinished = 0  # candidates of the present iteration that have been scored
        self._best = torch.full(centre.shape[:1], -torch.inf, device=centre.device)

    @property
    def done(self) -> bool:
        """Whether all iterations were made."""
        return self.iterations_done >= self.iterations_asked

    def sequence(self) -> Tensor:
        """The plan so far, ``[B, H, A]``."""
        return self._sequence

    def expected_return(self) -> Tensor:
        """Mean return of the elites it comes from, ``[B]``."""
        return self._return

    def step(self) -> None:
        """One iteration (sample, evaluate, refit), or the next part of one."""
        if self.done:
            return
        if self._scoring is None:
            randomness = self.randomness.fold(self.iterations_done)
            candidates = self._candidates(randomness)
            scored = self.evaluate(candidates, randomness.fold("rollout"))
            if isinstance(scored, Score):
                self._learn(candidates, scored)
                return
            self._scoring = candidates, scored
            if candidates.shape[0] * candidates.shape[1] > PART:
                return  # drawing so many was work enough
        candidates, parts = self._scoring
        try:
            some = next(parts)
        except StopIteration as end:
            self._scoring = None
            self._learn(candidates, end.value)
        else:
            if some is not None:
                self._note(candidates, some)

    def _note(self, candidates: Tensor, scored: Score) -> None:
        """Some candidates of an iteration have scores. In the first, the best of them is the plan so far."""
        size = scored.score.shape[1]
        some = candidates[:, self._unfinished : self._unfinished + size]
        self._unfinished += size
        self.samples += size
        if self.iterations_done:
            return
        score, place = torch.nan_to_num(scored.score, nan=-torch.inf).max(1)
        rows = torch.arange(score.shape[0], device=score.device)
        better = score > self._best
        self._best = torch.where(better, score, self._best)
        self._sequence = torch.where(better[:, None, None], some[rows, place], self._sequence)
        self._return = torch.where(better, scored.returns[rows, place], self._return)

    def _learn(self, candidates: Tensor, scored: Score) -> None:
        """Refit to the best of the candidates."""
        score, returns = scored
        score = torch.nan_to_num(score, nan=-torch.inf)
        top = score.topk(min(self.elites, candidates.shape[1]), dim=1)  # best first
        rows = torch.arange(candidates.shape[0], device=score.device).unsqueeze(1)
        elites = candidates[rows, top.indices]  # [B, M, H, A]
        self._parameters = self.sampler.refit(self._parameters, elites, top.values)
        self._elites = elites
        self._sequence = self.sampler.plan(self._parameters, elites, top.values)
        self._return = returns.gather(1, top.indices).mean(1)
        self.iterations_done += 1
        self.samples += candidates.shape[1] - self._unfinished
        self._unfinished = 0

    def _candidates(self, randomness: Randomness) -> Tensor:
        count = self.sampler.count(self.iterations_done)
        candidates = self.sampler.sample(self._parameters, count, randomness.fold("candidates"))
        if self.iterations_done == 0:
            self._insert(candidates)
            self._place(candidates, self._first_proposals())
        elif self.sampler.kept and self._elites is not None:
            kept = min(self.sampler.kept, self._elites.shape[1], count)
            candidates[:, :kept] = self._elites[:, :kept]
        return candidates

    def _insert(self, candidates: Tensor) -> None:
        """Let the last candidates take the inserted action, each at another step."""
        share = int(self.insert_share * candidates.shape[1])
        if self.insert is None or share == 0:
            return
        place = torch.arange(share, device=candidates.device)
        first = candidates.shape[1] - share
        candidates[:, first + place, place % candidates.shape[2]] = self.insert.unsqueeze(1)

    def _first_proposals(self) -> Proposals:
        warm, valid = self.warm.sequence.unsqueeze(1), self.warm.valid.unsqueeze(1)
        if self.insert is not None and self.insert_share > 0:
            # The plan so far, cut short by the inserted action at every step.
            length = warm.shape[2]
            here = torch.eye(length, dtype=torch.bool, device=warm.device)[None, :, :, None]  # [1, H, H, 1]
            cut = torch.where(here, self.insert[:, None, None, :], warm)  # [B, H, H, A]
            warm, valid = torch.cat([warm, cut], 1), valid.expand(-1, 1 + length)
        if self.proposals is None:
            return Proposals(warm, valid)
        return Proposals(
            torch.cat([warm, self.proposals.sequences], 1), torch.cat([valid, self.proposals.valid], 1)
        )

    @staticmethod
    def _place(candidates: Tensor, proposals: Proposals) -> None:
        count = min(proposals.sequences.shape[1], candidates.shape[1])
        valid = proposals.valid[:, :count, None, None]
        candidates[:, :count] = torch.where(valid, proposals.sequences[:, :count], candidates[:, :count])
