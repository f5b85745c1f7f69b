"""Do the tests notice a wrong loss? Plants one mistake at a time in a copy of the repository and runs its tests there.

    python scripts/mutants.py [--only WORD] [--list]

A mistake is a line of :data:`MUTANTS`: a flipped sign, a missing stop-gradient, an off-by-one, a leak across episodes.
It is *found* when a test fails; the program ends with 1 where one was not. It takes some minutes on one core and is
no part of the tests: it tests them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("thick", "tests", "service", "clients", "checkpoints", "pyproject.toml", "README.md")
WORLD = ("tests/learners/test_loss_numbers.py", "tests/learners/test_world_and_level.py", "tests/models")
BEHAVIOUR = (
    "tests/behaviours/test_actor_critic.py",
    "tests/behaviours/test_actor_critic_numbers.py",
    "tests/behaviours/test_returns.py",
)
DIRECTOR = ("tests/behaviours/test_director.py",)
EXPLORE = ("tests/learners/test_plan2explore.py",)


class Mutant(NamedTuple):
    """A mistake, and the tests that must find it."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


def of(file: str, tests: tuple[str, ...], *changes: tuple[str, str]) -> list[Mutant]:
    """Mistakes of one file."""
    return [Mutant(file, right, wrong, tests) for right, wrong in changes]


MUTANTS = [
    *of(
        "thick/learners/world.py",
        WORLD,
        ('"decoder": -decoded.mean()', '"decoder": decoded.mean()'),
        ('"reward": -reward.mean()', '"reward": reward.mean()'),
        ('terms["discount"] = -going_on.mean()', 'terms["discount"] = going_on.mean()'),
        ("(1 - batch.is_terminal.float())", "batch.is_terminal.float()"),
        ('terms["coarse_kl"] = kl.mean()', 'terms["coarse_kl"] = -kl.mean()'),
        ("if free else kl.mean()", "if free else -kl.mean()"),
        ("trajectory.prior_logits, balance)", "trajectory.prior_logits, 1 - balance)"),
        ("trajectory.coarse_logits, balance)", "trajectory.coarse_logits, 1 - balance)"),
        ("feature = world.dynamics.coarse_features(posterior.stoch, posterior.context)",
         "feature = world.dynamics.coarse_features(posterior.stoch.detach(), posterior.context)"),
        ("return gates.mean()", "return -gates.mean()"),
        ("torch.relu(counted - free * steps)", "torch.relu(free * steps - counted)"),
        ("counted = (gates.mean(-1) * inside)", "counted = gates.mean(-1)"),
        ("world.target_reward(batch.reward))", "world.target_reward(batch.reward.roll(1, 1)))"),
    ),
    *of(
        "thick/models/distributions.py",
        WORLD,
        ("(log_p.exp() * (log_p - log_q))", "(log_p.exp() * (log_q - log_p))"),
        ("return -0.5 * (((value - mean) / std) ** 2 + _LOG_2PI) - log_std",
         "return -0.5 * (((value - mean) / std) ** 2 + _LOG_2PI) + log_std"),
        ("- torch.log(mass.clamp_min(1e-8))", "+ torch.log(mass.clamp_min(1e-8))"),
    ),
    *of(
        "thick/models/distributions.py",
        WORLD,
        ("(1 - share) * logits.float().softmax(-1) + share / logits", "logits.float().softmax(-1) + share / logits"),
    ),
    *of(
        "thick/models/functions.py",
        WORLD,
        ("mul_((1 - ctx.balance) * grad)", "mul_(grad)"),
        ("mul_(ctx.balance * grad)", "mul_(grad)"),
        ("log_p.exp().sub_(q)", "q.sub(log_p.exp())"),
        ("(ratio - groups)", "(groups - ratio)"),
    ),
    *of(
        "thick/models/dynamics/scan.py",
        WORLD,
        ("torch.lerp(chance, even, unimix) if unimix", "chance if unimix"),
        ("alpha=1 - ctx.unimix", "alpha=1"),
    ),
    *of(
        "thick/data/latents.py",
        ("tests/data/test_latents.py",),
        ("!= step - 1:", "!= step:"),
        ("before = (step - 1) %", "before = step %"),
        ("if self._rings[ring].begins_episode(stream, step):", "if False:"),
    ),
    *of(
        "thick/models/twohot.py",
        ("tests/models/test_twohot.py",),
        ("return (1 - share) * low + share * high", "return share * low + (1 - share) * high"),
        ("right=True) - 1)", "right=True))"),
        ("half + 1 :].flip(-1)", "half + 1 :]"),
    ),
    *of(
        "thick/models/hierarchy/level.py",
        WORLD,
        ('"state": categorical_kl(batch.target_logits, prediction.stoch_logits)',
         '"state": categorical_kl(prediction.stoch_logits, batch.target_logits)'),
        ('"high_action": kl,', '"high_action": -kl,'),
        ('"action": -self.action_log_prob', '"action": self.action_log_prob'),
        ('"time": -normal_log_prob', '"time": normal_log_prob'),
        ('"returns": -normal_log_prob', '"returns": normal_log_prob'),
        ("(term * batch.mask).mean()", "term.mean()"),
        ("balanced_kl(posterior.unsqueeze(-2), prior.unsqueeze(-2), balance)",
         "balanced_kl(prior.unsqueeze(-2), posterior.unsqueeze(-2), balance)"),
        ("clamp(0, max_time) + 1", "clamp(0, max_time)"),
    ),
    *of(
        "thick/models/hierarchy/segments.py",
        WORLD,
        ("(index - 1 - now)", "(index - now)"),
        ("reward[:, :-1].double()", "reward[:, 1:].double()"),
        ("torch.where(ends | first, now + 1, time)", "torch.where(ends, now + 1, time)"),
        (" & ~first.gather(1, inside)", ""),
        ("index = segments.end + offset", "index = segments.end"),
    ),
    *of(
        "thick/learners/parts.py",
        WORLD,
        ("torch.randperm(count, device=device)", "torch.arange(count, device=device)"),
    ),
    *of(
        "thick/learners/level.py",
        WORLD,
        ("at_segment_end(posterior.stoch, segments, offset=-1)", "at_segment_end(posterior.stoch, segments)"),
        ("at_segment_end(posterior.logits, segments, offset=-1)", "at_segment_end(posterior.logits, segments)"),
        ("at_segment_end(batch.action, segments),", "at_segment_end(batch.action, segments, offset=-1),"),
        ("at_segment_end(posterior.context, segments),", "at_segment_end(posterior.context, segments, offset=-1),"),
        ("segment_batch(self.world, self.config, shared.batch, shared.posterior)",
         "segment_batch(self.world, self.config, shared.batch, shared.trajectory.posterior)"),
        ("dynamics.changes(posterior, batch.is_first)", "posterior.gates"),
    ),
    *of(
        "thick/behaviours/returns.py",
        BEHAVIOUR,
        ("one_step = reward + discount", "one_step = reward - discount"),
        ("torch.cat([value[1:], bootstrap", "torch.cat([value[:-1], bootstrap"),
        ("discount[step] * lambda_ * last", "lambda_ * last"),
        ("segment_discount * (reward + discount * value)", "reward + segment_discount * discount * value"),
    ),
    *of(
        "thick/behaviours/actor_critic.py",
        BEHAVIOUR,
        ('terms = {"policy": -(weight', 'terms = {"policy": (weight'),
        ('"entropy": -(weight * entropy)', '"entropy": (weight * entropy)'),
        ("log_prob * (returns - value[:-1]).detach()", "log_prob * returns.detach()"),
        ("discount[1:], value[-1], lambda_=config.lambda_)", "discount[:-1], value[-1], lambda_=config.lambda_)"),
        ("imagined.features[:-1].detach(), imagined.actions.detach()",
         "imagined.features[1:].detach(), imagined.actions.detach()"),
        ("returns.detach()[:, which], weight[:, which]", "returns[:, which], weight[:, which]"),
        ("config.long_weight * goal + (1 - config.long_weight) * long",
         "(1 - config.long_weight) * goal + config.long_weight * long"),
        ("return -(weight * critic.log_prob", "return (weight * critic.log_prob"),
        ("return (long - here) / self.gamma", "return long"),
        ("value = self.target(imagined.features)", "value = behaviour.critic(imagined.features)"),
    ),
    *of(
        "thick/behaviours/rewards.py",
        (*BEHAVIOUR, *EXPLORE),
        ("entered = State(*(part[1:] for", "entered = State(*(part[:-1] for"),
        ("left = State(*(part[:-1] for", "left = State(*(part[1:] for"),
    ),
    *of(
        "thick/behaviours/director.py",
        DIRECTOR,
        ('terms["manager_policy"] = -(weight', 'terms["manager_policy"] = (weight'),
        ('terms["manager_entropy"] = -(weight', 'terms["manager_entropy"] = (weight'),
        ('"worker_policy": -(weight', '"worker_policy": (weight'),
        ('"worker_entropy": -(weight', '"worker_entropy": (weight'),
        ("discount = torch.cat([torch.ones_like(within[:1, 0]), gamma * within[-1]])",
         "discount = torch.cat([torch.ones_like(within[:1, 0]), within[-1]])"),
        ("(part[1:] for part in imagined.states))), every)", "(part[:-1] for part in imagined.states))), every)"),
        ("regression(networks.worker_critic, seen, returns.detach(), weight)",
         "regression(networks.worker_critic, seen, returns, weight)"),
    ),
    *of(
        "thick/models/goals.py",
        DIRECTOR,
        ("categorical_kl(logits, torch.zeros_like(logits))", "-categorical_kl(logits, torch.zeros_like(logits))"),
        ("(self.decode(one_hot_sample(logits)) - feature.float()).square().sum(-1)",
         "-(self.decode(one_hot_sample(logits)) - feature.float()).square().sum(-1)"),
    ),
    *of(
        "thick/learners/goals.py",
        DIRECTOR,
        ("deterministic(shared.posterior)", "deterministic(shared.trajectory.posterior)"),
    ),
    *of(
        "thick/learners/ensemble.py",
        EXPLORE,
        ("batch.action[:, 1:]", "batch.action[:, :-1]"),
        ("posterior.stoch[:, 1:].flatten(-2)", "posterior.stoch[:, :-1].flatten(-2)"),
        ("(error.mean(0) * inside).sum()", "error.mean(0).sum()"),
        (".square().sum(-1) / 2", ".square().sum(-1) / -2"),
        ("posterior, batch = shared.posterior,", "posterior, batch = shared.trajectory.posterior,"),
    ),
    # -- what a reader planted and no test found --------------------------------------------------------------
    *of(
        "thick/models/actor.py",
        BEHAVIOUR,
        ("-(log_probs.exp() * log_probs).sum(-1)", "(log_probs.exp() * log_probs).sum(-1)"),
    ),
    *of(
        "thick/models/distributions.py",
        ("tests/models/test_distributions.py",),
        ("slope = (low * _normal_density(low) - high * _normal_density(high)) / mass",
         "slope = (high * _normal_density(high) - low * _normal_density(low)) / mass"),
        ("sample = mean + std * _SQRT_2", "sample = mean - std * _SQRT_2"),
    ),
    *of(
        "thick/models/encoders.py",
        ("tests/models/test_encoders.py",),
        ("total = total + logits.log_softmax(-1).gather(", "total = total - logits.log_softmax(-1).gather("),
        ("return bernoulli_log_prob(output.float()", "return -bernoulli_log_prob(output.float()"),
    ),
    *of(
        "thick/training/learner.py",
        WORLD,
        ("1 - options.weight_decay", "1 + options.weight_decay"),
        ("torch.autograd.grad(loss, weights", "torch.autograd.grad(-loss, weights"),
    ),
    *of(
        "thick/training/config.py",
        ("tests/training/test_config.py",),
        ("rising = min(1.0, (update + 1)", "rising = min(1.0, (update + 2)"),
    ),
    *of(
        "thick/behaviours/actor_critic.py",
        BEHAVIOUR,
        ('"policy": -(weight * advantage).mean()', '"policy": -advantage.mean()'),
        ('"entropy": -(weight * entropy).mean()', '"entropy": -entropy.mean()'),
        ("return -(weight * critic.log_prob(feature, goal)).mean()", "return -critic.log_prob(feature, goal).mean()"),
        ("regression(behaviour.coarse_critic, coarse, goal, weight)",
         "regression(behaviour.coarse_critic, coarse, returns.detach(), weight)"),
        ("regression(behaviour.coarse_critic, coarse, goal, weight)",
         "regression(behaviour.coarse_critic, coarse, goal, torch.ones_like(weight))"),
        ("shared.coarse_logits(index)[which])[:-1]", "shared.coarse_logits(index)[which])[1:]"),
        ("part[:-1] for part in few.states", "part[1:] for part in few.states"),
        ("shared.coarse_logits(index)[which]", "shared.coarse_logits(index)[: len(goal[0])]"),
        ("returns.detach()[:, which], weight[:, which]", "returns.detach()[:, which], weight[:, : len(index[which])]"),
        ("imagined.actions, states.context[1:])", "imagined.actions, states.context[:-1])"),
        ("        return self.coarse_target\n", "        return self._parts[1].coarse_critic\n"),
        ("max_time=self.max_time, sample=True", "max_time=self.max_time, sample=False"),
        ("linspace(0.05, 0.95, 2,", "linspace(0.0, 1.0, 2,"),
    ),
    *of(
        "thick/behaviours/rollouts.py",
        BEHAVIOUR,
        ("action = policy(world.dynamics.features(state).detach())",
         "action = policy(world.dynamics.features(state))"),
        ("rest[..., 0], gamma, dtype", "rest[..., 0], 1.0, dtype"),
    ),
    *of(
        "thick/learners/world.py",
        WORLD,
        ("openings(posterior.gates, batch.is_first", "openings(posterior.gates.detach(), batch.is_first"),
        ("name: each.flatten(0, 1)[index]", "name: each.flatten(0, 1)[: len(index)]"),
    ),
    *of(
        "thick/models/dynamics/rssm.py",
        WORLD,
        ("prior = self.prior(deter, context)\n        coarse",
         "prior = self.prior(deter.detach(), context)\n        coarse"),
        ("self.coarse_prior(previous, action, context)", "self.coarse_prior(previous.detach(), action, context)"),
        ("self.coarse_prior(previous, action, context)", "self.coarse_prior(previous, action, context.detach())"),
        ("self.coarse_prior(previous, action, context)", "self.coarse_prior(stoch, action, context)"),
    ),
    *of(
        "thick/models/dynamics/crssm.py",
        WORLD,
        ("before * (1 - is_first.to(context.dtype)).unsqueeze(-1)", "before"),
    ),
    *of(
        "thick/learners/level.py",
        WORLD,
        ("segment_ends(gates, batch.is_terminal,", "segment_ends(gates, batch.is_first,"),
    ),
    *of("thick/models/goals.py", DIRECTOR, (".square().mean(-1)", ".square().sum(-1)")),
]  # fmt: skip


def found(mutant: Mutant, copy: Path) -> bool:
    """Whether a test fails with the mistake in place; the copy is as it was afterwards."""
    path = copy / mutant.file
    text = path.read_text()
    if mutant.right not in text:
        raise SystemExit(f"{mutant.file}: {mutant.right!r} is not there any more; mend this list")
    path.write_text(text.replace(mutant.right, mutant.wrong, 1))
    command = [
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow and not soak",
        *mutant.tests,
    ]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True
        )
    finally:
        path.write_text(text)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests could not run:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.returncode == 1


def main() -> int:
    """Plant each mistake in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mistakes whose file or text has this word")
    parser.add_argument("--list", action="store_true", help="show them and end")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if given.only in " ".join(mutant[:3])]
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for each in COPIED:
            source = ROOT / each
            ignored = shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, copy / each, ignore=ignored)
            else:
                shutil.copy(source, copy / each)
        for number, mutant in enumerate(chosen, 1):
            line = f"{mutant.file}: {mutant.right}  ->  {mutant.wrong}"
            if given.list:
                print(line)
                continue
            began = time.monotonic()
            caught = found(mutant, copy)
            missed += not caught
            took = f"{time.monotonic() - began:.0f} s"
            print(
                f"[{number}/{len(chosen)}] {'found ' if caught else 'MISSED'} {took:>5}  {line}", flush=True
            )
    if missed:
        print(f"{missed} of {len(chosen)} mistakes were not found", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
