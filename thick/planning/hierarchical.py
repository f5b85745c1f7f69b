"""Planning with two levels: search over jumps, then steer the low level towards where the first jump leaves from.

The first jump of the best high-level plan says in which state ẑ[τ-1] the context will change, by which action â and
to what context c[τ]. That is the subgoal of the low-level search until a gate opens (and more than a few steps have
passed), or until it has not been reached for long. Flat planning is the low-level search alone.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thick import pytrees
from thick.models.beliefs import Belief
from thick.planning.jumps import JumpModel
from thick.planning.low import Actions, act, low_search
from thick.planning.mcts import MCTS
from thick.planning.objectives import Subgoal
from thick.planning.protocols import LowSearch, PlanningModel
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm
from thick.planning.settings import PlannerSettings
from thick.planning.tree import Tree

PATH = 8
"""jumps of the high-level plan that a state remembers"""


class PlanState(NamedTuple):
    """What a session remembers of its last plan; all ``[B, ...]``."""

    active: Tensor
    """[B] bool, there is a subgoal"""
    since: Tensor
    """[B] int64, steps since the last high-level search"""
    subgoal: Subgoal
    """where the low level is going"""
    high_actions: Tensor
    """[B, PATH] int64, the high-level plan, -1 beyond its end"""
    durations: Tensor
    """[B, PATH] predicted steps of each jump"""
    values: Tensor
    """[B, G] value of each high-level action when it was searched"""
    visits: Tensor
    """[B, G] how often each was tried"""
    sequence: Tensor
    """[B, W, A] the last low-level plan, from the step it was made on"""
    planned: Tensor
    """[B] bool, there is such a plan"""
    taken: Tensor
    """[B] int64, steps of it that were taken"""


def initial_plan(model: PlanningModel, actions: Actions, length: int, batch: int) -> PlanState:
    """The state of sessions that have not planned."""
    device, low = model.arrays.zeros(0).device, model.exact
    count = 0 if model.high is None else model.high.actions

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, device=device)

    def whole(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, dtype=torch.int64, device=device)

    def no() -> Tensor:
        return torch.zeros(batch, dtype=torch.bool, device=device)

    if model.high is None:
        subgoal = Subgoal(zeros(0, 0), zeros(0), zeros(0), zeros())
    else:
        subgoal = Subgoal(zeros(low.stoch, low.classes), zeros(actions.size), zeros(low.context), zeros())
    return PlanState(
        no(),
        whole(),
        subgoal,
        whole(PATH) - 1,
        zeros(PATH),
        zeros(count),
        zeros(count),
        zeros(length, actions.size),
        no(),
        whole(),
    )


def needs_search(belief: Belief, plan: PlanState, settings: PlannerSettings) -> Tensor:
    """Sessions whose high level should search now, ``[B]`` bool (maths: THICK PlaNet)."""
    opened = (belief.gates > 0).any(-1)
    settled = plan.since > settings.settle
    return ~plan.active | (opened & settled) | (plan.since >= settings.patience)


def warm_sequence(plan: PlanState, horizon: int) -> Warm:
    """The last plan, shifted to now and cut or continued (by its last action) to the horizon."""
    length = plan.sequence.shape[1]
    step = plan.taken.unsqueeze(1) + torch.arange(horizon, device=plan.taken.device)  # [B, H]
    index = step.clamp_max(length - 1).unsqueeze(-1).expand(-1, -1, plan.sequence.shape[2])
    return Warm(plan.sequence.gather(1, index), plan.planned & (plan.taken < length))


class Plan(NamedTuple):
    """What planning came to; all ``[B, ...]``."""

    action: Tensor
    """[B, A] to take now"""
    plan: PlanState
    replanned: Tensor
    """[B] bool, the high level searched"""
    sequence: Tensor
    """[B, H, A] the low-level plan"""
    expected_return: Tensor
    """[B] of it"""
    samples: int
    """candidates that were imagined"""
    iterations: tuple[int, int]
    """of the low level: done, asked"""
    simulations: tuple[int, int]
    """of the high level: done, asked"""
    phase_ms: dict[str, float]
    """time spent: high_plan_ms, low_plan_ms"""


class PlanSearch:
    """One plan for B sessions, in slices; has a valid answer at any time.

    Args:
        model: what to plan in.
        actions: kind of actions.
        settings: how to plan.
        belief: ``[B, ...]``.
        plan: what the sessions remember.
        randomness: of this step.
        budget_s: time it will be given, if that is known: the high level then takes at most half of it.
    """

    def __init__(
        self,
        model: PlanningModel,
        actions: Actions,
        settings: PlannerSettings,
        belief: Belief,
        plan: PlanState,
        *,
        randomness: Randomness,
        budget_s: float | None = None,
    ) -> None:
        self.model, self.actions, self.settings = model, actions, settings
        self.belief, self.plan, self.randomness = belief, plan, randomness
        self.phase_ms = {"high_plan_ms": 0.0, "low_plan_ms": 0.0}
        self._high: MCTS | Tree | None = None
        self._searched = torch.empty(0, dtype=torch.int64, device=plan.since.device)
        self._low: LowSearch | None = None
        self._chosen: Tensor | None = None
        self._limit = None if budget_s is None else time.perf_counter() + budget_s / 2
        if settings.method == "policy":
            if not model.exact.has_actor:
                raise ValueError(
                    "planner.method: this checkpoint has no actor; expected flat or hierarchical"
                )
        elif settings.method == "hierarchical":
            if model.high is None:
                raise ValueError("planner.method: this checkpoint has no high level; expected flat")
            self._searched = needs_search(belief, plan, settings).nonzero().squeeze(1)

    @property
    def done(self) -> bool:
        """Whether the whole budget was used."""
        if self.settings.method == "policy":
            return self._chosen is not None
        return self._low is not None and self._low.done

    @property
    def simulations(self) -> tuple[int, int]:
        """Simulations of the high level, done and asked; 0 of 0 where none was due."""
        return (0, 0) if self._high is None else (self._high.simulations_done, self._high.simulations_asked)

    @property
    def iterations(self) -> tuple[int, int]:
        """Iterations of the low level, done and asked."""
        if self.settings.method == "policy":
            return (int(self._chosen is not None), 1)
        return (0 if self._low is None else self._low.iterations_done, self.settings.iterations)

    def step(self) -> None:
        """One slice: some simulations of the high level, or one iteration of the low level."""
        began = time.perf_counter()
        phase = "low_plan_ms"
        if self.done:
            return
        if self.settings.method == "policy":
            self._chosen = self._act()
        elif self._high_due():
            phase = "high_plan_ms"
            self._search_high()
        else:
            if self._low is None:
                self._low = self._start_low()
            self._low.step()
        self.phase_ms[phase] += 1e3 * (time.perf_counter() - began)

    def result(self) -> Plan:
        """The best plan so far; changes nothing."""
        settings, plan = self.settings, self.plan
        if settings.method == "policy":
            action = self._act() if self._chosen is None else self._chosen
            value = self.model.exact.value(self.belief)
            return self._result(plan, action.unsqueeze(1), value, 0)
        plan = self._with_subgoal(plan)
        if self._low is None:
            return self._result(plan, self._unsearched(plan), torch.zeros_like(plan.durations[:, 0]), 0)
        return self._result(plan, self._low.sequence(), self._low.expected_return(), self._low.samples)

    # -- high level ----------------------------------------------------------------------------------------------

    def _high_due(self) -> bool:
        if self._low is not None or self._searched.numel() == 0:
            return False
        if self._high is None:
            return True
        late = self._limit is not None and time.perf_counter() > self._limit
        return not self._high.done and not late

    def _search_high(self) -> None:
        settings, high = self.settings, self.model.high
        assert high is not None
        if self._high is None:
            belief = pytrees.select(self.belief, self._searched)
            jumps = JumpModel(high, belief.stoch, belief.context, critic=settings.critic)
            if settings.high == "tree":
                self._high = Tree(
                    jumps,
                    simulations=settings.simulations,
                    depth=settings.depth,
                    floor=settings.prior_floor,
                )
            else:
                self._high = MCTS(
                    jumps,
                    simulations=settings.simulations,
                    depth=settings.depth,
                    exploration=settings.exploration,
                    randomness=self.randomness.fold("exploration").select(self._searched),
                )
        self._high.step()

    def _with_subgoal(self, plan: PlanState) -> PlanState:
        """The plan state with what the high level found, for the sessions that searched."""
        if self._high is None or self._high.simulations_done == 0:
            return plan
        search, rows = self._high, self._searched
        randomness = self.randomness.fold("temperature").select(rows)
        root = torch.zeros_like(rows)
        first = search.best(root, temperature=self.settings.temperature, randomness=randomness)
        path = search.path(first)
        belief, high = pytrees.select(self.belief, rows), self.model.high
        assert high is not None
        landing = high.jump(belief.stoch, belief.context, first)
        reached = path.nodes >= 0
        steps = torch.arange(rows.shape[0], device=rows.device).unsqueeze(1)
        elapsed = search.states.elapsed[steps, path.nodes.clamp_min(0)]
        found = plan._replace(
            active=torch.ones_like(root, dtype=torch.bool),
            since=root,
            subgoal=Subgoal(landing.logits_before, landing.action, landing.context, landing.continuation),
            high_actions=_fit(torch.where(reached, path.actions, -1), PATH, -1),
            durations=_fit(torch.where(reached, elapsed, 0.0), PATH, 0.0),
            values=search.root_values,
            visits=search.root_visits,
            sequence=plan.sequence[rows],
            planned=plan.planned[rows],
            taken=plan.taken[rows],
        )
        return pytrees.put(plan, rows, found)

    # -- low level -------------------------------------------------------------------------------------------------

    def _start_low(self) -> LowSearch:
        plan = self._with_subgoal(self.plan)
        warm = warm_sequence(plan, self.settings.horizon)
        if not self.settings.warm_start:
            warm = warm._replace(valid=torch.zeros_like(warm.valid))
        return low_search(
            self.model.search,
            self.settings,
            self.actions,
            self.belief,
            subgoal=plan.subgoal if self.settings.method == "hierarchical" else None,
            warm=warm,
            randomness=self.randomness.fold("low"),
        )

    def _unsearched(self, plan: PlanState) -> Tensor:
        """What to do when there was no time to search: go on with the last plan, else as the actor would, else
        the first action or the middle of the range. ``[B, H, A]``"""
        warm = warm_sequence(plan, self.settings.horizon)
        bounds = self.actions.bounds
        if self.model.exact.has_actor:
            action = act(self.model.exact, pytrees.expand(self.belief, 1), self.actions, None)
        elif bounds is not None:
            action = bounds.clip(bounds.middle).expand(warm.valid.shape[0], 1, -1)
        else:
            action = torch.zeros_like(warm.sequence[:, :1])
            action[..., 0] = 1.0
        return torch.where(warm.valid[:, None, None], warm.sequence, action.to(warm.sequence.dtype))

    def _act(self) -> Tensor:
        belief = pytrees.expand(self.belief, 1)
        drawn = self.settings.temperature > 0
        randomness = self.randomness.fold("policy") if drawn else None
        return act(
            self.model.exact, belief, self.actions, randomness, temperature=self.settings.temperature
        ).squeeze(1)

    def _result(self, plan: PlanState, sequence: Tensor, expected: Tensor, samples: int) -> Plan:
        length = plan.sequence.shape[1]
        remembered = sequence[:, :length]
        if remembered.shape[1] < length:
            last = remembered[:, -1:].expand(-1, length - remembered.shape[1], -1)
            remembered = torch.cat([remembered, last], 1)
        plan = plan._replace(
            sequence=remembered.to(plan.sequence.dtype),
            planned=torch.ones_like(plan.planned),
            taken=torch.zeros_like(plan.taken),
        )
        replanned = torch.zeros_like(plan.planned)
        if self._high is not None:
            replanned[self._searched] = True
        return Plan(
            sequence[:, 0],
            plan,
            replanned,
            sequence,
            expected,
            samples,
            self.iterations,
            self.simulations,
            dict(self.phase_ms),
        )


def _fit(x: Tensor, length: int, fill: Any) -> Tensor:
    """``[B, D]`` cut or filled to ``[B, length]``."""
    x = x[:, :length]
    return torch.nn.functional.pad(x, (0, length - x.shape[1]), value=fill)
