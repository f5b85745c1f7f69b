"""A bandit in pixels: a learner must see which sign is shown (docs/research-log.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.learners.learning import LONGEST_S, learned, mean_return

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LONGEST_S)]


@pytest.mark.parametrize(
    ("learner", "seed"),
    [
        ("dreamer", 0),
        pytest.param("dreamer", 1, marks=pytest.mark.soak),
        pytest.param("planet", 0, marks=pytest.mark.soak),
    ],
)
def test_signs_are_read_in_pixels(learner: str, seed: int, tmp_path: Path) -> None:
    assert mean_return(None, "Signs") < 4.0
    # Twelve thousand pixels weigh more than a reward: so does what they are taught.
    loss = {"decoder": 0.3, "reward": 20.0, "coarse_decoder": 0.3, "coarse_reward": 20.0}
    changes = {
        "updates": 1000,
        "batch": 12,
        "length": 9,
        "model": {"cnn_depth": 8, "discount_head": False, "loss": loss},
        "optimizer": {"lr": 1.5e-3},
        "behaviour": {"horizon": 2},
    }
    # Who does not look gets 2.7, who tells one sign from the two others 5.3, who tells all three 8.
    assert learned(learner, "Signs", seed, tmp_path, **changes) > 6.0
