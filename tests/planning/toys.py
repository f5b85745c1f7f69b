"""Worlds with known answers, in the shapes that planners ask for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thick.arrays.torch_arrays import on
from thick.models.beliefs import Belief, Landing
from thick.planning.protocols import Node, Score
from thick.planning.randomness import Randomness
from thick.planning.sampling import Warm

# -- a corridor with doors -------------------------------------------------------------------------------

ROOM, ROOMS = 6, 3
END = ROOM * ROOMS
LEFT, RIGHT, TOGGLE = 0, 1, 2


def at(*positions: int) -> Tensor:
    """z of positions, one group for each cell: has it been passed? ``[B, END]``"""
    return (torch.tensor(positions).unsqueeze(-1) > torch.arange(END)).long()


def room_of(position: Tensor) -> Tensor:
    """One-hot context ``[*B, ROOMS + 1]``: the room, or the place beyond the end."""
    room = torch.where(position >= END, ROOMS, (position - 1).clamp_min(0) // ROOM)
    return F.one_hot(room, ROOMS + 1).float()


class Corridor:
    """Cells 0..END; the last cell of each room is a door that only ``toggle`` goes through. Reward 1 at the end.

    The context is the room, so a gate opens exactly when a door is passed. Continuous actions ``[*B, 1]`` stand for
    left (below -1/3), toggle and right (above 1/3).
    """

    stoch, classes, context = END, 2, ROOMS + 1
    gamma = 0.95
    has_actor = False
    draws = 0

    def __init__(self, *, continuous: bool = False) -> None:
        self.continuous = continuous

    def belief(self, *positions: int) -> Belief:
        """Where sessions are, ``[B]``."""
        stoch = at(*positions)
        context = room_of(stoch.sum(-1))
        return Belief.of(stoch, self.logits(stoch), context[..., :0], context, torch.zeros_like(context))

    @staticmethod
    def logits(stoch: Tensor) -> Tensor:
        """Certain ones."""
        return 30.0 * F.one_hot(stoch, 2).float()

    def imagine(self, belief: Belief, action: Tensor, uniforms: Tensor | None = None) -> Belief:
        position = belief.stoch.sum(-1)
        if self.continuous:
            left, right = action[..., 0] < -1 / 3, action[..., 0] > 1 / 3
        else:
            left, right = action[..., LEFT] > 0, action[..., RIGHT] > 0
        door = (position % ROOM == 0) & (position > 0)
        first = (position - 1) % ROOM == 0
        step = torch.where(left, torch.where((position == 0) | (first & (position > 1)), 0, -1), 0)
        step = torch.where(right, torch.where(door, 0, 1), step)
        step = torch.where(~left & ~right & door, 1, step)
        after = torch.where(position >= END, position, (position + step).clamp(0, END))
        after = torch.where((position == END - 1) & right, END, after)
        stoch = (after.unsqueeze(-1) > torch.arange(END)).long()
        context = room_of(after)
        gates = (context != belief.context).any(-1, keepdim=True).expand_as(context).float()
        return Belief.of(stoch, self.logits(stoch), belief.deter, context, gates)

    def outcome(self, belief: Belief) -> tuple[Tensor, Tensor]:
        ended = (belief.stoch.sum(-1) >= END).float()
        return ended, 1 - ended

    def value(self, belief: Belief) -> Tensor:
        raise AssertionError("there is no critic")

    def policy(self, belief: Belief) -> tuple[Tensor, Tensor | None]:
        raise AssertionError("there is no actor")


class Doors:
    """Jumps: 0 to the door behind (or the wall), 1 through the door ahead; the last one reaches the end."""

    actions, gamma, has_critic = 2, 0.95, False

    def __init__(self, corridor: Corridor) -> None:
        self.corridor = corridor

    def prior(self, stoch: Tensor, context: Tensor) -> Tensor:
        return torch.zeros(*stoch.shape[:-1], 2)

    def segment_return(self, stoch: Tensor, context: Tensor, high_action: Tensor) -> Tensor:
        return torch.zeros(stoch.shape[:-1])

    def outcome(self, stoch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        ended = (stoch.sum(-1) >= END).float()
        return ended, 1 - ended

    def value(self, stoch: Tensor, context: Tensor) -> Tensor:
        raise AssertionError("there is no critic")

    def jump(
        self, stoch: Tensor, context: Tensor, high_action: Tensor, uniforms: Tensor | None = None
    ) -> Landing:
        position, room = stoch.sum(-1), context.argmax(-1).clamp_max(ROOMS - 1)
        last = room == ROOMS - 1
        ahead = high_action == 1
        before = torch.where(
            ahead, torch.where(last, END - 1, ROOM * (room + 1)), (ROOM * room + 1).clamp_max(END)
        )
        before = torch.where(~ahead & (room == 0), 0, before)
        after = torch.where(ahead, torch.where(last, END, before + 1), before)
        choice = torch.where(ahead, torch.where(last, RIGHT, TOGGLE), LEFT)
        if self.corridor.continuous:
            action = (choice == RIGHT).float().unsqueeze(-1) - (choice == LEFT).float().unsqueeze(-1)
        else:
            action = F.one_hot(choice, 3).float()
        z_before = (before.unsqueeze(-1) > torch.arange(END)).long()
        z_after = (after.unsqueeze(-1) > torch.arange(END)).long()
        reward, continuation = self.outcome(z_after, context)
        landed = room_of(after)
        return Landing(
            self.corridor.logits(z_before),
            z_before,
            action,
            z_after,
            landed,
            (landed != context).float(),
            (before - position).abs().float() + 1,
            torch.zeros(position.shape),
            reward,
            continuation,
        )


class CorridorModel:
    """Both levels of the corridor."""

    arrays = on(torch.device("cpu"))

    def __init__(self, *, continuous: bool = False) -> None:
        self.manager = None
        self.exact = self.search = Corridor(continuous=continuous)
        self.high: Doors | None = Doors(self.exact)


# -- trees -----------------------------------------------------------------------------------------------


class Chance(NamedTuple):
    """A tree with random numbers at its nodes, ``[B, nodes]``: children of node n are G·n + 1 … G·n + G."""

    prior: Tensor
    """[B, nodes, G] probabilities"""
    value: Tensor
    """[B, nodes]"""
    reward: Tensor
    """[B, nodes] received on reaching the node"""
    discount: Tensor
    """[B, nodes] likewise"""


def chance(seed: int, batch: int, *, actions: int = 3, levels: int = 4) -> Chance:
    """Random numbers for a full tree."""
    generator = torch.Generator().manual_seed(seed)
    nodes = sum(actions**level for level in range(levels + 1))
    prior = torch.rand(batch, nodes, actions, generator=generator).softmax(-1)
    value, reward = torch.randn(2, batch, nodes, generator=generator)
    return Chance(prior, value, reward, 0.5 + 0.5 * torch.rand(batch, nodes, generator=generator))


class ChanceModel:
    """The random tree as a search model; a state is ``(node [*B],)``."""

    def __init__(self, tree: Chance) -> None:
        self.tree = tree
        self.actions = tree.prior.shape[-1]

    def root(self) -> Any:
        return (torch.zeros(self.tree.value.shape[0], dtype=torch.int64),)

    def evaluate(self, state: Any) -> Node:
        tree, index = self.tree, state[0]
        # Where the tree ends nothing more can be asked; searches of these tests never go there.
        children = (self.actions * index.unsqueeze(-1) + 1 + torch.arange(self.actions)) % tree.value.shape[1]
        rows = torch.arange(index.shape[0]).reshape(-1, *(1,) * (index.dim() - 1)).expand_as(index)
        below = rows.unsqueeze(-1).expand_as(children)
        return Node(
            tree.prior[rows, index],
            tree.value[rows, index],
            tree.reward[below, children],
            tree.discount[below, children],
            (children,),
        )


# -- sampling --------------------------------------------------------------------------------------------


def randomness(*seeds: int) -> Randomness:
    """Randomness for one session a seed."""
    return Randomness(torch.tensor(seeds, dtype=torch.int64))


def cold(batch: int, horizon: int, actions: int) -> Warm:
    """No previous plan."""
    return Warm(torch.zeros(batch, horizon, actions), torch.zeros(batch, dtype=torch.bool))


def bowl(centre: Tensor) -> Any:
    """Scores of sequences: minus the squared distance to ``centre`` ``[B, H, A]``."""

    def evaluate(candidates: Tensor, noise: Randomness) -> Score:
        score = -(candidates - centre.unsqueeze(1)).square().sum((-1, -2))
        return Score(score, score)

    return evaluate
