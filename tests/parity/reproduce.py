"""Everything that a fixture holds, computed by this repository's modules from the same weights and inputs.

Names and conventions are the fixtures'. Where the reference fills an entry that means nothing (no change
follows in the chunk), its filling is stated here, so that every number is compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.fixture import Fixture, filled, layers, width
from thick.behaviours.returns import lambda_returns, long_returns
from thick.models.beliefs import State
from thick.models.distributions import bernoulli_log_prob, normal_log_prob, one_hot_mode
from thick.models.dynamics.crssm import CRSSM
from thick.models.dynamics.rssm import RSSM
from thick.models.encoders import ImageDecoder, ImageEncoder
from thick.models.functions import balanced_kl
from thick.models.hierarchy.level import HighLevel, SegmentBatch
from thick.models.hierarchy.segments import at_segment_end, segment_ends, segment_targets
from thick.models.layers import MLP

FILL = 99.0
"""What the reference puts where no change follows: states of 99 at time 99."""


@torch.no_grad()
def reproduce(fixture: Fixture) -> dict[str, Tensor]:
    """Every quantity that the fixture's weights and inputs allow, by its name in the fixture."""
    found: dict[str, Tensor] = {}
    parts = {
        "crssm": (_crssm, ("action", "embed", "is_first", "imagine_action")),
        "rssm": (_rssm, ("action", "embed", "is_first", "imagine_action")),
        "encoder": (_encoder, ("image",)),
        "decoder": (_decoder, ("decoder_feat", "image")),
        "reward_head": (_reward_head, ("decoder_feat", "reward_target")),
        "discount_head": (_discount_head, ("decoder_feat", "discount_target")),
    }
    for prefix, (part, inputs) in parts.items():
        if any(name.startswith(f"{prefix}.") for name in fixture.weights) and fixture.inputs.keys() >= {
            *inputs
        }:
            found |= part(fixture)
    if "crssm.post.stoch" in found and "gates" in fixture.inputs:
        found |= _segments(fixture, found)
    if "thick.prior_hidden.kernel" in fixture.weights:
        # A fixture without a low level still says what its high level was given.
        found |= _high_level(fixture, {**fixture.expected, **found})
    found |= _returns(fixture.inputs, fixture.sizes)
    return found


def _sizes(fixture: Fixture, prefix: str) -> dict[str, int]:
    sizes = fixture.sizes
    return {
        "stoch": sizes["stoch"],
        "classes": sizes["classes"],
        "deter": sizes["deter"],
        "hidden": width(fixture.weights, f"{prefix}.img_in"),
        "action": fixture.inputs["action"].shape[-1],
        "embed": fixture.inputs["embed"].shape[-1],
    }


def _build_crssm(fixture: Fixture) -> CRSSM:
    module = CRSSM(
        context=width(fixture.weights, "crssm.gatel0rd.gate"),
        summary_layers=layers(fixture.weights, "crssm.ctxt_head.dense"),
        **_sizes(fixture, "crssm"),
    )
    return filled(module, fixture.weights, "crssm")


def _shifted(sequence: Tensor, first: Tensor) -> Tensor:
    """The sequence one step later along time, beginning with ``first``."""
    return torch.cat([first.unsqueeze(1), sequence[:, :-1]], 1)


def _last(state: State) -> State:
    return State(*(part[:, -1] for part in state))


def _crssm(fixture: Fixture) -> dict[str, Tensor]:
    model, inputs = _build_crssm(fixture), fixture.inputs
    seen = model.observe(inputs["embed"], inputs["action"], inputs["is_first"], sample=False)
    posterior, coarse = seen.posterior, seen.coarse_logits
    common = {
        "deter": posterior.deter,
        "context": posterior.context,
        "gates": posterior.gates,
        "prev_stoch": seen.previous_stoch.flatten(-2),
        "prev_action": seen.previous_action,
    }
    observed = {
        **common,
        "stoch": posterior.stoch,
        "logit": posterior.logits,
        # While training, the coarse path starts from the posterior too.
        "ctxt_stoch": posterior.stoch,
        "ctxt_logit": posterior.logits,
    }
    predicted = {
        **common,
        "stoch": one_hot_mode(seen.prior_logits),
        "logit": seen.prior_logits,
        "ctxt_stoch": one_hot_mode(coarse),
        "ctxt_logit": coarse,
    }
    action = inputs["imagine_action"]
    start = _last(posterior)
    dreamt = model.imagine(start, action, sample=False)
    previous = _shifted(dreamt.stoch, start.stoch)
    dreamt_coarse = model.coarse_prior(previous, action, dreamt.context)
    imagined = {
        "deter": dreamt.deter,
        "context": dreamt.context,
        "gates": dreamt.gates,
        "prev_stoch": previous.flatten(-2),
        "prev_action": action,
        "stoch": dreamt.stoch,
        "logit": dreamt.logits,
        "ctxt_stoch": one_hot_mode(dreamt_coarse),
        "ctxt_logit": dreamt_coarse,
    }
    balance = fixture.sizes.get("kl_balance", 0.8)
    kl, kl_value = balanced_kl(posterior.logits, seen.prior_logits, balance)
    coarse_kl, coarse_kl_value = balanced_kl(posterior.logits, coarse, balance)
    return {
        **{f"crssm.post.{name}": value for name, value in observed.items()},
        **{f"crssm.prior.{name}": value for name, value in predicted.items()},
        **{f"crssm.imagine.{name}": value for name, value in imagined.items()},
        "crssm.feat": _as_the_reference(model.features(posterior), model),
        "crssm.coarse_feat": model.coarse_features(posterior.stoch, posterior.context),
        "crssm.imagine_coarse_feat": model.coarse_features(imagined["ctxt_stoch"], dreamt.context),
        "crssm.kl_value": kl_value,
        "crssm.kl_loss": kl.mean(),
        "crssm.ctxt_kl_value": coarse_kl_value,
        "crssm.ctxt_kl_loss": coarse_kl.mean(),
        "crssm.gate_mean": posterior.gates.mean(),
    }


def _as_the_reference(feature: Tensor, model: RSSM) -> Tensor:
    """The fine feature must be ``[z, h, c]`` in this order: what heads and planners are built on."""
    assert feature.shape[-1] == model.stoch * model.classes + model.deter + model.context
    return feature


def _rssm(fixture: Fixture) -> dict[str, Tensor]:
    model: RSSM = filled(RSSM(**_sizes(fixture, "rssm")), fixture.weights, "rssm")
    inputs = fixture.inputs
    seen = model.observe(inputs["embed"], inputs["action"], inputs["is_first"], sample=False)
    posterior = seen.posterior
    keep = 1 - inputs["is_first"].unsqueeze(-1)
    before = _shifted(posterior.deter, torch.zeros_like(posterior.deter[:, 0])) * keep
    # The flat model has no context: what the reference calls gates there are the GRU's update gates.
    opened = model.update_gates(
        posterior._replace(stoch=seen.previous_stoch, deter=before), seen.previous_action
    )
    start, action = _last(posterior), inputs["imagine_action"]
    dreamt = model.imagine(start, action, sample=False)
    came_from = dreamt._replace(
        stoch=_shifted(dreamt.stoch, start.stoch), deter=_shifted(dreamt.deter, start.deter)
    )
    return {
        "rssm.post.stoch": posterior.stoch,
        "rssm.post.logit": posterior.logits,
        "rssm.post.deter": posterior.deter,
        "rssm.post.gates": opened,
        "rssm.prior.stoch": one_hot_mode(seen.prior_logits),
        "rssm.prior.logit": seen.prior_logits,
        "rssm.prior.deter": posterior.deter,
        "rssm.prior.gates": opened,
        "rssm.imagine.stoch": dreamt.stoch,
        "rssm.imagine.logit": dreamt.logits,
        "rssm.imagine.deter": dreamt.deter,
        "rssm.imagine.gates": model.update_gates(came_from, action),
        "rssm.feat": model.features(posterior),
    }


def _encoder(fixture: Fixture) -> dict[str, Tensor]:
    encoder = filled(ImageEncoder(width(fixture.weights, "encoder.conv0")), fixture.weights, "encoder")
    return {"encoder.embed": encoder(fixture.inputs["image"])}


def _decoder(fixture: Fixture) -> dict[str, Tensor]:
    feature, image = fixture.inputs["decoder_feat"], fixture.inputs["image"]
    depth = width(fixture.weights, "decoder.deconv2")
    decoder = filled(ImageDecoder(feature.shape[-1], depth), fixture.weights, "decoder")
    mean = decoder(feature)
    return {"decoder.image_mean": mean, "decoder.image_log_prob": decoder.log_prob(mean, image)}


def _head(fixture: Fixture, prefix: str) -> Tensor:
    """Output of a reward or discount head, ``[N]``."""
    feature, weights = fixture.inputs["decoder_feat"], fixture.weights
    count = layers(weights, f"{prefix}.dense")
    units = width(weights, f"{prefix}.dense0") if count else 0
    return filled(MLP(feature.shape[-1], units, count, 1), weights, prefix)(feature).squeeze(-1)


def _reward_head(fixture: Fixture) -> dict[str, Tensor]:
    mean = _head(fixture, "reward_head")
    log_prob = normal_log_prob(fixture.inputs["reward_target"], mean)
    return {"reward_head.mean": mean, "reward_head.log_prob": log_prob}


def _discount_head(fixture: Fixture) -> dict[str, Tensor]:
    logits = _head(fixture, "discount_head")
    log_prob = bernoulli_log_prob(logits, fixture.inputs["discount_target"])
    return {"discount_head.mean": torch.sigmoid(logits), "discount_head.log_prob": log_prob}


def _segments(fixture: Fixture, found: dict[str, Tensor]) -> dict[str, Tensor]:
    inputs, discount = fixture.inputs, fixture.sizes["discount"]
    reward = inputs["reward"]
    ends = segment_ends(inputs["gates"], inputs["is_terminal"], tuple(fixture.sizes["segment_criteria"]))
    # The reference looks across is_first, so for it the chunk is one episode. That segments stop at an
    # episode's end is held by tests/models/hierarchy/test_segments.py.
    segments = segment_targets(ends, torch.zeros_like(inputs["is_first"]), reward, discount)
    stoch, logits = found["crssm.post.stoch"].flatten(-2), found["crssm.post.logit"].flatten(-2)
    context = found["crssm.post.context"]
    mask = segments.mask.unsqueeze(-1)
    steps = reward.shape[1] - 1
    now = torch.arange(steps, dtype=reward.dtype)

    # Where no change follows, the reference sums the rewards that are left, but for the last.
    left = torch.zeros_like(segments.returns)
    for step in range(steps - 1, -1, -1):
        left[:, step] = reward[:, step] + (discount * left[:, step + 1] if step + 1 < steps else 0.0)

    def fill(value: Tensor, filling: Tensor | float) -> Tensor:
        return torch.where(mask > 0, value, torch.as_tensor(filling, dtype=value.dtype))

    targets = {
        "input": torch.cat([stoch, context], -1)[:, :-1],
        "stoch": fill(at_segment_end(stoch, segments, offset=-1), FILL),
        "stoch_logit": fill(at_segment_end(logits, segments, offset=-1), FILL),
        "action": fill(at_segment_end(inputs["action"], segments), 0.0),
        "next_context": fill(at_segment_end(context, segments), FILL),
        "elapsed": fill(segments.elapsed.unsqueeze(-1), (FILL - now)[None, :, None]),
        "return": fill(segments.returns.unsqueeze(-1), left.unsqueeze(-1)),
        "mask": mask,
    }
    return {f"thick_targets.{name}": value for name, value in targets.items()}


def _high_level(fixture: Fixture, known: dict[str, Tensor]) -> dict[str, Tensor]:
    weights, sizes = fixture.weights, fixture.sizes
    given = {
        name.removeprefix("thick_targets."): value
        for name, value in known.items()
        if name.startswith("thick_targets.")
    }
    groups = (sizes["stoch"], sizes["classes"])
    stoch, context = given["input"].split([groups[0] * groups[1], sizes["context"]], -1)
    stoch = stoch.unflatten(-1, groups)
    high_action = fixture.inputs["high_action"]
    model: HighLevel = filled(
        HighLevel(
            stoch=groups[0],
            classes=groups[1],
            context=sizes["context"],
            action=given["action"].shape[-1],
            continuous=sizes["continuous"],
            actions=high_action.shape[-1],
            hidden=width(weights, "thick.prior_hidden"),
            head_units=width(weights, "thick.action_head.dense0"),
            body_layers=layers(weights, "thick.body"),
            head_layers=layers(weights, "thick.action_head.dense"),
        ),
        weights,
        "thick",
    )
    before = given["stoch"].unflatten(-1, groups)
    prediction = model.predict(stoch, context, high_action)
    batch = SegmentBatch(
        stoch,
        context,
        given["next_context"],
        before,
        given["stoch_logit"].unflatten(-1, groups),
        given["action"],
        given["elapsed"].squeeze(-1),
        given["return"].squeeze(-1),
        given["mask"].squeeze(-1),
    )
    losses, _ = model.losses(batch, balance=sizes.get("high_action_kl_balance", 0.8), high_action=high_action)
    found = {
        "thick.prior_logit": model.prior(stoch, context),
        "thick.posterior_logit": model.posterior(stoch, context, given["next_context"], before),
        "thick.stoch_logit": prediction.stoch_logits.flatten(-2),
        "thick.time_mean": prediction.time.unsqueeze(-1),
        "thick.time_std": prediction.time_std.unsqueeze(-1),
        "thick.return_mean": prediction.returns.unsqueeze(-1),
        "thick.stoch_kl_loss": losses["state"],
        "thick.high_action_kl_loss": losses["high_action"],
        "thick.time_loss": losses["time"],
        "thick.return_loss": losses["returns"],
    }
    if model.continuous:
        found["thick.action_loc"] = prediction.action
        found["thick.action_scale"] = prediction.action_std
        found["thick.action_log_prob"] = model.action_log_prob(prediction, given["action"]).unsqueeze(-1)
    else:
        found["thick.action_probs"] = F.softmax(prediction.action, -1)
    if "crssm.img_in.kernel" in weights:
        jump = model.jump(_build_crssm(fixture), stoch, context, high_action)
        found |= {
            "jump.stoch_before": jump.stoch_before.flatten(-2),
            "jump.action": jump.action,
            "jump.context": jump.context,
            "jump.gates": jump.gates,
            "jump.coarse_stoch": jump.stoch.flatten(-2),
            "jump.coarse_logit": jump.logits.flatten(-2),
            "jump.elapsed": jump.elapsed.unsqueeze(-1),
        }
    return found


def _returns(inputs: dict[str, Tensor], sizes: dict[str, float]) -> dict[str, Tensor]:
    names = ("lambda_reward", "lambda_value", "lambda_discount")
    if any(name not in inputs for name in names):
        return {}
    reward, value, discount = (inputs[name] for name in names)
    found = {}
    if "lambda_bootstrap" in inputs:
        found["returns.lambda"] = lambda_returns(
            reward, value, discount, inputs["lambda_bootstrap"], lambda_=sizes["lambda_"]
        )
    if "long_inter_return" in inputs:
        found["returns.long"] = long_returns(
            inputs["long_inter_return"], inputs["long_inter_discount"], reward, discount, value
        )
    return found
