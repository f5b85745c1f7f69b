"""Data sets: a folder of steps, collected with a policy that needs no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thick.data.collect import POLICIES, Collector, check_policy, summarize
from thick.data.replay import ReplayRing, is_ring_file, remove_ring
from thick.envs import check
from thick.files import FolderLock


class CollectingFailedError(RuntimeError):
    """Collecting ended before it was to, and the steps until then are kept; the cause says why.

    Args:
        summary: of these steps, as :func:`collect` gives it.
    """

    def __init__(self, summary: dict[str, Any], cause: BaseException) -> None:
        super().__init__(
            f"{str(cause) or type(cause).__name__}; kept: the {summary['steps']} steps until then, with "
            f"{summary['episodes']} whole episodes"
        )
        self.summary = summary


def collect(
    env_id: str | Sequence[str],
    *,
    policy: str,
    steps: int,
    streams: int,
    seed: int,
    directory: Path | None,
    options: dict[str, Any] | None = None,
    policy_options: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[ReplayRing, dict[str, Any]]:
    """Collect a data set of ``steps`` steps with a policy that needs no model.

    Args:
        env_id, options: the task, or several of the same spaces, which streams take in turn.
        policy, policy_options: who acts.
        steps, streams: steps in all, and environments side by side.
        seed: of environments and policy.
        directory: where to write it; None keeps it in memory.
        progress: called with the number of steps so far.
        stopped: asked before every step; True ends it there, with what there is.

    Raises:
        ValueError: no such policy, or tasks of different spaces.
        FileExistsError: the folder holds a data set, or files of others.
        FolderInUseError: another process writes into the folder.
        CollectingFailedError: something failed after the first whole episode: an environment, or the disk. What was
            collected is kept.
        NotFiniteError: an environment answered with NaN or infinity before that.

    Nothing is left in the folder where an error ends it before the first whole episode, nor where it was stopped before
    the first step.

    Returns:
        The ring and a summary: episodes, mean return and length, success rate, events per 1000 steps.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy: expected one of {sorted(POLICIES)}, got {policy!r}")
    tasks = [env_id] if isinstance(env_id, str) else list(env_id)
    if len(tasks) > streams:
        raise ValueError(f"streams: expected at least one for each of {len(tasks)} tasks, got {streams}")
    if directory is not None:
        _check_free(directory)
    for task in tasks:
        check(task, **(options or {}))
    collector = Collector(tasks, streams=streams, seed=seed, options=options)
    for task, env in zip(tasks, collector.envs, strict=False):
        check_policy(policy, env, task, policy_options)
    metadata = {
        "env": env_id if isinstance(env_id, str) else tasks,
        "env_options": options or {},
        "policy": policy,
        "policy_options": policy_options or {},
        "seed": seed,
    }
    act = POLICIES[policy](seed, **(policy_options or {}))
    made = directory is not None and not directory.exists()
    lock = None if directory is None else FolderLock(directory)
    try:
        ring = ReplayRing(
            collector.ring_fields(),
            streams=streams,
            capacity=max(1, steps // streams),
            directory=directory,
            metadata=metadata,
        )
        failure: BaseException | None = None
        whole = 0
        try:
            for done in range(ring.capacity):
                if stopped():
                    break
                ring.add(collector.step(act))
                whole = len(collector.finished)
                progress((done + 1) * streams)
        except BaseException as error:  # also the second signal
            if not whole:
                raise
            failure = error
        summary = summarize(collector.finished[:whole], steps=len(ring))
        ring.metadata["summary"] = summary
        if ring.written:
            ring.flush()
            made = False
        elif directory is not None:
            remove_ring(directory)
    except BaseException:
        if directory is not None:
            remove_ring(directory)
        raise
    finally:
        collector.close()
        if lock is not None:
            lock.release()
        if made and directory is not None:
            (directory / "lock").unlink(missing_ok=True)
            directory.rmdir()
    if isinstance(failure, Exception):
        raise CollectingFailedError(summary, failure) from failure
    if failure is not None:
        raise failure
    return ring, summary


def _check_free(directory: Path) -> None:
    """Raises FileExistsError where a data set, or anything else, lies in the folder that is not left by a start that
    was killed."""
    if (directory / "replay.json").exists():
        raise FileExistsError(
            f"{directory} holds a data set already: name another folder (--out), or remove it"
        )
    if not directory.is_dir():
        return
    killed = (directory / "lock").is_file()
    others = [
        path.name
        for path in sorted(directory.iterdir())
        if path.name != "lock" and not (killed and is_ring_file(path))
    ]
    if others:
        raise FileExistsError(
            f"{directory} holds {others[0]}{' and more' if len(others) > 1 else ''}: a data set takes its own folder "
            "(--out)"
        )
