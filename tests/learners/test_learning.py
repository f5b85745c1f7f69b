"""Each learner learns a task so small that it must succeed, from data that it collects itself, with several seeds.

What was tried on the way stands in docs/research-log.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.learners.learning import LONGEST_S, learned, mean_return

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LONGEST_S)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("learner", ["planet", "thick-planet", "dreamer", "thick-dreamer", "plan2explore"])
def test_a_chain_with_a_key_is_learned(learner: str, seed: int, tmp_path: Path) -> None:
    # Last bits differ between processors, and by the end whole runs do: a margin that a run of any of them keeps.
    assert mean_return(None, "Chain") < 0.6
    more = {"updates": 600} if learner == "thick-planet" else {}
    assert learned(learner, "Chain", seed, tmp_path, **more) > 0.9


@pytest.mark.parametrize(
    ("learner", "seed"),
    [
        ("thick-planet", 0),
        ("dreamer", 0),
        ("director", 0),
        ("director", 1),
        *(
            pytest.param(learner, seed, marks=pytest.mark.soak)  # two seeds of each learned the chain
            for learner, seed in (("planet", 0), ("dreamer", 1), ("thick-dreamer", 0), ("plan2explore", 0))
        ),
    ],
)
def test_a_point_is_moved_to_its_place(learner: str, seed: int, tmp_path: Path) -> None:
    assert mean_return(None, "Point") < 2.0
    changes = {"model": {"discount_head": False}}
    assert learned(learner, "Point", seed, tmp_path, **changes) > 4.5
