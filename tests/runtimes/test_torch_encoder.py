"""Frozen encoders give what the trained ones give, and the same bits in any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.sizes import ACTIONS, SPACES, model
from tests.planning.models import agent, seen
from thick.runtimes.torch import encoder as inference_encoder
from thick.runtimes.torch.encoder import FrozenImages
from thick.runtimes.torch.model import FrozenModel

BATCHES = [1, 2, 3, 4, 7, 16, 23, 37]


def _rows(observation: Any, begin: int, end: int) -> Any:
    if isinstance(observation, dict):
        return {key: array[begin:end] for key, array in observation.items()}
    return observation[begin:end]


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_embeddings_are_those_of_the_trained_encoder(kind: str) -> None:
    world = model(SPACES[kind], ACTIONS["discrete"], 0)
    of = agent(kind)
    observation = seen(of, 5)
    trained = world.world.encoder(observation)
    assert torch.allclose(FrozenModel(world).encode(observation), trained, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(SPACES))
@pytest.mark.parametrize("batch", BATCHES)
def test_an_embedding_is_the_same_bits_in_any_batch(kind: str, batch: int) -> None:
    of = agent(kind)
    observation = seen(of, batch)
    together = of.model.encode(observation)
    for index in range(batch):
        assert torch.equal(of.model.encode(_rows(observation, index, index + 1))[0], together[index])


def test_images_are_put_together_only_where_that_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    convolve = F.conv2d

    def careless(images: Tensor, *rest: Any, **options: Any) -> Tensor:
        """A convolution that adds up differently where there are many."""
        together.append(len(images))
        found: Tensor = convolve(images, *rest, **options)
        return found * (1 + 2.0**-20) if len(images) > 4 else found

    monkeypatch.setattr(inference_encoder.F, "conv2d", careless)
    images = FrozenImages(model(SPACES["image"]).world.encoder.encoders["observation"])  # type: ignore[arg-type]
    batch = torch.randint(0, 256, (23, 64, 64, 3), dtype=torch.uint8)
    images(batch)
    together.clear()
    embedded = images(batch)
    assert set(together) == {4, 1}
    assert torch.equal(embedded, torch.cat([images(image) for image in batch.split(1)]))


def test_a_category_that_the_space_does_not_have_is_refused() -> None:
    of = agent("grid")
    observation = torch.full_like(seen(of, 1), 255)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="categories"):
        of.model.encode(observation)
