"""A dream: a served model stepped as an environment; this is the client's end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clients import calls, dream_results, results
from clients.asynchronous.block import AsyncBlock
from clients.asynchronous.carrier import AsyncCarrier
from clients.asynchronous.waiting import Lock
from clients.errors import NotFoundError, SessionExpiredError
from thick.spaces import Space


class AsyncDream(AsyncBlock):
    """Some imagined environments of one model that are stepped together; as a context manager it is deleted at the end.

    It may be shared: its steps then happen one after the other.
    """

    def __init__(self, client: AsyncCarrier, info: dream_results.DreamInfo) -> None:
        self._client = client
        self._lock = Lock()
        self.info = info
        self.step_number = info.step
        """the number of the next step"""

    @property
    def id(self) -> str:
        """The server's name of the dream."""
        return self.info.dream_id

    @property
    def count(self) -> int:
        """How many environments it has."""
        return self.info.count

    @property
    def observation_space(self) -> Space | None:
        """What an observation of one environment looks like."""
        return self.info.observation_space

    @property
    def action_space(self) -> Space | None:
        """What an action in one environment looks like."""
        return self.info.action_space

    @property
    def observation(self) -> results.Observation:
        """What the environments looked like when the dream began or was reset, ``[count, ...]``."""
        return self.info.observation

    async def step(
        self,
        actions: Sequence[Any] | np.ndarray,
        *,
        include: Sequence[str] = ("observation",),
        autoreset: bool = False,
        begin: Sequence[int] = (),
    ) -> dream_results.DreamtStep:
        """What follows an action in each environment.

        Args:
            actions: ``count`` of them; an array travels in one piece.
            include: ``"observation"``, ``"value"``, ``"gates"``, as many as are wanted.
            autoreset: environments that have terminated begin anew in place of their action, without a reward.
            begin: further environments that do so.

        Raises:
            ServiceError: the server refused; an environment that has terminated must begin anew first.
            ClientError: it could not be reached. The same step may be tried again: steps are exactly-once.
        """
        parts = ["observations" if name == "observation" else name for name in include]
        body = {
            "actions": actions if isinstance(actions, np.ndarray) else list(actions),
            "include": parts,
            "autoreset": autoreset or None,
            "begin": list(map(int, begin)) or None,
        }
        async with self._lock:
            made = await self._client._run(calls.step_dream(self.info, self.step_number, body))
            self.step_number = made.step + 1
            return made

    async def reset(
        self, indices: Sequence[int] | None = None, *, seed: int | None = None
    ) -> results.Observation:
        """Begin anew: the whole dream, or some of its environments; what all of them look like, ``[count, ...]``.

        Args:
            seed: of what is drawn from now on; the same seed and actions lead to the same dream.
        """
        chosen = None if indices is None else list(map(int, indices))
        async with self._lock:
            return self._looked(await self._client._run(calls.reset_dream(self.id, chosen, seed))).observation

    async def fork(self, seed: int | None = None) -> AsyncDream:
        """Another dream in the same state; the two never affect each other."""
        async with self._lock:
            info = await self._client._run(calls.fork_dream(self.id, seed))
        return AsyncDream(self._client, info)

    async def refresh(self) -> dream_results.DreamInfo:
        """Reads the dream from the server, its step and what it looks like included."""
        async with self._lock:
            return self._looked(await self._client._run(calls.get_dream(self.id)))

    async def close(self) -> None:
        """Deletes the dream; one that is gone already is fine."""
        async with self._lock:
            try:
                await self._client._run(calls.delete_dream(self.id))
            except (NotFoundError, SessionExpiredError):
                return

    def _looked(self, info: dream_results.DreamInfo) -> dream_results.DreamInfo:
        self.info, self.step_number = info, info.step
        return info
