"""Where model and planner meet: small protocols over batches of sessions and candidates.

Arrays are numpy's or torch's (:mod:`thick.arrays`), all of one kind in one search. Beliefs are trees of arrays that
planners carry, expand and gather without looking inside. Numbers are float32, classes and indices int64, masks bool.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from thick.arrays import Array, Arrays
from thick.models.beliefs import Belief, Landing
from thick.planning.randomness import Randomness


class Score(NamedTuple):
    """What an objective says of candidates."""

    score: Array
    """[B, N] what a search maximises"""
    returns: Array
    """[B, N] the expected (discounted) sum of rewards in it, without any other credit"""


class SoFar(NamedTuple):
    """What is known at a pause in a rollout."""

    length: int
    """steps that have been imagined"""
    score: Callable[[], Score]
    """the candidates' scores, as if the plan ended there"""


class Imaginer(Protocol):
    """What a search needs of a dynamics. Leading dimensions are ``[B]`` or ``[B, N]``."""

    def imagine(self, belief: Any, action: Array, uniforms: Array | None = None) -> Any:
        """The belief after an action ``[*B, A]``; ``uniforms`` ``[*B, draws]`` None takes the mode."""

    @property
    def draws(self) -> int:
        """Uniform numbers that one imagined step of one candidate needs (0: nothing is random)."""


class Dynamics(Imaginer, Protocol):
    """A model of what follows an action."""

    def initial(self, batch: int) -> Any:
        """The belief of ``batch`` sessions that have seen nothing."""

    def observe(
        self, belief: Any, action: Array, embedding: Array, is_first: Array, uniforms: Array | None = None
    ) -> Any:
        """The belief after an observation, ``[B]``; ``uniforms`` None takes the mode of the posterior."""

    def features(self, belief: Any) -> Array:
        """The feature that heads read, ``[*B, F]``."""


class Objective(Protocol):
    """What makes a trajectory good, folded over its steps so that no trajectory need be kept."""

    def start(self, belief: Any) -> Any:
        """The carry before the first step; ``belief`` ``[B, N, ...]`` is where all candidates start."""

    def step(self, carry: Any, belief: Any, action: Array) -> Any:
        """The carry after ``action`` ``[B, N, A]`` led to ``belief``."""

    def finish(self, carry: Any, belief: Any, length: int) -> Score:
        """Scores of trajectories that end in ``belief``; ``length`` is the horizon means are taken over."""


class RolloutObjective(NamedTuple):
    """An objective in numbers, for who imagines and scores candidates in one go (:class:`Rollouts`).

    With r[i], P[i] the reward and the probability that the episode goes on after step i = 1 … H (P = 1 without such a
    head), γ the discount, alive[i] = P[1] · … · P[i] (alive[0] = 1) and V the critic's value of the last belief,

        returns = Σ_i γ^(i-1) · alive[i-1] · r[i]   (+ γ^H · alive[H] · V where ``critic``),   score = returns / H.

    With a subgoal the score also has κ / H · Σ_i credit[i], as :class:`thick.planning.objectives.SubgoalObjective`:

        similarity[i] = mean over S of Σ_K p · goal / √(Σ_K p²),   p = exp(clip(logits[i], -40, 40))
        near[i]       = similarity[i] ≥ threshold                  (near[0]: of the belief the rollout starts from)
        changed[i]    = any(gates[i] > 0) and Σ_C (context[i] - context)² < distance
        ended[i]      = ends and alive[i] < ½ and alive[i-1] ≥ ½
        arrived[i]    = arrived[i-1] or near[i-1] and (changed[i] or ended[i])      (arrived[0] is false)
        won[i]        = alive[i-1] - alive[i] where 0 < ending < r[i], else 0      (the share that ends with a reward)
        credit[i]     = 1 + bonus where arrived[i],
                        else (alive[i-1] - won[i]) · similarity[i] + (1 + bonus) · Σ_j≤i won[j]

    and without ``arrival`` nothing has arrived and bonus is 0.
    """

    discount: float
    """γ"""
    critic: bool
    """whether V counts"""
    goal: Array | None
    """[B, S, K] probabilities of ẑ[τ-1], each group divided by its length; None without a subgoal"""
    threshold: Array | None
    """[B] similarity that counts as being at the subgoal"""
    context: Array | None
    """[B, C] c[τ]"""
    distance: Array | None
    """[B] squared distance from the present context to c[τ]"""
    ends: Array | None
    """[B] bool, the episode is expected to end with the change"""
    kappa: float
    """κ"""
    arrival: bool
    """whether there is credit for the change"""
    bonus: float
    """credit of each step after the change, beyond 1"""
    ending: float = 0.0
    """an end on which more than this reward is expected counts as an arrival; 0: no end does"""


@runtime_checkable
class Rollouts(Protocol):
    """What ``model.search`` may have besides :class:`LowModel`: whole candidates imagined and scored in one go.

    A sampling search uses it instead of a call for each step. It must give what the steps give, up to rounding.
    """

    def rollout(
        self, belief: Belief, candidates: Array, objective: RolloutObjective, randomness: Randomness | None
    ) -> Generator[SoFar, None, Score]:
        """Imagine every candidate and score it, with a pause about every millisecond or two.

        A session's scores must not depend on the other sessions or on how the work is cut.

        Args:
            belief: ``[B, ...]``, where all candidates of a session start; in it z is a class everywhere (no -1).
            candidates: ``[B, N, H, A]`` float32, one-hots where actions are discrete. Not kept after the last pause.
            objective: what makes a candidate good.
            randomness: z of step i = 0 … H-1 is drawn by inverse CDF from
                ``randomness.fold(i).uniform(N, draws)``, ``[B, N, draws]`` (which may also be computed where it is
                used: its keys and row say all, see :class:`~thick.planning.randomness.Randomness`); None takes modes.

        Yields:
            :class:`SoFar`. Who works candidate by candidate says ``length = H`` and gives a score of -inf to
            candidates that were not reached yet; before any was finished, ``length = 0``.

        Returns:
            Scores ``[B, N]``.
        """


_OFFERED: dict[tuple[type, type], bool] = {}


def offers(model: Any, protocol: type) -> bool:
    """Whether a model has what a protocol asks for. Looked up once for each type: every act asks."""
    key = type(model), protocol
    found = _OFFERED.get(key)
    if found is None:
        found = _OFFERED[key] = isinstance(model, protocol)
    return found


class Node(NamedTuple):
    """A state of a tree search and what each action leads to; leading dimensions ``[B]`` or ``[B, N]``."""

    prior: Array
    """[*B, G] probabilities of the actions, before any search"""
    value: Array
    """[*B] expected return from here on, not counting what was received on arrival"""
    reward: Array
    """[*B, G] return received on the way of each action, discounted to the time of this state"""
    discount: Array
    """[*B, G] weight of the next state's value in this one's (0 where the episode ends)"""
    children: Any
    """the next states, a tree of arrays ``[*B, G, ...]``"""


class SearchModel(Protocol):
    """A model that a tree search can ask."""

    def root(self) -> Any:
        """The state where the search starts, a tree of arrays ``[B, ...]``."""

    def evaluate(self, state: Any) -> Node:
        """What is known of a state ``[*B, ...]`` and of what each action leads to."""


class LowModel(Imaginer, Protocol):
    """A dynamics with what searches ask of it (:class:`thick.runtimes.torch.dynamics.FrozenDynamics`)."""

    stoch: int
    classes: int
    context: int
    gamma: float
    """the discount that the model was trained with"""

    def outcome(self, belief: Any) -> tuple[Array, Array | None]:
        """Reward received on arriving in the belief, and the probability that the episode goes on; ``[*B]``."""

    @property
    def has_actor(self) -> bool:
        """Whether there are an actor and a critic."""

    def value(self, belief: Any) -> Array:
        """The critic's value ``[*B]``."""

    def policy(self, belief: Any) -> tuple[Array, Array | None]:
        """Logits ``[*B, A]`` and None, or mean and standard deviation ``[*B, A]``."""


class HighModel(Protocol):
    """A high level with what searches ask of it (:class:`thick.runtimes.torch.high.FrozenHighLevel`)."""

    actions: int
    gamma: float

    def prior(self, stoch: Array, context: Array) -> Array:
        """Logits of p(A | s), ``[*B, G]``."""

    def segment_return(self, stoch: Array, context: Array, high_action: Array) -> Array:
        """Return of the segment that high-level actions ``[*B]`` end, ``[*B]``."""

    def jump(
        self, stoch: Array, context: Array, high_action: Array, uniforms: Array | None = None
    ) -> Landing:
        """To just after the next context change."""

    def outcome(self, stoch: Array, context: Array) -> tuple[Array, Array]:
        """Reward and probability that the episode goes on, ``[*B]``."""

    @property
    def has_critic(self) -> bool:
        """Whether there is a coarse critic."""

    def value(self, stoch: Array, context: Array) -> Array:
        """The coarse critic's value, ``[*B]``."""


class ManagerModel(Protocol):
    """A manager and its worker with what acting asks of them (:class:`thick.runtimes.torch.goals.FrozenManager`)."""

    every: int
    """steps for which a goal is held"""
    size: int
    """D, of a goal"""
    draws: int
    """uniform numbers that a choice needs"""

    def goal(self, belief: Any, uniforms: Array) -> Array:
        """Goals ``[*B, D]`` that the manager draws, by ``uniforms`` ``[*B, draws]``."""

    def policy(self, belief: Any, goal: Array) -> tuple[Array, Array | None]:
        """The worker on the way to ``goal`` ``[*B, D]``: logits ``[*B, A]`` and None, or mean and deviation."""

    def value(self, belief: Any) -> Array:
        """Expected return ``[*B]``."""


class JumpState(NamedTuple):
    """A state of the high-level search; leading dimensions ``[*B]``."""

    stoch: Array
    """[*B, S] classes of z"""
    context: Array
    """[*B, C]"""
    reward: Array
    """[*B] reward received on arriving here"""
    elapsed: Array
    """[*B] steps of the jump that led here (0 at the root)"""


@runtime_checkable
class Expansion(Protocol):
    """What ``model.high`` may have besides :class:`HighModel`: a node of the high-level search in one call.

    The search uses it instead of a call for each head. It must give what :class:`thick.planning.jumps.JumpModel` makes
    of the heads, up to rounding.
    """

    def expand(self, state: JumpState, *, critic: bool) -> Node:
        """What is known of states ``[*B]`` (one or two leading dimensions) and of all their jumps, modes throughout.

        With ``landing`` the jump of each high-level action from the state, γ = ``gamma``, Δ = ``landing.elapsed``:

            prior    = softmax of the logits p(A | s)                                                 [*B, G]
            reward   = (segment - state.reward) / γ + γ^(Δ-1) · landing.reward                         [*B, G]
            discount = γ^Δ · landing.continuation                                                     [*B, G]
            value    = the coarse critic's where ``critic``, else Σ_G prior · reward                   [*B]
            children = JumpState(landing.stoch, landing.context, landing.reward, landing.elapsed)     [*B, G, ...]
        """


class Seen(NamedTuple):
    """Several levels of a tree behind M states, G = the number of high-level actions."""

    nodes: tuple[dict[str, Any], ...]
    """for each level l = 0 …: numpy float32 arrays ``prior reward discount elapsed`` of ``[M · G^l, G]`` and ``value``
    of ``[M · G^l]``, the node behind action g of node i at place i · G + g; as :class:`Node` has them, ``elapsed`` the
    steps of each jump"""
    stoch: Array
    """[M · G^levels, S] classes of the states behind the last level"""
    context: Array
    """[M · G^levels, C]"""
    reward: Array
    """[M · G^levels] received on arriving there"""


@runtime_checkable
class Lookahead(Protocol):
    """What ``model.high`` may have besides :class:`HighModel`: the nodes of several levels in one call.

    For devices where a call costs far more than a row. A tree search then keeps its counts on the host
    (:mod:`thick.planning.ahead`). The numbers must be those of :class:`thick.planning.jumps.JumpModel`, up to rounding.
    """

    rows: int
    """jumps of the last level of a call that cost little more than one"""

    def look_ahead(self, state: JumpState, levels: int, *, critic: bool) -> Seen:
        """The nodes of states ``[M]`` and, where ``levels`` > 1, of those behind them."""


class PlanningModel(Protocol):
    """All that planning with two levels asks of a model (:class:`thick.runtimes.torch.model.FrozenModel`)."""

    @property
    def arrays(self) -> Arrays:
        """The operations for the arrays that the model takes and gives."""

    @property
    def exact(self) -> LowModel:
        """The dynamics in full precision."""

    @property
    def search(self) -> LowModel:
        """The dynamics as candidates are imagined with."""

    @property
    def high(self) -> HighModel | None:
        """The high level, where there is one."""

    @property
    def manager(self) -> ManagerModel | None:
        """A manager and its worker, where there are such."""


class AgentModel(PlanningModel, Protocol):
    """All that an agent asks of a trained model (:class:`thick.runtimes.torch.model.FrozenModel` is one)."""

    def initial(self, batch: int) -> Belief:
        """The belief before anything was seen: z is -1."""

    def begin(self, nothing: Array, uniforms: Array | None = None) -> Belief:
        """The belief at the first step of an episode before its observation, with z drawn from the prior by
        ``uniforms`` ``[B, draws]``, or its mode; ``nothing`` ``[B, A]`` is zero, in place of an action."""

    def observe(self, belief: Belief, action: Array, embedding: Array, is_first: Array) -> Belief:
        """The belief after ``action`` ``[B, A]`` led to an observation with ``embedding`` ``[B, E]``; belief and action
        count for nothing where ``is_first`` ``[B]``."""

    def encode(self, observation: Any) -> Array:
        """Embeddings ``[B, E]`` of a batch of observations."""

    def decode(self, belief: Belief) -> Any:
        """The most likely observations of beliefs ``[B, ...]``."""

    def decode_coarse(self, stoch: Array, context: Array) -> Any:
        """The most likely observations of coarse states ``[B, S]`` and ``[B, C]``."""
