"""Sampling searches on costs with known optima."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.planning.toys import bowl, cold, randomness
from thick.planning import sampling
from thick.planning.actions import ActionRange
from thick.planning.categorical_cem import CategoricalCEM
from thick.planning.cem import CEM
from thick.planning.icem import ICEM
from thick.planning.mppi import MPPI
from thick.planning.protocols import Score, SoFar
from thick.planning.randomness import Randomness
from thick.planning.sampling import (
    Proposals,
    SamplingSearch,
    Warm,
    rollout,
    rollout_in_parts,
    together,
    weights,
)

HORIZON = 5
UNIT = ActionRange(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]))
TARGET = torch.tensor([[[0.5, -0.3]], [[-0.8, 0.9]], [[0.0, 2.0]]]).expand(-1, HORIZON, -1)


def continuous(name: str, actions: ActionRange = UNIT, samples: int = 300) -> Any:
    common: dict[str, Any] = {
        "horizon": HORIZON, "actions": actions, "samples": samples, "smoothing": 0.1, "minimum_std": 0.01
    }  # fmt: skip
    if name == "icem":
        return ICEM(**common, kept=5, decay=1.1, colour=1.0, minimum=60)
    return MPPI(**common, sharpness=0.5) if name == "mppi" else CEM(**common)


def search(
    sampler: Any, evaluate: Any, *, batch: int, size: int, seeds: Any = None, **options: Any
) -> SamplingSearch:
    budget = {"iterations": 12, "elites": 30} | options
    warm = budget.pop("warm", cold(batch, HORIZON, size))
    source = randomness(*(range(batch) if seeds is None else seeds))
    return SamplingSearch(sampler=sampler, evaluate=evaluate, randomness=source, warm=warm, **budget)


def run(planner: SamplingSearch) -> Tensor:
    while not planner.done:
        planner.step()
    return planner.sequence()


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_the_bottom_of_a_quadratic_bowl_is_found(name: str) -> None:
    found = run(search(continuous(name), bowl(TARGET), batch=3, size=2))
    # MPPI's weights make few elites count, so its mean is noisier.
    assert torch.allclose(found, TARGET.clamp(-1, 1), atol=0.2 if name == "mppi" else 0.12)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_actions_stay_within_their_range_whatever_it_is(name: str) -> None:
    actions = ActionRange(torch.tensor([2.0, -7.0]), torch.tensor([3.0, 50.0]))
    target = torch.tensor([[[100.0, 20.0]]]).expand(1, HORIZON, 2)
    seen = []

    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        seen.append(candidates)
        return bowl(target)(candidates, noise)

    found = run(search(continuous(name, actions), evaluate, batch=1, size=2))
    assert all(bool((x >= actions.low).all() and (x <= actions.high).all()) for x in [*seen, found])
    assert torch.allclose(found, torch.tensor([3.0, 20.0]), atol=2.5)


@pytest.mark.parametrize("name", ["cem", "mppi"])  # whose plan is a mean
def test_the_ends_of_the_range_are_reached_where_they_are_best(name: str) -> None:
    target = torch.tensor([3.0, -3.0]).expand(2, HORIZON, 2)  # bang-bang, as swinging up a pole asks for
    found = run(search(continuous(name), bowl(target), batch=2, size=2, iterations=5))
    assert torch.equal(found, target / 3)


def test_unbounded_actions_are_searched_around_zero() -> None:
    actions = ActionRange(torch.tensor([-torch.inf]), torch.tensor([torch.inf]))
    found = run(search(continuous("cem", actions), bowl(torch.full((1, HORIZON, 1), 2.5)), batch=1, size=1))
    assert torch.allclose(found, torch.tensor(2.5), atol=0.2)


def bandit(best: Tensor) -> Any:
    """Each step pays 1 for its best arm ``[B, H]``, otherwise a little less for each arm further away."""

    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        arm = candidates.argmax(-1)
        score = 1 - 0.2 * (arm - best.unsqueeze(1)).abs().float()
        return Score(score.sum(-1), score.sum(-1))

    return evaluate


def test_the_best_arms_of_a_bandit_are_found_for_every_step_and_session() -> None:
    best = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 2, 1]])
    sampler = CategoricalCEM(horizon=HORIZON, actions=5, samples=300, smoothing=0.1)
    planner = search(sampler, bandit(best), batch=2, size=5)
    found = run(planner)
    assert torch.equal(found.argmax(-1), best)
    assert torch.equal(found, F.one_hot(best, 5).float())
    assert torch.allclose(planner.expected_return(), torch.full((2,), 5.0), atol=0.2)


def test_first_candidates_of_a_discrete_search_are_uniform() -> None:
    sampler = CategoricalCEM(horizon=3, actions=4, samples=1000, smoothing=0.1)
    parameters = sampler.start(cold(2, 3, 4))
    drawn = sampler.sample(parameters, 4000, randomness(1, 2))
    assert torch.allclose(drawn.mean(1), torch.full((2, 3, 4), 0.25), atol=0.03)
    assert torch.equal(drawn.sum(-1), torch.ones(2, 4000, 3))


def test_smoothing_keeps_every_action_possible() -> None:
    sampler = CategoricalCEM(horizon=1, actions=3, samples=10, smoothing=0.2)
    elites = F.one_hot(torch.zeros(1, 5, 1, dtype=torch.int64), 3).float()
    refitted = sampler.refit(torch.full((1, 1, 3), 1 / 3), elites, torch.zeros(1, 5))
    assert torch.allclose(refitted, torch.tensor([[[0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3]]]))


def test_few_elites_that_found_a_reward_outweigh_the_many_that_did_not() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.9, *[0.0] * 97]])
    weight = weights(scores, 1.0)
    assert float(weight.sum()) == pytest.approx(1) and float(weight[0, :3].sum()) > 0.8
    assert torch.allclose(weights(torch.full((1, 8), 3.0), 1.0), torch.full((1, 8), 1 / 8))
    assert torch.allclose(weights(1e4 * scores + 7, 1.0), weight, atol=1e-4)
    hopeless = torch.tensor([[-torch.inf, -torch.inf], [1.0, -torch.inf]])
    assert torch.equal(weights(hopeless, 1.0), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))


def test_the_plan_begins_as_most_of_the_weight_does_and_is_a_whole_elite() -> None:
    sampler = CategoricalCEM(horizon=2, actions=3, samples=4, smoothing=0.1, sharpness=2.0)
    elites = F.one_hot(torch.tensor([[[2, 2], [0, 1], [0, 2], [0, 1]]]), 3).float()
    lucky, close = torch.tensor([[9.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.99, 0.98, 0.97]])
    parameters = sampler.start(cold(1, 2, 3))
    assert sampler.plan(parameters, elites, lucky)[0].argmax(-1).tolist() == [2, 2]
    assert sampler.plan(parameters, elites, close)[0].argmax(-1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "categorical"])
def test_a_batch_is_exactly_its_sessions_one_by_one(name: str) -> None:
    size = 5 if name == "categorical" else 2
    best = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 2, 1], [1, 1, 1, 0, 0]])

    def planner(rows: list[int]) -> SamplingSearch:
        if name == "categorical":
            sampler: Any = CategoricalCEM(horizon=HORIZON, actions=5, samples=60, smoothing=0.1)
            evaluate = bandit(best[rows])
        else:
            sampler, evaluate = continuous(name, samples=60), bowl(TARGET[rows])
        return search(sampler, evaluate, batch=len(rows), size=size, seeds=rows, iterations=4, elites=10)

    together = planner([0, 1, 2])
    run(together)
    for row in range(3):
        alone = planner([row])
        run(alone)
        assert torch.equal(alone.sequence()[0], together.sequence()[row])
        assert torch.equal(alone.expected_return()[0], together.expected_return()[row])


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "categorical"])
def test_there_is_a_valid_answer_at_any_time_and_asking_changes_nothing(name: str) -> None:
    sampler: Any = continuous(name)
    evaluate, size = bowl(TARGET[:1]), 2
    if name == "categorical":
        sampler = CategoricalCEM(horizon=HORIZON, actions=5, samples=60, smoothing=0.1)
        evaluate, size = bandit(torch.zeros(1, HORIZON, dtype=torch.int64)), 5
    asked, silent = (search(sampler, evaluate, batch=1, size=size, iterations=3) for _ in range(2))
    run(silent)
    while not asked.done:
        answer = asked.sequence()
        assert answer.shape == (1, HORIZON, size) and bool(torch.isfinite(answer).all())
        asked.expected_return()
        asked.step()
    assert asked.iterations_done == 3 and torch.equal(asked.sequence(), silent.sequence())
    asked.step()
    assert asked.iterations_done == 3


def test_more_iterations_get_closer_to_the_optimum() -> None:
    planner = search(continuous("cem"), bowl(TARGET[:1]), batch=1, size=2)
    errors = []
    while not planner.done:
        planner.step()
        errors.append(float((planner.sequence() - TARGET[:1]).square().sum()))
    assert errors[-1] < 0.05 * errors[0]


def test_the_previous_plan_is_followed_until_something_better_is_known() -> None:
    warm = Warm(torch.full((1, HORIZON, 2), 0.7), torch.tensor([True]))
    assert torch.equal(
        search(continuous("cem"), bowl(TARGET[:1]), batch=1, size=2, warm=warm).sequence(), warm.sequence
    )


def test_a_needle_in_a_haystack_is_found_only_if_proposed() -> None:
    needle = F.one_hot(torch.tensor([[3, 1, 4, 1, 2]]), 5).float()

    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        score = (candidates == needle.unsqueeze(1)).all(-1).all(-1).float()
        return Score(score, score)

    sampler = CategoricalCEM(horizon=HORIZON, actions=5, samples=50, smoothing=0.1)
    nothing = run(search(sampler, evaluate, batch=1, size=5, elites=5))
    assert not torch.equal(nothing, needle)
    proposed = Proposals(needle.unsqueeze(1), torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(run(search(sampler, evaluate, batch=1, size=5, elites=5, proposals=proposed)), needle)
    warm = Warm(needle, torch.tensor([True]))
    assert torch.equal(run(search(sampler, evaluate, batch=1, size=5, elites=5, warm=warm)), needle)
    invalid = proposed._replace(valid=torch.zeros(1, 1, dtype=torch.bool))
    assert not torch.equal(
        run(search(sampler, evaluate, batch=1, size=5, elites=5, proposals=invalid)), needle
    )


def test_the_inserted_action_is_tried_at_every_step_also_after_the_previous_plan() -> None:
    insert = torch.tensor([[0.0, 0.0, 1.0]])
    warm = Warm(torch.tensor([[1.0, 0.0, 0.0]]).expand(1, HORIZON, 3), torch.tensor([True]))
    seen = []

    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        seen.append(candidates)
        return Score(torch.zeros(candidates.shape[:2]), torch.zeros(candidates.shape[:2]))

    sampler = CategoricalCEM(horizon=HORIZON, actions=3, samples=100, smoothing=0.1)
    options: Any = {"insert": insert, "insert_share": 0.2, "warm": warm}
    search(sampler, evaluate, batch=1, size=3, **options).step()
    arms = seen[0][0].argmax(-1)  # [N, H]
    assert arms[0].tolist() == [0] * HORIZON
    assert [row.tolist() for row in arms[1 : 1 + HORIZON]] == [
        [2 if step == place else 0 for step in range(HORIZON)] for place in range(HORIZON)
    ]
    assert [int(arms[80 + place, place % HORIZON]) for place in range(20)] == [2] * 20


def test_scores_that_are_not_numbers_lose() -> None:
    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        score = candidates[..., 0].sum(-1)
        return Score(torch.where(score > 0, torch.nan, score), torch.zeros_like(score))

    found = run(search(continuous("cem"), evaluate, batch=1, size=2))
    assert bool(torch.isfinite(found).all()) and float(found[..., 0].sum()) <= 0.5


def test_icems_noise_has_unit_variance_and_the_asked_colour() -> None:
    white, red = (
        ICEM(
            horizon=32,
            actions=UNIT,
            samples=1,
            smoothing=0,
            minimum_std=0,
            kept=0,
            decay=1,
            colour=c,
            minimum=1,
        )
        for c in (0.0, 2.0)
    )
    for sampler, neighbours in ((white, 0.0), (red, 0.8)):
        noise = sampler.noise(4, 500, randomness(1, 2, 3, 4))
        assert noise.shape == (4, 500, 32, 2)
        assert abs(float(noise.square().mean()) - 1) < 0.1
        correlation = float((noise[:, :, 1:] * noise[:, :, :-1]).mean())
        assert correlation > neighbours - 0.05 and (neighbours > 0 or correlation < 0.05)
    assert [red.count(0), white.count(5)] == [1, 1]


def test_icem_uses_fewer_candidates_each_iteration() -> None:
    sampler = continuous("icem")
    counts = [sampler.count(iteration) for iteration in range(30)]
    assert counts[0] == 300 and counts == sorted(counts, reverse=True) and counts[-1] == 60


class Adder:
    """Position plus action; noise of the given draws is ignored but counted."""

    draws = 2

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def imagine(self, belief: Any, action: Tensor, uniforms: Tensor | None = None) -> Any:
        assert uniforms is not None
        self.seen.append(uniforms)
        return (belief[0] + action,)


class Last:
    """The score is the last position; carries the number of steps."""

    def start(self, belief: Any) -> int:
        assert belief[0].shape == (2, 3, 1)
        return 0

    def step(self, carry: int, belief: Any, action: Tensor) -> int:
        return carry + 1

    def finish(self, carry: int, belief: Any, length: int) -> Score:
        assert carry == length
        return Score(belief[0].squeeze(-1), belief[0].squeeze(-1))


def test_a_rollout_folds_the_objective_over_all_candidates_with_fresh_numbers_each_step() -> None:
    dynamics, candidates = Adder(), torch.arange(24.0).reshape(2, 3, 4, 1)
    score = rollout(dynamics, Last(), (torch.tensor([[100.0], [200.0]]),), candidates, randomness(1, 2))
    assert torch.equal(score.score, torch.tensor([[100.0], [200.0]]) + candidates.sum((-1, -2)))
    assert len(dynamics.seen) == 4 and dynamics.seen[0].shape == (2, 3, 2)
    assert not torch.equal(dynamics.seen[0], dynamics.seen[1])


def test_scores_that_come_in_parts_give_the_same_plan_in_more_slices() -> None:
    class Runner:
        """Position plus action, a little noise."""

        draws = 1

        def imagine(self, belief: Any, action: Tensor, uniforms: Tensor | None = None) -> Any:
            assert uniforms is not None
            return (belief[0] + action + 0.01 * uniforms,)

    class Near:
        """The score is how near to 3 the last position is."""

        def start(self, belief: Any) -> None: ...

        def step(self, carry: None, belief: Any, action: Tensor) -> None: ...

        def finish(self, carry: None, belief: Any, length: int) -> Score:
            score = -(belief[0] - 3).abs().sum(-1)
            return Score(score, score)

    start = (torch.zeros(2, 2),)

    def at_once(candidates: Tensor, noise: Randomness) -> Score:
        return rollout(Runner(), Near(), start, candidates, noise)

    def in_parts(candidates: Tensor, noise: Randomness) -> Any:
        return rollout_in_parts(Runner(), Near(), start, candidates, noise)

    def slices(evaluate: Any) -> tuple[Tensor, int]:
        planner = search(continuous("cem", samples=1500), evaluate, batch=2, size=2, iterations=3)
        count = 0
        while not planner.done:
            planner.step()
            count += 1
        return planner.sequence(), count

    (whole, few), (pieces, many) = slices(at_once), slices(in_parts)
    assert torch.equal(whole, pieces)
    # 1500 candidates are imagined 750 at a time; those of two sessions are more than one part, step by step.
    assert few == 3 * 2 and many == 3 * 2 * (1 + HORIZON)


def test_candidates_that_are_drawn_some_at_a_time_are_the_ones_that_would_be_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("cem", "icem", "mppi"):
        whole, parts = [], []
        for found, most in ((whole, 10_000), (parts, 64)):
            monkeypatch.setattr(sampling, "TOGETHER", most)
            insert = torch.ones(2, 2)
            planner = search(
                continuous(name, samples=300),
                bowl(TARGET[:2]),
                batch=2,
                size=2,
                iterations=3,
                insert=insert,
                insert_share=0.2,
            )
            while not planner.done:
                planner.step()
                found.append(planner.sequence())
        assert len(parts) > 12 and len(whole) == 3
        assert torch.equal(parts[-1], whole[-1]), name


def test_what_is_imagined_at_a_time_does_not_depend_on_the_session_s_company() -> None:
    assert [together(count, 24) for count in (1, 1000, 1024, 1025, 1030, 20_000)] == [
        1,
        1000,
        1024,
        513,
        515,
        1000,
    ]
    assert together(20_000, 1000) == 131  # long plans are drawn fewer at a time
    assert together(100_000, 10_000_000) == 64


def test_a_first_iteration_that_is_cut_short_answers_with_the_best_candidate_it_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "TOGETHER", 100)
    scored: list[Tensor] = []

    def evaluate(candidates: Tensor, _: Randomness) -> Score:
        scored.append(-(candidates - 2).square().sum((-1, -2)))
        return Score(scored[-1], 10 * scored[-1])

    planner = search(continuous("cem", samples=300), evaluate, batch=2, size=2, iterations=2)
    for done in (1, 2):
        planner.step()
        best = torch.cat(scored, 1).amax(1)
        assert torch.allclose(-(planner.sequence() - 2).square().sum((-1, -2)), best)
        assert torch.allclose(planner.expected_return(), 10 * best)
        assert (planner.iterations_done, planner.samples) == (0, 100 * done)
    planner.step()
    assert (planner.iterations_done, planner.samples) == (1, 300)
    refitted = planner.sequence()
    planner.step()
    assert torch.equal(planner.sequence(), refitted), "a refitted plan is better than one candidate"


def test_candidates_that_are_half_imagined_are_better_than_none() -> None:
    good = 3

    def evaluate(candidates: Tensor, _: Randomness) -> Any:
        for length in range(1, HORIZON):
            so_far = torch.zeros(1, candidates.shape[1])
            so_far[:, good] = length
            yield SoFar(length, lambda so_far=so_far: Score(so_far, so_far))
        return Score(torch.zeros(1, candidates.shape[1]), torch.zeros(1, candidates.shape[1]))

    planner = search(continuous("cem", samples=8), evaluate, batch=1, size=2, iterations=1)
    before = planner.sequence()
    for length in range(1, HORIZON):
        planner.step()
        if 2 * length < HORIZON:
            assert torch.equal(planner.sequence(), before)
        else:
            assert not torch.equal(planner.sequence(), before)
            assert planner.expected_return().item() == length
        assert (planner.iterations_done, planner.samples) == (0, 0)
