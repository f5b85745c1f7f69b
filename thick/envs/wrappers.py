"""Small wrappers shared by the families."""

from __future__ import annotations

from typing import Any

from thick.envs.packages import require

gymnasium = require("gymnasium")


class FirstSeed(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):  # type: ignore[name-defined]
    """Seeds the first reset that brings no seed of its own, so that `make(..., seed=7)` reproduces."""

    def __init__(self, env: Any, *, seed: int) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, seed=seed)
        gymnasium.Wrapper.__init__(self, env)
        self._first_seed: int | None = seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; an explicit seed wins over the first one."""
        seed = self._first_seed if seed is None else seed
        self._first_seed = None
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info
