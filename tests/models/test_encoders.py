"""Encoders and decoders of every kind of observation."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, MultiDiscrete
from torch import nn

from tests.models.sizes import GRID, IMAGE, MIXED, OTHERS, SPACES, VECTOR, observations
from thick.models.convolutions import ImageDecoder
from thick.models.encoders import (
    BitsDecoder,
    CategoriesDecoder,
    Decoder,
    Encoder,
    GridDecoder,
    GridEncoder,
    ImageEncoder,
    entries,
)
from thick.models.images import ImageForm

SIZES = {"cnn_depth": 2, "units": 24, "layers": 2}
FEATURE = 10

every_space = pytest.mark.parametrize("space", [*SPACES.values(), *OTHERS.values()], ids=[*SPACES, *OTHERS])


def encoder(space: gymnasium.Space) -> Encoder:
    torch.manual_seed(0)
    return Encoder(space, **SIZES)


def decoder(space: gymnasium.Space) -> Decoder:
    torch.manual_seed(0)
    return Decoder(FEATURE, space, **SIZES)


@every_space
@pytest.mark.parametrize("leading", [(3,), (2, 5)])
def test_an_embedding_has_one_size_whatever_the_leading_dimensions(
    space: gymnasium.Space, leading: tuple[int, ...]
) -> None:
    module = encoder(space)
    arrays = observations(space, *leading)
    embedded = module(arrays)
    assert embedded.shape == (*leading, module.size)
    flat = module({name: array.flatten(0, len(leading) - 1) for name, array in arrays.items()})
    torch.testing.assert_close(embedded.flatten(0, -2), flat)


@every_space
@pytest.mark.parametrize("leading", [(), (3,), (2, 5)])
def test_a_decoded_observation_is_one_of_the_space(space: gymnasium.Space, leading: tuple[int, ...]) -> None:
    module = decoder(space)
    decoded = module.observation(torch.randn(*leading, FEATURE))
    single = not isinstance(space, gymnasium.spaces.Dict)
    assert isinstance(decoded, torch.Tensor) == single
    arrays = {"observation": decoded} if single else decoded
    for name, box in entries(space).items():
        array = arrays[name].detach().numpy()
        assert array.shape == (*leading, *box.shape)
        assert array.dtype == box.dtype
        if array.dtype.kind in "iub":
            assert all(box.contains(one) for one in array.reshape(-1, *box.shape))


@every_space
def test_the_log_probability_is_one_number_for_each_observation_and_can_be_raised(
    space: gymnasium.Space,
) -> None:
    module = decoder(space)
    feature = torch.randn(2, 3, FEATURE)
    arrays = observations(space, 2, 3)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    seen = []
    for _ in range(12):
        log_prob = module.log_prob(module(feature), arrays)
        assert log_prob.shape == (2, 3)
        optimizer.zero_grad()
        (-log_prob.mean()).backward()
        optimizer.step()
        seen.append(log_prob.mean().item())
    assert seen[-1] > seen[0]


def test_a_lone_array_may_be_given_without_its_name() -> None:
    module = encoder(VECTOR)
    arrays = observations(VECTOR, 4)
    assert torch.equal(module(arrays), module(arrays["observation"]))


def test_a_dict_is_the_embeddings_of_its_entries_in_the_order_of_their_names() -> None:
    module = encoder(MIXED)
    arrays = observations(MIXED, 2)
    parts = [module.encoders[name](arrays[name]) for name in ("board", "camera", "joints")]
    assert torch.equal(module(arrays), torch.cat(parts, -1))


def test_an_image_is_encoded_channels_last_and_centred() -> None:
    torch.manual_seed(0)
    module = ImageEncoder(2)
    image = observations(IMAGE, 1)["observation"]
    assert module.size == 32 * 2
    assert not torch.allclose(module(image), module(image.flip(-1)))  # red is not blue
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 64, 64, 3)
    assert ImageForm().prepare(ends).flatten(1).unique(dim=1).tolist() == [[-0.5], [0.5]]


def test_an_image_is_decoded_by_deconvolutions_whatever_computes_them() -> None:
    torch.manual_seed(0)
    decoder = ImageDecoder(FEATURE, depth=2)
    features = torch.randn(3, FEATURE)
    with torch.no_grad():
        for name, bias in decoder.named_parameters():
            if name.endswith("bias"):
                bias.normal_()

    def plain(features: torch.Tensor) -> torch.Tensor:
        x = decoder.get_submodule("in")(features)[..., None, None]
        for index in range(4):
            x = decoder.get_submodule(f"deconv{index}")(x)
            x = nn.functional.elu(x) if index < 3 else x
        return x.permute(0, 2, 3, 1)

    noise = torch.randn(3, 64, 64, 3)
    wanted = torch.autograd.grad((plain(features) * noise).sum(), list(decoder.parameters()))
    found = torch.autograd.grad((decoder(features) * noise).sum(), list(decoder.parameters()))
    torch.testing.assert_close(decoder(features), plain(features))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_grid_is_read_as_categories_not_as_numbers() -> None:
    torch.manual_seed(0)
    module = GridEncoder((5, 6, 3), (11, 6, 4), 24, 2)
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    assert first.in_features == 5 * 6 * (11 + 6 + 4)
    grid = torch.zeros(3, 5, 6, 3, dtype=torch.uint8)
    grid[1, 2, 2, 0], grid[2, 2, 2, 0] = 1, 2
    none, one, two = module(grid)
    # Category 2 is no further in the direction of category 1.
    assert not torch.allclose(two - none, 2 * (one - none), atol=1e-3)


def test_a_grid_is_a_categorical_in_every_channel_of_every_cell() -> None:
    torch.manual_seed(0)
    module = GridDecoder(FEATURE, (5, 6, 3), (11, 6, 4), 24, 2)
    for layer in module.mlp.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
    output = module(torch.randn(2, FEATURE))
    grid = observations(GRID, 2)["observation"]
    # Uniform over categories: every cell costs log 11 + log 6 + log 4.
    expected = -30 * (math.log(11) + math.log(6) + math.log(4))
    torch.testing.assert_close(module.log_prob(output, grid), torch.full((2,), expected))


def test_the_output_that_makes_a_grid_most_probable_decodes_to_it() -> None:
    torch.manual_seed(0)
    module = GridDecoder(FEATURE, (5, 6, 3), (11, 6, 4), 24, 2)
    grid = observations(GRID, 3)["observation"]
    output = module(torch.randn(3, FEATURE)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module.log_prob(output, grid).sum(), output)
    # The gradient of a categorical's log probability is positive for the class that was seen alone.
    assert torch.equal(module.observation(gradient), grid)


def test_a_space_that_nothing_reads_is_refused_by_name() -> None:
    space = gymnasium.spaces.Dict({"mission": gymnasium.spaces.Text(10)})
    with pytest.raises(ValueError, match=r"expected a Box, .* got Text"):
        encoder(space)


def test_an_image_of_another_size_is_read_by_areas_and_written_in_its_own_size() -> None:
    form = ImageForm(128, 128, 1)
    image = torch.zeros(128, 128, 1, dtype=torch.uint8)
    image[:64] = 255
    small = form.prepare(image)
    assert small.shape == (64, 64, 1)
    assert (small[:32] == 0.5).all() and (small[32:] == -0.5).all()
    restored = form.restore(small)
    assert restored.shape == image.shape
    assert (restored[:62] == 255).all() and (restored[66:] == 0).all()


def test_numbers_of_a_wide_box_come_to_the_model_between_minus_one_and_one() -> None:
    module = encoder(OTHERS["counts"]).encoders["observation"]
    seen = module.scale.inside(torch.tensor([0.0, 51.0, 127.5, 204.0, 255.0]))
    torch.testing.assert_close(seen, torch.tensor([-1.0, -0.6, 0.0, 0.6, 1.0]))
    torch.testing.assert_close(module.scale.outside(seen)[1], torch.tensor(51.0))


def test_a_dict_may_have_entries_of_any_name() -> None:
    module = encoder(OTHERS["names"])
    assert list(module.parts()) == sorted(OTHERS["names"].spaces)
    assert not any("." in name.removeprefix("encoders.").split(".mlp")[0] for name in module.state_dict())


def test_categories_and_bits_are_as_likely_as_their_logits_say() -> None:
    generator = torch.Generator().manual_seed(0)
    space = MultiDiscrete([2, 3], start=[0, -1])
    decoder = CategoriesDecoder(4, space, 8, 1)
    logits, value = torch.randn(6, 5, generator=generator), torch.tensor([[0, -1], [1, 1]] * 3)
    wanted = [
        math.log(softmax(row[:2])[a]) + math.log(softmax(row[2:])[b + 1])
        for row, (a, b) in zip(logits.tolist(), value.tolist(), strict=True)
    ]
    torch.testing.assert_close(decoder.log_prob(logits, value), torch.tensor(wanted))
    bits = BitsDecoder(4, Box(0, 1, (3,), np.int8), 8, 1)
    logits, value = torch.randn(4, 3, generator=generator), torch.tensor([[0, 1, 1], [1, 0, 0]] * 2)
    wanted = [
        sum(math.log(1 / (1 + math.exp(-x if bit else x))) for x, bit in zip(row, given, strict=True))
        for row, given in zip(logits.tolist(), value.tolist(), strict=True)
    ]
    torch.testing.assert_close(bits.log_prob(logits, value), torch.tensor(wanted))


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(each) for each in logits]
    return [each / sum(weights) for each in weights]
