"""Where model and planner meet: small protocols over batches of sessions and candidates.

Beliefs are trees of tensors that planners carry, expand and gather without looking inside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from thick.planning.randomness import Randomness

if TYPE_CHECKING:
    from thick.runtimes.torch.high import Landing


class Score(NamedTuple):
    """What an objective says of candidates."""

    score: Tensor
    """[B, N] what a search maximises"""
    returns: Tensor
    """[B, N] the expected (discounted) sum of rewards in it, without any other credit"""


class SoFar(NamedTuple):
    """What a pause in a rollout tells."""

    length: int
    """steps that have been imagined"""
    score: Callable[[], Score]
    """the candidates' scores, as if the plan ended there"""


class Imaginer(Protocol):
    """What a search needs of a dynamics. Leading dimensions are ``[B]`` or ``[B, N]``."""

    def imagine(self, belief: Any, action: Tensor, uniforms: Tensor | None = None) -> Any:
        """The belief after an action ``[*B, A]``; ``uniforms`` ``[*B, draws]`` None takes the mode."""

    @property
    def draws(self) -> int:
        """Uniform numbers that one imagined step of one candidate needs (0: nothing is random)."""


class Dynamics(Imaginer, Protocol):
    """A model of what follows an action."""

    def initial(self, batch: int) -> Any:
        """The belief of ``batch`` sessions that have seen nothing."""

    def observe(
        self, belief: Any, action: Tensor, embedding: Tensor, is_first: Tensor, uniforms: Tensor | None = None
    ) -> Any:
        """The belief after an observation, ``[B]``; ``uniforms`` None takes the mode of the posterior."""

    def features(self, belief: Any) -> Tensor:
        """The feature that heads read, ``[*B, F]``."""


class Objective(Protocol):
    """What makes a trajectory good, folded over its steps so that no trajectory need be kept."""

    def start(self, belief: Any) -> Any:
        """The carry before the first step; ``belief`` ``[B, N, ...]`` is where all candidates start."""

    def step(self, carry: Any, belief: Any, action: Tensor) -> Any:
        """The carry after ``action`` ``[B, N, A]`` led to ``belief``."""

    def finish(self, carry: Any, belief: Any, length: int) -> Score:
        """Scores of trajectories that end in ``belief``; ``length`` is the horizon means are taken over."""


class Node(NamedTuple):
    """A state of a tree search and what each action leads to; leading dimensions ``[B]`` or ``[B, N]``."""

    logits: Tensor
    """[*B, G] logits of the prior over actions"""
    value: Tensor
    """[*B] expected return from here on, not counting what was received on arrival"""
    reward: Tensor
    """[*B, G] return received on the way of each action, discounted to the time of this state"""
    discount: Tensor
    """[*B, G] weight of the next state's value in this one's (0 where the episode ends)"""
    children: Any
    """the next states, a tree of tensors ``[*B, G, ...]``"""


class SearchModel(Protocol):
    """A model that a tree search can ask."""

    def root(self) -> Any:
        """The state where the search starts, a tree of tensors ``[B, ...]``."""

    def evaluate(self, state: Any) -> Node:
        """What is known of a state ``[*B, ...]`` and of what each action leads to."""


class LowModel(Imaginer, Protocol):
    """A dynamics with what searches ask of it (:class:`thick.runtimes.torch.model.FrozenDynamics`)."""

    stoch: int
    classes: int
    context: int

    def outcome(self, belief: Any) -> tuple[Tensor, Tensor | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``."""

    @property
    def has_actor(self) -> bool:
        """Whether there are an actor and a critic."""

    def value(self, belief: Any) -> Tensor:
        """The critic's value ``[*B]``."""

    def policy(self, belief: Any) -> tuple[Tensor, Tensor | None]:
        """Logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""


class HighModel(Protocol):
    """A high level with what searches ask of it (:class:`thick.runtimes.torch.high.FrozenHighLevel`)."""

    actions: int
    gamma: float

    def prior(self, stoch: Tensor, context: Tensor) -> Tensor:
        """Logits of p(A | s), ``[*B, G]``."""

    def segment_return(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> Tensor:
        """Return of the segment that high-level actions ``[*B]`` end, ``[*B]``."""

    def jump(
        self, stoch: Tensor, context: Tensor, high_action: Tensor, uniforms: Tensor | None = None
    ) -> Landing:
        """To just after the next context change."""

    def outcome(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and probability that the episode goes on, ``[*B]``."""

    @property
    def has_critic(self) -> bool:
        """Whether there is a coarse critic."""

    def value(self, stoch: Tensor, context: Tensor) -> Tensor:
        """The coarse critic's value, ``[*B]``."""


class PlanningModel(Protocol):
    """All that planning with two levels asks of a model (:class:`thick.runtimes.torch.model.FrozenModel`)."""

    device: torch.device

    @property
    def exact(self) -> LowModel:
        """The dynamics in full precision."""

    @property
    def search(self) -> LowModel:
        """The dynamics as candidates are imagined with."""

    @property
    def high(self) -> HighModel | None:
        """The high level, where there is one."""


class LowSearch(Protocol):
    """An anytime search over sequences of low-level actions."""

    iterations_done: int
    iterations_asked: int
    samples: int

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""

    def step(self) -> None:
        """One slice of work."""

    def sequence(self) -> Tensor:
        """The best plan so far ``[B, H, A]``; valid before the first slice too."""

    def expected_return(self) -> Tensor:
        """Expected return of that plan, ``[B]``; 0 before the first slice."""


class Evaluate(Protocol):
    """Scores of candidates."""

    def __call__(
        self, candidates: Tensor, randomness: Randomness, /
    ) -> Score | Generator[SoFar, None, Score]:
        """``[B, N, H, A]`` -> scores ``[B, N]``, at once or in parts."""
