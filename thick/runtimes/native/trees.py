"""Trees of a search over jumps that the kernels keep and search (:class:`thick.planning.forests.Forest`).

All numbers of a search lie in one piece of memory, whose plan depends on sizes alone and is made once for each. Nodes
that were computed lately are remembered beside it, by the bits of their states: different ways often lead to the same
state, and what is behind a state depends on its bits alone.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from thick.planning.forests import Rule
from thick.planning.protocols import JumpState
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import numbers, whole

WAYS = 4
"""nodes of a set of a memo"""
SETS = 512
NARROW = 24
"""jumps of a call that reads many weights: about as many take as long as a few"""
HEAVY = 6_000_000
"""weights of this many bytes are read anew by every call, since the caches near a core do not hold them"""

_WORD = 8
_KINDS: dict[str, Any] = {"stoch": np.int64}
PARTS = ("stoch", "context", "reward", "elapsed", "prior", "edge", "fade", "value")
"""of a node, as ``Jumps`` in ``native/thick.h`` has them"""


STATE = PARTS[:3]
_ARRAYS = (
    *(
        "prior",
        "mean",
        "logits",
        "visits",
        "child",
        "total",
        "came",
        "lowest",
        "highest",
        "score",
        "way",
        "length",
    ),
    *("end", "origin", "guess", "lengths", "before", "hash"),
)


class Jumping(Protocol):
    """What a search needs of a high level."""

    stoch: int
    classes: int
    context: int
    action: int
    actions: int
    address: int
    """where its record for the kernels lies"""
    prior_chain: Any
    chains: dict[str, Any]
    """with the critic's, where there is one"""
    ahead: int
    """states that a call expands together"""
    templates: dict[Any, tuple[np.ndarray, np.ndarray]]
    """of the records of searches, by their sizes"""

    @property
    def lead(self) -> int:
        """Floats of a row of every buffer."""


class Sizes(NamedTuple):
    """What the plan of a search's memory depends on."""

    sessions: int
    simulations: int
    depth: int
    actions: int
    stoch: int
    context: int
    action: int
    ahead: int
    gumbel: bool


class TreeArrays(NamedTuple):
    """Where the arrays of a search lie in its memory: offset, shape and type by name; and how much there is."""

    arrays: dict[str, tuple[int, tuple[int, ...], Any]]
    size: int


def parts_of(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shapes of a node's parts."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(PARTS, (sizes.actions,))
    shapes |= {"stoch": (sizes.actions, sizes.stoch), "context": (sizes.actions, sizes.context), "value": ()}
    return shapes


@functools.lru_cache(maxsize=64)
def arranged(sizes: Sizes) -> TreeArrays:
    """The plan for these sizes."""
    b, room, g = sizes.sessions, sizes.simulations + 1, sizes.actions
    most = b + sizes.ahead
    guesses, i8, f8, f4 = 2 * sizes.ahead, np.int64, np.float64, np.float32
    wanted: list[tuple[str, Any, tuple[int, ...]]] = [
        ("prior", f8, (b, room, g)),
        ("mean", f8, (b, room, g)),
        ("logits", f8, (b, room, g) if sizes.gumbel else (0,)),
        ("visits", i8, (b, room, g)),
        ("child", i8, (b, room, g)),
        ("total", i8, (b, room)),
        ("came", i8, (b, room)),
        ("lowest", f8, (b,)),
        ("highest", f8, (b,)),
        ("score", f8, (g,)),
        ("way", i8, (b, sizes.depth)),
        ("length", i8, (b,)),
        ("end", i8, (b,)),
        ("origin", i8, (b,)),
        ("guess", i8, (guesses, sizes.depth)),
        ("lengths", i8, (guesses,)),
        ("before", f8, (guesses, sizes.depth)),
        ("hash", i8, (most,)),
        ("asked.stoch", i8, (most, sizes.stoch)),
        ("asked.context", f4, (most, sizes.context)),
        ("asked.reward", f4, (most,)),
        ("jump.before", i8, (most, g, sizes.stoch)),
        ("jump.action", f4, (most, g, sizes.action)),
        ("jump.gates", f4, (most, g, sizes.context)),
        ("jump.segment", f4, (most, g)),
        ("jump.continuation", f4, (most, g)),
    ]
    for name, shape in parts_of(sizes).items():
        kind = _KINDS.get(name, f4)
        wanted += [(f"nodes.{name}", kind, (b, room, *shape)), (f"fresh.{name}", kind, (most, *shape))]
    arrays, size = {}, 0
    for name, kind, shape in wanted:
        arrays[name] = (size, shape, kind)
        size += -(-math.prod(shape) * np.dtype(kind).itemsize // _WORD) * _WORD
    return TreeArrays(arrays, size)


class Trees:
    """One search: see :class:`thick.planning.forests.Forest`.

    Args:
        high: the high level.
        memos: nodes that were computed lately.
        root, rule, simulations, depth, critic: see :class:`thick.planning.forests.Forester`.
    """

    def __init__(
        self,
        high: Jumping,
        memos: Memos,
        root: JumpState,
        rule: Rule,
        *,
        simulations: int,
        depth: int,
        critic: bool,
    ) -> None:
        self.sessions, self.actions = len(root.stoch), high.actions
        self._memos, self._critic = memos, critic
        sizes = Sizes(
            self.sessions,
            simulations,
            depth,
            high.actions,
            high.stoch,
            high.context,
            high.action,
            high.ahead,
            rule.schedule is not None,
        )
        self._plan = arranged(sizes)
        self._memory = np.empty(self._plan.size, np.uint8)
        self._views: dict[str, np.ndarray] = {}
        given = (
            whole(root.stoch, (self.sessions, high.stoch), high.classes),
            numbers(root.context, (self.sessions, high.context)),
            numbers(root.reward, (self.sessions,)),
        )
        words, inside = high.templates.get((sizes, critic)) or template(high, sizes, critic)
        self._words = words + inside * native.address(self._memory)
        self._where = native.address(self._words)
        self._job = native.Trees.from_buffer(self._words)
        self._job.expand = self._where + ctypes.sizeof(native.Trees)
        if rule.schedule is not None:
            self._kept = np.array(rule.schedule, np.int64), np.array(rule.noise, np.float64)
            self._job.schedule, self._job.noise = map(native.address, self._kept)
        self._root = root
        states = native.States(*map(native.address, given))
        if self._call(native.library().thick_plant, ctypes.byref(states)):
            raise MemoryError("no memory for the root of a tree")

    def simulate(self, done: int, asked: int, seconds: float) -> int:
        made = self._call(native.library().thick_simulate, done, asked, seconds)
        if made < 0:
            raise MemoryError("no memory for the nodes of a tree")
        return made

    def _call(self, function: Any, *arguments: Any) -> int:
        """What a function of the library gives for these trees and a memo that nobody else has meanwhile."""
        which, threads = native.computed_by()
        memo = self._memos.take(self._critic, which)
        try:
            return int(function(self._where, memo.where, which, threads, *arguments))
        finally:
            self._memos.give_back(memo)

    def edges(self, session: int, node: int) -> tuple[list[float], float, list[float], list[float], Any]:
        at = session, node
        return (
            self["prior"][at].tolist(),
            float(self["nodes.value"][at]),
            self["nodes.edge"][at].tolist(),
            self["nodes.fade"][at].tolist(),
            (self["visits"][at].tolist(), self["mean"][at].tolist(), self["child"][at].tolist()),
        )

    def bounds(self, session: int) -> tuple[float, float]:
        return float(self["lowest"][session]), float(self["highest"][session])

    def set_prior(self, session: int, prior: list[float]) -> None:
        self["prior"][session, 0] = prior

    def states(self, nodes: np.ndarray) -> JumpState:
        inner, rows = nodes > 0, np.arange(self.sessions)[:, None]
        edges = np.where(inner, self["came"][rows, nodes], 0)
        found = []
        for name, root in zip(JumpState._fields, self._root, strict=True):
            behind = self["nodes." + name]
            state = behind.reshape(-1, *behind.shape[3:])[edges]
            state[~inner] = root[np.nonzero(~inner)[0]]
            found.append(state)
        return JumpState(*found)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self._views.get(name)
        if found is None:
            at, shape, kind = self._plan.arrays[name]
            found = self._views[name] = np.ndarray(shape, kind, self._memory, at)
        return found


def template(high: Jumping, sizes: Sizes, critic: bool) -> tuple[np.ndarray, np.ndarray]:
    """The records of a search in words, for memory that begins at 0; and 1 where one says where it lies."""
    made = [np.concatenate([_words(part) for part in _records(high, sizes, critic, at)]) for at in (0, 1)]
    high.templates[sizes, critic] = made[0], made[1] - made[0]
    return high.templates[sizes, critic]


def _words(record: Any) -> np.ndarray:
    return np.frombuffer(bytes(record), np.int64)


def _records(high: Jumping, sizes: Sizes, critic: bool, begin: int) -> tuple[Any, Any]:
    """``Trees`` and ``ExpandRows`` of a search whose memory begins there."""
    plan = arranged(sizes)

    def at(name: str) -> int:
        return begin + plan.arrays[name][0]

    def columns(of: str, names: tuple[str, ...] = PARTS) -> list[int]:
        return [at(f"{of}.{name}") for name in names]

    job = native.Trees(
        sizes.sessions, sizes.simulations + 1, sizes.depth, sizes.actions, sizes.stoch, sizes.context
    )
    for index, (name, shape) in enumerate(parts_of(sizes).items()):
        job.bytes[index] = math.prod(shape) * np.dtype(_KINDS.get(name, np.float32)).itemsize
    job.nodes, job.fresh = native.Jumps(*columns("nodes")), native.Jumps(*columns("fresh"))
    job.asked = native.States(*columns("asked", STATE))
    for name in _ARRAYS:
        setattr(job, name, at(name))
    job.ahead, job.guesses = sizes.ahead, 2 * sizes.ahead
    if critic:
        chain = ctypes.addressof(high.chains["critic"])
        job.critic = native.ChainRows(chain, *columns("asked", ("stoch", "context")), at("fresh.value"))
    job.lead, job.tile = high.lead, max(1, native.TILE // sizes.actions)
    landed = [at(f"fresh.{name}") for name in ("stoch", "context", "elapsed", "reward")]
    jump = native.JumpRows(
        high.address,
        sizes.actions,
        at("asked.stoch"),
        0,
        at("asked.context"),
        0,
        0,
        at("jump.before"),
        landed[0],
        at("jump.action"),
        landed[1],
        at("jump.gates"),
        landed[2],
        at("jump.segment"),
        landed[3],
        at("jump.continuation"),
    )
    outputs = columns("fresh", ("prior", "edge", "fade", "value"))
    prior = ctypes.addressof(high.prior_chain)
    return job, native.ExpandRows(jump, prior, at("asked.reward"), *outputs)


class Memo:
    """Nodes that were computed lately with one instruction set, and without or with the critic."""

    def __init__(self, high: Jumping, critic: bool, instructions: int) -> None:
        self.kind = critic, instructions
        sizes = Sizes(1, 1, 1, high.actions, high.stoch, high.context, high.action, 1, False)
        slots = SETS * WAYS
        self.hash, self._next = np.zeros(slots, np.int64), np.zeros(SETS, np.int64)
        shapes = {"stoch": (sizes.stoch,), "context": (sizes.context,), "reward": ()}
        self._arrays = [
            [np.empty((slots, *shape), _KINDS.get(name, np.float32)) for name, shape in each.items()]
            for each in (shapes, parts_of(sizes))
        ]
        states, nodes = ([native.address(x) for x in part] for part in self._arrays)
        self._record = native.Memo(
            SETS,
            native.address(self.hash),
            native.address(self._next),
            native.States(*states),
            native.Jumps(*nodes),
        )
        self.where = ctypes.addressof(self._record)


class Memos:
    """Memos of a high level: as many as searches have simulated at the same time."""

    def __init__(self, high: Jumping) -> None:
        self._high = high
        self._free: dict[tuple[bool, int], list[Memo]] = {}

    def take(self, critic: bool, instructions: int) -> Memo:
        """One for the caller alone, until it is given back."""
        try:
            return self._free[critic, instructions].pop()
        except (KeyError, IndexError):
            return Memo(self._high, critic, instructions)

    def give_back(self, memo: Memo) -> None:
        """Let others have it."""
        self._free.setdefault(memo.kind, []).append(memo)

    def clear(self) -> None:
        """Forget all nodes."""
        for memos in self._free.values():
            for memo in memos:
                memo.hash[:] = 0
