"""Clients that use everything that changes a session, and remember what they were answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.base import SyncClient
from clients.errors import ConnectionLostError
from clients.session import Session
from tests.faults.support import observation
from tests.faults.truth import Episode

METHODS = ("policy", "flat", "hierarchical")
BUDGET = {"samples": 8, "iterations": 1, "elites": 2, "horizon": 2, "simulations": 3}
CHANCES = {"act": 0.8, "again": 0.06, "reset": 0.04, "fork": 0.04, "restore": 0.04, "renew": 0.02}
"""what a client does next"""


@dataclass
class Track:
    """One session, and all that is known of it."""

    session: Session
    episode: Episode
    replayable: bool = False
    """whether its last act was its own: a fork does not know its parent's answer"""


@dataclass(eq=False)
class Client:
    """One client with a few sessions, in a thread of its own. It outlives its server: whatever is not answered
    is asked again.

    Args:
        number: tells its observations from all others.
        connected: its connection.
        sessions: it has at once.
        gate: while it is not set, nothing new is begun.
    """

    number: int
    connected: SyncClient
    sessions: int = 2
    gate: threading.Event = field(default_factory=threading.Event)
    tracks: list[Track] = field(default_factory=list)
    ended: list[Episode] = field(default_factory=list)
    """episodes that are over"""
    deleted: set[str] = field(default_factory=set)
    """sessions whose deletion was answered"""
    answers: int = 0
    replayed: int = 0
    """acts that were answered after the connection was lost, from what the server had stored"""
    lost: int = 0
    """creations that were not answered: their sessions may exist without an owner"""
    failure: BaseException | None = None
    idle: bool = False
    """whether it waits at the gate"""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([7, self.number])
        self._observed = 0
        self._over = False
        self._thread = threading.Thread(target=self._live, name=f"client {self.number}", daemon=True)

    def start(self) -> None:
        """Begin, once the gate is open."""
        self._thread.start()

    def finish(self) -> None:
        """End after what runs now."""
        self._over = True
        self.gate.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a client still waits for an answer"
        if self.failure is not None:
            raise self.failure

    def _live(self) -> None:
        try:
            while not self._over:
                self.idle = True
                self.gate.wait()
                self.idle = False
                if not self._over:
                    self._one_thing()
        except BaseException as error:
            self.failure = error
        finally:
            self.idle = True
            self.connected.close()

    def check_last_answers(self) -> None:
        """Ask every session for its last answer again, which it must still know."""
        for track in self.tracks:
            if track.replayable:
                self._again(track)

    def act(self, track: Track) -> None:
        """The next act of a session."""
        self._observed += 1
        body: dict[str, Any] = {"observation": observation(self.number, self._observed)}
        if self._rng.random() < 0.2:
            body["executed_action"] = self._rng.uniform(-1, 1, 2).astype(np.float32)
        if self._rng.random() < 0.2:
            body["reward"] = float(self._rng.random())
        decision = track.session.decide(**body, include=())
        assert decision.step == len(track.episode.actions), (decision.step, len(track.episode.actions))
        assert decision.session_id == track.session.id
        self.replayed += decision.replayed
        self.answers += 1
        track.episode.asked.append({**body, "include": []})
        track.episode.actions.append(decision.action)
        track.replayable = True

    # -- one thing at a time -----------------------------------------------------------------------------

    def _one_thing(self) -> None:
        if len(self.tracks) < self.sessions:
            self.tracks.append(self._created())
            return
        what = str(self._rng.choice(list(CHANCES), p=list(CHANCES.values())))
        track = self.tracks[self._rng.integers(len(self.tracks))]
        if what == "act":
            self.act(track)
        elif what == "again":
            if track.replayable:
                self._again(track)
        elif what == "reset":
            self._reset(track)
        elif what == "fork":
            self._add(self._surely(track.session.fork), track)
        elif what == "restore":
            belief = track.session.belief()
            self._add(self._surely(lambda: self.connected.restore(belief)), track)
        else:
            self._delete(track)

    def _created(self) -> Track:
        seed = int(self._rng.integers(2**31))
        planner = {**BUDGET, "method": METHODS[seed % len(METHODS)]}
        session = self._surely(lambda: self.connected.session("arm", seed=seed, planner=planner))
        return Track(session, Episode("arm", seed, planner))

    def _again(self, track: Track) -> None:
        session, last = track.session, len(track.episode.actions) - 1
        session.step = last
        options = {key: value for key, value in track.episode.asked[last].items() if key != "include"}
        decision = session.decide(**options, include=())
        assert decision.replayed, f"step {last} was done twice"
        assert np.array_equal(decision.action, track.episode.actions[last])

    def _reset(self, track: Track) -> None:
        track.session.reset()
        self.ended.append(track.episode)
        track.episode = Episode(track.episode.model, track.episode.seed, track.episode.planner)
        track.replayable = False

    def _add(self, session: Session, parent: Track) -> None:
        """A session with the past of another, in the place of the oldest."""
        assert session.step == len(parent.episode.actions)
        self.tracks.append(Track(session, parent.episode.copy()))
        if len(self.tracks) > self.sessions:
            self._delete(self.tracks[0])

    def _delete(self, track: Track) -> None:
        self.tracks.remove(track)
        track.session.close()
        self.deleted.add(track.session.id)
        self.ended.append(track.episode)

    def _surely(self, make: Callable[[], Session]) -> Session:
        """What makes a session is not sent twice by the client itself; here, one more does no harm."""
        while True:
            try:
                return make()
            except ConnectionLostError:
                self.lost += 1
                time.sleep(0.02)


__all__ = ["Client", "Track"]
